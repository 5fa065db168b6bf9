//! The same request has one effect and one answer, for ever.

use bytes::Bytes;
use futures_util::future::join_all;
use primitives::{RequestKey, TransferId};
use proto_events::convert::WireId;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::Rejection;

use crate::harness::{Ledger, deposit, keyed, pay};

/// Another copy of a request: its sender has made another id for it.
fn copy(of: &wire::PostTransfer) -> wire::PostTransfer {
    wire::PostTransfer { transfer_id: TransferId::generate().to_bytes(), ..of.clone() }
}

#[tokio::test]
async fn twenty_copies_at_once_have_one_effect_and_equal_answers() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(1_000).await, ledger.funded(0).await);
    for (same_id, key) in [(true, None), (true, Some([1; 32])), (false, Some([2; 32]))] {
        let before = ledger.balance(a).await;
        let asked = match key {
            Some(key) => keyed(pay(a, b, 10), RequestKey(key)),
            None => pay(a, b, 10),
        };
        let one = || if same_id { asked.clone() } else { copy(&asked) };
        let outcomes = join_all((0..20).map(|_| ledger.post(one()))).await;
        let n_first = outcomes.iter().filter(|it| !it.replayed).count();
        assert_eq!(n_first, 1, "{same_id} {key:?}");
        let replayed = |it: &wire::Outcome| wire::Outcome { replayed: true, ..it.clone() };
        for outcome in &outcomes {
            assert_eq!(outcome.rejection(), Rejection::Unspecified);
            assert_eq!(replayed(outcome), replayed(&outcomes[0]), "{same_id} {key:?}");
        }
        assert_eq!(ledger.balance(a).await, before - 10);
    }
    ledger.finish().await;
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused_and_the_first_answer_stays() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let asked = keyed(pay(a, b, 10), RequestKey([3; 32]));
    let first = ledger.posted(asked.clone()).await;
    let digest = Bytes::from_static(&[9; 32]);
    let other = wire::PostTransfer { request_digest: digest, amount_minor: 20, ..copy(&asked) };
    for _ in 0..2 {
        let reused = ledger.post(other.clone()).await;
        assert_eq!((reused.rejection(), reused.replayed), (Rejection::IdempotencyKeyReused, false));
        assert_eq!(reused.transfer_id, asked.transfer_id);
        assert_eq!(ledger.transfer(a, &other.transfer_id).await, None);
    }
    let again = ledger.post(copy(&asked)).await;
    assert_eq!(again, wire::Outcome { replayed: true, ..first });
    assert_eq!(ledger.balance(a).await, 90);
    ledger.finish().await;
}

#[tokio::test]
async fn answers_are_the_same_after_a_restart_refusals_too() {
    let mut ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let paid = keyed(pay(a, b, 60), RequestKey([4; 32]));
    let refused = keyed(pay(a, b, 60), RequestKey([5; 32]));
    let credited = deposit(a, 5);
    let mut first = Vec::new();
    for asked in [&paid, &refused, &credited] {
        first.push(ledger.post(asked.clone()).await);
    }
    let rejections: Vec<_> = first.iter().map(wire::Outcome::rejection).collect();
    let expected = [Rejection::Unspecified, Rejection::InsufficientFunds, Rejection::Unspecified];
    assert_eq!(rejections, expected);
    // What was refused would succeed now; its key has its answer already.
    ledger.posted(deposit(a, 1_000)).await;
    ledger.restart().await;
    for (first, asked) in first.into_iter().zip([copy(&paid), copy(&refused), credited]) {
        let again = ledger.post(asked).await;
        assert_eq!(again, wire::Outcome { replayed: true, ..first });
    }
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (1_045, 60));
    ledger.finish().await;
}
