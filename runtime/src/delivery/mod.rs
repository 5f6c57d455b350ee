//! Delivering what a job produces: its outbox, and the loop that posts it in order.

pub(crate) mod coalesce;
pub(crate) mod outbox;
pub(crate) mod post;
