#![doc = include_str!("../README.md")]

pub mod answer;
pub mod ask;
mod cursor;
mod feed;
pub mod follow;
pub mod listen;
mod metrics;
pub mod outbox;
mod pause;
pub mod place;
pub mod reply;
mod session;
mod store;
pub mod streams;
mod trace;

/// Creates and updates the schema `bus`; every service that follows or announces runs it in its
/// own database, before its own.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// A cause, whatever its type.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Prints an error with everything that led to it, for the one log line it gets.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
