//! The ledger as a process of its own is killed (`SIGKILL`) after each step of a batch and started
//! again: whatever the step, the books end the same, and the asker gets the same answer.
//!
//! A step is held by a trigger that waits for a lock the test has. The dead process' transaction
//! then ends in one of two ways: Postgres notices the loss, or it finishes the statement it was
//! asked for, which at the last step is the commit.

use std::process::Stdio;

use bus::ask::Asker;
use bytes::Bytes;
use primitives::{AccountId, Currency, RequestKey, TransferId};
use prost::Message;
use proto_events::convert::WireId;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::Rejection;
use proto_events::ledger::v1::command::Body;
use proto_events::subjects::ledger as on;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{Database, Nats, eventually};
use tokio::process::{Child, Command};

use crate::harness::{RUNTIME_ROLE, WAIT, balanced, count, database, deposit, keyed, open, pay};

/// After which step the process is killed: the trigger that holds it there.
const STEPS: [(&str, &str); 7] = [
    ("the cursor moved", "trigger step after update on bus.cursors for each statement"),
    ("accounts were updated", "trigger step after update on ledger.accounts for each statement"),
    ("transfers were inserted", "trigger step after insert on ledger.transfers for each statement"),
    ("entries were inserted", "trigger step after insert on ledger.entries for each statement"),
    ("the batch was closed", "trigger step after insert on ledger.batches for each statement"),
    ("the event was enqueued", "trigger step after insert on bus.outbox for each statement"),
    (
        "commit was asked for",
        "constraint trigger step after insert on bus.outbox deferrable initially deferred for each row",
    ),
];

const FROM: AccountId = AccountId::from_uuid(Uuid::from_u128(1));
const TO: AccountId = AccountId::from_uuid(Uuid::from_u128(2));

fn asked() -> wire::PostTransfer {
    let transfer_id = TransferId::from_uuid(Uuid::from_u128(9)).to_bytes();
    keyed(wire::PostTransfer { transfer_id, ..pay(FROM, TO, 30) }, RequestKey([6; 32]))
}

/// The ledger as a process; killed when dropped.
fn process(database: &Database, nats: &Nats) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ledger"))
        .arg("serve")
        .env("LEDGER_DATABASE_URL", database.url_as(RUNTIME_ROLE))
        .env("NATS_URL", &nats.url)
        .env("ADMIN_ADDRESS", "127.0.0.1:0")
        .env("LOG_LEVEL", "warn")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn kill(mut process: Child) {
    process.kill().await.unwrap();
    process.wait().await.unwrap();
}

async fn ask(asker: &Asker, subject: &'static str, body: Body) -> wire::Outcome {
    let command = wire::Command { deadline_at_us: 0, body: Some(body) };
    let outcome: wire::Outcome = asker.command(subject, &command, WAIT).await.unwrap();
    assert_eq!(outcome.rejection(), Rejection::Unspecified);
    outcome
}

/// Sends the transfer and does not wait for any answer.
async fn send(nats: &Nats) {
    let body = Some(Body::PostTransfer(asked()));
    let payload = wire::Command { deadline_at_us: 0, body }.encode_to_vec();
    let jetstream = async_nats::jetstream::new(nats.client().await);
    jetstream.publish(on::POST_TRANSFER, Bytes::from(payload)).await.unwrap().await.unwrap();
}

async fn execute(conn: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.unwrap();
}

/// Books with two wallets, of which one has money, and what they are asked with.
async fn prepare() -> (Database, Nats, Asker) {
    let (database, nats) = tokio::join!(database(), testkit::nats());
    let asker = Asker::new(nats.client().await);
    let process = process(&database, &nats);
    for account_id in [FROM, TO] {
        ask(&asker, on::OPEN_ACCOUNT, open(account_id, Currency::NGN)).await;
    }
    let transfer_id = TransferId::from_uuid(Uuid::from_u128(8)).to_bytes();
    let funds = wire::PostTransfer { transfer_id, ..deposit(FROM, 100) };
    ask(&asker, on::POST_DEPOSIT, Body::PostTransfer(funds)).await;
    kill(process).await;
    (database, nats, asker)
}

type Row = (i64, Uuid, Uuid, i64, i64, i64);

/// Starts the ledger, asks the same thing again, and says how the books ended.
async fn recover(name: &str, database: Database, nats: Nats, asker: Asker) -> Vec<Row> {
    let process = process(&database, &nats);
    let outcome = ask(&asker, on::POST_TRANSFER, Body::PostTransfer(asked())).await;
    assert_eq!(outcome.transfer_id, asked().transfer_id, "{name}");
    assert_eq!(outcome.debit_balance_after_minor, 70, "{name}");
    assert!(outcome.replayed, "{name}: the first copy was in the stream");
    kill(process).await;
    balanced(&database).await;
    assert_eq!(
        count(&database, "select count(*) from bus.outbox").await,
        2,
        "{name}: one event each"
    );
    assert_eq!(count(&database, "select count(*) from bus.parked").await, 0, "{name}");
    sqlx::query_as(
        "select e.position, e.transfer_id, e.account_id, e.amount_minor, e.balance_after_minor,
           a.credits_minor - a.debits_minor
         from ledger.entries e
         join ledger.accounts a using (account_id)
         order by e.position",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap()
}

/// Kills the ledger while it is held after a step.
async fn crash_at(name: &str, trigger: &str, is_noticed: bool) -> Vec<Row> {
    let (database, nats, asker) = prepare().await;
    let mut holder = PgConnection::connect(&database.url).await.unwrap();
    execute(&mut holder, "select pg_advisory_lock(4711)".to_owned()).await;
    let hold = format!(
        "create function public.hold() returns trigger language plpgsql as $$
         begin perform pg_advisory_xact_lock(4711); return null; end $$;
         create {trigger} execute function public.hold()"
    );
    execute(&mut holder, hold).await;
    let process = process(&database, &nats);
    send(&nats).await;
    let held = eventually(name, WAIT, async || {
        let pid: Option<i32> = sqlx::query_scalar(
            "select pid from pg_locks where locktype = 'advisory' and objid = 4711 and not granted
               and database = (select oid from pg_database where datname = current_database())",
        )
        .fetch_optional(&database.pool)
        .await
        .unwrap();
        pid.ok_or_else(|| "nobody waits".to_owned())
    })
    .await;
    kill(process).await;
    if is_noticed {
        execute(&mut holder, format!("select pg_terminate_backend({held}, 10000)")).await;
    }
    execute(&mut holder, "select pg_advisory_unlock(4711)".to_owned()).await;
    execute(&mut holder, "drop function public.hold() cascade".to_owned()).await;
    holder.close().await.unwrap();
    recover(name, database, nats, asker).await
}

#[tokio::test]
async fn a_crash_after_any_step_ends_in_the_same_books() {
    // Killed before the command came, and after everything but the answer was done.
    let (database, nats, asker) = prepare().await;
    send(&nats).await;
    let expected = recover("not running yet", database, nats, asker).await;
    let (database, nats, asker) = prepare().await;
    let process = process(&database, &nats);
    send(&nats).await;
    eventually("the commit", WAIT, async || {
        let n = count(&database, "select count(*) from ledger.transfers").await;
        if n == 2 { Ok(()) } else { Err(format!("{n} transfers")) }
    })
    .await;
    kill(process).await;
    assert_eq!(recover("committed, not answered", database, nats, asker).await, expected);

    for (name, trigger) in STEPS {
        for is_noticed in [true, false] {
            let found = crash_at(name, trigger, is_noticed).await;
            assert_eq!(found, expected, "{name}, noticed: {is_noticed}");
        }
    }
    assert_eq!(expected.len(), 4);
}
