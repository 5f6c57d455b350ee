//! podwork
