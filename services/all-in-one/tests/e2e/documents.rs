//! What the platform says of itself: its card, its pages, and the committed contract.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::Answer;

use crate::access::{For, TABLE};
use crate::promise::{Operation, Promise};
use crate::world::World;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/openapi.json");

#[test]
fn the_committed_contract_is_what_the_program_says() {
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    let differs = committed.trim_end() != api::rest::specification();
    assert!(!differs, "services/api/openapi.json is not what the code says: run `make openapi`");
}

#[tokio::test]
async fn the_platform_explains_itself_without_the_rest_of_the_world() {
    let world = World::start().await;
    let card: Value = world.client.get("/").send().await.ok();
    assert_eq!(card["name"], "Fast Wallet");
    assert_eq!(card["version"], env!("CARGO_PKG_VERSION"));
    for page in ["docs", "redoc"] {
        assert_eq!(card[page], format!("/{page}"));
        let answer = world.client.get(&format!("/{page}")).send().await;
        answer.expect(200);
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        insist_on_loading_nothing(page, &answer);
        for operation in Promise::of(&world.client).await.operations() {
            let id = operation.says["operationId"].to_string();
            assert!(answer.text().contains(&id), "{page} does not show {id}");
        }
    }

    assert_eq!(card["openapi"], "/openapi.json");
    let mut served = Promise::of(&world.client).await.document().clone();
    let servers = served.as_object_mut().unwrap().remove("servers").unwrap();
    assert_eq!(servers[0]["url"], world.origin());
    let mut committed: Value = serde_json::from_str(&api::rest::specification()).unwrap();
    committed.as_object_mut().unwrap().remove("servers");
    assert_eq!(served, committed);
    world.finish().await;
}

/// No tag and no style of the page names another host, and its policy would let none through.
fn insist_on_loading_nothing(page: &str, answer: &Answer) {
    let policy = answer.header("content-security-policy");
    let directives: Vec<&str> = policy.split(';').map(str::trim).collect();
    assert!(directives.contains(&"default-src 'none'"), "{page}: {policy}");
    let own = ["'none'", "'self'", "'unsafe-inline'", "data:", "blob:"];
    for source in directives.iter().flat_map(|it| it.split_ascii_whitespace().skip(1)) {
        assert!(own.contains(&source), "{page} may load from {source}: {policy}");
    }
    assert_eq!(foreign(&answer.text()), None, "{page} refers to another host");
}

/// The first thing in a page that its browser would fetch from elsewhere.
fn foreign(html: &str) -> Option<String> {
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>')?;
        rest = after;
        let values = ["=\"http:", "=\"https:", "=\"//", "='http", "='//", "=http", "=//"];
        if values.iter().any(|it| tag.contains(it)) {
            return Some(tag.to_owned());
        }
        // What stands in a script is looked after by the page's policy.
        for whole in ["script", "style"].into_iter().filter(|it| tag.starts_with(it)) {
            let (content, after) = rest.split_once(&format!("</{whole}"))?;
            rest = after;
            if whole == "style" && !is_own_style(content) {
                return Some(content.to_owned());
            }
        }
    }
    None
}

fn is_own_style(style: &str) -> bool {
    let is_own = |it: &str| it.trim_start_matches(['"', '\'', ' ']).starts_with("data:");
    !style.contains("@import") && style.split("url(").skip(1).all(is_own)
}

#[test]
fn what_a_browser_would_fetch_is_noticed() {
    for own in ["<p>https://x.example</p>", "<a href='/docs'>", "<style>a{b:url(data:x)}</style>"] {
        assert_eq!(foreign(own), None, "{own}");
    }
    for wrong in [
        "<link href=\"https://fonts.example/css\" rel=\"stylesheet\">",
        "<p></p><script src=//cdn.example/x.js></script>",
        "<script>1</script><img src='http://x.example/y.png'>",
        "<style>@import 'x.css'</style>",
        "<style>a{b:url(\"x.woff\")}</style>",
    ] {
        assert!(foreign(wrong).is_some(), "{wrong}");
    }
}

#[tokio::test]
async fn every_operation_is_explained_in_full() {
    let world = World::start().await;
    let promise = Promise::of(&world.client).await;
    let tags: BTreeSet<&str> = promise.document()["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let mut ids = BTreeSet::new();
    for operation in promise.operations() {
        let name = operation.name();
        let says = operation.says;
        let summary = says["summary"].as_str().unwrap_or_default();
        assert!((5..60).contains(&summary.len()) && !summary.ends_with('.'), "{name}: {summary:?}");
        let id = says["operationId"].as_str().unwrap_or_default();
        assert!(is_snake_case(id), "{name}: the operationId {id:?} is not in snake_case");
        assert!(ids.insert(id), "{name}: the operationId {id} is taken");
        let named = says["tags"].as_array().unwrap();
        assert!(named.len() == 1 && tags.contains(named[0].as_str().unwrap()), "{name}: {named:?}");
        assert!(has_example(&promise, operation), "{name} has no example");
        insist_on_security(&operation);
        insist_on_problems(&operation);
        for parameter in says["parameters"].as_array().into_iter().flatten() {
            let described = parameter["description"].as_str().is_some_and(|it| !it.is_empty());
            assert!(described, "{name}: {parameter}");
        }
    }
    insist_on_descriptions(promise.document());
    world.finish().await;
}

fn is_snake_case(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
}

/// Of what is sent, or of what comes back when all goes well.
fn has_example(promise: &Promise, operation: Operation<'_>) -> bool {
    let says = operation.says;
    let of_parameter = says["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|it| it["in"] != "header" && !it["schema"]["example"].is_null());
    let of_body = promise.body(operation).is_some_and(|it| !it["example"].is_null());
    let of_answer = says["responses"]["200"]["content"]
        .as_object()
        .into_iter()
        .flatten()
        .any(|(_, content)| !promise.plain(&content["schema"])["example"].is_null());
    of_parameter || of_body || of_answer
}

/// As `access.rs` has found it to be.
fn insist_on_security(operation: &Operation<'_>) {
    let name = operation.name();
    let (_, who, _) = TABLE.iter().find(|(it, ..)| *it == name).unwrap();
    let expected: &[&str] = match who {
        For::Everybody(..) | For::Comers(..) => &[],
        For::People => &["AccessToken"],
        For::Callers(_) => &["AccessToken", "ApiKey"],
    };
    let schemes = operation.says["security"].as_array().into_iter().flatten();
    let schemes: Vec<_> = schemes.flat_map(|it| it.as_object().unwrap().keys()).collect();
    assert_eq!(schemes, expected, "{name}");
}

/// Each error status has the one body, its codes and an example.
fn insist_on_problems(operation: &Operation<'_>) {
    let name = operation.name();
    let responses = operation.says["responses"].as_object().unwrap();
    let has = |status: &str| responses.contains_key(status);
    assert!(has("500"), "{name}");
    assert_eq!(has("413"), !operation.says["requestBody"].is_null(), "{name}");
    assert_eq!(has("403"), !matches!(name.as_str(), "GET /" | "POST /wallet/paystack/webhook"));
    for (status, says) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
        let schema = &says["content"]["application/problem+json"]["schema"];
        let codes = schema["allOf"][1]["properties"]["code"]["enum"].as_array();
        let codes = codes.unwrap_or_else(|| panic!("{name} {status}: {says}"));
        let example = &schema["example"];
        assert!(codes.contains(&example["code"]), "{name} {status}: {example}");
        assert_eq!(example["status"].to_string(), *status, "{name}");
        let may_wait = matches!(status.as_str(), "429" | "502" | "503" | "504");
        assert_eq!(says["headers"]["Retry-After"].is_object(), may_wait, "{name} {status}");
    }
}

/// Every schema and every member of it says what it is.
fn insist_on_descriptions(document: &Value) {
    let described = |it: &Value| it["description"].as_str().is_some_and(|it| !it.is_empty());
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(described(schema), "the schema {name} has no description");
        for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(described(schema), "{name}.{member} has no description");
        }
    }
}
