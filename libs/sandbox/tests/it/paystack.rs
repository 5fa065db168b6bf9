//! Paystack over HTTP: a deposit end to end, the checkout page, webhooks, and what goes wrong.

use std::time::{Duration, Instant};

use hmac::{KeyInit as _, Mac as _};
use sandbox::faults::{Fault, Plan};
use sandbox::paystack::model::{Attempt, Outcome, Unpayable};
use sandbox::{Config, Sandbox};
use serde_json::{Value, json};

use crate::receiver::{Arrived, Receiver};
use crate::{KEY, browser, eventually, header, json, start};

fn signature(body: &[u8]) -> String {
    let mut mac = hmac::Hmac::<sha2::Sha512>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

async fn initialize(sandbox: &Sandbox, body: &Value) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}/transaction/initialize", sandbox.paystack_base_url());
    browser().post(url).bearer_auth(KEY).json(body).send().await
}

async fn verify(sandbox: &Sandbox, reference: &str) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}/transaction/verify/{reference}", sandbox.paystack_base_url());
    browser().get(url).bearer_auth(KEY).send().await
}

async fn opened(sandbox: &Sandbox, reference: &str, callback: Option<&str>) -> String {
    let body = json!({
        "email": "ada@example.com", "amount": 123_450, "reference": reference,
        "callback_url": callback,
    });
    let (status, body) = json(initialize(sandbox, &body).await.unwrap()).await;
    assert_eq!(status, 200, "{body}");
    body["data"]["authorization_url"].as_str().unwrap().to_owned()
}

async fn send(url: &str, outcome: &str) -> reqwest::Response {
    browser().post(url).form(&[("outcome", outcome)]).send().await.unwrap()
}

async fn with_receiver(answers: &[u16]) -> (Sandbox, Receiver) {
    let receiver = Receiver::start(answers).await;
    let webhook_url = Some(receiver.url.clone());
    (start(Config { webhook_url, ..Config::default() }).await, receiver)
}

#[tokio::test]
async fn a_deposit_goes_from_checkout_to_webhook() {
    let (sandbox, receiver) = with_receiver(&[]).await;
    let url = opened(&sandbox, "dep-1", Some("http://127.0.0.1:9/back?a=1")).await;

    let page = browser().get(&url).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(header(&page, "content-security-policy").starts_with("default-src 'none'"));
    let page = page.text().await.unwrap();
    for part in ["NGN 1,234.50", "ada@example.com", "Fast Wallet", "value=\"abandoned\""] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let status = |body: Value| body["data"]["status"].as_str().unwrap().to_owned();
    assert_eq!(status(json(verify(&sandbox, "dep-1").await.unwrap()).await.1), "abandoned");
    assert_eq!(send(&url, "abandoned").await.status(), 200);
    let refused = send(&url, "failed").await;
    assert_eq!(refused.status(), 200);
    assert!(refused.text().await.unwrap().contains("Nothing was paid"));
    assert_eq!(status(json(verify(&sandbox, "dep-1").await.unwrap()).await.1), "failed");
    let page = browser().get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("The last attempt was refused: Declined."), "{page}");

    let paid = send(&url, "success").await;
    assert_eq!(paid.status(), 303);
    let back = "http://127.0.0.1:9/back?a=1&trxref=dep-1&reference=dep-1";
    assert_eq!(header(&paid, "location"), back);
    let verified = json(verify(&sandbox, "dep-1").await.unwrap()).await.1;
    assert_eq!(status(verified.clone()), "success");

    let arrived = receiver.wait_for(1).await.remove(0);
    assert_eq!(arrived.path, "/hook");
    assert_eq!(arrived.user_agent, "Paystack/2.0");
    assert_eq!(arrived.content_type, "application/json");
    assert_eq!(arrived.signature, signature(&arrived.body));
    let event = arrived.json();
    assert_eq!(event["event"], "charge.success");
    for name in ["id", "reference", "amount", "currency", "status", "paid_at", "fees"] {
        assert_eq!(event["data"][name], verified["data"][name], "{name}");
    }
    assert_ne!(serde_json::to_vec(&event).unwrap(), arrived.body, "re-serialising is caught");

    assert_eq!(send(&url, "success").await.status(), 409);
    assert_eq!(browser().get(&url).send().await.unwrap().status(), 409);
    assert_eq!(sandbox.collected()["NGN"], 123_450);
    assert_eq!(receiver.arrived().len(), 1);
}

#[tokio::test]
async fn a_checkout_without_callback_says_what_happened() {
    let sandbox = start(Config::default()).await;
    let url = opened(&sandbox, "dep-1", None).await;
    let declined = browser().post(&url).form(&[("card", "4084080000005408")]).send().await.unwrap();
    assert!(declined.text().await.unwrap().contains("Declined"));
    let with_pin = async |pin: &str| {
        let form = [("card", "5078 5078 5078 5078 12"), ("cvv", "081"), ("pin", pin)];
        browser().post(&url).form(&form).send().await.unwrap().text().await.unwrap()
    };
    assert!(with_pin("1112").await.contains("Incorrect PIN"));
    let page = browser().get(&url).send().await.unwrap().text().await.unwrap();
    for name in ["cvv", "expiry", "pin", "otp", "phone", "channel", "birthday"] {
        assert!(page.contains(&format!("name=\"{name}\"")), "{name} in {page}");
    }
    let paid = send(&url, "success").await;
    assert_eq!(paid.status(), 200);
    assert!(paid.text().await.unwrap().contains("NGN 1,234.50 was paid. Reference dep-1."));

    let url = opened(&sandbox, "dep-2", None).await;
    assert_eq!(send(&url, "perhaps").await.status(), 400);
    let nowhere = url.replace("/checkout/", "/checkout/x");
    assert_eq!(browser().get(&nowhere).send().await.unwrap().status(), 404);
    assert_eq!(send(&nowhere, "success").await.status(), 404);
    let by_reference = url.rsplit_once('/').unwrap().0.to_owned() + "/dep-2";
    assert_eq!(send(&by_reference, "success").await.status(), 404);
    assert_eq!(sandbox.collected()["NGN"], 123_450);
}

#[tokio::test]
async fn what_a_merchant_sends_is_only_text_on_the_page() {
    let sandbox = start(Config { merchant: "<b>Shop</b>".to_owned(), ..Config::default() }).await;
    let body = json!({ "email": "\"<i>\"@example.com", "amount": 5_000, "reference": "dep-1",
        "metadata": { "cancel_action": "javascript:alert(1)" } });
    let (_, body) = json(initialize(&sandbox, &body).await.unwrap()).await;
    let url = body["data"]["authorization_url"].as_str().unwrap().to_owned();
    let page = browser().get(&url).send().await.unwrap().text().await.unwrap();
    assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
    assert!(page.contains("&lt;b&gt;Shop"), "{page}");
    assert_eq!(send(&url, "abandoned").await.status(), 200);
}

#[tokio::test]
async fn walking_away_leads_to_the_cancel_action() {
    let sandbox = start(Config::default()).await;
    let body = json!({ "email": "a@example.com", "amount": 5_000,
        "metadata": { "cancel_action": "http://127.0.0.1:9/cart" } });
    let (_, body) = json(initialize(&sandbox, &body).await.unwrap()).await;
    let answer = send(body["data"]["authorization_url"].as_str().unwrap(), "abandoned").await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "location")),
        (303, "http://127.0.0.1:9/cart")
    );
}

#[tokio::test]
async fn only_the_secret_key_opens_the_api() {
    let sandbox = start(Config::default()).await;
    let base = sandbox.paystack_base_url();
    let get = |path: &str| browser().get(format!("{base}{path}"));
    let (status, body) = json(get("/transaction").send().await.unwrap()).await;
    assert_eq!((status, &body["message"]), (401, &json!("No Authorization Header was found")));
    for header in ["Bearer sk_test_other", "Bearer ", "Basic sk_test_example_key", KEY] {
        let answer = get("/transaction").header("authorization", header).send().await.unwrap();
        let expected = json!({ "status": false, "message": "Invalid key" });
        assert_eq!(json(answer).await, (401, expected), "{header}");
    }
    let answer = get("/transaction").bearer_auth(KEY).send().await.unwrap();
    assert_eq!(header(&answer, "content-type"), "application/json; charset=utf-8");
    assert_eq!(json(answer).await.1["message"], "Transactions retrieved");
    let answer = get("/transaction/?perPage=2").bearer_auth(KEY).send().await.unwrap();
    assert_eq!(json(answer).await.1["meta"]["perPage"], 2);
    for path in ["/nothing", "", "/transaction/verify/a/b", "/transfer"] {
        let answer = get(path).bearer_auth(KEY).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().len()),
            (404, 0),
            "{path}"
        );
    }
    let (status, body) = json(verify(&sandbox, "a%3Ab").await.unwrap()).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_character_in_reference")));
    let (status, body) = json(verify(&sandbox, "").await.unwrap()).await;
    assert_eq!((status, &body["message"]), (400, &json!("Transaction ID should be numeric.")));
    let url = format!("{base}/transaction/initialize");
    let answer = browser().post(url).bearer_auth(KEY).body("{not json").send().await.unwrap();
    assert_eq!(json(answer).await.1["code"], "invalid_params");
}

#[tokio::test]
async fn too_many_calls_a_minute_are_refused_with_paystacks_headers() {
    let sandbox = start(Config { calls_per_minute: Some(2), ..Config::default() }).await;
    for left in ["1", "0"] {
        let answer = verify(&sandbox, "dep-1").await.unwrap();
        assert_eq!(header(&answer, "x-ratelimit-limit"), "2");
        assert_eq!(header(&answer, "x-ratelimit-remaining"), left);
        assert_eq!(answer.status(), 400);
    }
    let answer = verify(&sandbox, "dep-1").await.unwrap();
    let reset: u32 = header(&answer, "x-ratelimit-reset").parse().unwrap();
    assert!((1..=60).contains(&reset));
    let (status, body) = json(answer).await;
    assert_eq!((status, &body["code"]), (429, &json!("rate_limited")));
    sandbox.advance_clock(Duration::from_secs(60));
    assert_eq!(verify(&sandbox, "dep-1").await.unwrap().status(), 400);
}

#[tokio::test]
async fn only_200_ends_the_retries() {
    let (sandbox, receiver) = with_receiver(&[500, 204, 302, 404]).await;
    opened(&sandbox, "dep-1", None).await;
    sandbox.pay("dep-1", Attempt::new(Outcome::Success)).unwrap();
    for tries in 1..=4 {
        receiver.wait_for(tries).await;
        sandbox.advance_clock(Duration::from_secs(60));
    }
    let arrived = receiver.wait_for(5).await;
    assert!(arrived.iter().all(|it| it.path == "/hook" && it.body == arrived[0].body));
    let record = eventually("the record says so", || {
        let record = sandbox.webhooks().remove(0);
        if record.delivered { Ok(record) } else { Err(format!("{record:?}")) }
    })
    .await;
    assert_eq!(
        (record.tries, record.last_status, record.reference.as_str()),
        (5, Some(200), "dep-1")
    );
    sandbox.advance_clock(Duration::from_secs(3_600));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(receiver.arrived().len(), 5);
}

#[tokio::test]
async fn a_receiver_that_never_says_200_is_given_up() {
    let (sandbox, receiver) = with_receiver(&[503; 40]).await;
    opened(&sandbox, "dep-1", None).await;
    sandbox.pay("dep-1", Attempt::new(Outcome::Success)).unwrap();
    for tries in 1..=10 {
        receiver.wait_for(tries).await;
        sandbox.advance_clock(Duration::from_secs(300));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.arrived().len(), 10);
    assert!(!sandbox.webhooks()[0].delivered);
}

#[tokio::test]
async fn a_webhook_goes_wrong_as_asked() {
    type Check = fn(&Arrived) -> bool;
    let signed: Check = |it| it.signature == signature(&it.body);
    let cases: [(Fault, usize, Check); 6] = [
        (Fault::WebhookTwice, 2, |it| it.json()["data"]["amount"] == 123_450),
        (Fault::WebhookWrongAmount, 1, |it| it.json()["data"]["amount"] == 1_234_501),
        (Fault::WebhookWrongCurrency, 1, |it| it.json()["data"]["currency"] == "USD"),
        (Fault::WebhookWrongReference, 1, |it| it.json()["data"]["reference"] == "nobodys-dep-1"),
        (Fault::WebhookWrongSignature, 1, |it| it.signature != signature(&it.body)),
        (Fault::PaidOtherAmount, 1, |it| it.json()["data"]["amount"] == 1_234_501),
    ];
    for (fault, count, check) in cases {
        let (sandbox, receiver) = with_receiver(&[]).await;
        opened(&sandbox, "dep-1", None).await;
        sandbox.inject(Plan::next(fault, 1));
        sandbox.pay("dep-1", Attempt::new(Outcome::Success)).unwrap();
        let arrived = receiver.wait_for(count).await;
        assert!(arrived.iter().all(check), "{fault:?}: {arrived:?}");
        let well_signed = fault != Fault::WebhookWrongSignature;
        assert!(arrived.iter().all(|it| signed(it) == well_signed), "{fault:?}");
        // A wrong webhook is not what happened; a wrong payment is.
        let truth = if fault == Fault::PaidOtherAmount { 1_234_501 } else { 123_450 };
        assert_eq!(sandbox.collected()["NGN"], truth, "{fault:?}");
        let verified = json(verify(&sandbox, "dep-1").await.unwrap()).await.1;
        assert_eq!(verified["data"]["amount"], truth, "{fault:?}");
        // The fault was for once: sending again is right.
        assert!(sandbox.resend("dep-1"));
        let again = receiver.wait_for(count + 1).await;
        assert_eq!(again[count].json()["data"]["amount"], truth, "{fault:?}");
        assert!(signed(&again[count]), "{fault:?}");
    }
}

#[tokio::test]
async fn a_webhook_is_lost_late_or_overtaken_as_asked() {
    let (sandbox, receiver) = with_receiver(&[]).await;
    for (reference, fault) in [
        ("dep-1", Fault::WebhookLost),
        ("dep-2", Fault::WebhookLate),
        ("dep-3", Fault::WebhookReordered),
    ] {
        opened(&sandbox, reference, None).await;
        sandbox.inject(Plan::next(fault, 1).delayed(60_000));
        sandbox.pay(reference, Attempt::new(Outcome::Success)).unwrap();
    }
    opened(&sandbox, "dep-4", None).await;
    sandbox.pay("dep-4", Attempt::new(Outcome::Success)).unwrap();
    receiver.wait_for(2).await;
    sandbox.advance_clock(Duration::from_secs(60));
    let arrived = receiver.wait_for(3).await;
    let order: Vec<String> = arrived
        .iter()
        .map(|it| it.json()["data"]["reference"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["dep-4", "dep-3", "dep-2"]);
    assert!(sandbox.webhooks()[0].lost);
    assert_eq!(sandbox.collected()["NGN"], 4 * 123_450);

    // Nothing follows: it comes all the same.
    opened(&sandbox, "dep-5", None).await;
    sandbox.inject(Plan::next(Fault::WebhookReordered, 1));
    sandbox.pay("dep-5", Attempt::new(Outcome::Success)).unwrap();
    receiver.wait_for(4).await;
}

#[tokio::test]
async fn an_answer_goes_wrong_before_or_after_its_effect() {
    let sandbox = start(Config::default()).await;
    let body = |reference: &str| json!({ "email": "a@example.com", "amount": 5_000, "reference": reference });
    let made = |reference: &str| sandbox.transaction(reference).is_some();

    sandbox.inject(Plan::next(Fault::InitializeError, 1));
    assert_eq!(initialize(&sandbox, &body("dep-1")).await.unwrap().status(), 500);
    assert!(!made("dep-1"));
    sandbox.inject(Plan::next(Fault::InitializeErrorAfter, 1));
    assert_eq!(initialize(&sandbox, &body("dep-2")).await.unwrap().status(), 500);
    assert!(made("dep-2"));
    sandbox.inject(Plan::next(Fault::InitializeCutOff, 1));
    let cut = initialize(&sandbox, &body("dep-3")).await;
    assert!(match cut {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    });
    assert!(made("dep-3"));
    sandbox.inject(Plan::next(Fault::InitializeSlow, 1).delayed(400));
    let began = Instant::now();
    assert_eq!(initialize(&sandbox, &body("dep-4")).await.unwrap().status(), 200);
    assert!(began.elapsed() >= Duration::from_millis(400));

    sandbox.inject(Plan::next(Fault::VerifyError, 1));
    assert_eq!(verify(&sandbox, "dep-4").await.unwrap().status(), 500);
    sandbox.inject(Plan::next(Fault::VerifyCutOff, 1));
    assert!(match verify(&sandbox, "dep-4").await {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    });
    sandbox.inject(Plan::chance(Fault::VerifyError, 1.0));
    assert_eq!(verify(&sandbox, "dep-4").await.unwrap().status(), 500);
    sandbox.clear_faults();
    assert_eq!(verify(&sandbox, "dep-4").await.unwrap().status(), 200);
}

#[tokio::test]
async fn yesterdays_checkout_can_be_paid_today() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Some(dir.path().join("paystack.jsonl"));
    let sandbox = start(Config { journal: journal.clone(), ..Config::default() }).await;
    opened(&sandbox, "dep-1", None).await;
    opened(&sandbox, "dep-2", None).await;
    sandbox.pay("dep-1", Attempt::new(Outcome::Success)).unwrap();
    let before = sandbox.transactions();
    sandbox.stop().await;

    let sandbox = start(Config { journal, ..Config::default() }).await;
    assert_eq!(sandbox.transactions(), before);
    assert_eq!(sandbox.pay("dep-1", Attempt::new(Outcome::Success)), Err(Unpayable::Paid));
    sandbox.pay("dep-2", Attempt::new(Outcome::Success)).unwrap();
    assert_eq!(sandbox.collected()["NGN"], 2 * 123_450);
    let body = json!({ "email": "a@example.com", "amount": 5_000, "reference": "dep-1" });
    assert_eq!(initialize(&sandbox, &body).await.unwrap().status(), 400);
    assert!(sandbox.reverse("dep-1") && !sandbox.reverse("dep-1"));
    assert_eq!(sandbox.collected()["NGN"], 123_450);
}
