//! One real Postgres for a test binary, and a fresh database for each test, cloned in milliseconds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sandbox::servers::{Options, Postgres};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio::sync::{Mutex, OnceCell};

use crate::folder;

/// Enough for every test of a binary at once.
const SERVER_CONNECTIONS_MAX: u16 = 500;
/// The pool a test looks through; services make their own.
const POOL_CONNECTIONS_MAX: u32 = 5;
/// How long a clone waits until the last session on its template is gone.
const CLONE_ATTEMPTS_MAX: u32 = 100;
const CLONE_PAUSE: Duration = Duration::from_millis(50);
/// The password of roles made by [`TestPostgres::role`].
const ROLE_PASSWORD: &str = "test";

/// The server of this test binary.
pub struct TestPostgres {
    server: Option<Postgres>,
    options: Options,
    folder: PathBuf,
    admin_url: String,
    templates: Mutex<BTreeMap<String, Arc<OnceCell<()>>>>,
    n_databases: AtomicU64,
}

/// A test's own database. Dropped with the value; kept, and named on standard error, when the test failed.
#[derive(Debug)]
pub struct Database {
    /// Where it is, as the superuser who made it.
    pub url: String,
    /// For the test's own looks into it.
    pub pool: PgPool,
    name: String,
    admin_url: String,
    cluster: String,
}

/// The server of this test binary, started by the first test that asks. Without fsync; dies with the process.
///
/// # Panics
/// When Postgres cannot be found or started.
pub async fn postgres() -> &'static TestPostgres {
    static SERVER: OnceCell<TestPostgres> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async {
            crate::logs();
            let options = Options {
                durable: false,
                connections_max: SERVER_CONNECTIONS_MAX,
                ..Options::default()
            };
            TestPostgres::start(folder::folder().join("postgres"), options).await
        })
        .await
}

/// A server for one test alone, which may kill it. With fsync: what it said is committed is.
///
/// # Panics
/// When Postgres cannot be found or started.
pub async fn own_postgres() -> TestPostgres {
    static N_SERVERS: AtomicU64 = AtomicU64::new(0);
    crate::logs();
    let number = N_SERVERS.fetch_add(1, Ordering::Relaxed);
    TestPostgres::start(folder::folder().join(format!("postgres-{number}")), Options::default())
        .await
}

impl TestPostgres {
    async fn start(folder: PathBuf, options: Options) -> Self {
        let server = Postgres::start_with(&folder, options.clone())
            .await
            .unwrap_or_else(|error| panic!("tests need Postgres: {error:#}"));
        Self {
            folder: server.folder().to_owned(),
            admin_url: server.admin_url(),
            options: Options { port: Some(server.port()), ..options },
            server: Some(server),
            templates: Mutex::default(),
            n_databases: AtomicU64::new(0),
        }
    }

    /// Ends the server as a power cut would.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await.expect("the test's own server can be killed");
        }
    }

    /// Starts a killed server again, at the same address.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        let server = Postgres::start_with(&self.folder, self.options.clone()).await;
        self.server = Some(server.unwrap_or_else(|error| panic!("Postgres is gone: {error:#}")));
    }

    /// Where the superuser connects, to the database `postgres`.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.admin_url.clone()
    }

    /// A fresh database: a clone of the template `template`, which `migrate` fills once a binary.
    ///
    /// # Panics
    /// When the template cannot be migrated or cloned.
    pub async fn database(
        &self,
        template: &str,
        migrate: impl AsyncFn(&str) -> anyhow::Result<()>,
    ) -> Database {
        self.try_database(template, migrate)
            .await
            .unwrap_or_else(|error| panic!("no database for this test: {error:#}"))
    }

    async fn try_database(
        &self,
        template: &str,
        migrate: impl AsyncFn(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Database> {
        check_name(template)?;
        let source = format!("template_{template}");
        let once = Arc::clone(self.templates.lock().await.entry(template.to_owned()).or_default());
        once.get_or_try_init(async || {
            let admin_url = self.admin_url();
            run(&admin_url, &format!("drop database if exists {source} with (force)")).await?;
            run(&admin_url, &format!("create database {source}")).await?;
            migrate(&at(&admin_url, &source))
                .await
                .with_context(|| format!("failed to migrate {source}"))
        })
        .await?;
        let number = self.n_databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("{template}_{number}");
        self.clone_from(&source, &name).await?;
        let url = at(&self.admin_url(), &name);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .connect_lazy_with(PgConnectOptions::from_str(&url)?.application_name("test"));
        let cluster = self.folder.display().to_string();
        Ok(Database { url, pool, name, admin_url: self.admin_url(), cluster })
    }

    /// A clone must wait until the migrator's session has ended on the server's side too.
    async fn clone_from(&self, source: &str, name: &str) -> anyhow::Result<()> {
        /// `object_in_use`
        const IN_USE: &str = "55006";
        let statement = format!("create database {name} template {source}");
        for _ in 1..CLONE_ATTEMPTS_MAX {
            match run(&self.admin_url(), &statement).await {
                Err(error) if code(&error).as_deref() == Some(IN_USE) => {
                    tokio::time::sleep(CLONE_PAUSE).await;
                }
                done => return done,
            }
        }
        run(&self.admin_url(), &statement).await
    }

    /// Makes a role that may log in and nothing else, for [`Database::url_as`]. Repeating it is harmless.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn role(&self, name: &str) {
        /// `duplicate_object` and `unique_violation`: another test was faster.
        const THERE: [&str; 2] = ["42710", "23505"];
        check_name(name).expect("a role has a plain name");
        let statement = format!("create role {name} login password '{ROLE_PASSWORD}'");
        if let Err(error) = run(&self.admin_url(), &statement).await {
            let is_there = code(&error).is_some_and(|code| THERE.contains(&code.as_str()));
            assert!(is_there, "no role {name}: {error:#}");
        }
    }
}

impl Database {
    /// Where it is, for a role made by [`TestPostgres::role`].
    ///
    /// # Panics
    /// Never: the URL is of our own making.
    #[must_use]
    pub fn url_as(&self, role: &str) -> String {
        let (_, place) = self.url.split_once('@').expect("the URL has credentials");
        format!("postgres://{role}:{ROLE_PASSWORD}@{place}")
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            folder::keep();
            eprintln_kept(&self.name, &self.cluster);
            return;
        }
        let (admin_url, statement) =
            (self.admin_url.clone(), format!("drop database if exists {} with (force)", self.name));
        // The test's runtime may be ending; and nobody needs to wait.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // A database that stays goes with the folder.
            runtime.ok().map(|runtime| runtime.block_on(run(&admin_url, &statement)));
        });
    }
}

#[expect(clippy::print_stderr, reason = "the place to look belongs into the failing test's output")]
fn eprintln_kept(name: &str, cluster: &str) {
    eprintln!(
        "kept: database {name}, for a day, in {cluster}/cluster (password in {cluster}/password); \
         start a Postgres there to look at it"
    );
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    ensure!(
        (1..=40).contains(&name.len())
            && name.chars().all(plain)
            && name.starts_with(|c: char| c.is_ascii_lowercase()),
        "`{name}` must be 1–40 of a–z, 0–9 and _"
    );
    Ok(())
}

fn at(admin_url: &str, database: &str) -> String {
    let base = admin_url.strip_suffix("/postgres").unwrap_or(admin_url);
    format!("{base}/{database}")
}

async fn run(url: &str, statement: &str) -> anyhow::Result<()> {
    let mut conn = PgConnection::connect(url).await.context("failed to connect")?;
    // Safe: names in it have passed `check_name`.
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut conn)
        .await
        .with_context(|| format!("failed to {statement}"))?;
    conn.close().await.context("failed to disconnect")
}

fn code(error: &anyhow::Error) -> Option<String> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>())?;
    Some(error.as_database_error()?.code()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn n_things(database: &Database) -> i64 {
        let n = sqlx::query_scalar("select count(*) from things").fetch_one(&database.pool).await;
        n.unwrap()
    }

    async fn things() -> Database {
        let migrate = async |url: &str| {
            run(url, "create table things (n int); insert into things values (1)").await
        };
        postgres().await.database("things", migrate).await
    }

    #[tokio::test]
    async fn clones_start_alike_and_share_nothing() {
        let (one, two) = tokio::join!(things(), things());
        run(&one.url, "insert into things values (2), (3)").await.unwrap();
        assert_eq!((n_things(&one).await, n_things(&two).await), (3, 1));
        assert_eq!(n_things(&things().await).await, 1);
    }

    #[tokio::test]
    async fn a_database_is_dropped_unless_its_test_failed() {
        let exists = async |name: &str| {
            let mut conn = PgConnection::connect(&postgres().await.admin_url()).await.unwrap();
            let found =
                sqlx::query_scalar("select exists (select from pg_database where datname = $1)");
            let found: bool = found.bind(name).fetch_one(&mut conn).await.unwrap();
            found
        };
        let (good, bad) = (things().await, things().await);
        let (good_name, bad_name) = (good.name().to_owned(), bad.name().to_owned());
        let failed = std::thread::spawn(move || {
            let _bad = bad;
            panic!("on purpose");
        });
        assert!(failed.join().is_err());
        std::fs::remove_file(folder::folder().join("kept")).expect("the folder is to be kept");
        drop(good);
        crate::eventually("the good one is dropped", Duration::from_secs(20), async || {
            if exists(&good_name).await { Err(format!("{good_name} exists")) } else { Ok(()) }
        })
        .await;
        assert!(exists(&bad_name).await);
    }
}
