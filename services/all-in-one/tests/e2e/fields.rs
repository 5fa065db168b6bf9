//! What callers may write: every field of every body, every query parameter, every
//! `Idempotency-Key`, each in every wrong way.
//!
//! Bodies, fields and their kinds are taken from the specification of the running platform, so a
//! new field is tried without anybody remembering to. The specification's own examples must be good.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Answer, Call};

use crate::promise::Promise;
use crate::world::{Person, World};

/// Read by another service, which stores what is signed and answers nothing else (`problems.rs`).
const WEBHOOK: &str = "POST /wallet/paystack/webhook";

/// What is no amount, as it stands in the body.
const NO_AMOUNTS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1.0",
    "0.5",
    "1e3",
    "1E3",
    "1e400",
    "9007199254740992",
    "18446744073709551616",
    "\"5\"",
    "\"\"",
    "true",
    "[]",
    "[5000]",
    "{}",
];

/// What the kind of a field does not tell: operation, field, what is wrong.
const WRONG_TEXTS: &[(&str, &str, &[&str])] = &[
    (
        "POST /wallet/transfer",
        "recipient_wallet_number",
        &[
            "\"453957876362\"",
            "\"45395787636220\"",
            "\" 4539578763622\"",
            "\"+539578763622\"",
            "\"४५३९५७८७६३६२२\"",
        ],
    ),
    ("POST /wallet/transfer", "note", &[r#""a\u0000b""#, r#""a\nb""#, r#""\ud800""#]),
    (
        "POST /keys/create",
        "name",
        &["\"\"", "\"   \"", r#""a\u0000b""#, r#""a\u007fb""#, r#""\ud800""#],
    ),
    (
        "POST /keys/create",
        "expiry",
        &["\"0H\"", "\"-1D\"", "\"7D\"", "\"1h\"", "\"9999Y\"", "\"\"", "\"1H \""],
    ),
    ("POST /keys/rollover", "expiry", &["\"0H\"", "\"1m\"", "\"\""]),
    ("POST /keys/create", "permissions", &[r#"["read","READ"]"#, r#"["admin"]"#, r#"["read",""]"#]),
    ("POST /auth/refresh", "refresh_token", &["\"\""]),
    ("POST /auth/logout", "refresh_token", &["\"\""]),
    (
        "POST /wallet/deposit",
        "callback_url",
        &[
            "\"\"",
            "\"/paid\"",
            "\"http://shop.example.com/\"",
            "\"javascript:alert(1)\"",
            "\"https://user:password@shop.example.com/\"",
            r#""https://shop.example.com/\u0000""#,
        ],
    ),
];

/// Operation, parameter, what is wrong with it as it stands in the query.
const WRONG_QUERIES: &[(&str, &str, &[&str])] = &[
    (
        "GET /wallet/transactions",
        "limit",
        &[
            "0",
            "-1",
            "101",
            "1.0",
            "1e1",
            "%2B5",
            "%205",
            "",
            "ten",
            "99999999999999999999",
            "0x10",
            "5&limit=5",
        ],
    ),
    (
        "GET /wallet/transactions",
        "cursor",
        &["", "1", "abc", "AAAAAAAAAAAAAAAAAA", "%00", "../../etc", "a&cursor=b"],
    ),
    (
        "GET /wallet/transactions",
        "type",
        &["", "transfer", "Deposit", "deposit,transfer_in", "deposit%00", "deposit&type=deposit"],
    ),
    ("GET /wallet/balance", "at", WRONG_MOMENTS),
    ("GET /wallet/balance", "at", &["2999-01-01T00:00:00Z", "2026-01-15T09:15:02Z&at=x"]),
    ("GET /wallet/transactions", "from", WRONG_MOMENTS),
    ("GET /wallet/transactions", "to", WRONG_MOMENTS),
    ("GET /auth/google", "return_to", &["", "/", "https://evil.example", "javascript:alert(1)"]),
    ("GET /auth/google", "login_hint", &[LONG_HINT]),
];
const WRONG_MOMENTS: &[&str] = &[
    "",
    "yesterday",
    "2026-01-15",
    "2026-13-01T00:00:00Z",
    "2026-01-15T25:00:00Z",
    "2026-01-15T09:15:02",
    "1768468502",
    "99999-01-01T00:00:00Z",
];
/// 321 bytes.
const LONG_HINT: &str = concat!(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a"
);
/// What the provider writes, not a caller: `sessions.rs` has it.
const FROM_PROVIDER: &str = "GET /auth/google/callback";

struct Stage {
    world: World,
    promise: Promise,
    ada: Person,
}

impl Stage {
    async fn set() -> Self {
        let world = World::start().await;
        let promise = Promise::of(&world.client).await;
        let ada = world.funded("ada@example.com", 1_000_000).await;
        Self { world, promise, ada }
    }

    fn call(&self, name: &str) -> Call {
        let (method, path) = name.split_once(' ').unwrap();
        let call = self.world.client.call(method.parse().unwrap(), path);
        if path.starts_with("/auth/") { call } else { call.bearer(&self.ada.token) }
    }

    /// Sends a body that is nearly the example; as text, because JSON values cannot say `1e400`.
    async fn send(&self, name: &str, fields: &[(String, String)]) -> Answer {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}: {value}", json!(name))).collect();
        let body = format!("{{{}}}", fields.join(", "));
        self.call(name).body("application/json", body).send().await
    }

    /// What may not change.
    async fn state(&self) -> Value {
        let mut seen: Vec<Value> = Vec::new();
        for path in ["/wallet/balance", "/wallet/transactions", "/keys/list"] {
            seen.push(self.world.client.get(path).bearer(&self.ada.token).send().await.ok());
        }
        json!({ "seen": seen, "checkouts": self.world.sandbox.transactions().len() })
    }

    /// Insists that the request was refused because of this field.
    fn refused(&self, name: &str, field: &str, code: &str, what: &str, answer: &Answer) {
        let shown = format!("{name}: {field} = {what:.100}: {}", answer.text());
        assert_eq!(answer.status.as_u16(), 400, "{shown}");
        let problem = answer.problem(400, code);
        let mut named = problem["errors"].as_array().into_iter().flatten();
        let of_item = format!("{field}[");
        let is_named = |it: &Value| {
            it["field"] == field || it["field"].as_str().is_some_and(|it| it.starts_with(&of_item))
        };
        assert!(named.any(is_named), "the field is not named: {shown}");
        self.promise.insist_on(name, answer);
    }
}

/// The fields of an example, as JSON text.
fn written(example: &Value) -> Vec<(String, String)> {
    let fields = example.as_object().unwrap().iter();
    fields.map(|(name, value)| (name.clone(), value.to_string())).collect()
}

/// The same with one field written otherwise, or left out.
fn with(example: &[(String, String)], field: &str, value: Option<&str>) -> Vec<(String, String)> {
    let others = example.iter().filter(|(name, _)| name != field).cloned();
    others.chain(value.map(|it| (field.to_owned(), it.to_owned()))).collect()
}

/// What a field of this kind cannot be, whatever it is for.
fn wrong(promise: &Promise, schema: &Value) -> Vec<String> {
    let schema = promise.plain(schema);
    let mut wrong: Vec<String> = Vec::new();
    let mut add = |texts: &[&str]| wrong.extend(texts.iter().map(|it| (*it).to_owned()));
    match schema["type"].as_str().unwrap() {
        "integer" => add(NO_AMOUNTS),
        "string" => add(&["5", "1.5", "true", "[]", "{}", "[\"a\"]"]),
        "boolean" => add(&["0", "1", "\"true\"", "\"\"", "[]", "[true]", "{}"]),
        "array" => add(&["5", "\"read\"", "{}", "[]", "[1]", "[null]", "[\"nonsense\"]", "[[]]"]),
        other => panic!("this test does not know how {other} can be wrong"),
    }
    if !schema["enum"].is_null() || !schema["pattern"].is_null() {
        add(&["\"\"", "\"nonsense\""]);
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        wrong.push(format!("\"{}\"", "a".repeat(usize::try_from(most).unwrap() + 1)));
    }
    if schema["uniqueItems"] == true {
        let one = promise.plain(&schema["items"])["enum"][0].to_string();
        wrong.push(format!("[{one}, {one}]"));
    }
    wrong
}

#[tokio::test]
async fn every_field_of_every_body_is_read_exactly() {
    let stage = Stage::set().await;
    let before = stage.state().await;
    let mut n_bodies = 0;
    for operation in stage.promise.operations() {
        let name = operation.name();
        let Some(schema) = stage.promise.body(operation).filter(|_| name != WEBHOOK) else {
            continue;
        };
        n_bodies += 1;
        let example = written(&schema["example"]);
        let required: BTreeSet<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (field, kind) in schema["properties"].as_object().unwrap() {
            let code = match stage.promise.plain(kind)["type"].as_str() {
                Some("integer") => "invalid_amount",
                _ => "invalid_field",
            };
            let mut wrong: Vec<Option<String>> =
                wrong(&stage.promise, kind).into_iter().map(Some).collect();
            if required.contains(field.as_str()) {
                wrong.extend([None, Some("null".to_owned())]);
            }
            let texts = WRONG_TEXTS.iter().filter(|(it, of, _)| *it == name && of == field);
            wrong.extend(texts.flat_map(|(.., texts)| *texts).map(|it| Some((*it).to_owned())));
            for value in wrong {
                let value = value.as_deref();
                let answer = stage.send(&name, &with(&example, field, value)).await;
                stage.refused(&name, field, code, value.unwrap_or("(missing)"), &answer);
            }
        }
        let answer = stage.send(&name, &with(&example, "surplus", Some("1"))).await;
        stage.refused(&name, "surplus", "invalid_field", "1", &answer);
        insist_on_an_object(&stage, &name, &example).await;
        insist_on_naming_all(&stage, &name, &required).await;
    }
    assert!(n_bodies >= 8, "only {n_bodies} operations take a body");
    assert_eq!(stage.state().await, before, "what was refused changed something");
    stage.world.finish().await;
}

/// What is no JSON object, or one with a field twice.
async fn insist_on_an_object(stage: &Stage, name: &str, example: &[(String, String)]) {
    for body in
        ["", "null", "[]", "5", "\"\"", "{", "{}{}", "{'a': 1}", "\u{feff}{}", "{\"a\": NaN}"]
    {
        let answer = stage.call(name).body("application/json", body).send().await;
        answer.problem(400, "malformed_request");
        stage.promise.insist_on(name, &answer);
    }
    let twice: Vec<_> = example.iter().chain(example.first()).cloned().collect();
    stage.send(name, &twice).await.problem(400, "malformed_request");
    for content_type in ["text/plain", "application/xml", "application/jsonp", ""] {
        let answer = stage.call(name).body(content_type, "{}").send().await;
        answer.problem(415, "unsupported_media_type");
        stage.promise.insist_on(name, &answer);
    }
}

/// Whoever sends nothing is told everything that is missing, at once.
async fn insist_on_naming_all(stage: &Stage, name: &str, required: &BTreeSet<&str>) {
    let answer = stage.send(name, &[]).await;
    if !required.is_empty() {
        let problem: Value = answer.read();
        let named: BTreeSet<&str> = problem["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("{name}: {problem}"))
            .iter()
            .filter_map(|it| it["field"].as_str())
            .collect();
        assert_eq!(named, *required, "{name}: {problem}");
    }
}

#[tokio::test]
async fn the_examples_of_the_specification_are_good_and_null_is_as_good_as_absent() {
    let stage = Stage::set().await;
    for operation in stage.promise.operations() {
        let name = operation.name();
        let Some(schema) = stage.promise.body(operation).filter(|_| name != WEBHOOK) else {
            continue;
        };
        let example = written(&schema["example"]);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let optional = schema["properties"].as_object().unwrap().keys();
        let optional = optional.filter(|it| !required.contains(&json!(it)));
        let mut good = vec![example.clone()];
        for field in optional {
            good.push(with(&example, field, Some("null")));
            good.push(with(&example, field, None));
        }
        for fields in good {
            let answer = stage.send(&name, &fields).await;
            stage.promise.insist_on(&name, &answer);
            let code = answer.read::<Value>()["code"].clone();
            let is_read = code.is_null()
                || ["invalid_state", "invalid_token", "wallet_not_found", "key_not_found"]
                    .iter()
                    .any(|it| code == *it);
            assert!(is_read, "{name} {fields:?}: {}", answer.text());
        }
    }
    stage.world.finish().await;
}

#[tokio::test]
async fn every_query_parameter_is_read_exactly() {
    let stage = Stage::set().await;
    let mut tried = BTreeSet::new();
    for (name, parameter, values) in WRONG_QUERIES {
        tried.insert((name.to_string(), parameter.to_string()));
        for value in *values {
            let answer = stage.call(&format!("{name}?{parameter}={value}")).send().await;
            stage.refused(name, parameter, "invalid_field", value, &answer);
        }
    }
    for operation in stage.promise.operations().into_iter().filter(|it| it.name() != FROM_PROVIDER)
    {
        for parameter in operation.says["parameters"].as_array().into_iter().flatten() {
            let pair = (operation.name(), parameter["name"].as_str().unwrap().to_owned());
            assert!(parameter["in"] != "query" || tried.contains(&pair), "add a row for {pair:?}");
        }
    }
    for (query, n_found) in [
        ("limit=1", 1),
        ("limit=100", 1),
        ("type=deposit", 1),
        ("type=transfer_in", 0),
        ("type=transfer_out", 0),
        ("from=2026-01-15T09:15:02Z&to=2026-01-15T09:15:02.123456Z", 0),
        ("from=2020-01-15T09:15:02.5%2B01:00", 1),
        ("to=2020-01-15T09:15:02Z", 0),
        ("from=2099-01-01T00:00:00Z&to=2020-01-01T00:00:00Z", 0),
    ] {
        let answer = stage.call(&format!("GET /wallet/transactions?{query}")).send().await;
        let page: Value = answer.ok();
        assert_eq!(page["transactions"].as_array().map(Vec::len), Some(n_found), "{query}: {page}");
        stage.promise.insist_on("GET /wallet/transactions", &answer);
    }
    stage.world.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_is_one_header_of_visible_characters() {
    let stage = Stage::set().await;
    let before = stage.state().await;
    let mut n_operations = 0;
    let longest = "k".repeat(255);
    for operation in stage.promise.operations() {
        let name = operation.name();
        let parameters = operation.says["parameters"].as_array().cloned().unwrap_or_default();
        if !parameters.iter().any(|it| it["name"] == "Idempotency-Key") {
            let creates = ["/wallet/deposit", "/wallet/transfer", "/keys/create", "/keys/rollover"];
            let creates = creates.iter().any(|it| operation.path.starts_with(it));
            assert!(!creates || operation.method == "get", "{name} takes no Idempotency-Key");
            continue;
        }
        n_operations += 1;
        let example = &stage.promise.body(operation).unwrap()["example"];
        let call = || stage.call(&name).json(example);
        for wrong in ["", "a b", "a\tb", &"k".repeat(256)] {
            let answer = call().idempotency_key(wrong).send().await;
            stage.refused(&name, "Idempotency-Key", "invalid_field", wrong, &answer);
        }
        let answer = call().idempotency_key("a").idempotency_key("a").send().await;
        stage.refused(&name, "Idempotency-Key", "invalid_field", "twice", &answer);
    }
    assert!(n_operations >= 5, "only {n_operations} operations take an Idempotency-Key");
    assert_eq!(stage.state().await, before, "what was refused changed something");

    let bola = stage.world.person("bola@example.com").await;
    for good in ["k", "!~\"\\/", &longest] {
        let send = || stage.world.transfer(&stage.ada, &bola, 1_000).idempotency_key(good);
        let (first, second) = (send().send().await, send().send().await);
        let (told, again): (Value, Value) = (first.ok(), second.ok());
        assert_eq!(told, again);
        let replayed = [&first, &second].map(|it| it.header("idempotency-replayed").to_owned());
        assert_eq!(replayed, ["", "true"], "{good}");
    }
    assert_eq!(stage.world.balance(&stage.ada).await, 1_000_000 - 3 * 1_000);
    // A key belongs to its wallet: what Ada called "k" says nothing about Bola's.
    let back = stage.world.transfer(&bola, &stage.ada, 1_000).idempotency_key("k").send().await;
    assert_eq!(back.expect(200).header("idempotency-replayed"), "");
    stage.world.finish().await;
}
