//! Webhooks that Paystack could not deliver, and that we ask for ourselves.

use futures_util::future::join_all;
use payments::operate::Operator;
use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::Claim;
use sqlx::PgPool;
use testkit::eventually;

use crate::store;
use crate::world::{Ask, BOUND, World};

/// A world that asks Paystack for missed webhooks all the time, and for nothing else by itself: the
/// first verification of an unpaid deposit is a minute away.
async fn asking() -> World {
    asking_a(sandbox::Config::default()).await
}

async fn asking_a(sandbox: sandbox::Config) -> World {
    let mut world = World::with_sandbox(sandbox).await;
    world.config.pace.missed_every_ms = 50;
    world.start().await;
    world
}

/// Waits until it was asked from beginning to end so many times more.
async fn until_asked_again(pool: &PgPool, n_times: usize) {
    let look =
        "select coalesce(done_until, known_since)::text from payments.rounds where what = 'missed'";
    for _ in 0..n_times {
        let before: String = sqlx::query_scalar(look).fetch_one(pool).await.unwrap();
        eventually("another asking", BOUND, async || {
            let now: String = sqlx::query_scalar(look).fetch_one(pool).await.unwrap();
            if now == before { Err(now) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_webhook_that_was_never_delivered_is_fetched_and_its_deposit_credited() {
    let world = asking().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    let [webhook] = store::webhooks(world.pool()).await.try_into().unwrap();
    assert_eq!(webhook.event.as_deref(), Some("charge.success"));
    assert_eq!((webhook.state.as_str(), webhook.signed_by.as_str()), ("handled", "pulled"));
    let operator = Operator::connect(&world.config).await.unwrap();
    let life = operator.inspect(&started.reference).await.unwrap().unwrap();
    assert!(life.contains("fetched by ourselves"), "{life}");
    world.finish().await;
}

#[tokio::test]
async fn fetched_again_and_again_and_delivered_at_last_it_is_one_fact() {
    let world = asking().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    world.pay(&started.reference);
    world.until("credited").await;
    until_asked_again(world.pool(), 2).await;
    let [webhook] = store::webhooks(world.pool()).await.try_into().unwrap();
    assert_eq!(webhook.n_received, 1);
    assert!(world.sandbox.resend(&started.reference));
    eventually("it is told", BOUND, async || {
        let [it] = store::webhooks(world.pool()).await.try_into().unwrap();
        let is_told = it.n_received == 2 && it.state == "handled" && it.signed_by == "pulled";
        if is_told { Ok(()) } else { Err(format!("{it:?}")) }
    })
    .await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    assert_eq!(world.ledger.posted().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn what_paystack_still_tries_to_deliver_is_not_waited_for() {
    let world = asking().await;
    let (account_id, started) = world.checkout().await;
    // Nobody is there, and the next try is longer away each time.
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn a_long_list_is_read_to_its_end_and_a_failing_paystack_is_asked_again() {
    let world = asking().await;
    world.sandbox.inject(Plan::chance(Fault::WebhookLost, 1.0));
    // More than one page.
    let accounts: Vec<_> = (0..60).map(|_| world.ledger.open()).collect();
    let asks: Vec<Ask> = accounts.iter().map(|it| Ask::of(*it)).collect();
    let started = join_all(asks.iter().map(|it| world.ask(it))).await;
    world.sandbox.inject(Plan::next(Fault::ReadError, 2));
    world.sandbox.inject(Plan::next(Fault::ReadCutOff, 1));
    for it in &started {
        world.pay(&it.reference);
    }
    eventually("every credit", BOUND, async || {
        let n_credited = accounts.iter().filter(|it| world.ledger.balance(**it) == 5_000).count();
        if n_credited == accounts.len() { Ok(()) } else { Err(format!("{n_credited}")) }
    })
    .await;
    assert_eq!(store::webhooks(world.pool()).await.len(), accounts.len());
    world.finish().await;
}

#[tokio::test]
async fn an_account_without_such_a_list_works() {
    let config = sandbox::Config { lists_webhooks: false, ..sandbox::Config::default() };
    let world = asking_a(config).await;
    until_asked_again(world.pool(), 2).await;
    let (account_id, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn two_processes_share_the_asking_and_one_is_enough_when_the_other_ends() {
    let mut world = asking().await;
    let replica = world.replica().await;
    world.crash();
    let account_id = world.ledger.open();
    let started = world.ask(&Ask::of(account_id)).await;
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    replica.stop().await;
    world.finish().await;
}

#[tokio::test]
async fn a_dispute_whose_webhook_was_lost_is_found_in_paystacks_list() {
    let lost = sandbox::Config { lists_webhooks: false, ..sandbox::Config::default() };
    let world = asking_a(lost).await;
    let (account_id, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    world.sandbox.raise_dispute(&started.reference, Claim::default()).unwrap();
    eventually("the hold", BOUND, async || match world.ledger.held(account_id) {
        5_000 => Ok(()),
        held => Err(format!("{held} are held")),
    })
    .await;
    let pulled = store::webhooks(world.pool()).await.pop().unwrap();
    assert_eq!(pulled.event.as_deref(), Some("charge.dispute.create"));
    assert_eq!((&*pulled.state, &*pulled.signed_by), ("handled", "pulled"));
    world.finish().await;
}
