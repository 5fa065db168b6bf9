//! What the ledger can be asked to do.
//!
//! A command says everything that is needed to decide it, its ids included; deciding it twice
//! changes nothing the second time.

use primitives::{AccountId, Amount, ChangeId, Currency, KeyId, RequestKey, Timestamp, TransferId};

use crate::Limits;

/// The most transfers in one command.
pub const TRANSFERS_MAX: usize = 100;

/// Something asked of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// After this moment the answer is no.
    pub deadline_at: Option<Timestamp>,
    /// What is asked.
    pub body: Body,
}

/// What is asked of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Opens a wallet's account.
    OpenAccount {
        /// The id it gets.
        account_id: AccountId,
        /// The currency it will hold.
        currency: Currency,
    },
    /// Changes what an account may do.
    ChangeAccount(AccountChange),
    /// Moves money, in this order; 1 to [`TRANSFERS_MAX`].
    Post {
        /// What is moved.
        transfers: Vec<Transfer>,
        /// All of them or none.
        linked: bool,
    },
}

/// Something to be changed about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountChange {
    /// Its id, chosen by the sender; the same id has the same outcome for ever.
    pub id: ChangeId,
    /// Whose.
    pub account_id: AccountId,
    /// What.
    pub change: Change,
}

/// What is changed about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// No money leaves or enters any more.
    Freeze,
    /// Money moves again.
    Unfreeze,
    /// No money will ever move again; only for a wallet with nothing on it.
    Close,
    /// Between what its money stays from now on.
    SetLimits(Limits),
}

/// Money to be moved, reserved or given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Its id, chosen by the sender.
    pub id: TransferId,
    /// What is to happen.
    pub action: Action,
    /// For the two people; may be empty.
    pub note: String,
    /// The provider's reference of a deposit; may be empty.
    pub reference: String,
    /// Whose wallet and which `Idempotency-Key`, if the caller sent one.
    pub request_key: Option<RequestKey>,
    /// SHA-256 of what the caller asked for.
    ///
    /// It, not the other fields, says whether two requests are the same: a wallet number that was
    /// unknown at first and belongs to somebody later is still the same request.
    pub request_digest: [u8; 32],
    /// The API key that asked; none for a person.
    pub made_by_key_id: Option<KeyId>,
}

/// From where to where, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Where the money leaves.
    pub debit_account_id: AccountId,
    /// Where it arrives.
    pub credit_account_id: AccountId,
    /// How much.
    pub amount: Amount,
    /// Of what.
    pub currency: Currency,
}

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// One wallet pays another.
    Wallet(Move),
    /// Paystack's clearing account pays a wallet what it has collected.
    Deposit(Move),
    /// Money moves between any two accounts; our own services ask for it, never callers.
    Internal(Move),
    /// Reserves money of the debited account for the credited one; it still is on the account.
    Hold {
        /// What is reserved for whom.
        of: Move,
        /// When it is given back by itself; never if absent.
        expires_at: Option<Timestamp>,
    },
    /// Takes from a hold what was reserved; the rest stays reserved.
    Capture {
        /// The hold.
        hold_id: TransferId,
        /// How much; all that remains if absent.
        amount: Option<Amount>,
    },
    /// Gives back what remains of a hold.
    Release {
        /// The hold.
        hold_id: TransferId,
    },
    /// Gives back what remains of a hold whose time is up. Only the ledger itself asks.
    Expire {
        /// The hold.
        hold_id: TransferId,
    },
    /// Moves money of a posted transfer back to where it came from.
    Reverse {
        /// The transfer.
        transfer_id: TransferId,
        /// How much; all that was not moved back before if absent.
        amount: Option<Amount>,
    },
}

/// What a transfer does, as it is numbered on the wire and in Postgres, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferKind {
    /// [`Action::Wallet`]
    Wallet,
    /// [`Action::Deposit`]
    Deposit,
    /// [`Action::Internal`]
    Internal,
    /// [`Action::Hold`]
    Hold,
    /// [`Action::Capture`]
    Capture,
    /// [`Action::Release`]
    Release,
    /// [`Action::Expire`]
    Expiry,
    /// [`Action::Reverse`]
    Reversal,
}

impl TransferKind {
    /// Every kind, by number.
    pub const ALL: [Self; 8] = [
        Self::Wallet,
        Self::Deposit,
        Self::Internal,
        Self::Hold,
        Self::Capture,
        Self::Release,
        Self::Expiry,
        Self::Reversal,
    ];

    /// The number it is stored and sent as, for ever.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Wallet => 1,
            Self::Deposit => 2,
            Self::Internal => 3,
            Self::Hold => 4,
            Self::Capture => 5,
            Self::Release => 6,
            Self::Expiry => 7,
            Self::Reversal => 8,
        }
    }

    /// The kind of this number, if there is one.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }

    /// Whether such a transfer, once posted, has moved a balance.
    #[must_use]
    pub const fn moves_money(self) -> bool {
        match self {
            Self::Wallet | Self::Deposit | Self::Internal | Self::Capture | Self::Reversal => true,
            Self::Hold | Self::Release | Self::Expiry => false,
        }
    }

    /// Whether such a transfer, once posted, can be moved back. A reversal cannot: whoever wants
    /// the money moved once more asks for that.
    #[must_use]
    pub const fn is_reversible(self) -> bool {
        match self {
            Self::Wallet | Self::Deposit | Self::Internal | Self::Capture => true,
            Self::Hold | Self::Release | Self::Expiry | Self::Reversal => false,
        }
    }
}

impl Action {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> TransferKind {
        match self {
            Self::Wallet(_) => TransferKind::Wallet,
            Self::Deposit(_) => TransferKind::Deposit,
            Self::Internal(_) => TransferKind::Internal,
            Self::Hold { .. } => TransferKind::Hold,
            Self::Capture { .. } => TransferKind::Capture,
            Self::Release { .. } => TransferKind::Release,
            Self::Expire { .. } => TransferKind::Expiry,
            Self::Reverse { .. } => TransferKind::Reversal,
        }
    }

    /// The move it spells out itself; none if it is about an earlier transfer.
    #[must_use]
    pub const fn of(&self) -> Option<&Move> {
        match self {
            Self::Wallet(of) | Self::Deposit(of) | Self::Internal(of) | Self::Hold { of, .. } => {
                Some(of)
            }
            Self::Capture { .. }
            | Self::Release { .. }
            | Self::Expire { .. }
            | Self::Reverse { .. } => None,
        }
    }

    /// The hold it is about.
    #[must_use]
    pub const fn hold_id(&self) -> Option<TransferId> {
        match self {
            Self::Capture { hold_id, .. }
            | Self::Release { hold_id }
            | Self::Expire { hold_id } => Some(*hold_id),
            Self::Wallet(_)
            | Self::Deposit(_)
            | Self::Internal(_)
            | Self::Hold { .. }
            | Self::Reverse { .. } => None,
        }
    }

    /// The transfer it moves back.
    #[must_use]
    pub const fn reversed_id(&self) -> Option<TransferId> {
        match self {
            Self::Reverse { transfer_id, .. } => Some(*transfer_id),
            Self::Wallet(_)
            | Self::Deposit(_)
            | Self::Internal(_)
            | Self::Hold { .. }
            | Self::Capture { .. }
            | Self::Release { .. }
            | Self::Expire { .. } => None,
        }
    }
}

impl Command {
    /// The transfers asked for.
    #[must_use]
    pub fn transfers(&self) -> &[Transfer] {
        match &self.body {
            Body::Post { transfers, .. } => transfers,
            Body::OpenAccount { .. } | Body::ChangeAccount(_) => &[],
        }
    }

    /// The accounts it names itself. Those of a hold or of a reversed transfer come with that.
    pub fn account_ids(&self) -> impl Iterator<Item = AccountId> {
        let named = match &self.body {
            Body::OpenAccount { account_id, .. } => Some(*account_id),
            Body::ChangeAccount(it) => Some(it.account_id),
            Body::Post { .. } => None,
        };
        let moves = self.transfers().iter().filter_map(|it| it.action.of());
        named.into_iter().chain(moves.flat_map(|it| [it.debit_account_id, it.credit_account_id]))
    }

    /// Whether the moment until which this may be done has passed.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.deadline_at.is_some_and(|deadline| now > deadline)
    }
}
