//! Whole books, decided again line by line.
//!
//! What one damaged line says is reported and then believed, so that the lines after it are judged
//! by themselves. Memory grows with accounts, open holds and transfers that were moved back, not
//! with records.

use std::collections::BTreeMap;

use primitives::{Currency, TransferId};

use super::{Findings, Violation};
use crate::rules::{self, Subject};
use crate::state::State;
use crate::{
    Account, ChangeRecord, Head, Hold, Limits, Move, Record, Reversible, Standing, Status,
    TransferKind,
};

/// A record together with the transfer it moves back, as both are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The record.
    pub record: Record,
    /// For a reversal: what it moves back; none if there is no such transfer or it was refused.
    pub reversed: Option<Original>,
}

/// A posted transfer that another one moves back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// Position of its record.
    pub position: i64,
    /// What it did.
    pub kind: TransferKind,
    /// What it moved.
    pub of: Move,
}

/// A reading of whole books.
///
/// First every account is brought to [`Replay::open`]; then all records come in order of position,
/// and each change of an account after the record it names; at the end what is kept of accounts,
/// holds and reversals is compared, and [`Replay::end`] called.
#[derive(Debug, Clone)]
pub struct Replay {
    head: Head,
    state: State,
    sums: BTreeMap<Currency, i128>,
    findings: Findings,
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

impl Replay {
    /// Reads from the first record on.
    #[must_use]
    pub fn new() -> Self {
        let (state, sums, findings) = (State::default(), BTreeMap::new(), Findings::default());
        Self { head: Head::START, state, sums, findings }
    }

    /// The position that was read last.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.head.position
    }

    /// How many violations were found so far.
    #[must_use]
    pub const fn n_violations(&self) -> usize {
        self.findings.0.len()
    }

    /// Takes in an account, at the latest before the first line that names it. Only what never
    /// changes about it is believed: it begins open, with nothing on it.
    pub fn open(&mut self, account: &Account) {
        if self.state.accounts.get(account.id).is_none() {
            self.state.accounts.add(Account {
                status: Status::Open,
                limits: Limits::widest(account.kind),
                standing: Standing::default(),
                ..account.clone()
            });
        }
    }

    /// Reads the next change of an account.
    pub fn change(&mut self, record: &ChangeRecord) {
        let ChangeRecord { asked, verdict, after_position: expected, decided_at } = *record;
        let (change_id, found) = (asked.id, self.head.position);
        if found != expected {
            self.found(Violation::ChangeOutOfPlace { change_id, expected, found });
        }
        self.findings.time(self.head.decided_at, decided_at, expected);
        if !verdict.is_done() {
            return;
        }
        let place = self.state.accounts.place(asked.account_id);
        let account = place.and_then(|it| self.state.accounts.at_mut(it));
        match (rules::change(account.as_deref(), asked.change), account) {
            (Ok((status, limits)), Some(account)) => {
                (account.status, account.limits) = (status, limits);
            }
            (Err(rejection), _) => {
                self.found(Violation::ChangeNotAllowed { change_id, rejection });
            }
            (Ok(_), None) => {}
        }
    }

    /// Reads the next record.
    pub fn line(&mut self, line: &Line) {
        let Line { record, reversed } = line;
        self.findings.advance(&mut self.head, record);
        if record.verdict.is_done() {
            self.findings.answer(record);
            self.done(record, reversed.as_ref());
        } else {
            self.findings.refused(record);
        }
    }

    fn done(&mut self, record: &Record, reversed: Option<&Original>) {
        let Record { position, ref transfer, of, .. } = *record;
        let (transfer_id, action) = (transfer.id, &transfer.action);
        let subject = self.subject(record, reversed);
        let allowed = self.state.judge(transfer_id, action, &subject, record.decided_at);
        match allowed {
            Ok(allowed) => {
                let effect = allowed.effect;
                if of != Some(effect.of) {
                    self.found(Violation::WrongMove { position, transfer_id });
                }
                let Move { debit_account_id: debit, credit_account_id: credit, .. } = effect.of;
                let debit_after = Some(effect.debit_after);
                self.findings.side(position, debit, debit_after, record.debit_after);
                self.findings.side(position, credit, effect.credit_after, record.credit_after);
            }
            Err(rejection) => {
                self.found(Violation::NotAllowed { position, transfer_id, rejection });
            }
        }
        if let Some(of) = of.or_else(|| allowed.ok().map(|it| it.effect.of)) {
            self.believe(record, of, &subject);
        }
    }

    /// What the record is about.
    fn subject(&mut self, record: &Record, reversed: Option<&Original>) -> Subject {
        let action = &record.transfer.action;
        if let Some(id) = action.hold_id() {
            return Subject::Hold(self.state.holds.get(&id).copied());
        }
        let Some(id) = action.reversed_id() else { return Subject::Itself };
        // A transfer that comes later has moved nothing yet that could come back.
        let known = reversed.filter(|it| it.position < record.position).map(|it| {
            let new = Reversible { id, kind: it.kind, of: Some(it.of), reversed_minor: 0 };
            *self.state.reversed.entry(id).or_insert(new)
        });
        Subject::Transfer(known)
    }

    /// Goes on from what the record says.
    fn believe(&mut self, record: &Record, of: Move, subject: &Subject) {
        let sides = [
            (of.debit_account_id, record.debit_after),
            (of.credit_account_id, record.credit_after),
        ];
        for (account_id, after) in sides {
            let place = self.state.accounts.place(account_id);
            let account = place.and_then(|it| self.state.accounts.at_mut(it));
            if let Some((account, standing)) = account.zip(after) {
                account.standing = standing;
                self.findings.bounds(account);
            }
        }
        match rules::used(record.transfer.id, &record.transfer.action, of, subject) {
            Subject::Hold(Some(hold)) if hold.remaining_minor == 0 => {
                self.state.holds.remove(&hold.id);
            }
            Subject::Hold(Some(hold)) => {
                self.state.holds.insert(hold.id, hold);
            }
            Subject::Transfer(Some(reversible)) => {
                self.state.reversed.insert(reversible.id, reversible);
            }
            Subject::Itself | Subject::Hold(None) | Subject::Transfer(None) => {}
        }
    }

    /// Compares an account as it is kept with what was read of it; after the last line.
    pub fn account(&mut self, kept: &Account) {
        let account_id = kept.id;
        let sum = self.sums.entry(kept.currency).or_default();
        *sum = sum.saturating_add(i128::from(kept.standing.balance_minor));
        self.findings.bounds(kept);
        let Some(account) = self.state.accounts.get(account_id) else {
            self.found(Violation::AccountDiffers { account_id });
            return;
        };
        let (expected, found) = (account.standing, kept.standing);
        let differs = *account != Account { standing: expected, ..kept.clone() };
        if differs {
            self.found(Violation::AccountDiffers { account_id });
        }
        if expected != found {
            self.found(Violation::StandingDiffers { account_id, expected, found });
        }
    }

    /// Compares a hold as it is kept with what remains of it; after the last line.
    pub fn hold(&mut self, kept: &Hold) {
        let found_minor = kept.remaining_minor;
        let open = self.state.holds.remove(&kept.id);
        let agrees = open.map_or(found_minor == 0, |it| it == *kept);
        if !agrees {
            self.hold_differs(kept.id, open.map_or(0, |it| it.remaining_minor), Some(found_minor));
        }
    }

    /// Compares what is kept to have been moved back of a transfer with what was; after the last
    /// line.
    pub fn reversed(&mut self, transfer_id: TransferId, reversed_minor: i64) {
        let known = self.state.reversed.remove(&transfer_id);
        let expected_minor = known.map_or(0, |it| it.reversed_minor);
        if expected_minor != reversed_minor {
            let found_minor = Some(reversed_minor);
            self.found(Violation::ReversalDiffers { transfer_id, expected_minor, found_minor });
        }
    }

    /// Compares where the reading ended with where the books say they end, and says what is not
    /// kept, or does not sum to zero; when everything that is kept was compared.
    pub fn end(&mut self, expected: i64) {
        let found = self.head.position;
        if found != expected {
            self.found(Violation::WrongEnd { expected, found });
        }
        for (id, hold) in std::mem::take(&mut self.state.holds) {
            self.hold_differs(id, hold.remaining_minor, None);
        }
        for (transfer_id, reversible) in std::mem::take(&mut self.state.reversed) {
            let (expected_minor, found_minor) = (reversible.reversed_minor, None);
            if expected_minor != 0 {
                self.found(Violation::ReversalDiffers { transfer_id, expected_minor, found_minor });
            }
        }
        for (currency, sum_minor) in std::mem::take(&mut self.sums) {
            if sum_minor != 0 {
                self.found(Violation::CurrencyOutOfBalance { currency, sum_minor });
            }
        }
    }

    fn hold_differs(&mut self, hold_id: TransferId, expected_minor: i64, found_minor: Option<i64>) {
        self.found(Violation::HoldDiffers { hold_id, expected_minor, found_minor });
    }

    /// Notes a violation that was found by other means.
    pub fn found(&mut self, violation: Violation) {
        self.findings.add(violation);
    }

    /// Everything that was found.
    #[must_use]
    pub fn finish(self) -> Vec<Violation> {
        self.findings.0
    }
}
