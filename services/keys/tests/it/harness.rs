//! A running keys service, commands to send it, and an audit of what it leaves behind.

use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::ask::Asker;
use chassis::Context;
use keys::key::{ApiKey, Mode};
use primitives::{KeyId, Timestamp, UserId};
use proto_events::convert::WireId;
use proto_events::keys::v1 as wire;
use proto_events::keys::v1::command::Body;
use proto_events::subjects;
use sqlx::{AssertSqlSafe, Row};

pub(crate) const SECRET: &str = "b3cf0d1e7a5249688790a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6";
pub(crate) const NEXT_SECRET: &str =
    "5e4d3c2b1a0f9e8d7c6b5a493827160f5e4d3c2b1a0f9e8d7c6b5a4938271605";
/// How long a test waits for an answer; the machine may be busy.
const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct Harness {
    pub(crate) nats: testkit::Nats,
    pub(crate) database: testkit::Database,
    pub(crate) config: keys::Config,
    context: Context,
    asker: Asker,
    shown: Mutex<Vec<String>>,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        let database = testkit::postgres().await.database("keys", migrate).await;
        let config = config(&database.url);
        Self::start_with(database, config).await
    }

    /// Starts as it runs in production: as a role that owns nothing.
    pub(crate) async fn start_as(role: &str) -> Self {
        let postgres = testkit::postgres().await;
        postgres.role(role).await;
        let migrate = async |url: &str| {
            let runtime_role = Some(role.to_owned());
            keys::migrate(keys::Config { runtime_role, ..config(url) }).await
        };
        let database = postgres.database("keys_as_a_role", migrate).await;
        let config = config(&database.url_as(role));
        Self::start_with(database, config).await
    }

    async fn start_with(database: testkit::Database, config: keys::Config) -> Self {
        let nats = testkit::nats().await;
        let context = testkit::context(&nats).await;
        keys::start(config.clone(), &context).await.unwrap();
        let asker = Asker::new(context.nats());
        let it = Self { nats, database, config, context, asker, shown: Mutex::default() };
        it.answering().await;
        it
    }

    /// Waits until both questions find somebody to answer them.
    async fn answering(&self) {
        testkit::eventually("the service answers", WAIT, async || {
            let verify = wire::VerifyKey { digest: vec![0; 32].into() };
            let list = wire::ListKeys { user_id: UserId::generate().to_bytes() };
            let verified: Result<wire::Verified, _> =
                self.asker.query(subjects::keys::VERIFY_KEY, &verify, WAIT).await;
            let listed: Result<wire::Keys, _> =
                self.asker.query(subjects::keys::LIST_KEYS, &list, WAIT).await;
            verified.map_err(|it| it.to_string())?;
            listed.map_err(|it| it.to_string())?;
            Ok(())
        })
        .await;
    }

    /// Stops in an orderly way: what is in hand is finished, what was used is saved.
    pub(crate) async fn stop(&self) {
        self.context.shutdown().cancel();
        self.context.drain(WAIT).await.unwrap();
    }

    /// Starts again, with whatever `self.config` says by then.
    pub(crate) async fn start_again(&mut self) {
        self.context = testkit::context(&self.nats).await;
        keys::start(self.config.clone(), &self.context).await.unwrap();
        self.asker = Asker::new(self.context.nats());
        self.answering().await;
    }

    pub(crate) fn nats_client(&self) -> async_nats::Client {
        self.context.nats()
    }

    pub(crate) async fn ask(&self, command: &wire::Command) -> wire::Outcome {
        let subject = subject(command);
        let outcome: wire::Outcome = self.asker.command(subject, command, WAIT).await.unwrap();
        if !outcome.api_key.is_empty() {
            self.shown.lock().unwrap().push(outcome.api_key.clone());
        }
        outcome
    }

    pub(crate) async fn verify(&self, api_key: &str) -> wire::Verified {
        let digest = ApiKey::parse(api_key).unwrap().digest().0.to_vec().into();
        self.query(subjects::keys::VERIFY_KEY, &wire::VerifyKey { digest }).await
    }

    pub(crate) async fn list(&self, user_id: UserId) -> Vec<wire::Key> {
        let query = wire::ListKeys { user_id: user_id.to_bytes() };
        self.query::<wire::Keys>(subjects::keys::LIST_KEYS, &query).await.keys
    }

    async fn query<R: prost::Message + Default>(
        &self,
        subject: &'static str,
        query: &impl prost::Message,
    ) -> R {
        self.asker.query(subject, query, WAIT).await.unwrap()
    }

    /// Makes a key that has been there for `hours` already.
    pub(crate) async fn aged_key(
        &self,
        user_id: UserId,
        expiry: wire::Expiry,
        hours: i32,
    ) -> wire::Outcome {
        let made = self.ask(&create(user_id, "aged", &[wire::Permission::Read], expiry)).await;
        assert_eq!(refusal(&made), wire::Refusal::Unspecified);
        self.age(key_id(&made), hours).await;
        made
    }

    /// Moves a key's whole life into the past, as if the clock had moved on.
    pub(crate) async fn age(&self, key_id: KeyId, hours: i32) {
        // Triggers forbid that; a replica's session has none.
        self.sql(format!(
            "set session_replication_role = replica;
             update keys.keys
             set created_at = created_at - interval '{hours} hours',
                 expires_at = expires_at - interval '{hours} hours'
             where key_id = '{}';
             reset session_replication_role;",
            key_id.uuid()
        ))
        .await
        .unwrap();
    }

    /// Runs statements as the owner of the database.
    pub(crate) async fn sql(&self, statements: String) -> Result<(), sqlx::Error> {
        let mut conn = self.database.pool.acquire().await?;
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *conn).await.map(|_| ())
    }

    /// The rows of one text column.
    pub(crate) async fn texts(&self, query: String) -> Vec<String> {
        let mut conn = self.database.pool.acquire().await.unwrap();
        let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut *conn).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Stops, and looks at what is left: nobody has a sixth active key, and no key that was ever
    /// shown can be found anywhere in the database.
    pub(crate) async fn finish(self) {
        self.stop().await;
        let over = "select user_id::text from keys.keys
                    where revoked_at is null and expires_at > now()
                    group by user_id having count(*) > 5";
        assert_eq!(self.texts(over.to_owned()).await, Vec::<String>::new(), "a sixth active key");

        let dump = self.dump().await;
        for shown in self.shown.lock().unwrap().iter() {
            let secret = &shown["sk_test_".len()..];
            let bytes = URL_SAFE_NO_PAD.decode(secret).unwrap();
            for trace in [secret.to_owned(), hex::encode(bytes), hex::encode(secret)] {
                assert!(!dump.contains(&trace), "the database holds a key in plain text");
            }
        }
    }

    /// Every row of every table, as text.
    async fn dump(&self) -> String {
        let tables = "select format('select t::text from %I.%I as t', schemaname, tablename)
                      from pg_tables where schemaname in ('keys', 'bus')";
        let mut dump = String::new();
        for query in self.texts(tables.to_owned()).await {
            dump.push_str(&self.texts(query).await.join("\n"));
        }
        dump
    }
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    keys::migrate(config(url)).await
}

pub(crate) fn config(url: &str) -> keys::Config {
    keys::Config {
        database_url: url.to_owned(),
        database_connections_max: 4,
        runtime_role: None,
        secret: SECRET.parse().unwrap(),
        secret_previous: None,
        mode: Mode::Test,
    }
}

fn subject(command: &wire::Command) -> &'static str {
    match command.body {
        Some(Body::RollOverKey(_)) => subjects::keys::ROLL_OVER_KEY,
        Some(Body::RevokeKey(_)) => subjects::keys::REVOKE_KEY,
        Some(Body::CreateKey(_)) | None => subjects::keys::CREATE_KEY,
    }
}

fn command(user_id: UserId, body: Body) -> wire::Command {
    wire::Command {
        deadline_at_us: Timestamp::now().plus(WAIT).micros(),
        user_id: user_id.to_bytes(),
        body: Some(body),
        ..Default::default()
    }
}

pub(crate) fn create(
    user_id: UserId,
    name: &str,
    permissions: &[wire::Permission],
    expiry: wire::Expiry,
) -> wire::Command {
    let body = wire::CreateKey {
        key_id: KeyId::generate().to_bytes(),
        name: name.to_owned(),
        permissions: permissions.iter().map(|it| (*it).into()).collect(),
        expiry: expiry.into(),
    };
    command(user_id, Body::CreateKey(body))
}

/// A key like any other.
pub(crate) fn create_any(user_id: UserId) -> wire::Command {
    create(user_id, "any", &[wire::Permission::Read], wire::Expiry::Day)
}

pub(crate) fn roll_over(user_id: UserId, expired: KeyId, expiry: wire::Expiry) -> wire::Command {
    let body = wire::RollOverKey {
        key_id: KeyId::generate().to_bytes(),
        expired_key_id: expired.to_bytes(),
        expiry: expiry.into(),
    };
    command(user_id, Body::RollOverKey(body))
}

pub(crate) fn revoke(user_id: UserId, key_id: KeyId) -> wire::Command {
    command(user_id, Body::RevokeKey(wire::RevokeKey { key_id: key_id.to_bytes() }))
}

/// The same command under a request key; the digest says what was asked.
pub(crate) fn under(mut command: wire::Command, request_key: u8, digest: u8) -> wire::Command {
    command.request_key = vec![request_key; 32].into();
    command.request_digest = vec![digest; 32].into();
    command
}

/// The same request once more, as the api sends it: with another id for the key.
pub(crate) fn once_more(command: &wire::Command) -> wire::Command {
    let mut command = command.clone();
    let key_id = KeyId::generate().to_bytes();
    match &mut command.body {
        Some(Body::CreateKey(it)) => it.key_id = key_id,
        Some(Body::RollOverKey(it)) => it.key_id = key_id,
        Some(Body::RevokeKey(_)) | None => {}
    }
    command
}

pub(crate) fn refusal(outcome: &wire::Outcome) -> wire::Refusal {
    wire::Refusal::try_from(outcome.refusal).unwrap()
}

pub(crate) fn denial(verified: &wire::Verified) -> wire::VerifyRefusal {
    wire::VerifyRefusal::try_from(verified.refusal).unwrap()
}

pub(crate) fn key_id(outcome: &wire::Outcome) -> KeyId {
    KeyId::read("key_id", &outcome.key.as_ref().unwrap().key_id).unwrap()
}

pub(crate) fn status(key: &wire::Key) -> wire::KeyStatus {
    wire::KeyStatus::try_from(key.status).unwrap()
}

/// The answer is a no, and says nothing else.
#[track_caller]
pub(crate) fn assert_refused(outcome: &wire::Outcome, expected: wire::Refusal) {
    assert_eq!(refusal(outcome), expected, "{outcome:?}");
    assert_eq!((outcome.api_key.as_str(), &outcome.key), ("", &None));
}
