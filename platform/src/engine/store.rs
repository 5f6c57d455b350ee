//! Where jobs are kept, and in which order they wait.

use std::collections::{BTreeMap, HashMap};

use podwork_protocol::JobStatus;

use super::job::{Id, Job};
use super::shrink::shrink;

/// The job table and the queue of one endpoint: the seam for a store on a distributed engine. What a job is lives
/// here; what a connection is does not.
pub(crate) trait Store: std::fmt::Debug + Send {
    fn get(&self, id: &str) -> Option<&Job>;
    fn get_mut(&mut self, id: &str) -> Option<&mut Job>;
    /// Keeps a new job and puts it at the queue's end.
    fn insert(&mut self, job: Job);
    /// Forgets a job, wherever it is.
    fn remove(&mut self, id: &str);
    /// Puts a known job at the queue's end.
    fn push(&mut self, id: &Id);
    /// Puts a known job at the queue's front.
    fn push_front(&mut self, id: &Id);
    /// Takes the job at the queue's front out of the queue.
    fn pop(&mut self) -> Option<Id>;
    /// Takes a job out of the queue.
    fn unqueue(&mut self, id: &str);
    /// How many jobs are kept.
    fn len(&self) -> usize;
    /// How many of them wait.
    fn waiting(&self) -> usize;
}

/// In this process's memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    // Boxed: the table has room for more jobs than there are.
    jobs: HashMap<Id, Box<Job>>,
    /// Ids by their jobs' places. Places grow at the end and shrink at the front.
    queue: BTreeMap<i64, Id>,
}

impl Memory {
    fn put(&mut self, id: &Id, place: i64) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.place = place;
            self.queue.insert(place, Id::clone(id));
        }
    }

    fn end(&self) -> i64 {
        self.queue
            .last_key_value()
            .map_or(0, |(place, _)| place + 1)
    }
}

impl Store for Memory {
    fn get(&self, id: &str) -> Option<&Job> {
        self.jobs.get(id).map(AsRef::as_ref)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.get_mut(id).map(AsMut::as_mut)
    }

    fn insert(&mut self, job: Job) {
        let id = Id::clone(&job.id);
        self.jobs.insert(Id::clone(&id), Box::new(job));
        self.push(&id);
    }

    fn remove(&mut self, id: &str) {
        self.unqueue(id);
        self.jobs.remove(id);
        shrink(&mut self.jobs);
    }

    fn push(&mut self, id: &Id) {
        self.put(id, self.end());
    }

    fn push_front(&mut self, id: &Id) {
        let front = self
            .queue
            .first_key_value()
            .map_or(0, |(place, _)| place - 1);
        self.put(id, front);
    }

    fn pop(&mut self) -> Option<Id> {
        self.queue.pop_first().map(|(_, id)| id)
    }

    fn unqueue(&mut self, id: &str) {
        if let Some(job) = self.jobs.get(id)
            && job.status == JobStatus::InQueue
            && self
                .queue
                .get(&job.place)
                .is_some_and(|waiting| **waiting == *id)
        {
            self.queue.remove(&job.place);
        }
    }

    fn len(&self) -> usize {
        self.jobs.len()
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
