//! Values that cross two services: money, ids, times, wallet numbers.
//!
//! Every type here is a plain value, checked when it is made and never after.
//! There is no I/O and no serialisation: boundaries convert (`wire.rs`, `store.rs`, `rest.rs`).
//! The two impure doors are named and few: [`Timestamp::now`] reads the clock, and each id's
//! `generate` makes a new one. Rules never call either; they take what they need as arguments.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

mod ids;
mod money;
mod time;
mod wallet_number;

pub use ids::{
    AccountId, ChangeId, DepositId, EventId, IdError, KeyId, RequestKey, ReturnId, SessionId,
    System, TransferId, UserId,
};
pub use money::{AMOUNT_MINOR_MAX, Amount, AmountError, Currency, CurrencyError};
pub use time::{Timestamp, TimestampError};
pub use wallet_number::{WalletNumber, WalletNumberError};
