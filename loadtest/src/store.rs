//! All SQL of the bench: it looks, and changes nothing but pgbench's own tables.
//!
//! The statements are not checked at build time: the databases they are about exist only while
//! the bench runs, and most tables are looked at whatever release made them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use primitives::AccountId;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgPool};

/// What must be on for a commit to survive a power cut.
pub(crate) const DURABLE: &[&str] = &["fsync", "synchronous_commit", "full_page_writes"];

const POOL_MAX: u32 = 4;

/// A connection that does not log its statements.
pub(crate) async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options: PgConnectOptions = url.parse().context("a database URL cannot be read")?;
    let options = options.disable_statement_logging().application_name("loadtest");
    PgConnection::connect_with(&options).await.context("failed to connect to Postgres")
}

/// Connections for something large: no statement is cut short.
pub(crate) async fn pool(url: &str) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.parse().context("a database URL cannot be read")?;
    let options = options.disable_statement_logging().application_name("loadtest");
    let pool = PgPoolOptions::new().max_connections(POOL_MAX).connect_with(options).await;
    pool.context("failed to connect to Postgres")
}

/// Settings that the figures depend on, with the release.
pub(crate) async fn settings(url: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    const SHOWN: &[&str] = &[
        "server_version",
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "wal_sync_method",
        "wal_compression",
        "shared_buffers",
        "max_wal_size",
        "checkpoint_timeout",
    ];
    let mut conn = connect(url).await?;
    let mut settings = Vec::new();
    for name in SHOWN {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(name)
            .fetch_one(&mut conn)
            .await
            .with_context(|| format!("failed to read the setting {name}"))?;
        settings.push((*name, value));
    }
    conn.close().await.context("failed to close a connection")?;
    Ok(settings)
}

/// How far the ledger has come in its stream; none before it ever began.
pub(crate) async fn applied(conn: &mut PgConnection) -> anyhow::Result<Option<u64>> {
    let sequence: Option<i64> = sqlx::query_scalar(
        "select sequence from bus.cursors where reader = 'ledger' and stream = 'CMD_LEDGER'",
    )
    .fetch_optional(conn)
    .await
    .context("failed to read how far the ledger has come")?;
    Ok(sequence.and_then(|it| u64::try_from(it).ok()))
}

/// How many deposits are in each state.
pub(crate) async fn deposits(conn: &mut PgConnection) -> anyhow::Result<BTreeMap<String, i64>> {
    let states: Vec<(String, i64)> =
        sqlx::query_as("select state, count(*) from payments.deposits group by state")
            .fetch_all(conn)
            .await
            .context("failed to count deposits")?;
    Ok(states.into_iter().collect())
}

/// How many webhooks are in each state.
pub(crate) async fn webhooks(conn: &mut PgConnection) -> anyhow::Result<BTreeMap<String, i64>> {
    let states: Vec<(String, i64)> =
        sqlx::query_as("select state, count(*) from payments.webhooks group by state")
            .fetch_all(conn)
            .await
            .context("failed to count webhooks")?;
    Ok(states.into_iter().collect())
}

/// What stands on an account: what came less what went.
pub(crate) async fn standing(conn: &mut PgConnection, account: AccountId) -> anyhow::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(case when credit_account_id = $1 then amount_minor
                                  else -amount_minor end), 0)::bigint
         from ledger.transfers
         where $1 in (debit_account_id, credit_account_id) and rejection = 0",
    )
    .bind(account.uuid())
    .fetch_one(conn)
    .await
    .context("failed to add up an account")
}

/// Bytes on disk, indexes included, of everything that grows with transfers: all tables of the
/// ledger's database but those of its accounts.
pub(crate) async fn bytes_of_transfers(conn: &mut PgConnection) -> anyhow::Result<u64> {
    let bytes: i64 = sqlx::query_scalar(
        "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
         from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('ledger', 'bus')
           and c.relkind in ('r', 'p', 'm')
           and (n.nspname, c.relname) <> ('ledger', 'accounts')",
    )
    .fetch_one(conn)
    .await
    .context("failed to read the size of the books")?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Writes out what the preparations left in memory. Their log is then used again instead of new
/// files that have to be made, as on any Postgres that has run for a while.
pub(crate) async fn checkpoint(url: &str) -> anyhow::Result<()> {
    let mut conn = connect(url).await?;
    sqlx::raw_sql("checkpoint").execute(&mut conn).await.context("failed to checkpoint")?;
    conn.close().await.context("failed to close a connection")
}

/// Cleans up and brings the planner up to date, so that Postgres does not begin to while measured.
pub(crate) async fn vacuum(conn: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql("vacuum (analyze)").execute(conn).await.context("failed to vacuum")?;
    Ok(())
}

/// Brings the planner up to date with what the books have become.
pub(crate) async fn analyze(conn: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql("analyze").execute(conn).await.context("failed to analyze")?;
    Ok(())
}

/// What pgbench's own initialisation makes, for machines that have no pgbench.
pub(crate) mod tpcb {
    use super::*;

    const TABLES: &str = "
        create table pgbench_branches (bid int not null, bbalance int, filler char(88))
          with (fillfactor = 100);
        create table pgbench_tellers (tid int not null, bid int, tbalance int, filler char(84))
          with (fillfactor = 100);
        create table pgbench_accounts (aid int not null, bid int, abalance int, filler char(84))
          with (fillfactor = 100);
        create table pgbench_history
          (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));";
    const KEYS: &str = "
        alter table pgbench_branches add primary key (bid);
        alter table pgbench_tellers add primary key (tid);
        alter table pgbench_accounts add primary key (aid);";

    /// What one transaction moves.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Moved {
        pub(crate) aid: i32,
        pub(crate) bid: i32,
        pub(crate) tid: i32,
        pub(crate) delta: i32,
    }

    /// Makes and fills the tables.
    pub(crate) async fn make(conn: &mut PgConnection, scale: i32) -> anyhow::Result<()> {
        let failed = "failed to make pgbench's tables";
        sqlx::raw_sql(TABLES).execute(&mut *conn).await.context(failed)?;
        for fill in [
            "insert into pgbench_branches (bid, bbalance)
             select n, 0 from generate_series(1, $1) n returning 1",
            "insert into pgbench_tellers (tid, bid, tbalance)
             select n, (n - 1) / 10 + 1, 0 from generate_series(1, $1 * 10) n returning 1",
            "insert into pgbench_accounts (aid, bid, abalance, filler)
             select n, (n - 1) / 100000 + 1, 0, '' from generate_series(1, $1 * 100000) n
             returning 1",
        ] {
            run(conn, fill, &[scale]).await?;
        }
        sqlx::raw_sql(KEYS).execute(&mut *conn).await.context(failed)?;
        vacuum(conn).await
    }

    /// pgbench's `tpcb-like` transaction, statement by statement.
    pub(crate) async fn transact(conn: &mut PgConnection, it: Moved) -> anyhow::Result<()> {
        let Moved { aid, bid, tid, delta } = it;
        let failed = "a transaction of pgbench's kind failed";
        let mut tx = conn.begin().await.context(failed)?;
        for (statement, values) in [
            (
                "update pgbench_accounts set abalance = abalance + $1 where aid = $2",
                &[delta, aid][..],
            ),
            ("select abalance from pgbench_accounts where aid = $1", &[aid][..]),
            (
                "update pgbench_tellers set tbalance = tbalance + $1 where tid = $2",
                &[delta, tid][..],
            ),
            (
                "update pgbench_branches set bbalance = bbalance + $1 where bid = $2",
                &[delta, bid][..],
            ),
            (
                "insert into pgbench_history (tid, bid, aid, delta, mtime)
                 values ($1, $2, $3, $4, current_timestamp)",
                &[tid, bid, aid, delta][..],
            ),
        ] {
            run(&mut tx, statement, values).await?;
        }
        tx.commit().await.context(failed)
    }

    #[expect(clippy::disallowed_methods, reason = "pgbench's tables exist only while this runs")]
    async fn run(
        conn: &mut PgConnection,
        statement: &'static str,
        values: &[i32],
    ) -> anyhow::Result<()> {
        let query = sqlx::query(statement);
        let query = values.iter().fold(query, |query, value| query.bind(*value));
        query.execute(conn).await.context("a statement of pgbench's kind failed")?;
        Ok(())
    }
}
