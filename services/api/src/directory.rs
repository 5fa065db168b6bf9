//! Who has which wallet: a memory in front of the directory in Postgres.
//!
//! The facts of a wallet never change once written, so what was found is remembered without an end,
//! within bounds. That something was not found is never remembered: it may be there a moment later.

use std::collections::BTreeMap;

use moka::sync::Cache;
use primitives::{AccountId, UserId, WalletNumber};
use sqlx::PgPool;

use crate::store::users::{self, Error, Wallet};

/// Most wallets remembered by each way of asking, a few hundred bytes each.
const WALLETS_MAX: u64 = 200_000;

/// The directory. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct Directory {
    pool: PgPool,
    of_person: Cache<UserId, Wallet>,
    by_number: Cache<WalletNumber, Wallet>,
    number_of: Cache<AccountId, WalletNumber>,
}

impl Directory {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            of_person: Cache::new(WALLETS_MAX),
            by_number: Cache::new(WALLETS_MAX),
            number_of: Cache::new(WALLETS_MAX),
        }
    }

    /// The wallet of a person.
    ///
    /// # Errors
    /// The database broke.
    pub async fn wallet_of(&self, user: UserId) -> Result<Option<Wallet>, Error> {
        if let Some(wallet) = self.of_person.get(&user) {
            return Ok(Some(wallet));
        }
        let wallet = users::wallet_of(&self.pool, user).await?;
        if let Some(wallet) = wallet {
            self.of_person.insert(user, wallet);
        }
        Ok(wallet)
    }

    /// The wallet with this number.
    ///
    /// # Errors
    /// The database broke.
    pub async fn wallet(&self, number: WalletNumber) -> Result<Option<Wallet>, Error> {
        if let Some(wallet) = self.by_number.get(&number) {
            return Ok(Some(wallet));
        }
        Ok(self.wallets(&[number]).await?.remove(&number))
    }

    /// The wallets with these numbers; numbers that nobody has are left out.
    ///
    /// # Errors
    /// The database broke.
    pub async fn wallets(
        &self,
        numbers: &[WalletNumber],
    ) -> Result<BTreeMap<WalletNumber, Wallet>, Error> {
        let (mut found, mut unknown) = (BTreeMap::new(), Vec::new());
        for number in numbers {
            match self.by_number.get(number) {
                Some(wallet) => drop(found.insert(*number, wallet)),
                None => unknown.push(*number),
            }
        }
        if !unknown.is_empty() {
            for wallet in users::wallets_with(&self.pool, &unknown).await? {
                self.by_number.insert(wallet.number, wallet);
                found.insert(wallet.number, wallet);
            }
        }
        Ok(found)
    }

    /// The numbers of these accounts; accounts that are no wallets are left out.
    ///
    /// # Errors
    /// The database broke.
    pub async fn numbers_of(
        &self,
        accounts: &[AccountId],
    ) -> Result<BTreeMap<AccountId, WalletNumber>, Error> {
        let (mut found, mut unknown) = (BTreeMap::new(), Vec::new());
        for account in accounts {
            match self.number_of.get(account) {
                Some(number) => drop(found.insert(*account, number)),
                None => unknown.push(*account),
            }
        }
        if !unknown.is_empty() {
            for (account, number) in users::numbers_of(&self.pool, &unknown).await? {
                self.number_of.insert(account, number);
                found.insert(account, number);
            }
        }
        Ok(found)
    }
}
