//! Ledger and payments as processes of their own, and deposits that wait to be told that they are
//! paid.
//!
//! Paystack is played by the sandbox, in this process: payments verifies with it while webhooks
//! come in. It sends none itself, and it does not count how often it is asked.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use bus::ask::Asker;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use primitives::{AccountId, Currency, DepositId, System, Timestamp};
use proto_events::convert::WireId as _;
use proto_events::ledger::v1::{Command, OpenAccount, Outcome, command};
use proto_events::payments::v1::{DepositStarted, StartDeposit};
use proto_events::subjects;
use reqwest::StatusCode;
use sandbox::Sandbox;
use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::{Attempt, Outcome as Paid};
use sandbox::servers::{Companion, Nats, free_port};
use sqlx::postgres::PgConnection;
use tokio::net::TcpListener;

use crate::stage::{Database, Stage};
use crate::store;

/// Whom the deposits are for, by turns.
const WALLETS: usize = 500;
const AMOUNT_MINOR: u64 = 500_000;
/// Deposits that are begun at one time.
const AT_A_TIME: usize = 256;
const MIGRATED_WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Nobody verifies by the schedule before the webhooks come: only they wake.
const NOT_BY_ITSELF_MS: u64 = 1_800_000;
const NO_LIMIT: u32 = 1_000_000_000;

/// A webhook, ready to be sent.
pub(crate) struct Webhook {
    pub(crate) body: Vec<u8>,
    pub(crate) signature: String,
}

/// What runs. Fields are dropped in this order.
pub(crate) struct Intake {
    payments: Companion,
    ledger: Option<Companion>,
    sandbox: Sandbox,
    asker: Asker,
    nats: Nats,
    pub(crate) address: SocketAddr,
    ledger_database: Database,
    /// The release of nats-server.
    pub(crate) nats_version: String,
    ledger_env: Vec<(String, String)>,
    /// For looking.
    pub(crate) deposits: PgConnection,
}

impl Intake {
    /// Migrates, and starts both services.
    pub(crate) async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let nats = stage.nats("nats-webhooks").await?;
        let ledger_database = stage.database("webhooks_ledger").await?;
        let database = stage.database("webhooks_payments").await?;
        let secret = format!("sk_test_{}", hex::encode(rand::random::<[u8; 20]>()));
        let sandbox = play_paystack(&secret).await?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let admin_port = free_port()?;
        let env = settings([
            ("PAYSTACK_SECRET_KEY", secret),
            ("PAYSTACK_BASE_URL", sandbox.paystack_base_url()),
            ("PAYMENTS_LISTEN", address.to_string()),
            ("PAYMENTS_RECONCILE_FIRST_MS", NOT_BY_ITSELF_MS.to_string()),
            ("LOG_LEVEL", "error".to_owned()),
        ]);
        migrate(stage, "ledger", &ledger_database, &[]).await?;
        migrate(stage, "payments", &database, &env).await?;
        let ledger_env = settings([
            ("LEDGER_DATABASE_URL", ledger_database.urls.runtime.clone()),
            ("NATS_URL", nats.url()),
            ("ADMIN_ADDRESS", format!("127.0.0.1:{}", free_port()?)),
            ("LOG_LEVEL", "error".to_owned()),
        ]);
        let more = settings([
            ("PAYMENTS_DATABASE_URL", database.urls.runtime.clone()),
            ("NATS_URL", nats.url()),
            ("ADMIN_ADDRESS", format!("127.0.0.1:{admin_port}")),
        ]);
        let env = env.into_iter().chain(more).collect();
        let payments = stage.program("payments", &["serve"], env).await?;
        payments.ready(READY_WITHIN, async || ready(admin_port).await).await?;
        let client = chassis::nats::connect(&nats.url(), "loadtest").await?;
        let (nats_version, asker) = (client.server_info().version, Asker::new(client));
        let deposits = store::connect(&database.admin_url).await?;
        let mut intake = Self {
            payments,
            ledger: None,
            sandbox,
            asker,
            nats,
            address,
            ledger_database,
            nats_version,
            ledger_env,
            deposits,
        };
        intake.start_ledger(stage).await?;
        Ok(intake)
    }

    /// Starts the ledger.
    pub(crate) async fn start_ledger(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.ledger = Some(stage.program("ledger", &["serve"], self.ledger_env.clone()).await?);
        Ok(())
    }

    /// Ends the ledger as a power cut would.
    pub(crate) async fn kill_ledger(&mut self) -> anyhow::Result<()> {
        match self.ledger.take() {
            Some(ledger) => ledger.kill().await,
            None => Ok(()),
        }
    }

    /// Begins deposits as callers do, each with a checkout; their references.
    pub(crate) async fn begin(&self, n: u32) -> anyhow::Result<Vec<String>> {
        let wallets: Vec<AccountId> = (0..WALLETS).map(|_| AccountId::generate()).collect();
        let opened = wallets.iter().map(|it| self.open(*it));
        futures_util::stream::iter(opened).buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
        let begun = (0..n).zip(wallets.iter().cycle()).map(|(_, it)| self.begin_one(*it));
        futures_util::stream::iter(begun).buffer_unordered(AT_A_TIME).try_collect().await
    }

    /// Pays them all at the checkout; the webhooks that say so.
    pub(crate) fn pay(&self, references: &[String]) -> anyhow::Result<Vec<Webhook>> {
        let pay = |reference: &String| {
            let paid = self.sandbox.pay(reference, Attempt::new(Paid::Success));
            paid.map_err(|error| anyhow!("the checkout takes no payment: {error:?}"))?;
            let (body, signature) =
                self.sandbox.webhook(reference).context("what is paid has a webhook")?;
            Ok(Webhook { body, signature })
        };
        references.iter().map(pay).collect()
    }

    /// Insists that clearing is exactly what Paystack collected, in kobo.
    pub(crate) async fn expect_cleared(&self) -> anyhow::Result<u64> {
        let collected = self.sandbox.collected().get("NGN").copied().unwrap_or(0);
        let clearing = AccountId::system(System::PaystackClearing, Currency::NGN);
        let mut books = store::connect(&self.ledger_database.admin_url).await?;
        let cleared = store::standing(&mut books, clearing).await?.checked_neg();
        ensure!(
            cleared == i64::try_from(collected).ok(),
            "Paystack collected {collected} kobo, and clearing says {cleared:?}"
        );
        Ok(collected)
    }

    /// Insists that payments still runs.
    pub(crate) fn expect_running(&self) -> anyhow::Result<()> {
        ensure!(self.payments.is_running(), self.payments.complaint("has ended by itself"));
        Ok(())
    }

    /// Stops everything; what is left are the books.
    pub(crate) async fn stop(self) -> anyhow::Result<Database> {
        self.payments.stop().await?;
        if let Some(ledger) = self.ledger {
            ledger.stop().await?;
        }
        self.sandbox.stop().await;
        self.nats.stop().await?;
        Ok(self.ledger_database)
    }

    async fn open(&self, account: AccountId) -> anyhow::Result<()> {
        let open =
            OpenAccount { account_id: account.to_bytes(), currency: Currency::NGN.to_string() };
        let deadline_at_us = Timestamp::now().plus(ANSWERED_WITHIN).micros();
        let command = Command { deadline_at_us, body: Some(command::Body::OpenAccount(open)) };
        let subject = subjects::ledger::OPEN_ACCOUNT;
        let outcome: Outcome = self.asker.command(subject, &command, ANSWERED_WITHIN).await?;
        ensure!(outcome.rejection == 0, "no wallet can be opened: {outcome:?}");
        Ok(())
    }

    async fn begin_one(&self, account: AccountId) -> anyhow::Result<String> {
        let command = StartDeposit {
            deposit_id: DepositId::generate().to_bytes(),
            account_id: account.to_bytes(),
            email: "ada@example.com".to_owned(),
            amount_minor: AMOUNT_MINOR,
            currency: Currency::NGN.to_string(),
            callback_url: String::new(),
            request_key: Bytes::copy_from_slice(&rand::random::<[u8; 32]>()),
            request_digest: Bytes::copy_from_slice(&[7; 32]),
            deadline_at_us: Timestamp::now().plus(ANSWERED_WITHIN).micros(),
        };
        let subject = subjects::payments::START_DEPOSIT;
        let said: DepositStarted = self.asker.command(subject, &command, ANSWERED_WITHIN).await?;
        ensure!(said.refusal == 0, "a deposit was refused: {said:?}");
        Ok(said.reference)
    }
}

async fn play_paystack(secret: &str) -> anyhow::Result<Sandbox> {
    let outside = TcpListener::bind("127.0.0.1:0").await.context("no port is free")?;
    let config = sandbox::Config {
        secret_key: secret.to_owned(),
        calls_per_minute: Some(NO_LIMIT),
        // The load sends them.
        faults: vec![Plan::chance(Fault::WebhookLost, 1.0)],
        ..sandbox::Config::default()
    };
    sandbox::start(outside, config).await
}

async fn migrate(
    stage: &Stage,
    service: &'static str,
    database: &Database,
    more: &[(String, String)],
) -> anyhow::Result<()> {
    let upper = service.to_uppercase();
    let mut env = more.to_vec();
    env.push((format!("{upper}_DATABASE_URL"), database.urls.owner.clone()));
    env.push((format!("{upper}_RUNTIME_ROLE"), database.runtime.clone()));
    env.push(("LOG_LEVEL".to_owned(), "error".to_owned()));
    stage.program(service, &["migrate"], env).await?.finished(MIGRATED_WITHIN).await
}

fn settings<const N: usize>(settings: [(&str, String); N]) -> Vec<(String, String)> {
    settings.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

async fn ready(admin_port: u16) -> Result<(), String> {
    let url = format!("http://127.0.0.1:{admin_port}/readyz");
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    if answer.status() == StatusCode::OK {
        return Ok(());
    }
    Err(answer.text().await.unwrap_or_default())
}
