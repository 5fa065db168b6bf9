//! What is written down: every decision about a transfer, once, for ever.

use primitives::{Amount, RequestKey, Timestamp, TransferId};

use crate::{Account, AccountChange, Move, Rejection, Standing, Transfer, TransferKind};

/// How far the books have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Position of the newest record; 0 in empty books.
    pub position: i64,
    /// When it was decided.
    pub decided_at: Timestamp,
}

impl Head {
    /// The head of empty books.
    pub const START: Self = Self { position: 0, decided_at: Timestamp::from_micros(0) };
}

/// The ledger's yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was done. For a transfer: with these balances.
    Done {
        /// What the debited account holds right after; 0 for commands that are no transfers.
        debit_balance_after_minor: i64,
    },
    /// Nothing has changed.
    Rejected(Rejection),
}

impl Verdict {
    /// Why not, if it is a no.
    #[must_use]
    pub const fn rejection(self) -> Option<Rejection> {
        match self {
            Self::Done { .. } => None,
            Self::Rejected(rejection) => Some(rejection),
        }
    }

    /// Whether it is a yes.
    #[must_use]
    pub const fn is_done(self) -> bool {
        self.rejection().is_none()
    }
}

/// The answer to one transfer, or to a command that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Yes, or why not.
    pub verdict: Verdict,
    /// It had been decided before; this repeats what was decided then.
    pub replayed: bool,
    /// The transfer decided under this id or request key, which may be an earlier one than was
    /// sent; none for commands that are no transfers.
    pub transfer_id: Option<TransferId>,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// A transfer as it was decided: one row of the books.
///
/// One row is both sides of the transfer, so neither can be written without the other (I1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place among all decided transfers: 1, 2, 3 … (I6).
    pub position: i64,
    /// What was asked.
    pub transfer: Transfer,
    /// From where to where and how much: as asked, or as the hold or the reversed transfer says.
    /// None if it was refused because there is no such hold or transfer, or nothing remains of it.
    pub of: Option<Move>,
    /// Yes, or why not.
    pub verdict: Verdict,
    /// What is on the debited account right after; none if nothing changed there.
    pub debit_after: Option<Standing>,
    /// What is on the credited account right after; none if nothing changed there.
    pub credit_after: Option<Standing>,
    /// When.
    pub decided_at: Timestamp,
}

/// What was decided about a transfer, as far as a repeat needs to know (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Which transfer.
    pub transfer_id: TransferId,
    /// The request key it came under.
    pub request_key: Option<RequestKey>,
    /// Digest of what was asked.
    pub request_digest: [u8; 32],
    /// Yes, or why not.
    pub verdict: Verdict,
    /// When.
    pub decided_at: Timestamp,
}

/// A change of an account as it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRecord {
    /// What was asked.
    pub asked: AccountChange,
    /// Yes, or why not.
    pub verdict: Verdict,
    /// Position of the newest record before it: where in the order of the money it stands.
    pub after_position: i64,
    /// When.
    pub decided_at: Timestamp,
}

/// Money that is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The transfer that made it.
    pub id: TransferId,
    /// What was reserved, of whom, for whom.
    pub of: Move,
    /// How much of it is still reserved, in minor units; at most the amount.
    pub remaining_minor: i64,
    /// When it is given back by itself.
    pub expires_at: Option<Timestamp>,
}

/// A transfer somebody wants to move back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reversible {
    /// The transfer.
    pub id: TransferId,
    /// What it did; not every kind can be moved back.
    pub kind: TransferKind,
    /// What it moved; none if it was refused.
    pub of: Option<Move>,
    /// How much has been moved back, in minor units; at most the amount.
    pub reversed_minor: i64,
}

/// What a batch has changed, to be saved all at once or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Accounts that were not there before, as they are after the batch.
    pub opened: Vec<Account>,
    /// Accounts whose status or limits differ, as they are after the batch.
    pub changed: Vec<Account>,
    /// Every account on which something stands differently, as it is after the batch.
    pub moved: Vec<Account>,
    /// Transfers decided for the first time, in order of position, refused ones too.
    pub records: Vec<Record>,
    /// Changes of accounts decided for the first time, in order.
    pub change_records: Vec<ChangeRecord>,
    /// Holds that were made or of which less remains, as they are after the batch.
    pub holds: Vec<Hold>,
    /// Transfers of which more was moved back, as they are after the batch.
    pub reversed: Vec<Reversible>,
    /// How far the books are written with this batch.
    pub head: Head,
}

impl Record {
    /// What a repeat of this transfer needs to know.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        Decision {
            transfer_id: self.transfer.id,
            request_key: self.transfer.request_key,
            request_digest: self.transfer.request_digest,
            verdict: self.verdict,
            decided_at: self.decided_at,
        }
    }
}

impl Hold {
    /// What remains of it, if anything does.
    #[must_use]
    pub fn remaining(&self) -> Option<Amount> {
        Amount::from_i64(self.remaining_minor).ok()
    }
}

impl Reversible {
    /// What has not been moved back of it, if anything is left.
    #[must_use]
    pub fn remaining(&self) -> Option<Amount> {
        let remaining_minor = self.of?.amount.to_i64().checked_sub(self.reversed_minor)?;
        Amount::from_i64(remaining_minor).ok()
    }
}
