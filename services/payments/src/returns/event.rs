//! What happens to returns, and what is to be done about it.

use primitives::Amount;

use super::{Claim, Word};
use crate::lifecycle::When;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The ledger holds the money, now or before.
    HoldPosted {
        /// Which hold it answers for: [`Return::n_holds`](super::Return::n_holds) when it was asked.
        n: u16,
    },
    /// The ledger said no to a hold.
    HoldRefused {
        /// Which one.
        n: u16,
        /// Its reason's code.
        why: String,
    },
    /// The ledger did not answer; it may hold the money.
    HoldUnknown,
    /// Paystack is about to be asked for the refund. Stored before the call, so that a crash is
    /// noticed.
    Asking,
    /// Paystack surely made no refund, and says why.
    AskRefused {
        /// Its code.
        why: String,
    },
    /// Nothing has left this house: Paystack is held back, or could not be reached.
    AskHeldBack,
    /// Paystack may have made the refund, or not.
    AskUnknown,
    /// Paystack has no refund that carries our tag.
    Absent,
    /// Paystack says what a dispute or a found refund is about and how it stands.
    Claimed {
        /// What it says.
        claim: Claim,
    },
    /// Paystack says how a return stands.
    Told {
        /// Its id of it.
        provider_id: String,
        /// What it says, once compared with our record.
        word: Word,
    },
    /// Paystack did not answer.
    NotTold,
    /// A signed webhook says that something changed: somebody looks.
    Hinted,
    /// The ledger has taken, or given back, what was to be, now or before.
    Moved {
        /// Which try it answers for: [`Return::n_refused`](super::Return::n_refused) when it was
        /// asked.
        n: u16,
    },
    /// The ledger said no.
    MoveRefused {
        /// To which try.
        n: u16,
        /// Its reason's code.
        why: String,
    },
    /// The ledger did not answer; it may have.
    MoveUnknown,
    /// A person says: so much went back.
    Accepted {
        /// All of it if none is said.
        amount: Option<Amount>,
    },
    /// A person says: nothing went back.
    Rejected,
}

impl Event {
    /// Its name in the timeline.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::HoldPosted { .. } => "hold posted",
            Self::HoldRefused { .. } => "hold refused",
            Self::HoldUnknown => "hold unknown",
            Self::Asking => "asks for the refund",
            Self::AskRefused { .. } => "refund refused",
            Self::AskHeldBack => "not asked",
            Self::AskUnknown => "refund unknown",
            Self::Absent => "no such refund",
            Self::Claimed { claim } => claim.word.name(),
            Self::Told { word, .. } => word.name(),
            Self::NotTold => "not told",
            Self::Hinted => "webhook",
            Self::Moved { .. } => "moved",
            Self::MoveRefused { .. } => "move refused",
            Self::MoveUnknown => "move unknown",
            Self::Accepted { .. } => "accepted",
            Self::Rejected => "rejected",
        }
    }

    /// What the timeline says of it beside its name; nothing that is secret or personal.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::HoldRefused { why, .. }
            | Self::AskRefused { why }
            | Self::MoveRefused { why, .. } => why.clone(),
            Self::Claimed { claim } => format!("{} claimed", claim.amount.minor()),
            Self::Told { provider_id, word } => match word {
                Word::Back { amount } => format!("{provider_id}: {}", amount.minor()),
                Word::Disagrees(reason) => format!("{provider_id}: {}", reason.code()),
                Word::Open { .. } | Word::NeedsAttention | Word::NotBack => provider_id.clone(),
            },
            Self::Accepted { amount: Some(amount) } => amount.minor().to_string(),
            Self::HoldPosted { .. }
            | Self::HoldUnknown
            | Self::Asking
            | Self::AskHeldBack
            | Self::AskUnknown
            | Self::Absent
            | Self::NotTold
            | Self::Hinted
            | Self::Moved { .. }
            | Self::MoveUnknown
            | Self::Accepted { amount: None }
            | Self::Rejected => String::new(),
        }
    }
}

/// What must be done, in the same transaction or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask Paystack for the refund, now that this is stored.
    Ask,
    /// Somebody takes the return up then; [`work`](super::Return::work) says what for.
    Look(When),
    /// Announce that a person must look.
    AnnounceParked,
}
