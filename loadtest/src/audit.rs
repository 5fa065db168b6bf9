//! Afterwards: nothing may be missing, nothing may have appeared, and the books must agree with
//! themselves. Speed that loses a kobo is no speed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::Client;
use bus::ask::Asker;
use futures_util::{StreamExt as _, TryStreamExt as _};
use proto_events::convert::WireId as _;
use proto_events::ledger::v1::{Balances, GetBalance, GetBalances};
use proto_events::subjects::ledger as subjects;

use crate::books::Books;
use crate::stage::{Database, Stage};
use crate::workload::Wallet;

/// Queries under way at a time, and wallets in each.
const QUERIES_MAX: usize = 8;
const QUERY_WALLETS: usize = 1_000;
const LOOK: Duration = Duration::from_millis(50);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// A ledger that has just started is not heard at once.
const HEARD_WITHIN: Duration = Duration::from_secs(20);
/// Ten million transfers take a while.
const REPLAYED_WITHIN: Duration = Duration::from_secs(300);

/// What all wallets hold together.
///
/// # Errors
/// The ledger does not answer, or does not know one of them.
pub(crate) async fn total(stage: &Stage, books: &Books) -> anyhow::Result<u64> {
    let ledger = books.start(stage).await?;
    let total = ask_all(&books.client, &books.everybody).await;
    ledger.stop().await?;
    total
}

/// Has `ledger fsck` replay all books in a database against the rules.
///
/// # Errors
/// Whatever it finds.
pub(crate) async fn fsck(stage: &Stage, database: &Database) -> anyhow::Result<()> {
    let env = [("LEDGER_DATABASE_URL", database.urls.runtime.clone())];
    let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let fsck = stage.program("ledger", &["fsck"], env).await?;
    fsck.finished(REPLAYED_WITHIN).await.context("the books do not balance")
}

async fn ask_all(client: &Client, wallets: &[Wallet]) -> anyhow::Result<u64> {
    let asker = Asker::new(client.clone());
    heard(&asker, wallets).await?;
    let sums = futures_util::stream::iter(wallets.chunks(QUERY_WALLETS))
        .map(|some| sum(&asker, some))
        .buffer_unordered(QUERIES_MAX);
    sums.try_fold(0_u64, async |sum, it| Ok(sum.saturating_add(it))).await
}

/// Waits until the ledger answers at all.
async fn heard(asker: &Asker, wallets: &[Wallet]) -> anyhow::Result<()> {
    let heard = async {
        while sum(asker, wallets.get(..1).unwrap_or_default()).await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(HEARD_WITHIN, heard).await.context("the ledger answers no query")
}

/// What these wallets hold together.
async fn sum(asker: &Asker, wallets: &[Wallet]) -> anyhow::Result<u64> {
    let of = |it: &Wallet| GetBalance { account_id: it.account.to_bytes(), at_us: 0 };
    let query = GetBalances { balances: wallets.iter().map(of).collect() };
    let answer: Balances = asker
        .query(subjects::GET_BALANCES, &query, ANSWERED_WITHIN)
        .await
        .context("balances cannot be read")?;
    let n_found = answer.balances.iter().filter(|it| it.found).count();
    ensure!(n_found == wallets.len(), "of {} wallets {n_found} are in the books", wallets.len());
    Ok(answer.balances.iter().fold(0, |sum, it| it.balance_minor.saturating_add(sum)))
}
