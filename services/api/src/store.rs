//! All SQL of the service.
//!
//! Lock order: what [`users`] and [`sessions`] say, then pending transfers and request keys, each alone in its statement.

pub mod pending;
pub mod requests;
pub mod sessions;
pub mod users;
