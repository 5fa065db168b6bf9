//! A platform of the test's own, the people on it, and the audit at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chassis::Context;
use clap::Parser;
use poem::endpoint::BoxEndpoint;
use poem::{Endpoint, EndpointExt, Request, Response};
use primitives::{AccountId, Currency, KeyId, System};
use proto_events::subjects;
use sandbox::Sandbox;
use sandbox::paystack::model::{Attempt, Outcome};
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Answer, Call, Client, Database, Nats, TestPostgres, eventually};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wallet::platform::Services;

/// How long anything may take; far above the usual time.
pub(crate) const WAIT: Duration = Duration::from_secs(60);
/// What the sandbox signs webhooks with.
pub(crate) const PAYSTACK_KEY: &str = "sk_test_7d1f0c5e9b3a42688c1e5d7f90ab34cd56ef7812";
/// What access tokens are signed with, under the name `test`.
pub(crate) const TOKEN_KEY: [u8; 32] = *b"k7Qz3vN9xR2mT8wL5pD1sF6hJ4gB0yCe";

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    services: Services,
}

/// One of the four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Ledger,
    Keys,
    Payments,
    Api,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Ledger, Self::Keys, Self::Payments, Self::Api];

    fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Keys => "keys",
            Self::Payments => "payments",
            Self::Api => "api",
        }
    }
}

/// A running platform.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) sandbox: Sandbox,
    pub(crate) nats: Nats,
    databases: BTreeMap<Service, Database>,
    services: Services,
    running: BTreeMap<Service, Context>,
    front: Arc<Front>,
    shutdown: CancellationToken,
    origin: String,
    own_postgres: Option<TestPostgres>,
}

/// A person who signed in.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) token: String,
    pub(crate) refresh_token: String,
    pub(crate) wallet_number: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A platform with more settings than the usual, as command-line flags.
    pub(crate) async fn start_with(more: &[&str]) -> Self {
        Self::start_on(testkit::postgres().await, more).await
    }

    /// A platform with a Postgres of its own, which [`World::postgres`] may kill.
    pub(crate) async fn start_alone(more: &[&str]) -> Self {
        let postgres = testkit::own_postgres().await;
        let world = Self::start_on(&postgres, more).await;
        Self { own_postgres: Some(postgres), ..world }
    }

    async fn start_on(postgres: &TestPostgres, more: &[&str]) -> Self {
        let nats = testkit::nats().await;
        let mut databases = BTreeMap::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let sandbox = sandbox::start(outside, imitated(&origin)).await.unwrap();
        let mut flags = flags(&origin, &sandbox);
        for service in Service::ALL {
            let name = service.name();
            let role = format!("{name}_runtime");
            postgres.role(&role).await;
            let database = postgres.database(name, async |url| migrate(service, url).await).await;
            flags.push(format!("--{name}-database-url={}", database.url_as(&role)));
            databases.insert(service, database);
        }
        flags.extend(more.iter().map(|it| (*it).to_owned()));
        let services = Args::parse_from(flags).services;
        for check in services.checks() {
            assert_eq!(check, Ok(()));
        }
        let (front, shutdown) = (Arc::new(Front::default()), CancellationToken::new());
        let endpoint = Arc::clone(&front).map_to_response().boxed();
        testkit::spawn(chassis::http::serve(listener, endpoint, shutdown.clone(), WAIT));
        let mut world = Self {
            client: Client::new(&origin),
            sandbox,
            nats,
            databases,
            services,
            running: BTreeMap::new(),
            front,
            shutdown,
            origin,
            own_postgres: None,
        };
        for service in Service::ALL {
            world.run(service).await;
        }
        world
    }

    /// A second api on the same books with other settings; for wallets in another currency.
    pub(crate) async fn second_api(&self, more: &[&str]) -> Client {
        let mut services = self.services.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let mut flags = flags(&origin, &self.sandbox);
        for service in Service::ALL {
            let name = service.name();
            let url = self.databases[&service].url_as(&format!("{name}_runtime"));
            flags.push(format!("--{name}-database-url={url}"));
        }
        flags.extend(more.iter().map(|it| (*it).to_owned()));
        services.api = Args::parse_from(flags).services.api;
        let context = Context::new(self.nats.client().await, self.shutdown.clone());
        let endpoint = api::start(services.api, &context).await.unwrap();
        testkit::spawn(chassis::http::serve(listener, endpoint, self.shutdown.clone(), WAIT));
        Client::new(origin)
    }

    /// Starts a service that is stopped.
    pub(crate) async fn run(&mut self, service: Service) {
        let context = testkit::context(&self.nats).await;
        let services = self.services.clone();
        match service {
            Service::Ledger => ledger::start(services.ledger, &context).await.unwrap(),
            Service::Keys => keys::start(services.keys, &context).await.unwrap(),
            Service::Payments => {
                let endpoint = payments::start(services.payments, &context).await.unwrap();
                self.front.set(|front| front.payments = Some(Arc::new(endpoint)));
            }
            Service::Api => {
                let endpoint = api::start(services.api, &context).await.unwrap();
                self.front.set(|front| front.api = Some(Arc::new(endpoint)));
            }
        }
        self.running.insert(service, context);
        match service {
            Service::Ledger => self.nats.served(subjects::ledger::GET_BALANCES).await,
            Service::Keys => self.nats.served(subjects::keys::VERIFY_KEY).await,
            Service::Payments => self.nats.served(subjects::payments::GET_DEPOSIT).await,
            Service::Api => {}
        }
    }

    /// Starts payments, which is stopped, with only some of its loops: a deposit comes no further
    /// than they carry it.
    pub(crate) async fn run_payments(&mut self, parts: &[payments::Part]) {
        let context = testkit::context(&self.nats).await;
        let config = self.services.payments.clone();
        let endpoint = payments::start_parts(config, &context, parts).await.unwrap();
        self.front.set(|front| front.payments = Some(Arc::new(endpoint)));
        self.running.insert(Service::Payments, context);
    }

    /// Stops every service and starts it again.
    pub(crate) async fn restart(&mut self) {
        for service in Service::ALL.into_iter().rev() {
            self.stop(service).await;
        }
        for service in Service::ALL {
            self.run(service).await;
        }
    }

    /// The Postgres of a world that has one alone.
    pub(crate) fn postgres(&mut self) -> &mut TestPostgres {
        self.own_postgres.as_mut().expect("this world shares its Postgres")
    }

    /// Stops a service in good order.
    pub(crate) async fn stop(&mut self, service: Service) {
        match service {
            Service::Ledger | Service::Keys => {}
            Service::Payments => self.front.set(|front| front.payments = None),
            Service::Api => self.front.set(|front| front.api = None),
        }
        if let Some(context) = self.running.remove(&service) {
            context.shutdown().cancel();
            assert_eq!(context.drain(WAIT).await, Ok(()), "{service:?} did not stop");
        }
    }

    /// A service's database, as its superuser: for looking and for damage, never for shortcuts.
    pub(crate) fn database(&self, service: Service) -> &PgPool {
        &self.databases[&service].pool
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Signs a person in as a browser does: platform, provider, back with a code.
    pub(crate) async fn person(&self, email: &str) -> Person {
        self.person_at(&self.client, email).await
    }

    /// Signs a person in at another api.
    pub(crate) async fn person_at(&self, client: &Client, email: &str) -> Person {
        let callback = self.callback(client, email).await;
        let session: Value = callback.send().await.ok();
        let token = text(&session, "access_token");
        let me: Value = client.get("/auth/me").bearer(&token).send().await.ok();
        Person {
            refresh_token: text(&session, "refresh_token"),
            wallet_number: text(&me, "wallet_number"),
            token,
        }
    }

    /// Everything of a sign-in but its last step, the call with the provider's code.
    pub(crate) async fn callback(&self, client: &Client, email: &str) -> Call {
        let (cookie, query) = self.come_back(client, email).await;
        client.get(&format!("/auth/google/callback?{query}")).header("cookie", &cookie)
    }

    /// A browser just sent back by the provider: the cookie it kept, and the query it carries.
    pub(crate) async fn come_back(&self, client: &Client, email: &str) -> (String, String) {
        let begun = client.get(&format!("/auth/google?login_hint={email}")).send().await;
        begun.expect(302);
        let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
        let provider = Client::new("");
        let agreed = provider.get(begun.header("location")).send().await;
        let back = agreed.header("location").to_owned();
        let callback = format!("{}/auth/google/callback?", client.origin());
        let query = back.strip_prefix(&callback).unwrap_or_else(|| panic!("{back}"));
        (cookie, query.to_owned())
    }

    /// A person with that much in the wallet, paid at the checkout.
    pub(crate) async fn funded(&self, email: &str, amount: u64) -> Person {
        let person = self.person(email).await;
        let reference = self.deposit(&person, amount).await;
        self.pay(&reference).await;
        self.settled(&person, &reference, "success").await;
        person
    }

    /// Starts a deposit; its reference.
    pub(crate) async fn deposit(&self, person: &Person, amount: u64) -> String {
        // As a caller should: one key, and again while a part of the platform is away.
        let key = primitives::EventId::generate().to_string();
        eventually("a deposit can be started", WAIT, async || {
            let call = self.client.post("/wallet/deposit").bearer(&person.token);
            let call = call.idempotency_key(&key).json(&json!({ "amount": amount }));
            let answer = call.send().await;
            if answer.status == 503 { Err(answer.text()) } else { Ok(answer) }
        })
        .await
        .ok::<Value>()["reference"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Pays at the checkout.
    pub(crate) async fn pay(&self, reference: &str) {
        self.sandbox.pay(reference, Attempt::new(Outcome::Success)).unwrap();
    }

    /// Waits until a deposit has this status.
    pub(crate) async fn settled(&self, person: &Person, reference: &str, status: &str) -> Value {
        let path = format!("/wallet/deposit/{reference}/status");
        eventually(&format!("deposit {reference} is {status}"), WAIT, async || {
            let answer = self.client.get(&path).bearer(&person.token).send().await;
            // A service that has just started is not heard at once.
            if !answer.status.is_success() {
                return Err(answer.text());
            }
            let deposit: Value = answer.ok();
            if text(&deposit, "status") == status { Ok(deposit) } else { Err(deposit.to_string()) }
        })
        .await
    }

    /// The webhook that says that a checkout was paid, as Paystack would write it.
    pub(crate) fn charge(&self, reference: &str) -> Value {
        let asked = self.sandbox.transaction(reference).unwrap();
        json!({
            "event": "charge.success",
            "data": {
                "id": asked.id, "domain": "test", "status": "success", "reference": reference,
                "amount": asked.amount, "requested_amount": asked.requested_amount,
                "currency": asked.currency, "channel": "card", "metadata": null,
            },
        })
    }

    /// The webhooks that wait for a person: event and reason of each, oldest first.
    pub(crate) async fn parked_webhooks(&self) -> Vec<(Option<String>, String)> {
        sqlx::query_as(
            "select event, reason from payments.webhooks where state = 'parked' order by webhook_id",
        )
        .fetch_all(self.database(Service::Payments))
        .await
        .unwrap()
    }

    /// Waits until every webhook that was stored has been looked at; how many there are.
    pub(crate) async fn webhooks_are_read(&self) -> i64 {
        eventually("every webhook is read", WAIT, async || {
            let (n_all, n_new): (i64, i64) = sqlx::query_as(
                "select count(*), count(*) filter (where state = 'new') from payments.webhooks",
            )
            .fetch_one(self.database(Service::Payments))
            .await
            .unwrap();
            if n_new == 0 { Ok(n_all) } else { Err(format!("{n_new} of {n_all} are new")) }
        })
        .await
    }

    /// Sends a body to the webhook's address, signed with Paystack's key.
    pub(crate) async fn webhook(&self, body: &[u8]) -> Answer {
        let signature = testkit::paystack_signature(PAYSTACK_KEY, body);
        self.signed_webhook(body, &signature).await
    }

    /// Sends a body to the webhook's address with any signature.
    pub(crate) async fn signed_webhook(&self, body: &[u8], signature: &str) -> Answer {
        let call = self.client.post("/wallet/paystack/webhook");
        call.header("x-paystack-signature", signature).body("application/json", body).send().await
    }

    /// A key with these permissions, good for an hour.
    pub(crate) async fn key(&self, person: &Person, permissions: &[&str]) -> String {
        let call = self.client.post("/keys/create").bearer(&person.token);
        let body = json!({ "name": "test", "permissions": permissions, "expiry": "1H" });
        text(&call.json(&body).send().await.ok(), "api_key")
    }

    /// Makes a key two hours older than it is, which no release of the service could.
    pub(crate) async fn age_key(&self, id: &str) {
        let mut tx = self.database(Service::Keys).begin().await.unwrap();
        let past_triggers = sqlx::raw_sql("set local session_replication_role = replica");
        past_triggers.execute(&mut *tx).await.unwrap();
        let aged: i64 = sqlx::query_scalar(
            "with aged as (
                update keys.keys
                set created_at = created_at - interval '2 hours',
                    expires_at = expires_at - interval '2 hours'
                where key_id = $1
                returning 1)
             select count(*) from aged",
        )
        .bind(KeyId::parse(id).unwrap().uuid())
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        assert_eq!(aged, 1, "no key {id}");
        tx.commit().await.unwrap();
    }

    pub(crate) async fn balance(&self, person: &Person) -> u64 {
        let call = || self.client.get("/wallet/balance").bearer(&person.token);
        let balance: Value = surely("the balance is read", call).await.ok();
        balance["balance"].as_u64().unwrap()
    }

    /// A transfer, not sent yet.
    pub(crate) fn transfer(&self, from: &Person, to: &Person, amount: u64) -> Call {
        let body = json!({ "recipient_wallet_number": to.wallet_number, "amount": amount });
        self.client.post("/wallet/transfer").bearer(&from.token).json(&body)
    }

    /// Stops everything and audits: the books balance, and the clearing account says exactly what
    /// Paystack collected.
    pub(crate) async fn finish(mut self) {
        for service in Service::ALL {
            if !self.running.contains_key(&service) {
                self.run(service).await;
            }
        }
        self.agree_with_paystack().await;
        for service in Service::ALL.into_iter().rev() {
            self.stop(service).await;
        }
        self.shutdown.cancel();
        let violations = ledger::audit::violations(self.database(Service::Ledger)).await.unwrap();
        assert!(violations.is_empty(), "the books do not balance: {violations:?}");
        // Everything in hand is finished: nothing was credited a second time.
        assert_eq!(self.difference_to_paystack().await, Ok(()));
        self.sandbox.stop().await;
    }

    /// Waits until what Paystack collected has arrived, in a wallet or put aside for a person.
    async fn agree_with_paystack(&self) {
        let look = async || self.difference_to_paystack().await;
        eventually("the clearing account is what Paystack collected", WAIT, look).await;
    }

    async fn difference_to_paystack(&self) -> Result<(), String> {
        for (currency, collected) in &self.sandbox.collected() {
            let cleared = self.cleared(currency).await;
            if cleared != *collected {
                return Err(format!("{currency}: {cleared} cleared, {collected} collected"));
            }
        }
        Ok(())
    }

    /// What the ledger says Paystack owes us.
    async fn cleared(&self, currency: &str) -> u64 {
        let currency = Currency::parse(currency).unwrap();
        let account = AccountId::system(System::PaystackClearing, currency).uuid();
        let owed: i64 = sqlx::query_scalar(
            "select coalesce(sum(case when debit_account_id = $1 then amount_minor
                                      else -amount_minor end), 0)::bigint
             from ledger.transfers
             where $1 in (debit_account_id, credit_account_id)
               and rejection = 0",
        )
        .bind(account)
        .fetch_one(self.database(Service::Ledger))
        .await
        .unwrap();
        u64::try_from(owed).unwrap()
    }
}

/// Asks until there is an answer that is not the weather's.
pub(crate) async fn surely(what: &str, call: impl Fn() -> Call) -> Answer {
    eventually(what, WAIT, async || {
        let answer = call().try_send().await.map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            502..=504 => Err(answer.text()),
            _ => Ok(answer),
        }
    })
    .await
}

/// The text under a name.
pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

fn imitated(origin: &str) -> sandbox::Config {
    sandbox::Config {
        secret_key: PAYSTACK_KEY.to_owned(),
        webhook_url: Some(format!("{origin}/wallet/paystack/webhook")),
        ..sandbox::Config::default()
    }
}

fn flags(origin: &str, sandbox: &Sandbox) -> Vec<String> {
    let google = sandbox::Config::default().google;
    let mut flags = vec!["wallet".to_owned()];
    for (name, value) in [
        ("api-public-url", origin),
        ("api-listen", "127.0.0.1:0"),
        ("api-token-keys", &format!("test:{}", STANDARD.encode(TOKEN_KEY))),
        ("api-allow-test-code", "true"),
        ("oidc-issuer", &sandbox.google_issuer()),
        ("google-client-id", &google.id),
        ("google-client-secret", &google.secret),
        ("ledger-audit-interval-ms", "200"),
        ("payments-listen", "127.0.0.1:0"),
        ("paystack-secret-key", PAYSTACK_KEY),
        ("paystack-base-url", &sandbox.paystack_base_url()),
        ("payments-poll-ms", "50"),
        ("payments-reconcile-first-ms", "500"),
        ("payments-look-pause-ms", "50"),
        ("keys-secret", "b1c4d0a97f3e52688d6a0f9c27e41b35"),
        ("keys-mode", "test"),
    ] {
        flags.push(format!("--{name}={value}"));
    }
    flags
}

/// Migrates one service's template database, as its superuser, for its runtime role.
async fn migrate(service: Service, url: &str) -> anyhow::Result<()> {
    let mut flags = vec!["wallet".to_owned()];
    for name in Service::ALL.map(Service::name) {
        flags.push(format!("--{name}-database-url={url}"));
        flags.push(format!("--{name}-runtime-role={name}_runtime"));
    }
    for rest in [
        "--api-public-url=http://127.0.0.1:1",
        "--keys-secret=b1c4d0a97f3e52688d6a0f9c27e41b35",
        "--keys-mode=test",
        &format!("--paystack-secret-key={PAYSTACK_KEY}"),
    ] {
        flags.push(rest.to_owned());
    }
    let services = Args::parse_from(flags).services;
    match service {
        Service::Ledger => ledger::migrate(services.ledger).await,
        Service::Keys => keys::migrate(services.keys).await,
        Service::Payments => payments::migrate(services.payments).await,
        Service::Api => api::migrate(services.api).await,
    }
}

type Shared = Option<Arc<BoxEndpoint<'static, Response>>>;

/// The origin: it stays while the services behind it come and go.
#[derive(Default)]
struct Front {
    behind: RwLock<Behind>,
}

#[derive(Default, Clone)]
struct Behind {
    api: Shared,
    payments: Shared,
}

impl Front {
    fn set(&self, change: impl FnOnce(&mut Behind)) {
        change(&mut self.behind.write().unwrap());
    }
}

impl Endpoint for Front {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let behind = self.behind.read().unwrap().clone();
        let endpoint = match request.uri().path() {
            "/wallet/paystack/webhook" => behind.payments,
            _ => behind.api,
        };
        match endpoint {
            Some(endpoint) => endpoint.call(request).await,
            None => Ok(poem::http::StatusCode::BAD_GATEWAY.into()),
        }
    }
}
