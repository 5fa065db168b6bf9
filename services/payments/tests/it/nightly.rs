//! A day compared three ways: what Paystack lists, what we have, what the books have.

use std::process::Stdio;

use payments::Part;
use payments::day::Day;
use payments::operate::Operator;
use primitives::Timestamp;
use proto_events::subjects;
use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::{Attempt, Outcome, Status, Transaction};
use sqlx::PgPool;
use testkit::eventually;

use crate::store;
use crate::world::{Ask, BOUND, KEY, World};

/// A finished comparison: its day, who asked, how many payments, how many differences.
type Ran = (String, Option<String>, i64, i64);

/// What Paystack says otherwise.
type Change = fn(&mut Transaction);

async fn runs(pool: &PgPool) -> Vec<Ran> {
    sqlx::query_as(
        "select day::text, who, n_payments, n_differences
         from payments.reconciliations order by run_id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Class and reference of what a run found.
async fn found(pool: &PgPool, run_id: i64) -> Vec<(String, String)> {
    sqlx::query_as("select class, reference from payments.differences where run_id = $1 order by 1")
        .bind(run_id)
        .fetch_all(pool)
        .await
        .unwrap()
}

/// Waits until so many comparisons are finished.
async fn until_ran(pool: &PgPool, n_runs: usize) -> Vec<Ran> {
    eventually("comparisons", BOUND, async || {
        let all = runs(pool).await;
        if all.len() == n_runs { Ok(all) } else { Err(format!("{all:?}")) }
    })
    .await
}

/// The day that Paystack says a payment was made on.
fn day_of(world: &World, reference: &str) -> Day {
    let paid_at_us = world.sandbox.transaction(reference).unwrap().paid_at_us.unwrap();
    Day::of(Timestamp::from_micros(paid_at_us))
}

/// Runs `payments reconcile` as a person does; its exit code and what it prints.
async fn reconcile(world: &World, more: &[&str]) -> (Option<i32>, String) {
    world.nats.served(subjects::ledger::GET_TRANSFER).await;
    let done = tokio::process::Command::new(env!("CARGO_BIN_EXE_payments"))
        .arg("reconcile")
        .args(more)
        .env_clear()
        .env("PAYMENTS_DATABASE_URL", &world.database.url)
        .env("PAYSTACK_SECRET_KEY", KEY)
        .env("PAYSTACK_BASE_URL", world.config.base_url.as_str())
        .env("PAYMENTS_NIGHTLY_GRACE_MS", "0")
        .env("NATS_URL", &world.nats.url)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

async fn reconcile_day(world: &World, day: Day) -> (Option<i32>, String) {
    let day = day.to_string();
    reconcile(world, &["--day", &day, "--who", "ada", "--why", "an audit, ticket 9"]).await
}

/// A payment that nobody here knows of.
fn payment(id: u64, reference: &str, at: Timestamp) -> Transaction {
    Transaction {
        id,
        reference: reference.to_owned(),
        access_code: format!("code{id}"),
        email: "ada@example.com".to_owned(),
        requested_amount: 7_000,
        amount: 7_000,
        fees_on_top: 0,
        currency: "NGN".to_owned(),
        status: Status::Success,
        callback_url: None,
        channels: Vec::new(),
        channel: "card".to_owned(),
        metadata: serde_json::Value::Null,
        gateway_response: "Successful".to_owned(),
        card: String::new(),
        attempts: 1,
        customer_id: 1,
        created_at_us: at.micros(),
        paid_at_us: Some(at.micros()),
    }
}

/// Noon, so many days before today.
fn noon(days_ago: u64) -> Timestamp {
    let hours = |n| std::time::Duration::from_hours(n);
    Day::of(Timestamp::now()).start().minus(hours(24 * days_ago)).plus(hours(12))
}

/// A deposit that is credited.
async fn credited(world: &World) -> String {
    let account_id = world.ledger.open();
    let reference = world.ask(&Ask::of(account_id)).await.reference;
    world.pay(&reference);
    until_credited(world, &reference).await;
    reference
}

async fn until_credited(world: &World, reference: &str) {
    eventually("the credit", BOUND, async || {
        let all = store::deposits(world.pool()).await;
        let is_it = |it: &&store::Stored| it.paid_reference.as_deref() == Some(reference);
        match all.iter().find(is_it) {
            Some(it) if it.state == "credited" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_day_on_which_everything_agrees_is_kept_with_who_asked() {
    let world = World::started().await;
    let reference = credited(&world).await;
    // Paid too little, and put aside.
    let little = world.ask(&Ask::of(world.ledger.open())).await.reference;
    let attempt = Attempt { other_amount: Some(4_999), ..Attempt::new(Outcome::Success) };
    world.sandbox.pay(&little, attempt).unwrap();
    eventually("suspense", BOUND, async || {
        let all = store::deposits(world.pool()).await;
        if all.iter().any(|it| it.suspense == "held") { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    // Not paid at all.
    world.ask(&Ask::of(world.ledger.open())).await;
    let day = day_of(&world, &reference);
    let (code, text) = reconcile_day(&world, day).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 payments at Paystack, 2 of ours"), "{text}");
    assert!(text.ends_with("everything agrees\n"), "{text}");
    assert_eq!(runs(world.pool()).await, [(day.to_string(), Some("ada".to_owned()), 2, 0)]);
    // A day on which there was nothing.
    let (code, text) = reconcile_day(&world, Day::parse("2026-01-15").unwrap()).await;
    assert_eq!(code, Some(0), "{text}");
    world.finish().await;
}

#[tokio::test]
async fn each_way_to_differ_is_named_and_what_we_slept_through_is_credited() {
    let world = World::started().await;
    let now = Timestamp::now();
    let mut kept = Vec::new();
    let mut expected = Vec::new();
    // Paystack says something else of what we credited.
    let changes: [(&str, Change); 4] = [
        ("amount_differs", |it| it.amount = 4_000),
        ("currency_differs", |it| it.currency = "USD".to_owned()),
        ("unknown_there", |it| it.status = Status::Failed),
        ("reversed", |it| it.status = Status::Reversed),
    ];
    for (class, change) in changes {
        let reference = credited(&world).await;
        let transaction = world.sandbox.transaction(&reference).unwrap();
        kept.push(transaction.clone());
        let mut other = transaction;
        change(&mut other);
        world.sandbox.put(other);
        expected.push((class.to_owned(), reference));
    }
    // The books do not know what we say they posted.
    let unknown = credited(&world).await;
    world.ledger.desk().forgotten.push(unknown.clone());
    expected.push(("not_in_books".to_owned(), unknown));
    // One deposit, paid under two references.
    world.sandbox.inject(Plan::next(Fault::InitializeErrorAfter, 1));
    let second = credited(&world).await;
    let first = second.strip_suffix("-2").expect("the first try was lost").to_owned();
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 2));
    world.pay(&first);
    expected.push(("paid_twice".to_owned(), first));
    // Nobody told us.
    let lost = world.ask(&Ask::of(world.ledger.open())).await.reference;
    world.pay(&lost);
    expected.push(("not_credited".to_owned(), lost.clone()));
    // Nobody here made these.
    for (class, reference) in
        [("unknown_here", "dep-ours-by-its-looks"), ("unknown_foreign", "7=7")]
    {
        let id = world.sandbox.transactions().last().unwrap().id + 1;
        world.sandbox.put(payment(id, reference, now));
        expected.push((class.to_owned(), reference.to_owned()));
    }
    expected.sort();
    let day = day_of(&world, &lost);
    let (code, text) = reconcile_day(&world, day).await;
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(found(world.pool(), 1).await, expected, "{text}");
    for (class, reference) in &expected {
        assert!(text.contains(&format!("\n{class} 1\n")), "{class}\n{text}");
        assert!(text.contains(&format!("\n{class}  {reference}  ")), "{class}\n{text}");
    }
    // It looked at it again, and verify did the rest.
    until_credited(&world, &lost).await;
    // Paystack says the truth again, and a second run sees what is left.
    kept.into_iter().for_each(|it| world.sandbox.put(it));
    world.ledger.desk().forgotten.clear();
    let (code, text) = reconcile_day(&world, day).await;
    assert_eq!(code, Some(1), "{text}");
    let left = ["paid_twice", "unknown_foreign", "unknown_here"];
    let again: Vec<_> = found(world.pool(), 2).await.into_iter().map(|(class, _)| class).collect();
    assert_eq!(again, left, "{text}");
    assert_eq!(found(world.pool(), 1).await.len(), expected.len(), "what was found was found");
    world.finish().await;
}

#[tokio::test]
async fn what_was_found_is_never_changed() {
    let mut world = World::new().await;
    world.sandbox.put(payment(5_000_000_000, "foreign", noon(1)));
    world.start_parts(&[]).await;
    let (code, _) = reconcile_day(&world, Day::of(noon(1))).await;
    assert_eq!(code, Some(1));
    for (statement, guard) in [
        ("update payments.differences set class = 'reversed'", "differences_never_change"),
        ("delete from payments.differences", "differences_never_change"),
        ("update payments.reconciliations set n_differences = 0", "reconciliations_never_change"),
        ("delete from payments.reconciliations", "reconciliations_never_change"),
        ("truncate payments.differences", "differences_never_change"),
        (
            "insert into payments.differences (run_id, class, reference, detail)
             values (1, 'reversed', 'x', '')",
            "differences_come_with_their_run",
        ),
        (
            "insert into payments.reconciliations
                 (day, begun_at, finished_at, n_payments, n_deposits, n_differences)
             values (current_date, now(), now(), 0, 0, 1)",
            "reconciliations_are_whole",
        ),
        (
            "insert into payments.reconciliations
                 (day, begun_at, finished_at, who, n_payments, n_deposits, n_differences)
             values (current_date, now(), now(), 'ada', 0, 0, 0)",
            "reconciliations_signed_whole",
        ),
        ("delete from payments.rounds", "kept_for_ever"),
        (
            "update payments.rounds set done_until = now();
             update payments.rounds set done_until = now() - interval '1 hour'",
            "rounds_move_forward",
        ),
    ] {
        let refused = store::refused_by(world.pool(), statement).await;
        assert_eq!(refused.as_deref(), Some(guard), "{statement}");
    }
    world.finish().await;
}

#[tokio::test]
async fn two_processes_compare_one_night_once_and_make_up_for_missed_days() {
    let mut world = World::new().await;
    for days_ago in 1..=4 {
        let id = 5_000_000_000 - days_ago;
        let paid = payment(id, &format!("foreign-{days_ago}"), noon(days_ago));
        // Made the day before it was paid.
        let created_at_us = noon(days_ago + 1).micros();
        world.sandbox.put(Transaction { created_at_us, ..paid });
    }
    world.start().await;
    let replica = world.replica().await;
    store::run(world.pool(), "update payments.rounds set due_at = now() where what = 'nightly'")
        .await;
    // It never was, so there are no days to make up for.
    let day = |days_ago| Day::of(noon(days_ago)).to_string();
    assert_eq!(until_ran(world.pool(), 1).await, [(day(1), None, 1, 1)]);
    let again = "select due_at > now() and claimed_until is null
                        and due_at::time = '02:30' from payments.rounds where what = 'nightly'";
    eventually("the next night", BOUND, async || {
        let at = sqlx::query_scalar::<_, Option<bool>>(again).fetch_one(world.pool()).await;
        if at.unwrap() == Some(true) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    // Three days ago it was, and then it was down.
    store::run(
        world.pool(),
        "insert into payments.reconciliations
             (day, begun_at, finished_at, n_payments, n_deposits, n_differences)
         values ((now() at time zone 'UTC')::date - 4, now(), now(), 0, 0, 0);
         update payments.rounds set due_at = now() where what = 'nightly'",
    )
    .await;
    let all = until_ran(world.pool(), 4).await;
    assert_eq!(all[2..], [(day(3), None, 1, 1), (day(2), None, 1, 1)]);
    replica.stop().await;
    world.stop().await;
    assert_eq!(runs(world.pool()).await.len(), 4);
    world.finish().await;
}

#[tokio::test]
async fn a_night_that_fails_is_tried_again_and_leaves_nothing_half_done() {
    let mut world = World::new().await;
    world.config.pace.nightly_retry_ms = 50;
    // More than two pages.
    for n in 0..201 {
        world.sandbox.put(payment(5_000_000_000 + n, &format!("foreign-{n}"), noon(1)));
    }
    world.sandbox.inject(Plan::next(Fault::ReadError, 2));
    world.sandbox.inject(Plan::next(Fault::ReadCutOff, 1));
    // Somebody had it in hand and died.
    store::run(
        world.pool(),
        "update payments.rounds set due_at = now(), claimed_until = now() + interval '300 ms'",
    )
    .await;
    world.start_parts(&[Part::Nightly]).await;
    let [(_, _, n_payments, n_differences)] = until_ran(world.pool(), 1).await.try_into().unwrap();
    assert_eq!((n_payments, n_differences), (201, 201));
    let waited = "select begun_at >= (select known_since + interval '300 ms' from payments.rounds
                                      where what = 'nightly')
                  from payments.reconciliations";
    let waited = sqlx::query_scalar::<_, Option<bool>>(waited).fetch_one(world.pool()).await;
    assert_eq!(waited.unwrap(), Some(true));
    world.finish().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_done_says_two_and_keeps_nothing() {
    let mut world = World::new().await;
    world.start_parts(&[]).await;
    let signed = ["--who", "ada", "--why", "an audit"];
    let day = |day| ["--day", day].into_iter().chain(signed).collect::<Vec<_>>();
    for (more, code) in [
        (vec!["--day", "2026-01-15", "--who", " ", "--why", "an audit"], 2),
        (day("2126-01-15"), 2),
        (day("yesterday"), 64),
        (vec!["--day", "2026-01-15", "--who", "ada"], 64),
    ] {
        assert_eq!(reconcile(&world, &more).await.0, Some(code), "{more:?}");
    }
    world.sandbox.inject(Plan::next(Fault::ReadError, 1));
    assert_eq!(reconcile(&world, &day("2026-01-15")).await, (Some(2), String::new()));
    assert!(runs(world.pool()).await.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn what_was_refunded_by_us_is_no_difference() {
    let mut world = World::started().await;
    let (_, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    let operator = Operator::connect(&world.config).await.unwrap();
    operator.refund(&started.reference, None, false, ("ada", "ticket 9")).await.unwrap().unwrap();
    eventually("the refund", BOUND, async || {
        let [it] = store::returns(world.pool()).await.try_into().unwrap();
        if it.state == "returned" { Ok(()) } else { Err(format!("{it:?}")) }
    })
    .await;
    let day = day_of(&world, &started.reference);
    world.stop().await;
    world.start_parts(&[]).await;
    let status = world.sandbox.transaction(&started.reference).unwrap().status;
    assert_eq!(status, Status::Reversed);
    let (code, said) = reconcile_day(&world, day).await;
    assert_eq!(code, Some(0), "{said}");
    world.finish().await;
}
