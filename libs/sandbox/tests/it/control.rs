//! The knobs at `/control`, and the `sandbox serve` program.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use sandbox::{Config, Sandbox};
use serde_json::{Value, json};

use crate::{KEY, browser, json, start};

async fn post(base: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{base}/control/{path}");
    json(browser().post(url).json(&body).send().await.unwrap()).await
}

async fn get(base: &str, path: &str) -> Value {
    let answer = browser().get(format!("{base}/control/{path}")).send().await.unwrap();
    json(answer).await.1
}

fn base(sandbox: &Sandbox) -> String {
    sandbox.paystack_base_url().replace("/paystack", "")
}

async fn initialize(base: &str, reference: &str) -> (u16, Value) {
    let body = json!({ "email": "a@example.com", "amount": 5_000, "reference": reference });
    let url = format!("{base}/paystack/transaction/initialize");
    json(browser().post(url).bearer_auth(KEY).json(&body).send().await.unwrap()).await
}

#[tokio::test]
async fn faults_are_set_seen_and_cleared() {
    let sandbox = start(Config::default()).await;
    let base = base(&sandbox);
    let two = json!([
        { "fault": "initialize_error", "count": 2 },
        { "fault": "webhook_lost", "probability": 0.5 },
    ]);
    let (status, body) = post(&base, "faults", two).await;
    assert_eq!((status, body["faults"].as_array().unwrap().len()), (200, 2));
    assert_eq!(initialize(&base, "dep-1").await.0, 500);
    assert_eq!(get(&base, "faults").await["faults"][0]["count"], 1);
    let url = format!("{base}/control/faults");
    let answer = browser().delete(url).header("content-type", "application/json").send().await;
    assert_eq!(json(answer.unwrap()).await.1, json!({ "faults": [] }));
    assert_eq!(initialize(&base, "dep-1").await.0, 200);
    for bad in [
        json!({ "fault": "earthquake" }),
        json!({ "fault": "webhook_lost", "probability": 2 }),
        json!({ "fault": "webhook_lost", "often": 2 }),
        json!(7),
    ] {
        assert_eq!(post(&base, "faults", bad.clone()).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_web_page_cannot_turn_the_knobs() {
    let sandbox = start(Config::default()).await;
    let url = format!("{}/control/reset", base(&sandbox));
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let answer = browser().post(&url).header("content-type", kind).body("{}").send().await;
        assert_eq!(answer.unwrap().status(), 415, "{kind}");
    }
    let answer = browser().request(reqwest::Method::OPTIONS, &url).send().await.unwrap();
    assert_eq!(answer.status(), 415);
    assert!(answer.headers().get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn what_happened_is_shown_and_forgotten() {
    let sandbox = start(Config::default()).await;
    let base = base(&sandbox);
    let (_, made) = initialize(&base, "dep-1").await;
    let checkout = made["data"]["authorization_url"].as_str().unwrap().to_owned();
    browser().post(checkout).form(&[("outcome", "success")]).send().await.unwrap();
    let shown = get(&base, "transactions").await;
    assert_eq!(shown["collected"], json!({ "NGN": 5_000 }));
    assert_eq!(shown["transactions"][0]["reference"], "dep-1");
    assert_eq!(get(&base, "webhooks").await["webhooks"][0]["delivered"], false);
    let named = json!({ "reference": "dep-1" });
    assert_eq!(post(&base, "webhooks/resend", named.clone()).await.0, 200);
    assert_eq!(post(&base, "webhooks/resend", json!({ "reference": "x" })).await.0, 404);
    assert_eq!(post(&base, "transactions/reverse", named).await.0, 200);
    assert_eq!(get(&base, "transactions").await["transactions"][0]["status"], "reversed");
    let (status, now) = post(&base, "clock", json!({ "advance_seconds": 86_400 })).await;
    assert_eq!(status, 200);
    let now = primitives::Timestamp::parse(now["now"].as_str().unwrap()).unwrap();
    assert!(now.since(primitives::Timestamp::now()).as_secs() > 86_000);
    assert_eq!(initialize(&base, "dep-1").await.0, 400);
    assert_eq!(post(&base, "reset", json!({})).await.0, 200);
    assert_eq!(get(&base, "transactions").await["transactions"], json!([]));
    assert_eq!(initialize(&base, "dep-1").await.0, 200);
    assert_eq!(post(&base, "nothing", json!({})).await.0, 404);
}

#[test]
fn the_program_serves_until_it_is_told_to_stop() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.args(["serve", "--port", "0", "--secret-key", KEY]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let paystack = lines.next().unwrap().unwrap();
    let google = lines.next().unwrap().unwrap();
    let paystack = paystack.strip_prefix("PAYSTACK_BASE_URL=").unwrap().to_owned();
    let google = google.strip_prefix("GOOGLE_ISSUER=").unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("{google}/.well-known/openid-configuration");
        let (_, discovered) = json(browser().get(url).send().await.unwrap()).await;
        assert_eq!(discovered["issuer"], google);
        let url = format!("{paystack}/transaction");
        assert_eq!(browser().get(url).bearer_auth(KEY).send().await.unwrap().status(), 200);
    });
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}
