//! Every code that the contract promises, reached over HTTP, and in its exact form.

mod away;

use std::collections::BTreeSet;

use bus::ask::Asker;
use futures_util::future::join_all;
use primitives::{AccountId, ChangeId};
use proto_events::convert::WireId as _;
use proto_events::ledger::v1::{AccountChange, ChangeAccount, Command, Outcome, command};
use proto_events::subjects;
use serde_json::{Value, json};
use testkit::Answer;

use crate::promise::Promise;
use crate::stale;
use crate::world::{Person, Service, WAIT, World, text};

/// The contract's list: each code with the statuses it may come with.
const CODES: &[(&str, &[u16])] = &[
    ("malformed_request", &[400]),
    ("invalid_amount", &[400]),
    ("invalid_field", &[400]),
    ("ambiguous_credentials", &[400]),
    ("invalid_state", &[400]),
    ("missing_credentials", &[401]),
    ("invalid_token", &[401]),
    ("expired_token", &[401]),
    ("invalid_api_key", &[401]),
    ("expired_api_key", &[401]),
    ("revoked_api_key", &[401]),
    ("invalid_signature", &[401]),
    ("missing_permission", &[403]),
    ("user_session_required", &[403]),
    ("not_found", &[404]),
    ("wallet_not_found", &[404]),
    ("deposit_not_found", &[404]),
    ("transaction_not_found", &[404]),
    ("key_not_found", &[404]),
    ("method_not_allowed", &[405]),
    ("body_too_large", &[413]),
    ("unsupported_media_type", &[415]),
    ("key_limit_reached", &[409]),
    ("key_not_expired", &[409]),
    ("key_already_rolled_over", &[409]),
    ("key_revoked", &[409]),
    ("insufficient_funds", &[422]),
    ("same_wallet", &[422]),
    ("currency_mismatch", &[422]),
    ("wallet_frozen", &[422]),
    ("limit_exceeded", &[422]),
    ("deadline_exceeded", &[422]),
    ("idempotency_key_reused", &[422]),
    ("rate_limited", &[429]),
    ("provider_unavailable", &[502, 504]),
    ("service_unavailable", &[503, 504]),
];
const MEMBERS: [&str; 7] = ["type", "title", "status", "code", "detail", "request_id", "errors"];
const SIXTY_FOUR_KIB: usize = 64 * 1024;
const ONE_MIB: usize = 1024 * 1024;

/// The codes reached so far.
struct Reached {
    promise: Promise,
    codes: BTreeSet<(String, u16)>,
}

impl Reached {
    /// Insists on this refusal, on its exact form, and that the operation's specification lists it.
    #[track_caller]
    fn by(&mut self, operation: &str, answer: &Answer, status: u16, code: &str) -> Value {
        let problem = answer.problem(status, code);
        insist_on_form(answer, &problem);
        if !operation.is_empty() {
            self.promise.insist_on(operation, answer);
        }
        self.codes.insert((code.to_owned(), status));
        problem
    }

    fn insist_on_all(&self) {
        let promised = CODES.iter().flat_map(|(code, statuses)| {
            statuses.iter().map(|status| ((*code).to_owned(), *status))
        });
        let promised: BTreeSet<_> = promised.collect();
        let missed: Vec<_> = promised.difference(&self.codes).collect();
        assert!(missed.is_empty(), "nothing here leads to {missed:?}");
        let surplus: Vec<_> = self.codes.difference(&promised).collect();
        assert!(surplus.is_empty(), "the contract has no {surplus:?}");
    }
}

/// What `testkit` does not look at: no other members, fields only where fields are wrong, and when
/// to come back.
#[track_caller]
fn insist_on_form(answer: &Answer, problem: &Value) {
    let members: Vec<&String> = problem.as_object().unwrap().keys().collect();
    assert!(members.iter().all(|it| MEMBERS.contains(&it.as_str())), "{problem}");
    let names_fields = matches!(problem["code"].as_str(), Some("invalid_field" | "invalid_amount"));
    assert_eq!(problem.get("errors").is_some(), names_fields, "{problem}");
    let retry_after = answer.header("retry-after").parse::<u64>().ok();
    let may_wait = matches!(answer.status.as_u16(), 429 | 502..=504);
    assert_eq!(retry_after.is_some_and(|it| (1..=60).contains(&it)), may_wait, "{problem}");
    assert_eq!(answer.header("cache-control"), "no-store", "{problem}");
}

#[tokio::test]
async fn every_code_of_the_contract_is_reached() {
    let mut world = World::start().await;
    let promise = Promise::of(&world.client).await;
    let mut reached = Reached { promise, codes: BTreeSet::new() };
    let ada = world.funded("ada@example.com", 1_000_000).await;
    let bola = world.person("bola@example.com").await;
    unreadable_requests(&world, &ada, &mut reached).await;
    strangers(&world, &ada, &mut reached).await;
    unknown_things(&world, &ada, &mut reached).await;
    keys_in_the_wrong_state(&world, &mut reached).await;
    refused_transfers(&world, &ada, &bola, &mut reached).await;
    another_currency(&world, &ada, &mut reached).await;
    frozen_wallets(&world, &ada, &bola, &mut reached).await;
    too_many_requests(&world, &mut reached).await;
    away::the_ledger(&mut world, &ada, &bola, &mut reached).await;
    away::the_keys_service(&mut world, &ada, &mut reached).await;
    away::the_providers(&world, &ada, &mut reached).await;
    reached.insist_on_all();
    world.finish().await;
}

async fn unreadable_requests(world: &World, ada: &Person, reached: &mut Reached) {
    const TRANSFER: &str = "POST /wallet/transfer";
    let post = |body: &str| {
        let call = world.client.post("/wallet/transfer").bearer(&ada.token);
        call.body("application/json", body)
    };
    let body = |amount: &str| {
        format!(r#"{{"recipient_wallet_number": "{}", "amount": {amount}}}"#, ada.wallet_number)
    };
    for (text, status, code) in [
        ("{".to_owned(), 400, "malformed_request"),
        (body("0"), 400, "invalid_amount"),
        (body("5, \"x\": 1"), 400, "invalid_field"),
        // Padded to the limit it is read, and refused for another reason; beyond it, it is not.
        (padded(&body("5"), SIXTY_FOUR_KIB), 422, "same_wallet"),
        (padded(&body("5"), SIXTY_FOUR_KIB + 1), 413, "body_too_large"),
        ("x".repeat(2 * ONE_MIB), 413, "body_too_large"),
    ] {
        reached.by(TRANSFER, &post(&text).send().await, status, code);
    }
    let form = world.client.post("/wallet/transfer").bearer(&ada.token).form(&[("amount", "5")]);
    reached.by(TRANSFER, &form.send().await, 415, "unsupported_media_type");

    const WEBHOOK: &str = "POST /wallet/paystack/webhook";
    let event = |bytes| padded(r#"{"event": "invoice.create", "data": {}}"#, bytes).into_bytes();
    world.webhook(&event(ONE_MIB)).await.expect(200);
    reached.by(WEBHOOK, &world.webhook(&event(ONE_MIB + 1)).await, 413, "body_too_large");
    let unsigned =
        world.client.post("/wallet/paystack/webhook").body("application/json", event(50));
    reached.by(WEBHOOK, &unsigned.send().await, 401, "invalid_signature");
    let forged = world.signed_webhook(&event(50), &"0".repeat(128)).await;
    reached.by(WEBHOOK, &forged, 401, "invalid_signature");
}

/// JSON with so many spaces after it that it has this size.
fn padded(json: &str, bytes: usize) -> String {
    format!("{json}{}", " ".repeat(bytes - json.len()))
}

async fn strangers(world: &World, ada: &Person, reached: &mut Reached) {
    const BALANCE: &str = "GET /wallet/balance";
    let ask = || world.client.get("/wallet/balance");
    let expired = stale::expired_key(world, ada).await.secret;
    let revoked = stale::revoked_key(world, ada).await.secret;
    let payer = stale::key(world, ada, &["transfer"]).await.secret;
    for (call, status, code) in [
        (ask(), 401, "missing_credentials"),
        (ask().bearer(&stale::broken(&ada.token)), 401, "invalid_token"),
        (ask().bearer(&stale::expired(&ada.token)), 401, "expired_token"),
        (ask().api_key(stale::UNKNOWN_KEY), 401, "invalid_api_key"),
        (ask().api_key(&expired), 401, "expired_api_key"),
        (ask().api_key(&revoked), 401, "revoked_api_key"),
        (ask().api_key(&payer), 403, "missing_permission"),
        (ask().bearer(&ada.token).api_key(&payer), 400, "ambiguous_credentials"),
    ] {
        reached.by(BALANCE, &call.send().await, status, code);
    }
    let answer = world.client.get("/keys/list").api_key(&payer).send().await;
    reached.by("GET /keys/list", &answer, 403, "user_session_required");
    let answer = world.client.get("/auth/google/callback?code=4%2F0A&state=x").send().await;
    reached.by("GET /auth/google/callback", &answer, 400, "invalid_state");
}

async fn unknown_things(world: &World, ada: &Person, reached: &mut Reached) {
    for path in [
        "/nowhere",
        "/wallet",
        "/wallet/",
        "/wallet/balance/",
        "//wallet/balance",
        "/WALLET/balance",
        "/docs/",
        "/keys",
        "/auth",
        "/.env",
        "/%2e%2e/etc/passwd",
        "/wallet/transactions/a/b",
        "/livez",
        "/metrics",
        "/readyz",
        "/paystack",
        "/favicon.ico",
    ] {
        let answer = world.client.get(path).bearer(&ada.token).send().await;
        reached.by("", &answer, 404, "not_found");
    }
    for (operation, code) in [
        ("GET /wallet/transactions/{id}", "transaction_not_found"),
        ("GET /wallet/deposit/{reference}/status", "deposit_not_found"),
        ("POST /keys/{id}/revoke", "key_not_found"),
    ] {
        let never = "0192f0c1e6b87c3a9d2e4f5061728394";
        for id in
            ["x", "%00", "%F0%9F%92%B8", "..", &format!("txn_{never}"), &format!("dep-{never}")]
        {
            let (method, path) = operation.split_once(' ').unwrap();
            let path = path.replace("{id}", id).replace("{reference}", id);
            if id == ".." {
                continue; // Never leaves a client that follows RFC 3986.
            }
            let call = world.client.call(method.parse().unwrap(), &path).bearer(&ada.token);
            reached.by(operation, &call.send().await, 404, code);
        }
    }
    for (method, path, allowed) in [
        ("DELETE", "/wallet/balance", "GET, HEAD"),
        ("POST", "/wallet/balance", "GET, HEAD"),
        ("GET", "/wallet/transfer", "POST"),
        ("PUT", "/auth/google/callback", "GET, HEAD, POST"),
        ("PATCH", "/keys/key_x/revoke", "POST"),
        ("DELETE", "/", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("OPTIONS", "/wallet/transfer", "POST"),
        ("GET", "/wallet/paystack/webhook", "POST"),
    ] {
        let call = world.client.call(method.parse().unwrap(), path).bearer(&ada.token);
        let answer = call.send().await;
        reached.by("", &answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
}

async fn keys_in_the_wrong_state(world: &World, reached: &mut Reached) {
    const ROLLOVER: &str = "POST /keys/rollover";
    let ken = world.person("ken@example.com").await;
    let roll_over = |id: &str| {
        let call = world.client.post("/keys/rollover").bearer(&ken.token);
        call.json(&json!({ "expired_key_id": id, "expiry": "1D" }))
    };
    let (active, revoked) =
        (stale::key(world, &ken, &["read"]).await, stale::revoked_key(world, &ken).await);
    let (rolled, dead) =
        (stale::expired_key(world, &ken).await, stale::revoked_key(world, &ken).await);
    world.age_key(&dead.id).await;
    roll_over(&rolled.id).send().await.expect(200);
    for (id, code) in [
        (&active.id, "key_not_expired"),
        (&rolled.id, "key_already_rolled_over"),
        (&revoked.id, "key_revoked"),
        (&dead.id, "key_revoked"),
    ] {
        reached.by(ROLLOVER, &roll_over(id).send().await, 409, code);
    }
    let expired = stale::expired_key(world, &ken).await;
    for _ in 0..3 {
        stale::key(world, &ken, &["read"]).await;
    }
    let create = world.client.post("/keys/create").bearer(&ken.token);
    let sixth = create.json(&json!({ "name": "6", "permissions": ["read"], "expiry": "1H" }));
    reached.by("POST /keys/create", &sixth.send().await, 409, "key_limit_reached");
    reached.by(ROLLOVER, &roll_over(&expired.id).send().await, 409, "key_limit_reached");
}

async fn refused_transfers(world: &World, ada: &Person, bola: &Person, reached: &mut Reached) {
    const TRANSFER: &str = "POST /wallet/transfer";
    let to = |number: &str| {
        let body = json!({ "recipient_wallet_number": number, "amount": 1_000 });
        world.client.post("/wallet/transfer").bearer(&ada.token).json(&body)
    };
    let mut not_found = Vec::new();
    for number in ["4539578763621", "4539578763622", "0000000000000"] {
        let answer = to(number).header("x-request-id", "r").send().await;
        not_found.push(reached.by(TRANSFER, &answer, 404, "wallet_not_found"));
    }
    assert!(not_found.iter().all(|it| *it == not_found[0]), "a slip and a stranger look the same");
    let answer = to(&ada.wallet_number).send().await;
    reached.by(TRANSFER, &answer, 422, "same_wallet");
    let answer = world.transfer(ada, bola, 9_007_199_254_740_991).send().await;
    reached.by(TRANSFER, &answer, 422, "insufficient_funds");
    world.transfer(ada, bola, 1_000).idempotency_key("k").send().await.expect(200);
    let answer = world.transfer(ada, bola, 1_001).idempotency_key("k").send().await;
    reached.by(TRANSFER, &answer, 422, "idempotency_key_reused");
    // Keys belong to the wallet: another operation under the same key is another request.
    let deposit = |amount: u64| {
        let call = world.client.post("/wallet/deposit").bearer(&ada.token);
        call.json(&json!({ "amount": amount }))
    };
    for amount in [4_999, 1_000_000_001, 9_007_199_254_740_991] {
        let answer = deposit(amount).send().await;
        reached.by("POST /wallet/deposit", &answer, 422, "limit_exceeded");
    }
}

async fn another_currency(world: &World, ada: &Person, reached: &mut Reached) {
    let dollars = world.second_api(&["--api-wallet-currency=USD"]).await;
    let uma = world.person_at(&dollars, "uma@example.com").await;
    let balance: Value = dollars.get("/wallet/balance").bearer(&uma.token).send().await.ok();
    assert_eq!(balance["currency"], "USD");
    let answer = world.transfer(ada, &uma, 1_000).send().await;
    reached.by("POST /wallet/transfer", &answer, 422, "currency_mismatch");
    let call =
        dollars.post("/wallet/deposit").bearer(&uma.token).json(&json!({ "amount": 50_000 }));
    reached.by("POST /wallet/deposit", &call.send().await, 422, "currency_mismatch");
}

async fn frozen_wallets(world: &World, ada: &Person, bola: &Person, reached: &mut Reached) {
    change(world, bola, AccountChange::Freeze).await;
    for (from, to) in [(ada, bola), (bola, ada)] {
        let answer = world.transfer(from, to, 500).send().await;
        reached.by("POST /wallet/transfer", &answer, 422, "wallet_frozen");
    }
    change(world, bola, AccountChange::Unfreeze).await;
    world.transfer(ada, bola, 500).send().await.expect(200);
}

/// As an operator does it: on the bus.
async fn change(world: &World, person: &Person, change: AccountChange) {
    let account: sqlx::types::Uuid =
        sqlx::query_scalar("select account_id from api.wallets where wallet_number = $1")
            .bind(&person.wallet_number)
            .fetch_one(world.database(Service::Api))
            .await
            .unwrap();
    let change = ChangeAccount {
        change_id: ChangeId::generate().to_bytes(),
        account_id: AccountId::from_uuid(account).to_bytes(),
        change: change.into(),
        ..ChangeAccount::default()
    };
    let body = Some(command::Body::ChangeAccount(change));
    let command = Command { deadline_at_us: 0, body };
    let asker = Asker::new(world.nats.client().await);
    let changed = asker.command::<Outcome>(subjects::ledger::CHANGE_ACCOUNT, &command, WAIT).await;
    assert_eq!(changed.unwrap().rejection, 0);
}

async fn too_many_requests(world: &World, reached: &mut Reached) {
    let strict = ["--api-rate-burst=4", "--api-rate-per-second=1"];
    let strict = world.second_api(&strict).await;
    let rita = world.person_at(&strict, "rita@example.com").await;
    let ruth = world.person_at(&strict, "ruth@example.com").await;
    let key = {
        let call = strict.post("/keys/create").bearer(&rita.token);
        let body = json!({ "name": "k", "permissions": ["read"], "expiry": "1H" });
        text(&call.json(&body).send().await.ok(), "api_key")
    };
    let balance = || strict.get("/wallet/balance");
    for (who, call) in [
        ("a person", [(); 40].map(|()| balance().bearer(&rita.token))),
        ("a key", [(); 40].map(|()| balance().api_key(&key))),
    ] {
        let answers = join_all(call.map(testkit::Call::send)).await;
        let limited = answers.iter().find(|it| it.status == 429);
        let limited = limited.unwrap_or_else(|| panic!("{who} may ask 40 times at once"));
        reached.by("GET /wallet/balance", limited, 429, "rate_limited");
    }
    balance().bearer(&ruth.token).send().await.expect(200);

    let narrow = ["--api-address-rate-burst=4", "--api-address-rate-per-second=1"];
    let narrow = world.second_api(&narrow).await;
    for (operation, path) in [
        ("GET /wallet/balance", "/wallet/balance"),
        ("GET /auth/google", "/auth/google"),
        ("GET /", "/"),
    ] {
        let calls = (0..40).map(|_| narrow.get(path).bearer("a.b.c").send());
        let answers = join_all(calls).await;
        let limited = answers.iter().find(|it| it.status == 429);
        let limited = limited.unwrap_or_else(|| panic!("anybody may ask for {path} 40 times"));
        reached.by(operation, limited, 429, "rate_limited");
    }
}
