//! The whole platform in one process of its own, and people on it with wallets and API keys.
//!
//! Google and Paystack are played by the sandbox, in this process; while it is measured nobody
//! talks to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use sandbox::Sandbox;
use sandbox::paystack::model::{Attempt, Outcome};
use sandbox::servers::{Companion, Nats, free_port};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::machine;
use crate::pace::Caller;
use crate::stage::{Database, Stage};

const SERVICES: [&str; 4] = ["api", "ledger", "payments", "keys"];
const CLIENT_ID: &str = "bench-client";
/// What each wallet holds before it is measured: nobody runs dry.
const FUNDS_MINOR: u64 = 500_000_000;
/// People who sign in at a time.
const PEOPLE_AT_A_TIME: usize = 8;
const MIGRATED_WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(30);
const CREDITED_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
/// Far above any figure: what is measured is not the limit.
const RATE_MAX: &str = "1000000";

/// A platform that runs. Fields are dropped in this order.
pub(crate) struct Platform {
    companion: Companion,
    sandbox: Sandbox,
    nats: Nats,
    ledger: Database,
    client: Client,
    origin: Url,
    pub(crate) address: SocketAddr,
    pub(crate) callers: Arc<[Caller]>,
}

impl Platform {
    /// Migrates, starts and waits until it is ready.
    pub(crate) async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let nats = stage.nats("nats-platform").await?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let origin = Url::parse(&format!("http://{address}"))?;
        let secrets = Secrets::generate();
        let outside = TcpListener::bind("127.0.0.1:0").await.context("no port is free")?;
        let sandbox = sandbox::start(outside, imitated(&origin, &secrets)).await?;
        let admin_port = free_port().context("no port is free")?;
        let common = settings(&origin, &secrets, &sandbox);
        let (mut owner, mut runtime) = (common.clone(), common);
        let mut ledger = None;
        for service in SERVICES {
            let database = stage.database(&format!("platform_{service}")).await?;
            let upper = service.to_uppercase();
            owner.push((format!("{upper}_DATABASE_URL"), database.urls.owner.clone()));
            owner.push((format!("{upper}_RUNTIME_ROLE"), database.runtime.clone()));
            runtime.push((format!("{upper}_DATABASE_URL"), database.urls.runtime.clone()));
            if service == "ledger" {
                ledger = Some(database);
            }
        }
        runtime.push(("NATS_URL".to_owned(), nats.url()));
        runtime.push(("ADMIN_ADDRESS".to_owned(), format!("127.0.0.1:{admin_port}")));
        stage.program("wallet", &["migrate"], owner).await?.finished(MIGRATED_WITHIN).await?;
        let companion = stage.program("wallet", &["serve"], runtime).await?;
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(READY_WITHIN)
            .build()
            .context("an HTTP client cannot be made")?;
        companion.ready(READY_WITHIN, async || ready(&client, admin_port).await).await?;
        let ledger = ledger.context("the ledger is one of the services")?;
        let callers = Arc::from([]);
        Ok(Self { companion, sandbox, nats, ledger, client, origin, address, callers })
    }

    /// Signs people in, gives each a key and pays money into each wallet, as they would.
    pub(crate) async fn settle(&mut self, n_people: u32) -> anyhow::Result<()> {
        let this = &*self;
        let people: Vec<Caller> = futures_util::stream::iter(0..n_people)
            .map(|n| this.person(format!("person-{n}@example.com")))
            .buffer_unordered(PEOPLE_AT_A_TIME)
            .try_collect()
            .await?;
        self.callers = people.into();
        Ok(())
    }

    /// What all wallets hold together.
    pub(crate) async fn total(&self) -> anyhow::Result<u64> {
        let balances = futures_util::stream::iter(self.callers.iter()).map(|caller| async {
            let request = self.client.get(self.url("/wallet/balance")?);
            let balance = self.call(request.header("x-api-key", &caller.api_key)).await?;
            let minor = balance.get("balance").and_then(Value::as_u64);
            minor.with_context(|| format!("this is no balance: {balance}"))
        });
        let balances = balances.buffer_unordered(PEOPLE_AT_A_TIME);
        balances.try_fold(0_u64, async |sum, it| Ok(sum.saturating_add(it))).await
    }

    /// Insists that it still runs.
    pub(crate) fn expect_running(&self) -> anyhow::Result<()> {
        ensure!(self.companion.is_running(), self.companion.complaint("has ended by itself"));
        Ok(())
    }

    /// Megabytes of memory that it took at most.
    pub(crate) fn resident_mb(&self) -> Option<f64> {
        self.companion.pid().and_then(machine::resident_mb)
    }

    /// Stops it; what is left are its books.
    pub(crate) async fn stop(self) -> anyhow::Result<Database> {
        self.companion.stop().await?;
        self.sandbox.stop().await;
        self.nats.stop().await?;
        Ok(self.ledger)
    }

    async fn person(&self, email: String) -> anyhow::Result<Caller> {
        let token =
            self.sign_in(&email).await.with_context(|| format!("{email} cannot sign in"))?;
        let me = self.call(self.client.get(self.url("/auth/me")?).bearer_auth(&token)).await?;
        let body = json!({ "name": "bench", "permissions": ["read", "transfer"], "expiry": "1D" });
        let request = self.client.post(self.url("/keys/create")?).bearer_auth(&token);
        let key = self.call(request.json(&body)).await?;
        self.pay_in(&token).await.with_context(|| format!("{email} cannot pay in"))?;
        Ok(Caller { api_key: text(&key, "api_key")?, wallet_number: text(&me, "wallet_number")? })
    }

    /// Goes the way a browser goes: to the platform, to the provider, and back with a code.
    async fn sign_in(&self, email: &str) -> anyhow::Result<String> {
        let mut url = self.url("/auth/google")?;
        url.query_pairs_mut().append_pair("login_hint", email);
        let begun = self.client.get(url).send().await?;
        let cookie = begun.headers().get(SET_COOKIE).context("no cookie was set")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let agreed = self.client.get(next(&begun)?).send().await?;
        let back = self.client.get(next(&agreed)?).header(COOKIE, cookie);
        text(&self.call(back).await?, "access_token")
    }

    async fn pay_in(&self, token: &str) -> anyhow::Result<()> {
        let request = self.client.post(self.url("/wallet/deposit")?).bearer_auth(token);
        let deposit = self.call(request.json(&json!({ "amount": FUNDS_MINOR }))).await?;
        let reference = text(&deposit, "reference")?;
        let paid = self.sandbox.pay(&reference, Attempt::new(Outcome::Success));
        paid.map_err(|error| anyhow!("the checkout takes no payment: {error:?}"))?;
        let path = format!("/wallet/deposit/{reference}/status");
        let credited = async {
            loop {
                let request = self.client.get(self.url(&path)?).bearer_auth(token);
                match text(&self.call(request).await?, "status")?.as_str() {
                    "pending" => tokio::time::sleep(LOOK).await,
                    "success" => return anyhow::Ok(()),
                    other => bail!("the deposit became {other}"),
                }
            }
        };
        tokio::time::timeout(CREDITED_WITHIN, credited).await.context("the deposit is pending")?
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.origin.join(path)?)
    }

    async fn call(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let answer = request.send().await?;
        let (path, status) = (answer.url().path().to_owned(), answer.status());
        let body: Value = answer.json().await.with_context(|| format!("{path} sent no JSON"))?;
        ensure!(status == StatusCode::OK, "{path} was answered {status}: {body}");
        Ok(body)
    }
}

/// Made for this run and never written down.
struct Secrets {
    google: String,
    paystack: String,
    keys: String,
    tokens: String,
}

impl Secrets {
    fn generate() -> Self {
        let random = || hex::encode(rand::random::<[u8; 32]>());
        Self {
            google: random(),
            paystack: format!("sk_test_{}", random()),
            keys: random(),
            tokens: format!("bench:{}", STANDARD.encode(rand::random::<[u8; 32]>())),
        }
    }
}

fn imitated(origin: &Url, secrets: &Secrets) -> sandbox::Config {
    sandbox::Config {
        secret_key: secrets.paystack.clone(),
        webhook_url: origin.join("/wallet/paystack/webhook").ok().map(String::from),
        calls_per_minute: Some(1_000_000),
        google: sandbox::google::model::Client {
            id: CLIENT_ID.to_owned(),
            secret: secrets.google.clone(),
            redirect_uris: Vec::new(),
        },
        ..sandbox::Config::default()
    }
}

fn settings(origin: &Url, secrets: &Secrets, sandbox: &Sandbox) -> Vec<(String, String)> {
    let public_url = origin.origin().ascii_serialization();
    let listen = public_url.trim_start_matches("http://").to_owned();
    let settings = [
        ("WALLET_LISTEN", listen),
        ("API_PUBLIC_URL", public_url),
        ("API_RATE_PER_SECOND", RATE_MAX.to_owned()),
        ("API_RATE_BURST", RATE_MAX.to_owned()),
        ("API_ADDRESS_RATE_PER_SECOND", RATE_MAX.to_owned()),
        ("API_ADDRESS_RATE_BURST", RATE_MAX.to_owned()),
        ("API_TOKEN_KEYS", secrets.tokens.clone()),
        ("OIDC_ISSUER", sandbox.google_issuer()),
        ("GOOGLE_CLIENT_ID", CLIENT_ID.to_owned()),
        ("GOOGLE_CLIENT_SECRET", secrets.google.clone()),
        ("PAYSTACK_SECRET_KEY", secrets.paystack.clone()),
        ("PAYSTACK_BASE_URL", sandbox.paystack_base_url()),
        ("KEYS_SECRET", secrets.keys.clone()),
        ("KEYS_MODE", "test".to_owned()),
        ("LOG_LEVEL", "error".to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

async fn ready(client: &Client, admin_port: u16) -> Result<(), String> {
    let url = format!("http://127.0.0.1:{admin_port}/readyz");
    let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
    if answer.status() == StatusCode::OK {
        return Ok(());
    }
    Err(answer.text().await.unwrap_or_default())
}

fn next(answer: &reqwest::Response) -> anyhow::Result<Url> {
    let location = answer.headers().get(LOCATION);
    let location = location.with_context(|| format!("{} leads nowhere", answer.url()))?;
    Ok(answer.url().join(location.to_str()?)?)
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    let text = value.get(field).and_then(Value::as_str);
    Ok(text.with_context(|| format!("an answer has no {field}"))?.to_owned())
}
