//! `wallet demo`: walks the main job against a running platform, over HTTP only, and prints each
//! step as a person would want to read it.
//!
//! It is a caller like any other: it knows nothing of the platform but its public origin.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use serde_json::{Value, json};

/// How long a paid deposit may take to arrive.
const DEPOSIT_WAIT: Duration = Duration::from_secs(30);
const DEPOSIT_POLL: Duration = Duration::from_millis(200);
/// A browser's patience with redirects while signing in.
const REDIRECTS_MAX: usize = 5;

/// Where the platform answers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The platform's public origin; `http://127.0.0.1:$PORT` unless said otherwise.
    #[arg(long, env = "BASE_URL", value_name = "URL")]
    origin: Option<Url>,
    /// Where the platform listens on this machine.
    #[arg(long, env = "PORT", default_value_t = 8000, hide = true)]
    port: u16,
}

/// Two people, one key, one deposit, one transfer and both histories.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let origin = match args.origin {
        Some(origin) => origin,
        None => Url::parse(&format!("http://127.0.0.1:{}", args.port))?,
    };
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(Duration::from_secs(20))
        .build()?;
    let mut demo = Demo { origin, client, step: 0 };
    demo.walk().await
}

struct Demo {
    origin: Url,
    client: Client,
    step: u32,
}

/// A person who signed in.
struct Person {
    name: String,
    token: String,
    wallet_number: String,
}

impl Demo {
    async fn walk(&mut self) -> anyhow::Result<()> {
        self.greet().await?;
        let ada = self.sign_in("ada@example.com").await?;
        let bola = self.sign_in("bola@example.com").await?;
        let key = self.create_key(&ada).await?;
        self.deposit(&key, &ada, 500_000).await?;
        self.transfer(&key, &bola, 120_000).await?;
        self.history(&ada).await?;
        self.history(&bola).await?;
        self.say("Done. Every amount above is in kobo: 100 kobo are one naira.")
    }

    async fn greet(&mut self) -> anyhow::Result<()> {
        let about = self.call(self.client.get(self.url("/")?)).await.with_context(|| {
            format!("nothing answers at {}; start the platform with `make run` first", self.origin)
        })?;
        self.headline(&format!("The platform at {} answers", self.origin))?;
        self.show(&about)
    }

    /// Goes the way a browser goes: to the platform, to the provider, and back with a code.
    async fn sign_in(&mut self, email: &str) -> anyhow::Result<Person> {
        self.headline(&format!("{email} signs in: GET /auth/google"))?;
        let mut url = self.url("/auth/google")?;
        url.query_pairs_mut().append_pair("login_hint", email);
        let mut cookie = None;
        for _ in 0..REDIRECTS_MAX {
            let mut request = self.client.get(url.clone());
            if let Some(cookie) = cookie.as_deref().filter(|_| url.origin() == self.origin.origin())
            {
                request = request.header(COOKIE, cookie);
            }
            let answer = request.send().await?;
            if let Some(set) = answer.headers().get(SET_COOKIE) {
                cookie = set.to_str()?.split(';').next().map(str::to_owned);
            }
            match answer.headers().get(LOCATION) {
                Some(location) => url = url.join(location.to_str()?)?,
                None => return self.signed_in(read(answer).await?).await,
            }
        }
        bail!("the sign-in went round in circles");
    }

    async fn signed_in(&mut self, session: Value) -> anyhow::Result<Person> {
        let token = text(&session, "access_token")?;
        let me = self.call(self.client.get(self.url("/auth/me")?).bearer_auth(&token)).await?;
        self.show(&me)?;
        Ok(Person { name: text(&me, "name")?, wallet_number: text(&me, "wallet_number")?, token })
    }

    async fn create_key(&mut self, person: &Person) -> anyhow::Result<String> {
        self.headline(&format!(
            "{} makes a key that may read, deposit and transfer for a day: POST /keys/create",
            person.name
        ))?;
        let body = json!({
            "name": "demo", "permissions": ["read", "deposit", "transfer"], "expiry": "1D",
        });
        // A person may have five active keys; the oldest of earlier walks make room.
        self.make_room(person).await?;
        let request = self.client.post(self.url("/keys/create")?).bearer_auth(&person.token);
        let mut created = self.call(request.json(&body)).await?;
        let key = text(&created, "api_key")?;
        if let Some(shown) = created.get_mut("api_key") {
            *shown = Value::from(format!("{}… (shown this once)", key.get(..12).unwrap_or("")));
        }
        self.show(&created)?;
        Ok(key)
    }

    async fn make_room(&self, person: &Person) -> anyhow::Result<()> {
        let list = self.client.get(self.url("/keys/list")?).bearer_auth(&person.token);
        let list = self.call(list).await?;
        let keys = list.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        for key in keys {
            let is_ours = key.get("name") == Some(&json!("demo"));
            if is_ours && key.get("status") == Some(&json!("active")) {
                let path = format!("/keys/{}/revoke", text(&key, "id")?);
                self.call(self.client.post(self.url(&path)?).bearer_auth(&person.token)).await?;
            }
        }
        Ok(())
    }

    async fn deposit(&mut self, key: &str, person: &Person, amount: u64) -> anyhow::Result<()> {
        self.headline(&format!("The key starts a deposit of {amount} kobo: POST /wallet/deposit"))?;
        let request = self.client.post(self.url("/wallet/deposit")?).header("x-api-key", key);
        let deposit = self.call(request.json(&json!({ "amount": amount }))).await?;
        self.show(&deposit)?;

        self.headline(&format!("{} pays at the checkout page", person.name))?;
        let checkout = text(&deposit, "authorization_url")?;
        let paid = self.client.post(&checkout).form(&[("outcome", "success")]).send().await?;
        ensure!(
            paid.status().is_success() || paid.status().is_redirection(),
            "the checkout answered {}",
            paid.status()
        );
        self.say(&format!("POST {checkout} outcome=success → {}", paid.status()))?;

        let reference = text(&deposit, "reference")?;
        self.headline(&format!(
            "Paystack's webhook arrives, the ledger credits the wallet: GET /wallet/deposit/{reference}/status"
        ))?;
        let status = self.settled(key, &reference).await?;
        self.show(&status)?;
        let balance = self.client.get(self.url("/wallet/balance")?).header("x-api-key", key);
        let balance = self.call(balance).await?;
        self.show(&balance)
    }

    async fn settled(&self, key: &str, reference: &str) -> anyhow::Result<Value> {
        let url = self.url(&format!("/wallet/deposit/{reference}/status"))?;
        let settled = async {
            loop {
                let status =
                    self.call(self.client.get(url.clone()).header("x-api-key", key)).await?;
                if text(&status, "status")? != "pending" {
                    return anyhow::Ok(status);
                }
                tokio::time::sleep(DEPOSIT_POLL).await;
            }
        };
        let status = tokio::time::timeout(DEPOSIT_WAIT, settled)
            .await
            .context("the deposit is still pending; see the platform's log")??;
        ensure!(text(&status, "status")? == "success", "the deposit did not succeed: {status}");
        Ok(status)
    }

    async fn transfer(&mut self, key: &str, to: &Person, amount: u64) -> anyhow::Result<()> {
        self.headline(&format!(
            "The key sends {amount} kobo to {}: POST /wallet/transfer with an Idempotency-Key",
            to.name
        ))?;
        let body = json!({
            "recipient_wallet_number": to.wallet_number, "amount": amount, "note": "lunch",
        });
        let idempotency_key = primitives::EventId::generate().to_string();
        let send = || -> anyhow::Result<RequestBuilder> {
            Ok(self
                .client
                .post(self.url("/wallet/transfer")?)
                .header("x-api-key", key)
                .header("Idempotency-Key", &idempotency_key)
                .json(&body))
        };
        let first = self.call(send()?).await?;
        let again = send()?.send().await?;
        let replayed = again.headers().get("Idempotency-Replayed").is_some();
        let again = read(again).await?;
        ensure!(replayed && first == again, "the repeat was not the same answer: {again}");
        self.show(&first)?;
        self.say("Sent again with the same key: the same answer, and no second transfer.")
    }

    async fn history(&mut self, person: &Person) -> anyhow::Result<()> {
        self.headline(&format!("{}'s newest movements: GET /wallet/transactions", person.name))?;
        let mut url = self.url("/wallet/transactions")?;
        url.query_pairs_mut().append_pair("limit", "3");
        let history = self.call(self.client.get(url).bearer_auth(&person.token)).await?;
        let movements = history.get("transactions").and_then(Value::as_array).cloned();
        for movement in movements.unwrap_or_default() {
            let field = |name: &str| match movement.get(name) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => "-".to_owned(),
                Some(other) => other.to_string(),
            };
            self.say(&format!(
                "{:<12} {:>10} {}   balance {:>10}   with {:<13}   {}",
                field("type"),
                field("amount"),
                field("currency"),
                field("balance_after"),
                field("counterparty_wallet"),
                field("created_at"),
            ))?;
        }
        Ok(())
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.origin.join(path)?)
    }

    async fn call(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        read(request.send().await?).await
    }

    fn headline(&mut self, text: &str) -> anyhow::Result<()> {
        self.step = self.step.saturating_add(1);
        writeln!(std::io::stdout(), "\n{}. {text}", self.step)?;
        Ok(())
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "   {text}")?;
        Ok(())
    }

    fn show(&self, value: &Value) -> anyhow::Result<()> {
        for line in serde_json::to_string_pretty(value)?.lines() {
            self.say(line)?;
        }
        Ok(())
    }
}

/// The answer's JSON; a problem becomes an error that says its code and detail.
async fn read(answer: reqwest::Response) -> anyhow::Result<Value> {
    let (path, status) = (answer.url().path().to_owned(), answer.status());
    let body: Value = answer.json().await.with_context(|| format!("{path} sent no JSON"))?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    let field = |name| body.get(name).and_then(Value::as_str).unwrap_or("-");
    bail!("{path} answered {status}, {}: {}", field("code"), field("detail"))
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    let text = value.get(field).and_then(Value::as_str);
    Ok(text.with_context(|| format!("the answer has no {field}"))?.to_owned())
}
