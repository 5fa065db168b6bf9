//! What a webhook's body says, and what it means for a deposit. Pure.
//!
//! By the time a body comes here its signature was good, but good signatures come on strange bodies
//! too: other events, other accounts' references, the other of test and live, JSON that two readers
//! read differently. None of it credits anything; what is odd is kept for a person.

use std::collections::BTreeMap;

use primitives::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::lifecycle::{Deposit, Event, Reason};
use crate::loose::{self, Object};
use crate::reference::Reference;
use crate::verdict::{self, Domain, Expected, Said};

/// Longest event name that is looked at; Paystack's longest has 35 characters.
const EVENT_CHARS_MAX: usize = 64;
/// Longest row of identifying parts that is taken as it is; with the event's name it fits the store.
const IDENTITY_CHARS_MAX: usize = 130;

/// A webhook's body, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The same for every telling of the same fact.
    pub identity: String,
    /// Its name, if it has a sane one.
    pub event: Option<String>,
    /// What it is about.
    pub topic: Topic,
    /// The reference it names, if that is a well-formed one of ours.
    pub reference: Option<Reference>,
    /// What it says of a transaction.
    pub said: Said,
    /// Why it cannot be used, if so.
    pub oddity: Option<Oddity>,
}

/// What a webhook is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// A payment that succeeded.
    Payment,
    /// A refund of the payment it names; it does not say which.
    Refund,
    /// The dispute of this id at Paystack, about the payment it names.
    Dispute(String),
    /// Nothing that deposits are concerned with.
    Other,
}

/// Why a webhook is parked. The codes are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// No JSON object.
    Unreadable,
    /// A key is said twice, so that two readers may see two things.
    DuplicateKeys,
    /// An event we know nothing of.
    UnknownEvent,
    /// A refund that we did not ask for, of what is not known to be paid.
    NeedsPerson,
    /// Something it must say is missing or of the wrong type.
    Incomplete,
    /// A successful charge whose status is not success.
    NotSuccess,
    /// The other of test and live.
    OtherDomain,
    /// No deposit of ours has this reference.
    UnknownReference,
    /// Another amount than our record.
    AmountDiffers,
    /// Another currency than our record.
    CurrencyDiffers,
    /// The deposit was paid under another of its references: perhaps paid twice.
    OtherAttempt,
}

impl Oddity {
    /// The stable code, as stored and counted.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::DuplicateKeys => "duplicate_keys",
            Self::UnknownEvent => "unknown_event",
            Self::NeedsPerson => "needs_person",
            Self::Incomplete => "incomplete",
            Self::NotSuccess => "not_success",
            Self::OtherDomain => "other_domain",
            Self::UnknownReference => "unknown_reference",
            Self::AmountDiffers => "amount_differs",
            Self::CurrencyDiffers => "currency_differs",
            Self::OtherAttempt => "other_attempt",
        }
    }
}

/// What a notice means for the deposit that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// What happened to the deposit, if anything.
    pub event: Option<Event>,
    /// Why a person should see the notice, if so.
    pub oddity: Option<Oddity>,
}

/// Reads a body whose signature was good.
#[must_use]
pub fn read(body: &[u8]) -> Notice {
    let digest = hex::encode(Sha256::digest(body));
    let odd = |oddity, event: Option<String>| Notice {
        identity: identity(event.as_deref().unwrap_or("unreadable"), &[&digest], &digest),
        event,
        topic: Topic::Other,
        reference: None,
        said: Said::default(),
        oddity: Some(oddity),
    };
    let Ok(envelope) = serde_json::from_slice::<Object<Box<RawValue>>>(body) else {
        return odd(Oddity::Unreadable, None);
    };
    let event = envelope.fields.get("event").and_then(|it| event_name(it.get()));
    if envelope.has_duplicates {
        return odd(Oddity::DuplicateKeys, event);
    }
    let Some(event) = event else { return odd(Oddity::UnknownEvent, None) };
    let data = envelope.fields.get("data").map(|it| it.get()).unwrap_or_default();
    let Ok(data) = serde_json::from_str::<Object<Value>>(data) else {
        // Some events carry an array; those that concern deposits never do.
        let oddity = match topic(&event, None) {
            Topic::Other => Oddity::UnknownEvent,
            Topic::Payment | Topic::Refund | Topic::Dispute(_) => Oddity::Incomplete,
        };
        return odd(oddity, Some(event));
    };
    if data.has_duplicates {
        return odd(Oddity::DuplicateKeys, Some(event));
    }
    let said = loose::said(|name| data.fields.get(name));
    let topic = topic(&event, Some(&data.fields));
    let named = match &topic {
        Topic::Payment | Topic::Other => said.reference.clone(),
        Topic::Refund => loose::text(data.fields.get("transaction_reference")),
        Topic::Dispute(_) => {
            let of = data.fields.get("transaction").and_then(Value::as_object);
            loose::text(of.and_then(|it| it.get("reference")))
        }
    };
    Notice {
        identity: fact_identity(&event, &data.fields, &said, &digest),
        oddity: trouble(&topic, named.is_some(), &said),
        event: Some(event),
        reference: named.and_then(|it| Reference::parse(&it).ok()),
        topic,
        said,
    }
}

/// What a readable notice means for the deposit it names; `claim_until` is how long verify may take
/// to agree.
#[must_use]
pub fn meaning(
    notice: &Notice,
    deposit: &Deposit,
    expected: &Expected<'_>,
    claim_until: Timestamp,
) -> Meaning {
    let nothing = |oddity| Meaning { event: None, oddity: Some(oddity) };
    if let Some(oddity) = notice.oddity {
        return nothing(oddity);
    }
    if notice.is_for_another(expected.domain) {
        return nothing(Oddity::OtherDomain);
    }
    if notice.said.status.as_deref() != Some("success") {
        return nothing(Oddity::NotSuccess);
    }
    if deposit.claimed_reference().is_some_and(|it| it != expected.reference) {
        return nothing(Oddity::OtherAttempt);
    }
    let claimed = Event::Claimed { reference: expected.reference.clone(), until: claim_until };
    // Verify is the proof, so even a notice that differs makes somebody look; but it stays odd.
    let oddity = match verdict::difference(expected, &notice.said) {
        None => None,
        Some(Reason::CurrencyDiffers) => Some(Oddity::CurrencyDiffers),
        Some(Reason::AmountDiffers) => Some(Oddity::AmountDiffers),
        Some(Reason::DomainDiffers) => Some(Oddity::OtherDomain),
        Some(
            Reason::ReferenceDiffers
            | Reason::Reversed
            | Reason::NotConfirmed
            | Reason::LedgerRefused(_),
        ) => Some(Oddity::UnknownReference),
    };
    Meaning { event: Some(claimed), oddity }
}

impl Notice {
    /// Whether it was meant for the other of test and live.
    #[must_use]
    pub fn is_for_another(&self, domain: Domain) -> bool {
        self.said.domain.as_deref().is_some_and(|it| it != domain.as_str())
    }
}

fn event_name(json: &str) -> Option<String> {
    let name: String = serde_json::from_str(json).ok()?;
    let is_sane = (1..=EVENT_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    is_sane.then_some(name)
}

fn topic(event: &str, data: Option<&BTreeMap<String, Value>>) -> Topic {
    if event == "charge.success" {
        Topic::Payment
    } else if event.starts_with("refund.") {
        Topic::Refund
    } else if event.starts_with("charge.dispute.") {
        let id = loose::whole_number(data.and_then(|it| it.get("id")));
        Topic::Dispute(id.map(|it| it.to_string()).unwrap_or_default())
    } else {
        Topic::Other
    }
}

/// Why it cannot be used, if so.
fn trouble(topic: &Topic, is_named: bool, said: &Said) -> Option<Oddity> {
    let is_incomplete = match topic {
        Topic::Other => return Some(Oddity::UnknownEvent),
        Topic::Payment => is_incomplete(said),
        Topic::Refund => !is_named || said.amount_minor.is_none(),
        Topic::Dispute(id) => !is_named || id.is_empty(),
    };
    is_incomplete.then_some(Oddity::Incomplete)
}

fn is_incomplete(said: &Said) -> bool {
    said.reference.is_none()
        || said.status.is_none()
        || said.amount_minor.is_none()
        || said.currency.is_none()
}

/// What tells a repeat from a new fact, event by event. Paystack repeats a fact with other bytes, so
/// it is not the body; and it may tell another amount under the same id, so it is not the id alone.
fn fact_identity(event: &str, data: &BTreeMap<String, Value>, said: &Said, digest: &str) -> String {
    let part = |name: &str| loose::text(data.get(name)).unwrap_or_default();
    if event == "charge.success" {
        return match &said.provider_id {
            Some(id) if !is_incomplete(said) => identity(event, &[id, &facts_digest(said)], digest),
            Some(_) | None => identity(event, &[digest], digest),
        };
    }
    let id = loose::whole_number(data.get("id")).map(|it| it.to_string());
    if let Some(id) = id.or_else(|| loose::text(data.get("transfer_code"))) {
        return identity(event, &[&id], digest);
    }
    let (refunded, refund) = (part("transaction_reference"), part("refund_reference"));
    if event.starts_with("refund.") && !refunded.is_empty() && !refund.is_empty() {
        let amount = loose::whole_number(data.get("amount")).unwrap_or(0).to_string();
        return identity(event, &[&refunded, &refund, &amount], digest);
    }
    identity(event, &[digest], digest)
}

fn facts_digest(said: &Said) -> String {
    let mut hash = Sha256::new();
    let amount = said.amount_minor.map(|it| it.to_string());
    let requested = said.requested_amount_minor.map(|it| it.to_string());
    for fact in [&said.status, &said.reference, &amount, &requested, &said.currency, &said.domain] {
        // Lengths first, so that no two rows of facts are the same bytes.
        let fact = fact.as_deref().unwrap_or_default();
        hash.update(fact.len().to_be_bytes());
        hash.update(fact);
    }
    hex::encode(hash.finalize()).split_off(48)
}

/// Joins what identifies; anything long or strange is replaced by the body's digest.
fn identity(event: &str, parts: &[&str], digest: &str) -> String {
    let joined = parts.join(":");
    let is_plain = joined.len() <= IDENTITY_CHARS_MAX
        && joined.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':'));
    if is_plain { format!("{event}:{joined}") } else { format!("{event}:{digest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARGE: &str = r#"{"event":"charge.success","data":{"id":302961,"domain":"test","status":"success","reference":"dep-0192f0c1e6b87c3a","amount":1000000,"currency":"NGN"}}"#;

    fn oddity(body: &str) -> Option<Oddity> {
        read(body.as_bytes()).oddity
    }

    #[test]
    fn a_charge_is_read() {
        let notice = read(CHARGE.as_bytes());
        assert_eq!(notice.oddity, None);
        assert_eq!(notice.event.as_deref(), Some("charge.success"));
        assert_eq!(notice.said.amount_minor, Some(1_000_000));
        assert_eq!(notice.reference.unwrap().as_str(), "dep-0192f0c1e6b87c3a");
        assert!(notice.identity.starts_with("charge.success:302961:"), "{}", notice.identity);
    }

    #[test]
    fn what_is_odd_is_said_so() {
        use Oddity::{DuplicateKeys, Incomplete, UnknownEvent, Unreadable};
        for (body, expected) in [
            ("", Unreadable),
            ("[]", Unreadable),
            ("null", Unreadable),
            ("{\"event\":", Unreadable),
            ("{}", UnknownEvent),
            (r#"{"event":7,"data":{}}"#, UnknownEvent),
            (r#"{"event":"charge.success\u0000","data":{}}"#, UnknownEvent),
            (r#"{"event":"transfer.success","data":{"id":1}}"#, UnknownEvent),
            (r#"{"event":"subscription.expiring_cards","data":[]}"#, UnknownEvent),
            (r#"{"event":"refund.processed","data":{"amount":"1"}}"#, Incomplete),
            (r#"{"event":"refund.processed","data":[]}"#, Incomplete),
            (r#"{"event":"charge.dispute.create","data":{"id":1}}"#, Incomplete),
            (r#"{"event":"charge.success"}"#, Incomplete),
            (r#"{"event":"charge.success","data":null}"#, Incomplete),
            (r#"{"event":"charge.success","data":[]}"#, Incomplete),
            (r#"{"event":"charge.success","data":{"reference":"x"}}"#, Incomplete),
            (r#"{"event":"a","event":"charge.success","data":{}}"#, DuplicateKeys),
            (r#"{"event":"charge.success","data":{"amount":1,"amount":2}}"#, DuplicateKeys),
        ] {
            assert_eq!(oddity(body), Some(expected), "{body}");
        }
        let fraction = CHARGE.replace("1000000", "10000.5");
        assert_eq!(oddity(&fraction), Some(Incomplete));
    }

    #[test]
    fn refunds_and_disputes_name_the_payment_they_are_about() {
        let refund = r#"{"event":"refund.failed","data":{"transaction_reference":"dep-0192f0c1e6b87c3a","amount":4000}}"#;
        let dispute = r#"{"event":"charge.dispute.create","data":{"id":358950,"transaction":{"reference":"dep-0192f0c1e6b87c3a"}}}"#;
        for (body, topic) in
            [(refund, Topic::Refund), (dispute, Topic::Dispute("358950".to_owned()))]
        {
            let notice = read(body.as_bytes());
            assert_eq!((notice.topic, notice.oddity), (topic, None));
            assert_eq!(notice.reference.unwrap().as_str(), "dep-0192f0c1e6b87c3a");
        }
    }

    #[test]
    fn the_same_fact_in_other_bytes_is_a_repeat_and_another_fact_is_not() {
        let identity = |body: &str| read(body.as_bytes()).identity;
        let first = identity(CHARGE);
        let spaced =
            CHARGE.replace("\"data\":", "\"data\" : ").replace("NGN\"", "NGN\",\"log\":null");
        assert_eq!(identity(&spaced), first);
        assert_eq!(identity(&CHARGE.replace("1000000", "\"1000000\"")), first);
        assert_ne!(identity(&CHARGE.replace("1000000", "999")), first);
        assert_ne!(identity(&CHARGE.replace("NGN", "USD")), first);
        assert_ne!(identity(&CHARGE.replace("302961", "302962")), first);
        assert_ne!(identity(&CHARGE.replace("c3a\"", "c3b\"")), first);
        let processed = r#"{"event":"refund.processed","data":{"transaction_reference":"dep-1","refund_reference":"R1","amount":"5"}}"#;
        assert_eq!(identity(processed), identity(&processed.replace("\"5\"", "5")));
        assert_ne!(identity(processed), identity(&processed.replace("R1", "R2")));
        let pending = processed.replace("\"R1\"", "null");
        assert_ne!(identity(&pending), identity(&pending.replace("\"5\"", "5")));
    }

    #[test]
    fn an_identity_is_short_and_plain_whatever_was_sent() {
        let long = "x".repeat(10_000);
        for body in [
            CHARGE.replace("charge.success", &long),
            CHARGE
                .replace("charge.success", "transfer.success")
                .replace("302961", &format!("\"{long}\"")),
            format!(r#"{{"event":"transfer.failed","data":{{"transfer_code":"{long}"}}}}"#),
            r#"{"event":"transfer.failed","data":{"transfer_code":"a\u0000b"}}"#.to_owned(),
        ] {
            let notice = read(body.as_bytes());
            assert!(notice.identity.len() <= 200, "{}", notice.identity);
            assert!(!notice.identity.contains('\0'));
        }
    }
}
