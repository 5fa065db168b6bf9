//! Money, against a ledger that says what the test wants: what it is asked, and what callers are told.

mod balance;
mod batch;
mod claims;
mod keys;
mod one;
mod pending;
mod stage;
