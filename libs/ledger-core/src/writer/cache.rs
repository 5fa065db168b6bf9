//! Accounts in memory, bounded, in two generations.
//!
//! What is written goes to the young generation; when that is full it becomes the old one, and
//! what nobody wrote since is dropped. So nothing is ordered or linked, and the most recent half of
//! the bound always stays.

use foldhash::{HashMap, HashMapExt as _};
use primitives::AccountId;

use crate::Account;

/// A bounded memory of accounts.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    /// How many accounts a generation holds.
    generation_max: usize,
    young: HashMap<AccountId, Account>,
    old: HashMap<AccountId, Account>,
}

impl Cache {
    /// Holds about `accounts_max` accounts.
    pub(super) fn new(accounts_max: usize) -> Self {
        let generation_max = accounts_max.div_ceil(2).max(1);
        Self { generation_max, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn contains(&self, id: AccountId) -> bool {
        self.young.contains_key(&id) || self.old.contains_key(&id)
    }

    pub(super) fn get(&self, id: AccountId) -> Option<&Account> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    /// Remembers the account as it is now.
    pub(super) fn put(&mut self, account: Account) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&account.id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&account.id);
        self.young.insert(account.id, account);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }
}
