//! API keys: who made them, what they may do, whether they are good.
//!
//! Commands come from the stream `CMD_KEYS` and are decided in its order (`post`); queries are
//! answered from Postgres (`answer`); rules are values (`key`). A key in plain text leaves once, in
//! the answer to the command that made it; what is kept is a digest. Nothing here knows HTTP, and
//! nothing here remembers verifications: whoever asks may, until [`KeyRevoked`] says to forget.
//!
//! [`KeyRevoked`]: proto_events::keys::v1::KeyRevoked

mod answer;
mod config;
pub mod key;
mod metrics;
mod post;
mod secret;
mod store;
mod uses;
mod wire;

use anyhow::Context as _;
use bus::follow::{BATCH_BYTES_MAX, Follow, SILENCE_MAX};
use bus::outbox::Wake;
use chassis::{Context, postgres};
use proto_events::subjects;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

pub use config::Config;

/// Brings the schema `keys` up to this release.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Who events come from.
const ORIGIN: &str = "keys";
/// Most commands decided in one transaction.
const BATCH_COMMANDS_MAX: usize = 100;

/// Brings the service's database up to this release, and lets the runtime role use it.
///
/// # Errors
/// When Postgres cannot be reached or refuses a statement.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    postgres::migrate(&config.database_url, &[&bus::MIGRATOR, &MIGRATOR]).await?;
    if let Some(role) = &config.runtime_role {
        postgres::grant(&config.database_url, role, &["bus", "keys"]).await?;
    }
    Ok(())
}

/// Connects and starts every loop of the service. Questions may find nobody for an instant more.
///
/// # Errors
/// When Postgres or NATS does not answer, or the schema is another release's.
pub async fn start(config: Config, context: &Context) -> anyhow::Result<()> {
    let connections_max = config.database_connections_max;
    let pool = postgres::connect(&config.database_url, ORIGIN, connections_max).await?;
    let migrations =
        [("bus._sqlx_migrations", &bus::MIGRATOR), ("keys._sqlx_migrations", &MIGRATOR)];
    postgres::expect_migrated(&pool, &migrations).await?;
    let jetstream = async_nats::jetstream::new(context.nats());
    bus::streams::ensure(&jetstream).await.context("failed to ensure the streams")?;
    context.ready_when("keys database", {
        let pool = pool.clone();
        move || {
            let pool = pool.clone();
            async move { postgres::answers(&pool).await }
        }
    });

    let wake = Wake::default();
    let decided = Vec::with_capacity(BATCH_COMMANDS_MAX);
    let derivation = config.derivation();
    let post = post::Post { mode: config.mode, derivation, wake: wake.clone(), decided };
    let follow = Follow {
        reader: ORIGIN,
        stream: subjects::CMD_KEYS,
        filter: None,
        batch_max: BATCH_COMMANDS_MAX,
        batch_bytes_max: BATCH_BYTES_MAX,
        silence_max: SILENCE_MAX,
    };
    let (nats, shutdown) = (context.nats(), context.shutdown());
    let following = bus::follow::run(follow, pool.clone(), nats.clone(), shutdown.clone(), post);
    context.spawn("keys post", async move { Ok(following.await?) });

    let relaying = bus::outbox::relay(pool.clone(), ORIGIN, nats.clone(), wake, shutdown.clone());
    context.spawn("keys relay", async move { Ok(relaying.await?) });

    let listing = answer::list(nats.clone(), pool.clone(), shutdown.clone());
    context.spawn("keys list", async move { Ok(listing.await?) });

    // Uses are saved once more after the last question is answered.
    let (uses, answered) = (uses::Uses::default(), CancellationToken::new());
    context.spawn("keys flush", uses.clone().flush(pool.clone(), answered.clone()));
    let verifying = answer::verify(nats, pool, uses, shutdown);
    context.spawn("keys verify", async move {
        let _answered = answered.drop_guard();
        Ok(verifying.await?)
    });
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
