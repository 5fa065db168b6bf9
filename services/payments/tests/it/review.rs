//! What an operator sees and decides, and what comes of it in the books.

use payments::operate::{Operator, Refused};
use primitives::{AccountId, System};
use sandbox::paystack::model::{Attempt, Outcome};
use testkit::eventually;

use crate::store;
use crate::world::{BOUND, World};

const SIGNED: (&str, &str) = ("ada@example.com", "the customer called, ticket 7");

/// A deposit of 50 naira of which 49.99 were paid, in review and put aside.
pub(crate) async fn too_little() -> (World, AccountId, String) {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    let attempt = Attempt { other_amount: Some(4_999), ..Attempt::new(Outcome::Success) };
    world.sandbox.pay(&started.reference, attempt).unwrap();
    world.until("review").await;
    world.until_put_aside().await;
    (world, account_id, started.reference)
}

#[tokio::test]
async fn what_a_person_accepts_is_credited_as_it_was_paid_and_once() {
    let (world, account_id, reference) = too_little().await;
    let operator = Operator::connect(&world.config).await.unwrap();
    let listed = operator.list().await.unwrap();
    assert!(listed.contains(&reference) && listed.contains("4999 NGN paid, held"), "{listed}");
    operator.accept(&reference, None, SIGNED).await.unwrap().unwrap();
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 4_999);
    assert_eq!(world.ledger.system(System::Suspense), 0);
    assert_eq!(world.ledger.system(System::PaystackClearing), -4_999);
    let again = operator.accept(&reference, None, SIGNED).await.unwrap();
    assert_eq!(again, Err(Refused::NotInReview("credited")));
    let shown = world.status(account_id, &reference).await;
    assert_eq!(shown.amount_minor, 4_999);
    let life = operator.inspect(&reference).await.unwrap().unwrap();
    for part in [
        "asked for 5000 NGN",
        "webhook 1 came",
        "amount_differs",
        "ada@example.com",
        "ticket 7",
        "crediting -> credited",
        "put aside by txn_",
        ", credited by txn_",
    ] {
        assert!(life.contains(part), "{part} is not in\n{life}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_parked_webhook_waits_until_a_person_has_seen_to_it() {
    let (world, _, reference) = too_little().await;
    let operator = Operator::connect(&world.config).await.unwrap();
    let by_hand = "update payments.webhooks set state = 'dismissed'";
    let refused = store::refused_by(world.pool(), by_hand).await;
    assert_eq!(refused.as_deref(), Some("webhooks_parked_needs_a_person"));
    assert_eq!(operator.dismiss("1", ("", "")).await.unwrap(), Err(Refused::NotSigned));
    assert_eq!(operator.dismiss("99", SIGNED).await.unwrap(), Err(Refused::NotParked));
    operator.dismiss("1", SIGNED).await.unwrap().unwrap();
    assert_eq!(operator.dismiss("1", SIGNED).await.unwrap(), Err(Refused::NotParked));
    assert!(!operator.list().await.unwrap().contains("webhook"));
    // Told once more, it is still the same fact.
    assert!(world.sandbox.resend(&reference));
    eventually("it is told again", BOUND, async || {
        let [it] = store::webhooks(world.pool()).await.try_into().unwrap();
        let is_told = it.state == "dismissed" && it.n_received == 2;
        if is_told { Ok(()) } else { Err(format!("{it:?}")) }
    })
    .await;
    let life = operator.inspect(&reference).await.unwrap().unwrap();
    assert!(life.contains("decided to dismiss webhook 1"), "{life}");
    world.finish().await;
}

#[tokio::test]
async fn what_a_person_rejects_stays_on_the_suspense_account_for_ever() {
    let (world, account_id, reference) = too_little().await;
    let operator = Operator::connect(&world.config).await.unwrap();
    operator.reject(&reference, SIGNED).await.unwrap().unwrap();
    assert_eq!(store::deposits(world.pool()).await[0].state, "rejected");
    for late in
        [operator.accept(&reference, None, SIGNED).await, operator.reject(&reference, SIGNED).await]
    {
        assert_eq!(late.unwrap(), Err(Refused::NotInReview("rejected")));
    }
    assert!(world.sandbox.resend(&reference));
    world.until_inbox_is_empty().await;
    assert_eq!(world.ledger.balance(account_id), 0);
    assert_eq!(world.ledger.system(System::Suspense), 4_999);
    world.finish().await;
}

#[tokio::test]
async fn a_wallet_that_was_frozen_is_credited_when_a_person_says_so_again() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    world.ledger.freeze(account_id);
    world.pay(&started.reference);
    world.until("review").await;
    world.until_put_aside().await;
    let operator = Operator::connect(&world.config).await.unwrap();
    // Still frozen: the ledger says no once more, and the money stays where it is.
    operator.accept(&started.reference, None, SIGNED).await.unwrap().unwrap();
    eventually("the second no", BOUND, async || {
        let [it] = store::deposits(world.pool()).await.try_into().unwrap();
        let is_back = it.state == "review" && it.n_accepted == 1;
        if is_back { Ok(()) } else { Err(format!("{it:?}")) }
    })
    .await;
    assert_eq!(world.ledger.system(System::Suspense), 5_000);
    world.ledger.unfreeze(account_id);
    operator.accept(&started.reference, None, SIGNED).await.unwrap().unwrap();
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    assert_eq!(world.ledger.system(System::Suspense), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_decision_needs_a_name_a_reason_and_something_to_decide() {
    let world = World::started().await;
    let (_, started) = world.checkout().await;
    let operator = Operator::connect(&world.config).await.unwrap();
    let reference = started.reference.as_str();
    let long = "x".repeat(2_001);
    for (reference, signed, refused) in [
        (reference, ("", "because"), Refused::NotSigned),
        (reference, ("ada", "  "), Refused::NotSigned),
        (reference, ("ada", &*long), Refused::NotSigned),
        ("dep-00000000000000000000000000000000", SIGNED, Refused::Unknown),
        ("no reference", SIGNED, Refused::Unknown),
        (reference, SIGNED, Refused::NotInReview("pending")),
    ] {
        assert_eq!(operator.accept(reference, None, signed).await.unwrap(), Err(refused));
    }
    assert_eq!(operator.inspect("dep-x").await.unwrap(), Err(Refused::Unknown));
    assert_eq!(operator.list().await.unwrap(), "nothing waits for a person\n");
    world.finish().await;
}
