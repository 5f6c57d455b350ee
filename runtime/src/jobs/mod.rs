//! The jobs in flight.

pub(crate) mod in_flight;
pub(crate) mod slots;
