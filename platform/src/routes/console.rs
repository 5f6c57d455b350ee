//! Server-sent events that keep the console true.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use podwork_protocol::RawValue;
use podwork_protocol::client::StatusResponse;
use serde::Serialize;

use super::client::{ClientPath, handle};
use super::extract::{Path, Shared};
use super::failure::Failure;
use crate::job_events::{JobEvent, follow};
use crate::store::Wanted;

/// Between two looks at the endpoint.
const PAUSE: Duration = Duration::from_millis(100);

/// The endpoint at a glance, after each change.
pub(super) async fn overview(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let overviews = handle(&registry, &named)?.overviews(PAUSE);
    Ok(events(overviews))
}

/// What happens to one job.
#[derive(Debug, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
enum Happening {
    Queued,
    Started(String),
    Progress(Box<RawValue>),
    Chunk(Box<RawValue>),
    Finished(StatusResponse),
}

/// All that happens to one job, from its submission on.
pub(super) async fn job(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let handle = handle(&registry, &named)?;
    handle.endpoint().job(&named.job, Wanted::Nothing).await?;
    let happenings = follow(handle, named.job).map(|event| match event {
        JobEvent::Queued => Happening::Queued,
        JobEvent::Started { worker_id } => Happening::Started(worker_id),
        JobEvent::Progress(progress) => Happening::Progress(progress),
        JobEvent::Chunk(chunk) => Happening::Chunk(chunk),
        JobEvent::Finished(status) => Happening::Finished(status),
    });
    Ok(events(happenings))
}

fn events<T: Serialize>(
    values: impl Stream<Item = T> + Send + 'static,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = values.map(|value| {
        // Compact JSON has no line breaks, and these are strings, numbers and raw JSON, which always serialise.
        let text = serde_json::to_string(&value).unwrap_or_default();
        Ok(Event::default().data(text.replace(['\n', '\r'], " ")))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
