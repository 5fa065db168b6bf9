//! What became of webhooks, asked over HTTP as a merchant would, and sending them again.

use std::time::Duration;

use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::{Attempt, Outcome};
use sandbox::{Config, Sandbox};
use serde_json::{Value, json};

use crate::claims::{call, opened, send};
use crate::eventually;
use crate::receiver::Receiver;
use crate::start;

/// Three payments: the first webhook arrives, the second is lost, the third is late.
async fn three() -> (Sandbox, Receiver) {
    let receiver = Receiver::start(&[]).await;
    let webhook_url = Some(receiver.url.clone());
    let sandbox = start(Config { webhook_url, ..Config::default() }).await;
    for (reference, fault) in [
        ("dep-1", None),
        ("dep-2", Some(Plan::next(Fault::WebhookLost, 1))),
        ("dep-3", Some(Plan::next(Fault::WebhookLate, 1).delayed(3_600_000))),
    ] {
        opened(&sandbox, reference).await;
        if let Some(plan) = fault {
            sandbox.inject(plan);
        }
        sandbox.pay(reference, Attempt::new(Outcome::Success)).unwrap();
    }
    eventually("the first is delivered", || {
        let first = sandbox.webhooks().remove(0);
        if first.delivered { Ok(()) } else { Err(format!("{first:?}")) }
    })
    .await;
    (sandbox, receiver)
}

async fn events(sandbox: &Sandbox, query: &str) -> (u16, Value) {
    let path = format!("/integration/webhooks/events{query}");
    call(sandbox, "GET", &path, json!(null)).await
}

/// The references of a list of events.
fn about(body: &Value) -> Vec<&str> {
    let data = body["data"].as_array().unwrap().iter();
    data.map(|it| it["event_payload"]["data"]["reference"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_webhook_is_there_with_what_became_of_it() {
    let (sandbox, receiver) = three().await;
    let (status, all) = events(&sandbox, "").await;
    assert_eq!((status, about(&all)), (200, vec!["dep-3", "dep-2", "dep-1"]));
    for (n, status, detail, code, tries) in [
        (0, "Pending", "No response from merchant", json!(null), 0),
        (1, "Failed", "Webhook was never sent", json!(null), 0),
        (2, "Delivered", "Webhook delivered", json!(200), 1),
    ] {
        let event = &all["data"][n];
        assert_eq!((&event["status"], &event["status_detail"]), (&json!(status), &json!(detail)));
        assert_eq!((&event["response_code"], &event["trial_count"]), (&code, &json!(tries)));
        assert_eq!(event["event_name"], "charge.success");
        assert_eq!(event["category"], "transactions");
        assert_eq!(event["webhook_url"], receiver.url);
        assert_eq!(event["category_row_id"], event["event_payload"]["data"]["id"]);
        assert_eq!(event["_id"].as_str().unwrap().len(), 24);
    }
    let row = all["data"][1]["category_row_id"].to_string();
    for (query, found) in [
        ("?status=Failed".to_owned(), vec!["dep-2"]),
        ("?status=Delivered&event_type=charge.success".to_owned(), vec!["dep-1"]),
        ("?event_type=refund.pending".to_owned(), vec![]),
        ("?category=disputes".to_owned(), vec![]),
        ("?category=transactions&limit=1".to_owned(), vec!["dep-3"]),
        (format!("?category_row_id={row}"), vec!["dep-2"]),
        ("?from=2100-01-01".to_owned(), vec![]),
    ] {
        assert_eq!(about(&events(&sandbox, &query).await.1), found, "{query}");
    }
    let (_, first) = events(&sandbox, "?limit=2").await;
    let next = first["meta"]["next"].as_str().unwrap();
    let (_, rest) = events(&sandbox, &format!("?limit=2&next={next}")).await;
    assert_eq!((about(&first), about(&rest)), (vec!["dep-3", "dep-2"], vec!["dep-1"]));
    let id = all["data"][0]["_id"].as_str().unwrap();
    assert_eq!(events(&sandbox, &format!("/{id}")).await.1["data"], all["data"][0]);
    for wanted in [id.to_owned(), all["data"][0]["category_row_id"].to_string()] {
        let (_, found) = events(&sandbox, &format!("/lookup?reference={wanted}")).await;
        assert_eq!(found["data"], all["data"][0]);
    }
    assert_eq!(events(&sandbox, "/lookup?reference=dep-1").await.0, 404);
    assert_eq!(events(&sandbox, "/nobodys").await.0, 404);
    assert_eq!(events(&sandbox, "/lookup").await.0, 400);
}

#[tokio::test]
async fn a_lost_webhook_can_be_sent_again_as_often_as_asked() {
    let (sandbox, receiver) = three().await;
    let (_, lost) = events(&sandbox, "?status=Failed").await;
    let id = lost["data"][0]["_id"].clone();
    let path = "/integration/webhooks/events/resend";
    for n in 2..=3 {
        let body = json!({ "ids": [id, "nobodys"] });
        let (status, answer) = call(&sandbox, "POST", path, body).await;
        let data = json!({ "count": 1, "failed": 1, "failed_ids": ["nobodys"] });
        assert_eq!((status, &answer["message"]), (202, &json!("Resend accepted")));
        assert_eq!(answer["data"], data);
        let arrived = receiver.wait_for(n).await;
        assert_eq!(arrived[n - 1].json()["data"]["reference"], "dep-2");
    }
    eventually("it is delivered", || {
        let record = sandbox.webhooks().remove(1);
        if record.delivered && record.tries == 2 { Ok(()) } else { Err(format!("{record:?}")) }
    })
    .await;
    assert_eq!(about(&events(&sandbox, "?status=Failed").await.1), [""; 0]);
    for bad in [json!({}), json!({ "ids": [] }), json!({ "ids": vec!["x"; 101] }), json!(7)] {
        assert_eq!(call(&sandbox, "POST", path, bad.clone()).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn all_that_match_are_sent_again_unless_it_is_a_preview() {
    let (sandbox, receiver) = three().await;
    let path = "/integration/webhooks/events/resend-matching";
    let filters = json!({ "filters": { "event_type": "charge.success", "status": "Failed" } });
    let preview = format!("{path}?preview=true");
    let (status, answer) = call(&sandbox, "POST", &preview, filters.clone()).await;
    assert_eq!((status, &answer["data"]), (200, &json!({ "count": 1 })));
    let (status, answer) = call(&sandbox, "POST", path, filters).await;
    assert_eq!((status, &answer["data"]["count"]), (202, &json!(1)));
    let arrived = receiver.wait_for(2).await;
    assert_eq!(arrived[1].json()["data"]["reference"], "dep-2");
    assert_eq!(call(&sandbox, "POST", path, json!({})).await.0, 400);
    // Only what is late is left to come.
    sandbox.advance_clock(Duration::from_secs(3_600));
    receiver.wait_for(3).await;
    eventually("nothing is under way", || {
        let left = sandbox.webhooks().into_iter().filter(|it| !it.delivered).count();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn an_account_may_have_no_such_list() {
    let sandbox = start(Config { lists_webhooks: false, ..Config::default() }).await;
    for path in ["", "/lookup?reference=1", "/1"] {
        let path = format!("/integration/webhooks/events{path}");
        let answer = send(&sandbox, "GET", &path, &json!(null)).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.content_length()), (404, Some(0)), "{path}");
    }
    assert_eq!(call(&sandbox, "GET", "/transaction", json!(null)).await.0, 200);
}

#[tokio::test]
async fn paystack_says_what_it_is_told_to_have_known() {
    let (sandbox, _receiver) = three().await;
    let n_webhooks = sandbox.webhooks().len();
    let mut other = sandbox.transaction("dep-1").unwrap();
    other.amount += 1;
    sandbox.put(other.clone());
    let mut stranger = other.clone();
    (stranger.id, stranger.reference) = (other.id + 1_000_000, "order-7".to_owned());
    stranger.access_code = "a-code-of-its-own".to_owned();
    sandbox.put(stranger);
    let (status, body) = call(&sandbox, "GET", "/transaction/verify/dep-1", json!(null)).await;
    assert_eq!((status, &body["data"]["amount"]), (200, &json!(10_001)));
    let (_, body) = call(&sandbox, "GET", "/transaction", json!(null)).await;
    let listed = body["data"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["reference"]), (4, &json!("order-7")));
    assert_eq!(sandbox.webhooks().len(), n_webhooks, "nobody is told");
}
