//! Whatever a hand in `psql` does to the books with all triggers off, the audit says so: the whole
//! reading at once, the running ledger within a few looks, by turning its readiness off and writing
//! nothing more until the books are mended.

use std::time::{Duration, Instant};

use ledger_core::Rejection;
use ledger_core::audit::Violation;
use primitives::{AccountId, Currency, Timestamp};
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::command::Body;
use proto_events::ledger::v1::{AccountChange, TransferKind};
use proto_events::subjects::ledger as on;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::eventually;

use crate::harness::{Ledger, WAIT, about, balanced, hold, pay};

/// What it is, what does it, what mends it, and a violation that must be among those found.
type Damage = (&'static str, &'static str, &'static str, fn(&Violation) -> bool);

/// What can be done to transfers and batches. The books are those of [`books`].
const TRANSFERS: [Damage; 12] = [
    (
        "one balance",
        "update ledger.transfers set debit_balance_after_minor = debit_balance_after_minor + 1
           where position = 3",
        "update ledger.transfers set debit_balance_after_minor = debit_balance_after_minor - 1
           where position = 3",
        |it| matches!(it, Violation::BrokenChain { position: 3, .. }),
    ),
    (
        "one amount",
        "update ledger.transfers set amount_minor = 11 where position = 3",
        "update ledger.transfers set amount_minor = 10 where position = 3",
        |it| matches!(it, Violation::BrokenChain { position: 3, .. }),
    ),
    (
        "one missing row",
        "create table public.kept as select * from ledger.transfers where position = 4;
         delete from ledger.transfers where position = 4",
        "insert into ledger.transfers select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::PositionGap { expected: 4, found: 5 }),
    ),
    (
        "the newest rows missing",
        "create table public.kept as select * from ledger.transfers where position > 6;
         delete from ledger.transfers where position > 6",
        "insert into ledger.transfers select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::WrongEnd { expected: 8, found: 6 }),
    ),
    (
        "a row beyond the last batch",
        "create table public.kept as select * from ledger.transfers where position = 8;
         update public.kept set position = 9, transfer_id = gen_random_uuid();
         insert into ledger.transfers select * from public.kept; drop table public.kept",
        "delete from ledger.transfers where position = 9",
        |it| matches!(it, Violation::WrongEnd { expected: 8, found: 9 }),
    ),
    (
        "a side that is somebody else's",
        "update ledger.transfers t set credit_account_id = it.credit_account_id
           from ledger.transfers it where t.position = 4 and it.position = 1",
        "update ledger.transfers t set credit_account_id = it.credit_account_id
           from ledger.transfers it where t.position = 4 and it.position = 8",
        |it| matches!(it, Violation::BrokenChain { position: 4, .. }),
    ),
    (
        "a payment that never was",
        "create table public.kept as select * from ledger.transfers where position = 4;
         update ledger.transfers set rejection = 10, debit_balance_after_minor = null,
           credit_balance_after_minor = null where position = 4",
        "update ledger.transfers t set rejection = 0,
           debit_balance_after_minor = it.debit_balance_after_minor,
           credit_balance_after_minor = it.credit_balance_after_minor
           from public.kept it where t.position = it.position; drop table public.kept",
        |it| matches!(it, Violation::BrokenChain { position: 6, .. }),
    ),
    (
        "a moment",
        "update ledger.transfers set decided_at = decided_at - interval '1 hour'
           where position = 5",
        "update ledger.transfers set decided_at = decided_at + interval '1 hour'
           where position = 5",
        |it| matches!(it, Violation::TimeRunsBackwards { position: 5 }),
    ),
    (
        "a currency nobody can read",
        "update ledger.transfers set currency = 'ngn' where position = 4",
        "update ledger.transfers set currency = 'NGN' where position = 4",
        |it| matches!(it, Violation::WrongMove { position: 4, .. }),
    ),
    (
        "how much of a hold was taken",
        "update ledger.transfers set amount_minor = 11 where position = 6",
        "update ledger.transfers set amount_minor = 10 where position = 6",
        |it| matches!(it, Violation::BrokenChain { position: 6, .. }),
    ),
    (
        "a batch's moment",
        "update ledger.batches set decided_at = decided_at + interval '1 microsecond'
           where last_position = 3",
        "update ledger.batches set decided_at = decided_at - interval '1 microsecond'
           where last_position = 3",
        |it| matches!(it, Violation::BatchDiffers { position: 3 }),
    ),
    (
        "one missing batch",
        "create table public.kept as select * from ledger.batches where last_position = 4;
         delete from ledger.batches where last_position = 4",
        "insert into ledger.batches select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::BatchDiffers { position: 4 }),
    ),
];

/// What can be done to what is kept beside them.
const KEPT: [Damage; 10] = [
    (
        "one missing account",
        "create table public.kept as select * from ledger.accounts where account_id =
           (select credit_account_id from ledger.transfers where position = 4);
         delete from ledger.accounts where account_id = (select account_id from public.kept)",
        "insert into ledger.accounts select * from public.kept; drop table public.kept",
        |it| {
            let rejection = Rejection::CreditAccountNotFound;
            matches!(it, Violation::NotAllowed { position: 4, rejection: it, .. } if *it == rejection)
        },
    ),
    (
        "an account's currency",
        "update ledger.accounts set currency = 'GHS' where account_id =
           (select credit_account_id from ledger.transfers where position = 4)",
        "update ledger.accounts set currency = 'NGN' where currency = 'GHS' and kind = 'wallet'",
        |it| {
            let rejection = Rejection::CurrencyMismatch;
            matches!(it, Violation::NotAllowed { position: 4, rejection: it, .. } if *it == rejection)
        },
    ),
    (
        "an account's status",
        "update ledger.accounts set status = 'open' where status = 'frozen'",
        "update ledger.accounts set status = 'frozen' where account_id =
           (select account_id from ledger.account_changes)",
        |it| matches!(it, Violation::AccountDiffers { .. }),
    ),
    (
        "an account's limits",
        "update ledger.accounts set greatest_minor = 5 where status = 'frozen'",
        "update ledger.accounts set greatest_minor = 9007199254740991 where status = 'frozen'",
        |it| matches!(it, Violation::AccountDiffers { .. }),
    ),
    (
        "one missing change",
        "create table public.kept as select * from ledger.account_changes;
         delete from ledger.account_changes",
        "insert into ledger.account_changes overriding system value select * from public.kept;
         drop table public.kept",
        |it| matches!(it, Violation::AccountDiffers { .. }),
    ),
    (
        "what remains of a hold",
        "update ledger.holds set remaining_minor = remaining_minor + 1",
        "update ledger.holds set remaining_minor = remaining_minor - 1",
        |it| matches!(it, Violation::HoldDiffers { expected_minor: 20, found_minor: Some(21), .. }),
    ),
    (
        "one missing hold",
        "create table public.kept as select * from ledger.holds; delete from ledger.holds",
        "insert into ledger.holds select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::HoldDiffers { found_minor: None, .. }),
    ),
    (
        "what was moved back",
        "update ledger.reversals set reversed_minor = reversed_minor - 1",
        "update ledger.reversals set reversed_minor = reversed_minor + 1",
        |it| {
            matches!(it, Violation::ReversalDiffers { expected_minor: 4, found_minor: Some(3), .. })
        },
    ),
    (
        "one missing reversal",
        "create table public.kept as select * from ledger.reversals; delete from ledger.reversals",
        "insert into ledger.reversals select * from public.kept; drop table public.kept",
        |it| matches!(it, Violation::ReversalDiffers { found_minor: None, .. }),
    ),
    (
        "one of the ledger's own accounts",
        "update ledger.accounts set kind = 'suspense' where account_id =
           (select debit_account_id from ledger.transfers where position = 1)",
        "update ledger.accounts set kind = 'paystack_clearing' where account_id =
           (select debit_account_id from ledger.transfers where position = 1)",
        |it| matches!(it, Violation::AccountDiffers { .. }),
    ),
];

/// As somebody would who knows how to get around triggers.
pub(crate) async fn tamper(conn: &mut PgConnection, statement: &str) {
    let statement = format!("set session_replication_role = replica; {statement}");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.unwrap();
}

async fn books_are_ready(ledger: &Ledger) -> Result<(), String> {
    let all = ledger.context.readiness().await;
    let (_, said) = all.into_iter().find(|(name, _)| *name == "ledger books").unwrap();
    said.map(drop)
}

async fn until_ready(ledger: &Ledger) {
    eventually("readiness", WAIT, async || books_are_ready(ledger).await).await;
}

async fn until_not_ready(ledger: &Ledger, name: &str) {
    eventually(name, WAIT, async || match books_are_ready(ledger).await {
        Ok(()) => Err("still ready".to_owned()),
        Err(said) if said.contains("violations") => Ok(()),
        Err(said) => Err(said),
    })
    .await;
}

/// Books of eight transfers, each in a batch of its own: two deposits, two payments, a hold, a part
/// of it, something moved back, something refused; and an account that is frozen.
async fn books() -> Ledger {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(70).await);
    let c = ledger.funded(0).await;
    let paid = pay(a, b, 10);
    ledger.posted(paid.clone()).await;
    ledger.posted(pay(b, c, 20)).await;
    let held = hold(a, b, 30);
    for transfer in [
        held.clone(),
        about(TransferKind::Capture, &held, 10),
        about(TransferKind::Reversal, &paid, 4),
    ] {
        assert_eq!(ledger.do_any(transfer).await, wire::Rejection::Unspecified);
    }
    let refused = ledger.post(pay(b, c, 1_000)).await;
    assert_eq!(refused.rejection(), wire::Rejection::InsufficientFunds);
    let d = ledger.open(Currency::NGN).await;
    assert_eq!(ledger.change(d, AccountChange::Freeze).await, wire::Rejection::Unspecified);
    ledger
}

async fn damage_is_noticed(damages: &[Damage]) {
    let ledger = books().await;
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    for (name, damage, mend, is_expected) in damages {
        until_ready(&ledger).await;
        tamper(&mut conn, damage).await;
        let violations = ledger::audit::violations(&ledger.database.pool).await.unwrap();
        assert!(violations.iter().any(is_expected), "{name}: {violations:?}");
        until_not_ready(&ledger, name).await;
        tamper(&mut conn, mend).await;
        balanced(&ledger.database).await;
    }
    until_ready(&ledger).await;
    conn.close().await.unwrap();
    ledger.finish().await;
}

#[tokio::test]
async fn damage_is_noticed_and_turns_readiness_off_until_it_is_mended() {
    damage_is_noticed(&TRANSFERS).await;
}

#[tokio::test]
async fn damage_beside_the_transfers_is_noticed_too() {
    damage_is_noticed(&KEPT).await;
}

#[tokio::test]
async fn nothing_is_posted_while_the_books_do_not_balance() {
    let ledger = books().await;
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    let (mut n_transfers, mut n_late) = (8, 0);
    for (name, damage, mend, _) in [TRANSFERS[0], TRANSFERS[2], KEPT[5]] {
        until_ready(&ledger).await;
        let (a, b) = (ledger.open(Currency::NGN).await, ledger.open(Currency::NGN).await);
        tamper(&mut conn, damage).await;
        until_not_ready(&ledger, name).await;
        let wait = Duration::from_millis(300);
        let stopped = send_and_wait(&ledger, a, b, wait, Timestamp::now().micros()).await;
        assert!(stopped.is_none(), "{name}: {stopped:?}");
        let count = "select max(position) from ledger.transfers";
        assert_eq!(ledger.count(count).await, n_transfers, "{name}");
        tamper(&mut conn, mend).await;
        until_ready(&ledger).await;
        // What waited in the stream is decided now, too late; what comes after it is in time.
        let outcome = send_and_wait(&ledger, a, b, WAIT, 0).await.expect("the writer goes on");
        assert_eq!(outcome.rejection(), wire::Rejection::InsufficientFunds, "{name}");
        n_transfers += 2;
        assert_eq!(ledger.count(count).await, n_transfers, "{name}");
        n_late += 1;
        let late = "select count(*) from ledger.transfers where rejection = 2";
        assert_eq!(ledger.count(late).await, n_late, "{name}");
    }
    conn.close().await.unwrap();
    ledger.finish().await;
}

/// Asks for a payment that will be refused; none if no outcome comes in time.
async fn send_and_wait(
    ledger: &Ledger,
    from: AccountId,
    to: AccountId,
    wait: Duration,
    deadline_at_us: i64,
) -> Option<wire::Outcome> {
    let body = Some(Body::PostTransfer(pay(from, to, 1)));
    let command = wire::Command { deadline_at_us, body };
    let asker = bus::ask::Asker::new(ledger.nats.client().await);
    asker.command(on::POST_TRANSFER, &command, wait).await.ok()
}

#[tokio::test]
async fn new_books_are_ready_once_they_were_looked_at() {
    let ledger = Ledger::start().await;
    until_ready(&ledger).await;
    ledger.finish().await;
}

/// How many transfers books must have so that no look reads them as a whole.
const MANY: u64 = 120_000;

#[tokio::test]
async fn damage_to_great_books_is_noticed_within_a_round() {
    let (database, nats) = tokio::join!(crate::harness::database(), testkit::nats());
    let wallets: Vec<AccountId> = (0..1_000).map(|_| AccountId::generate()).collect();
    ledger::seed::grow(&database.pool, &wallets, MANY, |_| {}).await.unwrap();
    let ledger = Ledger::start_on(database, nats, &[]).await;
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    for (name, damage, mend) in [
        (
            "an old balance",
            "update ledger.transfers set credit_balance_after_minor = credit_balance_after_minor + 1
               where position = 60000",
            "update ledger.transfers set credit_balance_after_minor = credit_balance_after_minor - 1
               where position = 60000",
        ),
        (
            "an old row",
            "create table public.kept as select * from ledger.transfers where position = 60000;
             delete from ledger.transfers where position = 60000",
            "insert into ledger.transfers select * from public.kept; drop table public.kept",
        ),
        (
            "a new balance",
            "update ledger.transfers set debit_balance_after_minor = debit_balance_after_minor + 1
               where position = 119900",
            "update ledger.transfers set debit_balance_after_minor = debit_balance_after_minor - 1
               where position = 119900",
        ),
    ] {
        until_ready(&ledger).await;
        tamper(&mut conn, damage).await;
        let began = Instant::now();
        until_not_ready(&ledger, name).await;
        let noticed = began.elapsed();
        tamper(&mut conn, mend).await;
        let began = Instant::now();
        until_ready(&ledger).await;
        println!("{name}: noticed after {noticed:?}, believed again after {:?}", began.elapsed());
    }
    conn.close().await.unwrap();
    ledger.finish().await;
}
