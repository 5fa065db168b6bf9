//! A database in memory and a writer on it, as the ledger service has them.

use std::collections::BTreeMap;

use ledger_core::audit::Kept;
use ledger_core::{Account, Books, Changes, Found, Head, Needs, Outcome, Subjects, Writer};
use primitives::{AccountId, Currency, RequestKey, System, Timestamp, TransferId};

use crate::history::Read;

/// What goes wrong with a batch before it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing.
    None,
    /// The database refuses it once.
    RolledBack,
    /// The writer dies, and another one begins with nothing in memory.
    Crashed,
}

/// Books that are kept, with the indexes that make ids and request keys unique.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) kept: Kept,
    by_id: BTreeMap<TransferId, usize>,
    by_key: BTreeMap<RequestKey, usize>,
    writer: Writer,
    accounts_max: usize,
    /// Whether what is found comes in the opposite order.
    pub(crate) backwards: bool,
    /// How often the indexes refused a batch.
    pub(crate) n_repeats_met: usize,
}

pub(crate) fn system_accounts() -> Vec<Account> {
    let system = |kind, currency| Account::system(kind, currency, Timestamp::from_seconds(0));
    vec![
        system(System::PaystackClearing, Currency::NGN),
        system(System::PaystackClearing, Currency::USD),
        system(System::Suspense, Currency::NGN),
    ]
}

impl World {
    pub(crate) fn new(accounts_max: usize) -> Self {
        Self {
            kept: Kept::new(system_accounts()),
            by_id: BTreeMap::new(),
            by_key: BTreeMap::new(),
            writer: Writer::new(accounts_max),
            accounts_max,
            backwards: false,
            n_repeats_met: 0,
        }
    }

    /// Decides and keeps a batch, whatever happens to it first.
    pub(crate) fn run(&mut self, batch: &[Read], mishap: Mishap) -> Vec<Vec<Outcome>> {
        match mishap {
            Mishap::None => {}
            Mishap::RolledBack => drop(self.decide(batch)),
            Mishap::Crashed => {
                drop(self.decide(batch));
                self.writer = Writer::new(self.accounts_max);
            }
        }
        let (mut outcomes, mut changes) = self.decide(batch);
        if self.refuses(&changes) {
            assert!(!self.writer.looks_first(), "what was looked up is not decided again");
            self.n_repeats_met += 1;
            self.writer.met_a_repeat();
            (outcomes, changes) = self.decide(batch);
            assert!(!self.refuses(&changes), "what was looked up is not decided again");
        }
        self.save(&changes);
        self.writer.committed(changes);
        outcomes
    }

    fn decide(&mut self, batch: &[Read]) -> (Vec<Vec<Outcome>>, Changes) {
        let commands = || batch.iter().map(|(command, _)| command);
        let about = self.about(&Writer::subjects(commands()));
        let needs = self.writer.needs(commands(), &about);
        let found = self.find(&needs, about);
        let mut books = self.writer.books(commands(), found);
        let outcomes =
            batch.iter().map(|(command, now)| books.apply(command.clone(), *now)).collect();
        (outcomes, books.into_changes())
    }

    fn about(&self, subjects: &Subjects) -> Found {
        let reversible = |id: &TransferId| {
            let record = &self.kept.records[*self.by_id.get(id)?];
            let reversed = self.kept.reversed.get(id);
            Some(ledger_core::Reversible {
                id: *id,
                kind: record.transfer.action.kind(),
                of: record.of.filter(|_| record.verdict.is_done()),
                reversed_minor: reversed.map_or(0, |it| it.reversed_minor),
            })
        };
        Found {
            holds: subjects
                .holds
                .iter()
                .filter_map(|id| self.kept.holds.get(id))
                .copied()
                .collect(),
            reversed: subjects.reversed.iter().filter_map(reversible).collect(),
            ..Found::default()
        }
    }

    fn find(&self, needs: &Needs, about: Found) -> Found {
        let by_id = needs.transfers.iter().filter_map(|it| self.by_id.get(it));
        let by_key = needs.request_keys.iter().filter_map(|it| self.by_key.get(it));
        let accounts = needs.accounts.iter().filter_map(|it| self.kept.accounts.get(it));
        let changes = self.kept.changes.iter().filter(|it| needs.changes.contains(&it.asked.id));
        let mut found = Found {
            head: needs.head.then_some(self.kept.head),
            accounts: accounts.cloned().collect(),
            decisions: by_id.chain(by_key).map(|at| self.kept.records[*at].decision()).collect(),
            changes: changes.copied().collect(),
            ..about
        };
        if self.backwards {
            found.accounts.reverse();
            found.decisions.reverse();
            found.holds.reverse();
            found.reversed.reverse();
        }
        found
    }

    fn refuses(&self, changes: &Changes) -> bool {
        changes.records.iter().any(|it| {
            let key = it.transfer.request_key;
            self.by_id.contains_key(&it.transfer.id)
                || key.is_some_and(|it| self.by_key.contains_key(&it))
        })
    }

    fn save(&mut self, changes: &Changes) {
        for (at, record) in (self.kept.records.len()..).zip(&changes.records) {
            self.by_id.insert(record.transfer.id, at);
            if let Some(key) = record.transfer.request_key {
                self.by_key.insert(key, at);
            }
        }
        self.kept.save(changes);
    }

    /// The account as it is kept.
    pub(crate) fn account(&self, id: AccountId) -> &Account {
        &self.kept.accounts[&id]
    }
}

/// Every command in a batch of its own, with plenty of memory.
pub(crate) fn one_by_one(history: &[Read]) -> (World, Vec<Vec<Outcome>>) {
    let mut world = World::new(1_000);
    let outcomes = history.chunks(1).flat_map(|batch| world.run(batch, Mishap::None)).collect();
    (world, outcomes)
}

/// The whole history in one pair of hands: no writer, no batches, nothing looked up.
pub(crate) fn in_one(history: &[Read]) -> (Kept, Vec<Vec<Outcome>>) {
    let accounts = system_accounts();
    let mut kept = Kept::new(accounts.clone());
    let mut books = Books::new(Head::START, Found { accounts, ..Found::default() });
    let outcomes = history.iter().map(|(it, now)| books.apply(it.clone(), *now)).collect();
    kept.save(&books.into_changes());
    (kept, outcomes)
}
