//! pgbench's TPC-B-like transaction by our own hand, for a machine that has Postgres without it.
//!
//! Our client costs more than pgbench's, so it makes Postgres look slower and our ratios better;
//! the report says which of the two was used.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::pgbench::{CLIENTS, SCALE};
use crate::store::{self, tpcb};

const TELLERS_PER_BRANCH: i32 = 10;
const ACCOUNTS_PER_BRANCH: i32 = 100_000;

/// Makes the tables.
pub(crate) async fn prepare(url: &str) -> anyhow::Result<()> {
    let mut conn = store::connect(url).await?;
    tpcb::make(&mut conn, SCALE).await
}

/// Transactions a second.
pub(crate) async fn measure(url: &str, lasting: Duration) -> anyhow::Result<f64> {
    let began = Instant::now();
    let clients = (0..CLIENTS).map(|n| client(url, u64::from(n), began, lasting));
    let done = futures_util::future::try_join_all(clients).await?;
    Ok(f64::from(done.iter().sum::<u32>()) / began.elapsed().as_secs_f64())
}

async fn client(url: &str, seed: u64, began: Instant, lasting: Duration) -> anyhow::Result<u32> {
    let mut conn = store::connect(url).await?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut n_done = 0_u32;
    while began.elapsed() < lasting {
        let moved = tpcb::Moved {
            aid: rng.random_range(1..=SCALE * ACCOUNTS_PER_BRANCH),
            bid: rng.random_range(1..=SCALE),
            tid: rng.random_range(1..=SCALE * TELLERS_PER_BRANCH),
            delta: rng.random_range(-5_000..=5_000),
        };
        tpcb::transact(&mut conn, moved).await?;
        n_done = n_done.saturating_add(1);
    }
    Ok(n_done)
}
