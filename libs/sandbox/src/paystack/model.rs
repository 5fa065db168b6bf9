//! What Paystack does, as a pure function: (state, call, now) → (state, answer, webhooks).
//!
//! Money that was paid is paid: a transaction leaves `success` only by [`Model::reverse`].
//! A reference is used up for ever. Nothing here knows HTTP, faults or the clock.

use std::collections::BTreeMap;

use primitives::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answers::{self, Answer, Shape};

/// Largest transaction: ten million in the major unit.
const AMOUNT_MINOR_MAX: u64 = 10_000_000 * 100;
/// Smallest transaction in each currency Paystack knows.
const AMOUNT_MINOR_MIN: [(&str, u64); 6] =
    [("NGN", 5_000), ("USD", 200), ("GHS", 10), ("ZAR", 100), ("KES", 300), ("XOF", 100)];
const CHANNELS: [&str; 10] = [
    "card",
    "bank",
    "apple_pay",
    "ussd",
    "qr",
    "mobile_money",
    "bank_transfer",
    "eft",
    "capitec_pay",
    "payattitude",
];
const PER_PAGE: u64 = 50;
const RATE_WINDOW_SECONDS: i64 = 60;

/// How the imagined merchant is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `test` or `live`, as the secret key says.
    pub domain: &'static str,
    /// Where checkout pages are: `{public_url}/checkout/{access_code}`.
    pub public_url: String,
    /// Currencies the merchant may take; the first is the default.
    pub currencies: Vec<String>,
    /// Calls a minute for every scope; Paystack's own live limits if none.
    pub calls_per_minute: Option<u32>,
}

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
    /// Paid and given back.
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
            Self::Reversed => "reversed",
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
    /// In which currency.
    pub currency: String,
    /// How far it has come.
    pub status: Status,
    /// Where the browser goes after payment.
    pub callback_url: Option<String>,
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

/// A call to the API, after its key was checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// `POST /transaction/initialize` with this body; none if it is no JSON.
    Initialize(Option<Value>),
    /// `GET /transaction/verify/:reference`
    Verify(String),
    /// `GET /transaction/:id`
    Fetch(String),
    /// `GET /transaction` with these parameters.
    List(BTreeMap<String, String>),
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
    /// The person pays this instead of what was asked for.
    pub other_amount: Option<u64>,
    /// The person pays in this currency instead.
    pub other_currency: Option<String>,
}

impl Attempt {
    /// With a good card and the amount asked for.
    #[must_use]
    pub const fn new(outcome: Outcome) -> Self {
        Self { outcome, card: String::new(), other_amount: None, other_currency: None }
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

/// A webhook to be sent: the whole fact, to be written down by the sender.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `charge.success`.
    pub name: &'static str,
    /// Which transaction it is about.
    pub reference: String,
    /// The `data` of the body.
    pub data: Value,
}

/// What a call's scope has left in this minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a minute.
    pub limit: u32,
    /// Calls left.
    pub remaining: u32,
    /// Seconds until the minute is over.
    pub reset: i64,
    /// This call was one too many.
    pub exceeded: bool,
}

/// Everything Paystack remembers about the merchant.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    transactions: BTreeMap<u64, Transaction>,
    by_reference: BTreeMap<String, u64>,
    by_access_code: BTreeMap<String, u64>,
    customers: BTreeMap<String, u64>,
    rates: BTreeMap<&'static str, (i64, u32)>,
    seed: u64,
}

impl Model {
    /// Nothing yet; made-up codes follow from `seed`.
    #[must_use]
    pub const fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            transactions: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            by_access_code: BTreeMap::new(),
            customers: BTreeMap::new(),
            rates: BTreeMap::new(),
            seed,
        }
    }

    /// Puts back a transaction that was written down earlier; the last of one id stands.
    pub fn restore(&mut self, transaction: Transaction) {
        self.by_reference.insert(transaction.reference.clone(), transaction.id);
        self.by_access_code.insert(transaction.access_code.clone(), transaction.id);
        self.customers.insert(transaction.email.clone(), transaction.customer_id);
        self.transactions.insert(transaction.id, transaction);
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

    /// What was paid and not given back, per currency, in minor units.
    #[must_use]
    pub fn collected(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for paid in self.transactions().filter(|it| it.status == Status::Success) {
            let sum: &mut u64 = sums.entry(paid.currency.clone()).or_default();
            *sum = sum.saturating_add(paid.amount);
        }
        sums
    }

    /// Counts a call against its scope's minute.
    pub fn admit(&mut self, call: &Call, now: Timestamp) -> Rate {
        let (scope, live_limit) = match call {
            Call::Initialize(_) => ("initialize", 1_200),
            Call::Verify(_) => ("verify", 3_000),
            Call::Fetch(_) | Call::List(_) => ("other", 600),
        };
        let limit = self.settings.calls_per_minute.unwrap_or(live_limit);
        let (began, used) = self.rates.entry(scope).or_insert_with(|| (now.seconds(), 0));
        if now.seconds() - *began >= RATE_WINDOW_SECONDS {
            (*began, *used) = (now.seconds(), 0);
        }
        let exceeded = *used >= limit;
        *used = used.saturating_add(1);
        let reset = RATE_WINDOW_SECONDS - (now.seconds() - *began);
        Rate { limit, remaining: limit.saturating_sub(*used), reset, exceeded }
    }

    /// Answers a call.
    pub fn call(&mut self, call: Call, now: Timestamp) -> Answer {
        match call {
            Call::Initialize(body) => {
                self.initialize(body.as_ref(), now).unwrap_or_else(|refusal| refusal)
            }
            Call::Verify(reference) => self.verify(&reference),
            Call::Fetch(id) => self.fetch(&id),
            Call::List(parameters) => self.list(&parameters),
        }
    }

    fn initialize(&mut self, body: Option<&Value>, now: Timestamp) -> Result<Answer, Answer> {
        let body = body.and_then(Value::as_object).ok_or_else(answers::unreadable)?;
        let email = email(body)?;
        let currency = self.currency(body)?;
        let amount = amount(body, &currency)?;
        let callback_url = callback_url(body)?;
        channels(body)?;
        let metadata = metadata(body)?;
        let id = self.next_id(now);
        let reference = match given(body, "reference") {
            None => self.made_up("reference", id, 10),
            Some(Value::String(text)) if is_reference(text) => text.clone(),
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
            currency,
            status: Status::Abandoned,
            callback_url,
            metadata,
            gateway_response: "The transaction was not completed".to_owned(),
            card: String::new(),
            attempts: 0,
            customer_id,
            created_at_us: now.micros(),
            paid_at_us: None,
        };
        let answer = answers::initialized(&self.settings, &transaction);
        self.restore(transaction);
        Ok(answer)
    }

    /// Milliseconds since 1970, or one more than the last: above 2^32, where Paystack's own ids
    /// have been since 2022, and new even when everything before was forgotten.
    fn next_id(&self, now: Timestamp) -> u64 {
        let by_clock = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        let last = self.transactions.last_key_value().map_or(0, |(id, _)| *id);
        by_clock.max(last + 1)
    }

    /// Looks like Paystack's own codes; follows from seed and clock, so that a run can be repeated.
    fn made_up(&self, what: &str, id: u64, length: usize) -> String {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(format!("{what} {id} {}", self.seed));
        let mut code = hex::encode(digest);
        code.truncate(length);
        code
    }

    fn currency(&self, body: &Map<String, Value>) -> Result<String, Answer> {
        let known = &self.settings.currencies;
        match given(body, "currency") {
            None => Ok(known.first().cloned().unwrap_or_default()),
            Some(Value::String(text)) if known.contains(text) => Ok(text.clone()),
            Some(_) => Err(answers::refused(400, "Currency not supported by merchant")),
        }
    }

    fn verify(&self, reference: &str) -> Answer {
        if reference.is_empty() {
            return answers::id_not_numeric();
        }
        if !is_reference(reference) {
            return answers::invalid_reference();
        }
        let found = self.by_reference.get(reference).and_then(|id| self.transactions.get(id));
        found.map_or_else(answers::reference_not_found, |it| {
            let data = answers::data(&self.settings, it, Shape::Verify);
            answers::success("Verification successful", data)
        })
    }

    fn fetch(&self, id: &str) -> Answer {
        let Ok(id) = id.parse() else { return answers::id_not_numeric() };
        self.transactions.get(&id).map_or_else(answers::id_not_found, |it| {
            let data = answers::data(&self.settings, it, Shape::Fetch);
            answers::success("Transaction retrieved", data)
        })
    }

    fn list(&self, parameters: &BTreeMap<String, String>) -> Answer {
        let text =
            |name: &str| parameters.get(name).map(String::as_str).filter(|it| !it.is_empty());
        let number = |name: &str, default| match text(name).map(str::parse::<u64>) {
            None => Ok(default),
            Some(Ok(number)) if number > 0 => Ok(number),
            Some(_) => {
                Err(answers::invalid_params(&format!("\"{name}\" must be a positive number")))
            }
        };
        let time = |name: &str, default: i64| match text(name).map(moment) {
            None => Ok(default),
            Some(Some(at)) => Ok(at.micros()),
            Some(None) => {
                Err(answers::invalid_params(&format!("\"{name}\" must be in ISO 8601 date format")))
            }
        };
        let amount = text("amount").map(str::parse::<u64>).transpose();
        let read = || -> Result<_, Answer> {
            let amount =
                amount.map_err(|_| answers::invalid_params("\"amount\" must be a number"))?;
            let page = (number("page", 1)?, number("perPage", PER_PAGE)?);
            Ok((page, time("from", i64::MIN)?, time("to", i64::MAX)?, amount))
        };
        let ((page, per_page), from, to, amount) = match read() {
            Ok(read) => read,
            Err(refusal) => return refusal,
        };
        let customer = text("customer").map(str::parse::<u64>);
        let wanted = |it: &&Transaction| {
            (from..=to).contains(&it.created_at_us)
                && text("status").is_none_or(|status| status == it.status.as_str())
                && amount.is_none_or(|amount| amount == it.amount)
                && customer.as_ref().is_none_or(|id| *id == Ok(it.customer_id))
        };
        // Newest first.
        let all: Vec<&Transaction> = self.transactions().rev().filter(wanted).collect();
        answers::list(&self.settings, &all, page, per_page)
    }

    /// Somebody at the checkout does something. What was paid comes with its webhook.
    ///
    /// # Errors
    /// There is nothing to pay.
    pub fn pay(
        &mut self,
        access_code: &str,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(&Transaction, Option<Event>), Unpayable> {
        let id = self.by_access_code.get(access_code).ok_or(Unpayable::Unknown)?;
        let transaction = self.transactions.get_mut(id).ok_or(Unpayable::Unknown)?;
        if matches!(transaction.status, Status::Success | Status::Reversed) {
            return Err(Unpayable::Paid);
        }
        let digits: String = attempt.card.chars().filter(char::is_ascii_digit).collect();
        let refusal = match attempt.outcome {
            Outcome::Abandoned => return Ok((transaction, None)),
            Outcome::Failed => Some("Declined"),
            Outcome::Success => refusal_of(&digits),
        };
        transaction.attempts = transaction.attempts.saturating_add(1);
        transaction.card = digits;
        if let Some(why) = refusal {
            transaction.status = Status::Failed;
            transaction.gateway_response = why.to_owned();
            return Ok((transaction, None));
        }
        transaction.status = Status::Success;
        transaction.gateway_response = "Successful".to_owned();
        transaction.paid_at_us = Some(now.micros());
        transaction.amount = attempt.other_amount.unwrap_or(transaction.amount);
        if let Some(currency) = attempt.other_currency {
            transaction.currency = currency;
        }
        let event = charge_success(&self.settings, transaction);
        Ok((transaction, Some(event)))
    }

    /// The webhook of a paid transaction once more, as Paystack can be asked to send it.
    #[must_use]
    pub fn resend(&self, name: &str) -> Option<Event> {
        let paid = self.find(name).filter(|it| it.status == Status::Success)?;
        Some(charge_success(&self.settings, paid))
    }

    /// Gives a payment back. Its events are `refund.…`, which are not imitated.
    pub fn reverse(&mut self, name: &str) -> Option<&Transaction> {
        let id = self.find(name).filter(|it| it.status == Status::Success)?.id;
        let transaction = self.transactions.get_mut(&id)?;
        transaction.status = Status::Reversed;
        Some(transaction)
    }

    /// Forgets everything, references too.
    pub fn reset(&mut self) {
        *self = Self::new(self.settings.clone(), self.seed);
    }
}

fn charge_success(settings: &Settings, paid: &Transaction) -> Event {
    let data = answers::data(settings, paid, Shape::Webhook);
    Event { name: "charge.success", reference: paid.reference.clone(), data }
}

/// What a field holds; `null` counts as absent, because clients send it for what they leave out.
fn given<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn email(body: &Map<String, Value>) -> Result<String, Answer> {
    match given(body, "email") {
        None => Err(answers::missing_params("Email Address is required")),
        Some(Value::String(text)) if text.is_empty() => {
            Err(answers::invalid_params("\"email\" is not allowed to be empty"))
        }
        Some(Value::String(text)) if is_email(text) => Ok(text.to_lowercase()),
        Some(_) => Err(answers::invalid_params("\"email\" must be a valid email")),
    }
}

fn is_email(text: &str) -> bool {
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    plain
        && text.split_once('@').is_some_and(|(name, host)| {
            let labels = host.split('.').all(|label| !label.is_empty());
            !name.is_empty() && host.contains('.') && labels && !host.contains('@')
        })
}

/// A whole number of minor units; a string of digits will do.
fn amount(body: &Map<String, Value>, currency: &str) -> Result<u64, Answer> {
    let amount = match given(body, "amount") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        None | Some(_) => None,
    };
    let amount = amount.ok_or_else(|| answers::refused(400, "Invalid Amount Sent"))?;
    let least = AMOUNT_MINOR_MIN.iter().find(|(code, _)| *code == currency).map_or(1, |it| it.1);
    if amount < least {
        return Err(answers::refused(400, "You must specify a valid amount"));
    }
    if amount > AMOUNT_MINOR_MAX {
        return Err(answers::refused(400, "Transaction amount limit exceeded"));
    }
    Ok(amount)
}

fn callback_url(body: &Map<String, Value>) -> Result<Option<String>, Answer> {
    let refusal = || answers::invalid_params("\"callback_url\" must be a valid uri");
    match given(body, "callback_url") {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => {
            let url = url::Url::parse(text).map_err(|_| refusal())?;
            let web = matches!(url.scheme(), "http" | "https");
            if web { Ok(Some(url.to_string())) } else { Err(refusal()) }
        }
        Some(_) => Err(refusal()),
    }
}

fn channels(body: &Map<String, Value>) -> Result<(), Answer> {
    let known = |channel: &Value| channel.as_str().is_some_and(|it| CHANNELS.contains(&it));
    match given(body, "channels") {
        None => Ok(()),
        Some(Value::Array(channels)) if channels.iter().all(known) => Ok(()),
        Some(_) => Err(answers::invalid_params("\"channels\" must be an array of known channels")),
    }
}

/// An object, or text; text that holds an object becomes one. Absent is `""`.
fn metadata(body: &Map<String, Value>) -> Result<Value, Answer> {
    match given(body, "metadata") {
        None => Ok(Value::String(String::new())),
        Some(object @ Value::Object(_)) => Ok(object.clone()),
        Some(Value::String(text)) => Ok(serde_json::from_str::<Map<String, Value>>(text)
            .map_or_else(|_| Value::String(text.clone()), Value::Object)),
        Some(_) => Err(answers::invalid_params("\"metadata\" must be an object or a string")),
    }
}

/// Letters, digits, `-`, `.` and `=`; the commas in the refusal's text only separate them.
fn is_reference(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'=');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

/// A time in ISO 8601, or a day.
fn moment(text: &str) -> Option<Timestamp> {
    let at = Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z")));
    at.ok()
}

/// Why a card is refused: Paystack's test cards (and no card at all) have a known outcome.
fn refusal_of(digits: &str) -> Option<&'static str> {
    match digits {
        ""
        | "4084084084084081"
        | "507850785078507812"
        | "5060666666666666666"
        | "507850785078507804"
        | "5192602720584796"
        | "4084080000671803"
        | "4084080000671902" => None,
        "4084080000670037" => Some("Insufficient Funds"),
        "507850785078507853" => {
            Some("Token Not Generated. Customer Not Registered on Token Platform")
        }
        // 4084 0800 0000 5408, and every card the test bank does not know.
        _ => Some("Declined"),
    }
}
