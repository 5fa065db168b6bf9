//! What the tests stand on: servers, a reader whose effects can be counted, and ways to stop it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Auth, Client, ConnectOptions, jetstream};
use bus::follow::health::Health;
use bus::follow::{Answer, BATCH_BYTES_MAX, Delivery, Follow, HandleError, Handler, SILENCE_MAX};
use proto_events::common::v1::Envelope;
use proto_events::subjects::{self, Stream};
use sandbox::servers;
use sqlx::{PgConnection, PgPool};
use testkit::{Database, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Everything here happens in milliseconds; only a broken bus takes longer.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// The stream the tests read, and a subject of it.
pub(crate) const STREAM: Stream = subjects::CMD_KEYS;
pub(crate) const SUBJECT: &str = subjects::keys::REVOKE_KEY;

/// Where effects are counted: nothing keeps a message from being used twice but the bus.
const TABLE: &str = "
    create table public.effects (
      effect_id bigint generated always as identity primary key,
      body text not null,
      constraint effects_small check (length(body) < 100)
    );
";

/// A database of its own, with the bus's schema and the table of effects.
pub(crate) async fn database() -> Database {
    let migrate = async |url: &str| {
        let pool = PgPool::connect(url).await?;
        bus::MIGRATOR.run(&pool).await?;
        sqlx::raw_sql(TABLE).execute(&pool).await?;
        pool.close().await;
        Ok(())
    };
    testkit::postgres().await.database("bus", migrate).await
}

/// A database and a nats-server.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) client: Client,
    nats: testkit::Nats,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (database, nats) = tokio::join!(database(), testkit::nats());
        Self { database, client: nats.client().await, nats }
    }

    pub(crate) fn js(&self) -> jetstream::Context {
        jetstream::new(self.client.clone())
    }

    /// A connection of its own, as another process has.
    pub(crate) async fn another_client(&self) -> Client {
        self.nats.client().await
    }

    /// Publishes one command that nobody waits for.
    pub(crate) async fn tell(&self, body: &str) -> u64 {
        tell(&self.js(), body).await
    }

    pub(crate) async fn tell_all(&self, bodies: &[&str]) {
        for body in bodies {
            self.tell(body).await;
        }
    }

    /// Starts a reader, as another process would.
    pub(crate) async fn read(&self, reader: &'static str, handler: impl Handler) -> Running {
        read(&self.database, self.client.clone(), reader, handler).await
    }

    pub(crate) async fn effects(&self) -> Vec<String> {
        effects(&self.database.pool).await
    }

    pub(crate) async fn expect_effects(&self, expected: &[&str]) {
        expect_effects(&self.database.pool, expected).await;
    }

    /// Waits until somebody waits for a lock in the database.
    pub(crate) async fn expect_blocked(&self) {
        eventually("a session that waits for a lock", BOUND, async || {
            let n: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock'",
            )
            .fetch_one(&self.database.pool)
            .await
            .unwrap();
            if n > 0 { Ok(()) } else { Err(format!("{n} sessions wait")) }
        })
        .await;
    }

    /// How long ago the session of whoever leads began; zero if nobody does.
    pub(crate) async fn oldest_leader(&self) -> Duration {
        let ms: i64 = sqlx::query_scalar(
            "select coalesce(max(extract(epoch from clock_timestamp() - backend_start) * 1000), 0)::bigint
             from pg_stat_activity join pg_locks using (pid)
             where locktype = 'advisory' and granted and datname = current_database()",
        )
        .fetch_one(&self.database.pool)
        .await
        .unwrap();
        Duration::from_millis(ms.unsigned_abs())
    }

    /// Ends the sessions that hold an advisory lock: those of whoever leads.
    pub(crate) async fn end_leaders(&self) -> i64 {
        sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_locks
             where locktype = 'advisory' and granted
               and database = (select oid from pg_database where datname = current_database())",
        )
        .fetch_one(&self.database.pool)
        .await
        .unwrap()
    }
}

/// Publishes one command that nobody waits for.
pub(crate) async fn tell(js: &jetstream::Context, body: &str) -> u64 {
    js.publish(SUBJECT, body.to_owned().into()).await.unwrap().await.unwrap().sequence
}

/// How tests read the stream.
pub(crate) const fn follow(reader: &'static str) -> Follow {
    Follow {
        reader,
        stream: STREAM,
        filter: None,
        batch_max: 10,
        batch_bytes_max: BATCH_BYTES_MAX,
        silence_max: SILENCE_MAX,
    }
}

/// Starts a reader with a pool of its own, as another process would.
pub(crate) async fn read(
    database: &Database,
    client: Client,
    reader: &'static str,
    handler: impl Handler,
) -> Running {
    read_as(database, client, follow(reader), handler, Health::new()).await
}

/// As [`read`], in any other way.
pub(crate) async fn read_as(
    database: &Database,
    client: Client,
    follow: Follow,
    handler: impl Handler,
    health: Health,
) -> Running {
    let pool = PgPool::connect(&database.url).await.unwrap();
    Running::spawn(|shutdown| async move {
        bus::follow::run_watched(follow, pool, client, shutdown, handler, health).await.unwrap();
    })
}

/// What was done, in the order it was committed.
pub(crate) async fn effects(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select body from public.effects order by effect_id")
        .fetch_all(pool)
        .await
        .unwrap()
}

pub(crate) async fn expect_effects(pool: &PgPool, expected: &[&str]) {
    eventually(&format!("effects {expected:?}"), BOUND, async || {
        let seen = effects(pool).await;
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// A loop that stands for a process.
pub(crate) struct Running {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Running {
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(run(shutdown.clone()));
        Self { tasks, shutdown }
    }

    /// SIGTERM: it finishes what it has in hand.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(BOUND, self.tasks.join_next()).await;
        ended.expect("it stops when asked to").unwrap().unwrap();
    }

    /// SIGKILL: it stops where it is.
    pub(crate) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits for a panic.
    pub(crate) async fn expect_panic(mut self) {
        let ended = tokio::time::timeout(BOUND, self.tasks.join_next()).await;
        assert!(ended.expect("it panics").unwrap().unwrap_err().is_panic());
    }
}

/// A door a handler waits at, and the test opens.
#[derive(Clone)]
pub(crate) struct Door(Arc<(watch::Sender<u64>, watch::Sender<bool>)>);

impl Door {
    pub(crate) fn closed() -> Self {
        Self(Arc::new((watch::Sender::new(0), watch::Sender::new(false))))
    }

    /// The handler's side.
    pub(crate) async fn pass(&self) {
        self.0.0.send_modify(|it| *it += 1);
        self.0.1.subscribe().wait_for(|open| *open).await.unwrap();
    }

    /// Waits until somebody stands before it.
    pub(crate) async fn expect_somebody(&self) {
        let mut arrived = self.0.0.subscribe();
        let somebody = arrived.wait_for(|it| *it > 0);
        tokio::time::timeout(BOUND, somebody).await.expect("somebody comes").unwrap();
    }

    pub(crate) fn open(&self) {
        self.0.1.send_replace(true);
    }
}

/// Writes each message's body down and answers with it. What a body begins with says what else.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    /// Waited at after the effects, before the commit.
    pub(crate) door: Option<Door>,
    /// Panics between commit and replies, as a process that is killed there.
    pub(crate) dies_committed: bool,
    /// How many times more something near it breaks.
    pub(crate) n_storms: Arc<Mutex<usize>>,
    /// How many times more it is not prepared.
    pub(crate) n_unprepared: Arc<Mutex<usize>>,
    /// The sizes of the batches it was given.
    pub(crate) batches: Arc<Mutex<Vec<usize>>>,
    pub(crate) n_rolled_back: Arc<Mutex<usize>>,
}

impl Handler for Writer {
    async fn handle(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        _now: primitives::Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        self.batches.lock().unwrap().push(batch.len());
        let mut answers = Vec::new();
        for delivery in batch {
            answers.push(write(conn, delivery).await?);
        }
        if let Some(door) = &self.door {
            door.pass().await;
        }
        if one_less(&self.n_storms) {
            return Err(HandleError::retry("a storm"));
        }
        if one_less(&self.n_unprepared) {
            return Err(HandleError::Again);
        }
        Ok(answers)
    }

    fn committed(&mut self) {
        assert!(!self.dies_committed, "stopped between commit and replies");
    }

    fn rolled_back(&mut self) {
        *self.n_rolled_back.lock().unwrap() += 1;
    }
}

/// Whether there was one left.
fn one_less(n_left: &Mutex<usize>) -> bool {
    let mut n_left = n_left.lock().unwrap();
    let left = n_left.checked_sub(1);
    *n_left = left.unwrap_or(0);
    left.is_some()
}

async fn write(conn: &mut PgConnection, delivery: &Delivery) -> Result<Answer, HandleError> {
    let body = String::from_utf8(delivery.payload.to_vec()).unwrap();
    let long = "x".repeat(100);
    let written = if body.starts_with("too long") { &long } else { &body };
    sqlx::query_scalar::<_, i64>(
        "insert into public.effects (body) values ($1) returning 1::bigint",
    )
    .bind(written)
    .fetch_one(&mut *conn)
    .await
    .map_err(HandleError::retry)?;
    if body.starts_with("poison") {
        return Err(HandleError::poison("it is poison"));
    }
    assert!(!body.starts_with("panic"), "it panics");
    if body.starts_with("park") {
        let reply = Some(answer("parked"));
        return Ok(Answer::Park { reason: "nobody wants it".to_owned(), reply });
    }
    Ok(Answer::Reply(answer(&body)))
}

/// An answer, as prost encodes it.
pub(crate) fn answer(text: &str) -> Vec<u8> {
    prost::Message::encode_to_vec(&said(text))
}

/// Some message of the wire that holds a text.
pub(crate) fn said(text: &str) -> Envelope {
    Envelope { origin: text.to_owned(), ..Envelope::default() }
}

/// A nats-server that can be stopped, changed and started again at the same place.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    running: Option<servers::Nats>,
    port: u16,
    password: Arc<Mutex<String>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        testkit::logs();
        let folder = tempfile::tempdir().unwrap();
        let running = servers::Nats::start(&folder.path().join("nats")).await.unwrap();
        let port = running.port();
        let password = Arc::new(Mutex::new(password_of(&running)));
        let server = Self { folder, running: Some(running), port, password };
        bus::streams::ensure(&jetstream::new(server.client().await)).await.unwrap();
        server
    }

    /// A client that comes back by itself, with whatever password the server then has.
    pub(crate) async fn client(&self) -> Client {
        let password = self.password.clone();
        let options = ConnectOptions::with_auth_callback(move |_| {
            let password = password.lock().unwrap().clone();
            async move {
                let mut auth = Auth::new();
                auth.username = Some("wallet".to_owned());
                auth.password = Some(password);
                Ok(auth)
            }
        });
        options
            .reconnect_delay_callback(|_| Duration::from_millis(20))
            .connect(format!("nats://127.0.0.1:{}", self.port))
            .await
            .unwrap()
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        let (place, tools) = (self.folder.path().join("nats"), servers::Tools::from_env());
        let running = servers::Nats::start_with(&place, Some(self.port), &tools).await.unwrap();
        *self.password.lock().unwrap() = password_of(&running);
        self.running = Some(running);
    }

    /// Copies what the stopped server has on disk.
    pub(crate) fn save(&self) {
        assert!(self.running.is_none(), "only a stopped server's files are whole");
        copy(&self.folder.path().join("nats/jetstream"), &self.folder.path().join("saved"));
    }

    /// Puts the copy back: everything after it is lost, as after a power cut.
    pub(crate) fn restore(&self) {
        assert!(self.running.is_none(), "only a stopped server's files can be changed");
        let place = self.folder.path().join("nats/jetstream");
        std::fs::remove_dir_all(&place).unwrap();
        copy(&self.folder.path().join("saved"), &place);
    }
}

fn password_of(server: &servers::Nats) -> String {
    let url = server.url();
    let (_, rest) = url.split_once("wallet:").unwrap();
    rest.split_once('@').unwrap().0.to_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits until `client` sees its server in `state`.
pub(crate) async fn expect_state(client: &Client, state: State) {
    eventually(&format!("a client that is {state}"), BOUND, async || {
        let seen = client.connection_state();
        if seen == state { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

/// The value of the counter with this label.
pub(crate) fn metric(name: &str, label: &str) -> f64 {
    let families = prometheus::gather();
    let family = families.iter().find(|it| it.name() == name);
    let metrics = family.map(|it| it.get_metric()).unwrap_or_default();
    let found = metrics.iter().find(|it| it.get_label().iter().any(|it| it.value() == label));
    found.map_or(0.0, |it| it.get_counter().get_value())
}
