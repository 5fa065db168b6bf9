//! The writer's memory between batches: what stands on the accounts it has seen, and whether it
//! must look before it decides.
//!
//! Pure and synchronous: the ledger service and the simulation drive the same one. What is kept
//! here is only believed because of the fence: whoever writes moves the reader's cursor by
//! compare-and-set in the same transaction, and one who has lost that race calls
//! [`Writer::forget`] before the next batch.

mod cache;

use std::collections::BTreeSet;

use foldhash::{HashSet, HashSetExt as _};
use primitives::{AccountId, ChangeId, RequestKey, TransferId};

use crate::state::Accounts;
use crate::{
    Account, Books, ChangeRecord, Changes, Command, Decision, Head, Hold, Reversible, Transfer,
    TransferKind,
};
use cache::Cache;

/// For how many batches earlier decisions are looked up first, after one met one.
const LOOK_FIRST_BATCHES: u32 = 100;

/// What a writer keeps between batches.
#[derive(Debug, Clone)]
pub struct Writer {
    head: Option<Head>,
    accounts: Cache,
    look_first_batches: u32,
}

/// Holds and transfers that a batch is about, to be found before anything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subjects {
    /// Holds to be captured, released or expired.
    pub holds: BTreeSet<TransferId>,
    /// Transfers to be moved back.
    pub reversed: BTreeSet<TransferId>,
}

/// What must be found before a batch can be decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// How far the books are written.
    pub head: bool,
    /// Accounts that are not in memory.
    pub accounts: Vec<AccountId>,
    /// Ids of transfers that may have been decided before.
    pub transfers: Vec<TransferId>,
    /// Request keys under which something may have been decided before.
    pub request_keys: Vec<RequestKey>,
    /// Changes of accounts that may have been decided before.
    pub changes: Vec<ChangeId>,
}

/// What was found. What is not here does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How far the books are written; none if it was not asked for.
    pub head: Option<Head>,
    /// Accounts with what stands on them.
    pub accounts: Vec<Account>,
    /// Earlier decisions under these ids and request keys.
    pub decisions: Vec<Decision>,
    /// Earlier changes of accounts.
    pub changes: Vec<ChangeRecord>,
    /// Holds.
    pub holds: Vec<Hold>,
    /// Transfers to be moved back.
    pub reversed: Vec<Reversible>,
}

impl Writer {
    /// A writer that remembers about `accounts_max` accounts, and knows nothing yet.
    #[must_use]
    pub fn new(accounts_max: usize) -> Self {
        Self { head: None, accounts: Cache::new(accounts_max), look_first_batches: 0 }
    }

    /// The holds and transfers that `commands` are about. Mostly none.
    pub fn subjects<'a>(commands: impl Iterator<Item = &'a Command>) -> Subjects {
        let mut subjects = Subjects::default();
        for transfer in commands.flat_map(Command::transfers) {
            subjects.holds.extend(transfer.action.hold_id());
            subjects.reversed.extend(transfer.action.reversed_id());
        }
        subjects
    }

    /// What must be found before `commands` can be decided; `found` has their holds and transfers
    /// already, as [`Writer::subjects`] names them.
    pub fn needs<'a>(
        &self,
        commands: impl Iterator<Item = &'a Command> + Clone,
        found: &Found,
    ) -> Needs {
        let accounts: BTreeSet<AccountId> = account_ids(commands.clone(), found)
            .filter(|it| !self.accounts.contains(*it))
            .collect();
        let mut needs = Needs {
            head: self.head.is_none(),
            accounts: accounts.into_iter().collect(),
            changes: commands.clone().filter_map(change_id).collect(),
            ..Needs::default()
        };
        let transfers = || commands.clone().flat_map(Command::transfers);
        if self.looks_first() || may_leave_no_record(transfers()) {
            needs.transfers = transfers().map(|it| it.id).collect();
            needs.request_keys = transfers().filter_map(|it| it.request_key).collect();
        }
        needs
    }

    /// Books that can decide `commands`, with what was found and what is remembered.
    ///
    /// # Panics
    /// If the head was needed and is not among what was found.
    #[must_use]
    pub fn books<'a>(
        &mut self,
        commands: impl Iterator<Item = &'a Command>,
        found: Found,
    ) -> Books {
        let head = self.head.or(found.head).expect("the head was asked for");
        self.head = Some(head);
        let mut accounts = Accounts::from_vec(found.accounts.clone());
        for id in account_ids(commands, &found) {
            if accounts.place(id).is_none()
                && let Some(account) = self.accounts.get(id)
            {
                accounts.add(account.clone());
            }
        }
        // Only now: remembering more may forget what was just asked for.
        for account in &found.accounts {
            self.accounts.put(account.clone());
        }
        Books::with_accounts(head, accounts, found)
    }

    /// What a batch changed is durable: it is what the next one begins with.
    pub fn committed(&mut self, changes: Changes) {
        self.look_first_batches = self.look_first_batches.saturating_sub(1);
        self.head = Some(changes.head);
        for account in changes.opened.into_iter().chain(changes.changed).chain(changes.moved) {
            self.accounts.put(account);
        }
    }

    /// The books refused a batch because something in it was decided before: from here on, such
    /// decisions are looked up first.
    pub fn met_a_repeat(&mut self) {
        self.look_first_batches = LOOK_FIRST_BATCHES;
    }

    /// Whether earlier decisions are looked up first.
    #[must_use]
    pub const fn looks_first(&self) -> bool {
        self.look_first_batches > 0
    }

    /// Somebody else may have written: nothing that is remembered can be believed.
    pub fn forget(&mut self) {
        self.head = None;
        self.accounts.clear();
    }

    /// How many accounts are in memory.
    #[must_use]
    pub fn n_accounts(&self) -> usize {
        self.accounts.len()
    }
}

/// The accounts that `commands` name, and those of the holds and transfers they are about; some
/// more than once.
fn account_ids<'a>(
    commands: impl Iterator<Item = &'a Command>,
    found: &Found,
) -> impl Iterator<Item = AccountId> {
    let of_holds = found.holds.iter().map(|it| it.of);
    let of_reversed = found.reversed.iter().filter_map(|it| it.of);
    of_holds
        .chain(of_reversed)
        .flat_map(|it| [it.debit_account_id, it.credit_account_id])
        .chain(commands.flat_map(Command::account_ids))
}

/// Whether one of these may be answered from what is known and leave no record: an expiry that comes
/// too early, and a transfer whose id stands for another one of the batch.
///
/// Whatever leaves a record runs into the unique indexes if it was decided before; what does not
/// must have been looked up. Then everything is: half of the earlier decisions would be worse than
/// none, because a request key that was not looked up speaks before an id that was.
fn may_leave_no_record<'a>(mut transfers: impl Iterator<Item = &'a Transfer>) -> bool {
    let mut ids = HashSet::new();
    transfers.any(|it| it.action.kind() == TransferKind::Expiry || !ids.insert(it.id))
}

fn change_id(command: &Command) -> Option<ChangeId> {
    match &command.body {
        crate::Body::ChangeAccount(it) => Some(it.id),
        crate::Body::OpenAccount { .. } | crate::Body::Post { .. } => None,
    }
}
