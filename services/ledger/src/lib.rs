//! The ledger: the only writer of money.
//!
//! Commands come from the stream `CMD_LEDGER` and are decided in its order by the pure rules of
//! `ledger-core` (`post`); balances and histories are read from Postgres (`answer`); the books are
//! compared with themselves all the time (`audit`). Only what Postgres has committed is true: an
//! answer leaves after the commit, an event in its transaction.

mod answer;
pub mod audit;
mod config;
mod metrics;
pub mod post;
mod store;
mod wire;

use anyhow::Context as _;
use bus::follow::Follow;
use bus::outbox::Wake;
use chassis::{Context, postgres};
use primitives::Timestamp;
use proto_events::subjects;
use sqlx::migrate::Migrator;

pub use config::Config;

/// Brings the schema `ledger` up to this release.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Who events come from, and who reads the commands.
const ORIGIN: &str = "ledger";

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
    let pool = postgres::connect(&config.database_url, ORIGIN, connections_max).await?;
    let migrations =
        [("bus._sqlx_migrations", &bus::MIGRATOR), ("ledger._sqlx_migrations", &MIGRATOR)];
    postgres::expect_migrated(&pool, &migrations).await?;
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

    let wake = Wake::default();
    let follow = Follow {
        reader: ORIGIN,
        stream: subjects::CMD_LEDGER,
        filter: None,
        batch_max: config.batch_transfers_max(),
    };
    let post = post::Post::new(wake.clone());
    let posting = bus::follow::run(follow, pool.clone(), nats.clone(), shutdown.clone(), post);
    context.spawn("ledger post", async move { Ok(posting.await?) });

    let relaying = bus::outbox::relay(pool.clone(), ORIGIN, nats.clone(), wake, shutdown.clone());
    context.spawn("ledger relay", async move { Ok(relaying.await?) });

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
