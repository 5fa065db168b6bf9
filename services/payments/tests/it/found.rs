//! Refunds that somebody made at Paystack itself, and that nobody asked us for.

use primitives::System;
use reqwest::Method;
use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::{Claim, Status, Verdict};
use serde_json::json;
use testkit::eventually;

use crate::returns::{SIGNED, credited, decline, operator, refund, until};
use crate::review::too_little;
use crate::store::{self, StoredReturn};
use crate::world::{BOUND, World};

/// Makes a refund as somebody does in Paystack's dashboard; says under which id.
async fn refund_there(world: &World, reference: &str, minor: u64) -> String {
    let asked = json!({ "transaction": reference, "amount": minor });
    let said = world.call_paystack(Method::POST, "refund", &asked).await;
    said["data"]["id"].to_string()
}

/// Waits until so many returns have ended as that.
async fn until_all(world: &World, n_returns: usize, state: &str) -> Vec<StoredReturn> {
    eventually(state, BOUND, async || {
        let all = store::returns(world.pool()).await;
        let is_done = all.len() == n_returns && all.iter().all(|it| it.state == state);
        if is_done { Ok(all) } else { Err(format!("{all:?}")) }
    })
    .await
}

#[tokio::test]
async fn its_webhook_has_it_found_and_its_money_taken_from_the_wallet() {
    let (world, account_id, reference) = credited().await;
    let id = refund_there(&world, &reference, 2_000).await;
    let found = until(&world, "returned").await;
    assert_eq!((&*found.kind, &*found.cover, found.n_asked), ("found_refund", "held", 0));
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (3_000, 0));
    assert_eq!(world.ledger.system(System::PaystackClearing), -3_000);
    let operator = operator(&world).await;
    let life = operator.inspect(&reference).await.unwrap().unwrap();
    assert!(life.contains("is credited, refunded in part\n"), "{life}");
    assert!(life.contains(&format!("{id} at Paystack")), "{life}");
    // Nothing of it waits for a person, and no more than what is left can be refunded.
    assert_eq!(operator.list().await.unwrap(), "nothing waits for a person\n");
    refund(&world, &reference).await;
    until_all(&world, 2, "returned").await;
    assert_eq!(world.ledger.system(System::PaystackClearing), 0);
    assert_eq!(world.sandbox.refunds().len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn without_a_webhook_it_is_found_in_paystacks_list_and_ours_among_them_is_not_taken_twice() {
    let lost = sandbox::Config { lists_webhooks: false, ..sandbox::Config::default() };
    let mut world = World::with_sandbox(lost).await;
    world.config.pace.missed_every_ms = 50;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    world.sandbox.inject(Plan::chance(Fault::WebhookLost, 1.0));
    // Two of the same amount, of which no webhook could say which it is about; and one of ours.
    refund_there(&world, &started.reference, 1_000).await;
    refund_there(&world, &started.reference, 1_000).await;
    until_all(&world, 2, "returned").await;
    let operator = operator(&world).await;
    operator.refund(&started.reference, Some(1_000), false, SIGNED).await.unwrap().unwrap();
    let all = until_all(&world, 3, "returned").await;
    assert_eq!(all.iter().filter(|it| it.kind == "found_refund").count(), 2);
    assert_eq!(world.ledger.balance(account_id), 2_000);
    assert_eq!(world.ledger.system(System::PaystackClearing), -2_000);
    world.finish().await;
}

#[tokio::test]
async fn what_the_wallet_does_not_have_is_missing_on_the_suspense_account_and_shown() {
    let (world, account_id, reference) = credited().await;
    world.ledger.freeze(account_id);
    refund_there(&world, &reference, 5_000).await;
    let found = until(&world, "returned").await;
    assert_eq!((&*found.kind, &*found.cover), ("found_refund", "refused"));
    assert_eq!(world.ledger.balance(account_id), 5_000);
    assert_eq!(world.ledger.system(System::Suspense), -5_000);
    assert_eq!(world.ledger.system(System::PaystackClearing), 0);
    let (operator, id) = (operator(&world).await, format!("ret_{}", found.return_id.simple()));
    assert!(operator.list().await.unwrap().contains(&id));
    operator.dismiss(&id, SIGNED).await.unwrap().unwrap();
    assert_eq!(operator.list().await.unwrap(), "nothing waits for a person\n");
    world.finish().await;
}

#[tokio::test]
async fn of_a_contested_payment_it_waits_for_a_person() {
    let (world, account_id, reference) = credited().await;
    let part = Claim { amount: Some(1_000), ..Claim::default() };
    world.sandbox.raise_dispute(&reference, part).unwrap();
    until(&world, "open").await;
    refund_there(&world, &reference, 2_000).await;
    let found = until(&world, "review").await;
    assert_eq!((&*found.kind, &*found.cover), ("found_refund", "nothing"));
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (5_000, 1_000));
    let (operator, id) = (operator(&world).await, format!("ret_{}", found.return_id.simple()));
    let listed = operator.list().await.unwrap();
    assert!(listed.contains(&id) && listed.contains("unclear"), "{listed}");
    operator.accept(&id, Some(2_000), SIGNED).await.unwrap().unwrap();
    assert_eq!(until(&world, "returned").await.cover, "held", "the wallet pays, having the money");
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (3_000, 1_000));
    world.finish().await;
}

#[tokio::test]
async fn a_payment_that_one_reversed_does_not_say_that_a_dispute_was_lost() {
    let (world, account_id, reference) = credited().await;
    let part = Claim { amount: Some(1_000), ..Claim::default() };
    let dispute = world.sandbox.raise_dispute(&reference, part).unwrap();
    until(&world, "open").await;
    // Nobody hears of it, and Paystack shows the payment as reversed from here on.
    world.sandbox.inject(Plan::chance(Fault::WebhookLost, 1.0));
    refund_there(&world, &reference, 2_000).await;
    eventually("the payment is reversed", BOUND, async || {
        let status = world.sandbox.transaction(&reference).unwrap().status;
        if status == Status::Reversed { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    decline(&world, dispute.id).await;
    assert!(world.sandbox.decide_dispute(dispute.id, Verdict::Won));
    let unclear = until(&world, "review").await;
    assert_eq!((&*unclear.kind, &*unclear.cover), ("dispute", "held"));
    let id = format!("ret_{}", unclear.return_id.simple());
    operator(&world).await.reject(&id, SIGNED).await.unwrap().unwrap();
    until(&world, "kept").await;
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (5_000, 0));
    world.finish().await;
}

#[tokio::test]
async fn of_what_no_wallet_has_it_is_taken_from_the_suspense_account() {
    let (world, account_id, reference) = too_little().await;
    refund_there(&world, &reference, 4_999).await;
    until(&world, "returned").await;
    assert_eq!(world.ledger.system(System::Suspense), 0);
    assert_eq!(world.ledger.system(System::PaystackClearing), 0);
    assert_eq!(world.ledger.balance(account_id), 0);
    let accepted = operator(&world).await.accept(&reference, None, SIGNED).await.unwrap();
    assert!(accepted.is_err(), "it is the payer's again: {accepted:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_webhook_of_one_that_paystack_does_not_have_changes_nothing() {
    let (world, account_id, reference) = credited().await;
    let of = |reference: &str| {
        json!({"event": "refund.processed", "data": {
            "status": "processed", "transaction_reference": reference, "refund_reference": "R1",
            "amount": "5000", "currency": "NGN", "domain": "test"}})
    };
    assert_eq!(world.post(of(&reference).to_string().as_bytes()).await, 200);
    // It had the list read.
    let look = "select count(done_until) from payments.rounds where what = 'missed'";
    eventually("the list is read", BOUND, async || {
        let n_read: i64 = sqlx::query_scalar(look).fetch_one(world.pool()).await.unwrap();
        if n_read == 1 { Ok(()) } else { Err("not read".to_owned()) }
    })
    .await;
    assert!(store::returns(world.pool()).await.is_empty());
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (5_000, 0));
    // Of what nobody is known to have paid, a person should see it.
    let (_, unpaid) = world.checkout().await;
    assert_eq!(world.post(of(&unpaid.reference).to_string().as_bytes()).await, 200);
    let stored = world.until_inbox_is_empty().await;
    assert_eq!(stored.last().unwrap().reason.as_deref(), Some("needs_person"));
    world.finish().await;
}

#[tokio::test]
async fn the_database_takes_no_refund_for_two() {
    let (world, _, reference) = credited().await;
    refund(&world, &reference).await;
    until(&world, "returned").await;
    let twice = "insert into payments.returns (return_id, deposit_id, kind, source, reference,
            currency, provider_id, created_at, state, cover, n_holds, n_asked, n_looks)
        select gen_random_uuid(), deposit_id, 'found_refund', source, reference, currency,
            provider_id, now(), 'noticed', 'nothing', 0, 0, 0 from payments.returns";
    let refused = store::refused_by(world.pool(), twice).await;
    assert_eq!(refused.as_deref(), Some("returns_refund_told_once"));
    world.finish().await;
}
