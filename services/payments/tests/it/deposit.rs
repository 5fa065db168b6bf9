//! The usual way, and what callers see of it.

use primitives::AccountId;
use prost::Message as _;
use proto_events::common::v1::Envelope;
use proto_events::convert::WireId as _;
use proto_events::payments::v1::{DepositCredited, DepositStatus};
use proto_events::subjects;
use sandbox::paystack::model::{Attempt, Outcome};
use testkit::eventually;

use crate::store;
use crate::world::{Ask, BOUND, World};

#[tokio::test]
async fn a_payment_reaches_the_wallet_once_and_is_announced() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    assert!(!started.replayed);
    assert!(started.authorization_url.starts_with("http"), "{started:?}");
    assert!(started.authorization_url.ends_with(&started.access_code), "{started:?}");
    let asked = world.sandbox.transaction(&started.reference).unwrap();
    assert_eq!((asked.amount, asked.currency.as_str()), (5_000, "NGN"));
    assert_eq!(asked.email, "ada@example.com");

    let before = world.status(account_id, &started.reference).await;
    assert_eq!((before.found, before.status()), (true, DepositStatus::Pending));
    assert_eq!(before.paid_at_us, 0);

    world.pay(&started.reference);
    let stored = world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    let after = world.status(account_id, &started.reference).await;
    assert_eq!(after.status(), DepositStatus::Success);
    assert_eq!((after.amount_minor, after.currency.as_str()), (5_000, "NGN"));
    assert!(after.paid_at_us > 0 && after.created_at_us == before.created_at_us);

    let [posted] = world.ledger.posted().try_into().unwrap();
    assert_eq!(posted.reference, started.reference);
    assert_eq!(posted.id.uuid(), stored.credit_transfer_id);
    let credited = announcement(&world).await;
    assert_eq!(credited.reference, started.reference);
    assert_eq!(credited.account_id, account_id.to_bytes());
    assert_eq!(credited.transfer_id, posted.id.to_bytes());
    assert_eq!(store::n_waiters(world.pool()).await, 0);
    world.finish().await;
}

/// The one event on the bus.
async fn announcement(world: &World) -> DepositCredited {
    let jetstream = async_nats::jetstream::new(world.nats.client().await);
    let stream = jetstream.get_stream(subjects::EVT.name).await.unwrap();
    let message = eventually("the event", BOUND, async || {
        let last =
            stream.get_last_raw_message_by_subject(subjects::payments::DEPOSIT_CREDITED).await;
        last.map_err(|error| error.to_string())
    })
    .await;
    let envelope = Envelope::decode(message.payload).unwrap();
    DepositCredited::decode(envelope.payload).unwrap()
}

#[tokio::test]
async fn a_status_is_shown_to_the_owner_and_to_nobody_else() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    assert!(world.status(account_id, &started.reference).await.found);
    let stranger = world.ledger.open();
    for (who, reference) in [
        (stranger, started.reference.as_str()),
        (AccountId::NOBODY, started.reference.as_str()),
        (account_id, "dep-00000000000000000000000000000000"),
        (account_id, "no reference at all; drop table"),
        (account_id, ""),
        (account_id, "dep-\0"),
    ] {
        let shown = world.status(who, reference).await;
        assert_eq!(shown, proto_events::payments::v1::Deposit::default(), "{reference}");
    }
    world.finish().await;
}

#[tokio::test]
async fn asking_for_the_status_makes_somebody_look_and_credits_nothing_by_itself() {
    let mut world = World::new().await;
    world.config.pace.look_pause_ms = 0;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    // Asked before it is paid: somebody looks, and nothing comes of it.
    world.status(account_id, &started.reference).await;
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    eventually("the credit", BOUND, async || {
        let shown = world.status(account_id, &started.reference).await;
        if shown.status() == DepositStatus::Success { Ok(()) } else { Err(format!("{shown:?}")) }
    })
    .await;
    assert!(world.sandbox.webhooks().iter().all(|it| !it.delivered));
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn a_frozen_wallet_is_not_credited_and_a_person_must_look() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    world.ledger.freeze(account_id);
    world.pay(&started.reference);
    let stored = world.until("review").await;
    assert_eq!(stored.review_reason.as_deref(), Some("ledger_refused:credit_account_frozen"));
    let shown = world.status(account_id, &started.reference).await;
    assert_eq!(shown.status(), DepositStatus::Review);
    assert_eq!(world.ledger.balance(account_id), 0);
    assert_eq!(store::announced(world.pool()).await, [subjects::payments::DEPOSIT_PARKED]);
    world.finish().await;
}

#[tokio::test]
async fn what_was_paid_must_be_what_was_asked_for() {
    for (other_amount, other_currency, reason) in [
        (Some(4_999), None, "amount_differs"),
        (Some(50_000), None, "amount_differs"),
        (None, Some("USD".to_owned()), "currency_differs"),
    ] {
        let world = World::started().await;
        let (account_id, started) = world.checkout().await;
        let attempt = Attempt { other_amount, other_currency, ..Attempt::new(Outcome::Success) };
        world.sandbox.pay(&started.reference, attempt).unwrap();
        let stored = world.until("review").await;
        assert_eq!(stored.review_reason.as_deref(), Some(reason));
        let [webhook] = world.until_inbox_is_empty().await.try_into().unwrap();
        assert_eq!((webhook.state.as_str(), webhook.reason.as_deref()), ("parked", Some(reason)));
        assert_eq!(world.ledger.balance(account_id), 0);
        // It is put aside, whatever it is.
        world.until_put_aside().await;
        world.finish().await;
    }
}

#[tokio::test]
async fn a_failed_payment_may_be_tried_again_on_the_same_checkout() {
    let mut world = World::new().await;
    world.config.pace.look_pause_ms = 0;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.pay(&started.reference, Attempt::new(Outcome::Failed)).unwrap();
    world.status(account_id, &started.reference).await;
    world.until("failed").await;
    let shown = world.status(account_id, &started.reference).await;
    assert_eq!(shown.status(), DepositStatus::Failed);
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn the_place_to_come_back_to_is_handed_on() {
    let mut world = World::new().await;
    world.config.default_callback_url = Some("https://app.example/back".parse().unwrap());
    world.start().await;
    let account_id = world.ledger.open();
    let usual = world.ask(&Ask::of(account_id)).await;
    let own = Ask { callback_url: "https://own.example/x?y=1", ..Ask::of(account_id) };
    let own = world.ask(&own).await;
    let callback = |reference| world.sandbox.transaction(reference).unwrap().callback_url;
    assert_eq!(callback(&usual.reference).as_deref(), Some("https://app.example/back"));
    assert_eq!(callback(&own.reference).as_deref(), Some("https://own.example/x?y=1"));
    world.finish().await;
}
