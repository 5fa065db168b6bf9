//! Whole books in memory, as a database would keep them.

use std::collections::BTreeMap;

use primitives::{AccountId, TransferId};

use super::{Line, Original, Replay, Stretch, Violation};
use crate::{Account, ChangeRecord, Changes, Head, Hold, Record, Reversible};

/// Everything that is kept: what batches changed, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Accounts with what stands on them.
    pub accounts: BTreeMap<AccountId, Account>,
    /// Records in order of position.
    pub records: Vec<Record>,
    /// Changes of accounts in order.
    pub changes: Vec<ChangeRecord>,
    /// Holds.
    pub holds: BTreeMap<TransferId, Hold>,
    /// What was moved back of which transfer.
    pub reversed: BTreeMap<TransferId, Reversible>,
    /// How far the books are written.
    pub head: Head,
}

impl Kept {
    /// New books, which begin with these accounts and nothing on them.
    #[must_use]
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        Self {
            accounts: accounts.into_iter().map(|it| (it.id, it)).collect(),
            records: Vec::new(),
            changes: Vec::new(),
            holds: BTreeMap::new(),
            reversed: BTreeMap::new(),
            head: Head::START,
        }
    }

    /// Keeps what a batch changed.
    pub fn save(&mut self, changes: &Changes) {
        let accounts = changes.opened.iter().chain(&changes.changed).chain(&changes.moved);
        self.accounts.extend(accounts.map(|it| (it.id, it.clone())));
        self.records.extend_from_slice(&changes.records);
        self.changes.extend_from_slice(&changes.change_records);
        self.holds.extend(changes.holds.iter().map(|it| (it.id, *it)));
        self.reversed.extend(changes.reversed.iter().map(|it| (it.id, *it)));
        self.head = changes.head;
    }

    /// Everything that is wrong, as both judges see it.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = self.replay();
        violations.extend(self.stretch());
        violations
    }

    /// Decides everything again.
    #[must_use]
    pub fn replay(&self) -> Vec<Violation> {
        let mut replay = Replay::new();
        self.accounts.values().for_each(|it| replay.open(it));
        let originals: BTreeMap<TransferId, Original> =
            self.records.iter().filter_map(original).collect();
        let mut changes = self.changes.iter().peekable();
        for record in &self.records {
            while let Some(change) = changes.next_if(|it| it.after_position < record.position) {
                replay.change(change);
            }
            let reversed = record.transfer.action.reversed_id();
            let reversed = reversed.and_then(|id| originals.get(&id).copied());
            replay.line(&Line { record: record.clone(), reversed });
        }
        changes.for_each(|it| replay.change(it));
        self.accounts.values().for_each(|it| replay.account(it));
        self.holds.values().for_each(|it| replay.hold(it));
        self.reversed.values().for_each(|it| replay.reversed(it.id, it.reversed_minor));
        replay.end(self.head.position);
        replay.finish()
    }

    /// Checks that everything follows from what is before it.
    #[must_use]
    pub fn stretch(&self) -> Vec<Violation> {
        let openings = self.accounts.values().map(|it| {
            let standing = crate::Standing::default();
            Account { standing, ..it.clone() }
        });
        let mut stretch = Stretch::after(Head::START, openings);
        self.records.iter().for_each(|it| stretch.line(it));
        stretch.end(self.head.position);
        stretch.finish()
    }
}

/// A record as one that may be moved back, if it posted.
fn original(record: &Record) -> Option<(TransferId, Original)> {
    let of = record.of.filter(|_| record.verdict.is_done())?;
    let (position, kind) = (record.position, record.transfer.action.kind());
    Some((record.transfer.id, Original { position, kind, of }))
}
