//! The contents of a store, for tests that compare each index with the records.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use podwork_protocol::JobStatus;

use super::tables::Entry;
use super::*;

/// A snapshot of a store.
#[derive(Debug)]
pub(crate) struct Contents {
    records: BTreeMap<Id, Arc<Record>>,
    workers: BTreeMap<Id, WorkerRecord>,
    queue: BTreeSet<Id>,
    pub(crate) due: BTreeSet<(Moment, Due)>,
    /// Pairs of worker and job.
    held: BTreeSet<(Id, Id)>,
    counts: JobCounts,
    calls: BTreeMap<Id, Arc<WebhookCall>>,
    calls_due: BTreeSet<(Moment, Id)>,
    /// For each job: whether it has an output, the bytes of its stored chunks, and the bytes of those already
    /// delivered.
    payloads: BTreeMap<Id, (bool, usize, usize)>,
}

impl Memory {
    pub(crate) fn contents(&self) -> Contents {
        let tables = self.tables();
        let payloads = |entry: &Entry| {
            let marks = &entry.record.chunks;
            assert_eq!(entry.chunks.len(), marks.count - marks.gone);
            let bytes = |count| entry.chunks.iter().take(count).map(Bytes::len).sum();
            let (all, read) = (bytes(usize::MAX), bytes(marks.read - marks.gone));
            (entry.output.is_some(), all, read)
        };
        let jobs = || tables.jobs.iter();
        for (place, id) in &tables.queue {
            assert_eq!(tables.jobs[id].place, *place);
        }
        let workers = || tables.workers.iter();
        Contents {
            records: jobs()
                .map(|(id, entry)| (Id::clone(id), Arc::clone(&entry.record)))
                .collect(),
            workers: workers()
                .map(|(id, at)| (Id::clone(id), at.record))
                .collect(),
            queue: tables.queue.values().cloned().collect(),
            due: tables.due.clone(),
            held: workers()
                .flat_map(|(id, at)| at.jobs.iter().map(|job| (Id::clone(id), Id::clone(job))))
                .collect(),
            counts: tables.counts,
            calls: tables.calls.clone().into_iter().collect(),
            calls_due: tables.calls_due.clone(),
            payloads: jobs()
                .map(|(id, entry)| (Id::clone(id), payloads(entry)))
                .collect(),
        }
    }
}

impl Contents {
    /// Asserts that each index is the one computed from the records.
    pub(crate) fn check(&self) {
        let records = || self.records.iter();
        let queue: BTreeSet<Id> = records()
            .filter(|(_, job)| job.status == JobStatus::InQueue)
            .map(|(id, _)| Id::clone(id))
            .collect();
        assert_eq!(self.queue, queue);
        let jobs_due = records().map(|(id, job)| (job.due(), Due::Job(Id::clone(id))));
        let workers_due = self
            .workers
            .iter()
            .filter_map(|(id, worker)| Some((worker.lost?, Due::Worker(Id::clone(id)))));
        assert_eq!(self.due, jobs_due.chain(workers_due).collect());
        let held: BTreeSet<(Id, Id)> = records()
            .filter_map(|(id, job)| Some((Id::clone(job.holder()?), Id::clone(id))))
            .collect();
        assert_eq!(self.counts.in_progress, held.len() as u64);
        assert_eq!(self.held, held);
        let payloads: BTreeMap<Id, (bool, usize, usize)> = records()
            .map(|(id, job)| {
                let marks = &job.chunks;
                let payloads = (job.output.is_some(), marks.bytes, marks.read_bytes);
                (Id::clone(id), payloads)
            })
            .collect();
        assert_eq!(self.payloads, payloads);
        let calls_due = self.calls.values();
        let calls_due = calls_due.map(|call| (call.due, Id::clone(&call.id)));
        assert_eq!(self.calls_due, calls_due.collect());
        for (id, job) in records() {
            let made = |call: &&Arc<WebhookCall>| call.job.id == *id && call.job.ended == job.ended;
            let wanted = job.status.is_final() && job.webhook.is_some();
            let call = self.calls.values().find(made);
            assert_eq!(call.is_some(), wanted, "{job:?}");
        }
    }
}
