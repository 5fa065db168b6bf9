//! The rules of double entry: who may be debited, what is refused and why, what is written down.
//!
//! Pure values in, pure values out: no clock, no random numbers, no I/O, no serialisation. The
//! ledger service lets a [`Writer`] say what must be found, applies commands to [`Books`] in stream
//! order and saves the [`Changes`]; a test does the same with nothing but memory.
//!
//! What always holds, and is asserted where it is made true:
//!
//! - **I1** Every posted transfer is one [`Record`] of both its sides, a debit and a credit of the
//!   same amount; so all balances of a currency sum to zero.
//! - **I2** A wallet never has less than zero available, nor holds more than the largest exact
//!   amount ([`primitives::AMOUNT_MINOR_MAX`]). A system account may go below zero.
//! - **I3** What was decided under a transfer's id or request key is the answer to it for ever,
//!   refusals included.
//! - **I4** Nothing executes after its deadline.
//! - **I5** What stands on an account is what its newest record says, and each record continues
//!   from the account's record before.
//! - **I6** Positions count 1, 2, 3 … over all records without a gap, in the order of decision, and
//!   the time of decision never runs backwards along them.
//! - **I7** A batch decides what its commands one by one would have.
//! - **I32** What is captured of a hold is never more than was held, and what is moved back of a
//!   transfer never more than it moved, whichever ids and request keys are used.
//! - **I33** Of a linked group all transfers post, or none.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

mod account;
pub mod audit;
mod books;
mod command;
mod record;
mod rejection;
mod rules;
mod state;
pub mod writer;

pub use account::{Account, AccountKind, Limits, Standing, Status};
pub use books::Books;
pub use command::{
    AccountChange, Action, Body, Change, Command, Move, TRANSFERS_MAX, Transfer, TransferKind,
};
pub use record::{
    ChangeRecord, Changes, Decision, Head, Hold, Outcome, Record, Reversible, Verdict,
};
pub use rejection::Rejection;
pub use writer::{Found, Needs, Subjects, Writer};
