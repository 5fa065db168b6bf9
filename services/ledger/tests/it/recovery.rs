//! The ledger as a process of its own is killed (`SIGKILL`) after each step of a batch and started
//! again: whatever the step, the books end the same, and the asker gets the same answer.
//!
//! A step is held by a trigger that waits for a lock the test has. The dead process' transaction
//! then ends in one of two ways: Postgres notices the loss, or it finishes the statement it was
//! asked for, which at the last step is the commit.

use bus::ask::Asker;
use bytes::Bytes;
use futures_util::StreamExt;
use primitives::{AccountId, Currency, RequestKey, TransferId};
use proto_events::convert::WireId;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::command::Body;
use proto_events::ledger::v1::{AccountChange, TransferKind};
use proto_events::subjects::ledger as on;
use sqlx::types::Uuid;
use testkit::{Database, Nats, eventually};

use crate::harness::{WAIT, about, balanced, count, database, deposit, hold, keyed, open, pay};
use crate::process::{Hold, Process, ask, send};

/// After which step the process is killed: the trigger that holds it there.
const STEPS: [(&str, &str); 9] = [
    ("the cursor moved", "trigger step after update on bus.cursors for each statement"),
    ("an account was opened", "trigger step after insert on ledger.accounts for each statement"),
    ("an account was changed", "trigger step after update on ledger.accounts for each statement"),
    ("so it was noted", "trigger step after insert on ledger.account_changes for each statement"),
    ("transfers were copied", "trigger step after insert on ledger.transfers for each statement"),
    ("the batch was closed", "trigger step after insert on ledger.batches for each statement"),
    ("a hold was saved", "trigger step after insert on ledger.holds for each statement"),
    ("a reversal was saved", "trigger step after insert on ledger.reversals for each statement"),
    (
        "commit was asked for",
        "constraint trigger step after update on bus.cursors deferrable initially deferred for each row",
    ),
];

const FROM: AccountId = AccountId::from_uuid(Uuid::from_u128(1));
const TO: AccountId = AccountId::from_uuid(Uuid::from_u128(2));
const NEW: AccountId = AccountId::from_uuid(Uuid::from_u128(3));
const FROZEN: AccountId = AccountId::from_uuid(Uuid::from_u128(4));

fn named(number: u128, transfer: wire::PostTransfer) -> wire::PostTransfer {
    let transfer_id = TransferId::from_uuid(Uuid::from_u128(number)).to_bytes();
    wire::PostTransfer { transfer_id, ..transfer }
}

fn funds() -> wire::PostTransfer {
    named(8, deposit(FROM, 100))
}

fn payment() -> wire::PostTransfer {
    keyed(named(9, pay(FROM, TO, 30)), RequestKey([6; 32]))
}

/// Everything a batch can be made of, in the order in which it is asked.
fn asked() -> [(&'static str, Body); 5] {
    let freeze = wire::ChangeAccount {
        change_id: Bytes::copy_from_slice(Uuid::from_u128(5).as_bytes()),
        account_id: FROZEN.to_bytes(),
        change: AccountChange::Freeze.into(),
        ..wire::ChangeAccount::default()
    };
    let any = |number, transfer| {
        let transfers = vec![named(number, transfer)];
        Body::PostTransfers(wire::PostTransfers { transfers, linked: false })
    };
    [
        (on::OPEN_ACCOUNT, open(NEW, Currency::NGN)),
        (on::CHANGE_ACCOUNT, Body::ChangeAccount(freeze)),
        (on::POST_TRANSFER, Body::PostTransfer(payment())),
        (on::POST_ANY, any(10, hold(FROM, TO, 20))),
        (on::POST_ANY, any(11, about(TransferKind::Reversal, &funds(), 5))),
    ]
}

/// Books with wallets, of which one has money, and what they are asked with.
async fn prepare() -> (Database, Nats, Asker) {
    let (database, nats) = tokio::join!(database(), testkit::nats());
    let asker = Asker::new(nats.client().await);
    let process = Process::start(&database, &nats);
    for account_id in [FROM, TO, FROZEN] {
        ask(&asker, on::OPEN_ACCOUNT, open(account_id, Currency::NGN)).await;
    }
    ask(&asker, on::POST_DEPOSIT, Body::PostTransfer(funds())).await;
    process.kill().await;
    (database, nats, asker)
}

/// Sends everything while nobody reads, so that it is one batch.
async fn send_all(nats: &Nats) {
    for (subject, body) in asked() {
        send(nats, subject, body).await;
    }
}

/// Starts the ledger, asks the same things again, and says how the books ended.
async fn recover(name: &str, database: Database, nats: Nats, asker: Asker) -> Vec<String> {
    let process = Process::start(&database, &nats);
    for (subject, body) in asked() {
        let command = wire::Command { deadline_at_us: 0, body: Some(body) };
        let outcome = if subject == on::POST_ANY {
            let all: wire::Outcomes = asker.command(subject, &command, WAIT).await.unwrap();
            all.outcomes.into_iter().next().unwrap()
        } else {
            asker.command(subject, &command, WAIT).await.unwrap()
        };
        assert_eq!(outcome.rejection(), wire::Rejection::Unspecified, "{name}: {subject}");
        assert!(outcome.replayed, "{name}: {subject}: the first copy was in the stream");
        if subject == on::POST_TRANSFER {
            assert_eq!(outcome.transfer_id, payment().transfer_id, "{name}");
            assert_eq!(outcome.debit_balance_after_minor, 70, "{name}");
        }
    }
    process.kill().await;
    balanced(&database).await;
    assert_eq!(count(&database, "select count(*) from bus.parked").await, 0, "{name}");
    sqlx::query_scalar(
        "select to_jsonb(t)::text || 'transfer' from (
           select position, transfer_id, debit_account_id, credit_account_id, amount_minor, kind,
             rejection, debit_balance_after_minor, credit_balance_after_minor,
             debit_held_after_minor, of_transfer_id
           from ledger.transfers) t
         union all
         select to_jsonb(a)::text || 'account' from (
           select account_id, status, opened_after from ledger.accounts where kind = 'wallet') a
         union all
         select to_jsonb(c)::text || 'change' from (
           select change_id, change, rejection, after_position from ledger.account_changes) c
         union all
         select to_jsonb(h)::text || 'hold' from ledger.holds h
         union all
         select to_jsonb(r)::text || 'reversal' from ledger.reversals r
         order by 1",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap()
}

/// Kills the ledger while it is held after a step.
async fn crash_at(name: &str, step: &str, is_noticed: bool) -> Vec<String> {
    let (database, nats, asker) = prepare().await;
    let mut hold = Hold::after(&database, step).await;
    send_all(&nats).await;
    let process = Process::start(&database, &nats);
    let held = hold.held(&database, name).await;
    process.kill().await;
    if is_noticed {
        hold.end(held).await;
    }
    hold.let_go().await;
    hold.remove().await;
    recover(name, database, nats, asker).await
}

#[tokio::test]
async fn a_crash_after_any_step_ends_in_the_same_books() {
    // Killed before the commands came, and after everything but the answers was done.
    let (database, nats, asker) = prepare().await;
    send_all(&nats).await;
    let expected = recover("not running yet", database, nats, asker).await;
    let (database, nats, asker) = prepare().await;
    let process = Process::start(&database, &nats);
    send_all(&nats).await;
    eventually("the commit", WAIT, async || {
        let n = count(&database, "select count(*) from ledger.transfers").await;
        if n == 4 { Ok(()) } else { Err(format!("{n} transfers")) }
    })
    .await;
    process.kill().await;
    assert_eq!(recover("committed, not answered", database, nats, asker).await, expected);

    let crashes = STEPS.iter().flat_map(|(name, step)| {
        [true, false].map(|is_noticed| {
            let expected = &expected;
            async move {
                let found = crash_at(name, step, is_noticed).await;
                assert_eq!(found, *expected, "{name}, noticed: {is_noticed}");
            }
        })
    });
    // They mostly wait.
    futures_util::stream::iter(crashes).buffer_unordered(4).collect::<()>().await;
    assert_eq!(expected.len(), 4 + 4 + 1 + 1 + 1);
}
