//! Fills empty books quickly, for who wants to measure what old books cost.
//!
//! The records are those that the rules would have written, and are saved as the writer saves
//! them; only the bus is left out, and the indexes are built at the end. Nothing that runs calls
//! this: it needs the schema's owner, and refuses books in which anything was ever decided.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ledger_core::{Account, Action, Body, Command, Found, Head, Move, Transfer, Writer};
use primitives::{AccountId, Amount, Currency, RequestKey, System, Timestamp, TransferId};
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};

use crate::store;

/// Transfers in one transaction.
const BATCH_TRANSFERS: usize = 10_000;
/// What every account begins with, in kobo: enough for any number of small payments.
const FUNDS: u64 = 1_000_000_000;
/// Between the decisions of two batches.
const STEP: Duration = Duration::from_millis(100);

/// Opens `account_ids`, credits each once, and lets them pay each other, a kobo at a time, until
/// there are `n_transfers`; `progress` is told how many there are.
///
/// # Errors
/// When the books are not empty, or Postgres refuses.
pub async fn grow(
    pool: &PgPool,
    account_ids: &[AccountId],
    n_transfers: u64,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await.context("failed to connect")?;
    let head = store::head(&mut conn).await?;
    ensure!(head == Head::START, "only empty books can be seeded");
    let indexes = store::seed::drop_indexes(&mut conn).await?;
    let mut seed = Seed::new(account_ids);
    store::seed::open(&mut conn, &seed.accounts(account_ids)).await?;
    let mut n_done = 0;
    while n_done < n_transfers {
        n_done =
            n_done.saturating_add(seed.batch(&mut conn, account_ids, n_transfers, n_done).await?);
        progress(n_done);
    }
    store::seed::build_indexes(&mut conn, &indexes).await?;
    Ok(())
}

/// The writer, and which payment comes next.
struct Seed {
    writer: Writer,
    now: Timestamp,
}

impl Seed {
    fn new(account_ids: &[AccountId]) -> Self {
        // All of them stay in memory, whatever generation they are in.
        let writer = Writer::new(account_ids.len().saturating_mul(4).saturating_add(100));
        Self { writer, now: Timestamp::now().minus(Duration::from_hours(24 * 365)) }
    }

    fn accounts(&self, ids: &[AccountId]) -> Vec<Account> {
        ids.iter().map(|it| Account::open(*it, Currency::NGN, self.now)).collect()
    }

    /// Decides and saves the next batch, and says how many it has.
    async fn batch(
        &mut self,
        conn: &mut PgConnection,
        ids: &[AccountId],
        n_transfers: u64,
        n_done: u64,
    ) -> anyhow::Result<u64> {
        self.now = self.now.plus(STEP);
        let size = u64::try_from(BATCH_TRANSFERS)?.min(n_transfers.saturating_sub(n_done));
        let commands: Vec<Command> =
            (n_done..n_done.saturating_add(size)).map(|n| command(ids, n)).collect();
        let needs = self.writer.needs(commands.iter(), &Found::default());
        let clearing = Account::system(System::PaystackClearing, Currency::NGN, self.now);
        let known = |it: &AccountId| {
            if *it == clearing.id {
                clearing.clone()
            } else {
                Account::open(*it, Currency::NGN, self.now)
            }
        };
        let accounts = needs.accounts.iter().map(known).collect();
        let head = needs.head.then_some(Head::START);
        let found = Found { head, accounts, ..Found::default() };
        let mut books = self.writer.books(commands.iter(), found);
        for command in commands {
            let outcomes = books.apply(command, self.now);
            ensure!(
                outcomes.iter().all(|it| it.verdict.is_done()),
                "the rules refuse: {outcomes:?}"
            );
        }
        let changes = books.into_changes();
        store::seed::save(conn, &changes).await?;
        self.writer.committed(changes);
        Ok(size)
    }
}

/// The `n`th transfer: first every account is credited, then they pay each other.
fn command(ids: &[AccountId], n: u64) -> Command {
    let n_accounts = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    let account = |n: u64| {
        let n = usize::try_from(n.checked_rem(n_accounts).unwrap_or(0)).unwrap_or(0);
        ids.get(n).copied().unwrap_or(AccountId::NOBODY)
    };
    let move_ = |debit_account_id, credit_account_id, minor| Move {
        debit_account_id,
        credit_account_id,
        amount: Amount::try_new(minor).expect("a constant"),
        currency: Currency::NGN,
    };
    let mixed = mix(n);
    let action = if n < n_accounts {
        let clearing = AccountId::system(System::PaystackClearing, Currency::NGN);
        Action::Deposit(move_(clearing, account(n), FUNDS))
    } else {
        // Never to itself: the second is between one and all others away.
        let from = mixed;
        let distance = mix(mixed).checked_rem(n_accounts.saturating_sub(1)).unwrap_or(0);
        Action::Wallet(move_(
            account(from % n_accounts),
            account((from % n_accounts).wrapping_add(distance).wrapping_add(1)),
            1,
        ))
    };
    let high = u128::from(mixed) << 64 | u128::from(mix(mixed ^ n));
    let mut key = [0; 32];
    key[..16].copy_from_slice(&high.to_be_bytes());
    key[24..].copy_from_slice(&n.to_be_bytes());
    let transfer = Transfer {
        // Sortable by time as ids of real transfers are.
        id: TransferId::from_uuid(Uuid::from_u128(u128::from(n) << 80 | high >> 48)),
        action,
        note: String::new(),
        reference: String::new(),
        request_key: Some(RequestKey(key)),
        request_digest: key,
        made_by_key_id: None,
    };
    Command { deadline_at: None, body: Body::Post { transfers: vec![transfer], linked: false } }
}

/// SplitMix64's finishing steps: neighbours become strangers.
const fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
