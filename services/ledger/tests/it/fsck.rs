//! `ledger fsck`, as somebody at a shell sees it; and what a process says of books that were
//! damaged.

use std::process::Output;

use bus::ask::Asker;
use primitives::{AccountId, Currency};
use proto_events::ledger::v1::TransferKind;
use proto_events::ledger::v1::command::Body;
use proto_events::subjects::ledger as on;
use sqlx::{Connection, PgConnection};
use tokio::process::Command;

use crate::audit::tamper;
use crate::harness::{Ledger, RUNTIME_ROLE, about, database, deposit, hold, open, pay};
use crate::process::{Process, ask};

async fn fsck(url: &str) -> Output {
    let mut fsck = Command::new(env!("CARGO_BIN_EXE_ledger"));
    fsck.arg("fsck").env("LEDGER_DATABASE_URL", url).kill_on_drop(true).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn books_that_balance_end_with_0_and_differences_with_1_and_their_ids() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let (paid, held) = (pay(a, b, 10), hold(a, b, 20));
    ledger.posted(paid.clone()).await;
    for transfer in [held.clone(), about(TransferKind::Capture, &held, 5)] {
        ledger.do_any(transfer).await;
    }
    // The running ledger's own role is enough, and it may go on meanwhile.
    let url = ledger.database.url_as(RUNTIME_ROLE);
    let good = fsck(&url).await;
    assert_eq!((good.status.code(), text(&good.stdout).as_str()), (Some(0), "the books balance\n"));
    assert!(text(&good.stderr).contains("read 4 transfers and 14 accounts in "));

    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    let remaining = "update ledger.holds set remaining_minor = remaining_minor";
    tamper(&mut conn, &format!("{remaining} - 1")).await;
    let bad = fsck(&url).await;
    let said = text(&bad.stdout);
    assert_eq!(bad.status.code(), Some(1), "{said}");
    let [hold, end] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    let id = primitives::TransferId::from_uuid(
        sqlx::types::Uuid::from_slice(&held.transfer_id).unwrap(),
    );
    assert_eq!(hold, format!("the hold {id} is kept with 14, 15 remain of it"));
    assert_eq!(end, "the books do not balance: 1 differences");
    tamper(&mut conn, &format!("{remaining} + 1")).await;
    conn.close().await.unwrap();
    ledger.finish().await;
}

#[tokio::test]
async fn books_that_cannot_be_read_are_neither_good_nor_bad() {
    let database = database().await;
    let nowhere = database.url_as(RUNTIME_ROLE).replace(database.name(), "no_such_books");
    let unread = fsck(&nowhere).await;
    assert_eq!((unread.status.code(), text(&unread.stdout).as_str()), (Some(2), ""));
    assert!(text(&unread.stderr).contains("ledger fsck: failed to connect"));
    let unset = fsck("").await;
    assert_eq!(unset.status.code(), Some(64), "{}", text(&unset.stderr));
}

#[tokio::test]
async fn a_process_tells_prometheus_and_its_readiness_of_damage() {
    let (database, nats) = tokio::join!(database(), testkit::nats());
    let process = Process::start_with(&database, &nats, &[("LEDGER_AUDIT_INTERVAL_MS", "20")]);
    let asker = Asker::new(nats.client().await);
    let account_id = AccountId::generate();
    ask(&asker, on::OPEN_ACCOUNT, open(account_id, Currency::NGN)).await;
    ask(&asker, on::POST_DEPOSIT, Body::PostTransfer(deposit(account_id, 100))).await;
    process.until_ready(true).await;
    process.until("ledger_audit_rounds_total", "", |it| it > 1).await;
    let mut conn = PgConnection::connect(&database.url).await.unwrap();
    let balance = "update ledger.transfers set credit_balance_after_minor";
    tamper(&mut conn, &format!("{balance} = 101")).await;
    process.until("ledger_audit_violations", "", |it| it > 0).await;
    process.until_ready(false).await;
    tamper(&mut conn, &format!("{balance} = 100")).await;
    process.until("ledger_audit_violations", "", |it| it == 0).await;
    process.until_ready(true).await;
    conn.close().await.unwrap();
    process.kill().await;
    crate::harness::balanced(&database).await;
}
