//! What stands at one moment: accounts, holds, and what was moved back.
//!
//! [`crate::Books`] keep one for a batch, [`crate::audit::Replay`] one for whole books.

use std::collections::BTreeMap;

use foldhash::HashMap;
use primitives::{AccountId, Timestamp, TransferId};

use crate::rules::{self, Effect, Subject};
use crate::{Account, Action, Hold, Rejection, Reversible};

/// Accounts in the order in which they came, found by id.
///
/// Two transfers in three need two of them and nothing else, so an account is found by one look
/// into a hash table, and from there on by its place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    places: HashMap<AccountId, usize>,
    all: Vec<Account>,
}

/// What stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) accounts: Accounts,
    pub(crate) holds: BTreeMap<TransferId, Hold>,
    pub(crate) reversed: BTreeMap<TransferId, Reversible>,
}

/// An allowed transfer, and where its accounts are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) effect: Effect,
    pub(crate) debit: usize,
    pub(crate) credit: usize,
}

impl Accounts {
    pub(crate) fn from_vec(all: Vec<Account>) -> Self {
        let places = all.iter().enumerate().map(|(place, it)| (it.id, place)).collect();
        Self { places, all }
    }

    /// Where the account is.
    pub(crate) fn place(&self, id: AccountId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    pub(crate) fn at(&self, place: usize) -> Option<&Account> {
        self.all.get(place)
    }

    pub(crate) fn at_mut(&mut self, place: usize) -> Option<&mut Account> {
        self.all.get_mut(place)
    }

    pub(crate) fn get(&self, id: AccountId) -> Option<&Account> {
        self.place(id).and_then(|place| self.at(place))
    }

    /// Takes in an account that is not there, and says where it is.
    pub(crate) fn add(&mut self, account: Account) -> usize {
        let place = self.all.len();
        self.places.insert(account.id, place);
        self.all.push(account);
        place
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.all.iter()
    }

    pub(crate) fn into_vec(self) -> Vec<Account> {
        self.all
    }
}

impl State {
    /// Whether `action` is allowed, given the earlier transfer it is about, and what it does.
    pub(crate) fn judge(
        &self,
        id: TransferId,
        action: &Action,
        subject: &Subject,
        decided_at: Timestamp,
    ) -> Result<Allowed, Rejection> {
        let of = rules::aim(action, subject, decided_at)?;
        let debit = self.accounts.place(of.debit_account_id);
        let credit = self.accounts.place(of.credit_account_id);
        let at = |place: Option<usize>| place.and_then(|it| self.accounts.at(it));
        let effect = rules::settle(id, action, of, subject, (at(debit), at(credit)))?;
        let debit = debit.ok_or(Rejection::DebitAccountNotFound)?;
        let credit = credit.ok_or(Rejection::CreditAccountNotFound)?;
        Ok(Allowed { effect, debit, credit })
    }
}
