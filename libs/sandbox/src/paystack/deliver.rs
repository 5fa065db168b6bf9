//! Sends webhooks: signed, in the background, again and again until the answer is HTTP 200.
//!
//! At least once and in no promised order, as with Paystack; and only to the one configured URL.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{KeyInit as _, Mac as _};
use primitives::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::model::{Event, Topic};
use crate::clock::Clock;
use crate::faults::{Fault, Struck};

/// Pause before each try. Paystack: every 3 minutes four times, then hourly for 72 hours.
const PAUSES_MS: [u64; 10] = [0, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000];
/// Paystack waits 30 s in test mode.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// A webhook held back for the next one does not wait longer than this.
const HOLD_WAIT: Duration = Duration::from_secs(3);
/// Events remembered.
const RECORDS_MAX: usize = 10_000;
/// Deliveries that may wait to be begun.
const QUEUE_MAX: usize = 10_000;
/// As much of a receiver's answer is remembered.
const ANSWER_BYTES_MAX: usize = 1_000;

/// How far the delivery of one webhook has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Counts events from 1.
    pub number: u64,
    /// Such as `charge.success`.
    pub event: &'static str,
    /// Which transaction it is about, whatever the body says.
    pub reference: String,
    /// How often it was sent.
    pub tries: u32,
    /// HTTP status of the last answer; none if there was none.
    pub last_status: Option<u16>,
    /// Whether an answer was 200.
    pub delivered: bool,
    /// Lost by a fault: never sent.
    pub lost: bool,
}

/// Whether anything is still to be expected of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// An answer was 200.
    Delivered,
    /// It will be tried, or tried again.
    Pending,
    /// It was lost or given up.
    Failed,
}

/// Everything that is remembered of an event.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) about: (Topic, u64),
    /// What happened, whatever a fault made of it.
    pub(super) payload: Vec<u8>,
    pub(super) answer: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// Deliveries that are not over.
    n_under_way: u32,
}

impl Entry {
    pub(super) const fn progress(&self) -> Progress {
        match (self.record.delivered, self.n_under_way) {
            (true, _) => Progress::Delivered,
            (false, 0) => Progress::Failed,
            (false, _) => Progress::Pending,
        }
    }
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
    entries: Mutex<(u64, VecDeque<Entry>)>,
    clock: Arc<Clock>,
}

/// The other end of the queue; [`run`] empties it.
#[derive(Debug)]
pub(crate) struct Queue(mpsc::Receiver<Delivery>);

impl Outbox {
    pub(crate) fn new(key: String, url: Option<String>, clock: Arc<Clock>) -> (Self, Queue) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let entries = Mutex::new((0, VecDeque::new()));
        (Self { key, url: Mutex::new(url), queue, entries, clock }, Queue(receiver))
    }

    pub(crate) fn set_url(&self, url: Option<String>) {
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    pub(super) fn url(&self) -> Option<String> {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn entries(&self) -> MutexGuard<'_, (u64, VecDeque<Entry>)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.entries().1.iter().map(|entry| entry.record.clone()).collect()
    }

    /// What is remembered of the events that are asked for, newest first.
    pub(super) fn find(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.entries().1.iter().rev().filter(|entry| wanted(entry)).cloned().collect()
    }

    pub(crate) fn forget(&self) {
        self.entries().1.clear();
    }

    /// Hands in an event, as the faults that struck would have it.
    pub(crate) fn send(&self, event: Event, struck: &Struck, now: Timestamp) {
        let number = self.remember(&event, struck.has(Fault::WebhookLost), now);
        self.hand_over(number, event, struck);
    }

    /// Delivers an event again, as the faults that struck would have it; false if it is forgotten.
    pub(super) fn send_again(&self, number: u64, struck: &Struck) -> bool {
        let mut entries = self.entries();
        let Some(entry) = find(&mut entries.1, number) else { return false };
        let (record, payload) = (&entry.record, serde_json::from_slice::<Value>(&entry.payload));
        // What was written here is JSON.
        let Ok(mut payload) = payload else { return false };
        let (name, reference) = (record.event, record.reference.clone());
        let event = Event { name, reference, about: entry.about, data: payload["data"].take() };
        drop(entries);
        self.hand_over(number, event, struck);
        true
    }

    fn hand_over(&self, number: u64, mut event: Event, struck: &Struck) {
        if struck.has(Fault::WebhookLost) {
            return;
        }
        garble(&mut event, struck);
        let body = body(&event);
        let wrong_key = format!("{}-of-somebody-else", self.key);
        let wrong = struck.has(Fault::WebhookWrongSignature);
        let signature = sign(if wrong { &wrong_key } else { &self.key }, &body);
        let copies = if struck.has(Fault::WebhookTwice) { 2 } else { 1 };
        for _ in 0..copies {
            self.begin(Delivery {
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
        let about = (Topic::Transaction, 0);
        let event = Event { name: "raw", reference: String::new(), about, data: Value::Null };
        let number = self.remember(&event, false, self.clock.now());
        let (wait, followers) = (Duration::ZERO, Vec::new());
        self.begin(Delivery { number, body, signature, wait, followers, hold: false });
    }

    fn begin(&self, delivery: Delivery) {
        if let Some(entry) = find(&mut self.entries().1, delivery.number) {
            entry.n_under_way += 1;
        }
        self.enqueue(delivery);
    }

    fn enqueue(&self, delivery: Delivery) {
        if let Err(refused) = self.queue.try_send(delivery) {
            tracing::error!("a webhook was dropped: more than {QUEUE_MAX} are waiting");
            self.over(refused.into_inner().number);
        }
    }

    /// A delivery succeeded or was given up.
    fn over(&self, number: u64) {
        // A forgotten event has no entry any more.
        if let Some(entry) = find(&mut self.entries().1, number) {
            entry.n_under_way = entry.n_under_way.saturating_sub(1);
        }
    }

    fn remember(&self, event: &Event, lost: bool, now: Timestamp) -> u64 {
        let payload = body(event);
        let mut entries = self.entries();
        let (last, kept) = &mut *entries;
        *last += 1;
        if kept.len() >= RECORDS_MAX {
            kept.pop_front();
        }
        let record = Record {
            number: *last,
            event: event.name,
            reference: event.reference.clone(),
            tries: 0,
            last_status: None,
            delivered: false,
            lost,
        };
        kept.push_back(Entry {
            record,
            about: event.about,
            payload,
            answer: None,
            created_at: now,
            updated_at: now,
            n_under_way: 0,
        });
        *last
    }

    fn tried(&self, number: u64, status: Option<u16>, answer: Option<String>) {
        let now = self.clock.now();
        // A forgotten event has no entry any more.
        if let Some(entry) = find(&mut self.entries().1, number) {
            entry.record.tries += 1;
            entry.record.last_status = status;
            entry.record.delivered |= status == Some(200);
            entry.answer = answer;
            entry.updated_at = now;
        }
    }

    /// Sends once; true if that was enough.
    async fn try_once(&self, client: &reqwest::Client, delivery: &Delivery) -> bool {
        let Some(url) = self.url() else {
            self.tried(delivery.number, None, None);
            return false;
        };
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/plain, */*")
            .header("x-paystack-signature", &delivery.signature)
            .body(delivery.body.clone());
        let (status, answer) = match request.send().await {
            Ok(answer) => (Some(answer.status().as_u16()), beginning(answer).await),
            Err(error) => {
                tracing::debug!("webhook {} was not delivered: {error}", delivery.number);
                (None, None)
            }
        };
        self.tried(delivery.number, status, answer);
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
                self.over(delivery.number);
                return;
            }
            due = self.clock.now();
        }
        self.over(delivery.number);
        tracing::warn!("webhook {} was given up: no answer 200", delivery.number);
    }
}

/// Numbers follow each other without a gap, so that nobody needs to search.
fn find(entries: &mut VecDeque<Entry>, number: u64) -> Option<&mut Entry> {
    let first = entries.front()?.record.number;
    let place = usize::try_from(number.checked_sub(first)?).ok()?;
    entries.get_mut(place)
}

/// How a receiver's answer begins, if it says how long it is.
async fn beginning(mut answer: reqwest::Response) -> Option<String> {
    answer.content_length().filter(|length| *length > 0)?;
    // An answer that breaks off has no beginning worth keeping.
    let chunk = answer.chunk().await.ok()??;
    let kept = chunk.get(..ANSWER_BYTES_MAX).unwrap_or(&chunk);
    Some(String::from_utf8_lossy(kept).into_owned())
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
    if struck.has(Fault::WebhookWrongAmount) {
        for name in ["amount", "refund_amount"] {
            match data.get_mut(name) {
                Some(Value::String(text)) => {
                    *text = other_amount(text.parse().unwrap_or(0)).to_string();
                }
                Some(amount) => *amount = other_amount(amount.as_u64().unwrap_or(0)).into(),
                None => {}
            }
        }
    }
    if struck.has(Fault::WebhookWrongCurrency)
        && let Some(currency) = data.get_mut("currency")
    {
        *currency = other_currency(currency.as_str().unwrap_or_default()).into();
    }
    if struck.has(Fault::WebhookWrongReference) {
        let nobodys: Value = format!("nobodys-{}", event.reference).into();
        for name in ["reference", "transaction_reference"] {
            if let Some(reference) = data.get_mut(name).filter(|it| it.is_string()) {
                *reference = nobodys.clone();
            }
        }
        if let Some(Value::Object(of)) = data.get_mut("transaction") {
            of.insert("reference".to_owned(), nobodys);
        }
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
pub(super) fn body(event: &Event) -> Vec<u8> {
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
        let about = (Topic::Transaction, 1);
        let event = Event { name: "charge.success", reference: String::new(), about, data };
        let body = String::from_utf8(body(&event)).unwrap();
        assert_eq!(body, r#"{"event":"charge.success","data":{"metadata":"ünï\/\"\\"}}"#);
        let read: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read["data"], event.data);
    }
}
