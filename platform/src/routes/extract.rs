//! Extractors for path and query parameters that return errors in the API's format.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::registry::Registry;

/// The state shared by all routes.
pub(super) type Shared = State<Arc<Registry>>;

/// The path parameters.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(named) = path.map_err(|no| Failure::bad(no.body_text()))?;
        Ok(Self(named))
    }
}

/// The query parameters.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(asked) = query.map_err(|no| Failure::bad(no.body_text()))?;
        Ok(Self(asked))
    }
}
