//! What Paystack does, as a pure function: (state, call, now) → (state, answer, webhooks).
//!
//! Money that was paid is paid: a transaction leaves `success` only by a refund or a lost dispute,
//! and never more goes back than came. A reference is used up for ever. What happens by itself, a
//! refund that moves on or a dispute that is reminded of, stands in the agenda and happens when the
//! model is told the time. Nothing here knows HTTP, faults or the clock.

mod cards;
mod disputes;
pub(crate) mod events;
mod fields;
mod limits;
pub(crate) mod lists;
mod refunds;
mod totals;
mod transactions;
mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use primitives::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use cards::Proof;
pub use disputes::{Category, Claim, Dispute, DisputeStatus, Resolution, Undisputable, Verdict};
pub use events::{Event, Topic};
pub use limits::{Rate, Scope};
pub use lists::Parameters;
pub use refunds::{Refund, RefundStatus};
pub use totals::Totals;
pub(crate) use transactions::fees;
pub use transactions::{Attempt, Outcome, Status, Transaction, Unpayable};
pub(crate) use uploads::NoUpload;

use super::answers::Answer;
use limits::Rates;
use uploads::Upload;

/// How the imagined merchant is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `test` or `live`, as the secret key says.
    pub domain: &'static str,
    /// Where checkout pages are: `{public_url}/checkout/{access_code}`.
    pub public_url: String,
    /// Currencies the merchant may take; the first is the default.
    pub currencies: Vec<String>,
    /// Calls a minute for every scope; Paystack's own limits if none.
    pub calls_per_minute: Option<u32>,
    /// Whether a test key has the limit of a test key: one for everything together.
    pub strict_limits: bool,
    /// Whether Paystack's fees are added to what the customer pays.
    pub fees_on_customer: bool,
    /// Whether a refund needs as much in the balance.
    pub refunds_need_balance: bool,
    /// How long a refund is `pending`.
    pub refund_pending: Duration,
    /// How long a refund is `processing`.
    pub refund_processing: Duration,
}

/// A call to the API, after its key was checked. A body is none if it is no JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// `POST /transaction/initialize`
    Initialize(Option<Value>),
    /// `GET /transaction/verify/:reference`
    Verify(String),
    /// `GET /transaction/:id`
    Fetch(String),
    /// `GET /transaction`
    List(Parameters),
    /// `GET /transaction/totals`
    Totals(Parameters),
    /// `GET /transaction/timeline/:id_or_reference`
    Timeline(String),
    /// `POST /refund`
    CreateRefund(Option<Value>),
    /// `POST /refund/retry_with_customer_details/:id`
    RetryRefund(String, Option<Value>),
    /// `GET /refund/:id`
    FetchRefund(String),
    /// `GET /refund`
    ListRefunds(Parameters),
    /// `GET /dispute`
    ListDisputes(Parameters),
    /// `GET /dispute/:id`
    FetchDispute(String),
    /// `GET /dispute/transaction/:id`
    DisputeOf(String),
    /// `PUT /dispute/:id`
    UpdateDispute(String, Option<Value>),
    /// `POST /dispute/:id/evidence`
    AddEvidence(String, Option<Value>),
    /// `GET /dispute/:id/upload_url`
    UploadUrl(String, Parameters),
    /// `PUT /dispute/:id/resolve`
    ResolveDispute(String, Option<Value>),
}

/// What is written down, so that it outlives the sandbox; the last of one id stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kept {
    /// A refund's new state.
    Refund {
        /// All of it.
        refund: Refund,
    },
    /// A dispute's new state.
    Dispute {
        /// All of it.
        dispute: Dispute,
    },
    /// What was settled of a currency, all in all.
    Settled {
        /// In which currency.
        settled: String,
        /// In minor units.
        amount: u64,
    },
    /// A transaction's new state.
    Transaction(Transaction),
}

/// What is to be done about what happened: webhooks to send and states to write down, in order.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// To be sent.
    pub events: Vec<Event>,
    /// To be written down.
    pub kept: Vec<Kept>,
}

/// What is to happen by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Refund(u64),
    Dispute(u64),
}

/// What somebody wants back of one transaction.
#[derive(Debug, Default)]
struct Claims {
    refunds: Vec<u64>,
    disputes: Vec<u64>,
}

/// Everything Paystack remembers about the merchant.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    transactions: BTreeMap<u64, Transaction>,
    by_reference: BTreeMap<String, u64>,
    by_access_code: BTreeMap<String, u64>,
    customers: BTreeMap<String, u64>,
    refunds: BTreeMap<u64, Refund>,
    disputes: BTreeMap<u64, Dispute>,
    claims: BTreeMap<u64, Claims>,
    uploads: BTreeMap<String, Upload>,
    settled: BTreeMap<String, u64>,
    agenda: BTreeSet<(i64, Due)>,
    effects: Effects,
    rates: Rates,
    last_id: u64,
    seed: u64,
}

impl Model {
    /// Nothing yet; made-up codes follow from `seed`.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            transactions: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            by_access_code: BTreeMap::new(),
            customers: BTreeMap::new(),
            refunds: BTreeMap::new(),
            disputes: BTreeMap::new(),
            claims: BTreeMap::new(),
            uploads: BTreeMap::new(),
            settled: BTreeMap::new(),
            agenda: BTreeSet::new(),
            effects: Effects::default(),
            rates: Rates::default(),
            last_id: 0,
            seed,
        }
    }

    /// Puts back what was written down earlier; the last of one id stands.
    pub fn restore(&mut self, kept: Kept) {
        match kept {
            Kept::Transaction(transaction) => self.restore_transaction(transaction),
            Kept::Refund { refund } => self.restore_refund(refund),
            Kept::Dispute { dispute } => self.restore_dispute(dispute),
            Kept::Settled { settled, amount } => {
                self.settled.insert(settled, amount);
            }
        }
    }

    /// Takes a transaction for what Paystack knows, whatever it knew before.
    pub fn put(&mut self, transaction: Transaction) {
        self.effects.kept.push(Kept::Transaction(transaction.clone()));
        self.restore_transaction(transaction);
    }

    fn restore_transaction(&mut self, transaction: Transaction) {
        self.last_id = self.last_id.max(transaction.id);
        self.by_reference.insert(transaction.reference.clone(), transaction.id);
        self.by_access_code.insert(transaction.access_code.clone(), transaction.id);
        self.customers.insert(transaction.email.clone(), transaction.customer_id);
        self.transactions.insert(transaction.id, transaction);
    }

    fn restore_refund(&mut self, refund: Refund) {
        self.last_id = self.last_id.max(refund.id);
        if let Some(due_at_us) = refund.due_at_us {
            self.agenda.insert((due_at_us, Due::Refund(refund.id)));
        }
        let of_it = &mut self.claims.entry(refund.transaction_id).or_default().refunds;
        if !of_it.contains(&refund.id) {
            of_it.push(refund.id);
        }
        self.refunds.insert(refund.id, refund);
    }

    fn restore_dispute(&mut self, dispute: Dispute) {
        self.last_id = self.last_id.max(dispute.id);
        if let Some(wake_at_us) = dispute.wake_at_us {
            self.agenda.insert((wake_at_us, Due::Dispute(dispute.id)));
        }
        let of_it = &mut self.claims.entry(dispute.transaction_id).or_default().disputes;
        if !of_it.contains(&dispute.id) {
            of_it.push(dispute.id);
        }
        self.disputes.insert(dispute.id, dispute);
    }

    /// Every transaction, oldest first.
    pub fn transactions(&self) -> impl DoubleEndedIterator<Item = &Transaction> {
        self.transactions.values()
    }

    /// One transaction by its reference or its access code.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Transaction> {
        let id = self.by_reference.get(name).or_else(|| self.by_access_code.get(name))?;
        self.transactions.get(id)
    }

    /// Counts a call against its scope's minute.
    pub fn admit(&mut self, scope: Scope, now: Timestamp) -> Rate {
        self.rates.admit(scope, &self.settings, now)
    }

    /// Lets everything happen that is due.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some((at_us, due)) = self.agenda.first().copied() {
            if at_us > now.micros() {
                return;
            }
            self.agenda.pop_first();
            let at = Timestamp::from_micros(at_us);
            match due {
                Due::Refund(id) => self.refund_is_due(id, at),
                Due::Dispute(id) => self.dispute_is_due(id, at),
            }
        }
    }

    /// When something happens by itself the next time.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.agenda.first().map(|(at_us, _)| Timestamp::from_micros(*at_us))
    }

    /// What is to be done about what happened since this was asked last.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Answers a call.
    pub fn call(&mut self, call: Call, now: Timestamp) -> Answer {
        self.advance(now);
        let answer = match call {
            Call::Initialize(body) => self.initialize(body.as_ref(), now),
            Call::Verify(reference) => self.verify(&reference),
            Call::Fetch(id) => self.fetch(&id),
            Call::List(parameters) => self.list(&parameters),
            Call::Totals(parameters) => self.transaction_totals(&parameters),
            Call::Timeline(name) => self.timeline(&name),
            Call::CreateRefund(body) => self.create_refund(body.as_ref(), now),
            Call::RetryRefund(id, body) => self.retry_refund(&id, body.as_ref(), now),
            Call::FetchRefund(id) => self.fetch_refund(&id),
            Call::ListRefunds(parameters) => self.list_refunds(&parameters),
            Call::ListDisputes(parameters) => self.list_disputes(&parameters),
            Call::FetchDispute(id) => self.fetch_dispute(&id),
            Call::DisputeOf(id) => self.dispute_of(&id),
            Call::UpdateDispute(id, body) => self.update_dispute(&id, body.as_ref(), now),
            Call::AddEvidence(id, body) => self.add_evidence(&id, body.as_ref(), now),
            Call::UploadUrl(id, parameters) => self.upload_url(&id, &parameters, now),
            Call::ResolveDispute(id, body) => self.resolve_dispute(&id, body.as_ref(), now),
        };
        answer.unwrap_or_else(|refusal| refusal)
    }

    /// Milliseconds since 1970, or one more than the last: above 2^32, where Paystack's own ids
    /// have been since 2022, and new even when everything before was forgotten.
    fn next_id(&self, now: Timestamp) -> u64 {
        let by_clock = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        by_clock.max(self.last_id + 1)
    }

    /// Looks like Paystack's own codes; follows from seed and clock, so that a run can be repeated.
    fn made_up(&self, what: &str, id: u64, length: usize) -> String {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(format!("{what} {id} {}", self.seed));
        let mut code = hex::encode(digest);
        code.truncate(length);
        code
    }

    /// The same, of digits only.
    fn made_up_digits(&self, what: &str, id: u64, length: usize) -> String {
        let code = self.made_up(what, id, length);
        let digit = |c: char| c.to_digit(16).and_then(|n| char::from_digit(n % 10, 10));
        code.chars().filter_map(digit).collect()
    }

    /// The webhook of a paid transaction once more, as Paystack can be asked to send it.
    #[must_use]
    pub fn resend(&self, name: &str) -> Option<Event> {
        let paid = self.find(name).filter(|it| it.status == Status::Success)?;
        Some(events::charge_success(&self.settings, paid))
    }

    /// Forgets everything, references too.
    pub fn reset(&mut self) {
        *self = Self::new(self.settings.clone(), self.seed);
    }
}
