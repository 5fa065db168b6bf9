//! Stand-ins for the outside world, used by `wallet dev`, tests and the load test.
#![doc = include_str!("../README.md")]

mod clock;
mod control;
pub mod faults;
pub mod google;
mod page;
pub mod paystack;
pub mod servers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::{Endpoint, Request, Response};
use primitives::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use clock::Clock;
use faults::{Fault, Faults, Plan, Struck};
use google::Forgery;
use google::model::{Client, Person};
use paystack::Record;
use paystack::deliver::{self, Outbox};
use paystack::journal::Journal;
use paystack::model::{
    Attempt, Claim, Dispute, Model, Refund, RefundStatus, Settings, Totals, Transaction,
    Undisputable, Unpayable, Verdict,
};

/// How long requests in hand may take when the sandbox is told to stop.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// How the sandbox is set up. `..Config::default()` fills in what does not matter.
#[derive(Debug, Clone)]
pub struct Config {
    /// The merchant's secret key: opens the API and signs webhooks.
    pub secret_key: String,
    /// The only place webhooks are sent to; none are sent without it.
    pub webhook_url: Option<String>,
    /// Where a browser reaches the sandbox; by default the listener's own address.
    pub public_url: Option<String>,
    /// Where a browser goes after payment if the transaction names no place.
    pub callback_url: Option<String>,
    /// Name on the checkout page.
    pub merchant: String,
    /// Currencies the merchant may take; the first is the default.
    pub currencies: Vec<String>,
    /// Calls a minute for every scope; by default Paystack's own limits for live keys.
    pub calls_per_minute: Option<u32>,
    /// Whether a test key has a test key's limit: 100 calls a minute for everything together.
    pub strict_limits: bool,
    /// Whether Paystack's fees are added to what the customer pays.
    pub fees_on_customer: bool,
    /// Whether a refund is refused when there is less in the balance.
    pub refunds_need_balance: bool,
    /// Whether webhooks can be asked about and sent again; not every account has that.
    pub lists_webhooks: bool,
    /// How long a refund is `pending`.
    pub refund_pending: Duration,
    /// How long a refund is `processing`.
    pub refund_processing: Duration,
    /// The application that may let people sign in.
    pub google: Client,
    /// File that keeps transactions over a restart; none: they live as long as the sandbox.
    pub journal: Option<PathBuf>,
    /// What made-up codes are drawn from, and faults.
    pub seed: u64,
    /// What faults are drawn from instead.
    pub faults_seed: Option<u64>,
    /// What goes wrong from the start, and again after a reset.
    pub faults: Vec<Plan>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            secret_key: "sk_test_sandbox".to_owned(),
            webhook_url: None,
            public_url: None,
            callback_url: None,
            merchant: "Fast Wallet".to_owned(),
            currencies: ["NGN", "USD", "GHS", "ZAR", "KES", "XOF"].map(str::to_owned).to_vec(),
            calls_per_minute: None,
            strict_limits: false,
            fees_on_customer: false,
            refunds_need_balance: false,
            lists_webhooks: true,
            refund_pending: Duration::from_millis(500),
            refund_processing: Duration::from_secs(1),
            google: Client {
                id: "sandbox.apps.googleusercontent.com".to_owned(),
                secret: "sandbox-client-secret".to_owned(),
                redirect_uris: Vec::new(),
            },
            journal: None,
            seed: 0,
            faults_seed: None,
            faults: Vec::new(),
        }
    }
}

impl Config {
    fn domain(&self) -> &'static str {
        if self.secret_key.starts_with("sk_live_") { "live" } else { "test" }
    }

    fn faults(&self) -> Faults {
        Faults::new(self.faults_seed.unwrap_or(self.seed), self.faults.clone())
    }
}

/// What every request and every delivery shares.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Config,
    clock: Arc<Clock>,
    faults: Mutex<Faults>,
    outbox: Arc<Outbox>,
    paystack: paystack::State,
    google: google::State,
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn domain(&self) -> &'static str {
        self.config.domain()
    }

    fn draw(&self, possible: &[Fault]) -> Struck {
        self.faults().draw(possible)
    }

    fn at_once<T>(&self, act: impl FnOnce(&mut Model, Timestamp) -> T) -> T {
        self.paystack.at_once(self, act)
    }

    fn reset(&self) {
        self.paystack.reset();
        self.google.reset();
        self.outbox.forget();
        *self.faults() = self.config.faults();
    }
}

/// A running sandbox. Dropping it ends it.
///
/// Its methods are what `/control` offers, and more that only tests in this process need.
#[derive(Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
    url: String,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// Starts the sandbox on `listener`: Paystack at `/paystack`, checkout pages at `/checkout`,
/// Google at `/google`, knobs at `/control`.
///
/// # Errors
/// The journal cannot be read, or no key can be made.
pub async fn start(listener: TcpListener, config: Config) -> anyhow::Result<Sandbox> {
    let url = format!("http://{}", listener.local_addr().context("the listener has no address")?);
    let public_url = config.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
    let public_url = public_url.unwrap_or_else(|| url.clone());
    let settings = Settings {
        domain: config.domain(),
        public_url: public_url.clone(),
        currencies: config.currencies.clone(),
        calls_per_minute: config.calls_per_minute,
        strict_limits: config.strict_limits,
        fees_on_customer: config.fees_on_customer,
        refunds_need_balance: config.refunds_need_balance,
        refund_pending: config.refund_pending,
        refund_processing: config.refund_processing,
    };
    let (journal, known) = match &config.journal {
        Some(path) => Journal::open(path).map(|(journal, known)| (Some(journal), known))?,
        None => (None, Vec::new()),
    };
    let clock = Arc::new(Clock::new());
    let (outbox, queue) =
        Outbox::new(config.secret_key.clone(), config.webhook_url.clone(), Arc::clone(&clock));
    let shared = Arc::new(Shared {
        clock,
        faults: Mutex::new(config.faults()),
        outbox: Arc::new(outbox),
        paystack: paystack::State::new(Model::new(settings, config.seed), journal, known),
        google: google::State::new(&public_url, config.google.clone())?,
        config,
    });
    let shutdown = CancellationToken::new();
    let acceptor = TcpAcceptor::from_tokio(listener).context("failed to take the listener")?;
    let server = poem::Server::new_with_acceptor(acceptor);
    let mut tasks = JoinSet::new();
    let (front, stop) = (Front(Arc::clone(&shared)), shutdown.clone());
    tasks.spawn(async move {
        let stop = async move { stop.cancelled().await };
        server.run_with_graceful_shutdown(front, stop, Some(STOP_WAIT)).await?;
        Ok(())
    });
    tasks.spawn(deliver::run(Arc::clone(&shared.outbox), queue));
    tasks.spawn(paystack::run(Arc::clone(&shared)));
    Ok(Sandbox { shared, url, shutdown, tasks })
}

impl Sandbox {
    /// What a Paystack client is given as its base URL.
    #[must_use]
    pub fn paystack_base_url(&self) -> String {
        format!("{}/paystack", self.url)
    }

    /// The OpenID issuer, as its discovery document names it.
    #[must_use]
    pub fn google_issuer(&self) -> String {
        self.shared.google.issuer().to_owned()
    }

    /// Sends webhooks here from now on; for a receiver that starts after the sandbox.
    pub fn set_webhook_url(&self, url: Option<String>) {
        self.shared.outbox.set_url(url);
    }

    /// Makes something go wrong.
    pub fn inject(&self, plan: Plan) {
        self.shared.faults().add(plan);
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// How often each fault has struck since the start, or since the last reset.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<Fault, u64> {
        self.shared.faults().tally().clone()
    }

    /// Does at the checkout what the person does. `name` is a reference or an access code.
    ///
    /// # Errors
    /// There is nothing to pay.
    pub fn pay(&self, name: &str, attempt: Attempt) -> Result<Transaction, Unpayable> {
        let asked = self.transaction(name).ok_or(Unpayable::Unknown)?;
        paystack::pay(&self.shared, &asked.access_code, attempt)
    }

    /// Sends the webhook of a paid transaction once more; false if it is none.
    pub fn resend(&self, name: &str) -> bool {
        paystack::resend(&self.shared, name)
    }

    /// The webhook of a paid transaction, body and signature, for whoever sends it by other means.
    #[must_use]
    pub fn webhook(&self, name: &str) -> Option<(Vec<u8>, String)> {
        paystack::webhook(&self.shared, name)
    }

    /// Sends any body as a webhook, signed with the merchant's key.
    pub fn send_webhook(&self, body: impl Into<Vec<u8>>) {
        let body = body.into();
        let signature = deliver::sign(&self.shared.config.secret_key, &body);
        self.shared.outbox.send_raw(body, signature);
    }

    /// Gives what remains of a payment back at once: `reversed`, and no webhook says so. False if
    /// there was none.
    pub fn reverse(&self, name: &str) -> bool {
        self.at_once(|model, now| model.reverse(name, now).is_some())
    }

    /// Every refund, oldest first.
    #[must_use]
    pub fn refunds(&self) -> Vec<Refund> {
        self.at_once(|model, _| model.refunds().cloned().collect())
    }

    /// Lets the processor decide: the refund's next status, at once. None if it cannot become that.
    pub fn set_refund(&self, id: u64, next: RefundStatus) -> Option<Refund> {
        self.at_once(|model, now| model.set_refund(id, next, now).cloned())
    }

    /// The customer's bank contests a payment. `name` is a reference or an access code.
    ///
    /// # Errors
    /// There is nothing to contest.
    pub fn raise_dispute(&self, name: &str, claim: Claim) -> Result<Dispute, Undisputable> {
        self.at_once(|model, now| model.raise(name, claim, now).cloned())
    }

    /// The bank decides about a claim that the merchant declined; false if none such waits for it.
    pub fn decide_dispute(&self, id: u64, verdict: Verdict) -> bool {
        self.at_once(|model, now| model.decide(id, verdict, now))
    }

    /// Every dispute, oldest first.
    #[must_use]
    pub fn disputes(&self) -> Vec<Dispute> {
        self.at_once(|model, _| model.disputes().cloned().collect())
    }

    /// How many bytes came to the address that was made for this file.
    #[must_use]
    pub fn uploaded(&self, file: &str) -> Option<usize> {
        self.at_once(|model, _| model.uploaded(file))
    }

    /// Pays the whole balance out to the merchant's bank: what refunds cannot be paid from.
    pub fn settle(&self) {
        self.at_once(|model, _| model.settle());
    }

    /// One transaction by its reference or its access code.
    #[must_use]
    pub fn transaction(&self, name: &str) -> Option<Transaction> {
        self.at_once(|model, _| model.find(name).cloned())
    }

    /// From now on Paystack says this of a transaction, as if it had always been so: one that nobody
    /// asked for, or another one in the place of that with the same id. No webhook says so.
    pub fn put(&self, transaction: Transaction) {
        self.at_once(|model, _| model.put(transaction));
    }

    /// Every transaction, oldest first.
    #[must_use]
    pub fn transactions(&self) -> Vec<Transaction> {
        self.at_once(|model, _| model.transactions().cloned().collect())
    }

    /// Per currency what was collected, refunded and lost to disputes, and what is owed.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Totals> {
        self.at_once(|model, _| model.totals())
    }

    /// What was paid and not given back, per currency, in minor units: what the ledger's clearing
    /// account must come to. The same as [`Totals::owed`].
    #[must_use]
    pub fn collected(&self) -> BTreeMap<String, u64> {
        self.at_once(|model, _| model.collected())
    }

    fn at_once<T>(&self, act: impl FnOnce(&mut Model, Timestamp) -> T) -> T {
        self.shared.at_once(act)
    }

    /// What became of the webhooks, oldest first.
    #[must_use]
    pub fn webhooks(&self) -> Vec<Record> {
        self.shared.outbox.records()
    }

    /// Moves the sandbox's clock forward: retries fall due, codes and tokens expire.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// A new key signs id tokens; the old one stays published.
    ///
    /// # Errors
    /// No key can be made.
    pub fn rotate_google_key(&self) -> anyhow::Result<()> {
        self.shared.google.rotate()
    }

    /// The next id token the token endpoint hands out is forged.
    pub fn forge_next_id_token(&self, forgery: Forgery) {
        self.shared.google.forge_next(forgery);
    }

    /// An id token for `person` without any sign-in.
    ///
    /// # Errors
    /// The token cannot be signed.
    pub fn id_token(
        &self,
        person: &Person,
        nonce: Option<&str>,
        forgery: Option<Forgery>,
    ) -> anyhow::Result<String> {
        self.shared.google.id_token(&self.shared, person, nonce, forgery)
    }

    /// Forgets transactions, sign-ins, deliveries and faults.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Resolves when the sandbox has ended by itself, which it should not.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error.context("the sandbox ended"),
            Some(Err(error)) => anyhow::Error::new(error).context("the sandbox ended"),
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("the sandbox ended"),
        }
    }

    /// Finishes the requests in hand; webhooks not delivered yet are lost.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        // The server ends first; deliveries have no end of their own.
        let stopped = tokio::time::timeout(STOP_WAIT * 2, self.tasks.join_next()).await;
        if stopped.is_err() {
            tracing::warn!("the sandbox did not stop in time");
        }
        self.tasks.shutdown().await;
    }
}

/// The one endpoint: sends each request to whom it is for.
#[derive(Debug)]
struct Front(Arc<Shared>);

impl Endpoint for Front {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let shared = &*self.0;
        let path: Vec<String> = request.uri().path().split('/').skip(1).map(decode).collect();
        let response = match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["paystack", ..] => paystack::api(shared, request, rest(&path)).await,
            ["google", ..] => google::provider(shared, request, rest(&path)).await,
            ["control", ..] => control::control(shared, request, rest(&path)).await,
            ["uploads", _, file] => paystack::upload(shared, request, file).await,
            ["checkout", access_code] => paystack::checkout(shared, request, access_code).await,
            [""] => page::says(
                StatusCode::OK,
                "Sandbox",
                "A stand-in for Paystack (/paystack) and Google sign-in (/google).",
            ),
            _ => StatusCode::NOT_FOUND.into(),
        };
        Ok(response)
    }
}

fn rest(path: &[String]) -> &[String] {
    path.get(1..).unwrap_or_default()
}

/// One segment of a path, percent-decoded; `+` stands for itself there.
fn decode(segment: &str) -> String {
    let pair = format!("it={}", segment.replace('+', "%2B").replace('&', "%26"));
    let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
    decoded.map(|(_, value)| value.into_owned()).unwrap_or_default()
}
