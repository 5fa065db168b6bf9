//! An account: a line in the ledger with two sides, and what may happen to it.
//!
//! The two sums only ever grow; the balance is their difference. Both fit Postgres' `bigint`.

use primitives::{AMOUNT_MINOR_MAX, AccountId, Amount, Currency, System, Timestamp};

use crate::Rejection;

/// What an account is for, which decides what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountKind {
    /// Somebody's money.
    Wallet,
    /// One of the ledger's own accounts; it may go below zero.
    System(System),
}

/// A line in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Who it is.
    pub id: AccountId,
    /// What it is for.
    pub kind: AccountKind,
    /// The one currency it holds.
    pub currency: Currency,
    /// Sum of all debits, in minor units; at most `i64::MAX`.
    pub debits_minor: u64,
    /// Sum of all credits, in minor units; at most `i64::MAX`.
    pub credits_minor: u64,
    /// No money leaves or enters while this is set.
    pub frozen: bool,
    /// When it was opened.
    pub opened_at: Timestamp,
}

impl Account {
    /// A wallet's account with nothing in it.
    #[must_use]
    pub const fn open(id: AccountId, currency: Currency, at: Timestamp) -> Self {
        Self {
            id,
            kind: AccountKind::Wallet,
            currency,
            debits_minor: 0,
            credits_minor: 0,
            frozen: false,
            opened_at: at,
        }
    }

    /// One of the ledger's own accounts, under its well-known id.
    #[must_use]
    pub fn system(kind: System, currency: Currency, at: Timestamp) -> Self {
        let id = AccountId::system(kind, currency);
        Self { kind: AccountKind::System(kind), ..Self::open(id, currency, at) }
    }

    /// Credits less debits: what the account holds; below zero only for a system account.
    ///
    /// # Panics
    /// If a sum is larger than `i64::MAX`, which [`Account::debited`] and [`Account::credited`]
    /// never let happen.
    #[must_use]
    pub fn balance_minor(&self) -> i64 {
        let side = |sum: u64| i64::try_from(sum).expect("sums stay within i64, I2");
        side(self.credits_minor).saturating_sub(side(self.debits_minor))
    }

    /// This account with `amount` taken from it.
    ///
    /// # Errors
    /// [`Rejection::InsufficientFunds`] if a wallet would go below zero;
    /// [`Rejection::LimitExceeded`] if the sum of debits would not fit.
    pub fn debited(&self, amount: Amount) -> Result<Self, Rejection> {
        let debits_minor = sum(self.debits_minor, amount);
        if self.kind == AccountKind::Wallet && debits_minor.is_none_or(|it| it > self.credits_minor)
        {
            return Err(Rejection::InsufficientFunds);
        }
        let debits_minor = debits_minor.ok_or(Rejection::LimitExceeded)?;
        Ok(Self { debits_minor, ..self.clone() })
    }

    /// This account with `amount` added to it.
    ///
    /// # Errors
    /// [`Rejection::LimitExceeded`] if the sum of credits would not fit, or a wallet would hold
    /// more than can be said exactly in JSON.
    pub fn credited(&self, amount: Amount) -> Result<Self, Rejection> {
        let credits_minor = sum(self.credits_minor, amount).ok_or(Rejection::LimitExceeded)?;
        let credited = Self { credits_minor, ..self.clone() };
        if credited.is_sound() { Ok(credited) } else { Err(Rejection::LimitExceeded) }
    }

    /// Whether I2 holds: a wallet is neither overdrawn nor holds more than the largest amount.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self.kind {
            AccountKind::Wallet => self
                .credits_minor
                .checked_sub(self.debits_minor)
                .is_some_and(|held| held <= AMOUNT_MINOR_MAX),
            AccountKind::System(_) => true,
        }
    }
}

/// The sum after `amount`, if Postgres can keep it.
fn sum(before: u64, amount: Amount) -> Option<u64> {
    before.checked_add(amount.minor()).filter(|it| i64::try_from(*it).is_ok())
}
