//! The main job: two people, money in through the checkout, some of it on to the other.

use serde_json::{Value, json};
use testkit::Client;

use crate::world::{World, text};

#[tokio::test]
async fn money_goes_from_the_checkout_to_one_wallet_and_on_to_another() {
    let world = World::start().await;
    let ada = world.person("ada@example.com").await;
    let bola = world.person("bola@example.com").await;

    let call = world.client.post("/wallet/deposit").bearer(&ada.token);
    let deposit: Value = call.json(&json!({ "amount": 500_000 })).send().await.ok();
    let checkout = text(&deposit, "authorization_url");
    let page = Client::new("").get(&checkout).send().await;
    page.expect(200);
    assert!(page.header("content-type").starts_with("text/html"), "{:?}", page.headers);
    assert_eq!(world.balance(&ada).await, 0, "a checkout is not money");

    let paid = Client::new("").post(&checkout).form(&[("outcome", "success")]).send().await;
    assert!(paid.status.is_success() || paid.status.is_redirection(), "{}", paid.text());
    let reference = text(&deposit, "reference");
    let status = world.settled(&ada, &reference, "success").await;
    assert_eq!((&status["amount"], &status["currency"]), (&json!(500_000), &json!("NGN")));
    assert!(status["paid_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{status}");
    assert_eq!(world.balance(&ada).await, 500_000);

    let body = json!({
        "recipient_wallet_number": bola.wallet_number, "amount": 120_000, "note": "lunch",
    });
    let sent = world.client.post("/wallet/transfer").bearer(&ada.token).json(&body).send().await;
    let sent: Value = sent.ok();
    assert_eq!(sent["status"], "success");
    assert_eq!(sent["balance"], 380_000);
    assert_eq!(sent["recipient_wallet"], bola.wallet_number.as_str());

    let history = |token: String| {
        let call = world.client.get("/wallet/transactions").bearer(&token);
        async move { call.send().await.ok::<Value>()["transactions"].clone() }
    };
    let (of_ada, of_bola) = (history(ada.token.clone()).await, history(bola.token.clone()).await);
    assert_eq!(of_ada[0]["type"], "transfer_out");
    assert_eq!(of_ada[0]["counterparty_wallet"], bola.wallet_number.as_str());
    assert_eq!(of_ada[0]["balance_after"], 380_000);
    assert_eq!(of_ada[0]["id"], sent["transaction_id"]);
    assert_eq!(of_ada[1]["type"], "deposit");
    assert_eq!(of_ada[1]["reference"], reference.as_str());
    assert_eq!(of_bola[0]["type"], "transfer_in");
    assert_eq!(of_bola[0]["counterparty_wallet"], ada.wallet_number.as_str());
    assert_eq!(of_bola[0]["balance_after"], 120_000);
    assert_eq!(of_bola[0]["note"], "lunch");
    assert_eq!(of_bola.as_array().map(Vec::len), Some(1));
    world.finish().await;
}

#[tokio::test]
async fn the_quick_start_with_a_test_code_signs_in() {
    let world = World::start().await;
    let session: Value = world.client.get("/auth/google/callback?code=test_code").send().await.ok();
    let token = text(&session, "access_token");
    let me: Value = world.client.get("/auth/me").bearer(&token).send().await.ok();
    assert!(text(&me, "id").starts_with("usr_"), "{me}");
    world.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_is_for_one_request_whatever_the_operation() {
    let world = World::start().await;
    let ada = world.funded("ada@example.com", 10_000).await;
    let bola = world.person("bola@example.com").await;
    let first = world.transfer(&ada, &bola, 100).idempotency_key("k").send().await;
    first.expect(200);
    let deposit = world.client.post("/wallet/deposit").bearer(&ada.token).idempotency_key("k");
    deposit.json(&json!({ "amount": 5_000 })).send().await.problem(422, "idempotency_key_reused");
    let create = world.client.post("/keys/create").bearer(&ada.token).idempotency_key("k");
    let key = json!({ "name": "k", "permissions": ["read"], "expiry": "1D" });
    create.json(&key).send().await.problem(422, "idempotency_key_reused");

    // A number whose check digit is wrong reaches nobody, and its key is used all the same.
    let (digits, last) = bola.wallet_number.split_at(12);
    let wrong = format!("{digits}{}", if last == "0" { "1" } else { "0" });
    for _ in 0..2 {
        let call = world.client.post("/wallet/transfer").bearer(&ada.token).idempotency_key("w");
        let body = json!({ "recipient_wallet_number": wrong, "amount": 100 });
        call.json(&body).send().await.problem(404, "wallet_not_found");
    }
    let other = world.transfer(&ada, &bola, 100).idempotency_key("w").send().await;
    other.problem(422, "idempotency_key_reused");
    assert_eq!(world.balance(&ada).await, 9_900);
    world.finish().await;
}
