//! Who may do what: every operation of the specification, with every kind of wrong credentials.
//!
//! A row an operation, a column a way of asking. An operation that the specification has and the
//! table lacks fails, so a new one cannot be forgotten. Nothing that is refused changes anything.

use serde_json::{Value, json};
use testkit::{Answer, Call};

use crate::promise::Promise;
use crate::stale::{self, Key};
use crate::world::{Person, World, text};

/// Whom an operation is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum For {
    /// Whoever asks, whatever they show; what it answers to the request below.
    Everybody(u16, &'static str),
    /// People who are not signed in yet, so API keys are turned away; what it answers to others.
    Comers(u16, &'static str),
    /// People who are signed in.
    People,
    /// They, and API keys with this permission.
    Callers(&'static str),
}

use For::{Callers, Comers, Everybody, People};

/// Operation; whom it is for; how it answers them.
pub(crate) const TABLE: &[(&str, For, u16)] = &[
    ("GET /", Everybody(200, ""), 200),
    ("GET /auth/google", Comers(302, ""), 302),
    ("GET /auth/google/callback", Comers(400, "invalid_state"), 200),
    ("POST /auth/google/callback", Comers(400, "invalid_state"), 200),
    ("POST /auth/refresh", Comers(401, "invalid_token"), 200),
    ("POST /auth/logout", Comers(401, "invalid_token"), 204),
    ("GET /auth/me", People, 200),
    ("POST /keys/create", People, 200),
    ("POST /keys/rollover", People, 200),
    ("GET /keys/list", People, 200),
    ("POST /keys/{id}/revoke", People, 200),
    ("GET /wallet/balance", Callers("read"), 200),
    ("POST /wallet/deposit", Callers("deposit"), 200),
    ("GET /wallet/deposit/{reference}/status", Callers("read"), 200),
    ("POST /wallet/paystack/webhook", Everybody(401, "invalid_signature"), 200),
    ("POST /wallet/transfer", Callers("transfer"), 200),
    ("POST /wallet/transfers/batch", Callers("transfer"), 200),
    ("GET /wallet/transactions", Callers("read"), 200),
    ("GET /wallet/transactions/{id}", Callers("read"), 200),
];

/// Wrong ways of saying who one is.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Nothing,
    BrokenToken,
    ExpiredToken,
    UnknownKey,
    ExpiredKey,
    RevokedKey,
    /// A good key with every permission but the one that is needed.
    KeyWithout,
    /// A good token and a good key.
    Both,
}

const WRONG_WAYS: [Shown; 8] = [
    Shown::Nothing,
    Shown::BrokenToken,
    Shown::ExpiredToken,
    Shown::UnknownKey,
    Shown::ExpiredKey,
    Shown::RevokedKey,
    Shown::KeyWithout,
    Shown::Both,
];

/// What each of them is told; no code where the answer is no problem.
fn expected(who: For, shown: Shown) -> (u16, &'static str) {
    match (who, shown) {
        (Everybody(status, code), _) => (status, code),
        (Comers(status, code), Shown::Nothing | Shown::BrokenToken | Shown::ExpiredToken) => {
            (status, code)
        }
        (_, Shown::Nothing) => (401, "missing_credentials"),
        (_, Shown::BrokenToken) => (401, "invalid_token"),
        (_, Shown::ExpiredToken) => (401, "expired_token"),
        (_, Shown::UnknownKey) => (401, "invalid_api_key"),
        (_, Shown::ExpiredKey) => (401, "expired_api_key"),
        (_, Shown::RevokedKey) => (401, "revoked_api_key"),
        (Callers(_), Shown::KeyWithout) => (403, "missing_permission"),
        (People | Comers(..), Shown::KeyWithout) => (403, "user_session_required"),
        (_, Shown::Both) => (400, "ambiguous_credentials"),
    }
}

/// Ada, of whom everything is asked, and Bola, whose things are none of her business.
struct Cast {
    world: World,
    promise: Promise,
    ada: Person,
    bola: Person,
    reference: String,
    transaction: String,
    /// By the permission they lack; the last lacks none.
    keys: [(&'static str, Key); 4],
    spare: Key,
    expired: Key,
    revoked: Key,
}

impl Cast {
    async fn assemble() -> Self {
        let world = World::start().await;
        let promise = Promise::of(&world.client).await;
        let ada = world.funded("ada@example.com", 900_000).await;
        let bola = world.funded("bola@example.com", 100_000).await;
        let reference = world.deposit(&ada, 50_000).await;
        let sent: Value = world.transfer(&ada, &bola, 1_000).send().await.ok();
        let expired = stale::expired_key(&world, &ada).await;
        let revoked = stale::revoked_key(&world, &ada).await;
        let keys = [
            ("read", stale::key(&world, &ada, &["deposit", "transfer"]).await),
            ("deposit", stale::key(&world, &ada, &["read", "transfer"]).await),
            ("transfer", stale::key(&world, &ada, &["read", "deposit"]).await),
            ("", stale::key(&world, &ada, &["read", "deposit", "transfer"]).await),
        ];
        let spare = stale::key(&world, &ada, &["read"]).await;
        let transaction = text(&sent, "transaction_id");
        Self { world, promise, ada, bola, reference, transaction, keys, spare, expired, revoked }
    }

    fn key_without(&self, permission: &str) -> &str {
        &self.keys.iter().find(|(lacks, _)| *lacks == permission).unwrap().1.secret
    }

    /// A request that would be good if it came from somebody who may.
    fn call(&self, name: &str) -> Call {
        let (method, path) = name.split_once(' ').unwrap();
        let path = match name {
            "POST /keys/{id}/revoke" => path.replace("{id}", &self.spare.id),
            _ => path.replace("{id}", &self.transaction).replace("{reference}", &self.reference),
        };
        let call = self.world.client.call(method.parse().unwrap(), &path);
        match name {
            "POST /auth/google/callback" => call.json(&json!({ "code": "4/0A", "state": "x" })),
            "POST /auth/refresh" | "POST /auth/logout" => {
                call.json(&json!({ "refresh_token": format!("rt_{}", "A".repeat(43)) }))
            }
            "POST /keys/create" => {
                call.json(&json!({ "name": "n", "permissions": ["read"], "expiry": "1H" }))
            }
            "POST /keys/rollover" => {
                call.json(&json!({ "expired_key_id": self.expired.id, "expiry": "1H" }))
            }
            "POST /wallet/deposit" => call.json(&json!({ "amount": 50_000 })),
            "POST /wallet/transfer" => call.json(&json!({
                "recipient_wallet_number": self.bola.wallet_number, "amount": 2_000,
            })),
            "POST /wallet/transfers/batch" => call.json(&json!({ "transfers": [
                { "recipient_wallet_number": self.bola.wallet_number, "amount": 1_000 },
                { "recipient_wallet_number": self.bola.wallet_number, "amount": 900_000_000 },
            ] })),
            "POST /wallet/paystack/webhook" => {
                call.json(&json!({ "event": "charge.success", "data": {} }))
            }
            _ => call,
        }
    }

    fn show(&self, call: Call, who: For, shown: Shown) -> Call {
        let needed = match who {
            Callers(permission) => permission,
            Everybody(..) | Comers(..) | People => "",
        };
        match shown {
            Shown::Nothing => call,
            Shown::BrokenToken => call.bearer(&stale::broken(&self.ada.token)),
            Shown::ExpiredToken => call.bearer(&stale::expired(&self.ada.token)),
            Shown::UnknownKey => call.api_key(stale::UNKNOWN_KEY),
            Shown::ExpiredKey => call.api_key(&self.expired.secret),
            Shown::RevokedKey => call.api_key(&self.revoked.secret),
            Shown::KeyWithout => call.api_key(self.key_without(needed)),
            Shown::Both => call.bearer(&self.ada.token).api_key(self.key_without("")),
        }
    }

    /// Everything a refused request might have changed.
    async fn state(&self) -> Value {
        let mut seen = Vec::new();
        for person in [&self.ada, &self.bola] {
            for path in ["/auth/me", "/wallet/balance", "/wallet/transactions", "/keys/list"] {
                let call = self.world.client.get(path).bearer(&person.token);
                let mut answer: Value = call.send().await.ok();
                for key in answer["keys"].as_array_mut().into_iter().flatten() {
                    key["last_used_at"] = Value::Null;
                }
                seen.push(answer);
            }
        }
        json!({ "seen": seen, "checkouts": self.world.sandbox.transactions().len() })
    }
}

#[tokio::test]
async fn every_operation_turns_away_whoever_may_not() {
    let cast = Cast::assemble().await;
    cast.promise.insist_on_all(TABLE.iter().map(|(name, ..)| *name));
    let before = cast.state().await;
    for (name, who, _) in TABLE {
        for shown in WRONG_WAYS {
            let (status, code) = expected(*who, shown);
            let answer = cast.show(cast.call(name), *who, shown).send().await;
            assert_eq!(answer.status.as_u16(), status, "{name}, {shown:?}: {}", answer.text());
            if !code.is_empty() {
                let problem = answer.problem(status, code);
                if let (Callers(permission), Shown::KeyWithout) = (who, shown) {
                    let named = format!("`{permission}`");
                    assert!(text(&problem, "detail").contains(&named), "{name}: {problem}");
                }
            }
            if status == 401 {
                assert!(!answer.header("www-authenticate").is_empty(), "{name}, {shown:?}");
            }
            cast.promise.insist_on(name, &answer);
        }
        assert_eq!(cast.state().await, before, "{name} changed something for a stranger");
    }
    cast.world.finish().await;
}

#[tokio::test]
async fn every_operation_lets_in_whoever_may() {
    let cast = Cast::assemble().await;
    for (name, who, status) in TABLE {
        if let Callers(permission) = who {
            let lacks_another = cast.keys.iter().filter(|(lacks, _)| lacks != permission);
            for (_, key) in lacks_another {
                let answer = cast.call(name).api_key(&key.secret).send().await;
                assert_eq!(answer.status.as_u16(), *status, "{name}: {}", answer.text());
                cast.promise.insist_on(name, &answer);
            }
        }
        let answer = welcome(&cast, name, *who).await;
        assert_eq!(answer.status.as_u16(), *status, "{name}: {}", answer.text());
        cast.promise.insist_on(name, &answer);
    }
    cast.world.finish().await;
}

/// The request of somebody who may, with everything it needs.
async fn welcome(cast: &Cast, name: &str, who: For) -> Answer {
    let world = &cast.world;
    let token = json!({ "refresh_token": cast.bola.refresh_token });
    let call = match (name, who) {
        ("GET /auth/google/callback", _) => {
            world.callback(&world.client, "chidi@example.com").await
        }
        ("POST /auth/google/callback", _) => {
            let (cookie, query) = world.come_back(&world.client, "chidi@example.com").await;
            let form = "application/x-www-form-urlencoded";
            world.client.post("/auth/google/callback").header("cookie", &cookie).body(form, query)
        }
        ("POST /auth/refresh", _) => world.client.post("/auth/refresh").json(&token),
        ("POST /auth/logout", _) => {
            // Refreshed above; a person signs in as often as they like.
            let bola = world.person("bola@example.com").await;
            let token = json!({ "refresh_token": bola.refresh_token });
            world.client.post("/auth/logout").json(&token)
        }
        ("POST /wallet/paystack/webhook", _) => {
            let body =
                br#"{"event":"charge.dispute.create","data":{"reference":"none-of-ours-1234"}}"#;
            return world.webhook(body).await;
        }
        ("POST /keys/create", _) => {
            // Five are the most: one makes room.
            let spare = world.client.post(&format!("/keys/{}/revoke", cast.spare.id));
            spare.bearer(&cast.ada.token).send().await.expect(200);
            cast.call(name).bearer(&cast.ada.token)
        }
        ("POST /keys/rollover", _) => {
            let keys: Value =
                world.client.get("/keys/list").bearer(&cast.ada.token).send().await.ok();
            let newest = text(&keys["keys"][0], "id");
            let revoke = world.client.post(&format!("/keys/{newest}/revoke"));
            revoke.bearer(&cast.ada.token).send().await.expect(200);
            cast.call(name).bearer(&cast.ada.token)
        }
        (_, Everybody(..) | Comers(..)) => cast.call(name),
        (_, People | Callers(_)) => cast.call(name).bearer(&cast.ada.token),
    };
    call.send().await
}

/// Bola's things, asked for by Ada: as if they never were.
#[tokio::test]
async fn another_persons_things_do_not_exist() {
    let cast = Cast::assemble().await;
    let (world, full) = (&cast.world, cast.key_without(""));
    let bolas_key = stale::key(world, &cast.bola, &["read"]).await;
    let bolas_expired = stale::expired_key(world, &cast.bola).await;
    let bolas_reference = world.deposit(&cast.bola, 50_000).await;
    let chidi = world.person("chidi@example.com").await;
    let sent: Value = world.transfer(&cast.bola, &chidi, 5_000).send().await.ok();
    let before = cast.state().await;

    let never = "0192f0c1e6b87c3a9d2e4f5061728394";
    let rollover = |id: &str| Some(json!({ "expired_key_id": id, "expiry": "1H" }));
    let revoke = |id: &str| format!("/keys/{id}/revoke");
    let look = |id: &str| format!("/wallet/transactions/{id}");
    let status = |reference: &str| format!("/wallet/deposit/{reference}/status");
    let rollover_path = || "/keys/rollover".to_owned();
    // Whether API keys are let in; method; what is Bola's, and what never was; code.
    let rows = [
        (
            false,
            "POST",
            (revoke(&bolas_key.id), None),
            (revoke(&format!("key_{never}")), None),
            "key_not_found",
        ),
        (
            false,
            "POST",
            (rollover_path(), rollover(&bolas_expired.id)),
            (rollover_path(), rollover(&format!("key_{never}"))),
            "key_not_found",
        ),
        (
            true,
            "GET",
            (status(&bolas_reference), None),
            (status(&format!("dep-{never}")), None),
            "deposit_not_found",
        ),
        (
            true,
            "GET",
            (look(&text(&sent, "transaction_id")), None),
            (look(&format!("txn_{never}")), None),
            "transaction_not_found",
        ),
    ];
    for (lets_keys_in, method, bolas, nobodys, code) in rows {
        let ask = async |(path, body): &(String, Option<Value>), by_key: bool| {
            let call = world.client.call(method.parse().unwrap(), path).header("x-request-id", "r");
            let call = if by_key { call.api_key(full) } else { call.bearer(&cast.ada.token) };
            let call = match body {
                Some(body) => call.json(body),
                None => call,
            };
            call.send().await.problem(404, code)
        };
        for by_key in [false, true].into_iter().filter(|it| lets_keys_in || !*it) {
            let (one, other) = (ask(&bolas, by_key).await, ask(&nobodys, by_key).await);
            assert_eq!(one, other, "{method} {bolas:?} tells that it exists");
        }
    }
    assert_eq!(cast.state().await, before, "Bola's things changed");
    cast.world.finish().await;
}
