//! The ledger: the only writer of money.
//!
//! Commands come from the stream `CMD_LEDGER` and are decided in its order by the pure rules of
//! `ledger-core` (`post`); balances and histories are read from Postgres (`answer`); holds whose
//! time is up are given back (`expire`); the books are compared with themselves all the time
//! (`audit`). Only what Postgres has committed is true: an answer leaves after the commit.

mod answer;
pub mod audit;
mod config;
mod expire;
pub mod fsck;
mod metrics;
pub mod post;
pub mod seed;
mod store;
mod wire;

use anyhow::Context as _;
use bus::ask::Asker;
use bus::follow::Follow;
use bus::follow::health::Health;
use chassis::{Context, postgres};
use primitives::Timestamp;
use proto_events::subjects;
use sqlx::migrate::Migrator;

pub use config::Config;

/// Brings the schema `ledger` up to this release.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// What must have been migrated before anything is read or written.
const MIGRATIONS: [(&str, &Migrator); 2] =
    [("bus._sqlx_migrations", &bus::MIGRATOR), ("ledger._sqlx_migrations", &MIGRATOR)];

/// Who reads the commands and answers the queries.
const NAME: &str = "ledger";
/// Most bytes of commands in one transaction: commands of a hundred transfers make no batch of
/// two hundred thousand.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Brings the service's database up to this release, opens the ledger's own accounts, and lets the
/// runtime role add to the books, but not change or delete what is written.
///
/// # Errors
/// When Postgres cannot be reached or refuses a statement.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    postgres::migrate(&config.database_url, &[&bus::MIGRATOR, &MIGRATOR]).await?;
    if let Some(role) = &config.runtime_role {
        postgres::grant(&config.database_url, role, &["bus"]).await?;
    }
    let pool = postgres::connect(&config.database_url, "ledger migrate", 1).await?;
    let mut tx = pool.begin().await.context("failed to begin")?;
    store::open_system_accounts(&mut tx, Timestamp::now()).await?;
    if let Some(role) = &config.runtime_role {
        store::grant_runtime(&mut tx, role).await?;
    }
    tx.commit().await.context("failed to commit")?;
    pool.close().await;
    Ok(())
}

/// Connects and starts every loop of the service; returns when it can be asked.
///
/// # Errors
/// When Postgres or NATS does not answer, or the schema is another release's.
pub async fn start(config: Config, context: &Context) -> anyhow::Result<()> {
    let connections_max = config.database_connections_max;
    let pool = postgres::connect(&config.database_url, NAME, connections_max).await?;
    postgres::expect_migrated(&pool, &MIGRATIONS).await?;
    let (nats, shutdown) = (context.nats(), context.shutdown());
    let jetstream = async_nats::jetstream::new(nats.clone());
    bus::streams::ensure(&jetstream).await.context("failed to ensure the streams")?;
    context.ready_when("ledger database", {
        let pool = pool.clone();
        move || {
            let pool = pool.clone();
            async move { postgres::answers(&pool).await }
        }
    });
    let watch = audit::Watch::new(config.audit_interval());
    context.ready_when("ledger books", {
        let health = watch.health();
        move || std::future::ready(health.check())
    });

    let follow = Follow {
        reader: NAME,
        stream: subjects::CMD_LEDGER,
        filter: None,
        batch_max: config.batch_transfers_max(),
        batch_bytes_max: BATCH_BYTES_MAX,
        silence_max: config.session_silence_max(),
    };
    let post = post::Post::new(config.accounts_in_memory_max(), watch.health());
    let health = Health::new();
    context.ready_saying("ledger commands", {
        let health = health.clone();
        move || std::future::ready(health.check(Timestamp::now()).map(|()| health.to_string()))
    });
    let posting = bus::follow::run_watched(
        follow,
        pool.clone(),
        nats.clone(),
        shutdown.clone(),
        post,
        health,
    );
    context.spawn("ledger post", async move { Ok(posting.await?) });

    let asker = Asker::new(nats);
    let expiring = expire::run(pool.clone(), asker, config.expire_interval(), shutdown.clone());
    context.spawn("ledger expire", expiring);

    answer::spawn(context, &pool);
    context.spawn("ledger audit", watch.run(pool, shutdown));
    Ok(())
}

/// Runs until shutdown is asked for.
///
/// # Errors
/// As [`start`].
pub async fn serve(config: Config, context: Context) -> anyhow::Result<()> {
    start(config, &context).await?;
    context.shutdown().cancelled().await;
    Ok(())
}
