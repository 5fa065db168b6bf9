//! Every reason the ledger says no, in order of precedence.
//!
//! When several hold at once, the first one here is the answer. Numbers and codes are stored and
//! sent; they are never changed or reused.

/// The ledger's no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// The id or request key stands for another request. Not stored: the first answer stays.
    IdempotencyKeyReused,
    /// It is later than the caller was willing to wait; it surely was not done.
    DeadlineExceeded,
    /// From an account to itself.
    SameAccount,
    /// There is no account to take the money from.
    DebitAccountNotFound,
    /// There is no account to give the money to.
    CreditAccountNotFound,
    /// Money of this kind does not move between such accounts.
    AccountKindMismatch,
    /// One of the accounts holds another currency.
    CurrencyMismatch,
    /// No money leaves the debited account.
    DebitAccountFrozen,
    /// No money enters the credited account.
    CreditAccountFrozen,
    /// The wallet holds less than the amount.
    InsufficientFunds,
    /// The account would hold, or would have moved, more than can be counted.
    LimitExceeded,
    /// The message could not be understood. Never made by the rules, only by who reads the wire.
    Malformed,
}

impl Rejection {
    /// Every rejection, in order of precedence.
    pub const ALL: [Self; 12] = [
        Self::IdempotencyKeyReused,
        Self::DeadlineExceeded,
        Self::SameAccount,
        Self::DebitAccountNotFound,
        Self::CreditAccountNotFound,
        Self::AccountKindMismatch,
        Self::CurrencyMismatch,
        Self::DebitAccountFrozen,
        Self::CreditAccountFrozen,
        Self::InsufficientFunds,
        Self::LimitExceeded,
        Self::Malformed,
    ];

    /// The number it is stored and sent as, for ever; 0 is no rejection.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::IdempotencyKeyReused => 1,
            Self::DeadlineExceeded => 2,
            Self::SameAccount => 3,
            Self::DebitAccountNotFound => 4,
            Self::CreditAccountNotFound => 5,
            Self::AccountKindMismatch => 6,
            Self::CurrencyMismatch => 7,
            Self::DebitAccountFrozen => 8,
            Self::CreditAccountFrozen => 9,
            Self::InsufficientFunds => 10,
            Self::LimitExceeded => 11,
            Self::Malformed => 12,
        }
    }

    /// The rejection of this number, if there is one.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }

    /// The stable code: the variant's name in `snake_case`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::SameAccount => "same_account",
            Self::DebitAccountNotFound => "debit_account_not_found",
            Self::CreditAccountNotFound => "credit_account_not_found",
            Self::AccountKindMismatch => "account_kind_mismatch",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::DebitAccountFrozen => "debit_account_frozen",
            Self::CreditAccountFrozen => "credit_account_frozen",
            Self::InsufficientFunds => "insufficient_funds",
            Self::LimitExceeded => "limit_exceeded",
            Self::Malformed => "malformed",
        }
    }

    /// Whether the same request under a new id may succeed later: it was refused for how things
    /// stood, not for what it says.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::DeadlineExceeded
            | Self::DebitAccountNotFound
            | Self::CreditAccountNotFound
            | Self::DebitAccountFrozen
            | Self::CreditAccountFrozen
            | Self::InsufficientFunds
            | Self::LimitExceeded => true,
            Self::IdempotencyKeyReused
            | Self::SameAccount
            | Self::AccountKindMismatch
            | Self::CurrencyMismatch
            | Self::Malformed => false,
        }
    }
}
