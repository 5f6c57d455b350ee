//! The description of the client contract, made from the routes themselves.

use podwork_protocol::client::ErrorBody;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi, SecurityRequirement};
use utoipa::{IntoParams, IntoResponses, OpenApi as _};

/// The endpoint, in the path of every operation.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes what `Named` reads")]
pub(super) struct OfEndpoint {
    /// The endpoint's id. An endpoint comes to life when it is first used.
    endpoint: String,
}

/// The job, in the path of an operation on it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes what `Named` reads")]
pub(super) struct OfJob {
    /// The endpoint's id.
    endpoint: String,
    /// The job's id.
    job: String,
}

/// What any operation may answer instead.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes what `Failure` answers")]
pub(super) enum Refused {
    /// The request makes no sense: a parameter or the body is wrong
    #[response(status = 400)]
    Bad(#[to_schema] ErrorBody),
    /// The key is missing or wrong
    #[response(status = 401)]
    Key(#[to_schema] ErrorBody),
    /// There is no such endpoint or job, or the job has expired
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
}

/// What submitting a job may be answered with instead.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes what `Failure` answers")]
pub(super) enum NotAdmitted {
    /// The body did not arrive in time
    #[response(status = 408)]
    Slow(#[to_schema] ErrorBody),
    /// The body is over the payload limit
    #[response(status = 413)]
    TooLarge(#[to_schema] ErrorBody),
    /// Over the rate limit, or the endpoint is full; `Retry-After` says when to come again
    #[response(status = 429)]
    Often(#[to_schema] ErrorBody),
}

/// What the routes do not say themselves.
#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Runpod Serverless, at home",
    description = "The client operations of a serverless endpoint, as podwork's local platform answers them. Each also \
                   answers at the root, for the platform's default endpoint. Refusals are `{\"error\": \"…\"}`."
))]
struct Frame;

/// The operations in their frame.
pub(super) fn describe(operations: OpenApi) -> OpenApi {
    let mut operations = operations;
    for item in operations.paths.paths.values_mut() {
        // Some clients send by POST what is asked by GET; each operation has an id of its own.
        if let (Some(_), Some(post)) = (&item.get, &mut item.post) {
            let id = post.operation_id.take().unwrap_or_default();
            post.operation_id = Some(id + "_post");
        }
    }
    let mut whole = Frame::openapi().nest("/v2/{endpoint}", operations);
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    whole
        .components
        .get_or_insert_default()
        .add_security_scheme("key", key);
    // Asked for only where the platform has a key.
    let none = SecurityRequirement::default();
    whole.security = Some(vec![none, SecurityRequirement::new("key", [""; 0])]);
    whole
}
