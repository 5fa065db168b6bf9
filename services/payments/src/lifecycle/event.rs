//! What happens to deposits, and what is to be done about it.

use primitives::Timestamp;

use super::{Checkout, Paid, Reason};
use crate::reference::Reference;

/// What verify says of a reference, once compared with our record ([`crate::verdict::judge`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Paid, and everything agrees.
    Paid(Paid),
    /// Not paid yet, or a status that we do not know.
    Open,
    /// The payment failed; the person may try again on the same checkout.
    Failed,
    /// Paystack does not know the reference, or not under this key.
    NotFound,
    /// Paid, but not what we asked for; or paid and given back.
    Disagrees {
        /// What does not agree.
        reason: Reason,
        /// What Paystack took from the person and still has, if that can be told.
        paid: Option<Paid>,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks for this deposit's checkout once more, and waits until then.
    AskedAgain {
        /// `None` is for ever.
        wait_until: Option<Timestamp>,
    },
    /// Paystack is about to be asked. Stored before the call, so that a crash is noticed.
    Asking,
    /// Paystack made a checkout.
    CheckoutMade {
        /// For this attempt.
        reference: Reference,
        /// Where to pay.
        checkout: Checkout,
    },
    /// Paystack surely made nothing.
    InitializeRefused {
        /// For this attempt.
        reference: Reference,
    },
    /// Paystack may have made a checkout, or not.
    InitializeUnknown {
        /// For this attempt.
        reference: Reference,
    },
    /// A signed webhook says that a reference of this deposit is paid.
    Claimed {
        /// The one it named.
        reference: Reference,
        /// How long to wait for verify to agree.
        until: Timestamp,
    },
    /// Verify answered.
    Verified {
        /// What it said.
        verdict: Verdict,
    },
    /// Verify did not answer.
    VerifyFailed,
    /// The ledger is about to be asked to credit. Stored before it is, so that nobody takes the
    /// deposit elsewhere while the answer is on its way.
    Crediting,
    /// The ledger has posted the credit, now or before.
    CreditPosted,
    /// The ledger said no, and will for ever.
    CreditRefused {
        /// Its reason's code.
        why: String,
    },
    /// The ledger did not answer; it may have posted.
    CreditUnknown,
    /// The ledger has put what was paid on the suspense account, now or before.
    Suspended,
    /// The ledger did not answer, or said no; it is asked again.
    SuspendUnknown,
    /// A person says: credit what was paid, or look once more if nothing is known to be.
    Accepted {
        /// How long verify may take to agree, if it is asked once more.
        until: Timestamp,
    },
    /// A person says: this is never credited.
    Rejected,
    /// What was paid and no wallet has is the payer's again.
    GivenBack,
}

impl Event {
    /// Its name in the timeline.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AskedAgain { .. } => "asked again",
            Self::Asking => "asks for a checkout",
            Self::CheckoutMade { .. } => "checkout made",
            Self::InitializeRefused { .. } => "checkout refused",
            Self::InitializeUnknown { .. } => "checkout unknown",
            Self::Claimed { .. } => "webhook",
            Self::Verified { verdict } => match verdict {
                Verdict::Paid(_) => "verified: paid",
                Verdict::Open => "verified: open",
                Verdict::Failed => "verified: failed",
                Verdict::NotFound => "verified: not found",
                Verdict::Disagrees { .. } => "verified: disagrees",
            },
            Self::VerifyFailed => "not verified",
            Self::Crediting => "asks for the credit",
            Self::CreditPosted => "credit posted",
            Self::CreditRefused { .. } => "credit refused",
            Self::CreditUnknown => "credit unknown",
            Self::Suspended => "suspended",
            Self::SuspendUnknown => "not suspended",
            Self::Accepted { .. } => "accepted",
            Self::Rejected => "rejected",
            Self::GivenBack => "given back",
        }
    }

    /// What the timeline says of it beside its name; nothing that is secret or personal.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::CheckoutMade { reference, .. }
            | Self::InitializeRefused { reference }
            | Self::InitializeUnknown { reference }
            | Self::Claimed { reference, .. } => reference.to_string(),
            Self::Verified { verdict: Verdict::Paid(paid) } => paid.to_string(),
            Self::Verified { verdict: Verdict::Disagrees { reason, paid } } => {
                let paid = paid.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
                format!("{}{paid}", reason.code())
            }
            Self::CreditRefused { why } => why.clone(),
            Self::AskedAgain { .. }
            | Self::Asking
            | Self::Verified { .. }
            | Self::VerifyFailed
            | Self::Crediting
            | Self::CreditPosted
            | Self::CreditUnknown
            | Self::Suspended
            | Self::SuspendUnknown
            | Self::Accepted { .. }
            | Self::Rejected
            | Self::GivenBack => String::new(),
        }
    }
}

/// What must be done, in the same transaction or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask Paystack for a checkout under the attempt's reference, now that this is stored.
    Initialize,
    /// Somebody takes the deposit up then; [`work`](super::Deposit::work) says what for.
    Look(When),
    /// Tell those who wait for a checkout; [`answer`](super::Deposit::answer) says what.
    Answer,
    /// Announce that the wallet has been credited.
    AnnounceCredited,
    /// Announce that a person must look.
    AnnounceParked,
}

/// When somebody takes a deposit up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// After a pause that grows with the number of looks.
    After(Pace),
    /// Not by itself.
    Never,
}

/// Which row of pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A checkout is open.
    Pending,
    /// A webhook waits for verify to agree.
    Confirm,
    /// Failed or abandoned, and perhaps paid late.
    Late,
    /// Paystack or the ledger did not answer.
    Unanswered,
    /// A refund or a dispute is open at Paystack.
    Returning,
}
