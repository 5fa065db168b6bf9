//! Holds, captures, releases, expiries, reversals and linked groups, over the wire.

use bytes::Bytes;
use futures_util::future::join_all;
use primitives::{AccountId, Currency, RequestKey, System, Timestamp};
use proto_events::convert::WireId;
use proto_events::ledger::v1::{PostTransfer, Rejection, TransferKind};
use testkit::eventually;

use crate::harness::{Ledger, WAIT, about, deposit, hold, keyed, pay};

const DONE: Rejection = Rejection::Unspecified;

async fn balances(ledger: &Ledger, account_id: AccountId) -> (u64, u64) {
    let it = ledger.look(account_id).await;
    (it.balance_minor, it.available_minor)
}

#[tokio::test]
async fn a_hold_is_captured_in_parts_and_the_rest_released() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let held = hold(a, b, 70);
    assert_eq!(ledger.do_any(held.clone()).await, DONE);
    assert_eq!(balances(&ledger, a).await, (100, 30));
    assert_eq!(ledger.post(pay(a, b, 31)).await.rejection(), Rejection::InsufficientFunds);
    for minor in [20, 30] {
        assert_eq!(ledger.do_any(about(TransferKind::Capture, &held, minor)).await, DONE);
    }
    assert_eq!((balances(&ledger, a).await, balances(&ledger, b).await), ((50, 30), (50, 50)));
    let too_much = ledger.do_any(about(TransferKind::Capture, &held, 21)).await;
    assert_eq!(too_much, Rejection::ExceedsHold);
    assert_eq!(ledger.do_any(about(TransferKind::Release, &held, 0)).await, DONE);
    assert_eq!(balances(&ledger, a).await, (50, 50));
    for kind in [TransferKind::Capture, TransferKind::Release] {
        assert_eq!(ledger.do_any(about(kind, &held, 0)).await, Rejection::HoldClosed);
    }
    let unknown = about(TransferKind::Capture, &pay(a, b, 1), 1);
    assert_eq!(ledger.do_any(unknown).await, Rejection::HoldNotFound);
    ledger.finish().await;
}

#[tokio::test]
async fn captures_at_once_never_take_more_than_was_held() {
    let ledger = Ledger::start_with(&["--ledger-batch-transfers-max=3"]).await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let held = hold(a, b, 50);
    assert_eq!(ledger.do_any(held.clone()).await, DONE);
    let captures = (0..20).map(|_| ledger.do_any(about(TransferKind::Capture, &held, 4)));
    let outcomes = join_all(captures).await;
    assert_eq!(outcomes.iter().filter(|it| **it == DONE).count(), 12);
    let refused = outcomes.iter().filter(|it| **it == Rejection::ExceedsHold).count();
    assert_eq!(refused, 8);
    assert_eq!((balances(&ledger, a).await, balances(&ledger, b).await), ((52, 50), (48, 48)));
    ledger.finish().await;
}

#[tokio::test]
async fn a_hold_whose_time_is_up_is_given_back_by_itself() {
    let ledger = Ledger::start_with(&["--ledger-expire-interval-ms=10"]).await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let expires_at_us = Timestamp::now().micros() + 300_000;
    let held = PostTransfer { expires_at_us, ..hold(a, b, 70) };
    assert_eq!(ledger.do_any(held.clone()).await, DONE);
    assert_eq!(ledger.do_any(about(TransferKind::Capture, &held, 10)).await, DONE);
    assert_eq!(balances(&ledger, a).await, (90, 30));
    eventually("the hold expires", WAIT, async || match balances(&ledger, a).await {
        (90, 90) => Ok(()),
        it => Err(format!("{it:?}")),
    })
    .await;
    let late = ledger.do_any(about(TransferKind::Capture, &held, 1)).await;
    assert!(matches!(late, Rejection::HoldClosed | Rejection::HoldExpired), "{late:?}");
    let expiries = "select count(*) from ledger.transfers where kind = 7";
    assert_eq!(ledger.count(expiries).await, 1, "whoever notices asks for the same");
    ledger.finish().await;
}

#[tokio::test]
async fn a_transfer_is_moved_back_at_most_once_whatever_the_keys() {
    let ledger = Ledger::start_with(&["--ledger-batch-transfers-max=3"]).await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(50).await);
    let paid = pay(a, b, 40);
    ledger.posted(paid.clone()).await;
    let back = |n: u8| keyed(about(TransferKind::Reversal, &paid, 15), RequestKey([n; 32]));
    let outcomes = join_all((1..=6).map(|n| ledger.do_any(back(n)))).await;
    assert_eq!(outcomes.iter().filter(|it| **it == DONE).count(), 2, "{outcomes:?}");
    assert_eq!(ledger.do_any(about(TransferKind::Reversal, &paid, 0)).await, DONE, "the rest");
    let more = ledger.do_any(about(TransferKind::Reversal, &paid, 1)).await;
    assert_eq!(more, Rejection::ExceedsTransfer);
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (100, 50));
    let unknown = about(TransferKind::Reversal, &pay(a, b, 1), 1);
    assert_eq!(ledger.do_any(unknown).await, Rejection::TransferNotFound);
    ledger.finish().await;
}

#[tokio::test]
async fn a_linked_group_is_done_whole_or_not_at_all() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let suspense = AccountId::system(System::Suspense, Currency::NGN);
    let internal = PostTransfer { kind: TransferKind::Internal.into(), ..pay(suspense, b, 5) };
    let group = vec![deposit(a, 10), pay(a, b, 110), internal];
    let outcomes = ledger.post_any(group.clone(), true).await;
    assert!(outcomes.iter().all(|it| it.rejection() == DONE && !it.replayed), "{outcomes:?}");
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (0, 115));
    let again = ledger.post_any(group, true).await;
    assert!(again.iter().all(|it| it.rejection() == DONE && it.replayed), "{again:?}");

    let refused = vec![pay(b, a, 100), pay(b, a, 100), deposit(a, 1)];
    for replayed in [false, true] {
        let outcomes = ledger.post_any(refused.clone(), true).await;
        let found: Vec<_> = outcomes.iter().map(|it| (it.rejection(), it.replayed)).collect();
        let expected =
            [Rejection::GroupRefused, Rejection::InsufficientFunds, Rejection::GroupRefused];
        assert_eq!(found, expected.map(|it| (it, replayed)));
    }
    let alone = ledger.post_any(vec![pay(b, a, 100), pay(b, a, 100), deposit(a, 1)], false).await;
    let found: Vec<_> = alone.iter().map(wire_rejection).collect();
    assert_eq!(found, [DONE, Rejection::InsufficientFunds, DONE], "each for itself");
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (101, 15));
    ledger.finish().await;
}

fn wire_rejection(outcome: &proto_events::ledger::v1::Outcome) -> Rejection {
    outcome.rejection()
}

#[tokio::test]
async fn an_account_is_limited_and_closed_and_each_change_has_one_answer() {
    use proto_events::ledger::v1::{AccountChange as Change, ChangeAccount};
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let limits = ChangeAccount {
        change_id: Bytes::from_static(&[5; 16]),
        account_id: a.to_bytes(),
        change: Change::SetLimits.into(),
        least_minor: 60,
        greatest_minor: 150,
    };
    assert_eq!(ledger.change_with(limits.clone()).await.rejection(), DONE);
    let again = ledger.change_with(limits.clone()).await;
    assert_eq!((again.rejection(), again.replayed), (DONE, true));
    let other = ChangeAccount { least_minor: 0, ..limits };
    assert_eq!(ledger.change_with(other).await.rejection(), Rejection::IdempotencyKeyReused);
    assert_eq!(ledger.post(pay(a, b, 41)).await.rejection(), Rejection::InsufficientFunds);
    assert_eq!(ledger.post(deposit(a, 51)).await.rejection(), Rejection::LimitExceeded);
    ledger.posted(pay(a, b, 40)).await;

    assert_eq!(ledger.change(b, Change::Close).await, Rejection::AccountNotEmpty);
    ledger.posted(pay(b, a, 40)).await;
    assert_eq!(ledger.change(b, Change::Close).await, DONE);
    assert!(ledger.look(b).await.closed);
    assert_eq!(ledger.change(b, Change::Unfreeze).await, Rejection::AccountIsClosed);
    assert_eq!(ledger.post(pay(a, b, 1)).await.rejection(), Rejection::CreditAccountClosed);
    ledger.finish().await;
}

#[tokio::test]
async fn a_balance_is_known_at_every_past_moment() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(0).await, ledger.funded(0).await);
    let mut expected = vec![(Timestamp::now().micros(), (0, 0))];
    for (n, transfer) in
        [deposit(a, 100), pay(a, b, 30), hold(a, b, 20), pay(a, b, 50)].into_iter().enumerate()
    {
        let outcome = if transfer.kind() == TransferKind::Hold {
            ledger.post_any(vec![transfer], false).await.remove(0)
        } else {
            ledger.posted(transfer).await
        };
        let after = [(100, 100), (70, 70), (70, 50), (20, 0)];
        expected.push((outcome.decided_at_us, after[n]));
    }
    for (n, (at_us, expected)) in expected.iter().enumerate() {
        let it = ledger.look_at(a, *at_us).await;
        assert_eq!((it.balance_minor, it.available_minor), *expected, "{n}: at the moment");
        let it = ledger.look_at(a, at_us - 1).await;
        let before =
            n.checked_sub(1).map_or((0, 0), |n| [(0, 0), (100, 100), (70, 70), (70, 50)][n]);
        assert_eq!((it.balance_minor, it.available_minor), before, "{n}: just before it");
    }
    assert_eq!(ledger.look(a).await.balance_minor, 20);
    ledger.finish().await;
}
