//! Webhooks that never come, payments that come late, and a Paystack that fails.

use proto_events::payments::v1::DepositStatus;
use sandbox::faults::{Fault, Plan};
use testkit::eventually;

use crate::store;
use crate::world::{Ask, BOUND, World};

/// A world that verifies by itself every 100 ms or so.
async fn watchful() -> World {
    let mut world = World::new().await;
    world.config.pace.reconcile_first_ms = 100;
    world.config.pace.reconcile_longest_ms = 200;
    world.config.pace.reconcile_late_ms = 100;
    world
}

#[tokio::test]
async fn a_webhook_that_never_comes_delays_the_money_and_loses_none() {
    let mut world = watchful().await;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    assert!(store::webhooks(world.pool()).await.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_payment_after_the_deposit_was_abandoned_is_credited() {
    let mut world = watchful().await;
    world.config.pace.abandon_after_ms = 300;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.until("abandoned").await;
    let shown = world.status(account_id, &started.reference).await;
    assert_eq!(shown.status(), DepositStatus::Abandoned);
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn a_webhook_wakes_even_a_deposit_that_nobody_looks_at_any_more() {
    let mut world = watchful().await;
    world.config.pace.abandon_after_ms = 200;
    world.config.pace.forget_after_ms = 400;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    let nobody_looks = world.until("expired").await;
    assert!(!nobody_looks.is_due);
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn a_paystack_that_fails_delays_and_loses_nothing() {
    let mut world = watchful().await;
    world.start().await;
    for (fault, count) in
        [(Fault::VerifyError, 8), (Fault::VerifyCutOff, 3), (Fault::VerifySlow, 1)]
    {
        let account_id = world.ledger.open();
        let started = world.ask(&Ask::of(account_id)).await;
        assert_eq!(started.refusal, 0);
        world.sandbox.inject(Plan::next(fault, count));
        world.pay(&started.reference);
        eventually("the credit", BOUND, async || match world.ledger.balance(account_id) {
            5_000 => Ok(()),
            other => Err(format!("{fault:?}: {other} {:?}", store::deposits(world.pool()).await)),
        })
        .await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_payment_that_was_given_back_before_we_looked_is_not_credited() {
    let mut world = World::new().await;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    assert!(world.sandbox.reverse(&started.reference));
    world.stop().await;
    world.config.pace.look_pause_ms = 0;
    world.start().await;
    world.status(account_id, &started.reference).await;
    let stored = world.until("review").await;
    assert_eq!(stored.review_reason.as_deref(), Some("reversed"));
    assert_eq!(world.ledger.balance(account_id), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_ledger_that_does_not_answer_is_asked_again_and_posts_once() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    world.ledger.desk().is_silent = true;
    world.pay(&started.reference);
    eventually("a second asking", BOUND, async || {
        let n_asked = world.ledger.desk().n_asked;
        if n_asked >= 2 { Ok(()) } else { Err(format!("{n_asked}")) }
    })
    .await;
    assert_eq!(store::deposits(world.pool()).await[0].state, "crediting");
    assert_eq!(world.status(account_id, &started.reference).await.status(), DepositStatus::Pending);
    world.ledger.desk().is_silent = false;
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    assert_eq!(world.ledger.posted().len(), 1);
    world.finish().await;
}
