//! Every state of a deposit, and every way in which Paystack may fail us: nothing that was paid is
//! lost, nothing is credited twice, and the person is told what is true.

use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::{Attempt, Outcome};
use serde_json::{Value, json};
use testkit::{Answer, eventually};

use crate::world::{Person, WAIT, World, text};

const AMOUNT: u64 = 50_000;

/// A person of their own for each case: what comes in is counted on an empty wallet.
async fn somebody(world: &World, name: &str) -> Person {
    world.person(&format!("{name}@example.com")).await
}

async fn status(world: &World, person: &Person, reference: &str) -> Value {
    let path = format!("/wallet/deposit/{reference}/status");
    world.client.get(&path).bearer(&person.token).send().await.ok()
}

async fn ask(world: &World, person: &Person, key: &str) -> Answer {
    let call = world.client.post("/wallet/deposit").bearer(&person.token);
    call.json(&json!({ "amount": AMOUNT })).idempotency_key(key).send().await
}

/// Waits for the money without asking for the deposit, which would make somebody look.
async fn arrives(world: &World, person: &Person) {
    eventually("the money arrives", WAIT, async || match world.balance(person).await {
        0 => Err("nothing".to_owned()),
        balance => Ok(balance),
    })
    .await;
    let path = "/wallet/transactions";
    let history: Value = world.client.get(path).bearer(&person.token).send().await.ok();
    assert_eq!(history["transactions"].as_array().unwrap().len(), 1, "{history}");
    assert_eq!(world.balance(person).await, AMOUNT);
}

fn refuse(world: &World, reference: &str) {
    world.sandbox.pay(reference, Attempt::new(Outcome::Failed)).unwrap();
}

async fn every_status_is_reached(world: &World) {
    let ada = somebody(world, "statuses").await;
    let reference = world.deposit(&ada, AMOUNT).await;
    let pending = status(world, &ada, &reference).await;
    assert_eq!((&pending["status"], &pending["paid_at"]), (&json!("pending"), &Value::Null));
    assert_eq!((&pending["amount"], &pending["currency"]), (&json!(AMOUNT), &json!("NGN")));
    // Walking away from the checkout changes nothing yet.
    world.sandbox.pay(&reference, Attempt::new(Outcome::Abandoned)).unwrap();
    refuse(world, &reference);
    let failed = world.settled(&ada, &reference, "failed").await;
    assert_eq!(failed["paid_at"], Value::Null);
    assert_eq!(world.balance(&ada).await, 0);
    // The checkout is still open, and the second card is good.
    world.pay(&reference).await;
    let paid = world.settled(&ada, &reference, "success").await;
    assert!(paid["paid_at"].as_str().is_some_and(|it| it.ends_with('Z')), "{paid}");
    assert_eq!(paid["created_at"], pending["created_at"]);
    assert_eq!(world.balance(&ada).await, AMOUNT);
}

async fn what_was_paid_otherwise_waits_for_a_person(world: &World) {
    for (name, fault) in
        [("amount", Fault::PaidOtherAmount), ("currency", Fault::PaidOtherCurrency)]
    {
        let ada = somebody(world, name).await;
        let reference = world.deposit(&ada, AMOUNT).await;
        world.sandbox.inject(Plan::next(fault, 1));
        world.pay(&reference).await;
        let parked = world.settled(&ada, &reference, "review").await;
        assert_eq!(parked["paid_at"], Value::Null);
        assert_eq!(world.balance(&ada).await, 0);
        assert!(world.sandbox.resend(&reference));
        world.webhooks_are_read().await;
        world.settled(&ada, &reference, "review").await;
        assert_eq!(world.balance(&ada).await, 0, "a person must look first");
    }
}

async fn webhooks_may_be_lost_late_doubled_or_garbled(world: &World) {
    for (name, plan, parked) in [
        ("lost", Plan::next(Fault::WebhookLost, 1), None),
        ("late", Plan::next(Fault::WebhookLate, 1).delayed(1_500), None),
        ("twice", Plan::next(Fault::WebhookTwice, 1), None),
        ("wrong-amount", Plan::next(Fault::WebhookWrongAmount, 1), Some("amount_differs")),
        ("wrong-currency", Plan::next(Fault::WebhookWrongCurrency, 1), Some("currency_differs")),
        ("wrong-reference", Plan::next(Fault::WebhookWrongReference, 1), Some("unknown_reference")),
        ("wrong-signature", Plan::next(Fault::WebhookWrongSignature, 1), None),
    ] {
        let ada = somebody(world, name).await;
        let n_before = world.parked_webhooks().await.len();
        let reference = world.deposit(&ada, AMOUNT).await;
        world.sandbox.inject(plan);
        world.pay(&reference).await;
        arrives(world, &ada).await;
        world.settled(&ada, &reference, "success").await;
        // The reconciler may have been quicker than the webhook.
        let expected: Vec<&str> = parked.into_iter().collect();
        eventually(&format!("{name}: what waits for a person"), WAIT, async || {
            let new = world.parked_webhooks().await.split_off(n_before);
            let reasons: Vec<&str> = new.iter().map(|(_, reason)| reason.as_str()).collect();
            if reasons == expected { Ok(()) } else { Err(format!("{reasons:?}")) }
        })
        .await;
    }
}

async fn webhooks_may_come_in_another_order(world: &World) {
    let (ada, bola) = (somebody(world, "first").await, somebody(world, "second").await);
    let first = world.deposit(&ada, AMOUNT).await;
    let second = world.deposit(&bola, AMOUNT).await;
    world.sandbox.inject(Plan::next(Fault::WebhookReordered, 1));
    world.pay(&first).await;
    world.pay(&second).await;
    arrives(world, &ada).await;
    arrives(world, &bola).await;
}

async fn verify_may_fail_for_a_while(world: &World) {
    for (name, plan) in [
        ("verify-error", Plan::next(Fault::VerifyError, 3)),
        ("verify-cut-off", Plan::next(Fault::VerifyCutOff, 3)),
        ("verify-slow", Plan::next(Fault::VerifySlow, 2).delayed(1_000)),
    ] {
        let ada = somebody(world, name).await;
        let reference = world.deposit(&ada, AMOUNT).await;
        world.sandbox.inject(plan);
        world.pay(&reference).await;
        arrives(world, &ada).await;
        world.sandbox.clear_faults();
    }
}

fn n_checkouts(world: &World, name: &str) -> usize {
    let email = format!("{name}@example.com");
    world.sandbox.transactions().iter().filter(|it| it.email == email).count()
}

async fn initialize_may_fail_once(world: &World) {
    for (name, plan, n_made) in [
        ("initialize-error", Plan::next(Fault::InitializeError, 1), 1),
        ("initialize-error-after", Plan::next(Fault::InitializeErrorAfter, 1), 2),
        ("initialize-cut-off", Plan::next(Fault::InitializeCutOff, 1), 2),
        ("initialize-slow", Plan::next(Fault::InitializeSlow, 1).delayed(1_000), 2),
    ] {
        let ada = somebody(world, name).await;
        world.sandbox.inject(plan);
        let deposit: Value = ask(world, &ada, "once").await.ok();
        assert_eq!(n_checkouts(world, name), n_made, "{name}");
        let reference = text(&deposit, "reference");
        let checkout = world.sandbox.transaction(&text(&deposit, "access_code")).unwrap();
        assert_eq!(checkout.reference, reference, "{name}: what is shown is what is paid");
        world.pay(&reference).await;
        arrives(world, &ada).await;
        let again = ask(world, &ada, "once").await;
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.ok::<Value>(), deposit, "{name}");
        assert_eq!(n_checkouts(world, name), n_made, "{name}");
    }
}

/// A checkout that was made behind a broken answer is found when it is paid all the same.
async fn a_lost_checkout_that_is_paid_is_credited(world: &World) {
    let ada = somebody(world, "orphan").await;
    world.sandbox.inject(Plan::next(Fault::InitializeCutOff, 1));
    let deposit: Value = ask(world, &ada, "orphan").await.ok();
    let shown = text(&deposit, "reference");
    let all = world.sandbox.transactions();
    let orphan = all.iter().find(|it| it.email == "orphan@example.com" && it.reference != shown);
    let orphan = &orphan.expect("two checkouts were made").reference;
    world.pay(orphan).await;
    world.settled(&ada, &shown, "success").await;
    arrives(world, &ada).await;
    // Paid a second time: a person must give it back.
    let n_parked = world.parked_webhooks().await.len();
    world.pay(&shown).await;
    eventually("the second payment waits for a person", WAIT, async || {
        let parked = world.parked_webhooks().await.split_off(n_parked);
        let is_there = parked.iter().any(|(_, reason)| reason == "other_attempt");
        if is_there { Ok(()) } else { Err(format!("{parked:?}")) }
    })
    .await;
    assert_eq!(world.balance(&ada).await, AMOUNT);
    assert!(world.sandbox.reverse(&shown));
}

async fn while_paystack_is_away_callers_are_told_so(world: &World) {
    let ada = somebody(world, "away").await;
    world.sandbox.inject(Plan::chance(Fault::InitializeError, 1.0));
    let refused = ask(world, &ada, "away").await;
    refused.problem(502, "provider_unavailable");
    assert!(!refused.header("retry-after").is_empty());
    world.sandbox.clear_faults();
    let slow = Plan::chance(Fault::InitializeSlow, 1.0).delayed(5_000);
    world.sandbox.inject(slow);
    let late = ask(world, &ada, "late").await;
    late.problem(504, "provider_unavailable");
    world.sandbox.clear_faults();
    // Nothing of it was kept as an answer: the same keys get a checkout each.
    let mut references = Vec::new();
    for key in ["away", "late"] {
        let deposit = eventually("a checkout", WAIT, async || {
            let answer = ask(world, &ada, key).await;
            if answer.status.is_success() { Ok(answer.ok::<Value>()) } else { Err(answer.text()) }
        })
        .await;
        references.push(text(&deposit, "reference"));
    }
    assert_ne!(references[0], references[1]);
    for reference in &references {
        world.pay(reference).await;
        world.settled(&ada, reference, "success").await;
    }
    assert_eq!(world.balance(&ada).await, 2 * AMOUNT);
}

#[tokio::test]
async fn no_failure_of_paystack_loses_or_doubles_a_deposit() {
    let world = World::start_with(&[
        "--payments-provider-timeout-ms=400",
        "--payments-confirm-first-ms=100",
        "--payments-circuit-pause-ms=50",
        "--payments-ledger-wait-ms=2000",
        "--payments-lease-ms=3000",
        "--api-checkout-wait-ms=3000",
    ])
    .await;
    every_status_is_reached(&world).await;
    what_was_paid_otherwise_waits_for_a_person(&world).await;
    webhooks_may_be_lost_late_doubled_or_garbled(&world).await;
    webhooks_may_come_in_another_order(&world).await;
    verify_may_fail_for_a_while(&world).await;
    initialize_may_fail_once(&world).await;
    a_lost_checkout_that_is_paid_is_credited(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_a_502_and_a_late_one_a_504() {
    let world = World::start_with(&[
        "--payments-provider-timeout-ms=2000",
        "--payments-circuit-pause-ms=50",
        "--api-checkout-wait-ms=4000",
    ])
    .await;
    while_paystack_is_away_callers_are_told_so(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn an_abandoned_checkout_may_still_be_paid() {
    let world = World::start_with(&["--payments-abandon-after-ms=1500"]).await;
    let (ada, bola) = (somebody(&world, "ada").await, somebody(&world, "bola").await);
    let (late, never) = (world.deposit(&ada, AMOUNT).await, world.deposit(&bola, AMOUNT).await);
    for (person, reference) in [(&ada, &late), (&bola, &never)] {
        let given_up = world.settled(person, reference, "abandoned").await;
        assert_eq!(given_up["paid_at"], Value::Null);
    }
    world.pay(&late).await;
    world.settled(&ada, &late, "success").await;
    assert_eq!((world.balance(&ada).await, world.balance(&bola).await), (AMOUNT, 0));
    assert_eq!(status(&world, &bola, &never).await["status"], "abandoned");
    world.finish().await;
}

/// Amounts that no checkout takes are refused for good, under their key too.
#[tokio::test]
async fn what_paystack_never_takes_is_refused_before_it_is_asked() {
    let world = World::start().await;
    let ada = somebody(&world, "ada").await;
    for amount in [1, 4_999, 1_000_000_001, 9_007_199_254_740_991_u64] {
        for is_repeated in [false, true] {
            let call = world.client.post("/wallet/deposit").bearer(&ada.token);
            let call = call.idempotency_key(&format!("deposit-{amount}"));
            let answer = call.json(&json!({ "amount": amount })).send().await;
            answer.problem(422, "limit_exceeded");
            assert_eq!(answer.header("idempotency-replayed") == "true", is_repeated, "{amount}");
        }
    }
    assert_eq!(world.sandbox.transactions(), []);
    for amount in [5_000, 1_000_000_000] {
        let reference = world.deposit(&ada, amount).await;
        world.pay(&reference).await;
        world.settled(&ada, &reference, "success").await;
    }
    assert_eq!(world.balance(&ada).await, 1_000_005_000);
    world.finish().await;
}
