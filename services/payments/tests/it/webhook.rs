//! Every hostile webhook: none credits anything, none is lost, and only a bad signature is turned away.

use std::time::Duration;

use futures_util::future::join_all;
use poem::http::Method;
use primitives::Timestamp;
use sandbox::faults::{Fault, Plan};
use serde_json::{Value, json};
use testkit::{Client, eventually, paystack_signature};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::store;
use crate::world::{BOUND, KEY, World};

const OLD_KEY: &str = "sk_test_fedcba9876543210fedcba9876543210fedcba98";

/// A webhook as Paystack sends it for a deposit of 50 naira.
fn charge(reference: &str) -> Value {
    json!({"event": "charge.success", "data": {
        "id": 4_099_260_516_u64, "domain": "test", "status": "success", "reference": reference,
        "amount": 5_000, "currency": "NGN", "requested_amount": 5_000,
        "paid_at": "2026-01-15T09:15:02.000Z", "metadata": "ünï/\u{0001}"
    }})
}

fn changed(reference: &str, field: &str, value: Value) -> Vec<u8> {
    let mut body = charge(reference);
    body["data"][field] = value;
    body.to_string().into_bytes()
}

#[tokio::test]
async fn the_same_webhook_fifty_times_at_once_credits_once() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    let body = charge(&started.reference).to_string();
    let answers = join_all((0..50).map(|_| world.post(body.as_bytes()))).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    world.until("credited").await;
    let [webhook] = world.until_inbox_is_empty().await.try_into().unwrap();
    assert_eq!((webhook.n_received, webhook.state.as_str()), (50, "handled"));
    // And long after.
    assert_eq!(world.post(body.as_bytes()).await, 200);
    assert_eq!(world.ledger.balance(account_id), 5_000);
    assert_eq!(world.ledger.posted().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_bad_signature_is_turned_away_and_nothing_is_stored() {
    let world = World::started().await;
    let (_, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    let n_stored = store::webhooks(world.pool()).await.len();
    let body = charge(&started.reference).to_string();
    let good = paystack_signature(KEY, body.as_bytes());
    let pretty = serde_json::to_string_pretty(&charge(&started.reference)).unwrap();
    let unescaped = body.replace("ü", "\\u00fc");
    for (body, signature) in [
        (body.as_str(), String::new()),
        (&body, "0".repeat(128)),
        (&body, "no hex at all".to_owned()),
        (&body, good[..126].to_owned()),
        (&body, format!("{good}00")),
        (&body, paystack_signature("sk_test_another", body.as_bytes())),
        (&body, paystack_signature(OLD_KEY, body.as_bytes())),
        // The signature of this body on another one: the same JSON, written differently.
        (&pretty, good.clone()),
        (&unescaped, good.clone()),
        (&body.replace("5000", "9000"), good.clone()),
        (&format!("{body}\n"), good.clone()),
    ] {
        assert_eq!(world.post_signed(body.as_bytes(), &signature).await, 401, "{signature} {body}");
    }
    let client = Client::new(world.origin());
    let unsigned = client.post(payments::WEBHOOK_PATH).json(&charge("x")).send().await;
    unsigned.problem(401, "invalid_signature");
    assert_eq!(store::webhooks(world.pool()).await.len(), n_stored);
    world.finish().await;
}

#[tokio::test]
async fn a_signed_webhook_that_does_not_fit_is_kept_for_a_person_and_credits_nothing() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    let reference = started.reference.as_str();
    let text = charge(reference).to_string();
    let twice = text.replace("\"amount\":5000", "\"amount\":5000,\"amount\":1");
    let two_events = text.replace("\"event\":", "\"event\":\"x\",\"event\":");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (changed(reference, "domain", json!("live")), "other_domain"),
        (changed(reference, "status", json!("failed")), "not_success"),
        (changed("dep-00000000000000000000000000000000", "id", json!(1)), "unknown_reference"),
        (changed("made-by-paystack-for-a-dva", "id", json!(2)), "unknown_reference"),
        (changed("A reference; drop table", "id", json!(3)), "unknown_reference"),
        (changed("dep-\0-nul", "id", json!(4)), "unknown_reference"),
        (changed(reference, "amount", json!(5_000.5)), "incomplete"),
        (changed(reference, "amount", json!(-5_000)), "incomplete"),
        (changed(reference, "amount", json!(null)), "incomplete"),
        (changed(reference, "currency", json!(7)), "incomplete"),
        (changed(reference, "reference", json!([reference])), "incomplete"),
        (twice.into_bytes(), "duplicate_keys"),
        (two_events.into_bytes(), "duplicate_keys"),
        (b"".to_vec(), "unreadable"),
        (b"\xff\xfe{}".to_vec(), "unreadable"),
        (b"{\"event\":\"charge.success\"".to_vec(), "unreadable"),
        (text.replace("charge.success", "charge.refreshed").into_bytes(), "unknown_event"),
        (text.replace("charge.success", "CHARGE.SUCCESS").into_bytes(), "unknown_event"),
        (text.replace("charge.success", "charge.dispute.create").into_bytes(), "incomplete"),
        (text.replace("charge.success", "refund.processed").into_bytes(), "incomplete"),
        (vec![b'['; 100_000], "unreadable"),
    ];
    for (body, _) in &cases {
        assert_eq!(world.post(body).await, 200, "{}", String::from_utf8_lossy(body));
    }
    let stored = world.until_inbox_is_empty().await;
    let reasons: Vec<_> = stored.iter().map(|it| it.reason.as_deref().unwrap()).collect();
    let expected: Vec<_> = cases.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, expected);
    // Nobody was even asked: the deposit is as it was, and payable.
    assert_eq!(store::deposits(world.pool()).await[0].state, "pending");
    assert_eq!(world.ledger.balance(account_id), 0);
    world.pay(reference);
    world.until("credited").await;
    world.finish().await;
}

#[tokio::test]
async fn a_webhook_for_what_was_never_paid_credits_nothing_and_ends_with_a_person() {
    let mut world = World::new().await;
    world.config.pace.confirm_for_ms = 300;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    assert_eq!(world.post(charge(&started.reference).to_string().as_bytes()).await, 200);
    let stored = world.until("review").await;
    assert_eq!(stored.review_reason.as_deref(), Some("not_confirmed"));
    assert_eq!(world.ledger.balance(account_id), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_webhook_with_another_amount_or_currency_is_parked_and_verify_decides() {
    for (fault, reason) in [
        (Fault::WebhookWrongAmount, "amount_differs"),
        (Fault::WebhookWrongCurrency, "currency_differs"),
    ] {
        let world = World::started().await;
        let (account_id, started) = world.checkout().await;
        world.sandbox.inject(Plan::next(fault, 1));
        world.pay(&started.reference);
        // Paystack's own answer to our own key is what was asked for: that is what is credited.
        world.until("credited").await;
        assert_eq!(world.ledger.balance(account_id), 5_000);
        let [webhook] = world.until_inbox_is_empty().await.try_into().unwrap();
        assert_eq!((webhook.state.as_str(), webhook.reason.as_deref()), ("parked", Some(reason)));
        // The true one, under the same id, is another fact and no repeat.
        assert!(world.sandbox.resend(&started.reference));
        eventually("the true webhook", BOUND, async || {
            let all = store::webhooks(world.pool()).await;
            if all.iter().any(|it| it.state == "handled") {
                Ok(())
            } else {
                Err(format!("{all:?}"))
            }
        })
        .await;
        assert_eq!(world.ledger.posted().len(), 1);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_webhook_with_a_wrong_signature_or_reference_delays_the_money_and_loses_none() {
    for fault in [Fault::WebhookWrongSignature, Fault::WebhookWrongReference] {
        let mut world = World::new().await;
        world.config.pace.reconcile_first_ms = 400;
        world.start().await;
        let (account_id, started) = world.checkout().await;
        world.sandbox.inject(Plan::chance(fault, 1.0));
        world.pay(&started.reference);
        world.until("credited").await;
        assert_eq!(world.ledger.balance(account_id), 5_000);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_webhook_for_another_persons_deposit_credits_that_person() {
    let world = World::started().await;
    let (ada, _) = world.checkout().await;
    let (ben, bens) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&bens.reference);
    let mut body = charge(&bens.reference);
    // Metadata and customer are what a browser may have made up.
    body["data"]["metadata"] = json!({"account_id": ada.to_string()});
    body["data"]["customer"] = json!({"email": "ada@example.com"});
    assert_eq!(world.post(body.to_string().as_bytes()).await, 200);
    eventually("the credit", BOUND, async || match world.ledger.balance(ben) {
        5_000 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    assert_eq!(world.ledger.balance(ada), 0);
    world.finish().await;
}

#[tokio::test]
async fn the_webhook_may_come_before_the_answer_to_initialize() {
    let world = World::started().await;
    world.sandbox.inject(Plan::next(Fault::InitializeSlow, 1).delayed(600));
    let account_id = world.ledger.open();
    let pay = async {
        let made = eventually("the transaction", BOUND, async || {
            world.sandbox.transactions().pop().ok_or_else(|| "none".to_owned())
        })
        .await;
        world.pay(&made.reference);
    };
    let ask = crate::world::Ask::of(account_id);
    let (started, ()) = tokio::join!(world.ask(&ask), pay);
    assert_eq!(started.refusal, 0);
    assert!(!started.authorization_url.is_empty());
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn the_previous_key_is_accepted_while_its_time_lasts() {
    let mut world = World::new().await;
    world.config.secret_key_previous = Some(OLD_KEY.parse().unwrap());
    world.config.secret_key_previous_until = Some(Timestamp::now().plus(Duration::from_hours(71)));
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    let body = charge(&started.reference).to_string();
    let signature = paystack_signature(OLD_KEY, body.as_bytes());
    assert_eq!(world.post_signed(body.as_bytes(), &signature).await, 200);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    let [webhook] = world.until_inbox_is_empty().await.try_into().unwrap();
    assert_eq!(webhook.signed_by, "previous");
    world.stop().await;
    world.config.secret_key_previous_until = Some(Timestamp::now());
    world.start().await;
    assert_eq!(world.post_signed(body.as_bytes(), &signature).await, 401);
    world.finish().await;
}

#[tokio::test]
async fn the_door_has_one_method_one_size_and_one_path() {
    let world = World::started().await;
    let client = Client::new(world.origin());
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = client.call(method, payments::WEBHOOK_PATH).send().await;
        answer.problem(405, "method_not_allowed");
    }
    client.post("/wallet/paystack").send().await.problem(404, "not_found");

    let largest = vec![b'x'; 1024 * 1024];
    assert_eq!(world.post(&largest).await, 200);
    let [webhook] = world.until_inbox_is_empty().await.try_into().unwrap();
    assert_eq!(webhook.reason.as_deref(), Some("unreadable"));
    let larger = vec![b'x'; 1024 * 1024 + 1];
    assert_eq!(world.post(&larger).await, 413);
    assert_eq!(store::webhooks(world.pool()).await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let world = World::started().await;
    let mut stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nx-paystack-signature: {}\r\n\r\n{{",
        payments::WEBHOOK_PATH,
        "0".repeat(128)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(BOUND, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "HTTP/1.1 408");
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_asked_for_again() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    store::run(world.pool(), "alter table payments.webhooks rename to elsewhere").await;
    let body = charge(&started.reference).to_string();
    let call = Client::new(world.origin())
        .post(payments::WEBHOOK_PATH)
        .header("x-paystack-signature", &paystack_signature(KEY, body.as_bytes()))
        .body("application/json", body.clone());
    let answer = call.send().await;
    answer.problem(503, "service_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    store::run(world.pool(), "alter table payments.elsewhere rename to webhooks").await;
    assert_eq!(world.post(body.as_bytes()).await, 200);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn webhooks_come_from_the_networks_that_may_bring_them_and_a_trusted_proxy_says_so() {
    let mut world = World::new().await;
    world.config.webhook_sources = vec!["52.31.139.75".parse().unwrap()];
    world.config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    let body = charge(&started.reference).to_string();
    let signature = paystack_signature(KEY, body.as_bytes());
    let told = async |forwarded: &'static str| {
        let client = Client::new(world.origin());
        let call = client.post(payments::WEBHOOK_PATH).header("x-paystack-signature", &signature);
        let call = call.header("x-forwarded-for", forwarded).body("application/json", body.clone());
        call.send().await.status
    };
    // The proxy itself, somebody else, and somebody else who claims to speak for Paystack.
    for other in ["", "203.0.113.9", "52.31.139.75, 203.0.113.9"] {
        assert_eq!(told(other).await, 404, "{other}");
    }
    assert!(store::webhooks(world.pool()).await.is_empty());
    assert_eq!(told("203.0.113.9, 52.31.139.75").await, 200);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}
