//! What callers are told while a part of the platform, or of the world, is away.

use std::collections::BTreeMap;

use sandbox::faults::{Fault, Plan};
use serde_json::{Value, json};
use testkit::{Client, eventually};

use super::Reached;
use crate::stale;
use crate::world::{Person, Service, WAIT, World, text};

/// A transfer that the ledger does not decide in time: pending, then failed, and never done late.
pub(super) async fn the_ledger(
    world: &mut World,
    ada: &Person,
    bola: &Person,
    reached: &mut Reached,
) {
    const TRANSFER: &str = "POST /wallet/transfer";
    let hasty = world.second_api(&["--api-wait-ms=1000"]).await;
    let at_hasty = world.person_at(&hasty, "ada@example.com").await;
    let balance = world.balance(ada).await;
    let body = json!({ "recipient_wallet_number": bola.wallet_number, "amount": 700 });
    world.stop(Service::Ledger).await;

    let answer = world.client.get("/wallet/balance").bearer(&ada.token).send().await;
    reached.by("GET /wallet/balance", &answer, 503, "service_unavailable");
    let call = hasty.post("/wallet/transfer").bearer(&at_hasty.token).idempotency_key("late");
    let answer = call.json(&body).send().await;
    answer.expect(202);
    reached.promise.insist_on(TRANSFER, &answer);
    let pending: Value = answer.read();
    assert_eq!(pending["status"], "pending");
    let place = answer.header("location").to_owned();
    assert_eq!(place, format!("/wallet/transactions/{}", text(&pending, "transaction_id")));
    // The same request again is the same transfer.
    let call = hasty.post("/wallet/transfer").bearer(&at_hasty.token).idempotency_key("late");
    let again: Value = call.json(&body).send().await.expect(202).read();
    assert_eq!(again, pending);

    world.run(Service::Ledger).await;
    let failed = eventually("the pending transfer has failed", WAIT, async || {
        let answer = world.client.get(&place).bearer(&ada.token).send().await;
        let is_failed = answer.status == 200 && answer.read::<Value>()["status"] == "failed";
        if is_failed { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    reached.promise.insist_on("GET /wallet/transactions/{id}", &failed);
    let failed: Value = failed.read();
    assert_eq!((&failed["amount"], &failed["type"]), (&json!(700), &json!("transfer_out")));
    assert_eq!(failed["counterparty_wallet"], bola.wallet_number.as_str());
    assert!(failed["balance_after"].is_null(), "nothing moved: {failed}");
    let call = world.client.post("/wallet/transfer").bearer(&ada.token).idempotency_key("late");
    let answer = call.json(&body).send().await;
    reached.by(TRANSFER, &answer, 422, "deadline_exceeded");
    assert_eq!(answer.header("idempotency-replayed"), "true");
    assert_eq!(world.balance(ada).await, balance);
}

pub(super) async fn the_keys_service(world: &mut World, ada: &Person, reached: &mut Reached) {
    let hasty = world.second_api(&["--api-wait-ms=1000"]).await;
    let at_hasty = world.person_at(&hasty, "ada@example.com").await;
    let key = stale::key(world, ada, &["read"]).await;
    let list = |it: &World| it.client.get("/keys/list").bearer(&ada.token);
    let before: Value = list(world).send().await.ok();
    world.stop(Service::Keys).await;
    let answer = world.client.get("/wallet/balance").api_key(&key.secret).send().await;
    reached.by("GET /wallet/balance", &answer, 503, "service_unavailable");
    reached.by("GET /keys/list", &list(world).send().await, 503, "service_unavailable");
    let create = hasty.post("/keys/create").bearer(&at_hasty.token);
    let create = create.json(&json!({ "name": "late", "permissions": ["read"], "expiry": "1H" }));
    reached.by("POST /keys/create", &create.send().await, 504, "service_unavailable");
    world.client.get("/wallet/balance").bearer(&ada.token).send().await.expect(200);

    world.run(Service::Keys).await;
    let answer = eventually("the keys service answers", WAIT, async || {
        let call = world.client.get("/wallet/balance").api_key(&key.secret);
        let answer = call.send().await;
        if answer.status == 200 { Ok(answer) } else { Err(answer.text()) }
    });
    answer.await.expect(200);
    // A key asked for and awaited in vain is not made afterwards: commands are read in order.
    let last = stale::key(world, ada, &["read"]).await;
    let after: Value = list(world).send().await.ok();
    let mut made: BTreeMap<String, Value> = BTreeMap::new();
    for key in after["keys"].as_array().unwrap() {
        made.insert(text(key, "id"), key["name"].clone());
    }
    assert_eq!(made.len(), before["keys"].as_array().unwrap().len() + 1, "{after}");
    assert!(made.contains_key(&last.id) && !made.values().any(|it| it == "late"), "{after}");
}

pub(super) async fn the_providers(world: &World, ada: &Person, reached: &mut Reached) {
    const DEPOSIT: &str = "POST /wallet/deposit";
    let hasty = world.second_api(&["--api-checkout-wait-ms=1000"]).await;
    let at_hasty = world.person_at(&hasty, "ada@example.com").await;
    let deposit = |client: &Client, token: &str| {
        client.post("/wallet/deposit").bearer(token).json(&json!({ "amount": 50_000 }))
    };
    world.sandbox.inject(Plan::next(Fault::InitializeSlow, 1).delayed(4_000));
    let answer = deposit(&hasty, &at_hasty.token).send().await;
    reached.by(DEPOSIT, &answer, 504, "provider_unavailable");
    world.sandbox.clear_faults();

    world.sandbox.inject(Plan::chance(Fault::InitializeError, 1.0));
    let answer = deposit(&world.client, &ada.token).send().await;
    reached.by(DEPOSIT, &answer, 502, "provider_unavailable");
    world.sandbox.clear_faults();

    let callback = world.callback(&world.client, "bola@example.com").await;
    world.sandbox.inject(Plan::chance(Fault::TokenError, 1.0));
    let answer = callback.send().await;
    reached.by("GET /auth/google/callback", &answer, 502, "provider_unavailable");
    world.sandbox.clear_faults();
    // When they are back, so is everything that depends on them.
    eventually("deposits can be started", WAIT * 2, async || {
        let answer = deposit(&world.client, &ada.token).send().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}
