//! The bucket that a job's uploads go to.

use serde_json::{Map, Value};

use crate::config::bucket::{AccessKeys, Bucket, BucketError, BucketOrigin};
use crate::handler::Context;

use super::error::UploadError;

/// Returns the bucket that the job names, or else the worker's; `None` if there is neither.
pub(super) fn bucket_of(cx: &Context) -> Result<Option<Bucket>, UploadError> {
    let settings = cx.upload_settings();
    match cx.extra().get("s3Config") {
        None | Some(Value::Null) => Ok(settings.bucket.clone()),
        Some(Value::Object(config)) => bucket_in(config, settings.region.as_deref()).map(Some),
        Some(_) => Err(UploadError::Config {
            setting: "s3Config",
            problem: "it is not an object".to_owned(),
        }),
    }
}

fn bucket_in(config: &Map<String, Value>, region: Option<&str>) -> Result<Bucket, UploadError> {
    let names = BucketOrigin::Job.names();
    let text = |setting: &'static str| {
        let member = setting.rsplit('.').next().unwrap_or(setting);
        match config.get(member) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.trim()),
            None | Some(Value::Null | Value::String(_)) => Err(UploadError::Config {
                setting,
                problem: "it is missing".to_owned(),
            }),
            // The value may be a secret, so the error does not show it.
            Some(_) => Err(UploadError::Config {
                setting,
                problem: "it is not a string".to_owned(),
            }),
        }
    };
    let endpoint = text(names.endpoint)?;
    let keys = AccessKeys {
        id: text(names.id)?.to_owned(),
        secret: text(names.secret)?.to_owned(),
    };
    let name = text(names.bucket).ok();
    Bucket::at(endpoint, name, region, keys, BucketOrigin::Job).map_err(|error| {
        let (setting, problem) = match error {
            BucketError::Url(problem) => (names.endpoint, problem),
            BucketError::Name(problem) => (names.bucket, problem),
            BucketError::Unnamed => (
                names.bucket,
                "it is missing, and endpointUrl does not contain the bucket name".to_owned(),
            ),
            BucketError::AccessKeyId => (
                names.id,
                "it contains characters that are not allowed in an HTTP header".to_owned(),
            ),
        };
        UploadError::Config { setting, problem }
    })
}
