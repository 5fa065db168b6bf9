//! Refunds and disputes over HTTP: a whole one of each, the knobs, and what goes wrong on the way.

use std::time::Duration;

use sandbox::faults::{Fault, Plan, weather};
use sandbox::paystack::model::{
    Attempt, Claim, DisputeStatus, Outcome, RefundStatus, Status, Undisputable, Verdict,
};
use sandbox::{Config, Sandbox};
use serde_json::{Value, json};

use crate::receiver::Receiver;
use crate::{KEY, browser, json as read, start};

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) async fn send(
    sandbox: &Sandbox,
    method: &str,
    path: &str,
    body: &Value,
) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}{path}", sandbox.paystack_base_url());
    let request = browser().request(method.parse().unwrap(), url).bearer_auth(KEY);
    if body.is_null() { request.send().await } else { request.json(body).send().await }
}

/// A call to the API with the right key.
pub(crate) async fn call(sandbox: &Sandbox, method: &str, path: &str, body: Value) -> (u16, Value) {
    read(send(sandbox, method, path, &body).await.unwrap()).await
}

async fn control(sandbox: &Sandbox, path: &str, body: Value) -> (u16, Value) {
    let url = sandbox.paystack_base_url().replace("/paystack", "/control") + path;
    read(browser().post(url).json(&body).send().await.unwrap()).await
}

/// A transaction nobody has paid.
pub(crate) async fn opened(sandbox: &Sandbox, reference: &str) {
    let body = json!({ "email": "ada@example.com", "amount": 10_000, "reference": reference });
    let (status, body) = call(sandbox, "POST", "/transaction/initialize", body).await;
    assert_eq!(status, 200, "{body}");
}

async fn paid(sandbox: &Sandbox, reference: &str) -> u64 {
    opened(sandbox, reference).await;
    sandbox.pay(reference, Attempt::new(Outcome::Success)).unwrap().id
}

/// Refunds move only when the clock is moved.
async fn with_receiver() -> (Sandbox, Receiver) {
    let receiver = Receiver::start(&[]).await;
    let config = Config {
        webhook_url: Some(receiver.url.clone()),
        refund_pending: HOUR,
        refund_processing: HOUR,
        ..Config::default()
    };
    (start(config).await, receiver)
}

fn names(receiver: &Receiver) -> Vec<String> {
    let arrived = receiver.arrived();
    arrived.iter().map(|it| it.json()["event"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_refund_goes_from_call_to_webhooks() {
    let (sandbox, receiver) = with_receiver().await;
    let id = paid(&sandbox, "dep-1").await;
    receiver.wait_for(1).await;
    let (status, made) =
        call(&sandbox, "POST", "/refund", json!({ "transaction": "dep-1", "amount": "4000" }))
            .await;
    assert_eq!((status, &made["data"]["status"]), (200, &json!("pending")));
    receiver.wait_for(2).await;
    // Nobody calls: it moves by itself.
    for n in [3, 4] {
        sandbox.advance_clock(HOUR);
        receiver.wait_for(n).await;
    }
    let expected = ["charge.success", "refund.pending", "refund.processing", "refund.processed"];
    assert_eq!(names(&receiver), expected);
    let (_, listed) =
        call(&sandbox, "GET", &format!("/refund?transaction={id}"), json!(null)).await;
    assert_eq!(listed["data"][0]["status"], "processed");
    let path = format!("/refund/{}", made["data"]["id"]);
    assert_eq!(call(&sandbox, "GET", &path, json!(null)).await.1["data"]["transaction"], id);
    let (_, verified) = call(&sandbox, "GET", "/transaction/verify/dep-1", json!(null)).await;
    assert_eq!(verified["data"]["status"], "reversed");
    assert_eq!(sandbox.collected()["NGN"], 6_000);
    assert_eq!(sandbox.totals()["NGN"].refunded, 4_000);
}

#[tokio::test]
async fn a_refund_is_as_far_as_the_clock_says_for_whoever_looks() {
    let sandbox = start(Config::default()).await;
    paid(&sandbox, "dep-1").await;
    call(&sandbox, "POST", "/refund", json!({ "transaction": "dep-1" })).await;
    sandbox.advance_clock(Duration::from_secs(10));
    assert_eq!(sandbox.refunds()[0].status, RefundStatus::Processed);
    assert_eq!(sandbox.transaction("dep-1").unwrap().status, Status::Reversed);
}

#[tokio::test]
async fn the_knobs_move_refunds_and_disputes() {
    let config = Config { refund_pending: HOUR, ..Config::default() };
    let sandbox = start(config).await;
    paid(&sandbox, "dep-1").await;
    paid(&sandbox, "dep-2").await;
    let (_, made) = call(&sandbox, "POST", "/refund", json!({ "transaction": "dep-1" })).await;
    let id = made["data"]["id"].clone();
    let moved = |status: &str| json!({ "id": id, "status": status });
    let (status, body) = control(&sandbox, "/refunds/status", moved("needs-attention")).await;
    assert_eq!((status, &body["refund"]["status"]), (200, &json!("needs-attention")));
    let account = json!({ "currency": "NGN", "account_number": "0000000000", "bank_id": "9" });
    let retry = format!("/refund/retry_with_customer_details/{id}");
    let body = json!({ "refund_account_details": account });
    assert_eq!(call(&sandbox, "POST", &retry, body.clone()).await.0, 200);
    assert_eq!(call(&sandbox, "POST", &retry, body).await.0, 422);
    assert_eq!(control(&sandbox, "/refunds/status", moved("processed")).await.0, 200);
    assert_eq!(control(&sandbox, "/refunds/status", moved("failed")).await.0, 404);
    assert_eq!(control(&sandbox, "/refunds/status", moved("lost")).await.0, 400);

    let claim = json!({
        "reference": "dep-2", "amount": 3_000, "category": "fraud", "due_seconds": 60,
    });
    let (status, body) = control(&sandbox, "/disputes", claim.clone()).await;
    assert_eq!((status, &body["dispute"]["category"]), (200, &json!("fraud")));
    let id = body["dispute"]["id"].clone();
    let too_much = json!({ "reference": "dep-2", "amount": 7_001 });
    assert_eq!(control(&sandbox, "/disputes", too_much).await.0, 409);
    assert_eq!(control(&sandbox, "/disputes", json!({ "reference": "dep-9" })).await.0, 404);
    let decided = json!({ "id": id, "verdict": "reversed" });
    assert_eq!(control(&sandbox, "/disputes/decide", decided.clone()).await.0, 404);
    let answer = json!({
        "resolution": "declined", "message": "Delivered", "refund_amount": 0,
        "uploaded_filename": "f",
    });
    let path = format!("/dispute/{id}/resolve");
    assert_eq!(call(&sandbox, "PUT", &path, answer).await.0, 200);
    assert_eq!(control(&sandbox, "/disputes/decide", decided).await.0, 200);

    let url = sandbox.paystack_base_url().replace("/paystack", "/control");
    let get = async |path: &str| {
        read(browser().get(format!("{url}{path}")).send().await.unwrap()).await.1
    };
    let totals = &get("/transactions").await["totals"]["NGN"];
    let expected = json!({
        "collected": 20_000, "refunding": 0, "refunded": 10_000, "disputed": 0, "lost": 3_000,
        "owed": 7_000,
    });
    assert_eq!(totals, &expected);
    assert_eq!(get("/refunds").await["refunds"][0]["status"], "processed");
    assert_eq!(get("/disputes").await["disputes"][0]["status"], "resolved");
    assert_eq!(control(&sandbox, "/settle", json!({})).await.0, 200);
}

#[tokio::test]
async fn a_dispute_goes_from_the_bank_to_its_end() {
    let (sandbox, receiver) = with_receiver().await;
    let of = paid(&sandbox, "dep-1").await;
    receiver.wait_for(1).await;
    let dispute = sandbox.raise_dispute("dep-1", Claim::default()).unwrap();
    assert_eq!(sandbox.raise_dispute("dep-1", Claim::default()), Err(Undisputable::Amount));
    receiver.wait_for(2).await;
    sandbox.advance_clock(Duration::from_secs(4 * 60 * 60));
    receiver.wait_for(3).await;
    let (status, listed) =
        call(&sandbox, "GET", "/dispute?status=awaiting-merchant-feedback", json!(null)).await;
    assert_eq!((status, &listed["data"][0]["id"]), (200, &json!(dispute.id)));
    let path = format!("/dispute/{}", dispute.id);
    assert_eq!(call(&sandbox, "GET", &path, json!(null)).await.1["message"], "Dispute retrieved");
    let of_it = format!("/dispute/transaction/{of}");
    assert_eq!(call(&sandbox, "GET", &of_it, json!(null)).await.1["data"]["id"], dispute.id);
    let update = json!({ "refund_amount": 5_000 });
    assert!(call(&sandbox, "PUT", &path, update).await.1["data"].is_array());
    let evidence = json!({
        "customer_email": "ada@example.com", "customer_name": "Ada Obi",
        "customer_phone": "+2348100000000", "service_details": "Two cups",
    });
    assert_eq!(call(&sandbox, "POST", &format!("{path}/evidence"), evidence).await.0, 200);
    let answer = json!({
        "resolution": "declined", "message": "Delivered", "refund_amount": 0,
        "uploaded_filename": "f",
    });
    assert_eq!(call(&sandbox, "PUT", &format!("{path}/resolve"), answer).await.0, 200);
    assert_eq!(sandbox.disputes()[0].status, DisputeStatus::AwaitingBankFeedback);
    assert!(sandbox.decide_dispute(dispute.id, Verdict::Won));
    receiver.wait_for(4).await;
    let expected = [
        "charge.success",
        "charge.dispute.create",
        "charge.dispute.remind",
        "charge.dispute.resolve",
    ];
    assert_eq!(names(&receiver), expected);
    assert_eq!(sandbox.collected()["NGN"], 10_000);
}

#[tokio::test]
async fn a_file_is_taken_at_the_signed_address_for_half_an_hour() {
    let sandbox = start(Config::default()).await;
    paid(&sandbox, "dep-1").await;
    let dispute = sandbox.raise_dispute("dep-1", Claim::default()).unwrap();
    let path = format!("/dispute/{}/upload_url?upload_filename=proof.pdf", dispute.id);
    let (_, answer) = call(&sandbox, "GET", &path, json!(null)).await;
    let url = answer["data"]["signedUrl"].as_str().unwrap();
    let file = answer["data"]["fileName"].as_str().unwrap();
    let put = async |url: &str| browser().put(url).body("%PDF").send().await.unwrap().status();
    assert_eq!(sandbox.uploaded(file), None);
    assert_eq!(put(&url.replace("signature=", "signature=x")).await, 403);
    assert_eq!(put(url).await, 200);
    assert_eq!(sandbox.uploaded(file), Some(4));
    assert_eq!(browser().get(url).send().await.unwrap().status(), 405);
    sandbox.advance_clock(Duration::from_secs(31 * 60));
    assert_eq!(put(url).await, 403);
}

#[tokio::test]
async fn a_refund_call_goes_wrong_before_or_after_its_effect() {
    let sandbox = start(Config::default()).await;
    paid(&sandbox, "dep-1").await;
    let part = json!({ "transaction": "dep-1", "amount": 1_000 });
    for (fault, made) in
        [(Fault::RefundError, false), (Fault::RefundErrorAfter, true), (Fault::RefundCutOff, true)]
    {
        let before = sandbox.refunds().len();
        sandbox.inject(Plan::next(fault, 1));
        let failed = match send(&sandbox, "POST", "/refund", &part).await {
            Ok(answer) => answer.status() == 500 || answer.bytes().await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{fault:?}");
        assert_eq!(sandbox.refunds().len() > before, made, "{fault:?}");
    }
    sandbox.inject(Plan::next(Fault::ReadError, 1));
    assert_eq!(call(&sandbox, "GET", "/refund", json!(null)).await.0, 500);
    for (fault, ends) in [
        (Fault::RefundFails, RefundStatus::Failed),
        (Fault::RefundNeedsAttention, RefundStatus::NeedsAttention),
    ] {
        sandbox.inject(Plan::next(fault, 1));
        assert_eq!(call(&sandbox, "POST", "/refund", part.clone()).await.0, 200);
        sandbox.advance_clock(Duration::from_secs(10));
        assert_eq!(sandbox.refunds().last().unwrap().status, ends, "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_to_a_dispute_goes_wrong_before_or_after_its_effect() {
    for (fault, resolved) in [
        (Fault::DisputeError, false),
        (Fault::DisputeErrorAfter, true),
        (Fault::DisputeCutOff, true),
    ] {
        let sandbox = start(Config::default()).await;
        paid(&sandbox, "dep-1").await;
        let dispute = sandbox.raise_dispute("dep-1", Claim::default()).unwrap();
        let answer = json!({
            "resolution": "merchant-accepted", "message": "Sorry", "refund_amount": 10_000,
            "uploaded_filename": "f",
        });
        sandbox.inject(Plan::next(fault, 1));
        let path = format!("/dispute/{}/resolve", dispute.id);
        let failed = match send(&sandbox, "PUT", &path, &answer).await {
            Ok(answer) => answer.status() == 500 || answer.bytes().await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{fault:?}");
        let status = sandbox.disputes()[0].status;
        assert_eq!(status == DisputeStatus::Resolved, resolved, "{fault:?}");
    }
}

#[tokio::test]
async fn webhooks_of_refunds_go_wrong_as_those_of_payments_do() {
    let (sandbox, receiver) = with_receiver().await;
    paid(&sandbox, "dep-1").await;
    receiver.wait_for(1).await;
    sandbox.inject(Plan::next(Fault::WebhookLost, 1));
    sandbox.inject(Plan::next(Fault::WebhookTwice, 1));
    // The first is lost, and twice nothing is nothing.
    call(&sandbox, "POST", "/refund", json!({ "transaction": "dep-1" })).await;
    assert!(sandbox.webhooks()[1].lost);
    sandbox.inject(Plan::next(Fault::WebhookReordered, 1));
    sandbox.advance_clock(2 * HOUR);
    receiver.wait_for(3).await;
    assert_eq!(names(&receiver)[1..], ["refund.processed", "refund.processing"]);

    paid(&sandbox, "dep-2").await;
    receiver.wait_for(4).await;
    sandbox.inject(Plan::next(Fault::WebhookWrongAmount, 1));
    sandbox.inject(Plan::next(Fault::WebhookWrongReference, 1));
    call(&sandbox, "POST", "/refund", json!({ "transaction": "dep-2" })).await;
    let wrong = receiver.wait_for(5).await.remove(4).json()["data"].clone();
    assert_eq!(wrong["amount"], "100001");
    assert_eq!(wrong["transaction_reference"], "nobodys-dep-2");
}

#[tokio::test]
async fn the_same_seed_is_the_same_weather() {
    let run = async |seed: u64| {
        let faults = weather(0.4, 0);
        let sandbox = start(Config { faults, faults_seed: Some(seed), ..Config::default() }).await;
        let mut seen = Vec::new();
        for n in 0..30 {
            let body = json!({
                "email": "a@example.com", "amount": 5_000, "reference": format!("dep-{n}"),
            });
            let answer = send(&sandbox, "POST", "/transaction/initialize", &body).await;
            let status = match answer {
                Ok(answer) => answer.status().as_u16(),
                Err(_) => 0,
            };
            seen.push((status, sandbox.transaction(&format!("dep-{n}")).is_some()));
        }
        seen
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    assert!(first.contains(&(500, true)) && first.contains(&(500, false)), "{first:?}");
}
