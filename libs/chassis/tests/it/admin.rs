//! The admin pages, over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chassis::{Context, admin};
use serde_json::{Value, json};
use testkit::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Pages {
    client: Client,
    members: admin::Members,
    draining: CancellationToken,
}

async fn pages() -> Pages {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
    let (members, draining) = (admin::Members::default(), CancellationToken::new());
    let serving =
        admin::serve(listener, members.clone(), draining.clone(), CancellationToken::new());
    testkit::spawn(serving);
    Pages { client, members, draining }
}

impl Pages {
    async fn check(&self, status: u16, ready: bool, failing: &[&str]) {
        let answer = self.client.get("/readyz").send().await;
        let body: Value = answer.expect(status).read();
        assert_eq!(body["ready"], ready, "{body}");
        let checks = body["checks"].as_array().unwrap();
        let bad: Vec<&str> = checks
            .iter()
            .filter(|c| c["ok"] == json!(false))
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(bad, failing, "{body}");
    }
}

#[tokio::test]
async fn ready_means_that_every_named_check_of_every_service_answers() {
    let nats = testkit::nats().await;
    let pages = pages().await;
    pages.check(503, false, &[]).await;

    let (one, two) = (testkit::context(&nats).await, testkit::context(&nats).await);
    pages.members.add("one", one.clone());
    pages.members.add("two", two.clone());
    pages.check(503, false, &["one.started", "two.started"]).await;

    let good = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&good);
    one.ready_when("books", move || {
        let good = seen.load(Ordering::SeqCst);
        async move { if good { Ok(()) } else { Err("they do not balance".to_owned()) } }
    });
    two.ready_when("always", || async { Ok(()) });
    pages.check(503, false, &["one.books"]).await;
    let body: Value = pages.client.get("/readyz").send().await.read();
    assert!(body["checks"].as_array().unwrap().contains(&json!({
        "name": "one.books", "ok": false, "reason": "they do not balance"
    })));

    good.store(true, Ordering::SeqCst);
    pages.check(200, true, &[]).await;

    pages.draining.cancel();
    pages.check(503, false, &[]).await;
    let body: Value = pages.client.get("/readyz").send().await.read();
    assert_eq!(body["draining"], true);
    pages.client.get("/livez").send().await.expect(200);
}

#[tokio::test]
async fn a_check_that_hangs_is_a_check_that_fails() {
    let nats = testkit::nats().await;
    let pages = pages().await;
    let context = testkit::context(&nats).await;
    context.ready_when("hangs", std::future::pending);
    pages.members.add("one", context);
    pages.check(503, false, &["one.hangs"]).await;
}

#[tokio::test]
async fn a_process_without_one_of_its_loops_is_not_alive() {
    let nats = testkit::nats().await;
    let pages = pages().await;
    let context: Context = testkit::context(&nats).await;
    pages.members.add("ledger", context.clone());
    pages.client.get("/livez").send().await.expect(200);
    context.spawn("post", async { anyhow::bail!("lost its place") });
    tokio::time::timeout(Duration::from_secs(10), context.failed()).await.unwrap();
    let answer = pages.client.get("/livez").send().await;
    assert_eq!(answer.expect(503).text(), "ledger: post failed: lost its place\n");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let pages = pages().await;
    let answer = pages.client.get("/metrics").send().await;
    assert!(answer.expect(200).header("content-type").starts_with("text/plain; version=0.0.4"));
}
