//! Delivering the output of a job: its outbox, and the loop that posts the contents in order.

pub(crate) mod coalesce;
pub(crate) mod outbox;
pub(crate) mod post;
