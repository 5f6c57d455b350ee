//! Which bucket a job's uploads go to.

use serde_json::{Map, Value};

use crate::config::bucket::{Bucket, Keys, Misplaced, Origin};
use crate::handler::Context;

use super::error::UploadError;

/// The job's bucket: the one that it names, or else its worker's.
pub(super) fn bucket_of(cx: &Context) -> Result<Option<Bucket>, UploadError> {
    let settings = cx.upload_settings();
    match cx.extra().get("s3Config") {
        None | Some(Value::Null) => Ok(settings.bucket.clone()),
        Some(Value::Object(config)) => bucket_in(config, settings.region.as_deref()).map(Some),
        Some(_) => Err(UploadError::Config {
            setting: "s3Config",
            problem: "it is no object".to_owned(),
        }),
    }
}

fn bucket_in(config: &Map<String, Value>, region: Option<&str>) -> Result<Bucket, UploadError> {
    let names = Origin::Job.names();
    let text = |setting: &'static str| {
        let member = setting.rsplit('.').next().unwrap_or(setting);
        match config.get(member) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.trim()),
            None | Some(Value::Null | Value::String(_)) => Err(UploadError::Config {
                setting,
                problem: "it is missing".to_owned(),
            }),
            // It is not shown: it may be a secret.
            Some(_) => Err(UploadError::Config {
                setting,
                problem: "it is no text".to_owned(),
            }),
        }
    };
    let endpoint = text(names.endpoint)?;
    let keys = Keys {
        id: text(names.id)?.to_owned(),
        secret: text(names.secret)?.to_owned(),
    };
    let name = text(names.bucket).ok();
    Bucket::at(endpoint, name, region, keys, Origin::Job).map_err(|misplaced| {
        let (setting, problem) = match misplaced {
            Misplaced::Url(problem) => (names.endpoint, problem),
            Misplaced::Name(problem) => (names.bucket, problem),
            Misplaced::Unnamed => (
                names.bucket,
                "it is missing, and endpointUrl does not name the bucket".to_owned(),
            ),
            Misplaced::Keys => (
                names.id,
                "it holds characters that no HTTP header can carry".to_owned(),
            ),
        };
        UploadError::Config { setting, problem }
    })
}
