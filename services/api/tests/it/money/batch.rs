//! `POST /wallet/transfers/batch`.

use std::collections::BTreeSet;

use primitives::TransferId;
use proto_events::keys::v1::Permission;
use proto_events::ledger::v1::Rejection;
use serde_json::{Value, json};

use super::stage::{HELD, Money, REFUSED, stand_in_for_keys};

const KEY: &str = "sk_test_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ";

fn refused(rejection: Rejection) -> u64 {
    REFUSED + u64::try_from(i32::from(rejection)).unwrap()
}

/// Status and code of each item.
fn outcomes(answer: &Value) -> Vec<(&str, &str)> {
    let items = answer["transfers"].as_array().unwrap();
    let outcome = |it| (text(it, "/status"), text(it, "/error/code"));
    items.iter().map(outcome).collect()
}

fn text<'a>(it: &'a Value, at: &str) -> &'a str {
    it.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn each_transfer_has_its_own_outcome_in_the_order_of_the_request() {
    let money = Money::start(&[]).await;
    let mut body = money.amounts(&[10, refused(Rejection::InsufficientFunds), 30, 40, 50], false);
    body["transfers"][2]["recipient_wallet_number"] = json!(wrong_check_digit(&money.bola.number));
    body["transfers"][3]["recipient_wallet_number"] = json!("1000000000009");
    let answer: Value = money.batch(&body).send().await.ok();
    let no_wallet = ("failed", "wallet_not_found");
    let no_money = ("failed", "insufficient_funds");
    let done = ("success", "");
    assert_eq!(outcomes(&answer), [done, no_money, no_wallet, no_wallet, done], "{answer}");

    let items = answer["transfers"].as_array().unwrap();
    let ids: BTreeSet<&str> =
        items.iter().map(|it| it["transaction_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 5, "every one has an id of its own, also when it failed");
    assert!(ids.iter().all(|it| TransferId::parse(it).is_ok()));
    for (item, asked) in items.iter().zip(body["transfers"].as_array().unwrap()) {
        assert_eq!(item["amount"], asked["amount"]);
        assert_eq!(item["recipient_wallet"], asked["recipient_wallet_number"]);
        assert_eq!(
            (&item["currency"], &item["created_at"]),
            (&json!("NGN"), &json!("2026-01-15T09:14:24Z"))
        );
        let is_done = item["status"] == "success";
        assert_eq!(item.get("balance"), is_done.then_some(&json!(HELD)), "{item}");
        assert_eq!(item.get("error").is_none(), is_done, "{item}");
    }
    let heard = money.books.heard();
    assert_eq!((heard.len(), heard[0].linked), (1, false), "one command, not linked");
    assert!(heard[0].transfers.iter().all(|it| it.request_key.is_empty() && it.note == "n"));
    money.end().await;
}

#[tokio::test]
async fn an_atomic_batch_is_made_whole_or_not_at_all() {
    let money = Money::start(&[]).await;
    let whole: Value = money.batch(&money.amounts(&[1, 2], true)).send().await.ok();
    assert_eq!(outcomes(&whole), [("success", ""); 2]);

    let body = money.amounts(&[1, refused(Rejection::InsufficientFunds), 2], true);
    let none: Value = money.batch(&body).send().await.ok();
    let group = ("failed", "group_refused");
    assert_eq!(outcomes(&none), [group, ("failed", "insufficient_funds"), group], "{none}");

    let mut body = money.amounts(&[1, 2], true);
    body["transfers"][1]["recipient_wallet_number"] = json!(wrong_check_digit(&money.bola.number));
    let none: Value = money.batch(&body).send().await.ok();
    assert_eq!(outcomes(&none), [group, ("failed", "wallet_not_found")], "{none}");
    assert!(money.books.heard().iter().all(|it| it.linked));
    money.end().await;
}

#[tokio::test]
async fn a_key_is_the_whole_requests() {
    let money = Money::start(&[]).await;
    let body = money.amounts(&[1, refused(Rejection::LimitExceeded), 1], false);
    let send = |body: Value| money.batch(&body).idempotency_key("k").send();
    let first = send(body.clone()).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (200, ""));
    let again = send(body.clone()).await;
    assert_eq!((again.text(), again.header("idempotency-replayed")), (first.text(), "true"));
    let keys = money.books.heard()[0].transfers.clone();
    let keys: BTreeSet<_> =
        keys.iter().map(|it| (it.request_key.clone(), it.request_digest.clone())).collect();
    assert_eq!(keys.len(), 3, "equal items are told apart by their place");

    let mut atomic = body.clone();
    atomic["atomic"] = json!(true);
    let mut shorter = body.clone();
    shorter["transfers"].as_array_mut().unwrap().pop();
    let mut longer = body.clone();
    longer["transfers"].as_array_mut().unwrap().push(body["transfers"][0].clone());
    let mut noted = body.clone();
    noted["transfers"][2]["note"] = json!("another");
    let n_asked = money.books.n_asked();
    for other in [atomic, shorter, longer, noted] {
        send(other).await.problem(422, "idempotency_key_reused");
    }
    money.transfer(1).idempotency_key("k").send().await.problem(422, "idempotency_key_reused");
    assert_eq!(money.books.n_asked(), n_asked, "nothing of another request was asked for");
    let mut said = body.clone();
    said.as_object_mut().unwrap().remove("atomic");
    assert_eq!(send(said).await.text(), first.text(), "not atomic is the usual");
    money.end().await;
}

#[tokio::test]
async fn a_wrong_field_of_any_transfer_refuses_all_and_is_named_by_its_place() {
    let money = Money::start(&[]).await;
    let good = money.amounts(&[1; 4], false);
    let with = |place: usize, field: &str, value: Value| {
        let mut body = good.clone();
        body["transfers"][place][field] = value;
        body
    };
    let whole = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let hundred_and_one = money.amounts(&[1; 101], false)["transfers"].clone();
    for (body, code, field) in [
        (with(3, "amount", json!(0)), "invalid_amount", "transfers[3].amount"),
        (with(0, "amount", json!(1.5)), "invalid_amount", "transfers[0].amount"),
        (with(1, "amount", Value::Null), "invalid_amount", "transfers[1].amount"),
        (
            with(2, "recipient_wallet_number", json!("12")),
            "invalid_field",
            "transfers[2].recipient_wallet_number",
        ),
        (with(1, "note", json!("a\nb")), "invalid_field", "transfers[1].note"),
        (with(1, "Note", json!("a")), "invalid_field", "transfers[1].Note"),
        (whole("transfers", json!([])), "invalid_field", "transfers"),
        (whole("transfers", json!({})), "invalid_field", "transfers"),
        (whole("transfers", Value::Null), "invalid_field", "transfers"),
        (whole("transfers", hundred_and_one), "invalid_field", "transfers"),
        (whole("transfers", json!([5])), "invalid_field", "transfers[0]"),
        (whole("atomic", json!("yes")), "invalid_field", "atomic"),
        (whole("linked", json!(true)), "invalid_field", "linked"),
    ] {
        let problem = money.batch(&body).send().await.problem(400, code);
        let fields: Vec<&str> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["field"].as_str().unwrap())
            .collect();
        assert_eq!(fields, [field], "{body}");
    }
    let number = &money.bola.number;
    let item = format!(r#"{{"recipient_wallet_number":"{number}","amount":1,"amount":2}}"#);
    let twice = format!(r#"{{"transfers":[{item}]}}"#);
    let call = money.stage.client().post("/wallet/transfers/batch").bearer(&money.ada.token);
    let problem = call.body("application/json", twice).send().await.problem(400, "invalid_field");
    assert_eq!(problem["errors"][0]["field"], "transfers[0]");
    assert_eq!(money.books.n_asked(), 0, "nothing was asked for");

    let most = money.batch(&money.amounts(&[1; 100], false)).send().await.ok::<Value>();
    assert_eq!(outcomes(&most), [("success", ""); 100]);
    money.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_request_and_not_with_a_transfer_is_a_problem() {
    let money = Money::start(&[]).await;
    let opening = [refused(Rejection::DebitAccountNotFound); 2];
    let answer = money.batch(&money.amounts(&opening, false)).send().await;
    answer.problem(503, "service_unavailable");
    let late: Value = money
        .batch(&money.amounts(&[refused(Rejection::DeadlineExceeded)], false))
        .send()
        .await
        .ok();
    assert_eq!(outcomes(&late), [("failed", "deadline_exceeded")]);
    money.end().await;
}

#[tokio::test]
async fn a_key_that_may_not_read_sees_no_balance() {
    let money = Money::start(&[]).await;
    let context = &money.stage.replica.context;
    stand_in_for_keys(context, KEY, money.ada.user, &[Permission::Transfer]).await;
    let call = money.stage.client().post("/wallet/transfers/batch").api_key(KEY);
    let answer: Value = call.json(&money.amounts(&[1], false)).send().await.ok();
    assert_eq!(outcomes(&answer), [("success", "")]);
    assert_eq!(answer["transfers"][0].get("balance"), None, "{answer}");
    assert!(!money.books.heard()[0].transfers[0].made_by_key_id.is_empty());
    money.end().await;
}

/// The same number with its last digit changed.
pub(super) fn wrong_check_digit(number: &str) -> String {
    let (head, last) = number.split_at(number.len() - 1);
    let last: u8 = last.parse().unwrap();
    format!("{head}{}", (last + 1) % 10)
}
