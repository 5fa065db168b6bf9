//! Connections to Postgres, and the schema they find there.
//!
//! The only SQL here is about schemas and grants; it names no table of a service.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgPool, Postgres};

/// How long a start waits for a server that is still starting.
const CONNECT_WAIT: Duration = Duration::from_secs(15);
/// How long it pauses between two attempts.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// How long a caller waits for a free connection.
const ACQUIRE_WAIT: Duration = Duration::from_secs(5);
/// How long a check of readiness waits.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long a connection that is kept is taken to be alive after its last use.
const FRESH: Duration = Duration::from_secs(1);
/// A statement that takes longer is a bug or a lock that will not come.
const STATEMENT_TIMEOUT: &str = "15s";
/// A transaction that does nothing for so long belongs to a task that is gone.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "15s";
/// How long a migration waits for a lock, its turn among other migrators included.
const MIGRATE_LOCK_TIMEOUT: &str = "60s";

/// A pool whose statements, transactions and waits all end.
///
/// # Errors
/// When the URL cannot be read, or the server does not answer in time or refuses.
/// The URL is not in the text.
pub async fn connect(
    url: &str,
    application_name: &'static str,
    connections_max: u32,
) -> anyhow::Result<PgPool> {
    let options = read(url, application_name)?.options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_WAIT)
        .connect_lazy_with(options.clone());
    // One connection of its own says why it fails; the pool would only say that it timed out.
    patiently(&options).await?.close().await.context("failed to close a connection")?;
    Ok(pool)
}

/// Connections of a pool that a busy task does not give back between two uses. Cheap to clone;
/// clones share them.
///
/// A pool tests a connection when it is given back and when it is taken again: two trips to the
/// server, which is more than a short statement itself. Here one that was used within the last
/// second is used again as it is; after a longer pause it goes back and is tested. The last one of
/// a pool is never kept: whoever else waits for one would wait for ever.
#[derive(Debug, Clone)]
pub struct Kept {
    pool: PgPool,
    max: usize,
    idle: Arc<Mutex<Vec<Used>>>,
}

/// A connection, and when its last statement ended.
type Used = (PoolConnection<Postgres>, Instant);

impl Kept {
    /// Keeps at most `max` connections of `pool`, which others then have to do without.
    #[must_use]
    pub fn of(pool: &PgPool, max: usize) -> Self {
        Self { pool: pool.clone(), max, idle: Arc::default() }
    }

    /// The connection that was used last, or one of the pool's. Who just drops it, after an error
    /// or because nobody waits any more, gives it back to the pool to be tested.
    ///
    /// # Errors
    /// As those of the pool.
    pub async fn take(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let last = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match last {
            Some((conn, used_at)) if used_at.elapsed() < FRESH => Ok(conn),
            // First what is held: it may be the pool's only one.
            stale => {
                drop(stale);
                self.pool.acquire().await
            }
        }
    }

    /// Keeps a connection whose last statement went well, if the pool has another one to give.
    pub fn keep(&self, conn: PoolConnection<Postgres>) {
        let has_another = self.pool.num_idle() > 0
            || self.pool.size() < self.pool.options().get_max_connections();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if has_another && idle.len() < self.max {
            idle.push((conn, Instant::now()));
        }
    }
}

/// Brings the schemas up to what the migrators hold, one after the other.
///
/// Any number of processes may do so at once: an advisory lock lets one work while others wait.
///
/// # Errors
/// When the server cannot be reached, a migration fails, or one that ran before has changed since.
pub async fn migrate(url: &str, migrators: &[&Migrator]) -> anyhow::Result<()> {
    let options = read(url, "migrate")?.options([("lock_timeout", MIGRATE_LOCK_TIMEOUT)]);
    let mut conn = patiently(&options).await?;
    for migrator in migrators {
        // A failure leaves the lock to the connection, whose end frees it.
        migrator
            .run_direct(None, &mut conn, false)
            .await
            .with_context(|| format!("failed to migrate {}", schema_of(migrator)))?;
    }
    conn.close().await.context("failed to close a connection")
}

/// Refuses to go on unless the schema is this release's; runs nothing.
///
/// Versions this release does not know are a newer release's, which keeps the schema usable for
/// this one (expand, move, contract); they are let pass.
///
/// # Errors
/// When a migration is missing, has failed halfway, or differs from this release's.
pub async fn expect_migrated(
    pool: &PgPool,
    migrators: &[(&'static str, &Migrator)],
) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await.context("failed to reach Postgres")?;
    for (table, migrator) in migrators {
        expect_one(&mut conn, table, migrator).await?;
    }
    Ok(())
}

async fn expect_one(
    conn: &mut PgConnection,
    table: &'static str,
    migrator: &Migrator,
) -> anyhow::Result<()> {
    let applied = match conn.list_applied_migrations(table).await {
        Ok(applied) => applied,
        Err(error) if is_missing(&error) => bail!("{table} does not exist: run `migrate` first"),
        Err(error) => return Err(error).with_context(|| format!("failed to read {table}")),
    };
    if let Some(version) =
        conn.dirty_version(table).await.with_context(|| format!("failed to read {table}"))?
    {
        bail!("{table}: migration {version} stopped halfway");
    }
    for ours in migrator.iter().filter(|ours| !ours.migration_type.is_down_migration()) {
        match applied.iter().find(|theirs| theirs.version == ours.version) {
            Some(theirs) => ensure!(
                theirs.checksum == ours.checksum,
                "{table}: migration {} is not the one of this release",
                ours.version
            ),
            None => bail!("{table}: migration {} is missing: run `migrate` first", ours.version),
        }
    }
    if let Some(newer) = applied.iter().find(|theirs| !migrator.version_exists(theirs.version)) {
        tracing::info!("{table} has migration {}, which is newer than this release", newer.version);
    }
    Ok(())
}

/// Says whether the server answers, for `/readyz`.
///
/// # Errors
/// A few words that hold no secret.
pub async fn answers(pool: &PgPool) -> Result<(), String> {
    let ping = async {
        let mut conn = pool.acquire().await.map_err(|_| "no connection".to_owned())?;
        conn.ping().await.map_err(|_| "no answer".to_owned())
    };
    tokio::time::timeout(ANSWER_WAIT, ping)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// Lets `role` use the schemas: rows and sequences, not their shape, nor the record of migrations.
///
/// Run by the owner after [`migrate`]; a service may revoke more afterwards.
///
/// # Errors
/// When a name is not a plain identifier, or Postgres refuses.
pub async fn grant(url: &str, role: &str, schemas: &[&str]) -> anyhow::Result<()> {
    let mut conn = patiently(&read(url, "migrate")?).await?;
    let role = quoted(role).context("the runtime role")?;
    let mut statements = String::from("begin;\n");
    for schema in schemas {
        let schema = quoted(schema).context("a schema")?;
        statements.push_str(&format!(
            "grant usage on schema {schema} to {role};\n\
             grant select, insert, update, delete on all tables in schema {schema} to {role};\n\
             grant usage, select on all sequences in schema {schema} to {role};\n\
             grant execute on all functions in schema {schema} to {role};\n\
             do $$ begin if to_regclass('{schema}._sqlx_migrations') is not null then\n\
             revoke insert, update, delete on {schema}._sqlx_migrations from {role}; end if; end $$;\n"
        ));
    }
    statements.push_str("commit;");
    // Safe: every name in it has passed `quoted`.
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut conn)
        .await
        .context("failed to grant the runtime role what it needs")?;
    conn.close().await.context("failed to close a connection")
}

/// A plain identifier in double quotes: lower-case letters, digits, `_` and `-`, at most 63.
fn quoted(name: &str) -> anyhow::Result<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    ensure!(
        (1..=63).contains(&name.len())
            && name.chars().all(plain)
            && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-'),
        "must be 1–63 of a–z, 0–9, _ and -, and begin with a letter"
    );
    Ok(format!("\"{name}\""))
}

fn read(url: &str, application_name: &str) -> anyhow::Result<PgConnectOptions> {
    match PgConnectOptions::from_str(url) {
        Ok(options) => Ok(options.application_name(application_name)),
        // The cause may quote the URL, and with it the password.
        Err(_) => bail!("the database URL of {application_name} cannot be read"),
    }
}

/// Connects, trying again for a while as long as the server is not there yet.
async fn patiently(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let attempts = async {
        loop {
            match PgConnection::connect_with(options).await {
                Err(error) if is_starting(&error) => tokio::time::sleep(CONNECT_PAUSE).await,
                done => return done,
            }
        }
    };
    let place = format!("Postgres at {}:{}", options.get_host(), options.get_port());
    match tokio::time::timeout(CONNECT_WAIT, attempts).await {
        Ok(done) => done.with_context(|| format!("failed to connect to {place}")),
        Err(_) => bail!("{place} did not answer within {} s", CONNECT_WAIT.as_secs()),
    }
}

fn is_starting(error: &sqlx::Error) -> bool {
    /// `cannot_connect_now`: the server is starting, stopping or recovering.
    const CANNOT_CONNECT_NOW: &str = "57P03";
    matches!(error, sqlx::Error::Io(_))
        || error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| code == CANNOT_CONNECT_NOW)
}

fn is_missing(error: &MigrateError) -> bool {
    /// `undefined_table` and `invalid_schema_name`.
    const MISSING: [&str; 2] = ["42P01", "3F000"];
    let MigrateError::Execute(error) = error else {
        return false;
    };
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| MISSING.contains(&code.as_ref()))
}

fn schema_of(migrator: &Migrator) -> &str {
    migrator.table_name.split('.').next().unwrap_or("a schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_reach_a_grant() {
        assert_eq!(quoted("ledger_rw").unwrap(), "\"ledger_rw\"");
        assert_eq!(quoted("ledger-rw").unwrap(), "\"ledger-rw\"");
        for bad in ["", "a\"b", "a;drop", "A", "1a", "-a", "a b", "ä", "a'b", &"a".repeat(64)] {
            assert!(quoted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unreadable_url_is_not_quoted_back() {
        let said = format!("{:#}", read("postgres://me:hunter2@[bad", "ledger").unwrap_err());
        assert!(!said.contains("hunter2"), "{said}");
    }
}
