//! An account: a line in the ledger, what stands on it, and what may happen to it.

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

/// Whether money moves on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It does.
    Open,
    /// None leaves or enters until it is allowed again.
    Frozen,
    /// None leaves or enters, ever again; nothing is on it.
    Closed,
}

/// Between what an account's money must stay, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What must remain available: the balance less what is held.
    pub least_minor: i64,
    /// What the balance may be at most.
    pub greatest_minor: i64,
}

/// What is on an account at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Standing {
    /// Credits less debits, in minor units; below zero only on a system account.
    pub balance_minor: i64,
    /// What open holds have reserved of it, in minor units; never below zero.
    pub held_minor: i64,
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
    /// Whether money moves.
    pub status: Status,
    /// Between what its money stays.
    pub limits: Limits,
    /// What is on it.
    pub standing: Standing,
    /// When it was opened.
    pub opened_at: Timestamp,
}

impl Limits {
    /// A wallet is never overdrawn, and never holds more than JSON can say exactly (I2).
    pub const WALLET: Self =
        Self { least_minor: 0, greatest_minor: AMOUNT_MINOR_MAX.cast_signed() };
    /// A system account holds whatever can be counted; both ends have the same distance from zero.
    pub const SYSTEM: Self = Self { least_minor: -i64::MAX, greatest_minor: i64::MAX };

    /// The widest limits of an account of this kind; others lie within.
    #[must_use]
    pub const fn widest(kind: AccountKind) -> Self {
        match kind {
            AccountKind::Wallet => Self::WALLET,
            AccountKind::System(_) => Self::SYSTEM,
        }
    }

    /// Whether these are limits that an account of this kind may have.
    #[must_use]
    pub fn suit(self, kind: AccountKind) -> bool {
        let widest = Self::widest(kind);
        widest.least_minor <= self.least_minor
            && self.least_minor <= self.greatest_minor
            && self.greatest_minor <= widest.greatest_minor
    }

    /// Whether an account may stand so.
    #[must_use]
    pub fn allow(self, standing: Standing) -> bool {
        standing.available_minor().is_some_and(|it| it >= self.least_minor)
            && standing.balance_minor <= self.greatest_minor
    }
}

impl Standing {
    /// What may be spent: the balance less what is held; none if that cannot be counted.
    #[must_use]
    pub const fn available_minor(self) -> Option<i64> {
        self.balance_minor.checked_sub(self.held_minor)
    }
}

impl Account {
    /// A wallet's account with nothing on it.
    #[must_use]
    pub const fn open(id: AccountId, currency: Currency, at: Timestamp) -> Self {
        Self {
            id,
            kind: AccountKind::Wallet,
            currency,
            status: Status::Open,
            limits: Limits::WALLET,
            standing: Standing { balance_minor: 0, held_minor: 0 },
            opened_at: at,
        }
    }

    /// One of the ledger's own accounts, under its well-known id.
    #[must_use]
    pub fn system(kind: System, currency: Currency, at: Timestamp) -> Self {
        let id = AccountId::system(kind, currency);
        let (kind, limits) = (AccountKind::System(kind), Limits::SYSTEM);
        Self { kind, limits, ..Self::open(id, currency, at) }
    }

    /// What is on the account after `amount` left it.
    ///
    /// # Errors
    /// [`Rejection::InsufficientFunds`] if less than the least would remain available.
    pub fn debited(&self, amount: Amount) -> Result<Standing, Rejection> {
        let Standing { balance_minor, held_minor } = self.standing;
        let after = balance_minor.checked_sub(amount.to_i64());
        self.spent(after.map(|balance_minor| Standing { balance_minor, held_minor }))
    }

    /// What is on the account after `amount` was reserved.
    ///
    /// # Errors
    /// [`Rejection::InsufficientFunds`] if less than the least would remain available.
    pub fn held(&self, amount: Amount) -> Result<Standing, Rejection> {
        let Standing { balance_minor, held_minor } = self.standing;
        let after = held_minor.checked_add(amount.to_i64());
        self.spent(after.map(|held_minor| Standing { balance_minor, held_minor }))
    }

    fn spent(&self, after: Option<Standing>) -> Result<Standing, Rejection> {
        let remains = |it: &Standing| {
            it.available_minor().is_some_and(|available| available >= self.limits.least_minor)
        };
        after.filter(remains).ok_or(Rejection::InsufficientFunds)
    }

    /// What is on the account after `amount` came to it.
    ///
    /// # Errors
    /// [`Rejection::LimitExceeded`] if it would hold more than it may.
    pub fn credited(&self, amount: Amount) -> Result<Standing, Rejection> {
        let balance_minor = self
            .standing
            .balance_minor
            .checked_add(amount.to_i64())
            .filter(|it| *it <= self.limits.greatest_minor)
            .ok_or(Rejection::LimitExceeded)?;
        Ok(Standing { balance_minor, ..self.standing })
    }

    /// What is on the account after `amount`, which was reserved, left it.
    ///
    /// # Errors
    /// [`Rejection::InsufficientFunds`] if less than that is reserved, which sound books never say.
    pub fn captured(&self, amount: Amount) -> Result<Standing, Rejection> {
        let Standing { held_minor, .. } = self.released(amount)?;
        let after = self.standing.balance_minor.checked_sub(amount.to_i64());
        let balance_minor = after.ok_or(Rejection::InsufficientFunds)?;
        Ok(Standing { balance_minor, held_minor })
    }

    /// What is on the account after `amount` is reserved no more.
    ///
    /// # Errors
    /// [`Rejection::InsufficientFunds`] if less than that is reserved, which sound books never say.
    pub fn released(&self, amount: Amount) -> Result<Standing, Rejection> {
        let held_minor = self
            .standing
            .held_minor
            .checked_sub(amount.to_i64())
            .filter(|it| *it >= 0)
            .ok_or(Rejection::InsufficientFunds)?;
        Ok(Standing { held_minor, ..self.standing })
    }

    /// Whether I2 holds: what stands here is within the widest limits of its kind, and no less is
    /// held than nothing.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.standing.held_minor >= 0 && Limits::widest(self.kind).allow(self.standing)
    }
}
