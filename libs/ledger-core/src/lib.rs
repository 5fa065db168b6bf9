//! The rules of double entry: who may be debited, what is refused and why, what is written down.
//!
//! Pure values in, pure values out: no clock, no random numbers, no I/O, no serialisation. The
//! ledger service loads [`Books`], applies commands in stream order and saves the [`Changes`];
//! a test does the same with nothing but memory.
//!
//! What always holds, and is asserted where it is made true:
//!
//! - **I1** Every posted transfer has exactly two entries, a debit and a credit of the same amount;
//!   so all entries of a currency sum to zero.
//! - **I2** A wallet never holds less than zero, nor more than the largest exact amount
//!   ([`primitives::AMOUNT_MINOR_MAX`]). A system account may go below zero.
//! - **I3** What was decided under a transfer's id or request key is the answer to it for ever,
//!   refusals included.
//! - **I4** Nothing executes after its deadline.
//! - **I5** An account's balance is the sum of its entries, and each entry begins with the balance
//!   that the account's previous entry ended with.
//! - **I6** Positions count 1, 2, 3 … over all entries without a gap, in the order of decision, and
//!   the time of decision never runs backwards along them.
//! - **I7** A batch decides what its commands one by one would have.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

mod account;
pub mod audit;
mod books;
mod command;
mod rejection;

pub use account::{Account, AccountKind};
pub use books::{Books, Changes, Decision, Entry, Head, Outcome, Verdict};
pub use command::{Body, Command, Transfer, TransferKind};
pub use rejection::Rejection;
