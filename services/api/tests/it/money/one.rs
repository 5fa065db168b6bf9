//! Single transfers: many callers' in few commands, and each caller told of its own.

use futures_util::future::join_all;
use primitives::TransferId;
use proto_events::ledger::v1::Rejection;
use serde_json::{Value, json};

use super::stage::{Money, REFUSED};

#[tokio::test]
async fn callers_at_once_share_commands_and_nothing_else() {
    let money = Money::start(&[]).await;
    // Every third is refused for a reason of its own.
    let reasons = [
        (Rejection::InsufficientFunds, "insufficient_funds"),
        (Rejection::LimitExceeded, "limit_exceeded"),
    ];
    let amount = |i: usize| match i % 3 {
        0 => 100 + u64::try_from(i).unwrap(),
        n => REFUSED + u64::try_from(i32::from(reasons[n - 1].0)).unwrap(),
    };
    let answers = join_all((0..200).map(|i| money.transfer(amount(i)).send())).await;
    for (i, answer) in answers.iter().enumerate() {
        match i % 3 {
            0 => {
                let sent: Value = answer.ok();
                assert_eq!(sent["amount"], amount(i), "{sent}");
                assert_eq!(sent["recipient_wallet"], money.bola.number.as_str());
                TransferId::parse(sent["transaction_id"].as_str().unwrap()).unwrap();
            }
            n => drop(answer.problem(422, reasons[n - 1].1)),
        }
    }
    let heard = money.books.heard();
    assert!(heard.iter().all(|it| !it.linked && it.transfers.len() <= 100));
    assert_eq!(money.books.n_asked(), 200);
    assert!(heard.len() < 200, "{} commands for 200 transfers", heard.len());
    money.end().await;
}

#[tokio::test]
async fn one_request_is_one_transfer_however_often_it_comes() {
    let money = Money::start(&[]).await;
    let answers = join_all((0..20).map(|_| money.transfer(5).idempotency_key("k").send())).await;
    let ids: Vec<Value> =
        answers.iter().map(|it| it.ok::<Value>()["transaction_id"].clone()).collect();
    assert!(ids.iter().all(|it| *it == ids[0]), "{ids:?}");
    let n_first = answers.iter().filter(|it| it.header("idempotency-replayed").is_empty()).count();
    assert_eq!(n_first, 1, "one of them made it");
    money.transfer(6).idempotency_key("k").send().await.problem(422, "idempotency_key_reused");
    let note = json!({ "recipient_wallet_number": money.bola.number, "amount": 5, "note": "n" });
    let other = money.post("/wallet/transfer", &note).idempotency_key("k").send().await;
    other.problem(422, "idempotency_key_reused");
    money.end().await;
}

/// What the ledger says no with, and what a caller makes of it.
#[tokio::test]
async fn closed_wallets_are_told_apart() {
    let money = Money::start(&[]).await;
    for (rejection, status, code) in [
        (Rejection::DebitAccountClosed, 422, "wallet_frozen"),
        (Rejection::CreditAccountClosed, 404, "wallet_not_found"),
        (Rejection::HoldNotFound, 500, "internal_error"),
    ] {
        let amount = REFUSED + u64::try_from(i32::from(rejection)).unwrap();
        money.transfer(amount).send().await.problem(status, code);
    }
    money.end().await;
}
