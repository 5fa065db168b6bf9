//! Everything that can be wrong with the books, each with the ids to find it by.

use std::fmt;

use primitives::{AccountId, ChangeId, Currency, TransferId};

use crate::{Rejection, Standing};

/// The most violations that are listed; more would say nothing new.
pub const VIOLATIONS_MAX: usize = 1_000;

/// Something in the books that the rules could not have written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Positions do not count on by one (I6).
    PositionGap {
        /// The position that should have come.
        expected: i64,
        /// The one that came.
        found: i64,
    },
    /// The newest record is not where the books say they end (I6).
    WrongEnd {
        /// Where the books say they end.
        expected: i64,
        /// The last position there is.
        found: i64,
    },
    /// No batch is kept that ends with the record and was decided when it was, so the past would be
    /// looked for in the wrong place (I6).
    BatchDiffers {
        /// Which record.
        position: i64,
    },
    /// Decided before what comes before it (I6).
    TimeRunsBackwards {
        /// Which record; of a change, the one it comes after.
        position: i64,
    },
    /// What stands on the account after the record does not follow from what stood there before
    /// it (I1, I5).
    BrokenChain {
        /// Which record.
        position: i64,
        /// Whose.
        account_id: AccountId,
        /// What should stand there; none if nothing should have changed.
        expected: Option<Standing>,
        /// What is written; none if nothing is.
        found: Option<Standing>,
    },
    /// The record says that it was done, but the rules say no.
    NotAllowed {
        /// Which record.
        position: i64,
        /// Its transfer.
        transfer_id: TransferId,
        /// Why not.
        rejection: Rejection,
    },
    /// The record says that nothing has changed, and what stands after it.
    RefusedButMoved {
        /// Which record.
        position: i64,
        /// Its transfer.
        transfer_id: TransferId,
    },
    /// The record does not say what was moved, or something else than its hold or the transfer that
    /// it moves back.
    WrongMove {
        /// Which record.
        position: i64,
        /// Its transfer.
        transfer_id: TransferId,
    },
    /// The answer that was given is not what stands on the debited account.
    WrongAnswer {
        /// Which record.
        position: i64,
        /// Its transfer.
        transfer_id: TransferId,
    },
    /// The record names an account that does not exist, or of another currency.
    WrongAccount {
        /// Which record.
        position: i64,
        /// The account it names.
        account_id: AccountId,
    },
    /// The account has less or more on it than one of its kind can (I2).
    OutOfBounds {
        /// Whose.
        account_id: AccountId,
        /// What stands there.
        standing: Standing,
    },
    /// What stands on the account is not what its newest record says (I5).
    StandingDiffers {
        /// Whose.
        account_id: AccountId,
        /// What the records say.
        expected: Standing,
        /// What is kept.
        found: Standing,
    },
    /// The account is not as it was opened and changed since: kind, currency, status or limits.
    AccountDiffers {
        /// Whose.
        account_id: AccountId,
    },
    /// The change says that it was done, but the rules say no.
    ChangeNotAllowed {
        /// Which.
        change_id: ChangeId,
        /// Why not.
        rejection: Rejection,
    },
    /// The change does not stand where in the order of the money it says.
    ChangeOutOfPlace {
        /// Which.
        change_id: ChangeId,
        /// After which position it says it stands.
        expected: i64,
        /// After which it was found.
        found: i64,
    },
    /// The hold that is kept is not what was made and is left of it (I32).
    HoldDiffers {
        /// Which.
        hold_id: TransferId,
        /// How much should remain, in minor units.
        expected_minor: i64,
        /// How much does, in minor units; none if no hold is kept.
        found_minor: Option<i64>,
    },
    /// What is kept to have been moved back of a transfer is not what was (I32).
    ReversalDiffers {
        /// Of which.
        transfer_id: TransferId,
        /// How much was moved back, in minor units.
        expected_minor: i64,
        /// How much is kept to have been, in minor units; none if nothing is kept.
        found_minor: Option<i64>,
    },
    /// The balances of a currency do not sum to zero (I1).
    CurrencyOutOfBalance {
        /// Which.
        currency: Currency,
        /// What they sum to, in minor units.
        sum_minor: i128,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PositionGap { expected, found } => {
                write!(f, "record {expected} is missing: the next is {found}")
            }
            Self::WrongEnd { expected, found } => {
                write!(f, "the last record is {found}, it should be {expected}")
            }
            Self::BatchDiffers { position: at } => {
                write!(f, "record {at}: no batch of its moment ends with it")
            }
            Self::TimeRunsBackwards { position: at } => {
                write!(f, "record {at}: decided before the one before it")
            }
            Self::BrokenChain { position: at, account_id: id, expected, found } => {
                let (expected, found) = (Side(*expected), Side(*found));
                write!(f, "record {at}: says {found} of {id}, it should be {expected}")
            }
            Self::NotAllowed { position: at, transfer_id: id, rejection } => {
                write!(f, "record {at}: {id} was done, the rules say {}", rejection.code())
            }
            Self::RefusedButMoved { position: at, transfer_id: id } => {
                write!(f, "record {at}: {id} was refused, and still moved something")
            }
            Self::WrongMove { position: at, transfer_id: id } => {
                write!(f, "record {at}: {id} moved something else than it was about")
            }
            Self::WrongAnswer { position: at, transfer_id: id } => {
                write!(f, "record {at}: {id} was answered with another balance than it left")
            }
            Self::WrongAccount { position: at, account_id: id } => {
                write!(f, "record {at}: {id} is unknown or of another currency")
            }
            Self::OutOfBounds { account_id: id, standing } => {
                write!(f, "{id} has {} on it, which no such account may", Side(Some(*standing)))
            }
            Self::StandingDiffers { account_id: id, expected, found } => {
                let (expected, found) = (Side(Some(*expected)), Side(Some(*found)));
                write!(f, "{id} has {found} on it, its records say {expected}")
            }
            Self::AccountDiffers { account_id: id } => {
                write!(f, "{id} is not as it was opened and changed since")
            }
            Self::ChangeNotAllowed { change_id: id, rejection } => {
                write!(f, "the change {id} was done, the rules say {}", rejection.code())
            }
            Self::ChangeOutOfPlace { change_id: id, expected, found } => {
                write!(f, "the change {id} says it comes after {expected}, it came after {found}")
            }
            Self::HoldDiffers { hold_id: id, expected_minor, found_minor } => {
                let found = Kept(*found_minor);
                write!(f, "the hold {id} is kept with {found}, {expected_minor} remain of it")
            }
            Self::ReversalDiffers { transfer_id: id, expected_minor, found_minor } => {
                let found = Kept(*found_minor);
                write!(f, "{id} is kept with {found} moved back, it was {expected_minor}")
            }
            Self::CurrencyOutOfBalance { currency, sum_minor: sum } => {
                write!(f, "all balances of {currency} sum to {sum} instead of zero")
            }
        }
    }
}

/// What stands on one side, for people.
struct Side(Option<Standing>);

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("nothing new"),
            Some(Standing { balance_minor, held_minor: 0 }) => balance_minor.fmt(f),
            Some(Standing { balance_minor, held_minor }) => {
                write!(f, "{balance_minor} with {held_minor} held")
            }
        }
    }
}

/// A sum that is kept, for people.
struct Kept(Option<i64>);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("nothing"),
            Some(minor) => minor.fmt(f),
        }
    }
}
