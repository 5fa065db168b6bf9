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
    /// There is no such hold.
    HoldNotFound,
    /// Nothing remains of the hold.
    HoldClosed,
    /// The hold's time is not up. Not stored: it may be asked again.
    HoldNotDue,
    /// The hold's time is up.
    HoldExpired,
    /// There is no such transfer, or it did not post.
    TransferNotFound,
    /// A transfer of this kind is not moved back.
    NotReversible,
    /// More is asked for than remains of the hold.
    ExceedsHold,
    /// More is asked for than remains of the transfer.
    ExceedsTransfer,
    /// There is no such account to change.
    AccountNotFound,
    /// There is no account to take the money from.
    DebitAccountNotFound,
    /// There is no account to give the money to.
    CreditAccountNotFound,
    /// Money of this kind does not move between such accounts.
    AccountKindMismatch,
    /// One of the accounts holds another currency.
    CurrencyMismatch,
    /// The account is closed for good.
    AccountIsClosed,
    /// The debited account is closed.
    DebitAccountClosed,
    /// The credited account is closed.
    CreditAccountClosed,
    /// No money leaves the debited account.
    DebitAccountFrozen,
    /// No money enters the credited account.
    CreditAccountFrozen,
    /// There is still money on the account.
    AccountNotEmpty,
    /// The wallet holds less than the amount.
    InsufficientFunds,
    /// The account would hold more, or keep less, than its limits allow.
    LimitExceeded,
    /// Another transfer of its group was refused, so this one was not done.
    GroupRefused,
    /// The message could not be understood. Never made by the rules, only by who reads the wire.
    Malformed,
}

impl Rejection {
    /// Every rejection, in order of precedence.
    pub const ALL: [Self; 26] = [
        Self::IdempotencyKeyReused,
        Self::DeadlineExceeded,
        Self::SameAccount,
        Self::HoldNotFound,
        Self::HoldClosed,
        Self::HoldNotDue,
        Self::HoldExpired,
        Self::TransferNotFound,
        Self::NotReversible,
        Self::ExceedsHold,
        Self::ExceedsTransfer,
        Self::AccountNotFound,
        Self::DebitAccountNotFound,
        Self::CreditAccountNotFound,
        Self::AccountKindMismatch,
        Self::CurrencyMismatch,
        Self::AccountIsClosed,
        Self::DebitAccountClosed,
        Self::CreditAccountClosed,
        Self::DebitAccountFrozen,
        Self::CreditAccountFrozen,
        Self::AccountNotEmpty,
        Self::InsufficientFunds,
        Self::LimitExceeded,
        Self::GroupRefused,
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
            Self::DebitAccountClosed => 13,
            Self::CreditAccountClosed => 14,
            Self::HoldNotFound => 15,
            Self::HoldClosed => 16,
            Self::HoldExpired => 17,
            Self::ExceedsHold => 18,
            Self::HoldNotDue => 19,
            Self::TransferNotFound => 20,
            Self::NotReversible => 21,
            Self::ExceedsTransfer => 22,
            Self::GroupRefused => 23,
            Self::AccountNotFound => 24,
            Self::AccountNotEmpty => 25,
            Self::AccountIsClosed => 26,
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
            Self::DebitAccountClosed => "debit_account_closed",
            Self::CreditAccountClosed => "credit_account_closed",
            Self::HoldNotFound => "hold_not_found",
            Self::HoldClosed => "hold_closed",
            Self::HoldExpired => "hold_expired",
            Self::ExceedsHold => "exceeds_hold",
            Self::HoldNotDue => "hold_not_due",
            Self::TransferNotFound => "transfer_not_found",
            Self::NotReversible => "not_reversible",
            Self::ExceedsTransfer => "exceeds_transfer",
            Self::GroupRefused => "group_refused",
            Self::AccountNotFound => "account_not_found",
            Self::AccountNotEmpty => "account_not_empty",
            Self::AccountIsClosed => "account_is_closed",
        }
    }

    /// Whether it is kept under the id for ever, as the answer to every repeat.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        !matches!(self, Self::IdempotencyKeyReused | Self::HoldNotDue | Self::Malformed)
    }

    /// Whether the same request under a new id may succeed later: it was refused for how things
    /// stood, not for what it says.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::DeadlineExceeded
            | Self::HoldNotFound
            | Self::HoldNotDue
            | Self::TransferNotFound
            | Self::AccountNotFound
            | Self::DebitAccountNotFound
            | Self::CreditAccountNotFound
            | Self::DebitAccountFrozen
            | Self::CreditAccountFrozen
            | Self::AccountNotEmpty
            | Self::InsufficientFunds
            | Self::LimitExceeded
            | Self::GroupRefused => true,
            Self::IdempotencyKeyReused
            | Self::SameAccount
            | Self::HoldClosed
            | Self::HoldExpired
            | Self::NotReversible
            | Self::ExceedsHold
            | Self::ExceedsTransfer
            | Self::AccountKindMismatch
            | Self::CurrencyMismatch
            | Self::AccountIsClosed
            | Self::DebitAccountClosed
            | Self::CreditAccountClosed
            | Self::Malformed => false,
        }
    }
}
