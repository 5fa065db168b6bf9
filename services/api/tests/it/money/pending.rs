//! What is not known in time is remembered, and settled by asking the very same thing again.

use proto_events::ledger::v1::Rejection;
use serde_json::{Value, json};
use testkit::eventually;

use super::stage::{Money, REFUSED, WAIT, lock};

/// A short wait, which is also how long a command is valid.
const SHORT: &[(&str, &str)] = &[("--api-wait-ms", "200")];

fn ids(answer: &Value) -> Vec<String> {
    let items = answer["transfers"].as_array().unwrap();
    items.iter().map(|it| it["transaction_id"].as_str().unwrap().to_owned()).collect()
}

async fn status(money: &Money, id: &str) -> String {
    let found: Value = money.look(&format!("/wallet/transactions/{id}")).await.ok();
    found["status"].as_str().unwrap().to_owned()
}

async fn settled(money: &Money, id: &str, expected: &str) {
    eventually(&format!("{id} is a {expected}"), WAIT, async || {
        let seen = status(money, id).await;
        if seen == expected { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test]
async fn a_batch_whose_outcome_is_not_known_is_settled_as_a_whole() {
    let money = Money::start(SHORT).await;
    let no = REFUSED + u64::try_from(i32::from(Rejection::InsufficientFunds)).unwrap();
    let body = money.amounts(&[1, no, 3], true);
    money.silence(true);
    let answer = money.batch(&body).idempotency_key("k").send().await;
    answer.expect(202);
    let awaited: Value = answer.read();
    let items = awaited["transfers"].as_array().unwrap();
    assert!(items.iter().all(|it| it["status"] == "pending" && it.as_object().unwrap().len() == 2));
    let first = ids(&awaited);
    let again = money.batch(&body).idempotency_key("k").send().await;
    assert_eq!(ids(&again.expect(202).read()), first, "the same request has the same ids");
    let statuses = futures_util::future::join_all(first.iter().map(|id| status(&money, id))).await;
    assert!(statuses.iter().all(|it| it == "pending"), "{statuses:?}");
    let sent = lock(&money.books.commands)[0].clone();

    money.silence(false);
    lock(&money.books.commands).clear();
    for id in &first {
        settled(&money, id, "failed").await;
    }
    let heard = lock(&money.books.commands).clone();
    assert_eq!(heard, [sent], "one command settles all of them, and it is the very same");
    money.end().await;
}

#[tokio::test]
async fn transfers_of_a_batch_settle_each_as_it_was_decided() {
    let money = Money::start(SHORT).await;
    let no = REFUSED + u64::try_from(i32::from(Rejection::InsufficientFunds)).unwrap();
    money.silence(true);
    let answer = money.batch(&money.amounts(&[1, no, 3], false)).send().await;
    let awaited = ids(&answer.expect(202).read());
    money.silence(false);
    for (id, expected) in awaited.iter().zip(["success", "failed", "success"]) {
        settled(&money, id, expected).await;
    }
    money.end().await;
}

#[tokio::test]
async fn a_transfer_that_shared_its_command_is_settled_alone() {
    let money = Money::start(SHORT).await;
    money.silence(true);
    let answers =
        futures_util::future::join_all((1..=10).map(|amount| money.transfer(amount).send())).await;
    let awaited: Vec<Value> = answers.iter().map(|it| it.expect(202).read()).collect();
    money.silence(false);
    lock(&money.books.commands).clear();
    for (answer, one) in answers.iter().zip(&awaited) {
        let id = one["transaction_id"].as_str().unwrap();
        assert_eq!(answer.header("location"), format!("/wallet/transactions/{id}"));
        settled(&money, id, "success").await;
    }
    let heard = money.books.heard();
    assert!(heard.iter().all(|it| it.transfers.len() == 1 && !it.linked), "{heard:?}");
    assert_eq!(heard.len(), 10);
    money.end().await;
}

#[tokio::test]
async fn a_pending_transfer_is_its_senders_alone() {
    let money = Money::start(SHORT).await;
    money.silence(true);
    let answer = money.batch(&money.amounts(&[7], false)).send().await;
    let path = format!("/wallet/transactions/{}", ids(&answer.expect(202).read())[0]);
    let mine: Value = money.look(&path).await.ok();
    assert_eq!((&mine["status"], &mine["type"]), (&json!("pending"), &json!("transfer_out")));
    assert_eq!((&mine["amount"], &mine["note"]), (&json!(7), &json!("n")));
    assert_eq!(mine["counterparty_wallet"], money.bola.number.as_str());
    let bolas = money.stage.client().get(&path).bearer(&money.bola.token).send().await;
    bolas.problem(404, "transaction_not_found");
    money.end().await;
}
