//! Server-sent events for the console.

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

/// The minimum interval between two overviews.
const PAUSE: Duration = Duration::from_millis(100);

/// Streams overviews of the endpoint, one after each change.
pub(super) async fn overview(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let overviews = handle(&registry, &named)?.overviews(PAUSE);
    Ok(events(overviews))
}

/// An event of one job, as serialized for the console.
#[derive(Debug, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
enum Happening {
    Queued,
    Started(String),
    Progress(Box<RawValue>),
    Chunk(Box<RawValue>),
    Finished(StatusResponse),
}

/// Streams all events of one job, from its submission on.
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
        // Strings, numbers and raw JSON always serialize. Raw JSON may contain line breaks, which end an event's line.
        let text = serde_json::to_string(&value).unwrap_or_default();
        Ok(Event::default().data(text.replace(['\n', '\r'], " ")))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
