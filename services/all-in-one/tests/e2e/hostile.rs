//! What strangers and broken senders send: it is refused or kept for a person, and moves no money.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use primitives::WalletNumber;
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use testkit::{Answer, Client, paystack_signature};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{PAYSTACK_KEY, Person, TOKEN_KEY, World, text};

const WEBHOOK_BYTES_MAX: usize = 1024 * 1024;

/// A body with something about it changed.
fn with(body: &Value, change: impl FnOnce(&mut Value)) -> String {
    let mut body = body.clone();
    change(&mut body);
    body.to_string()
}

async fn badly_signed_webhooks_are_not_even_read(world: &World, charge: &Value) {
    let body = charge.to_string();
    let good = paystack_signature(PAYSTACK_KEY, body.as_bytes());
    let sha256 = {
        let mut mac = Hmac::<Sha256>::new_from_slice(PAYSTACK_KEY.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    };
    let unkeyed = {
        use sha2::Digest as _;
        hex::encode(Sha512::digest(body.as_bytes()))
    };
    let n_before = world.webhooks_are_read().await;
    let spaced = serde_json::to_string_pretty(charge).unwrap();
    let escaped = body.replace("charge.success", "charge\\u002esuccess");
    let ended = format!("{body}\n");
    let other = with(charge, |it| it["data"]["amount"] = json!(1));
    let of_other = paystack_signature(PAYSTACK_KEY, other.as_bytes());
    let by_other = paystack_signature("sk_test_somebody_elses", body.as_bytes());
    let by_nobody = paystack_signature("", body.as_bytes());
    let short = &good[..126];
    let long = format!("{good}00");
    let zeros = "0".repeat(128);
    for (why, body, signature) in [
        ("empty", &body, ""),
        ("not hex", &body, "valid"),
        ("too short", &body, short),
        ("too long", &body, &long),
        ("zeros", &body, &zeros),
        ("another body's", &body, &of_other),
        ("another key's", &body, &by_other),
        ("an empty key's", &body, &by_nobody),
        ("SHA-256", &body, &sha256),
        ("without a key", &body, &unkeyed),
        ("of a body serialised again", &spaced, &good),
        ("of a body escaped differently", &escaped, &good),
        ("of a body without its line end", &ended, &good),
        ("of another amount", &other, &good),
        ("of no body", &String::new(), &good),
    ] {
        let answer = world.signed_webhook(body.as_bytes(), signature).await;
        assert_eq!(answer.status, 401, "a signature that is {why}");
        answer.problem(401, "invalid_signature");
    }
    let unsigned = world.client.post("/wallet/paystack/webhook").json(charge).send().await;
    unsigned.problem(401, "invalid_signature");
    let elsewhere = world.client.post("/wallet/paystack/webhook").header("x-signature", &good);
    elsewhere.json(charge).send().await.problem(401, "invalid_signature");
    assert_eq!(world.webhooks_are_read().await, n_before, "nothing of it was stored");
}

/// Signed bodies that must not credit, and why each waits for a person, if it does.
fn odd_bodies(charge: &Value, of_another: &Value) -> Vec<(Vec<u8>, Option<&'static str>)> {
    let charged = |change: fn(&mut Value)| with(charge, |it| change(&mut it["data"])).into_bytes();
    let event = |name: &str| with(charge, |it| it["event"] = json!(name)).into_bytes();
    let refund_of_nobody = with(charge, |it| {
        it["event"] = json!("refund.processed");
        it["data"]["transaction_reference"] = it["data"]["reference"].clone();
        it["data"]["id"] = json!(7);
    });
    let text = charge.to_string();
    let twice = text.replace(r#""amount":"#, r#""amount":1,"amount":"#);
    let event_twice = text.replace(r#"{"data""#, r#"{"event":"charge.failed","data""#);
    assert!(twice != text && event_twice != text);
    let mut long = text.clone().into_bytes();
    long.resize(WEBHOOK_BYTES_MAX, b' ');
    let mut long_garbage = vec![b'x'; WEBHOOK_BYTES_MAX];
    long_garbage[0] = b'{';
    let deep = "[".repeat(100_000);
    let foreign_id = of_another["data"]["id"].clone();
    vec![
        (charged(|it| it["amount"] = json!(5_000_000)), Some("amount_differs")),
        (charged(|it| it["amount"] = json!(1)), Some("amount_differs")),
        (charged(|it| it["currency"] = json!("USD")), Some("currency_differs")),
        (
            charged(|it| it["reference"] = json!("dep-nobody-made-this-one")),
            Some("unknown_reference"),
        ),
        (
            charged(|it| it["reference"] = json!("'; drop table payments.deposits; --")),
            Some("unknown_reference"),
        ),
        (charged(|it| it["reference"] = json!("dep-\u{0}")), Some("unknown_reference")),
        (charged(|it| it["domain"] = json!("live")), Some("other_domain")),
        (charged(|it| it["status"] = json!("failed")), Some("not_success")),
        (charged(|it| it["status"] = json!("SUCCESS")), Some("not_success")),
        (charged(|it| it["status"] = json!(true)), Some("incomplete")),
        (charged(|it| it["amount"] = json!(50_000.5)), Some("incomplete")),
        (charged(|it| it["amount"] = json!(-50_000)), Some("incomplete")),
        (charged(|it| it["amount"] = Value::Null), Some("incomplete")),
        (charged(|it| *it = json!([])), Some("incomplete")),
        (twice.into_bytes(), Some("duplicate_keys")),
        (event_twice.into_bytes(), Some("duplicate_keys")),
        (event("charge.created"), Some("unknown_event")),
        (event("CHARGE.SUCCESS"), Some("unknown_event")),
        (event("charge.success\u{0}"), Some("unknown_event")),
        (event("refund.processed"), Some("incomplete")),
        (event("charge.dispute.create"), Some("incomplete")),
        (refund_of_nobody.into_bytes(), Some("needs_person")),
        (Vec::new(), Some("unreadable")),
        (b"[]".to_vec(), Some("unreadable")),
        (b"not json".to_vec(), Some("unreadable")),
        (b"{\"event\":\"charge.success\"".to_vec(), Some("unreadable")),
        (vec![0, 159, 146, 150], Some("unreadable")),
        (deep.into_bytes(), Some("unreadable")),
        (long_garbage, Some("unreadable")),
        // These only make us ask Paystack, who says that nobody has paid.
        (long, None),
        (with(charge, |it| it["data"]["id"] = foreign_id).into_bytes(), None),
    ]
}

async fn odd_webhooks_credit_nothing_and_wait_for_a_person(
    world: &World,
    charge: &Value,
    of_another: &Value,
) {
    let mut reasons: Vec<&str> = Vec::new();
    for (body, reason) in odd_bodies(charge, of_another) {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let answer = world.webhook(&body).await;
        assert_eq!(answer.status, 200, "{shown}: {}", answer.text());
        assert_eq!(answer.ok::<Value>(), json!({ "status": true }));
        // The same once more changes nothing.
        world.webhook(&body).await.expect(200);
        world.webhooks_are_read().await;
        reasons.extend(reason);
        let parked = world.parked_webhooks().await;
        let parked: Vec<&str> = parked.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(parked, reasons, "{shown}");
    }
    let mut too_long = charge.to_string().into_bytes();
    too_long.resize(WEBHOOK_BYTES_MAX + 1, b' ');
    world.webhook(&too_long).await.problem(413, "body_too_large");
}

#[tokio::test]
async fn webhooks_that_lie_credit_nothing() {
    let world = World::start_with(&["--payments-confirm-first-ms=100"]).await;
    let ada = world.person("ada@example.com").await;
    let bola = world.funded("bola@example.com", 50_000).await;
    let reference = world.deposit(&ada, 50_000).await;
    let charge = world.charge(&reference);
    let paid = world.sandbox.transactions().into_iter().find(|it| it.email == "bola@example.com");
    let of_bola = world.charge(&paid.unwrap().reference);
    badly_signed_webhooks_are_not_even_read(&world, &charge).await;
    odd_webhooks_credit_nothing_and_wait_for_a_person(&world, &charge, &of_bola).await;
    // A body that was good once is good for nothing any more.
    for _ in 0..3 {
        world.webhook(of_bola.to_string().as_bytes()).await.expect(200);
    }
    world.webhooks_are_read().await;
    assert_eq!((world.balance(&ada).await, world.balance(&bola).await), (0, 50_000));
    world.settled(&ada, &reference, "pending").await;

    // And the honest payment is not harmed by the lies before it.
    let n_parked = world.parked_webhooks().await.len();
    world.pay(&reference).await;
    world.settled(&ada, &reference, "success").await;
    assert_eq!((world.balance(&ada).await, world.balance(&bola).await), (50_000, 50_000));
    world.webhook(charge.to_string().as_bytes()).await.expect(200);
    world.webhooks_are_read().await;
    assert_eq!(world.parked_webhooks().await.len(), n_parked);
    world.finish().await;
}

/// A token of our own making.
fn token(header: &Value, claims: &Value, key: Option<&[u8]>) -> String {
    let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key.map_or_else(Vec::new, |key| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(signed.as_bytes());
        mac.finalize().into_bytes().to_vec()
    });
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

const DAY_SECONDS: i64 = 86_400;

/// Ada's claims under headers and signatures that do not hold.
fn wrongly_signed(ada: &Person, bola: &Person) -> Vec<(&'static str, String)> {
    let (header, claims) = (part(&ada.token, 0), part(&ada.token, 1));
    let headed = |change: fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        header
    };
    let none = headed(|it| it["alg"] = json!("none"));
    let upper_none = headed(|it| it["alg"] = json!("NONE"));
    let eddsa = headed(|it| it["alg"] = json!("EdDSA"));
    let hs512 = headed(|it| it["alg"] = json!("HS512"));
    let no_kid = headed(|it| drop(it.as_object_mut().unwrap().remove("kid")));
    let other_kid = headed(|it| it["kid"] = json!("../../etc/passwd"));
    let key = Some(TOKEN_KEY.as_slice());
    let (start, signature) = ada.token.rsplit_once('.').unwrap();
    let of_bola = bola.token.rsplit_once('.').unwrap();
    vec![
        ("alg none", token(&none, &claims, None)),
        ("alg none, signed", token(&none, &claims, key)),
        ("alg NONE", token(&upper_none, &claims, None)),
        ("no signature", token(&header, &claims, None)),
        ("alg EdDSA", token(&eddsa, &claims, key)),
        ("alg HS512", token(&hs512, &claims, key)),
        ("another key", token(&header, &claims, Some(b"another key of thirty-two bytes!"))),
        ("an empty key", token(&header, &claims, Some(b""))),
        ("no kid", token(&no_kid, &claims, key)),
        ("an unknown kid", token(&other_kid, &claims, key)),
        ("bola's signature", format!("{start}.{}", of_bola.1)),
        ("bola's claims", format!("{}.{signature}", of_bola.0)),
        ("two parts", start.to_owned()),
        ("four parts", format!("{}.{signature}", ada.token)),
        ("dots", "..".to_owned()),
        ("very long", "a".repeat(20_000)),
    ]
}

/// Well signed tokens that claim what is not so.
fn wrongly_claimed(ada: &Person, bola: &Person) -> Vec<(&'static str, String)> {
    let (header, claims) = (part(&ada.token, 0), part(&ada.token, 1));
    let issued_at = claims["iat"].as_i64().unwrap();
    let mut forged = Vec::new();
    for (why, name, value) in [
        ("another audience", "aud", json!("https://elsewhere.example")),
        ("another issuer", "iss", json!("https://elsewhere.example")),
        ("from the future", "iat", json!(issued_at + DAY_SECONDS)),
        ("exp that is text", "exp", json!("tomorrow")),
        ("exp too far", "exp", json!(u64::MAX)),
        ("another person", "sub", json!("usr_0192f0c1e6b87c3a9d2e4f5061728394")),
        ("no person", "sub", json!("' or 1=1 --")),
        ("another session", "sid", json!("ses_0192f0c1e6b87c3a9d2e4f5061728394")),
        ("bola", "sub", part(&bola.token, 1)["sub"].clone()),
        ("bola's session", "sid", part(&bola.token, 1)["sid"].clone()),
    ] {
        let mut claims = claims.clone();
        assert_ne!(claims[name], value, "{why}");
        claims[name] = value;
        forged.push((why, token(&header, &claims, Some(&TOKEN_KEY))));
    }
    for name in ["iss", "aud", "sub", "exp", "iat", "jti", "sid"] {
        let mut claims = claims.clone();
        assert!(claims.as_object_mut().unwrap().remove(name).is_some(), "{name}");
        forged.push((name, token(&header, &claims, Some(&TOKEN_KEY))));
    }
    forged
}

async fn forged_tokens_are_refused(world: &World, ada: &Person, bola: &Person) {
    let (header, claims) = (part(&ada.token, 0), part(&ada.token, 1));
    let try_it = async |token: &str| world.client.get("/auth/me").bearer(token).send().await;
    // The forger's hand is good: what is changed is all that is wrong.
    try_it(&token(&header, &claims, Some(&TOKEN_KEY))).await.expect(200);
    for (why, token) in wrongly_signed(ada, bola).into_iter().chain(wrongly_claimed(ada, bola)) {
        let answer = try_it(&token).await;
        assert_eq!(answer.status, 401, "{why}: {}", answer.text());
        answer.problem(401, "invalid_token");
    }
    let mut old = claims.clone();
    let issued_at = claims["iat"].as_i64().unwrap() - DAY_SECONDS;
    (old["iat"], old["exp"]) = (json!(issued_at), json!(issued_at + 60));
    try_it(&token(&header, &old, Some(&TOKEN_KEY))).await.problem(401, "expired_token");
}

async fn keys_that_are_nearly_right_are_refused(world: &World, ada: &Person) {
    let key = world.key(ada, &["read"]).await;
    world.client.get("/wallet/balance").api_key(&key).send().await.expect(200);
    let last = if key.ends_with('A') { "B" } else { "A" };
    let digest = {
        use sha2::Digest as _;
        hex::encode(Sha256::digest(key.as_bytes()))
    };
    for wrong in [
        &key[..key.len() - 1],
        &format!("{}{last}", &key[..key.len() - 1]),
        &format!("{key}A"),
        &key.replace("sk_test_", "sk_live_"),
        &key.to_uppercase(),
        &key[8..],
        &key[..12],
        &digest,
        "sk_test_",
        "' or '1'='1",
        &"a".repeat(10_000),
    ] {
        let answer = world.client.get("/wallet/balance").api_key(wrong).send().await;
        assert_eq!(answer.status, 401, "{wrong}: {}", answer.text());
        answer.problem(401, "invalid_api_key");
    }
    let as_token = world.client.get("/wallet/balance").bearer(&key).send().await;
    as_token.problem(401, "invalid_token");
    let both = world.client.get("/wallet/balance").bearer(&ada.token).api_key(&key);
    both.send().await.problem(400, "ambiguous_credentials");
}

async fn amounts_are_whole_numbers_in_digits(world: &World, ada: &Person, bola: &Person) {
    let number = &bola.wallet_number;
    for (written, code) in [
        ("1e3", "invalid_amount"),
        ("5E3", "invalid_amount"),
        ("5000.0", "invalid_amount"),
        ("5000.5", "invalid_amount"),
        ("0.1", "invalid_amount"),
        ("-0", "invalid_amount"),
        ("0", "invalid_amount"),
        ("-5000", "invalid_amount"),
        ("\"5000\"", "invalid_amount"),
        ("null", "invalid_amount"),
        ("true", "invalid_amount"),
        ("[5000]", "invalid_amount"),
        ("{}", "invalid_amount"),
        ("9007199254740992", "invalid_amount"),
        ("18446744073709551617", "invalid_amount"),
        ("1e400", "invalid_amount"),
        ("05000", "malformed_request"),
        ("+5000", "malformed_request"),
        ("0x10", "malformed_request"),
        ("NaN", "malformed_request"),
        ("5_000", "malformed_request"),
        ("५०००", "malformed_request"),
        ("", "malformed_request"),
    ] {
        let transfer = format!(r#"{{"recipient_wallet_number":"{number}","amount":{written}}}"#);
        let deposit = format!(r#"{{"amount":{written}}}"#);
        for (path, body) in [("/wallet/transfer", transfer), ("/wallet/deposit", deposit)] {
            let call = world.client.post(path).bearer(&ada.token);
            let answer = call.body("application/json", body.clone()).send().await;
            assert_eq!(answer.status, 400, "{body}: {}", answer.text());
            answer.problem(400, code);
        }
    }
    let twice = format!(r#"{{"recipient_wallet_number":"{number}","amount":1,"amount":2}}"#);
    let call = world.client.post("/wallet/transfer").bearer(&ada.token);
    let answer = call.body("application/json", twice).send().await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

async fn words_of_sql_are_only_words(world: &World, ada: &Person, bola: &Person) {
    let evil = "'); drop table ledger.transfers cascade; -- \" $1 %s \\";
    let body = json!({
        "recipient_wallet_number": bola.wallet_number, "amount": 1, "note": evil,
    });
    let call = world.client.post("/wallet/transfer").bearer(&ada.token).json(&body);
    let sent: Value = call.idempotency_key("';--").send().await.ok();
    let path = format!("/wallet/transactions/{}", text(&sent, "transaction_id"));
    let found: Value = world.client.get(&path).bearer(&ada.token).send().await.ok();
    assert_eq!(found["note"], evil);
    let body = json!({ "name": evil, "permissions": ["read"], "expiry": "1H" });
    world.client.post("/keys/create").bearer(&ada.token).json(&body).send().await.expect(200);
    let list: Value = world.client.get("/keys/list").bearer(&ada.token).send().await.ok();
    assert_eq!(list["keys"][0]["name"], evil);
    let body = json!({ "recipient_wallet_number": "' or 1=1 --", "amount": 1 });
    let call = world.client.post("/wallet/transfer").bearer(&ada.token).json(&body);
    call.send().await.problem(400, "invalid_field");
    let quoted = "%27%20or%20%271%27%3D%271";
    for (path, status, code) in [
        (format!("/wallet/transactions?cursor={quoted}"), 400, "invalid_field"),
        (format!("/wallet/transactions?type={quoted}"), 400, "invalid_field"),
        (format!("/wallet/transactions?limit={quoted}"), 400, "invalid_field"),
        (format!("/wallet/transactions?from={quoted}"), 400, "invalid_field"),
        (format!("/wallet/transactions/{quoted}"), 404, "transaction_not_found"),
        (format!("/wallet/deposit/{quoted}/status"), 404, "deposit_not_found"),
        (format!("/wallet/deposit/{}/status", "a".repeat(5_000)), 404, "deposit_not_found"),
    ] {
        world.client.get(&path).bearer(&ada.token).send().await.problem(status, code);
    }
    let revoke = world.client.post(&format!("/keys/{quoted}/revoke")).bearer(&ada.token);
    revoke.send().await.problem(404, "key_not_found");
}

/// Sends a request line as it is: a client library would tidy it up.
async fn raw(world: &World, method: &str, target: &str, token: &str) -> Answer {
    let host = world.origin().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    Answer::parse(&format!("{method} {target}"), &received)
}

async fn paths_are_what_they_say(world: &World, ada: &Person) {
    raw(world, "GET", "/wallet/balance", &ada.token).await.expect(200);
    for target in [
        "/wallet/../wallet/balance",
        "/wallet/./balance",
        "/wallet//balance",
        "//wallet/balance",
        "/wallet/balance/",
        "/wallet/balance%00",
        "/wallet/balance;x=1",
        "/wallet%2fbalance",
        "/Wallet/Balance",
        "/wallet/%2e%2e/wallet/balance",
        "/wallet/paystack/webhook/..",
        "/wallet/transactions/..%2f..%2fauth%2fme",
        "/..%2f..%2fetc/passwd",
        "/docs/../../../etc/passwd",
        "/wallet/deposit/../../auth/me/status",
        "/%ff%fe",
        "/keys/%2e%2e/revoke",
    ] {
        let answer = raw(world, "GET", target, &ada.token).await;
        let status = answer.status.as_u16();
        assert!(matches!(status, 400 | 404 | 405), "{target}: {status} {}", answer.text());
        if !answer.body.is_empty() {
            let code = answer.read::<Value>()["code"].as_str().unwrap().to_owned();
            answer.problem(status, &code);
        }
    }
    for target in ["/wallet/paystack/webhook/", "/wallet/paystack//webhook", "/wallet/paystack"] {
        let answer = raw(world, "POST", target, &ada.token).await;
        assert_eq!(answer.status, 404, "{target}: {}", answer.text());
    }
}

#[tokio::test]
async fn forgeries_floats_and_tricks_are_refused() {
    let world = World::start().await;
    let ada = world.funded("ada@example.com", 50_000).await;
    let bola = world.person("bola@example.com").await;
    forged_tokens_are_refused(&world, &ada, &bola).await;
    keys_that_are_nearly_right_are_refused(&world, &ada).await;
    amounts_are_whole_numbers_in_digits(&world, &ada, &bola).await;
    words_of_sql_are_only_words(&world, &ada, &bola).await;
    paths_are_what_they_say(&world, &ada).await;
    let nobody = WalletNumber::from_random(7).to_string();
    let wrong = format!("{}{}", &nobody[..12], (nobody[12..].parse::<u8>().unwrap() + 1) % 10);
    for number in [nobody, wrong] {
        let to = Person { wallet_number: number, ..bola.clone() };
        world.transfer(&ada, &to, 1).send().await.problem(404, "wallet_not_found");
    }
    assert_eq!((world.balance(&ada).await, world.balance(&bola).await), (49_999, 1));
    // Still the platform it was: a stranger's page of history is as short as it should be.
    let history = Client::new(world.origin()).get("/wallet/transactions").bearer(&bola.token);
    assert_eq!(history.send().await.ok::<Value>()["transactions"].as_array().unwrap().len(), 1);
    world.finish().await;
}
