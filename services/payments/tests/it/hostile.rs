//! Webhooks with a good signature that are meant for somebody else, and senders that never come to
//! an end.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{eventually, paystack_signature};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::store;
use crate::world::{BOUND, World};

const LIVE_KEY: &str = "sk_live_0123456789abcdef0123456789abcdef01234567";
/// More than all of the inbox's workers and the pool's connections.
const DRIPPING: usize = 40;
/// Far more often than any pause that a server takes for an end.
const DRIP_EVERY: Duration = Duration::from_millis(100);

/// A webhook as Paystack sends it for a deposit of 50 naira.
fn charge(reference: &str, domain: &str) -> Value {
    json!({"event": "charge.success", "data": {
        "id": 4_099_260_516_u64, "domain": domain, "status": "success", "reference": reference,
        "amount": 5_000, "currency": "NGN", "requested_amount": 5_000
    }})
}

#[tokio::test]
async fn a_webhook_of_the_test_side_is_nothing_to_a_live_key() {
    let mut world = World::with_key(LIVE_KEY, sandbox::Config::default()).await;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&started.reference);
    let told = async |domain| {
        let body = charge(&started.reference, domain).to_string();
        let signature = paystack_signature(LIVE_KEY, body.as_bytes());
        assert_eq!(world.post_signed(body.as_bytes(), &signature).await, 200);
    };
    told("test").await;
    let [webhook] = world.until_inbox_is_empty().await.try_into().unwrap();
    assert_eq!(webhook.reason.as_deref(), Some("other_domain"));
    // It did not even make anybody ask.
    assert_eq!(store::deposits(world.pool()).await[0].state, "pending");
    assert_eq!(world.ledger.balance(account_id), 0);
    told("live").await;
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    world.finish().await;
}

#[tokio::test]
async fn a_webhook_that_names_another_persons_deposit_has_that_one_looked_at_and_credits_nobody() {
    let mut world = World::new().await;
    world.config.pace.confirm_for_ms = 300;
    world.start().await;
    let (ada, adas) = world.checkout().await;
    let (ben, bens) = world.checkout().await;
    world.sandbox.set_webhook_url(None);
    world.pay(&adas.reference);
    let n_events = store::n_events(world.pool(), &adas.reference).await;
    // Ada's payment, told as if it were Ben's.
    let told = async |reference: &str| {
        let body = charge(reference, "test").to_string();
        assert_eq!(world.post(body.as_bytes()).await, 200);
    };
    told(&bens.reference).await;
    let bens_deposit = eventually("Ben's deposit waits for a person", BOUND, async || {
        let all = store::deposits(world.pool()).await;
        let bens = all.iter().find(|it| it.account_id == ben.uuid()).unwrap();
        if bens.state == "review" { Ok(bens.clone()) } else { Err(format!("{bens:?}")) }
    })
    .await;
    assert_eq!(bens_deposit.review_reason.as_deref(), Some("not_confirmed"));
    assert_eq!(bens_deposit.paid_reference, None);
    assert_eq!(store::n_events(world.pool(), &adas.reference).await, n_events);
    assert_eq!((world.ledger.balance(ada), world.ledger.balance(ben)), (0, 0));
    told(&adas.reference).await;
    eventually("Ada's credit", BOUND, async || match world.ledger.balance(ada) {
        5_000 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    assert_eq!(world.ledger.balance(ben), 0);
    world.finish().await;
}

/// Sends a byte now and then until it is answered; how the answer begins.
async fn drip(mut stream: TcpStream) -> String {
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\nx-paystack-signature: {}\r\n\r\n",
        payments::WEBHOOK_PATH,
        "0".repeat(128)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    loop {
        tokio::select! {
            read = stream.read_exact(&mut answer) => {
                read.unwrap();
                return String::from_utf8(answer).unwrap();
            }
            () = tokio::time::sleep(DRIP_EVERY) => stream.write_all(b"{").await.unwrap(),
        }
    }
}

#[tokio::test]
async fn whoever_sends_drop_by_drop_is_cut_off_and_holds_up_nobody() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    let opened = (0..DRIPPING).map(|_| TcpStream::connect(world.address()));
    let streams = join_all(opened).await.into_iter().map(|it| it.unwrap());
    let dripping = testkit::spawn(join_all(streams.map(drip)));
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    // All of them are still at it, and none for ever.
    assert!(!dripping.is_finished());
    let answers = tokio::time::timeout(BOUND, dripping).await.unwrap().unwrap();
    assert!(answers.iter().all(|it| it == "HTTP/1.1 408"), "{answers:?}");
    assert_eq!(store::webhooks(world.pool()).await.len(), 1);
    world.finish().await;
}
