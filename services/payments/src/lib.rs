//! Money in through Paystack: deposits from the intent to the credit.
//!
//! The rules are values: [`lifecycle`] says what an event means for a deposit, [`verdict`] whether
//! what Paystack says agrees with our record, [`returns`] what it means for a refund or a dispute,
//! [`notice`] what a webhook means. Everything else moves bytes: `start` uses commands, `webhook` and
//! `inbox` take what Paystack tells, `drive`, `reconcile` and `give_back` ask Paystack and the ledger,
//! `missed` asks what Paystack could not deliver, `nightly` compares whole days, `tell` and `answer`
//! say what came of it, `operate` is where people decide.
//!
//! Money is credited only by the ledger, only after Paystack's verify answer to our own key agreed
//! with our record, and only under the transfer id that was chosen with the deposit. Nothing here
//! knows wallets, people or the books.

mod adopt;
mod answer;
mod circuit;
pub mod command;
pub mod compare;
mod config;
pub mod day;
mod desk;
mod drive;
mod gauges;
mod give_back;
mod inbox;
pub mod lifecycle;
mod loose;
mod missed;
mod nightly;
pub mod notice;
pub mod operate;
mod paystack;
mod reconcile;
pub mod reference;
pub mod returns;
pub mod schedule;
mod standing;
mod start;
mod store;
mod tell;
pub mod verdict;
mod webhook;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::ask::Asker;
use bus::follow::{BATCH_BYTES_MAX, Follow, SILENCE_MAX};
use bus::outbox::Wake;
use chassis::http::Options;
use chassis::{Context, postgres};
use poem::Response;
use poem::Route;
use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use proto_events::subjects;
use sqlx::PgPool;
use sqlx::migrate::Migrator;

pub use config::{Config, Pace};
pub use start::AMOUNT_MINOR_MAX;
pub use webhook::PATH as WEBHOOK_PATH;

use desk::{Bells, Desk};
use drive::{Lane, Limits};

/// Brings the schema `payments` up to this release.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Every schema the service needs.
const MIGRATIONS: [(&str, &Migrator); 2] =
    [("bus._sqlx_migrations", &bus::MIGRATOR), ("payments._sqlx_migrations", &MIGRATOR)];

/// Who events come from, and whose place in the stream of commands it is.
const ORIGIN: &str = "payments";
/// Most commands decided in one transaction.
const BATCH_COMMANDS_MAX: usize = 64;
/// How many webhooks are looked at side by side.
const INBOX_WORKERS: usize = 4;
/// How long requests in hand may take when the process stops.
const HTTP_GRACE: Duration = Duration::from_secs(10);

/// A loop of the service. A process usually runs all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Stores intents.
    Commands,
    /// Asks Paystack for checkouts.
    Initialize,
    /// Tells those who wait for one.
    Tell,
    /// Looks at stored webhooks.
    Inbox,
    /// Asks Paystack what was paid.
    Verify,
    /// Asks the ledger to credit.
    Credit,
    /// Has refunds made, and disputes seen through.
    GiveBack,
    /// Publishes events.
    Relay,
    /// Answers queries.
    Answer,
    /// Counts for the metrics.
    Gauges,
    /// Fetches webhooks that were not delivered.
    Missed,
    /// Compares days.
    Nightly,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Commands,
        Self::Initialize,
        Self::Tell,
        Self::Inbox,
        Self::Verify,
        Self::Credit,
        Self::GiveBack,
        Self::Relay,
        Self::Answer,
        Self::Gauges,
        Self::Missed,
        Self::Nightly,
    ];
}

/// Brings the service's database up to this release, and lets the runtime role use it.
///
/// # Errors
/// When Postgres cannot be reached or refuses a statement.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    postgres::migrate(&config.database_url, &[&bus::MIGRATOR, &MIGRATOR]).await?;
    if let Some(role) = &config.runtime_role {
        postgres::grant(&config.database_url, role, &["bus", "payments"]).await?;
    }
    Ok(())
}

/// Connects and starts every loop; returns the endpoint for Paystack's webhooks.
///
/// # Errors
/// When Postgres or NATS does not answer, or the schema is another release's.
pub async fn start(
    config: Config,
    context: &Context,
) -> anyhow::Result<BoxEndpoint<'static, Response>> {
    start_parts(config, context, &Part::ALL).await
}

/// As [`start`], with only some of the loops: a test stops a deposit between two steps with it.
///
/// # Errors
/// As [`start`].
pub async fn start_parts(
    config: Config,
    context: &Context,
    parts: &[Part],
) -> anyhow::Result<BoxEndpoint<'static, Response>> {
    let pool =
        postgres::connect(&config.database_url, ORIGIN, config.database_connections_max).await?;
    postgres::expect_migrated(&pool, &MIGRATIONS).await?;
    let jetstream = async_nats::jetstream::new(context.nats());
    bus::streams::ensure(&jetstream).await.context("failed to ensure the streams")?;
    context.ready_when("payments database", {
        let pool = pool.clone();
        move || {
            let pool = pool.clone();
            async move { postgres::answers(&pool).await }
        }
    });
    let desk = desk(&config, pool)?;
    let endpoint = endpoint(&config, &desk);
    let paystack = Arc::new(paystack(&config)?);
    let service = Service { config, context: context.clone(), desk };
    for part in parts {
        service.spawn(*part, &paystack);
    }
    Ok(endpoint)
}

/// Runs until shutdown is asked for and everything in hand is finished.
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

fn desk(config: &Config, pool: PgPool) -> anyhow::Result<Desk> {
    Ok(Desk {
        pool,
        bells: Arc::new(Bells::default()),
        domain: config.domain().context("PAYSTACK_SECRET_KEY is no key")?,
        fees_paid_by: config.fees_paid_by,
        confirm_for: Duration::from_millis(config.pace.confirm_for_ms),
        refund_settle: Duration::from_millis(config.pace.refund_settle_ms),
        schedule: config.pace.schedule(),
        relay: Wake::default(),
    })
}

fn paystack(config: &Config) -> anyhow::Result<paystack::Client> {
    let pace = &config.pace;
    let settings = paystack::Settings {
        base_url: config.base_url.clone(),
        secret_key: config.secret_key.clone(),
        connect_timeout: Duration::from_millis(pace.provider_connect_timeout_ms),
        timeout: Duration::from_millis(pace.provider_timeout_ms),
        circuit_pause: Duration::from_millis(pace.circuit_pause_ms),
    };
    paystack::Client::try_new(&settings).context("failed to make an HTTP client")
}

fn endpoint(config: &Config, desk: &Desk) -> BoxEndpoint<'static, Response> {
    let previous = config.secret_key_previous.clone().zip(config.secret_key_previous_until);
    let intake = webhook::Intake {
        pool: desk.pool.clone(),
        sources: webhook::Sources {
            allowed: config.webhook_sources.clone(),
            proxies: config.trusted_proxies.clone(),
        },
        keys: webhook::Keys { current: config.secret_key.clone(), previous },
        bells: Arc::clone(&desk.bells),
    };
    let options = Options {
        body_bytes_max: webhook::BODY_BYTES_MAX,
        routes: vec![(Method::POST, webhook::PATH.to_owned())],
        ..Options::new(ORIGIN)
    };
    chassis::http::wrap(Route::new().at(webhook::PATH, poem::post(intake)), options)
}

/// What the loops are made of.
struct Service {
    config: Config,
    context: Context,
    desk: Desk,
}

impl Service {
    fn spawn(&self, part: Part, paystack: &Arc<paystack::Client>) {
        let (context, desk) = (&self.context, self.desk.clone());
        let (nats, shutdown) = (context.nats(), context.shutdown());
        let poll = Duration::from_millis(self.config.pace.poll_ms);
        match part {
            Part::Commands => self.spawn_commands(),
            Part::Initialize => self.spawn_initialize(paystack),
            Part::Verify => self.spawn_verify(paystack),
            Part::Credit => self.spawn_credit(),
            Part::GiveBack => self.spawn_give_back(paystack),
            Part::Tell => context.spawn("payments tell", tell::run(desk, nats, poll, shutdown)),
            Part::Inbox => {
                for _ in 0..INBOX_WORKERS {
                    let inbox = inbox::run(desk.clone(), poll, shutdown.clone());
                    context.spawn("payments inbox", inbox);
                }
            }
            Part::Relay => {
                let relay =
                    bus::outbox::relay(desk.pool.clone(), ORIGIN, nats, desk.relay, shutdown);
                context.spawn("payments relay", async move { Ok(relay.await?) });
            }
            Part::Answer => {
                let look_pause = Duration::from_millis(self.config.pace.look_pause_ms);
                context.spawn("payments answer", answer::run(desk, nats, look_pause, shutdown));
            }
            Part::Gauges => context.spawn("payments gauges", gauges::run(desk.pool, shutdown)),
            Part::Missed => {
                let limits = self.config.pace.missed();
                let missed = missed::run(desk, Arc::clone(paystack), limits, shutdown);
                context.spawn("payments missed", missed);
            }
            Part::Nightly => {
                let (paystack, ledger) = (Arc::clone(paystack), Asker::new(nats));
                let terms = self.config.pace.nightly();
                let office = nightly::Office { desk, paystack, ledger, terms };
                context.spawn("payments nightly", nightly::run(office, shutdown));
            }
        }
    }

    fn spawn_commands(&self) {
        let pace = &self.config.pace;
        let terms = start::Terms {
            currencies: self.config.currencies.clone().into(),
            default_callback_url: self
                .config
                .default_callback_url
                .as_ref()
                .map(ToString::to_string),
            abandon_after: Duration::from_millis(pace.abandon_after_ms),
            forget_after: Duration::from_millis(pace.forget_after_ms),
        };
        let (nats, shutdown) = (self.context.nats(), self.context.shutdown());
        let pool = self.desk.pool.clone();
        let starter =
            start::Starter { desk: self.desk.clone(), terms, taken: Vec::new(), has_news: false };
        let follow = Follow {
            reader: ORIGIN,
            stream: subjects::CMD_PAYMENTS,
            filter: None,
            batch_max: BATCH_COMMANDS_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            silence_max: SILENCE_MAX,
        };
        let following = bus::follow::run(follow, pool, nats, shutdown, starter);
        self.context.spawn("payments commands", async move { Ok(following.await?) });
    }

    fn spawn_initialize(&self, paystack: &Arc<paystack::Client>) {
        let (desk, paystack) = (self.desk.clone(), Arc::clone(paystack));
        let (limits, shutdown, nats) =
            (self.limits(), self.context.shutdown(), self.context.nats());
        self.context.spawn("payments initialize", async move {
            let work = {
                let desk = desk.clone();
                move |id| drive::initialize(desk.clone(), Arc::clone(&paystack), id)
            };
            drive::run(Lane::Initialize, desk.clone(), limits, shutdown, work).await?;
            // Those who waited for what was in hand at the end; they ask again if that fails.
            if let Err(error) = tell::tell(&desk, &nats).await {
                tracing::warn!(error = desk::chain(&error), "failed to tell those who wait");
            }
            Ok(())
        });
    }

    fn spawn_verify(&self, paystack: &Arc<paystack::Client>) {
        let (desk, paystack) = (self.desk.clone(), Arc::clone(paystack));
        let (limits, shutdown) = (self.limits(), self.context.shutdown());
        let work = {
            let desk = desk.clone();
            move |id| reconcile::verify(desk.clone(), Arc::clone(&paystack), id)
        };
        let lane = drive::run(Lane::Verify, desk, limits, shutdown, work);
        self.context.spawn("payments verify", lane);
    }

    fn spawn_credit(&self) {
        let (desk, ledger) = (self.desk.clone(), Asker::new(self.context.nats()));
        let (limits, shutdown) = (self.limits(), self.context.shutdown());
        let wait = Duration::from_millis(self.config.pace.ledger_wait_ms);
        let work = {
            let desk = desk.clone();
            move |id| drive::credit(desk.clone(), ledger.clone(), wait, id)
        };
        let lane = drive::run(Lane::Credit, desk, limits, shutdown, work);
        self.context.spawn("payments credit", lane);
    }

    fn spawn_give_back(&self, paystack: &Arc<paystack::Client>) {
        let worker = give_back::Worker {
            desk: self.desk.clone(),
            paystack: Arc::clone(paystack),
            ledger: Asker::new(self.context.nats()),
            wait: Duration::from_millis(self.config.pace.ledger_wait_ms),
        };
        let (desk, limits, shutdown) = (self.desk.clone(), self.limits(), self.context.shutdown());
        let work = move |ids| give_back::give_back(worker.clone(), ids);
        let lane = drive::run(give_back::Returns, desk, limits, shutdown, work);
        self.context.spawn("payments give back", lane);
    }

    fn limits(&self) -> Limits {
        let pace = &self.config.pace;
        Limits {
            concurrency_max: usize::from(pace.concurrency_max),
            lease: Duration::from_millis(pace.lease_ms),
            poll: Duration::from_millis(pace.poll_ms),
        }
    }
}
