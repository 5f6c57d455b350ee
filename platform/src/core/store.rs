//! Where jobs are kept, and in which order they wait.

use std::collections::{BTreeMap, HashMap};

use podwork_protocol::JobStatus;

use super::job::Job;

/// The job table and the queue of one endpoint: the seam for a store on a distributed engine. What a job is lives
/// here; what a connection is does not.
pub(crate) trait Store: std::fmt::Debug + Send {
    fn get(&self, id: &str) -> Option<&Job>;
    fn get_mut(&mut self, id: &str) -> Option<&mut Job>;
    /// Keeps a new job and puts it at the queue's end.
    fn insert(&mut self, job: Job);
    /// Forgets a job, wherever it is.
    fn remove(&mut self, id: &str) -> Option<Job>;
    /// Puts a known job at the queue's end.
    fn push(&mut self, id: &str);
    /// Puts a known job at the queue's front.
    fn push_front(&mut self, id: &str);
    /// Takes the job at the queue's front out of the queue.
    fn pop(&mut self) -> Option<String>;
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
    jobs: HashMap<String, Job>,
    /// Ids by their jobs' places. Places grow at the end and shrink at the front.
    queue: BTreeMap<i64, String>,
}

impl Memory {
    fn put(&mut self, id: &str, place: i64) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.place = place;
            self.queue.insert(place, id.to_owned());
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
        self.jobs.get(id)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.get_mut(id)
    }

    fn insert(&mut self, job: Job) {
        let id = job.id.clone();
        self.jobs.insert(id.clone(), job);
        self.push(&id);
    }

    fn remove(&mut self, id: &str) -> Option<Job> {
        self.unqueue(id);
        self.jobs.remove(id)
    }

    fn push(&mut self, id: &str) {
        self.put(id, self.end());
    }

    fn push_front(&mut self, id: &str) {
        let front = self
            .queue
            .first_key_value()
            .map_or(0, |(place, _)| place - 1);
        self.put(id, front);
    }

    fn pop(&mut self) -> Option<String> {
        self.queue.pop_first().map(|(_, id)| id)
    }

    fn unqueue(&mut self, id: &str) {
        if let Some(job) = self.jobs.get(id)
            && job.status == JobStatus::InQueue
            && self
                .queue
                .get(&job.place)
                .is_some_and(|waiting| waiting == id)
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
