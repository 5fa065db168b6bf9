//! Everything around the service, the service itself, and the audit on the way out.
//!
//! The service runs in a runtime of its own, so that a test can end it as `kill -9` would: every task
//! stops where it waits, nothing is finished, nothing is said goodbye to.

use std::net::SocketAddr;
use std::time::Duration;

use bus::ask::Asker;
use chassis::{Configure as _, Context};
use clap::Parser;
use ledger_core::Action;
use payments::{Config, Part, WEBHOOK_PATH};
use primitives::{AccountId, Currency, DepositId, System, Timestamp};
use proto_events::convert::WireId as _;
use proto_events::payments::v1::{self as wire, DepositStarted, StartDeposit};
use proto_events::subjects;
use reqwest::{Method, StatusCode};
use sandbox::Sandbox;
use sandbox::paystack::model::{Attempt, Outcome};
use serde_json::Value;
use sqlx::PgPool;
use testkit::{Database, Nats, eventually};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::store::{self, Stored, StoredReturn};

/// Our key with the sandbox's Paystack.
pub(crate) const KEY: &str = "sk_test_0123456789abcdef0123456789abcdef01234567";
/// For what must come: far above the usual time.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// How long a caller waits.
const WAIT: Duration = Duration::from_secs(20);

/// The world of one test.
pub(crate) struct World {
    // Dropped in this order: the service, its neighbours, the servers.
    service: Option<Service>,
    pub(crate) config: Config,
    pub(crate) asker: Asker,
    http: reqwest::Client,
    pub(crate) ledger: Ledger,
    pub(crate) sandbox: Sandbox,
    neighbours: Context,
    pub(crate) database: Database,
    _ledger_database: Database,
    pub(crate) nats: Nats,
}

/// A running service.
pub(crate) struct Service {
    runtime: Option<Runtime>,
    context: Context,
    address: SocketAddr,
}

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    config: Config,
}

/// Settings as they are by default, but for the places and the pace: fast wherever a test waits, and
/// so slow wherever nothing should happen by itself that it does not.
fn config(database_url: &str, base_url: &str, key: &str) -> Config {
    let args = ["x", "--payments-database-url", database_url, "--paystack-secret-key", key];
    let base = ["--paystack-base-url", base_url];
    let mut config = Args::parse_from(args.into_iter().chain(base)).config;
    config.database_connections_max = 12;
    config.pace.poll_ms = 20;
    config.pace.lease_ms = 3_000;
    config.pace.provider_connect_timeout_ms = 2_000;
    config.pace.provider_timeout_ms = 2_500;
    config.pace.ledger_wait_ms = 1_500;
    config.pace.circuit_pause_ms = 50;
    config.pace.confirm_first_ms = 50;
    config.pace.return_first_ms = 50;
    config.pace.refund_settle_ms = 3_000;
    config
}

/// What somebody asks for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) deposit_id: DepositId,
    pub(crate) account_id: AccountId,
    pub(crate) amount_minor: u64,
    pub(crate) currency: &'static str,
    pub(crate) email: &'static str,
    pub(crate) callback_url: &'static str,
    pub(crate) request_key: Option<[u8; 32]>,
    pub(crate) request_digest: [u8; 32],
    pub(crate) deadline_at_us: i64,
}

impl Ask {
    pub(crate) fn of(account_id: AccountId) -> Self {
        Self {
            deposit_id: DepositId::generate(),
            account_id,
            amount_minor: 5_000,
            currency: "NGN",
            email: "ada@example.com",
            callback_url: "",
            request_key: None,
            request_digest: [7; 32],
            deadline_at_us: Timestamp::now().plus(WAIT).micros(),
        }
    }

    pub(crate) fn keyed(account_id: AccountId, key: u8) -> Self {
        Self { request_key: Some([key; 32]), ..Self::of(account_id) }
    }

    pub(crate) fn wire(&self) -> StartDeposit {
        StartDeposit {
            deposit_id: self.deposit_id.to_bytes(),
            account_id: self.account_id.to_bytes(),
            email: self.email.to_owned(),
            amount_minor: self.amount_minor,
            currency: self.currency.to_owned(),
            callback_url: self.callback_url.to_owned(),
            request_key: self.request_key.map(|it| it.to_vec().into()).unwrap_or_default(),
            request_digest: self.request_digest.to_vec().into(),
            deadline_at_us: self.deadline_at_us,
        }
    }
}

impl World {
    /// Everything but the service.
    pub(crate) async fn new() -> Self {
        Self::with_sandbox(sandbox::Config::default()).await
    }

    /// As [`World::new`], with a sandbox of another kind.
    pub(crate) async fn with_sandbox(sandbox_config: sandbox::Config) -> Self {
        Self::with_key(KEY, sandbox_config).await
    }

    /// As [`World::with_sandbox`], with another key with Paystack.
    pub(crate) async fn with_key(key: &str, sandbox_config: sandbox::Config) -> Self {
        let postgres = testkit::postgres().await;
        let database = postgres
            .database("payments", async |url| payments::migrate(config(url, "http://x", KEY)).await)
            .await;
        let ledger_database = postgres
            .database("bus", async |url| chassis::postgres::migrate(url, &[&bus::MIGRATOR]).await)
            .await;
        let nats = testkit::nats().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sandbox_config = sandbox::Config { secret_key: key.to_owned(), ..sandbox_config };
        let sandbox = sandbox::start(listener, sandbox_config).await.unwrap();
        let ledger = Ledger::new();
        let neighbours = testkit::context(&nats).await;
        let following = bus::follow::run(
            Ledger::FOLLOW,
            ledger_database.pool.clone(),
            neighbours.nats(),
            neighbours.shutdown(),
            ledger.clone(),
        );
        neighbours.spawn("ledger", async move { Ok(following.await?) });
        let answering = ledger.clone().answer(neighbours.nats(), neighbours.shutdown());
        neighbours.spawn("ledger answers", answering);
        Self {
            service: None,
            config: config(&database.url, &sandbox.paystack_base_url(), key),
            asker: Asker::new(neighbours.nats()),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            ledger,
            sandbox,
            neighbours,
            database,
            _ledger_database: ledger_database,
            nats,
        }
    }

    /// Everything, with the service running.
    pub(crate) async fn started() -> Self {
        let mut world = Self::new().await;
        world.start().await;
        world
    }

    /// Starts the whole service.
    pub(crate) async fn start(&mut self) {
        self.start_parts(&Part::ALL).await;
    }

    /// Starts some loops of the service, and its door for webhooks.
    pub(crate) async fn start_parts(&mut self, parts: &[Part]) {
        assert!(self.service.is_none(), "one at a time");
        self.service = Some(self.run(parts).await);
        self.sandbox.set_webhook_url(Some(self.webhook_url()));
        if parts.contains(&Part::Answer) {
            // Its subscription is made by its loop, a moment after the start.
            eventually("an answer", BOUND, async || match self.look(AccountId::NOBODY, "").await {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            })
            .await;
        }
    }

    /// A second process of the same service.
    pub(crate) async fn replica(&self) -> Service {
        self.run(&Part::ALL).await
    }

    async fn run(&self, parts: &[Part]) -> Service {
        self.config.check().expect("the settings are good");
        let (config, url, parts) = (self.config.clone(), self.nats.url.clone(), parts.to_vec());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (told, hears) = oneshot::channel();
        drop(runtime.spawn(async move {
            let nats = chassis::nats::connect(&url, "payments").await.unwrap();
            let context = Context::new(nats, CancellationToken::new());
            let endpoint = payments::start_parts(config, &context, &parts).await.unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let shutdown = context.shutdown();
            context.spawn("http", async move {
                chassis::http::serve(listener, endpoint, shutdown, Duration::from_secs(2)).await
            });
            told.send((context, address)).ok();
        }));
        let (context, address) = hears.await.expect("the service starts");
        Service { runtime: Some(runtime), context, address }
    }

    /// Ends the service as `kill -9` does.
    pub(crate) fn crash(&mut self) {
        let mut service = self.service.take().expect("it runs");
        service.runtime.take().expect("it has a runtime").shutdown_background();
    }

    /// Ends the service in order.
    pub(crate) async fn stop(&mut self) {
        self.service.take().expect("it runs").stop().await;
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.service.as_ref().expect("it runs").address
    }

    pub(crate) fn webhook_url(&self) -> String {
        format!("{}{WEBHOOK_PATH}", self.origin())
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.database.pool
    }

    /// Asks for a checkout.
    pub(crate) async fn ask(&self, ask: &Ask) -> DepositStarted {
        self.asker
            .command(subjects::payments::START_DEPOSIT, &ask.wire(), WAIT)
            .await
            .expect("an answer")
    }

    /// A new wallet with a checkout, in the usual way.
    pub(crate) async fn checkout(&self) -> (AccountId, DepositStarted) {
        let account_id = self.ledger.open();
        let started = self.ask(&Ask::of(account_id)).await;
        assert_eq!(started.refusal, 0, "{started:?}");
        (account_id, started)
    }

    /// What the owner sees.
    pub(crate) async fn status(&self, account_id: AccountId, reference: &str) -> wire::Deposit {
        self.look(account_id, reference).await.unwrap()
    }

    async fn look(
        &self,
        account_id: AccountId,
        reference: &str,
    ) -> Result<wire::Deposit, bus::ask::Error> {
        let query =
            wire::GetDeposit { account_id: account_id.to_bytes(), reference: reference.to_owned() };
        self.asker.query(subjects::payments::GET_DEPOSIT, &query, WAIT).await
    }

    /// Pays at the sandbox's checkout.
    pub(crate) fn pay(&self, reference: &str) {
        self.sandbox.pay(reference, Attempt::new(Outcome::Success)).expect("it can be paid");
    }

    /// Waits until the only deposit is in this state.
    pub(crate) async fn until(&self, state: &str) -> Stored {
        eventually(state, BOUND, async || {
            let all = store::deposits(self.pool()).await;
            match all.as_slice() {
                [deposit] if deposit.state == state => Ok(deposit.clone()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until every stored webhook has been looked at.
    pub(crate) async fn until_inbox_is_empty(&self) -> Vec<store::Webhook> {
        eventually("an empty inbox", BOUND, async || {
            let all = store::webhooks(self.pool()).await;
            if all.iter().all(|it| it.state != "new") { Ok(all) } else { Err(format!("{all:?}")) }
        })
        .await
    }

    /// Sends a webhook with our signature.
    pub(crate) async fn post(&self, body: &[u8]) -> StatusCode {
        self.post_signed(body, &testkit::paystack_signature(KEY, body)).await
    }

    /// Sends a webhook with any signature.
    pub(crate) async fn post_signed(&self, body: &[u8], signature: &str) -> StatusCode {
        self.http
            .post(self.webhook_url())
            .header("x-paystack-signature", signature)
            .header("content-type", "application/json")
            .body(body.to_vec())
            .send()
            .await
            .unwrap()
            .status()
    }

    /// Calls Paystack as its dashboard does, behind our back; says what it answered.
    pub(crate) async fn call_paystack(&self, method: Method, path: &str, body: &Value) -> Value {
        let url = format!("{}/{path}", self.sandbox.paystack_base_url());
        let sent = self.http.request(method, url).bearer_auth(KEY).json(body).send().await.unwrap();
        let (status, text) = (sent.status(), sent.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until what was paid and not credited is on the suspense account.
    pub(crate) async fn until_put_aside(&self) {
        eventually("suspense", BOUND, async || {
            let all = store::deposits(self.pool()).await;
            let is_aside = all.iter().all(|it| it.suspense == "held");
            if is_aside { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
    }

    /// Stops everything in order and compares deposits, books and Paystack's own record.
    pub(crate) async fn finish(mut self) {
        if self.service.is_some() {
            self.stop().await;
        }
        self.neighbours.shutdown().cancel();
        assert_eq!(self.neighbours.drain(BOUND).await, Ok(()));
        self.audit().await;
        self.sandbox.stop().await;
        // Held until here: its connections end with it.
        drop(self.database);
    }

    async fn audit(&self) {
        let posted = self.ledger.posted();
        let deposits = store::deposits(&self.database.pool).await;
        let returns = store::returns(&self.database.pool).await;
        for transfer in &posted {
            let reference = transfer.reference.as_str();
            let of_it: Vec<_> = deposits
                .iter()
                .filter(|it| it.paid_reference.as_deref() == Some(reference))
                .collect();
            let [deposit] = of_it.as_slice() else { panic!("{transfer:?} is of no deposit") };
            let paid = self.sandbox.transaction(reference).expect("Paystack knows it");
            assert!(paid.status.is_paid(), "nobody paid {reference}");
            let moves_back = match transfer.action {
                Action::Internal(of) => of.credit_account_id == clearing(of.currency),
                Action::Hold { .. } | Action::Capture { .. } | Action::Release { .. } => true,
                Action::Wallet(_)
                | Action::Deposit(_)
                | Action::Expire { .. }
                | Action::Reverse { .. } => false,
            };
            if moves_back && !returns.is_empty() {
                continue;
            }
            let of = transfer.action.of().expect("it says what it moves");
            // Nothing but what was paid, as a whole, in the currency it was paid in.
            assert_eq!(
                (of.amount.minor(), of.currency.as_str()),
                (paid.amount, paid.currency.as_str()),
                "{transfer:?}"
            );
            if matches!(transfer.action, Action::Deposit(_)) {
                assert!(["credited", "crediting"].contains(&&*deposit.state), "{deposit:?}");
                assert_eq!(deposit.account_id, of.credit_account_id.uuid());
                let is_as_asked = deposit.amount_minor == of.amount.to_i64();
                assert!(is_as_asked || deposit.n_accepted > 0, "{deposit:?}");
            }
        }
        for deposit in deposits.iter().filter(|it| it.state == "credited") {
            let n_posted = posted
                .iter()
                .filter(|it| matches!(it.action, Action::Deposit(_)))
                .filter(|it| Some(it.reference.as_str()) == deposit.paid_reference.as_deref())
                .count();
            assert_eq!(n_posted, 1, "{deposit:?}");
            assert!(!deposit.is_due, "{deposit:?}");
        }
        self.audit_clearing(&deposits, &returns);
    }

    /// What Paystack owes us by the books is what it collected of the deposits that got so far, less
    /// what it gave back.
    fn audit_clearing(&self, deposits: &[Stored], returns: &[StoredReturn]) {
        for currency in [Currency::NGN, Currency::USD] {
            let collected: i64 = deposits
                .iter()
                .filter(|it| it.state == "credited" || ["held", "left"].contains(&&*it.suspense))
                .filter_map(|it| self.sandbox.transaction(it.paid_reference.as_deref()?))
                .filter(|it| it.currency == currency.as_str())
                .map(|it| i64::try_from(it.amount).expect("a sum"))
                .sum();
            let returned: i64 = returns
                .iter()
                .filter(|it| it.state == "returned" && it.currency == currency.as_str())
                .filter_map(|it| it.taken_minor)
                .sum();
            let is_unsure =
                deposits.iter().any(|it| it.state == "crediting" || it.suspense == "owed")
                    || returns.iter().any(|it| it.state == "taking");
            let found = self.ledger.balance(clearing(currency));
            assert!(is_unsure || found == returned - collected, "{currency}: {found}");
        }
    }
}

fn clearing(currency: Currency) -> AccountId {
    AccountId::system(System::PaystackClearing, currency)
}

impl Service {
    /// Nothing has failed, and everything in hand is finished.
    pub(crate) async fn stop(mut self) {
        for (what, said) in self.context.readiness().await {
            assert_eq!(said.map(drop), Ok(()), "{what}");
        }
        self.context.shutdown().cancel();
        assert_eq!(self.context.drain(BOUND).await, Ok(()));
        self.runtime.take().expect("it has a runtime").shutdown_background();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
