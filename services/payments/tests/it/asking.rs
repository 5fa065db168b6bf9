//! Asking for a checkout: repeats, refusals, and a provider that fails.

use std::time::Duration;

use bus::ask;
use futures_util::future::join_all;
use primitives::{DepositId, Timestamp};
use proto_events::payments::v1::{DepositRefusal, DepositStarted, StartDeposit};
use proto_events::subjects;
use sandbox::faults::{Fault, Plan};
use testkit::eventually;

use crate::store;
use crate::world::{Ask, BOUND, World};

fn refusal(started: &DepositStarted) -> DepositRefusal {
    assert!(started.refusal == 0 || started.authorization_url.is_empty(), "{started:?}");
    started.refusal()
}

#[tokio::test]
async fn twenty_callers_with_one_key_get_one_checkout() {
    let world = World::started().await;
    world.sandbox.inject(Plan::next(Fault::InitializeSlow, 1).delayed(300));
    let account_id = world.ledger.open();
    let asks: Vec<Ask> = (0..20).map(|_| Ask::keyed(account_id, 1)).collect();
    let answers = join_all(asks.iter().map(|ask| world.ask(ask))).await;
    let n_first = answers.iter().filter(|it| !it.replayed).count();
    assert_eq!(n_first, 1);
    for answer in &answers {
        assert_eq!(answer.refusal, 0, "{answer:?}");
        assert_eq!(answer.reference, answers[0].reference);
        assert_eq!(answer.authorization_url, answers[0].authorization_url);
        assert_eq!(answer.access_code, answers[0].access_code);
    }
    assert_eq!(world.sandbox.transactions().len(), 1);
    assert_eq!(store::deposits(world.pool()).await.len(), 1);
    // And long after.
    let again = world.ask(&Ask::keyed(account_id, 1)).await;
    assert_eq!((again.replayed, &again.reference), (true, &answers[0].reference));
    world.finish().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_request_and_without_a_key_the_id_does() {
    let world = World::started().await;
    let account_id = world.ledger.open();
    let first = Ask::keyed(account_id, 1);
    let started = world.ask(&first).await;
    let other = Ask { request_digest: [8; 32], ..Ask::keyed(account_id, 1) };
    assert_eq!(refusal(&world.ask(&other).await), DepositRefusal::IdempotencyKeyReused);
    // That refusal is not kept: the first request still gets its answer.
    assert_eq!(world.ask(&first).await.reference, started.reference);

    let unkeyed = Ask::of(account_id);
    let begun = world.ask(&unkeyed).await;
    let repeated = world.ask(&unkeyed).await;
    assert_eq!((repeated.replayed, &repeated.reference), (true, &begun.reference));
    for theft in [
        Ask { request_digest: [8; 32], ..unkeyed.clone() },
        Ask { account_id: world.ledger.open(), ..unkeyed.clone() },
        Ask { request_key: Some([9; 32]), ..unkeyed.clone() },
    ] {
        assert_eq!(refusal(&world.ask(&theft).await), DepositRefusal::IdempotencyKeyReused);
    }
    assert_eq!(world.sandbox.transactions().len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn what_paystack_would_never_take_is_refused_for_ever() {
    let world = World::started().await;
    let account_id = world.ledger.open();
    let most = payments::AMOUNT_MINOR_MAX;
    for (key, ask, expected) in [
        (1, Ask { amount_minor: most + 1, ..Ask::of(account_id) }, DepositRefusal::LimitExceeded),
        (2, Ask { amount_minor: 4_999, ..Ask::of(account_id) }, DepositRefusal::LimitExceeded),
        (3, Ask { currency: "JPY", ..Ask::of(account_id) }, DepositRefusal::CurrencyMismatch),
    ] {
        let ask = Ask { request_key: Some([key; 32]), ..ask };
        let first = world.ask(&ask).await;
        assert_eq!((refusal(&first), first.replayed), (expected, false));
        let late = Ask { deposit_id: DepositId::generate(), deadline_at_us: 1, ..ask };
        let again = world.ask(&late).await;
        assert_eq!((refusal(&again), again.replayed), (expected, true));
    }
    let most = world.ask(&Ask { amount_minor: most, ..Ask::of(account_id) }).await;
    assert_eq!(refusal(&most), DepositRefusal::Unspecified);
    assert_eq!(world.sandbox.transactions().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn nothing_is_begun_after_the_deadline_and_the_key_stays_free() {
    let world = World::started().await;
    let account_id = world.ledger.open();
    let late = Ask { deadline_at_us: Timestamp::now().micros(), ..Ask::keyed(account_id, 1) };
    assert_eq!(refusal(&world.ask(&late).await), DepositRefusal::DeadlineExceeded);
    assert!(store::deposits(world.pool()).await.is_empty());
    let in_time = world.ask(&Ask::keyed(account_id, 1)).await;
    assert_eq!((refusal(&in_time), in_time.replayed), (DepositRefusal::Unspecified, false));
    world.finish().await;
}

#[tokio::test]
async fn a_command_without_meaning_is_parked_and_answered() {
    let world = World::started().await;
    let good = Ask::of(world.ledger.open());
    let with = |change: fn(&mut StartDeposit)| {
        let mut command = good.wire();
        change(&mut command);
        command
    };
    for bad in [
        with(|it| it.deposit_id = vec![1, 2, 3].into()),
        with(|it| it.account_id = Vec::new().into()),
        with(|it| it.amount_minor = 0),
        with(|it| it.amount_minor = u64::MAX),
        with(|it| it.currency = "naira".to_owned()),
        with(|it| it.email = String::new()),
        with(|it| it.email = "a\0b@example.com".to_owned()),
        with(|it| it.callback_url = "javascript:alert(1)".to_owned()),
        with(|it| it.request_digest = Vec::new().into()),
        with(|it| it.request_key = vec![1].into()),
    ] {
        let answer: DepositStarted =
            world.asker.command(subjects::payments::START_DEPOSIT, &bad, BOUND).await.unwrap();
        assert_eq!(refusal(&answer), DepositRefusal::Malformed, "{bad:?}");
    }
    assert_eq!(refusal(&world.ask(&good).await), DepositRefusal::Unspecified);
    world.finish().await;
}

#[tokio::test]
async fn a_provider_that_says_no_is_not_held_against_the_key() {
    let world = World::started().await;
    let account_id = world.ledger.open();
    // The sandbox, like Paystack, is stricter about addresses than we are.
    let odd = Ask { email: "ada@", ..Ask::keyed(account_id, 1) };
    let no = world.ask(&odd).await;
    let [deposit] = store::deposits(world.pool()).await.try_into().unwrap();
    assert_eq!(refusal(&no), DepositRefusal::ProviderUnavailable, "{deposit:?}");
    assert_eq!(deposit.state, "failed");
    let again = world.ask(&odd).await;
    assert_eq!(refusal(&again), DepositRefusal::ProviderUnavailable);
    let [deposit] = store::deposits(world.pool()).await.try_into().unwrap();
    assert_eq!(deposit.attempt_number, 2, "each asking has a reference of its own");
    assert_eq!(store::phases(world.pool()).await, ["refused", "refused"]);
    assert!(!deposit.is_due, "nothing payable exists");
    world.finish().await;
}

#[tokio::test]
async fn an_unreachable_provider_is_said_so_and_the_same_key_tries_again() {
    let mut world = World::new().await;
    let base_url = world.config.base_url.clone();
    // Nobody listens on this port: it is bound and not listened on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = format!("http://{}/paystack", socket.local_addr().unwrap());
    world.config.base_url = nowhere.parse().unwrap();
    world.start().await;
    let ask = Ask::keyed(world.ledger.open(), 1);
    assert_eq!(refusal(&world.ask(&ask).await), DepositRefusal::ProviderUnavailable);
    assert_eq!(store::phases(world.pool()).await, ["refused"]);
    world.stop().await;
    world.config.base_url = base_url;
    world.start().await;
    let started = world.ask(&Ask::keyed(ask.account_id, 1)).await;
    assert_eq!((refusal(&started), started.replayed), (DepositRefusal::Unspecified, false));
    world.pay(&started.reference);
    world.until("credited").await;
    world.finish().await;
}

#[tokio::test]
async fn a_lost_answer_leads_to_a_new_reference_within_the_same_asking() {
    for fault in [Fault::InitializeCutOff, Fault::InitializeErrorAfter, Fault::InitializeError] {
        let world = World::started().await;
        world.sandbox.inject(Plan::next(fault, 1));
        let (account_id, started) = world.checkout().await;
        let [deposit] = store::deposits(world.pool()).await.try_into().unwrap();
        assert_eq!(deposit.attempt_number, 2, "{fault:?}");
        assert_eq!(store::phases(world.pool()).await, ["unknown", "made"]);
        world.pay(&started.reference);
        world.until("credited").await;
        assert_eq!(world.ledger.balance(account_id), 5_000);
        world.finish().await;
    }
}

#[tokio::test]
async fn lost_answers_without_end_use_up_three_references() {
    let world = World::started().await;
    world.sandbox.inject(Plan::chance(Fault::InitializeCutOff, 1.0));
    let ask = Ask::keyed(world.ledger.open(), 1);
    assert_eq!(refusal(&world.ask(&ask).await), DepositRefusal::ProviderUnavailable);
    assert_eq!(store::phases(world.pool()).await, ["unknown", "unknown", "unknown"]);
    world.sandbox.clear_faults();
    let started = world.ask(&ask).await;
    assert_eq!(refusal(&started), DepositRefusal::Unspecified);
    assert!(started.reference.ends_with("-4"), "{started:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_slow_provider_keeps_nobody_waiting_beyond_the_timeout() {
    let world = World::started().await;
    world.sandbox.inject(Plan::next(Fault::InitializeSlow, 1).delayed(60_000));
    world.sandbox.inject(Plan::next(Fault::VerifySlow, 1).delayed(60_000));
    let ask = Ask::keyed(world.ledger.open(), 1);
    assert_eq!(refusal(&world.ask(&ask).await), DepositRefusal::ProviderUnavailable);
    assert_eq!(store::phases(world.pool()).await, ["unknown"]);
    let started = world.ask(&ask).await;
    assert_eq!(refusal(&started), DepositRefusal::Unspecified);
    world.finish().await;
}

#[tokio::test]
async fn whoever_stopped_waiting_has_no_checkout_made_for_them() {
    let mut world = World::new().await;
    world.start_parts(&[payments::Part::Commands]).await;
    let deadline_at_us = Timestamp::now().plus(Duration::from_millis(700)).micros();
    let ask = Ask { deadline_at_us, ..Ask::of(world.ledger.open()) };
    let wait = Duration::from_millis(800);
    let subject = subjects::payments::START_DEPOSIT;
    let answer = world.asker.command::<DepositStarted>(subject, &ask.wire(), wait).await;
    assert!(matches!(answer, Err(ask::Error::Unknown)), "{answer:?}");
    world.until("initiated").await;
    world.stop().await;
    world.start().await;
    world.until("failed").await;
    assert!(world.sandbox.transactions().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_rate_limit_holds_calls_back_instead_of_making_more() {
    let sandbox = sandbox::Config { calls_per_minute: Some(1), ..sandbox::Config::default() };
    let mut world = World::with_sandbox(sandbox).await;
    world.start().await;
    let account_id = world.ledger.open();
    let first = world.ask(&Ask::keyed(account_id, 1)).await;
    assert_eq!(refusal(&first), DepositRefusal::Unspecified);
    for key in 2..5 {
        let limited = world.ask(&Ask::keyed(account_id, key)).await;
        assert_eq!(refusal(&limited), DepositRefusal::ProviderUnavailable);
    }
    // Paystack's own window is over, and ours is kept: a call would have got through.
    world.sandbox.advance_clock(Duration::from_secs(61));
    let held = world.ask(&Ask::keyed(account_id, 5)).await;
    assert_eq!(refusal(&held), DepositRefusal::ProviderUnavailable);
    assert_eq!(world.sandbox.transactions().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn two_services_share_the_work_and_do_it_once() {
    let mut one = World::new().await;
    one.start().await;
    let two = one.replica().await;
    let account_id = one.ledger.open();
    let asks: Vec<Ask> = (0..30).map(|_| Ask::of(account_id)).collect();
    let answers = join_all(asks.iter().map(|ask| one.ask(ask))).await;
    for answer in &answers {
        assert_eq!(refusal(answer), DepositRefusal::Unspecified);
        one.pay(&answer.reference);
    }
    eventually("all credits", BOUND, async || match one.ledger.balance(account_id) {
        150_000 => Ok(()),
        less => Err(format!("{less}")),
    })
    .await;
    assert_eq!(one.sandbox.transactions().len(), 30);
    assert!(store::phases(one.pool()).await.iter().all(|phase| phase == "made"));
    two.stop().await;
    one.finish().await;
}
