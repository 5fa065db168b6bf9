//! Every service in one process, with one public origin: for a laptop, a small server, and the
//! end-to-end tests.
//!
//! The services still meet only on the bus; this crate is the only one that knows more than one.

pub mod platform;
