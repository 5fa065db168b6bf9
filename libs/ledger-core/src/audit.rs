//! The books checked against themselves: what is kept must follow from the rules alone.
//!
//! Two judges, and what they say. [`Replay`] reads whole books in order and lets every decision be
//! taken again; that is `ledger fsck`. [`Stretch`] reads any page of records and needs only what
//! stood on the accounts before it; that is what runs all the time. [`Kept`] is whole books in
//! memory, for tests and simulations.
//!
//! Neither believes what another line says. That an id or a request key occurs once is left to the
//! unique indexes that keep them.

mod kept;
mod replay;
mod stretch;
mod violation;

pub use kept::Kept;
pub use replay::{Line, Original, Replay};
pub use stretch::Stretch;
pub use violation::{VIOLATIONS_MAX, Violation};

use primitives::{AccountId, Timestamp};

use crate::{Account, Head, Record, Standing};

/// What was found, up to [`VIOLATIONS_MAX`].
#[derive(Debug, Clone, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, violation: Violation) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(violation);
        }
    }

    /// Whether the record comes right after `head` (I6); moves on to it either way.
    fn advance(&mut self, head: &mut Head, record: &Record) {
        let Record { position: found, decided_at, .. } = *record;
        let expected = head.position.saturating_add(1);
        if found != expected {
            self.add(Violation::PositionGap { expected, found });
        }
        self.time(head.decided_at, decided_at, found);
        *head = Head { position: found, decided_at: decided_at.max(head.decided_at) };
    }

    fn time(&mut self, before: Timestamp, decided_at: Timestamp, position: i64) {
        if decided_at < before {
            self.add(Violation::TimeRunsBackwards { position });
        }
    }

    /// Whether a refused record says that nothing stands differently.
    fn refused(&mut self, record: &Record) {
        if record.debit_after.is_some() || record.credit_after.is_some() {
            let (position, transfer_id) = (record.position, record.transfer.id);
            self.add(Violation::RefusedButMoved { position, transfer_id });
        }
    }

    /// Whether the answer that was given is what stands on the debited account.
    fn answer(&mut self, record: &Record) {
        let balance = record.debit_after.map(|it| it.balance_minor);
        let given = match record.verdict {
            crate::Verdict::Done { debit_balance_after_minor } => Some(debit_balance_after_minor),
            crate::Verdict::Rejected(_) => None,
        };
        if balance != given {
            let (position, transfer_id) = (record.position, record.transfer.id);
            self.add(Violation::WrongAnswer { position, transfer_id });
        }
    }

    /// Whether one side of a record says what should stand there.
    fn side(
        &mut self,
        position: i64,
        account_id: AccountId,
        expected: Option<Standing>,
        found: Option<Standing>,
    ) {
        if expected != found {
            self.add(Violation::BrokenChain { position, account_id, expected, found });
        }
    }

    /// Whether an account of this kind may stand so (I2).
    fn bounds(&mut self, account: &Account) {
        if !account.is_sound() {
            let (account_id, standing) = (account.id, account.standing);
            self.add(Violation::OutOfBounds { account_id, standing });
        }
    }
}
