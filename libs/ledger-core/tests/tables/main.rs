//! The rules as tables: one line per case, every rejection and every precedence.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod accounts;
mod codes;
mod groups;
mod moves;
mod refusals;
mod repeats;
mod world;
