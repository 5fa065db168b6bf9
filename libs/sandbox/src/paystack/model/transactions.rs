//! Transactions: initialize, pay, verify, and what can be asked about them later.

use primitives::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::answers::{self, Answer, Shape};
use super::cards::{self, Proof};
use super::lists::{Paging, Parameters};
use super::{Kept, Model, events, fields};

/// How far a transaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not paid, or not paid yet: Paystack says so straight after initialize.
    Abandoned,
    /// The last attempt was refused; another may follow.
    Failed,
    /// Paid.
    Success,
    /// Paid, and a refund is under way.
    ReversalPending,
    /// Paid and given back or taken back, in whole or in part.
    Reversed,
}

impl Status {
    /// As Paystack spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Failed => "failed",
            Self::Success => "success",
            Self::ReversalPending => "reversal_pending",
            Self::Reversed => "reversed",
        }
    }

    /// Whether money came, whatever became of it.
    #[must_use]
    pub const fn is_paid(self) -> bool {
        match self {
            Self::Abandoned | Self::Failed => false,
            Self::Success | Self::ReversalPending | Self::Reversed => true,
        }
    }
}

/// One transaction, from initialize on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Paystack's id, above 2^32.
    pub id: u64,
    /// The merchant's reference.
    pub reference: String,
    /// Last part of the checkout's address.
    pub access_code: String,
    /// Who pays.
    pub email: String,
    /// What was asked for, in minor units.
    pub requested_amount: u64,
    /// What was paid, or is to be.
    pub amount: u64,
    /// What of it the customer paid for Paystack's fees.
    #[serde(default)]
    pub fees_on_top: u64,
    /// In which currency.
    pub currency: String,
    /// How far it has come.
    pub status: Status,
    /// Where the browser goes after payment.
    pub callback_url: Option<String>,
    /// Channels the merchant left open; none: all.
    #[serde(default)]
    pub channels: Vec<String>,
    /// By which channel the last attempt was made.
    #[serde(default = "by_card")]
    pub channel: String,
    /// What the merchant sent along.
    pub metadata: Value,
    /// Why the last attempt ended as it did.
    pub gateway_response: String,
    /// The card of the last attempt.
    pub card: String,
    /// Number of attempts.
    pub attempts: u32,
    /// Id of the customer with this e-mail.
    pub customer_id: u64,
    /// In microseconds since 1970.
    pub created_at_us: i64,
    /// In microseconds since 1970.
    pub paid_at_us: Option<i64>,
}

fn by_card() -> String {
    "card".to_owned()
}

/// What the person at the checkout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Pays.
    Success,
    /// Is refused by the bank.
    Failed,
    /// Walks away.
    Abandoned,
}

/// An attempt to pay at the checkout.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What the person does.
    pub outcome: Outcome,
    /// Card number; a test card's own outcome takes the place of `success`. Empty: a good card.
    pub card: String,
    /// By which channel. Empty: by card, or what the merchant left open.
    pub channel: String,
    /// What the person answers when the bank asks.
    pub proof: Proof,
    /// The person pays this instead of what was asked for.
    pub other_amount: Option<u64>,
    /// The person pays in this currency instead.
    pub other_currency: Option<String>,
}

impl Attempt {
    /// With a good card and the amount asked for.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            card: String::new(),
            channel: String::new(),
            proof: Proof::default(),
            other_amount: None,
            other_currency: None,
        }
    }

    /// Pays with a card of this number, which decides.
    #[must_use]
    pub fn with_card(card: &str) -> Self {
        Self { card: card.to_owned(), ..Self::new(Outcome::Success) }
    }
}

/// Why nothing can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpayable {
    /// There is no such checkout.
    Unknown,
    /// It has been paid.
    Paid,
}

impl Model {
    pub(super) fn initialize(
        &mut self,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Answer, Answer> {
        let body = fields::object(body)?;
        let email = fields::email(body)?;
        let currency = self.currency(body)?;
        let amount = fields::amount(body, &currency)?;
        let callback_url = fields::callback_url(body)?;
        let channels = fields::channels(body)?;
        let metadata = fields::metadata(body)?;
        let id = self.next_id(now);
        let reference = match fields::given(body, "reference") {
            None => self.made_up("reference", id, 10),
            Some(Value::String(text)) if fields::is_reference(text) => text.clone(),
            Some(_) => return Err(answers::invalid_reference()),
        };
        if self.by_reference.contains_key(&reference) {
            return Err(answers::duplicate_reference());
        }
        let next_customer = 181_873_746 + u64::try_from(self.customers.len()).unwrap_or(0);
        let customer_id = *self.customers.entry(email.clone()).or_insert(next_customer);
        let transaction = Transaction {
            id,
            access_code: self.made_up("access", id, 15),
            reference,
            email,
            requested_amount: amount,
            amount,
            fees_on_top: 0,
            currency,
            status: Status::Abandoned,
            callback_url,
            channels,
            channel: by_card(),
            metadata,
            gateway_response: "The transaction was not completed".to_owned(),
            card: String::new(),
            attempts: 0,
            customer_id,
            created_at_us: now.micros(),
            paid_at_us: None,
        };
        let answer = answers::initialized(&self.settings, &transaction);
        self.effects.kept.push(Kept::Transaction(transaction.clone()));
        self.restore_transaction(transaction);
        Ok(answer)
    }

    fn currency(&self, body: &Map<String, Value>) -> Result<String, Answer> {
        let known = &self.settings.currencies;
        match fields::given(body, "currency") {
            None => Ok(known.first().cloned().unwrap_or_default()),
            Some(Value::String(text)) if known.contains(text) => Ok(text.clone()),
            Some(_) => Err(answers::refused(400, "Currency not supported by merchant")),
        }
    }

    pub(super) fn verify(&self, reference: &str) -> Result<Answer, Answer> {
        if reference.is_empty() {
            return Err(answers::id_not_numeric());
        }
        if !fields::is_reference(reference) {
            return Err(answers::invalid_reference());
        }
        let found = self.by_reference.get(reference).and_then(|id| self.transactions.get(id));
        let it = found.ok_or_else(answers::reference_not_found)?;
        let data = answers::data(&self.settings, it, Shape::Verify);
        Ok(answers::success("Verification successful", data))
    }

    pub(super) fn fetch(&self, id: &str) -> Result<Answer, Answer> {
        let id: u64 = id.parse().map_err(|_| answers::id_not_numeric())?;
        let it = self.transactions.get(&id).ok_or_else(answers::id_not_found)?;
        let data = answers::data(&self.settings, it, Shape::Fetch);
        Ok(answers::success("Transaction retrieved", data))
    }

    /// By reference or by id, as some calls allow.
    pub(super) fn by_id_or_reference(&self, name: &str) -> Option<&Transaction> {
        let by_id = || name.parse::<u64>().ok();
        let id = self.by_reference.get(name).copied().or_else(by_id)?;
        self.transactions.get(&id)
    }

    pub(super) fn timeline(&self, name: &str) -> Result<Answer, Answer> {
        let it = self.by_id_or_reference(name).ok_or_else(answers::id_not_found)?;
        Ok(answers::success("Timeline retrieved", answers::timeline(it)))
    }

    pub(super) fn list(&self, parameters: &Parameters) -> Result<Answer, Answer> {
        let paging = Paging::read(parameters)?;
        let period = parameters.period()?;
        let amount = parameters.number("amount")?;
        let customer = |it: &Transaction| {
            let by_id = |wanted: &str| wanted.parse() == Ok(it.customer_id);
            parameters.text("customer").is_none_or(by_id)
        };
        let wanted = |it: &&Transaction| {
            period.contains(&it.created_at_us)
                && parameters.text("status").is_none_or(|status| status == it.status.as_str())
                && parameters.text("channel").is_none_or(|channel| channel == it.channel)
                && amount.is_none_or(|amount| amount == it.amount)
                && customer(it)
        };
        // Newest first.
        let all: Vec<&Transaction> = self.transactions().rev().filter(wanted).collect();
        let volume: u64 =
            all.iter().filter(|it| it.status == Status::Success).map(|it| it.amount).sum();
        let (shown, mut meta) = paging.cut(all, |it| it.id);
        if let (Paging::Offset { .. }, Some(meta)) = (paging, meta.as_object_mut()) {
            meta.insert("total_volume".to_owned(), volume.into());
        }
        let data = shown.iter().map(|it| answers::data(&self.settings, it, Shape::List)).collect();
        Ok(answers::listed("Transactions retrieved", data, meta))
    }

    pub(super) fn transaction_totals(&self, parameters: &Parameters) -> Result<Answer, Answer> {
        let period = parameters.period()?;
        let all = self.transactions().filter(|it| period.contains(&it.created_at_us));
        Ok(answers::transaction_totals(all))
    }

    /// Somebody at the checkout does something. What was paid leaves its webhook among the effects.
    ///
    /// # Errors
    /// There is nothing to pay.
    pub fn pay(
        &mut self,
        access_code: &str,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<&Transaction, Unpayable> {
        let id = self.by_access_code.get(access_code).ok_or(Unpayable::Unknown)?;
        let transaction = self.transactions.get_mut(id).ok_or(Unpayable::Unknown)?;
        if transaction.status.is_paid() {
            return Err(Unpayable::Paid);
        }
        let digits: String = attempt.card.chars().filter(char::is_ascii_digit).collect();
        let channel = channel(transaction, &attempt);
        let refusal = match (attempt.outcome, channel.as_deref()) {
            (Outcome::Abandoned, _) => return Ok(transaction),
            (Outcome::Success, None) => Some("Channel not available"),
            (Outcome::Failed, _) => Some("Declined"),
            (Outcome::Success, Some("card")) => cards::card_refusal(&digits, &attempt.proof, now),
            (Outcome::Success, Some(_)) => cards::bank_refusal(&attempt.proof),
        };
        transaction.attempts = transaction.attempts.saturating_add(1);
        transaction.card = digits;
        transaction.channel = channel.unwrap_or(attempt.channel);
        if let Some(why) = refusal {
            transaction.status = Status::Failed;
            transaction.gateway_response = why.to_owned();
        } else {
            transaction.status = Status::Success;
            transaction.gateway_response = "Successful".to_owned();
            transaction.paid_at_us = Some(now.micros());
            if self.settings.fees_on_customer {
                transaction.fees_on_top = fees_on_top(transaction);
                transaction.amount = transaction.requested_amount + transaction.fees_on_top;
            }
            if let Some(amount) = attempt.other_amount {
                (transaction.amount, transaction.fees_on_top) = (amount, 0);
            }
            if let Some(currency) = attempt.other_currency {
                transaction.currency = currency;
            }
            let event = events::charge_success(&self.settings, transaction);
            self.effects.events.push(event);
        }
        self.effects.kept.push(Kept::Transaction(transaction.clone()));
        Ok(transaction)
    }
}

/// The channel an attempt takes; none if the merchant closed it.
fn channel(asked: &Transaction, attempt: &Attempt) -> Option<String> {
    let open = |channel: &str| {
        asked.channels.is_empty() || asked.channels.iter().any(|open| open == channel)
    };
    if !attempt.channel.is_empty() {
        return open(&attempt.channel).then(|| attempt.channel.clone());
    }
    if !attempt.card.is_empty() || open("card") {
        return open("card").then(by_card);
    }
    asked.channels.first().cloned()
}

/// Local fees in Nigeria: 1.5 % and ₦100, which is waived under ₦2,500; ₦2,000 at most. For other
/// currencies Paystack's answer may be `null`, and here it is.
pub(crate) fn fees(amount: u64, currency: &str) -> Option<u64> {
    let flat = if amount < 250_000 { 0 } else { 10_000 };
    (currency == "NGN")
        .then(|| (amount.saturating_mul(15).div_ceil(1_000).saturating_add(flat)).min(200_000))
}

/// What must be added so that after fees the merchant has what was asked for.
fn fees_on_top(it: &Transaction) -> u64 {
    let asked = it.requested_amount;
    if fees(asked, &it.currency).is_none() {
        return 0;
    }
    let charged = |net: u64| net.saturating_mul(1_000).div_ceil(985);
    let small = charged(asked);
    let whole = if small < 250_000 { small } else { charged(asked + 10_000) };
    whole.min(asked + 200_000) - asked
}
