//! How [`crate::seed`] writes: as the writer does, without indexes and without the checks at the
//! end of each statement, which the audit makes up for.

use ledger_core::{Account, Changes, Head};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Error, insert, open_accounts};

/// How full the pages of an index are whose keys arrived in no order, in percent: a page that was
/// split is half empty. Packed as `create index` does, all of them would be split soon and at once,
/// which does not happen to books that grew by themselves.
const FILL_PERCENT: u32 = 70;
/// Accounts opened by one statement.
const ACCOUNTS_AT_ONCE: usize = 50_000;

/// A statement each, to build what was dropped.
#[derive(Debug)]
pub(crate) struct Indexes(Vec<String>);

/// Takes the indexes and the triggers' checks off the transfers, and says how they are built.
pub(crate) async fn drop_indexes(conn: &mut PgConnection) -> Result<Indexes, Error> {
    let constraints = sqlx::query!(
        r#"select conname as "name!", pg_get_constraintdef(oid) as "definition!"
           from pg_constraint
           where conrelid = 'ledger.transfers'::regclass and contype in ('p', 'u')"#
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(Error::Find)?;
    let indexes = sqlx::query!(
        r#"select i.indexrelid::regclass::text as "name!", pg_get_indexdef(i.indexrelid) as "definition!"
           from pg_index i
           left join pg_constraint c on c.conindid = i.indexrelid
           where i.indrelid = 'ledger.transfers'::regclass and c.oid is null"#
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(Error::Find)?;
    let mut build = Vec::new();
    for it in constraints {
        execute(conn, format!("alter table ledger.transfers drop constraint {}", it.name)).await?;
        build.push(format!(
            "alter table ledger.transfers add constraint {} {}",
            it.name, it.definition
        ));
    }
    for it in indexes {
        execute(conn, format!("drop index {}", it.name)).await?;
        build.push(loosely(&it.definition));
        build.push(format!("alter index {} reset (fillfactor)", it.name));
    }
    build.push("alter table ledger.transfers enable trigger transfers_without_gap".to_owned());
    build.push("alter table ledger.batches enable trigger batches_move_forward".to_owned());
    execute(conn, "alter table ledger.transfers disable trigger transfers_without_gap".to_owned())
        .await?;
    execute(conn, "alter table ledger.batches disable trigger batches_move_forward".to_owned())
        .await?;
    execute(conn, "set synchronous_commit = off; set maintenance_work_mem = '512MB'".to_owned())
        .await?;
    Ok(Indexes(build))
}

/// The same index with pages filled to [`FILL_PERCENT`].
fn loosely(definition: &str) -> String {
    let filled = format!(" with (fillfactor = {FILL_PERCENT})");
    let (index, condition) = match definition.find(" WHERE ") {
        Some(at) => definition.split_at(at),
        None => (definition, ""),
    };
    format!("{index}{filled}{condition}")
}

/// Builds what [`drop_indexes`] dropped.
pub(crate) async fn build_indexes(
    conn: &mut PgConnection,
    Indexes(build): &Indexes,
) -> Result<(), Error> {
    for statement in build {
        execute(conn, statement.clone()).await?;
    }
    execute(conn, "reset synchronous_commit; reset maintenance_work_mem".to_owned()).await
}

/// The statements are this file's own, and definitions that Postgres printed.
async fn execute(conn: &mut PgConnection, statement: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map_err(Error::Find)?;
    Ok(())
}

/// Opens accounts in which nothing ever happened.
pub(crate) async fn open(conn: &mut PgConnection, accounts: &[Account]) -> Result<(), Error> {
    for some in accounts.chunks(ACCOUNTS_AT_ONCE) {
        open_accounts(conn, some, Head::START).await?;
    }
    Ok(())
}

/// Saves transfers of wallets and deposits.
pub(crate) async fn save(conn: &mut PgConnection, changes: &Changes) -> Result<(), Error> {
    let mut tx = conn.begin().await.map_err(Error::Begin)?;
    insert::transfers(&mut tx, &changes.records, changes.head).await?;
    tx.commit().await.map_err(Error::Commit)
}
