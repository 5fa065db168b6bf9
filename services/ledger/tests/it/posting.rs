//! Commands and their outcomes, end to end: every rejection is reached once over the wire.

use bytes::Bytes;
use primitives::{AMOUNT_MINOR_MAX, AccountId, Currency, RequestKey, System, Timestamp};
use proto_events::convert::WireId;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::command::Body;
use proto_events::ledger::v1::{AccountChange, Rejection};
use proto_events::subjects::ledger as on;

use crate::harness::{Ledger, WAIT, deposit, keyed, open, pay};

#[tokio::test]
async fn a_transfer_moves_money_and_says_so() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(500).await, ledger.funded(0).await);
    let asked = wire::PostTransfer { note: "lunch ₦".to_owned(), ..pay(a, b, 120) };
    let outcome = ledger.posted(asked.clone()).await;
    assert_eq!(outcome.transfer_id, asked.transfer_id);
    assert_eq!(outcome.debit_balance_after_minor, 380);
    assert!(!outcome.replayed);
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (380, 120));

    let sent = ledger.transfer(a, &asked.transfer_id).await.unwrap();
    assert_eq!(sent.direction(), wire::Direction::Debit);
    assert_eq!((sent.balance_after_minor, sent.amount_minor), (Some(380), 120));
    assert_eq!(sent.counterparty_account_id, b.to_bytes());
    assert_eq!((sent.note.as_str(), sent.created_at_us), ("lunch ₦", outcome.decided_at_us));
    let received = ledger.transfer(b, &asked.transfer_id).await.unwrap();
    assert_eq!(received.direction(), wire::Direction::Credit);
    assert_eq!(received.balance_after_minor, Some(120));
    assert_eq!(received.counterparty_account_id, a.to_bytes());
    ledger.finish().await;
}

#[tokio::test]
async fn every_rejection_comes_back_over_the_wire() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(500).await, ledger.funded(100).await);
    let (frozen, full) = (ledger.funded(10).await, ledger.funded(AMOUNT_MINOR_MAX).await);
    let dollars = ledger.open(Currency::USD).await;
    let nobody = AccountId::NOBODY;
    let suspense = AccountId::system(System::Suspense, Currency::NGN);
    assert_eq!(ledger.change(frozen, AccountChange::Freeze).await, Rejection::Unspecified);
    let key = RequestKey([1; 32]);
    ledger.posted(keyed(pay(a, b, 1), key)).await;
    let other = Bytes::from_static(&[8; 32]);
    for (expected, asked) in [
        (
            Rejection::IdempotencyKeyReused,
            wire::PostTransfer { request_digest: other, ..keyed(pay(a, b, 2), key) },
        ),
        (Rejection::SameAccount, pay(a, a, 1)),
        (Rejection::DebitAccountNotFound, pay(AccountId::generate(), b, 1)),
        (Rejection::CreditAccountNotFound, pay(a, AccountId::generate(), 1)),
        (Rejection::CreditAccountNotFound, pay(a, nobody, 1)),
        (Rejection::AccountKindMismatch, pay(a, suspense, 1)),
        (Rejection::CurrencyMismatch, pay(a, dollars, 1)),
        (Rejection::DebitAccountFrozen, pay(frozen, a, 1)),
        (Rejection::CreditAccountFrozen, pay(a, frozen, 1)),
        (Rejection::CreditAccountFrozen, deposit(frozen, 1)),
        (Rejection::InsufficientFunds, pay(a, b, 500)),
        (Rejection::LimitExceeded, pay(a, full, 1)),
        (Rejection::LimitExceeded, deposit(full, 1)),
        (Rejection::Malformed, pay(a, b, 0)),
    ] {
        let outcome = ledger.post(asked.clone()).await;
        assert_eq!(outcome.rejection(), expected, "{asked:?}");
        assert!(!outcome.replayed, "{asked:?}");
        let seen = ledger.transfer(a, &asked.transfer_id).await;
        let is_kept = !matches!(expected, Rejection::IdempotencyKeyReused | Rejection::Malformed);
        let asks = asked.debit_account_id == a.to_bytes();
        assert_eq!(seen.is_some(), is_kept && asks, "{asked:?}");
        if let Some(seen) = seen {
            assert_eq!((seen.rejection(), seen.balance_after_minor), (expected, None));
        }
    }
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (499, 101));
    ledger.finish().await;
}

#[tokio::test]
async fn a_late_command_is_refused_for_good() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(500).await, ledger.funded(0).await);
    let asked = keyed(pay(a, b, 1), RequestKey([2; 32]));
    let body = Body::PostTransfer(asked.clone());
    let late = ledger.command(on::POST_TRANSFER, 1, body).await;
    assert_eq!(late.rejection(), Rejection::DeadlineExceeded);
    let again = ledger.post(asked).await;
    assert_eq!((again.rejection(), again.replayed), (Rejection::DeadlineExceeded, true));
    let in_time = Timestamp::now().plus(WAIT).micros();
    let body = Body::PostTransfer(pay(a, b, 1));
    let outcome = ledger.command(on::POST_TRANSFER, in_time, body).await;
    assert_eq!(outcome.rejection(), Rejection::Unspecified);
    assert_eq!(ledger.balance(a).await, 499);
    ledger.finish().await;
}

#[tokio::test]
async fn an_account_opens_once() {
    let ledger = Ledger::start().await;
    let id = ledger.open(Currency::NGN).await;
    assert_eq!(ledger.balance(id).await, 0);
    let again = ledger.command(on::OPEN_ACCOUNT, 0, open(id, Currency::NGN)).await;
    assert_eq!((again.rejection(), again.replayed), (Rejection::Unspecified, true));
    let other = ledger.command(on::OPEN_ACCOUNT, 0, open(id, Currency::USD)).await;
    assert_eq!(other.rejection(), Rejection::CurrencyMismatch);
    assert!(!ledger.look(AccountId::generate()).await.found);
    ledger.finish().await;
}

#[tokio::test]
async fn a_freeze_stops_both_directions_until_it_is_lifted() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(10).await, ledger.funded(10).await);
    assert_eq!(ledger.change(a, AccountChange::Freeze).await, Rejection::Unspecified);
    assert!(ledger.look(a).await.frozen);
    let out = ledger.post(pay(a, b, 1)).await.rejection();
    let into = ledger.post(pay(b, a, 1)).await.rejection();
    assert_eq!((out, into), (Rejection::DebitAccountFrozen, Rejection::CreditAccountFrozen));
    assert_eq!(ledger.change(a, AccountChange::Unfreeze).await, Rejection::Unspecified);
    ledger.posted(pay(a, b, 1)).await;
    let unknown = ledger.change(AccountId::generate(), AccountChange::Freeze).await;
    assert_eq!(unknown, Rejection::AccountNotFound);
    ledger.finish().await;
}

#[tokio::test]
async fn a_subject_allows_what_it_says_and_the_rest_is_parked() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(10).await, ledger.funded(0).await);
    for (subject, body) in [
        // The api may publish transfers; it must not be able to credit a wallet out of nothing.
        (on::POST_TRANSFER, Body::PostTransfer(deposit(a, 1_000))),
        (on::POST_DEPOSIT, Body::PostTransfer(pay(a, b, 1))),
        (on::OPEN_ACCOUNT, Body::PostTransfer(pay(a, b, 1))),
        (on::CHANGE_ACCOUNT, open(a, Currency::NGN)),
        ("cmd.ledger.v1.0.unheard_of", Body::PostTransfer(pay(a, b, 1))),
    ] {
        let outcome = ledger.command(subject, 0, body).await;
        assert_eq!(outcome.rejection(), Rejection::Malformed, "{subject}");
    }
    assert_eq!(ledger.count("select count(*) from bus.parked").await, 5);
    ledger.posted(pay(a, b, 1)).await;
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (9, 1));
    ledger.finish().await;
}

#[tokio::test]
async fn noise_between_commands_is_parked_and_nothing_stops() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let jetstream = async_nats::jetstream::new(ledger.nats.client().await);
    for n in 0..20_u8 {
        let noise = Bytes::from(vec![0xff, n, 0xff]);
        jetstream.publish(on::POST_TRANSFER, noise).await.unwrap().await.unwrap();
        ledger.posted(pay(a, b, 1)).await;
    }
    assert_eq!(ledger.count("select count(*) from bus.parked").await, 20);
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (80, 20));
    let metrics = chassis::metrics::print().unwrap();
    for name in [
        "ledger_transfers_total{outcome=\"posted\"}",
        "ledger_transfers_total{outcome=\"malformed\"}",
        "ledger_batch_size_count",
        "ledger_batch_seconds_count",
        "ledger_audit_violations",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    ledger.finish().await;
}
