//! The ledger as a process of its own, which can be killed, stopped and held in the middle of a
//! batch.

use std::net::TcpListener;
use std::process::Stdio;

use bus::ask::Asker;
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use prost::Message;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::command::Body;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{Client, Database, Nats, eventually};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

use crate::harness::{RUNTIME_ROLE, WAIT};

/// A running ledger; killed when dropped.
pub(crate) struct Process {
    child: Child,
    admin: Client,
}

impl Process {
    pub(crate) fn start(database: &Database, nats: &Nats) -> Self {
        Self::start_with(database, nats, &[])
    }

    /// A ledger with more settings than the usual.
    pub(crate) fn start_with(database: &Database, nats: &Nats, more: &[(&str, &str)]) -> Self {
        // Free a moment ago, and nobody else asks for ports by number.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_ledger"))
            .arg("serve")
            .env("LEDGER_DATABASE_URL", database.url_as(RUNTIME_ROLE))
            .env("NATS_URL", &nats.url)
            .env("ADMIN_ADDRESS", format!("127.0.0.1:{port}"))
            .env("LOG_LEVEL", "warn")
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, admin: Client::new(format!("http://127.0.0.1:{port}")) }
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
        self.child.wait().await.unwrap();
    }

    /// It does nothing any more, and does not know it, until it is told to go on.
    pub(crate) async fn stop(&self) {
        let pid = self.signal(Signal::SIGSTOP);
        // On a busy machine its threads run on for a while after the signal.
        let stopped = spawn_blocking(move || waitpid(pid, Some(WaitPidFlag::WUNTRACED)));
        let stopped = tokio::time::timeout(WAIT, stopped).await.expect("it stops").unwrap();
        assert_eq!(stopped, Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) -> Pid {
        let pid = self.child.id().and_then(|it| it.try_into().ok()).map(Pid::from_raw);
        let pid = pid.expect("it runs");
        kill(pid, signal).unwrap();
        pid
    }

    /// A counter or a gauge, summed over the series that hold `label`; none if it cannot be asked.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> Option<i64> {
        let text = self.admin.get("/metrics").try_send().await.ok()?.text();
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && line.contains(label)
        };
        let values = text.lines().filter(of_name).filter_map(|it| it.rsplit(' ').next());
        Some(values.filter_map(|it| it.parse::<i64>().ok()).sum())
    }

    /// Waits until a metric is what it should be.
    pub(crate) async fn until(&self, name: &str, label: &str, expected: impl Fn(i64) -> bool) {
        eventually(&format!("{name} {label}"), WAIT, async || {
            match self.metric(name, label).await {
                Some(value) if expected(value) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until it reads, or until it stands by.
    pub(crate) async fn until_leading(&self, leads: bool) {
        self.until_ready(true).await;
        self.until("bus_leading", "ledger", |it| it == i64::from(leads)).await;
    }

    /// Waits until `/readyz` says so.
    pub(crate) async fn until_ready(&self, ready: bool) {
        let expected = if ready { 200 } else { 503 };
        eventually(&format!("readiness {ready}"), WAIT, async || {
            match self.admin.get("/readyz").try_send().await {
                Ok(it) if it.status.as_u16() == expected => Ok(()),
                Ok(it) => Err(it.text()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// How many transfers it has posted itself.
    pub(crate) async fn n_posted(&self) -> i64 {
        self.metric("ledger_transfers_total", "outcome=\"posted\"").await.expect("it answers")
    }
}

/// Sends a command and waits for its outcome, which must be a yes.
pub(crate) async fn ask(asker: &Asker, subject: &'static str, body: Body) -> wire::Outcome {
    let command = wire::Command { deadline_at_us: 0, body: Some(body) };
    let outcome: wire::Outcome = asker.command(subject, &command, WAIT).await.unwrap();
    assert_eq!(outcome.rejection(), wire::Rejection::Unspecified, "{outcome:?}");
    outcome
}

/// Sends a command and does not wait for any answer.
pub(crate) async fn send(nats: &Nats, subject: &'static str, body: Body) {
    let payload = wire::Command { deadline_at_us: 0, body: Some(body) }.encode_to_vec();
    let jetstream = async_nats::jetstream::new(nats.client().await);
    jetstream.publish(subject, Bytes::from(payload)).await.unwrap().await.unwrap();
}

/// The lock that a held ledger waits for.
const LOCK: i64 = 4711;

/// Something that holds whoever does a step: it waits for a lock that the test has.
pub(crate) struct Hold(PgConnection);

impl Hold {
    /// Holds after `step`: the beginning of a `create trigger`.
    pub(crate) async fn after(database: &Database, step: &str) -> Self {
        let wait = format!("perform pg_advisory_xact_lock({LOCK})");
        Self::with(database, step, &wait).await
    }

    /// Holds the first who comes to `step`, after it has given away the lock that says that it is
    /// the one to read.
    pub(crate) async fn first_without_its_lead(database: &Database, step: &str) -> Self {
        let body = format!(
            "if nextval('public.arrivals') = 1 then
               perform pg_advisory_unlock_all();
               perform pg_advisory_xact_lock({LOCK});
             end if"
        );
        let mut hold = PgConnection::connect(&database.url).await.unwrap();
        let sequence = "create sequence public.arrivals;
           grant usage on sequence public.arrivals to public";
        execute(&mut hold, sequence).await;
        hold.close().await.unwrap();
        Self::with(database, step, &body).await
    }

    async fn with(database: &Database, step: &str, body: &str) -> Self {
        let mut conn = PgConnection::connect(&database.url).await.unwrap();
        execute(&mut conn, &format!("select pg_advisory_lock({LOCK})")).await;
        let trigger = format!(
            "create function public.hold() returns trigger language plpgsql as $$
             begin {body}; return null; end $$;
             create {step} execute function public.hold()"
        );
        execute(&mut conn, &trigger).await;
        Self(conn)
    }

    /// Waits until somebody is held, and says which backend of Postgres that is.
    pub(crate) async fn held(&self, database: &Database, name: &str) -> i32 {
        eventually(name, WAIT, async || {
            let pid: Option<i32> = sqlx::query_scalar(
                "select pid
                 from pg_locks
                 where locktype = 'advisory'
                   and objid = $1
                   and not granted
                   and database = (select oid from pg_database where datname = current_database())",
            )
            .bind(LOCK)
            .fetch_optional(&database.pool)
            .await
            .unwrap();
            pid.ok_or_else(|| "nobody waits".to_owned())
        })
        .await
    }

    /// Waits until Postgres has ended a backend.
    pub(crate) async fn ended(&self, database: &Database, pid: i32) {
        eventually("the session ends", WAIT, async || {
            let there: bool =
                sqlx::query_scalar("select exists (select from pg_stat_activity where pid = $1)")
                    .bind(pid)
                    .fetch_one(&database.pool)
                    .await
                    .unwrap();
            if there { Err(format!("{pid} is there")) } else { Ok(()) }
        })
        .await;
    }

    /// Ends a backend, as Postgres does when it notices that nobody is there.
    pub(crate) async fn end(&mut self, pid: i32) {
        execute(&mut self.0, &format!("select pg_terminate_backend({pid}, 10000)")).await;
    }

    /// Lets go whoever is held, now and later.
    pub(crate) async fn let_go(&mut self) {
        execute(&mut self.0, &format!("select pg_advisory_unlock({LOCK})")).await;
    }

    /// Takes it away, when nobody is in the middle of a batch any more.
    pub(crate) async fn remove(mut self) {
        execute(&mut self.0, "drop function public.hold() cascade").await;
        self.0.close().await.unwrap();
    }
}

async fn execute(conn: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(conn).await.unwrap();
}
