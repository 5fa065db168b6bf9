//! A whole api with a hostile provider, and stand-ins for the two services it asks here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bus::follow::Reply;
use chassis::Context;
use clap::Parser;
use futures_util::StreamExt as _;
use primitives::{KeyId, UserId};
use prost::Message as _;
use proto_events::convert::WireId as _;
use proto_events::keys::v1::{Permission, Verified, VerifyRefusal};
use proto_events::ledger::v1::Outcome;
use proto_events::subjects;
use serde_json::Value;
use testkit::{Answer as HttpAnswer, Client, Database, Nats};
use tokio::net::TcpListener;
use url::Url;

use super::provider::{self, Answer, Provider};

/// The first signing key of every replica of these tests.
pub(crate) const FIRST_KEY: &str = "k1:Jm1sCqk2uVb0zq3m8yB4cXo7e5T9hWnR6fLdPaGvKxE=";
/// The one it is replaced by.
pub(crate) const SECOND_KEY: &str = "k2:4nYw0pZr8sQh2tXv6kMb1jLc9dFg3aUe5iOq7oRyTzA";
/// Who issues and takes access tokens.
pub(crate) const PUBLIC_URL: &str = "http://wallet.test";
/// May be returned to.
pub(crate) const APP_ORIGIN: &str = "https://app.test";
/// An issuer that is never asked.
const NOBODY: &str = "http://127.0.0.1:9/op";
/// Far above what anything here takes.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    api: api::Config,
}

/// One replica of the api.
pub(crate) struct Replica {
    /// Talks to it.
    pub(crate) client: Client,
    /// What it runs in.
    pub(crate) context: Context,
    server: tokio::task::JoinHandle<anyhow::Result<()>>,
}

/// What the stand-in for the ledger does, and has done.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Answers nobody.
    pub(crate) is_away: AtomicBool,
    /// How many commands came.
    pub(crate) n_opened: AtomicU32,
}

/// Everything a test of signing in needs.
pub(crate) struct Stage {
    /// Says whatever the test wants.
    pub(crate) provider: Provider,
    /// Opens accounts.
    pub(crate) ledger: Arc<Ledger>,
    /// The first replica.
    pub(crate) replica: Replica,
    /// What it keeps.
    pub(crate) database: Database,
    /// Between them.
    pub(crate) nats: Nats,
}

/// A browser on its way through the provider.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    /// Sent to the provider.
    pub(crate) state: String,
    /// Sent to the provider.
    pub(crate) nonce: String,
    /// Sent to the provider.
    pub(crate) challenge: String,
    /// Kept by the browser: `name=value`.
    pub(crate) cookie: String,
    /// The whole redirect.
    pub(crate) url: Url,
    /// The whole answer.
    pub(crate) answer: HttpAnswer,
}

impl Stage {
    /// An api as a laptop has it, except for `settings`.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let postgres = testkit::postgres().await;
        let database = postgres
            .database("api_auth", async |url| api::migrate(config(url, NOBODY, &[])).await)
            .await;
        let nats = testkit::nats().await;
        let provider = Provider::start().await;
        let ledger = Arc::new(Ledger::default());
        let context = testkit::context(&nats).await;
        stand_in_for_ledger(&context, Arc::clone(&ledger)).await;
        let config = config(&database.url, &provider.issuer, settings);
        let replica = Replica::start(config, context).await;
        Self { provider, ledger, replica, database, nats }
    }

    /// Another replica on the same database.
    pub(crate) async fn replica(&self, settings: &[(&str, &str)]) -> Replica {
        let config = config(&self.database.url, &self.provider.issuer, settings);
        Replica::start(config, testkit::context(&self.nats).await).await
    }

    /// The first replica's client.
    pub(crate) fn client(&self) -> &Client {
        &self.replica.client
    }

    /// Leaves for the provider.
    pub(crate) async fn begin(&self, query: &str) -> Walk {
        let answer = self.client().get(&format!("/auth/google{query}")).send().await;
        answer.expect(302);
        let url = Url::parse(answer.header("location")).unwrap();
        let of = |name: &str| {
            url.query_pairs().find(|(it, _)| it == name).map(|(_, it)| it.into_owned()).unwrap()
        };
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        let (state, nonce, challenge) = (of("state"), of("nonce"), of("code_challenge"));
        Walk { state, nonce, challenge, cookie, url, answer }
    }

    /// Has the provider answer `code` with a token of these claims, signed as it should be.
    pub(crate) fn vouch(&self, walk: &Walk, code: &str, claims: &Value) {
        self.answer(walk, code, self.provider.key.sign(claims));
    }

    /// Has the provider answer `code` with this ID token.
    pub(crate) fn answer(&self, walk: &Walk, code: &str, id_token: String) {
        let challenge = walk.challenge.clone();
        self.provider.answer(code, Answer::Token { id_token, challenge });
    }

    /// Comes back from the provider.
    pub(crate) async fn finish(&self, walk: &Walk, code: &str) -> HttpAnswer {
        let path = format!("/auth/google/callback?code={code}&state={}", walk.state);
        self.client().get(&path).header("cookie", &walk.cookie).send().await
    }

    /// Walks the whole way as a person with these claims changed.
    pub(crate) async fn walk(&self, subject: &str, changes: &Value) -> HttpAnswer {
        let walk = self.begin("").await;
        let mut claims = self.provider.claims(subject, &walk.nonce);
        for (field, value) in changes.as_object().unwrap() {
            claims[field] = value.clone();
        }
        let code = format!("code-{}", walk.state);
        self.vouch(&walk, &code, &claims);
        self.finish(&walk, &code).await
    }

    /// Signs a person in.
    pub(crate) async fn sign_in(&self, subject: &str) -> Value {
        self.walk(subject, &serde_json::json!({})).await.ok()
    }

    /// One number out of the database.
    pub(crate) async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Does to the database what our code never would.
    pub(crate) async fn meddle(&self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statement).execute(&self.database.pool).await.map(drop)
    }

    /// Stops everything and insists that it stops well.
    pub(crate) async fn end(self) {
        self.replica.end().await;
    }
}

impl Replica {
    async fn start(config: api::Config, context: Context) -> Self {
        let endpoint = api::start(config, &context).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
        let serving = chassis::http::serve(listener, endpoint, context.shutdown(), BOUND);

        let server = testkit::spawn(serving);
        Self { client, context, server }
    }

    /// Stops it and insists that it stops well.
    pub(crate) async fn end(self) {
        self.context.shutdown().cancel();
        self.server.await.unwrap().unwrap();
        assert_eq!(self.context.drain(BOUND).await, Ok(()));
    }
}

fn config(database_url: &str, issuer: &str, settings: &[(&str, &str)]) -> api::Config {
    let usual = [
        ("--api-database-url", database_url),
        ("--api-public-url", PUBLIC_URL),
        ("--api-allowed-origins", APP_ORIGIN),
        ("--oidc-issuer", issuer),
        ("--google-client-id", provider::CLIENT_ID),
        ("--google-client-secret", provider::CLIENT_SECRET),
        ("--api-token-keys", FIRST_KEY),
        // Every browser of these tests has the same address.
        ("--api-address-rate-per-second", "10000"),
        ("--api-address-rate-burst", "10000"),
    ];
    let usual = usual.iter().filter(|(name, _)| settings.iter().all(|(it, _)| it != name));
    let all = usual.chain(settings).flat_map(|(name, value)| [*name, *value]);
    Args::try_parse_from(std::iter::once("api").chain(all)).unwrap().api
}

/// A subscription that the server knows of: it has taken something that was sent after it.
pub(crate) async fn subscribe(
    client: &async_nats::Client,
    subject: &'static str,
) -> async_nats::Subscriber {
    let subscriber = client.subscribe(subject).await.unwrap();
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    echo.next().await.unwrap();
    subscriber
}

/// Opens every account it is asked for, as the ledger does after its commit.
async fn stand_in_for_ledger(context: &Context, ledger: Arc<Ledger>) {
    let client = context.nats();
    let mut commands = subscribe(&client, subjects::ledger::OPEN_ACCOUNT).await;
    let shutdown = context.shutdown();
    context.spawn("ledger stand-in", async move {
        while let Some(Some(command)) = shutdown.run_until_cancelled(commands.next()).await {
            ledger.n_opened.fetch_add(1, Ordering::SeqCst);
            if ledger.is_away.load(Ordering::SeqCst) {
                continue;
            }
            let headers = command.headers.unwrap();
            let to = Reply::from_text(headers.get("Wallet-Reply").unwrap().as_str()).unwrap();
            bus::reply::send(&client, &to, Outcome::default().encode_to_vec()).await;
        }
        Ok(())
    });
}

/// Says of every key that it is good for reading, and this person's.
pub(crate) async fn stand_in_for_keys(context: &Context, user: UserId) {
    let verified = Verified {
        refusal: VerifyRefusal::Unspecified.into(),
        key_id: KeyId::generate().to_bytes(),
        user_id: user.to_bytes(),
        permissions: vec![Permission::Read.into()],
        expires_at_us: i64::MAX,
    };
    let client = context.nats();
    let mut questions = subscribe(&client, subjects::keys::VERIFY_KEY).await;
    let shutdown = context.shutdown();
    context.spawn("keys stand-in", async move {
        while let Some(Some(question)) = shutdown.run_until_cancelled(questions.next()).await {
            let to = question.reply.unwrap();
            client.publish(to, verified.encode_to_vec().into()).await?;
        }
        Ok(())
    });
}
