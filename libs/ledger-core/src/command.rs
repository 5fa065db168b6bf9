//! What the ledger can be asked to do.
//!
//! A command says everything that is needed to decide it, its ids included; deciding it twice
//! changes nothing the second time.

use primitives::{AccountId, Amount, Currency, KeyId, RequestKey, Timestamp, TransferId};

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
    /// Moves money.
    PostTransfer(Transfer),
    /// Stops or allows money leaving and entering an account.
    FreezeAccount {
        /// Whose.
        account_id: AccountId,
        /// Stop, or allow again.
        frozen: bool,
    },
}

/// Money to be moved from one account to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Its id, chosen by the sender.
    pub id: TransferId,
    /// What moves the money, which decides between which kinds of accounts.
    pub kind: TransferKind,
    /// Where the money leaves.
    pub debit_account_id: AccountId,
    /// Where it arrives.
    pub credit_account_id: AccountId,
    /// How much.
    pub amount: Amount,
    /// Of what.
    pub currency: Currency,
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

/// What moves the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferKind {
    /// One wallet pays another.
    Wallet,
    /// Paystack's clearing account pays a wallet what it has collected.
    Deposit,
}

impl Command {
    /// The accounts that must be at hand to decide this.
    pub fn account_ids(&self) -> impl Iterator<Item = AccountId> {
        let (first, second) = match &self.body {
            Body::OpenAccount { account_id, .. } | Body::FreezeAccount { account_id, .. } => {
                (*account_id, None)
            }
            Body::PostTransfer(it) => (it.debit_account_id, Some(it.credit_account_id)),
        };
        std::iter::once(first).chain(second)
    }

    /// The transfer asked for, if it is one.
    #[must_use]
    pub const fn transfer(&self) -> Option<&Transfer> {
        match &self.body {
            Body::PostTransfer(it) => Some(it),
            Body::OpenAccount { .. } | Body::FreezeAccount { .. } => None,
        }
    }

    /// Whether the moment until which this may be done has passed.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.deadline_at.is_some_and(|deadline| now > deadline)
    }
}
