//! The ledger's tables and their constraints.

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::{
    Account, ChangeRecord, Changes, Found, Head, Hold, Needs, Record, Reversible, Standing, Status,
    Subjects,
};
use primitives::{AccountId, ChangeId, Currency, RequestKey, System, Timestamp, TransferId};

use super::Refusal;
use crate::requests::number;

/// An account as it is kept, and where its newest transfer is.
#[derive(Debug)]
struct AccountRow {
    account: Account,
    newest: i64,
}

#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) transfers: Vec<Record>,
    accounts: BTreeMap<AccountId, AccountRow>,
    pub(crate) changes: Vec<ChangeRecord>,
    pub(crate) holds: BTreeMap<TransferId, Hold>,
    pub(crate) reversals: BTreeMap<TransferId, Reversible>,
    /// The newest of `ledger.batches`.
    head: Head,
    /// Positions by the numbers in ids and keys; 0 is none.
    by_id: Vec<i64>,
    by_key: Vec<i64>,
    /// Indexes in `changes`, plus 1.
    by_change: Vec<i64>,
}

impl Tables {
    /// Books with nothing in them but the ledger's own accounts.
    pub(super) fn new(now: Timestamp) -> Self {
        let own = [Currency::NGN, Currency::USD]
            .into_iter()
            .flat_map(|it| [System::PaystackClearing, System::Suspense].map(|kind| (kind, it)))
            .map(|(kind, currency)| Account::system(kind, currency, now))
            .map(|account| (account.id, AccountRow { account, newest: 0 }));
        Self {
            transfers: Vec::new(),
            accounts: own.collect(),
            changes: Vec::new(),
            holds: BTreeMap::new(),
            reversals: BTreeMap::new(),
            head: Head::START,
            by_id: Vec::new(),
            by_key: Vec::new(),
            by_change: Vec::new(),
        }
    }

    pub(super) fn find_subjects(&self, subjects: &Subjects) -> Found {
        let holds = subjects.holds.iter().filter_map(|it| self.holds.get(it)).copied();
        let reversed = subjects.reversed.iter().filter_map(|it| self.reversible(*it));
        Found { holds: holds.collect(), reversed: reversed.collect(), ..Found::default() }
    }

    pub(super) fn find_rest(&self, needs: &Needs, found: Found) -> Found {
        let by_id = needs.transfers.iter().map(|it| at(&self.by_id, number(it.uuid())));
        let by_key = needs.request_keys.iter().map(|it| at(&self.by_key, key_number(it)));
        let positions: BTreeSet<i64> = by_id.chain(by_key).filter(|it| *it > 0).collect();
        let decisions = positions.into_iter().filter_map(|it| self.record(it));
        let changes = needs.changes.iter().filter_map(|it| self.change(*it)).copied();
        Found {
            head: needs.head.then_some(self.head),
            accounts: needs.accounts.iter().filter_map(|it| self.account(*it)).collect(),
            decisions: decisions.map(Record::decision).collect(),
            changes: changes.collect(),
            ..found
        }
    }

    /// As `find_reversed.sql` does.
    fn reversible(&self, id: TransferId) -> Option<Reversible> {
        let record = self.transfer(id)?;
        let reversed_minor = self.reversals.get(&id).map_or(0, |it| it.reversed_minor);
        let of = record.of.filter(|_| record.verdict.is_done());
        Some(Reversible { id, kind: record.transfer.action.kind(), of, reversed_minor })
    }

    /// The constraints and triggers of the migrations.
    pub(super) fn check(&self, changes: &Changes) -> Result<(), Refusal> {
        let broken = |holds: bool, name| if holds { Ok(()) } else { Err(Refusal::Broken(name)) };
        for (record, position) in changes.records.iter().zip(self.head.position + 1..) {
            broken(record.position == position, "transfers_without_gap")?;
            let key = record.transfer.request_key;
            let by_key = key.map_or(0, |it| at(&self.by_key, key_number(&it)));
            if at(&self.by_id, number(record.transfer.id.uuid())) > 0 || by_key > 0 {
                return Err(Refusal::Repeat);
            }
        }
        broken(changes.head.decided_at >= self.head.decided_at, "batches_move_forward")?;
        for change in &changes.change_records {
            broken(self.change(change.asked.id).is_none(), "account_changes_pkey")?;
        }
        for account in &changes.changed {
            let kept = self.accounts.get(&account.id).map(|it| it.account.status);
            broken(kept.is_some(), "all_of")?;
            broken(kept != Some(Status::Closed), "accounts_stay_closed")?;
        }
        for hold in &changes.holds {
            let all = hold.of.amount.to_i64();
            let greatest = self.holds.get(&hold.id).map_or(all, |it| it.remaining_minor);
            broken((0..=greatest).contains(&hold.remaining_minor), "holds_only_shrink")?;
        }
        for reversed in &changes.reversed {
            let least = self.reversals.get(&reversed.id).map_or(0, |it| it.reversed_minor);
            let greatest = reversed.of.map_or(0, |it| it.amount.to_i64());
            broken((least..=greatest).contains(&reversed.reversed_minor), "reversals_only_grow")?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, changes: &Changes) {
        for account in &changes.opened {
            let account = Account { standing: Standing::default(), ..account.clone() };
            let row = AccountRow { account, newest: 0 };
            self.accounts.entry(row.account.id).or_insert(row);
        }
        for account in &changes.changed {
            if let Some(row) = self.accounts.get_mut(&account.id) {
                (row.account.status, row.account.limits) = (account.status, account.limits);
            }
        }
        for change in &changes.change_records {
            self.changes.push(*change);
            let index = i64::try_from(self.changes.len()).unwrap_or(i64::MAX);
            put(&mut self.by_change, number(change.asked.id.uuid()), index);
        }
        for record in &changes.records {
            self.add(record.clone());
        }
        if !changes.records.is_empty() {
            self.head = changes.head;
        }
        self.holds.extend(changes.holds.iter().map(|it| (it.id, *it)));
        self.reversals.extend(changes.reversed.iter().map(|it| (it.id, *it)));
    }

    fn add(&mut self, record: Record) {
        put(&mut self.by_id, number(record.transfer.id.uuid()), record.position);
        if let Some(key) = &record.transfer.request_key {
            put(&mut self.by_key, key_number(key), record.position);
        }
        if let Some(of) = &record.of {
            let debit = record.debit_after.map(|_| of.debit_account_id);
            let credit = record.credit_after.map(|_| of.credit_account_id);
            for id in [debit, credit].into_iter().flatten() {
                if let Some(row) = self.accounts.get_mut(&id) {
                    row.newest = record.position;
                }
            }
        }
        self.transfers.push(record);
    }

    fn record(&self, position: i64) -> Option<&Record> {
        self.transfers.get(usize::try_from(position.checked_sub(1)?).ok()?)
    }

    /// The transfer of this id, as it was decided.
    pub(crate) fn transfer(&self, id: TransferId) -> Option<&Record> {
        self.record(at(&self.by_id, number(id.uuid())))
    }

    /// The change of this id, as it was decided.
    pub(crate) fn change(&self, id: ChangeId) -> Option<&ChangeRecord> {
        let index = at(&self.by_change, number(id.uuid())).checked_sub(1)?;
        self.changes.get(usize::try_from(index).ok()?)
    }

    /// As `read_accounts.sql` does: what stands on it is what its newest transfer says.
    pub(crate) fn account(&self, id: AccountId) -> Option<Account> {
        let row = self.accounts.get(&id)?;
        let standing = self.record(row.newest).and_then(|it| {
            let of = it.of.as_ref()?;
            if of.debit_account_id == id { it.debit_after } else { it.credit_after }
        });
        Some(Account { standing: standing.unwrap_or_default(), ..row.account.clone() })
    }

    /// Every account with what stands on it.
    pub(crate) fn accounts(&self) -> Vec<Account> {
        self.accounts.keys().filter_map(|it| self.account(*it)).collect()
    }
}

/// The number that a request key of this simulation is made of.
fn key_number(key: &RequestKey) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.0[..8]);
    usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

fn at(index: &[i64], number: usize) -> i64 {
    index.get(number).copied().unwrap_or(0)
}

fn put(index: &mut Vec<i64>, number: usize, position: i64) {
    if index.len() <= number {
        index.resize(number + 1, 0);
    }
    index[number] = position;
}
