//! Least knowledge: an API key learns and does what its permission says and nothing beside it, and
//! nobody learns who another person is.

use serde_json::{Value, json};
use testkit::{Answer, Call};

use crate::stale;
use crate::world::{Person, Service, World, text};

/// What a key is told, operation by operation: 200, or 403.
const MATRIX: &[(&str, &str, &[&str])] = &[
    ("GET", "/wallet/balance", &["read"]),
    ("GET", "/wallet/transactions", &["read"]),
    ("GET", "/wallet/transactions/{id}", &["read"]),
    ("GET", "/wallet/deposit/{reference}/status", &["read"]),
    ("POST", "/wallet/deposit", &["deposit"]),
    ("POST", "/wallet/transfer", &["transfer"]),
];

#[tokio::test]
async fn a_key_does_what_its_permissions_say_and_nothing_else() {
    let world = World::start().await;
    let ada = world.funded("ada@example.com", 700_000).await;
    let bola = world.person("bola@example.com").await;
    let reference = world.deposit(&ada, 50_000).await;
    let sent: Value = world.transfer(&ada, &bola, 1_000).send().await.ok();
    let mut spent = 1_000;
    for permission in ["read", "deposit", "transfer"] {
        let key = stale::key(&world, &ada, &[permission]).await;
        for (method, path, allowed) in MATRIX {
            let path = path.replace("{id}", &text(&sent, "transaction_id"));
            let path = path.replace("{reference}", &reference);
            let call = world.client.call(method.parse().unwrap(), &path).api_key(&key.secret);
            let call = match path.as_str() {
                "/wallet/deposit" => call.json(&json!({ "amount": 50_000 })),
                "/wallet/transfer" => call.json(&json!({
                    "recipient_wallet_number": bola.wallet_number, "amount": 500,
                })),
                _ => call,
            };
            let n_checkouts = world.sandbox.transactions().len();
            let answer = call.send().await;
            if allowed.contains(&permission) {
                answer.expect(200);
                spent += if path == "/wallet/transfer" { 500 } else { 0 };
            } else {
                answer.problem(403, "missing_permission");
                assert_eq!(world.sandbox.transactions().len(), n_checkouts, "{permission} {path}");
            }
            assert_eq!(world.balance(&ada).await, 700_000 - spent, "{permission} {path}");
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_transfer_key_never_learns_a_balance() {
    let world = World::start().await;
    let ada = world.funded("ada@example.com", 7_654_321).await;
    let bola = world.person("bola@example.com").await;
    let made = stale::key(&world, &ada, &["transfer"]).await.secret;
    let another = stale::key(&world, &ada, &["transfer", "deposit"]).await.secret;
    let reader = stale::key(&world, &ada, &["read", "transfer"]).await.secret;
    let bolas = stale::key(&world, &bola, &["transfer"]).await.secret;
    let mut heard = Vec::new();

    let send = |key: &str, amount: u64| {
        let body = json!({ "recipient_wallet_number": bola.wallet_number, "amount": amount });
        world.client.post("/wallet/transfer").api_key(key).json(&body)
    };
    let look = |id: &str| world.client.get(&format!("/wallet/transactions/{id}"));
    let sent: Value = hear(&mut heard, send(&made, 1_000)).await.ok();
    assert!(sent.get("balance").is_none(), "{sent}");
    let id = text(&sent, "transaction_id");
    let again = hear(&mut heard, send(&made, 2_000).idempotency_key("twice")).await;
    let replayed = hear(&mut heard, send(&made, 2_000).idempotency_key("twice")).await;
    assert_eq!((replayed.header("idempotency-replayed"), again.text()), ("true", replayed.text()));
    hear(&mut heard, send(&made, 99_000_000)).await.problem(422, "insufficient_funds");

    let own: Value = hear(&mut heard, look(&id).api_key(&made)).await.ok();
    assert_eq!((&own["id"], &own["amount"]), (&json!(id), &json!(1_000)));
    assert!(own["balance_after"].is_null(), "{own}");

    // What the person or another key made, what came in, and what never was: all the same to it.
    let by_person: Value = world.transfer(&ada, &bola, 3_000).send().await.ok();
    let by_another: Value = send(&another, 4_000).send().await.ok();
    let deposit = history(&world, &ada).await.pop().unwrap();
    assert_eq!(deposit["type"], "deposit");
    let never = "txn_0192f0c1e6b87c3a9d2e4f5061728394".to_owned();
    let others = [
        text(&by_person, "transaction_id"),
        text(&by_another, "transaction_id"),
        text(&deposit, "id"),
        never,
        "nonsense".to_owned(),
    ];
    for other in &others {
        hear(&mut heard, look(other).api_key(&made)).await.problem(403, "missing_permission");
    }
    // The other side of the same transfer is none of its business either, nor the other way round.
    look(&id).api_key(&bolas).send().await.problem(403, "missing_permission");

    let balances = balances(&world, &ada).await;
    assert!(balances.contains(&7_654_321) && balances.len() >= 5, "{balances:?}");
    for answer in &heard {
        for balance in &balances {
            let shows = answer.text().contains(&balance.to_string());
            assert!(!shows, "a balance of {balance} is told: {}", answer.text());
        }
    }
    // A key that may read as well is told.
    let sent: Value = send(&reader, 1_000).send().await.ok();
    assert_eq!(sent["balance"], world.balance(&ada).await);
    let own: Value = look(&id).api_key(&reader).send().await.ok();
    assert_eq!(own["balance_after"], 7_653_321);
    world.finish().await;
}

async fn hear(heard: &mut Vec<Answer>, call: Call) -> Answer {
    let answer = call.send().await;
    heard.push(answer.clone());
    answer
}

async fn history(world: &World, person: &Person) -> Vec<Value> {
    let call = world.client.get("/wallet/transactions?limit=100").bearer(&person.token);
    let page: Value = call.send().await.ok();
    page["transactions"].as_array().unwrap().clone()
}

/// Every balance the wallet ever had.
async fn balances(world: &World, person: &Person) -> Vec<u64> {
    let history = history(world, person).await;
    history.iter().filter_map(|it| it["balance_after"].as_u64()).collect()
}

/// Everything that Ada can see after she and Bola sent each other money, searched for Bola.
#[tokio::test]
async fn no_answer_shows_who_another_person_is() {
    let world = World::start().await;
    let ada = world.funded("ada.visible@example.com", 700_000).await;
    let bola = world.funded("bola.unspoken@hidden.example", 700_000).await;
    let sent: Value = world.transfer(&ada, &bola, 1_000).send().await.ok();
    let back: Value = world.transfer(&bola, &ada, 500).send().await.ok();
    let bolas_reference = world.deposit(&bola, 50_000).await;
    let bolas_key = stale::key(&world, &bola, &["read"]).await;
    let full = stale::key(&world, &ada, &["read", "deposit", "transfer"]).await;
    let secrets = secrets(&world, &bola).await;

    let id = |it: &Value| text(it, "transaction_id");
    let transfer =
        |amount: u64| json!({ "recipient_wallet_number": bola.wallet_number, "amount": amount });
    let paths = [
        "/auth/me".to_owned(),
        "/wallet/balance".to_owned(),
        "/wallet/transactions".to_owned(),
        "/wallet/transactions?type=transfer_in".to_owned(),
        "/keys/list".to_owned(),
        format!("/wallet/transactions/{}", id(&sent)),
        format!("/wallet/transactions/{}", id(&back)),
        format!("/wallet/deposit/{bolas_reference}/status"),
    ];
    let mut heard = Vec::new();
    for path in &paths {
        hear(&mut heard, world.client.get(path).bearer(&ada.token)).await;
        hear(&mut heard, world.client.get(path).api_key(&full.secret)).await;
    }
    let posts = [
        ("/wallet/transfer".to_owned(), transfer(1_000)),
        ("/wallet/transfer".to_owned(), transfer(900_000_000)),
        ("/wallet/transfer".to_owned(), transfer(0)),
        (format!("/keys/{}/revoke", bolas_key.id), Value::Null),
        ("/keys/rollover".to_owned(), json!({ "expired_key_id": bolas_key.id, "expiry": "1H" })),
    ];
    for (path, body) in &posts {
        hear(&mut heard, world.client.post(path).bearer(&ada.token).json(body)).await;
    }
    assert!(heard.iter().filter(|it| it.status == 200).count() >= 12, "they were answered");
    let said: String = heard.iter().map(whole).collect::<Vec<_>>().join("\n").to_lowercase();
    assert!(said.contains("ada.visible@example.com"), "one's own name is found");
    assert!(said.contains(&bola.wallet_number), "the counterparty's wallet is shown");
    for secret in secrets {
        assert!(!said.contains(&secret.to_lowercase()), "somebody learns {secret:?}: {said}");
    }
    world.finish().await;
}

/// An answer, headers and all.
fn whole(answer: &Answer) -> String {
    format!("{:?} {}", answer.headers, answer.text())
}

/// Everything that says who a person is, but the wallet number.
async fn secrets(world: &World, person: &Person) -> Vec<String> {
    let me: Value = world.client.get("/auth/me").bearer(&person.token).send().await.ok();
    let (account, subject): (String, String) = sqlx::query_as(
        "select account_id::text, subject from api.wallets join api.users using (user_id)
         where wallet_number = $1",
    )
    .bind(&person.wallet_number)
    .fetch_one(world.database(Service::Api))
    .await
    .unwrap();
    let id = text(&me, "id");
    let uuid = id.strip_prefix("usr_").unwrap().to_owned();
    vec![
        text(&me, "email"),
        text(&me, "name"),
        "unspoken".to_owned(),
        "hidden.example".to_owned(),
        account.replace('-', ""),
        account,
        subject,
        uuid,
        id,
    ]
}
