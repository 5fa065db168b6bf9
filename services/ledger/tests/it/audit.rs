//! Whatever a hand in `psql` does to the books with all triggers off, the audit says so: the full
//! reading at once, the running ledger within a few looks, by turning its readiness off.

use ledger_core::audit::Violation;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::eventually;

use crate::harness::{Ledger, WAIT, balanced, pay};

/// What it is, what does it, what mends it, and a violation that must be among those found.
type Damage = (&'static str, &'static str, &'static str, fn(&Violation) -> bool);

const DAMAGES: [Damage; 9] = [
    (
        "one balance",
        "update ledger.accounts set credits_minor = credits_minor + 1 where kind = 'wallet'
           and credits_minor = 100",
        "update ledger.accounts set credits_minor = credits_minor - 1 where credits_minor = 101",
        |it| matches!(it, Violation::BalanceDiffersFromEntries { .. }),
    ),
    (
        "one entry",
        "update ledger.entries set amount_minor = -11, balance_after_minor = balance_after_minor - 1
           where position = 5",
        "update ledger.entries set amount_minor = -10, balance_after_minor = balance_after_minor + 1
           where position = 5",
        |it| matches!(it, Violation::EntryDiffersFromTransfer { .. }),
    ),
    (
        "one missing entry",
        "create table public.kept as select * from ledger.entries where position = 4;
         delete from ledger.entries where position = 4",
        "insert into ledger.entries select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::PositionGap { expected: 4, found: 5 }),
    ),
    (
        "the newest entries missing",
        "create table public.kept as select * from ledger.entries where position > 6;
         delete from ledger.entries where position > 6",
        "insert into ledger.entries select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::WrongEnd { expected: 8, found: 6 }),
    ),
    (
        "one missing transfer",
        "create table public.kept as select * from ledger.transfers where position = 5;
         delete from ledger.transfers where position = 5",
        "insert into ledger.transfers select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::EntryWithoutTransfer { position: 5, .. }),
    ),
    (
        "one missing account",
        "create table public.kept as select * from ledger.accounts where kind = 'wallet'
           and credits_minor = 100;
         delete from ledger.accounts where kind = 'wallet' and credits_minor = 100",
        "insert into ledger.accounts select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::WrongAccount { .. }),
    ),
    (
        "a transfer's amount",
        "update ledger.transfers set amount_minor = 11 where position = 5",
        "update ledger.transfers set amount_minor = 10 where position = 5",
        |it| matches!(it, Violation::EntryDiffersFromTransfer { position: 5, .. }),
    ),
    (
        "an entry moved to somebody else",
        "update ledger.entries set account_id = (
           select account_id from ledger.entries where position = 4) where position = 8",
        "update ledger.entries e set account_id = t.credit_account_id from ledger.transfers t
           where e.position = 8 and t.transfer_id = e.transfer_id",
        |it| matches!(it, Violation::EntryDiffersFromTransfer { position: 8, .. }),
    ),
    (
        "a currency",
        "update ledger.accounts set currency = 'GHS' where kind = 'wallet' and credits_minor = 100",
        "update ledger.accounts set currency = 'NGN' where currency = 'GHS' and kind = 'wallet'",
        |it| matches!(it, Violation::WrongAccount { .. }),
    ),
];

/// As somebody would who knows how to get around triggers.
async fn tamper(conn: &mut PgConnection, statement: &str) {
    let statement = format!("set session_replication_role = replica; {statement}");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.unwrap();
}

async fn books_are_ready(ledger: &Ledger) -> Result<(), String> {
    let all = ledger.context.readiness().await;
    let (_, said) = all.into_iter().find(|(name, _)| *name == "ledger books").unwrap();
    said
}

/// Books of eight entries: two deposits, then two transfers.
async fn books() -> Ledger {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(70).await);
    let c = ledger.funded(0).await;
    ledger.posted(pay(a, b, 10)).await;
    ledger.posted(pay(b, c, 20)).await;
    ledger
}

#[tokio::test]
async fn damage_is_noticed_and_turns_readiness_off_until_it_is_mended() {
    let ledger = books().await;
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    for (name, damage, mend, is_expected) in DAMAGES {
        eventually("readiness", WAIT, async || books_are_ready(&ledger).await).await;
        tamper(&mut conn, damage).await;
        let violations = ledger::audit::violations(&ledger.database.pool).await.unwrap();
        assert!(violations.iter().any(is_expected), "{name}: {violations:?}");
        eventually(name, WAIT, async || match books_are_ready(&ledger).await {
            Ok(()) => Err("still ready".to_owned()),
            Err(said) if said.contains("violations") => Ok(()),
            Err(said) => Err(said),
        })
        .await;
        tamper(&mut conn, mend).await;
        balanced(&ledger.database).await;
    }
    eventually("readiness", WAIT, async || books_are_ready(&ledger).await).await;
    conn.close().await.unwrap();
    ledger.finish().await;
}

#[tokio::test]
async fn a_transfer_that_never_moved_money_is_noticed_by_the_full_reading() {
    let ledger = books().await;
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    tamper(
        &mut conn,
        "insert into ledger.transfers
         select gen_random_uuid(), debit_account_id, credit_account_id, amount_minor, 99,
           decided_at, kind, rejection, made_by_key_id, currency, request_digest, null, note,
           reference
         from ledger.transfers
         where position = 5",
    )
    .await;
    let violations = ledger::audit::violations(&ledger.database.pool).await.unwrap();
    let [Violation::TransferWithoutEntries { .. }] = violations.as_slice() else {
        panic!("{violations:?}");
    };
    tamper(&mut conn, "delete from ledger.transfers where position = 99").await;
    conn.close().await.unwrap();
    ledger.finish().await;
}

#[tokio::test]
async fn new_books_are_ready_once_they_were_looked_at() {
    let ledger = Ledger::start().await;
    eventually("readiness", WAIT, async || books_are_ready(&ledger).await).await;
    ledger.finish().await;
}
