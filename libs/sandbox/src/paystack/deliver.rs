//! Sends webhooks: signed, in the background, again and again until the answer is HTTP 200.
//!
//! At least once and in no promised order, as with Paystack; and only to the one configured URL.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hmac::{KeyInit as _, Mac as _};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::model::Event;
use crate::clock::Clock;
use crate::faults::{Fault, Struck};

/// Pause before each try. Paystack: every 3 minutes four times, then hourly for 72 hours.
const PAUSES_MS: [u64; 10] = [0, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000];
/// Paystack waits 30 s in test mode.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// A webhook held back for the next one does not wait longer than this.
const HOLD_WAIT: Duration = Duration::from_secs(3);
/// Deliveries remembered.
const RECORDS_MAX: usize = 10_000;
/// Deliveries that may wait to be begun.
const QUEUE_MAX: usize = 10_000;

/// How far the delivery of one webhook has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Counts deliveries from 1.
    pub number: u64,
    /// Such as `charge.success`.
    pub event: &'static str,
    /// Which transaction it is about, whatever the body says.
    pub reference: String,
    /// How often it was sent.
    pub tries: u32,
    /// HTTP status of the last answer; none if there was none.
    pub last_status: Option<u16>,
    /// Whether the answer was 200.
    pub delivered: bool,
    /// Lost by a fault: never sent.
    pub lost: bool,
}

/// A webhook ready to be sent.
#[derive(Debug)]
struct Delivery {
    number: u64,
    body: Vec<u8>,
    signature: String,
    wait: Duration,
    /// Held-back webhooks that may go once this one was tried.
    followers: Vec<Delivery>,
    hold: bool,
}

/// Where webhooks are handed in, and what became of them.
#[derive(Debug)]
pub(crate) struct Outbox {
    key: String,
    url: Mutex<Option<String>>,
    queue: mpsc::Sender<Delivery>,
    records: Mutex<(u64, VecDeque<Record>)>,
    clock: Arc<Clock>,
}

/// The other end of the queue; [`run`] empties it.
#[derive(Debug)]
pub(crate) struct Queue(mpsc::Receiver<Delivery>);

impl Outbox {
    pub(crate) fn new(key: String, url: Option<String>, clock: Arc<Clock>) -> (Self, Queue) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let records = Mutex::new((0, VecDeque::new()));
        (Self { key, url: Mutex::new(url), queue, records, clock }, Queue(receiver))
    }

    pub(crate) fn set_url(&self, url: Option<String>) {
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.1.iter().cloned().collect()
    }

    pub(crate) fn forget(&self) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).1.clear();
    }

    /// Hands in an event, as the faults that struck would have it.
    pub(crate) fn send(&self, mut event: Event, struck: &Struck) {
        if struck.has(Fault::WebhookLost) {
            self.record(&event, true);
            return;
        }
        // The record keeps the transaction's own reference, whatever the body will say.
        let reference = event.reference.clone();
        garble(&mut event, struck);
        let body = body(&event);
        let wrong_key = format!("{}-of-somebody-else", self.key);
        let wrong = struck.has(Fault::WebhookWrongSignature);
        let signature = sign(if wrong { &wrong_key } else { &self.key }, &body);
        let copies = if struck.has(Fault::WebhookTwice) { 2 } else { 1 };
        for _ in 0..copies {
            let number =
                self.record(&Event { reference: reference.clone(), ..event.clone() }, false);
            self.enqueue(Delivery {
                number,
                body: body.clone(),
                signature: signature.clone(),
                wait: struck.delay(Fault::WebhookLate).unwrap_or_default(),
                followers: Vec::new(),
                hold: struck.has(Fault::WebhookReordered),
            });
        }
    }

    /// Sends these bytes with this signature, whatever they are.
    pub(crate) fn send_raw(&self, body: Vec<u8>, signature: String) {
        let event = Event { name: "raw", reference: String::new(), data: serde_json::Value::Null };
        let number = self.record(&event, false);
        let (wait, followers) = (Duration::ZERO, Vec::new());
        self.enqueue(Delivery { number, body, signature, wait, followers, hold: false });
    }

    fn enqueue(&self, delivery: Delivery) {
        if self.queue.try_send(delivery).is_err() {
            tracing::error!("a webhook was dropped: more than {QUEUE_MAX} are waiting");
        }
    }

    fn record(&self, event: &Event, lost: bool) -> u64 {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, kept) = &mut *records;
        *last += 1;
        if kept.len() >= RECORDS_MAX {
            kept.pop_front();
        }
        kept.push_back(Record {
            number: *last,
            event: event.name,
            reference: event.reference.clone(),
            tries: 0,
            last_status: None,
            delivered: false,
            lost,
        });
        *last
    }

    fn tried(&self, number: u64, status: Option<u16>) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        // A forgotten delivery has no record any more.
        if let Some(record) = records.1.iter_mut().rev().find(|record| record.number == number) {
            record.tries += 1;
            record.last_status = status;
            record.delivered = status == Some(200);
        }
    }

    /// Sends once; true if that was enough.
    async fn try_once(&self, client: &reqwest::Client, delivery: &Delivery) -> bool {
        let url = self.url.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(url) = url else {
            self.tried(delivery.number, None);
            return false;
        };
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/plain, */*")
            .header("x-paystack-signature", &delivery.signature)
            .body(delivery.body.clone());
        let status = match request.send().await {
            Ok(answer) => Some(answer.status().as_u16()),
            Err(error) => {
                tracing::debug!("webhook {} was not delivered: {error}", delivery.number);
                None
            }
        };
        self.tried(delivery.number, status);
        status == Some(200)
    }

    async fn deliver(self: Arc<Self>, client: reqwest::Client, mut delivery: Delivery) {
        let mut due = self.clock.now().plus(delivery.wait);
        for pause_ms in PAUSES_MS {
            due = due.plus(Duration::from_millis(pause_ms));
            self.clock.wait_until(due).await;
            let done = self.try_once(&client, &delivery).await;
            for follower in std::mem::take(&mut delivery.followers) {
                self.enqueue(Delivery { hold: false, ..follower });
            }
            if done {
                return;
            }
            due = self.clock.now();
        }
        tracing::warn!("webhook {} was given up: no answer 200", delivery.number);
    }
}

/// Sends what is handed in, until it is dropped.
pub(crate) async fn run(outbox: Arc<Outbox>, queue: Queue) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        .user_agent("Paystack/2.0")
        .timeout(ANSWER_WAIT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let Queue(mut queue) = queue;
    let mut under_way = JoinSet::new();
    let mut held: Vec<Delivery> = Vec::new();
    let mut release_at = Instant::now();
    loop {
        tokio::select! {
            delivery = queue.recv() => {
                let Some(mut delivery) = delivery else { return Ok(()) };
                if delivery.hold {
                    release_at = Instant::now() + HOLD_WAIT;
                    held.push(delivery);
                    continue;
                }
                delivery.followers.append(&mut held);
                under_way.spawn(Arc::clone(&outbox).deliver(client.clone(), delivery));
            }
            () = tokio::time::sleep_until(release_at), if !held.is_empty() => {
                for delivery in held.drain(..) {
                    under_way.spawn(Arc::clone(&outbox).deliver(client.clone(), delivery));
                }
            }
            Some(ended) = under_way.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a delivery ended badly: {error}");
                }
            }
        }
    }
}

/// Makes the body say something else than the truth.
fn garble(event: &mut Event, struck: &Struck) {
    let Some(data) = event.data.as_object_mut() else { return };
    let mut set = |name: &str, value: serde_json::Value| data.insert(name.to_owned(), value);
    if struck.has(Fault::WebhookWrongAmount) {
        let amount = set("amount", 0.into()).and_then(|amount| amount.as_u64());
        set("amount", other_amount(amount.unwrap_or(0)).into());
    }
    if struck.has(Fault::WebhookWrongCurrency) {
        let currency = set("currency", "".into());
        let currency = currency.as_ref().and_then(serde_json::Value::as_str);
        set("currency", other_currency(currency.unwrap_or_default()).into());
    }
    if struck.has(Fault::WebhookWrongReference) {
        set("reference", format!("nobodys-{}", event.reference).into());
    }
}

/// An amount that is wrong, and not by a little.
pub(crate) const fn other_amount(amount: u64) -> u64 {
    amount.saturating_mul(10).saturating_add(1)
}

/// A currency that is wrong.
pub(crate) fn other_currency(currency: &str) -> &'static str {
    if currency == "USD" { "NGN" } else { "USD" }
}

/// Compact JSON in which `/` is escaped: legal, and no serializer of ours writes it that way, so
/// whoever checks the signature over anything but the raw bytes is found out.
fn body(event: &Event) -> Vec<u8> {
    let data = event.data.to_string().replace('/', "\\/");
    format!("{{\"event\":\"{}\",\"data\":{data}}}", event.name).into_bytes()
}

/// Lower-case hex of HMAC-SHA512 over the raw body; the key is the secret API key itself.
pub(crate) fn sign(key: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    hmac::Hmac::<sha2::Sha512>::new_from_slice(key.as_bytes()).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(body);
            hex::encode(mac.finalize().into_bytes())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_paystacks() {
        let body = br#"{"event":"charge.success","data":{"id":302961,"domain":"test","status":"success","reference":"dep-0001","amount":1000000,"currency":"NGN"}}"#;
        assert_eq!(
            sign("sk_test_example_key", body),
            "0367d1de3660ff356639653330243fb59d07e1bdc69681be53988e252f300d8e\
             836b8a24f60dd38d3f0d31d09465d6deef26c6e615d0079036b757737a0780e4"
        );
    }

    #[test]
    fn the_body_is_compact_and_its_slashes_are_escaped() {
        let data = serde_json::json!({ "metadata": "ünï/\"\\" });
        let event = Event { name: "charge.success", reference: String::new(), data };
        let body = String::from_utf8(body(&event)).unwrap();
        assert_eq!(body, r#"{"event":"charge.success","data":{"metadata":"ünï\/\"\\"}}"#);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read["data"], event.data);
    }
}
