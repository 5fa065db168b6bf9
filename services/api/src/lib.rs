//! The REST edge: who are you, may you, what do you want.
//!
//! It keeps people, their wallets' numbers and their sessions, and decides nothing about money: the
//! ledger, the payments service and the keys service are asked over the bus, and what they say is
//! put into HTTP. Written on a request's path are only a sign-in, which request an `Idempotency-Key`
//! belongs to, and a transfer whose outcome was not known in time.

mod ask;
pub mod attempt;
pub mod claims;
mod config;
pub mod directory;
pub mod google;
pub mod key_cache;
pub mod liveness;
pub mod permissions;
pub mod rate;
pub mod rest;
pub mod session;
pub mod sign_in;
pub mod store;

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use bus::ask::Asker;
use chassis::{Context, postgres};
use poem::Response;
use poem::endpoint::BoxEndpoint;
use prometheus::IntCounter;
use sqlx::migrate::Migrator;

pub use config::Config;

use claims::Claims;
use directory::Directory;
use key_cache::KeyCache;
use rate::Limits;
use rest::Parts;
use rest::auth::Auth;
use rest::caller::Authenticator;
use rest::door::Door;
use sign_in::SignIn;

/// Brings the schema `api` up to this release.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// How long a request in hand may take once nobody new is let in.
const HTTP_GRACE: std::time::Duration = std::time::Duration::from_secs(15);

/// Brings the service's database up to this release, and lets the runtime role use it.
///
/// # Errors
/// When Postgres cannot be reached or refuses a statement.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    postgres::migrate(&config.database_url, &[&bus::MIGRATOR, &MIGRATOR]).await?;
    if let Some(role) = &config.runtime_role {
        postgres::grant(&config.database_url, role, &["bus", "api"]).await?;
    }
    Ok(())
}

/// Connects, starts the loops, and returns the endpoint that answers everything.
///
/// # Errors
/// When Postgres or NATS does not answer, or the schema is another release's.
pub async fn start(
    config: Config,
    context: &Context,
) -> anyhow::Result<BoxEndpoint<'static, Response>> {
    let pool =
        postgres::connect(&config.database_url, "api", config.database_connections_max).await?;
    let migrations =
        [("bus._sqlx_migrations", &bus::MIGRATOR), ("api._sqlx_migrations", &MIGRATOR)];
    postgres::expect_migrated(&pool, &migrations).await?;
    let jetstream = async_nats::jetstream::new(context.nats());
    bus::streams::ensure(&jetstream).await.context("failed to ensure the streams")?;
    context.ready_when("api database", {
        let pool = pool.clone();
        move || {
            let pool = pool.clone();
            async move { postgres::answers(&pool).await }
        }
    });

    let asker = Asker::new(context.nats());
    let keys = KeyCache::new(asker.clone());
    context.spawn("api key cache", keys.clone().listen(context.nats(), context.shutdown()));
    let proxies = config.trusted_proxies.clone();
    let limits = Limits::new(config.credential_rate(), config.address_rate(), proxies);
    context.spawn("api rate limits", limits.clone().sweep(context.shutdown()));

    let origins = config.origins();
    let (url, people) = (&config.public_url, pool.clone());
    let sign_in = SignIn::try_new(&config.sign_in, url, &origins, people, asker.clone())?;
    let sign_in = Arc::new(sign_in);
    let claims = Claims::new(&pool);
    let directory = Directory::new(pool.clone());
    let authenticator = Authenticator::new(directory.clone(), &sign_in, keys);
    let door = Door::new(authenticator.clone(), limits.clone());
    let parts = Parts {
        auth: Auth::new(sign_in, authenticator, door.clone(), url.scheme() == "https"),
        door,
        limits,
        people: pool,
        directory,
        claims,
        ledger: ask::Ledger::new(&asker),
        payments: ask::Payments::new(asker.clone()),
        keys: ask::Keys::new(asker),
        pending: pending_transfers()?,
        wait: config.wait(),
        checkout_wait: config.checkout_wait(),
    };
    Ok(rest::endpoint(parts, config.public_url.as_str(), origins))
}

/// Runs until shutdown is asked for and every request in hand is answered.
///
/// # Errors
/// As [`start`], or when the address cannot be listened on.
pub async fn serve(config: Config, context: Context) -> anyhow::Result<()> {
    let listen = config.listen;
    let endpoint = start(config, &context).await?;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("failed to listen on {listen}"))?;
    chassis::http::serve(listener, endpoint, context.shutdown(), HTTP_GRACE).await
}

/// One counter a process: Prometheus' registry is the process's, and a process may start twice in tests.
fn pending_transfers() -> anyhow::Result<IntCounter> {
    static COUNTER: OnceLock<IntCounter> = OnceLock::new();
    if let Some(counter) = COUNTER.get() {
        return Ok(counter.clone());
    }
    let made = prometheus::register_int_counter!(
        "api_pending_transfers_total",
        "Transfers answered 202: the ledger did not say in time what became of them"
    );
    match made {
        Ok(counter) => Ok(COUNTER.get_or_init(|| counter).clone()),
        // Another start of this process was quicker.
        Err(error) => COUNTER.get().cloned().context(error),
    }
}
