//! Generates the table of `STEPS.md` from the code, and checks that the file is up to date.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::engine::{ChunkChange, Delta, QueueChange, delta};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/STEPS.md");
const BEGIN: &str = "| step | from | to | index changes |\n|---|---|---|---|\n";

const STATUSES: [JobStatus; 6] = [
    JobStatus::InQueue,
    JobStatus::InProgress,
    JobStatus::Completed,
    JobStatus::Failed,
    JobStatus::Cancelled,
    JobStatus::TimedOut,
];
const MINUTE: Duration = Duration::from_mins(1);

type Next = Result<Option<Record>, Refusal>;
type Step = Box<dyn Fn(&Record) -> Next>;

fn outcome(error: Option<&str>) -> JobEnd<'_> {
    JobEnd {
        worker_id: "w",
        has_output: true,
        error: error.map(Into::into),
    }
}

fn piece() -> NewChunk<'static> {
    NewChunk {
        worker_id: "w",
        bytes: 1,
        key: None,
        limit: 9,
        buffer: 9,
    }
}

fn lost(tries: u32) -> LostWorker<'static> {
    LostWorker {
        worker_id: "w",
        tries,
        error: "lost",
    }
}

fn submission() -> Submission {
    Submission {
        id: "j".into(),
        input: Bytes::new(),
        extra: Bytes::new(),
        execution_timeout: MINUTE,
        ttl: 10 * MINUTE,
        retention: MINUTE,
        webhook: Some("http://h/".to_owned()),
    }
}

/// Creates a job and brings it to this status by steps.
fn job(status: JobStatus) -> Record {
    let start = Moment::after_start(Duration::ZERO);
    let queued = submit(&submission(), start);
    let running = hand_out(&queued, start, &"w".into()).unwrap();
    let running = chunk(&running, start, &piece()).unwrap();
    match status {
        JobStatus::InQueue => queued,
        JobStatus::InProgress => running,
        JobStatus::Completed => finish(&running, start, &outcome(None)).unwrap(),
        JobStatus::Failed => finish(&running, start, &outcome(Some("no"))).unwrap(),
        JobStatus::Cancelled => cancel(&running, start).unwrap(),
        JobStatus::TimedOut => time_out(&running, start + MINUTE).unwrap(),
    }
}

/// Returns each step as the endpoint calls it, in the order of the module.
fn steps() -> Vec<(&'static str, Step)> {
    let start = Moment::after_start(Duration::ZERO);
    let now = start + MINUTE;
    let later = now + 10 * MINUTE;
    let one = |step: fn(&Record, Moment) -> Stepped| -> Step {
        Box::new(move |job| step(job, now).map(Some))
    };
    vec![
        (
            "hand_out",
            Box::new(move |job| hand_out(job, now, &"w".into()).map(Some)),
        ),
        ("give_back", Box::new(|job| give_back(job, "w").map(Some))),
        ("name", Box::new(move |job| name(job, now, "w").map(Some))),
        (
            "progress",
            Box::new(move |job| progress(job, now, "w", true).map(Some)),
        ),
        (
            "finish",
            Box::new(move |job| finish(job, now, &outcome(None)).map(Some)),
        ),
        (
            "finish, with an error",
            Box::new(move |job| finish(job, now, &outcome(Some("no"))).map(Some)),
        ),
        (
            "chunk",
            Box::new(move |job| chunk(job, now, &piece()).map(Some)),
        ),
        (
            "read",
            Box::new(|job| {
                let mark = ReadMark {
                    requeues: 0,
                    from: 0,
                    chunks: &[Bytes::from_static(b"1")],
                };
                read(job, &mark).map(Some)
            }),
        ),
        ("cancel", one(cancel)),
        ("retry", one(retry)),
        (
            "shorten",
            Box::new(move |job| Ok(Some(shorten(job, start, MINUTE / 2)))),
        ),
        (
            "lose",
            Box::new(move |job| lose(job, now, &lost(3)).map(Some)),
        ),
        (
            "lose, last try",
            Box::new(move |job| lose(job, now, &lost(1)).map(Some)),
        ),
        ("time_out", one(time_out)),
        (
            "expire",
            Box::new(move |job| expire(job, later).map(|()| None)),
        ),
        ("purge", Box::new(|job| purge(job).map(|()| None))),
    ]
}

fn index_changes(delta: &Delta<'_>) -> String {
    let counts = delta.counts;
    let changes = [
        (delta.submitted, "added to the latest jobs"),
        (delta.queue == Some(QueueChange::Last), "last in the queue"),
        (
            delta.queue == Some(QueueChange::First),
            "first in the queue",
        ),
        (delta.queue == Some(QueueChange::Out), "leaves the queue"),
        (
            delta.held.is_some(),
            "held by the worker, pending stop removed",
        ),
        (delta.released.is_some(), "released by the worker"),
        (delta.stop.is_some(), "pending stop added"),
        (counts.in_progress > 0, "in progress +1"),
        (counts.in_progress < 0, "in progress −1"),
        (counts.completed > 0, "completed +1"),
        (counts.failed > 0, "failed +1"),
        (counts.retried > 0, "retried +1"),
        (delta.call, "webhook call"),
        (delta.due.0 != delta.due.1, "due"),
        (delta.output, "output"),
        (
            matches!(delta.chunks, ChunkChange::Push { .. }),
            "chunk added",
        ),
        (delta.chunks == ChunkChange::Clear, "chunks removed"),
    ];
    let changes: Vec<&str> = changes
        .into_iter()
        .filter_map(|(applies, name)| applies.then_some(name))
        .collect();
    match changes[..] {
        [] => "–".to_owned(),
        _ => changes.join(", "),
    }
}

fn table() -> String {
    let mut text = BEGIN.to_owned();
    let queued = job(JobStatus::InQueue);
    let new = index_changes(&delta(None, Some(&queued)));
    writeln!(text, "| `submit` | – | `{}` | {new} |", queued.status).unwrap();
    for (name, step) in steps() {
        // Rows by effect; the values are the statuses from which the step has this effect.
        let mut rows: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for status in STATUSES {
            let before = job(status);
            let Ok(after) = step(&before) else {
                continue;
            };
            let changes = index_changes(&delta(Some(&before), after.as_ref()));
            let to = after.map_or("removed".to_owned(), |after| match after.status {
                same if same == status => "unchanged".to_owned(),
                status => format!("`{status}`"),
            });
            let from = rows.entry((to, changes)).or_default();
            from.push(format!("`{status}`"));
        }
        assert!(!rows.is_empty(), "{name} applies to no status");
        for ((to, changes), from) in rows {
            let from = from.join(", ");
            writeln!(text, "| `{name}` | {from} | {to} | {changes} |").unwrap();
        }
    }
    text
}

#[test]
fn the_page_of_the_steps_is_that_of_the_code() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("no table in STEPS.md");
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let end = if after.is_empty() { "" } else { "\n" };
    let expected = format!("{before}{}{end}{after}", table());
    if std::env::var_os("PODWORK_WRITE_STEPS").is_some() {
        std::fs::write(PAGE, &expected).unwrap();
    }
    assert_eq!(page, expected, "PODWORK_WRITE_STEPS=1 regenerates it");
}
