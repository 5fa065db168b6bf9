//! Only the ledger's role writes the books, and even it only adds to them.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{Ledger, RUNTIME_ROLE, pay};

/// `insufficient_privilege`
const DENIED: &str = "42501";

/// The SQLSTATE with which `statement` is refused, if it is.
async fn refused(conn: &mut PgConnection, statement: &str) -> Option<String> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(conn).await;
    let error = done.err()?;
    Some(error.as_database_error()?.code()?.into_owned())
}

const READS: [&str; 7] = [
    "select from ledger.accounts",
    "select from ledger.account_changes",
    "select from ledger.transfers",
    "select from ledger.batches",
    "select from ledger.holds",
    "select from ledger.reversals",
    "select from bus.cursors",
];

const CHANGES: [&str; 21] = [
    "update ledger.transfers set rejection = 0",
    "update ledger.transfers set debit_balance_after_minor = 1",
    "update ledger.batches set decided_at = now()",
    "update ledger.account_changes set rejection = 0",
    "update ledger.holds set amount_minor = 1",
    "update ledger.reversals set amount_minor = 1",
    "delete from ledger.transfers",
    "delete from ledger.batches",
    "delete from ledger.accounts",
    "delete from ledger.account_changes",
    "delete from ledger.holds",
    "delete from ledger.reversals",
    "truncate ledger.transfers",
    "truncate ledger.accounts cascade",
    "update ledger.accounts set kind = 'suspense'",
    "update ledger.accounts set currency = 'USD'",
    "update ledger.accounts set opened_after = 0",
    "alter table ledger.transfers disable trigger all",
    "set session_replication_role = replica",
    "create table ledger.more (id int)",
    "delete from ledger._sqlx_migrations",
];

const ADDITIONS: [&str; 6] = [
    "insert into ledger.accounts select * from ledger.accounts",
    "insert into ledger.transfers select * from ledger.transfers",
    "insert into ledger.batches select * from ledger.batches",
    "insert into ledger.holds select * from ledger.holds",
    "update ledger.accounts set status = 'frozen'",
    "update ledger.holds set remaining_minor = 0",
];

#[tokio::test]
async fn another_services_role_can_neither_read_nor_write_the_books() {
    let ledger = Ledger::start().await;
    ledger.funded(100).await;
    testkit::postgres().await.role("another_service").await;
    let url = ledger.database.url_as("another_service");
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let grab = format!("select ledger.grant_runtime('{}')", "another_service");
    for statement in READS.into_iter().chain(CHANGES).chain(ADDITIONS).chain([grab.as_str()]) {
        assert_eq!(refused(&mut conn, statement).await.as_deref(), Some(DENIED), "{statement}");
    }
    conn.close().await.unwrap();
    ledger.finish().await;
}

#[tokio::test]
async fn the_ledgers_own_role_reads_and_adds_but_cannot_change_what_is_written() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    ledger.posted(pay(a, b, 10)).await;
    let url = ledger.database.url_as(RUNTIME_ROLE);
    let mut conn = PgConnection::connect(&url).await.unwrap();
    for statement in READS {
        assert_eq!(refused(&mut conn, statement).await, None, "{statement}");
    }
    for statement in CHANGES {
        assert_eq!(refused(&mut conn, statement).await.as_deref(), Some(DENIED), "{statement}");
    }
    conn.close().await.unwrap();
    ledger.finish().await;
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let ledger = Ledger::start().await;
    let accounts = "select count(*) from ledger.accounts";
    let before = ledger.count(accounts).await;
    assert_eq!(before, 12, "two accounts of its own in each of six currencies");
    let config = crate::harness::config(&ledger.database.url, &[]);
    ledger::migrate(config).await.unwrap();
    assert_eq!(ledger.count(accounts).await, before);
    ledger.finish().await;
}
