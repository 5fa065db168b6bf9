//! What arrives at once, or many times, happens once; and nothing is lost on the way.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use primitives::WalletNumber;
use sandbox::faults::{Fault, Plan};
use serde_json::{Value, json};
use testkit::{Answer, Call, Client};

use crate::world::{Person, WAIT, World, surely, text};

/// How many callers repeat a request at once.
const CALLERS: usize = 20;
const REPLAYED: &str = "idempotency-replayed";

async fn at_once(calls: impl IntoIterator<Item = Call>) -> Vec<Answer> {
    join_all(calls.into_iter().map(Call::send)).await
}

fn n_replayed(answers: &[Answer]) -> usize {
    answers.iter().filter(|it| it.header(REPLAYED) == "true").count()
}

/// One did it, the others were told so, and all were told the same.
fn insist_on_one(answers: &[Answer]) {
    for answer in answers {
        answer.expect(200);
        assert_eq!(answer.text(), answers[0].text());
    }
    assert_eq!(n_replayed(answers), answers.len() - 1, "all but one are replays");
}

/// Every transaction of a wallet, newest first, page by page.
async fn walk(client: &Client, token: &str, limit: usize) -> Vec<Value> {
    let mut walked = Vec::new();
    let mut path = format!("/wallet/transactions?limit={limit}");
    loop {
        let page: Value = client.get(&path).bearer(token).send().await.ok();
        let page_of = page["transactions"].as_array().unwrap();
        assert!(page_of.len() <= limit, "{page}");
        walked.extend(page_of.iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { return walked };
        assert_eq!(page_of.len(), limit, "only the last page is short: {page}");
        path = format!("/wallet/transactions?limit={limit}&cursor={cursor}");
    }
}

async fn the_same_webhook_fifty_times_credits_once(world: &World) {
    let ada = world.person("webhooks@example.com").await;
    let reference = world.deposit(&ada, 70_000).await;
    // The sandbox's own stays away until fifty others have been there.
    world.sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    world.pay(&reference).await;
    let charge = world.charge(&reference);
    // The same fact in two spellings.
    let bodies = [charge.to_string(), serde_json::to_string_pretty(&charge).unwrap()];
    let sent = (0..50).map(|n| {
        let body = bodies[n % 2].clone();
        async move { world.webhook(body.as_bytes()).await }
    });
    let path = format!("/wallet/deposit/{reference}/status");
    let asked = (0..CALLERS).map(|_| world.client.get(&path).bearer(&ada.token));
    let (answers, looks) = tokio::join!(join_all(sent), at_once(asked));
    for answer in answers {
        assert_eq!(answer.ok::<Value>(), json!({ "status": true }));
    }
    for look in looks {
        look.expect(200);
    }
    world.settled(&ada, &reference, "success").await;
    assert!(world.sandbox.resend(&reference));
    world.sandbox.send_webhook(bodies[0].clone());
    let again = world.webhook(bodies[1].as_bytes()).await;
    again.expect(200);
    assert_eq!(world.balance(&ada).await, 70_000);
    let history = walk(&world.client, &ada.token, 100).await;
    assert_eq!(history.len(), 1, "one credit: {history:?}");
}

async fn a_balance_that_covers_one_of_twenty_transfers_pays_one(world: &World) {
    let ada = world.funded("one-of-twenty@example.com", 10_000).await;
    let bola = world.person("twenty@example.com").await;
    let answers = at_once((0..CALLERS).map(|_| world.transfer(&ada, &bola, 10_000))).await;
    let (sent, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|it| it.status.is_success());
    assert_eq!(sent.len(), 1, "exactly one succeeds");
    assert_eq!(sent[0].ok::<Value>()["balance"], 0);
    for answer in refused {
        answer.problem(422, "insufficient_funds");
    }
    assert_eq!((world.balance(&ada).await, world.balance(&bola).await), (0, 10_000));
}

async fn one_idempotency_key_of_twenty_callers_is_one_transfer(world: &World) {
    let ada = world.funded("same-key@example.com", 50_000).await;
    let bola = world.person("same-key-2@example.com").await;
    let send = |amount, key: &str| world.transfer(&ada, &bola, amount).idempotency_key(key);
    insist_on_one(&at_once((0..CALLERS).map(|_| send(1_500, "lunch"))).await);
    assert_eq!((world.balance(&ada).await, world.balance(&bola).await), (48_500, 1_500));
    for answer in at_once((1..5).map(|n| send(1_500 + n, "lunch"))).await {
        answer.problem(422, "idempotency_key_reused");
        assert_eq!(answer.header(REPLAYED), "");
    }
    let refused = at_once((0..CALLERS).map(|_| send(1_000_000, "a-house"))).await;
    assert_eq!(n_replayed(&refused), CALLERS - 1);
    for answer in refused {
        answer.problem(422, "insufficient_funds");
    }
    assert_eq!(walk(&world.client, &ada.token, 100).await.len(), 2, "a deposit and a lunch");
}

async fn one_idempotency_key_of_twenty_callers_is_one_deposit(world: &World) {
    let ada = world.person("same-deposit@example.com").await;
    let ask = |amount: u64| {
        let call = world.client.post("/wallet/deposit").bearer(&ada.token);
        call.json(&json!({ "amount": amount })).idempotency_key("salary")
    };
    insist_on_one(&at_once((0..CALLERS).map(|_| ask(25_000))).await);
    let all = world.sandbox.transactions();
    let n_checkouts = all.iter().filter(|it| it.email == "same-deposit@example.com").count();
    assert_eq!(n_checkouts, 1, "one reference, one checkout");
    for answer in at_once((1..5).map(|n| ask(25_000 + n))).await {
        answer.problem(422, "idempotency_key_reused");
    }
}

async fn ten_new_keys_at_once_are_at_most_five(world: &World) {
    let ada = world.person("keys@example.com").await;
    let create = |name: &str| {
        let body = json!({ "name": name, "permissions": ["read"], "expiry": "1H" });
        world.client.post("/keys/create").bearer(&ada.token).json(&body)
    };
    let names: Vec<String> = (0..10).map(|n| format!("key {n}")).collect();
    let answers = at_once(names.iter().map(|it| create(it))).await;
    let (made, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|it| it.status.is_success());
    assert_eq!(made.len(), 5);
    for answer in refused {
        answer.problem(409, "key_limit_reached");
    }
    let list = || world.client.get("/keys/list").bearer(&ada.token);
    let list: Value = surely("the keys are listed", list).await.ok();
    let active: Vec<&Value> =
        list["keys"].as_array().unwrap().iter().filter(|it| it["status"] == "active").collect();
    assert_eq!(active.len(), 5, "{list}");
    for key in made.iter().map(|it| text(&it.ok(), "api_key")) {
        world.client.get("/wallet/balance").api_key(&key).send().await.expect(200);
    }
}

async fn a_key_is_made_and_rolled_over_once(world: &World) {
    let ada = world.person("rollover@example.com").await;
    let body = json!({ "name": "shop", "permissions": ["read", "transfer"], "expiry": "1H" });
    let create = || {
        let call = world.client.post("/keys/create").bearer(&ada.token).json(&body);
        call.idempotency_key("the-shops-key")
    };
    let made = at_once((0..CALLERS).map(|_| create())).await;
    insist_on_one(&made);
    let old: Value = made[0].ok();
    let id = text(&old, "id");
    let roll_over = || {
        let body = json!({ "expired_key_id": id, "expiry": "1D" });
        world.client.post("/keys/rollover").bearer(&ada.token).json(&body)
    };
    for answer in at_once([roll_over(), roll_over()]).await {
        answer.problem(409, "key_not_expired");
    }
    world.age_key(&id).await;
    let answers = at_once((0..4).map(|_| roll_over())).await;
    let (new, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|it| it.status.is_success());
    assert_eq!(new.len(), 1, "one rollover");
    for answer in refused {
        answer.problem(409, "key_already_rolled_over");
    }
    let new: Value = new[0].ok();
    assert_eq!((&new["name"], &new["permissions"]), (&old["name"], &old["permissions"]));
    let key = text(&new, "api_key");
    world.client.get("/wallet/balance").api_key(&key).send().await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_at_once_happens_once() {
    let world = World::start().await;
    tokio::join!(
        the_same_webhook_fifty_times_credits_once(&world),
        a_balance_that_covers_one_of_twenty_transfers_pays_one(&world),
        one_idempotency_key_of_twenty_callers_is_one_transfer(&world),
        one_idempotency_key_of_twenty_callers_is_one_deposit(&world),
        ten_new_keys_at_once_are_at_most_five(&world),
        a_key_is_made_and_rolled_over_once(&world),
    );
    world.finish().await;
}

/// Sends `n` transfers one after the other; what they moved.
async fn keep_sending(client: Client, from: Person, to: Person, n: u64) -> u64 {
    let mut moved = 0;
    for n in 1..=n {
        let amount = n * 7 % 900 + 1;
        let body = json!({ "recipient_wallet_number": to.wallet_number, "amount": amount });
        let call = client.post("/wallet/transfer").bearer(&from.token).json(&body);
        let sent: Value = call.send().await.ok();
        assert_eq!(sent["status"], "success");
        moved += amount;
    }
    moved
}

/// Uses a key until it is refused; how long after its revocation it was last taken.
async fn use_until_revoked(world: &World, ada: &Person) -> Duration {
    let create = world.client.post("/keys/create").bearer(&ada.token);
    let body = json!({ "name": "leaked", "permissions": ["read"], "expiry": "1H" });
    let made: Value = create.json(&body).send().await.ok();
    let (id, key) = (text(&made, "id"), text(&made, "api_key"));
    for _ in 0..5 {
        world.client.get("/wallet/balance").api_key(&key).send().await.expect(200);
    }
    let revoke = || world.client.post(&format!("/keys/{id}/revoke")).bearer(&ada.token).send();
    revoke().await.expect(200);
    let revoked_at = Instant::now();
    let mut last_taken = Duration::ZERO;
    while revoked_at.elapsed() < WAIT {
        let sent_after = revoked_at.elapsed();
        let answer = world.client.get("/wallet/balance").api_key(&key).send().await;
        if answer.status.is_success() {
            last_taken = sent_after;
            continue;
        }
        answer.problem(401, "revoked_api_key");
        revoke().await.expect(200);
        return last_taken;
    }
    panic!("the key still works {WAIT:?} after it was revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opposite_transfers_lose_nothing_and_pages_stay_where_they_are() {
    let world = World::start().await;
    let ada = world.funded("ada@example.com", 1_000_000).await;
    let bola = world.funded("bola@example.com", 1_000_000).await;
    let send = |from: &Person, to: &Person| {
        testkit::spawn(keep_sending(world.client.clone(), from.clone(), to.clone(), 90))
    };
    let out = [send(&ada, &bola), send(&ada, &bola)];
    let back = [send(&bola, &ada), send(&bola, &ada)];
    let last_taken = use_until_revoked(&world, &ada).await;
    assert!(last_taken < Duration::from_secs(1), "a revoked key worked for {last_taken:?}");
    let mut walks = Vec::new();
    while !out.iter().chain(&back).all(|it| it.is_finished()) {
        walks.push(walk(&world.client, &ada.token, 7).await);
    }
    let mut moved = (0, 0);
    for task in out {
        moved.0 += task.await.unwrap();
    }
    for task in back {
        moved.1 += task.await.unwrap();
    }
    assert_eq!(world.balance(&ada).await, 1_000_000 - moved.0 + moved.1);
    assert_eq!(world.balance(&bola).await, 1_000_000 + moved.0 - moved.1);

    let whole = walk(&world.client, &ada.token, 100).await;
    assert_eq!(whole.len(), 361, "a deposit and 360 transfers");
    let mut running = 0;
    for movement in whole.iter().rev() {
        let amount = movement["amount"].as_u64().unwrap();
        running = match movement["type"].as_str() {
            Some("transfer_out") => running - amount,
            _ => running + amount,
        };
        assert_eq!(movement["balance_after"], running, "{movement}");
    }
    assert!(!walks.is_empty(), "nobody read while the transfers ran");
    for walked in walks {
        let since_then = whole.len() - walked.len();
        assert_eq!(walked, whole[since_then..], "a page lost or repeated something");
    }
    for person in [&ada, &bola] {
        for kind in ["transfer_in", "transfer_out", "deposit"] {
            let path = format!("/wallet/transactions?limit=100&type={kind}");
            let page: Value = world.client.get(&path).bearer(&person.token).send().await.ok();
            let page = page["transactions"].as_array().unwrap().clone();
            assert!(!page.is_empty() && page.iter().all(|it| it["type"] == kind), "{kind}");
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_stays_the_answer_whoever_asks_and_whenever() {
    let mut world = World::start().await;
    let ada = world.funded("ada@example.com", 20_000).await;
    let bola = world.person("bola@example.com").await;
    let key = world.key(&ada, &["transfer"]).await;
    let by_key = |world: &World, to: &str, amount: u64, name: &str| {
        let body = json!({ "recipient_wallet_number": to, "amount": amount });
        let call = world.client.post("/wallet/transfer").api_key(&key).json(&body);
        call.idempotency_key(name)
    };
    let by_ada = |world: &World, to: &str, amount: u64, name: &str| {
        let body = json!({ "recipient_wallet_number": to, "amount": amount });
        let call = world.client.post("/wallet/transfer").bearer(&ada.token).json(&body);
        call.idempotency_key(name)
    };
    let to_bola = bola.wallet_number.as_str();
    let nobody = WalletNumber::from_random(7).to_string();
    let first = by_ada(&world, to_bola, 4_000, "sent").send().await;
    assert_eq!(first.header(REPLAYED), "");
    let first: Value = first.ok();
    by_ada(&world, to_bola, 90_000, "too-much").send().await.problem(422, "insufficient_funds");
    by_ada(&world, &nobody, 1_000, "to-nobody").send().await.problem(404, "wallet_not_found");
    by_ada(&world, &ada.wallet_number, 1_000, "to-me").send().await.problem(422, "same_wallet");

    // Meanwhile there is money enough for what was refused.
    let reference = world.deposit(&ada, 200_000).await;
    world.pay(&reference).await;
    world.settled(&ada, &reference, "success").await;
    let balance = world.balance(&ada).await;
    for is_restarted in [false, true] {
        if is_restarted {
            world.restart().await;
        }
        let again = by_ada(&world, to_bola, 4_000, "sent").send().await;
        assert_eq!(again.header(REPLAYED), "true");
        assert_eq!(again.ok::<Value>()["transaction_id"], first["transaction_id"]);
        // Keys belong to the wallet: the API key asks for the same transfer, and learns no balance.
        let again = by_key(&world, to_bola, 4_000, "sent").send().await;
        assert_eq!(again.header(REPLAYED), "true");
        let mut expected = first.clone();
        expected.as_object_mut().unwrap().remove("balance");
        assert_eq!(again.ok::<Value>(), expected);
        for (to, amount, name, status, code) in [
            (to_bola, 90_000, "too-much", 422, "insufficient_funds"),
            (nobody.as_str(), 1_000, "to-nobody", 404, "wallet_not_found"),
            (ada.wallet_number.as_str(), 1_000, "to-me", 422, "same_wallet"),
            (to_bola, 4_001, "sent", 422, "idempotency_key_reused"),
        ] {
            for call in [by_ada(&world, to, amount, name), by_key(&world, to, amount, name)] {
                let answer = call.send().await;
                answer.problem(status, code);
                let is_replay = code != "idempotency_key_reused";
                assert_eq!(answer.header(REPLAYED) == "true", is_replay, "{name}");
            }
        }
        // Another wallet's key of the same name is another key.
        let body = json!({ "recipient_wallet_number": ada.wallet_number, "amount": 10 });
        let call = world.client.post("/wallet/transfer").bearer(&bola.token).json(&body);
        let others = call.idempotency_key("sent").send().await;
        assert_eq!(others.header(REPLAYED) == "true", is_restarted);
        others.expect(200);
    }
    assert_eq!(world.balance(&ada).await, balance + 10, "only bola's ten moved");
    world.finish().await;
}
