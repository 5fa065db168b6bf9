//! A page of records, checked without the books before it.

use primitives::AccountId;

use super::{Findings, Violation};
use crate::state::Accounts;
use crate::{Account, Head, Move, Record, Standing, rules};

/// A reading of records that begins after any position.
///
/// It sees a missing record, a balance that does not follow from the one before, and one that may
/// not be. It does not see whether what was done was allowed; [`super::Replay`] does.
#[derive(Debug, Clone)]
pub struct Stretch {
    head: Head,
    accounts: Accounts,
    findings: Findings,
}

impl Stretch {
    /// Reads on from `head`; `openings` are the accounts that the records to come name, with what
    /// stood on them there. An account that is missing does not exist.
    #[must_use]
    pub fn after(head: Head, openings: impl IntoIterator<Item = Account>) -> Self {
        let accounts = Accounts::from_vec(openings.into_iter().collect());
        Self { head, accounts, findings: Findings::default() }
    }

    /// The position that was read last.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.head.position
    }

    /// Reads the next record.
    pub fn line(&mut self, record: &Record) {
        self.findings.advance(&mut self.head, record);
        if !record.verdict.is_done() {
            self.findings.refused(record);
            return;
        }
        self.findings.answer(record);
        let Some(of) = record.of else {
            let (position, transfer_id) = (record.position, record.transfer.id);
            self.found(Violation::WrongMove { position, transfer_id });
            return;
        };
        let debit = self.side(record, &of, of.debit_account_id);
        let credit = self.side(record, &of, of.credit_account_id);
        if let Some((debit, credit)) = debit.zip(credit) {
            self.chain(record, &of, debit, credit);
        }
        for (id, after) in
            [(of.debit_account_id, record.debit_after), (of.credit_account_id, record.credit_after)]
        {
            let place = self.accounts.place(id);
            let account = place.and_then(|it| self.accounts.at_mut(it));
            if let Some((account, standing)) = account.zip(after) {
                account.standing = standing;
                self.findings.bounds(account);
            }
        }
    }

    /// What stood on one side, if that is an account the record may name.
    fn side(&mut self, record: &Record, of: &Move, account_id: AccountId) -> Option<Standing> {
        let account = self.accounts.get(account_id).filter(|it| it.currency == of.currency);
        let standing = account.map(|it| it.standing);
        if standing.is_none() {
            let position = record.position;
            self.found(Violation::WrongAccount { position, account_id });
        }
        standing
    }

    fn chain(&mut self, record: &Record, of: &Move, debit: Standing, credit: Standing) {
        let kind = record.transfer.action.kind();
        let Record { position, debit_after, credit_after, .. } = *record;
        let (debit_follows, credit_follows) = match rules::follows(kind, of.amount, debit, credit) {
            Some((debit, credit)) => (Some(debit), credit),
            None => (None, None),
        };
        self.findings.side(position, of.debit_account_id, debit_follows, debit_after);
        self.findings.side(position, of.credit_account_id, credit_follows, credit_after);
    }

    /// Compares where the reading ended with where the books say they end.
    pub fn end(&mut self, expected: i64) {
        let found = self.head.position;
        if found != expected {
            self.found(Violation::WrongEnd { expected, found });
        }
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
