//! Many transfers with one request: each its own outcome, or all and nothing, and once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Call, Client, eventually};

use crate::promise::Promise;
use crate::world::{Person, Service, WAIT, World, text};

const BATCH: &str = "POST /wallet/transfers/batch";
const FUNDS: u64 = 100_000;

fn item(to: &str, amount: u64) -> Value {
    json!({ "recipient_wallet_number": to, "amount": amount })
}

fn batch(client: &Client, from: &Person, items: &[Value], atomic: bool) -> Call {
    let body = json!({ "transfers": items, "atomic": atomic });
    client.post("/wallet/transfers/batch").bearer(&from.token).json(&body)
}

/// Status, or the code of why not, of each.
fn outcomes(answer: &Value) -> Vec<&str> {
    let items = answer["transfers"].as_array().unwrap().iter();
    let outcome = |it| -> Option<&str> { Value::as_str(Value::pointer(it, "/error/code")?) };
    items.map(|it| outcome(it).unwrap_or_else(|| it["status"].as_str().unwrap())).collect()
}

fn ids(answer: &Value) -> Vec<String> {
    let items = answer["transfers"].as_array().unwrap().iter();
    items.map(|it| text(it, "transaction_id")).collect()
}

#[tokio::test]
async fn each_transfer_of_a_batch_is_decided_for_itself() {
    let world = World::start().await;
    let promise = Promise::of(&world.client).await;
    let ada = world.funded("ada@example.com", FUNDS).await;
    let (bola, chidi) =
        (world.person("bola@example.com").await, world.person("chidi@example.com").await);
    let items = [
        item(&bola.wallet_number, 60_000),
        item(&chidi.wallet_number, 60_000),
        item(&ada.wallet_number, 1),
        item("4539578763621", 1),
        item("4539578763622", 1),
        item(&chidi.wallet_number, 40_000),
        item(&chidi.wallet_number, 1),
    ];
    let answer = batch(&world.client, &ada, &items, false).idempotency_key("k").send().await;
    promise.insist_on(BATCH, &answer);
    let decided: Value = answer.ok();
    let expected = [
        "success",
        "insufficient_funds",
        "same_wallet",
        "wallet_not_found",
        "wallet_not_found",
        "success",
        "insufficient_funds",
    ];
    assert_eq!(outcomes(&decided), expected, "{decided}");
    let balances = decided["transfers"].as_array().unwrap().iter();
    let balances: Vec<&Value> = balances.filter_map(|it| it.get("balance")).collect();
    assert_eq!(balances, [&json!(40_000), &json!(0)], "what was left right after each");
    let held = [world.balance(&ada).await, world.balance(&bola).await, world.balance(&chidi).await];
    assert_eq!(held, [0, 60_000, 40_000]);

    for (id, expected) in ids(&decided).iter().zip(expected) {
        let look = world.client.get(&format!("/wallet/transactions/{id}")).bearer(&ada.token);
        let found: Value = look.send().await.ok();
        let expected = if expected == "success" { "success" } else { "failed" };
        assert_eq!(text(&found, "status"), expected, "{found}");
    }
    let again = batch(&world.client, &ada, &items, false).idempotency_key("k").send().await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.ok::<Value>(), decided);
    let other = batch(&world.client, &ada, &items[1..], false).idempotency_key("k").send().await;
    other.problem(422, "idempotency_key_reused");
    promise.insist_on(BATCH, &other);
    world.finish().await;
}

#[tokio::test]
async fn an_atomic_batch_moves_all_or_nothing() {
    let mut world = World::start().await;
    let ada = world.funded("ada@example.com", FUNDS).await;
    let bola = world.person("bola@example.com").await;
    let too_much = [
        item(&bola.wallet_number, 50_000),
        item(&bola.wallet_number, 50_001),
        item(&bola.wallet_number, 1),
    ];
    let refused = batch(&world.client, &ada, &too_much, true).idempotency_key("k").send().await;
    let refused: Value = refused.ok();
    let group = ["group_refused", "insufficient_funds", "group_refused"];
    assert_eq!(outcomes(&refused), group, "{refused}");
    assert_eq!([world.balance(&ada).await, world.balance(&bola).await], [FUNDS, 0]);

    let just_enough = [item(&bola.wallet_number, 50_000), item(&bola.wallet_number, 50_000)];
    let done = batch(&world.client, &ada, &just_enough, true).idempotency_key("all").send().await;
    assert_eq!(outcomes(&done.ok()), ["success", "success"]);
    assert_eq!([world.balance(&ada).await, world.balance(&bola).await], [0, FUNDS]);

    // Refused or done, it stays so: also when there would be money now, and after a restart.
    world.transfer(&bola, &ada, FUNDS).send().await.expect(200);
    world.restart().await;
    for (key, items, before) in [("k", &too_much[..], &refused), ("all", &just_enough, &done.ok())]
    {
        let again = eventually("the platform is back", WAIT, async || {
            let answer = batch(&world.client, &ada, items, true).idempotency_key(key).send().await;
            if answer.status == 503 { Err(answer.text()) } else { Ok(answer) }
        })
        .await;
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.ok::<Value>(), *before, "{key}");
    }
    assert_eq!(world.balance(&ada).await, FUNDS);
    world.finish().await;
}

#[tokio::test]
async fn copies_of_a_batch_at_once_move_money_once() {
    let world = World::start().await;
    let ada = world.funded("ada@example.com", FUNDS).await;
    let bola = world.person("bola@example.com").await;
    let items: Vec<Value> = (0..100).map(|_| item(&bola.wallet_number, 10)).collect();
    let copies =
        (0..20).map(|_| batch(&world.client, &ada, &items, true).idempotency_key("k").send());
    let answers = join_all(copies).await;
    let first: Value = answers[0].ok();
    assert_eq!(outcomes(&first), vec!["success"; 100]);
    let all: BTreeSet<String> = ids(&first).into_iter().collect();
    assert_eq!(all.len(), 100);
    assert!(answers.iter().all(|it| it.ok::<Value>() == first), "one answer for all copies");
    let n_first = answers.iter().filter(|it| it.header("idempotency-replayed").is_empty()).count();
    assert_eq!(n_first, 1);
    assert_eq!(world.balance(&ada).await, FUNDS - 1_000);

    // Without a key each copy is a request of its own.
    let unkeyed = join_all((0..3).map(|_| batch(&world.client, &ada, &items, false).send())).await;
    assert!(unkeyed.iter().all(|it| it.header("idempotency-replayed").is_empty()));
    assert_eq!(world.balance(&ada).await, FUNDS - 4_000);
    world.finish().await;
}

#[tokio::test]
async fn batches_that_meet_leave_no_wallet_overdrawn() {
    let world = World::start().await;
    let ada = world.funded("ada@example.com", FUNDS).await;
    let bola = world.person("bola@example.com").await;
    // Twenty times a third of what is there: whole ones fit three times.
    let items = [item(&bola.wallet_number, 11_111), item(&bola.wallet_number, 22_222)];
    let answers = join_all((0..20).map(|_| batch(&world.client, &ada, &items, true).send())).await;
    let outcome = |it: &testkit::Answer| outcomes(&it.ok::<Value>())[0] == "success";
    assert_eq!(answers.iter().filter(|it| outcome(it)).count(), 3);
    assert_eq!(world.balance(&ada).await, FUNDS - 3 * 33_333);
    world.finish().await;
}

#[tokio::test]
async fn a_batch_that_is_not_decided_in_time_is_never_done_late() {
    let mut world = World::start().await;
    let promise = Promise::of(&world.client).await;
    let ada = world.funded("ada@example.com", FUNDS).await;
    let bola = world.person("bola@example.com").await;
    let hasty = world.second_api(&["--api-wait-ms=1000"]).await;
    let at_hasty = world.person_at(&hasty, "ada@example.com").await;
    world.stop(Service::Ledger).await;
    let items = [item(&bola.wallet_number, 1), item(&bola.wallet_number, 2)];
    let send = || batch(&hasty, &at_hasty, &items, true).idempotency_key("late").send();
    let answer = send().await;
    answer.expect(202);
    promise.insist_on(BATCH, &answer);
    let pending: Value = answer.read();
    assert_eq!(outcomes(&pending), ["pending", "pending"]);
    assert_eq!(send().await.expect(202).read::<Value>(), pending);

    world.run(Service::Ledger).await;
    for id in ids(&pending) {
        let path = format!("/wallet/transactions/{id}");
        eventually("the pending transfer has failed", WAIT, async || {
            let answer = world.client.get(&path).bearer(&ada.token).send().await;
            let is_failed = answer.status == 200 && answer.read::<Value>()["status"] == "failed";
            if is_failed { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }
    let decided = send().await;
    assert_eq!(decided.header("idempotency-replayed"), "true");
    let decided: Value = decided.ok();
    assert!(outcomes(&decided).contains(&"deadline_exceeded"), "{decided}");
    assert!(outcomes(&decided).iter().all(|it| *it != "success"));
    assert_eq!(world.balance(&ada).await, FUNDS);
    world.finish().await;
}
