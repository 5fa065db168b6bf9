//! Refunds and disputes: what the ledger holds meanwhile, and what comes of them in the end.

use std::time::Duration;

use payments::operate::{Operator, Refused};
use primitives::{AccountId, System};
use reqwest::Method;
use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::{Claim, RefundStatus, Verdict};
use serde_json::json;
use testkit::eventually;

use crate::review::too_little;
use crate::store::{self, StoredReturn};
use crate::world::{BOUND, World};

pub(crate) const SIGNED: (&str, &str) = ("ada@example.com", "the customer asked, ticket 9");

/// A wallet with 50 naira that were paid in.
pub(crate) async fn credited() -> (World, AccountId, String) {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    (world, account_id, started.reference)
}

pub(crate) async fn operator(world: &World) -> Operator {
    Operator::connect(&world.config).await.unwrap()
}

/// Asks for a refund of all that is left.
pub(crate) async fn refund(world: &World, reference: &str) {
    operator(world).await.refund(reference, None, false, SIGNED).await.unwrap().unwrap();
}

/// Waits until the newest return is in this state.
pub(crate) async fn until(world: &World, state: &str) -> StoredReturn {
    eventually(state, BOUND, async || {
        let all = store::returns(world.pool()).await;
        match all.last() {
            Some(it) if it.state == state => Ok(it.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn until_trouble(world: &World, trouble: &str) -> StoredReturn {
    eventually(trouble, BOUND, async || {
        let all = store::returns(world.pool()).await;
        match all.last() {
            Some(it) if it.trouble.as_deref() == Some(trouble) => Ok(it.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_refund_takes_the_money_from_the_wallet_once_paystack_has_given_it_back() {
    let (world, account_id, reference) = credited().await;
    refund(&world, &reference).await;
    until(&world, "open").await;
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (5_000, 5_000));
    until(&world, "returned").await;
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (0, 0));
    assert_eq!(world.ledger.system(System::PaystackClearing), 0);
    assert_eq!(world.sandbox.totals()["NGN"].refunded, 5_000);
    let operator = operator(&world).await;
    let again = operator.refund(&reference, None, false, SIGNED).await.unwrap();
    assert_eq!(again, Err(Refused::TooMuch(0)));
    let life = operator.inspect(&reference).await.unwrap().unwrap();
    for part in [
        "is credited, refunded\n",
        "is returned",
        "decided to refund",
        "ticket 9",
        ", held by txn_",
        ", taken by txn_",
        "told: went back",
    ] {
        assert!(life.contains(part), "{part} is not in\n{life}");
    }
    world.finish().await;
}

#[tokio::test]
async fn refunds_in_parts_never_come_to_more_than_was_paid() {
    let (world, account_id, reference) = credited().await;
    let operator = operator(&world).await;
    let ask =
        async |minor, again| operator.refund(&reference, Some(minor), again, SIGNED).await.unwrap();
    assert_eq!(ask(5_001, false).await, Err(Refused::TooMuch(5_000)));
    assert!(ask(2_000, false).await.is_ok());
    let twice = ask(2_000, false).await;
    assert!(matches!(twice, Err(Refused::AlreadyRefunding(_))), "{twice:?}");
    assert!(ask(2_000, true).await.is_ok());
    assert_eq!(ask(1_001, false).await, Err(Refused::TooMuch(1_000)));
    eventually("both refunds", BOUND, async || {
        let all = store::returns(world.pool()).await;
        let is_done = all.iter().all(|it| it.state == "returned");
        if is_done { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    assert_eq!(world.ledger.balance(account_id), 1_000);
    let life = operator.inspect(&reference).await.unwrap().unwrap();
    assert!(life.contains("is credited, refunded in part\n"), "{life}");
    world.finish().await;
}

#[tokio::test]
async fn paystack_is_not_asked_for_money_that_the_wallet_does_not_have() {
    let (world, account_id, reference) = credited().await;
    world.ledger.freeze(account_id);
    refund(&world, &reference).await;
    let refused = until(&world, "refused").await;
    assert_eq!(refused.trouble.as_deref(), Some("debit_account_frozen"));
    assert!(world.sandbox.refunds().is_empty());
    // Nothing is claimed of the payment any more.
    world.ledger.unfreeze(account_id);
    refund(&world, &reference).await;
    until(&world, "returned").await;
    world.finish().await;
}

#[tokio::test]
async fn a_refund_whose_answer_got_lost_is_found_and_not_asked_for_again() {
    for fault in [Fault::RefundErrorAfter, Fault::RefundCutOff] {
        let (world, account_id, reference) = credited().await;
        world.sandbox.inject(Plan::next(fault, 1));
        refund(&world, &reference).await;
        assert_eq!(until(&world, "returned").await.n_asked, 1);
        assert_eq!(world.sandbox.refunds().len(), 1, "{fault:?}");
        assert_eq!(world.ledger.balance(account_id), 0);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_refund_that_was_never_made_is_asked_for_again_after_a_while() {
    let (world, _, reference) = credited().await;
    world.sandbox.inject(Plan::next(Fault::RefundError, 1));
    refund(&world, &reference).await;
    assert_eq!(until(&world, "returned").await.n_asked, 2);
    assert_eq!(world.sandbox.refunds().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_refund_that_fails_leaves_the_money_in_the_wallet() {
    let (world, account_id, reference) = credited().await;
    world.sandbox.inject(Plan::next(Fault::RefundFails, 1));
    refund(&world, &reference).await;
    until(&world, "kept").await;
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (5_000, 0));
    assert_eq!(world.ledger.system(System::PaystackClearing), -5_000);
    world.finish().await;
}

#[tokio::test]
async fn a_refund_that_needs_the_payers_account_is_shown_and_goes_on_when_it_has_it() {
    let (world, account_id, reference) = credited().await;
    world.sandbox.inject(Plan::next(Fault::RefundNeedsAttention, 1));
    refund(&world, &reference).await;
    until_trouble(&world, "needs_attention").await;
    let listed = operator(&world).await.list().await.unwrap();
    assert!(listed.contains("needs_attention") && listed.contains(&reference), "{listed}");
    assert_eq!(world.ledger.held(account_id), 5_000);
    let id = world.sandbox.refunds()[0].id;
    world.sandbox.set_refund(id, RefundStatus::Processed).unwrap();
    until(&world, "returned").await;
    assert_eq!(operator(&world).await.list().await.unwrap(), "nothing waits for a person\n");
    world.finish().await;
}

#[tokio::test]
async fn an_end_while_the_ledger_is_asked_to_hold_or_to_take_changes_nothing() {
    for (silent_in, ends_in) in [("wanted", "open"), ("taking", "returned")] {
        let (mut world, account_id, reference) = credited().await;
        if silent_in == "taking" {
            refund(&world, &reference).await;
            until(&world, "open").await;
        }
        world.ledger.desk().is_silent = true;
        let n_asked = world.ledger.desk().n_asked;
        if silent_in == "wanted" {
            refund(&world, &reference).await;
        }
        until(&world, silent_in).await;
        eventually("it is asked", BOUND, async || {
            let is_asked = world.ledger.desk().n_asked > n_asked;
            if is_asked { Ok(()) } else { Err("nobody asked".to_owned()) }
        })
        .await;
        world.crash();
        world.ledger.desk().is_silent = false;
        world.start().await;
        until(&world, ends_in).await;
        until(&world, "returned").await;
        assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (0, 0));
        assert_eq!(world.sandbox.refunds().len(), 1);
        world.finish().await;
    }
}

#[tokio::test]
async fn an_end_while_paystack_is_asked_for_a_refund_makes_no_second_one() {
    let (mut world, _, reference) = credited().await;
    world.sandbox.inject(Plan::next(Fault::RefundSlow, 1).delayed(2_000));
    refund(&world, &reference).await;
    until(&world, "asked").await;
    eventually("the refund is made", BOUND, async || match world.sandbox.refunds().len() {
        1 => Ok(()),
        n => Err(format!("{n} refunds")),
    })
    .await;
    world.crash();
    world.start().await;
    assert_eq!(until(&world, "returned").await.n_asked, 1);
    assert_eq!(world.sandbox.refunds().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn what_no_wallet_has_is_refunded_from_the_suspense_account() {
    let (world, account_id, reference) = too_little().await;
    let operator = operator(&world).await;
    let too_early = operator.refund(&reference, None, false, SIGNED).await.unwrap();
    assert_eq!(too_early, Err(Refused::NotRefundable("review")));
    operator.reject(&reference, SIGNED).await.unwrap().unwrap();
    let part = operator.refund(&reference, Some(1), false, SIGNED).await.unwrap();
    assert_eq!(part, Err(Refused::TooMuch(4_999)));
    refund(&world, &reference).await;
    until(&world, "returned").await;
    assert_eq!(world.ledger.system(System::Suspense), 0);
    assert_eq!(world.ledger.system(System::PaystackClearing), 0);
    assert_eq!(world.ledger.balance(account_id), 0);
    assert_eq!(store::deposits(world.pool()).await[0].suspense, "left");
    world.finish().await;
}

/// The merchant declines a dispute.
pub(crate) async fn decline(world: &World, id: u64) {
    let answer = json!({
        "resolution": "declined", "message": "it was delivered", "refund_amount": 0,
        "uploaded_filename": "proof.pdf",
    });
    world.call_paystack(Method::PUT, &format!("dispute/{id}/resolve"), &answer).await;
}

#[tokio::test]
async fn a_dispute_holds_the_money_at_once_and_silence_loses_it() {
    let (world, account_id, reference) = credited().await;
    world.sandbox.raise_dispute(&reference, Claim::default()).unwrap();
    eventually("the hold", BOUND, async || match world.ledger.held(account_id) {
        5_000 => Ok(()),
        held => Err(format!("{held} are held")),
    })
    .await;
    until(&world, "open").await;
    let operator = operator(&world).await;
    let life = operator.inspect(&reference).await.unwrap().unwrap();
    assert!(life.contains("is credited, disputed\n"), "{life}");
    assert!(life.contains("to be answered there by 20"), "{life}");
    assert!(operator.list().await.unwrap().contains("answer it at Paystack"));
    let refused = operator.refund(&reference, None, false, SIGNED).await.unwrap();
    assert_eq!(refused, Err(Refused::TooMuch(0)));
    world.sandbox.advance_clock(Duration::from_hours(49));
    until(&world, "returned").await;
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (0, 0));
    assert_eq!(world.ledger.system(System::PaystackClearing), 0);
    let life = operator.inspect(&reference).await.unwrap().unwrap();
    assert!(life.contains("disputed and lost"), "{life}");
    world.finish().await;
}

#[tokio::test]
async fn a_dispute_that_is_won_gives_the_money_back_and_one_lost_after_all_takes_it() {
    for (verdict, state, left) in
        [(Verdict::Won, "kept", 5_000), (Verdict::Reversed, "returned", 0)]
    {
        let (world, account_id, reference) = credited().await;
        let dispute = world.sandbox.raise_dispute(&reference, Claim::default()).unwrap();
        until(&world, "open").await;
        decline(&world, dispute.id).await;
        assert!(world.sandbox.decide_dispute(dispute.id, verdict));
        until(&world, state).await;
        let found = (world.ledger.balance(account_id), world.ledger.held(account_id));
        assert_eq!(found, (left, 0), "{verdict:?}");
        world.finish().await;
    }
}

#[tokio::test]
async fn what_a_lost_dispute_takes_and_no_wallet_has_is_missing_on_the_suspense_account() {
    let (world, account_id, reference) = credited().await;
    world.ledger.freeze(account_id);
    world.sandbox.raise_dispute(&reference, Claim::default()).unwrap();
    let open = until_trouble(&world, "debit_account_frozen").await;
    assert_eq!((&*open.kind, &*open.state), ("dispute", "open"));
    world.sandbox.advance_clock(Duration::from_hours(49));
    let lost = until(&world, "returned").await;
    assert_eq!(&*lost.cover, "refused");
    assert_eq!(world.ledger.balance(account_id), 5_000);
    assert_eq!(world.ledger.system(System::Suspense), -5_000);
    assert_eq!(world.ledger.system(System::PaystackClearing), 0);
    let (operator, id) = (operator(&world).await, format!("ret_{}", lost.return_id.simple()));
    assert!(operator.list().await.unwrap().contains(&id));
    operator.dismiss(&id, SIGNED).await.unwrap().unwrap();
    assert!(!operator.list().await.unwrap().contains(&id));
    world.finish().await;
}

#[tokio::test]
async fn a_dispute_waits_for_money_that_comes_later() {
    let (world, account_id, reference) = credited().await;
    world.ledger.freeze(account_id);
    world.sandbox.raise_dispute(&reference, Claim::default()).unwrap();
    until_trouble(&world, "debit_account_frozen").await;
    world.ledger.unfreeze(account_id);
    eventually("the hold", BOUND, async || match world.ledger.held(account_id) {
        5_000 => Ok(()),
        held => Err(format!("{held} are held")),
    })
    .await;
    world.sandbox.advance_clock(Duration::from_hours(49));
    assert_eq!(&*until(&world, "returned").await.cover, "held");
    world.finish().await;
}

#[tokio::test]
async fn a_strange_dispute_waits_for_a_person_and_one_that_paystack_does_not_know_for_paystack() {
    let (world, account_id, reference) = credited().await;
    let dispute = |id: u64, domain| {
        json!({"event": "charge.dispute.create", "data": {
            "id": id, "domain": domain, "transaction": {"reference": reference}}})
    };
    for (body, reason) in [
        (dispute(1, "live"), Some("other_domain")),
        // Signed, and Paystack knows no such dispute: it is asked again, and nothing is held.
        (dispute(2, "test"), None),
    ] {
        assert_eq!(world.post(body.to_string().as_bytes()).await, 200);
        let stored = world.until_inbox_is_empty().await;
        assert_eq!(stored.last().unwrap().reason.as_deref(), reason);
    }
    assert_eq!(until(&world, "noticed").await.cover, "nothing");
    assert_eq!((world.ledger.balance(account_id), world.ledger.held(account_id)), (5_000, 0));
    world.finish().await;
}

#[tokio::test]
async fn the_database_itself_keeps_returns_from_being_bent() {
    let (world, _, reference) = credited().await;
    refund(&world, &reference).await;
    until(&world, "returned").await;
    let again = "insert into payments.returns (return_id, deposit_id, kind, source, reference,
            currency, amount_minor, created_at, state, cover, n_holds, n_asked, n_looks)
        select gen_random_uuid(), deposit_id, kind, source, reference, currency, 1, now(), 'wanted',
            'wanted', 1, 0, 0 from payments.returns";
    for (statement, constraint) in [
        ("update payments.returns set state = 'kept'", "returns_ended_for_ever"),
        ("update payments.returns set amount_minor = 1, taken_minor = 1", "returns_unchanged"),
        ("delete from payments.returns", "kept_for_ever"),
        (again, "returns_within_paid"),
    ] {
        let refused = store::refused_by(world.pool(), statement).await;
        assert_eq!(refused.as_deref(), Some(constraint), "{statement}");
    }
    world.finish().await;
}
