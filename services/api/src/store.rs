//! All SQL of the service.
//!
//! Lock order: what [`users`] and [`sessions`] say, then pending transfers, each alone in its statement.

pub mod pending;
pub mod sessions;
pub mod users;
