//! What became of a deposit's money since it was credited, read off its returns.

use std::fmt;

use super::{Kind, Return, State};
use crate::lifecycle::Deposit;

/// What became of a deposit's money since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// A refund is on its way.
    Refunding,
    /// Some of it is the payer's again.
    RefundedInPart,
    /// All of it is.
    Refunded,
    /// The payer's bank contests it.
    Disputed,
    /// It did, and the wallet keeps the money.
    DisputeWon,
    /// It did, and the payer has the money.
    DisputeLost,
}

impl Since {
    /// What matters most: an open dispute, a lost one, what went back, what is on its way, a dispute
    /// that was won.
    #[must_use]
    pub fn of(deposit: &Deposit, returns: &[Return]) -> Option<Self> {
        let paid_minor = deposit.paid.as_ref().map_or(0, |it| it.amount.minor());
        let refunded_minor = returns
            .iter()
            .filter(|it| it.kind.is_refund() && it.state == State::Returned)
            .map(Return::claimed_minor)
            .fold(0, u64::saturating_add);
        let has_dispute = |is: fn(&State) -> bool| {
            returns.iter().any(|it| it.kind == Kind::Dispute && is(&it.state))
        };
        if has_dispute(|it| !it.is_end()) {
            Some(Self::Disputed)
        } else if has_dispute(|it| *it == State::Returned) {
            Some(Self::DisputeLost)
        } else if refunded_minor > 0 {
            let is_all = refunded_minor >= paid_minor;
            Some(if is_all { Self::Refunded } else { Self::RefundedInPart })
        } else if returns.iter().any(|it| it.kind.is_refund() && !it.state.is_end()) {
            Some(Self::Refunding)
        } else if has_dispute(|it| *it == State::Kept) {
            Some(Self::DisputeWon)
        } else {
            None
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refunding => "a refund is on its way",
            Self::RefundedInPart => "refunded in part",
            Self::Refunded => "refunded",
            Self::Disputed => "disputed",
            Self::DisputeWon => "disputed and won",
            Self::DisputeLost => "disputed and lost",
        })
    }
}
