//! Paystack over HTTP: the same paths, envelopes and oddities, around the pure [`model`].

mod answers;
mod checkout;
pub(crate) mod deliver;
pub(crate) mod journal;
pub mod model;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poem::http::{Method, StatusCode};
use poem::{Body, Request, Response};

pub use answers::Answer;
pub use deliver::Record;

use crate::Shared;
use crate::faults::{Fault, Struck};
use deliver::{other_amount, other_currency};
use journal::Journal;
use model::{Attempt, Call, Event, Model, Rate, Transaction, Unpayable};

/// Larger than any body a client sends.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const ON_PAY: [Fault; 2] = [Fault::PaidOtherAmount, Fault::PaidOtherCurrency];
const ON_WEBHOOK: [Fault; 8] = [
    Fault::WebhookLost,
    Fault::WebhookLate,
    Fault::WebhookTwice,
    Fault::WebhookReordered,
    Fault::WebhookWrongAmount,
    Fault::WebhookWrongCurrency,
    Fault::WebhookWrongSignature,
    Fault::WebhookWrongReference,
];
const ON_INITIALIZE: [Fault; 4] = [
    Fault::InitializeError,
    Fault::InitializeErrorAfter,
    Fault::InitializeSlow,
    Fault::InitializeCutOff,
];
const ON_VERIFY: [Fault; 3] = [Fault::VerifyError, Fault::VerifySlow, Fault::VerifyCutOff];

/// The model and its journal, changed together.
#[derive(Debug)]
pub(crate) struct State {
    model: Mutex<(Model, Option<Journal>)>,
}

impl State {
    pub(crate) fn new(mut model: Model, journal: Option<Journal>, known: Vec<Transaction>) -> Self {
        for transaction in known {
            model.restore(transaction);
        }
        Self { model: Mutex::new((model, journal)) }
    }

    fn lock(&self) -> MutexGuard<'_, (Model, Option<Journal>)> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the model.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.lock().0)
    }

    pub(crate) fn reset(&self) {
        let (model, journal) = &mut *self.lock();
        model.reset();
        if let Some(journal) = journal {
            journal.clear();
        }
    }

    /// Gives a payment back; false if it was none.
    pub(crate) fn reverse(&self, name: &str) -> bool {
        let (model, journal) = &mut *self.lock();
        let Some(reversed) = model.reverse(name) else { return false };
        if let Some(journal) = journal {
            journal.write(reversed);
        }
        true
    }

    fn admit(&self, call: &Call, shared: &Shared) -> Rate {
        self.lock().0.admit(call, shared.clock.now())
    }

    fn call(&self, call: Call, shared: &Shared) -> Answer {
        let (model, journal) = &mut *self.lock();
        let makes = matches!(call, Call::Initialize(_));
        let answer = model.call(call, shared.clock.now());
        if let (true, 200, Some(journal)) = (makes, answer.status, journal)
            && let Some(made) = model.transactions().next_back()
        {
            journal.write(made);
        }
        answer
    }

    fn pay(
        &self,
        access_code: &str,
        attempt: Attempt,
        shared: &Shared,
    ) -> Result<(Transaction, Option<Event>), Unpayable> {
        let (model, journal) = &mut *self.lock();
        let (transaction, event) = model.pay(access_code, attempt, shared.clock.now())?;
        if let Some(journal) = journal {
            journal.write(transaction);
        }
        Ok((transaction.clone(), event))
    }
}

/// Sends the webhook of a paid transaction once more, with the faults that strike.
pub(crate) fn resend(shared: &Shared, name: &str) -> bool {
    let event = shared.paystack.read(|model| model.resend(name));
    let Some(event) = event else { return false };
    shared.outbox.send(event, &shared.draw(&ON_WEBHOOK));
    true
}

/// Does at the checkout what the person does, with the faults that strike, and sends the webhook.
pub(crate) fn pay(
    shared: &Shared,
    access_code: &str,
    mut attempt: Attempt,
) -> Result<Transaction, Unpayable> {
    let asked = find_checkout(shared, access_code).ok_or(Unpayable::Unknown)?;
    if attempt.outcome == model::Outcome::Success {
        let struck = shared.draw(&ON_PAY);
        if struck.has(Fault::PaidOtherAmount) {
            attempt.other_amount = Some(other_amount(asked.requested_amount));
        }
        if struck.has(Fault::PaidOtherCurrency) {
            attempt.other_currency = Some(other_currency(&asked.currency).to_owned());
        }
    }
    let (transaction, event) = shared.paystack.pay(access_code, attempt, shared)?;
    if let Some(event) = event {
        shared.outbox.send(event, &shared.draw(&ON_WEBHOOK));
    }
    Ok(transaction)
}

/// Answers everything below `/paystack`.
pub(crate) async fn api(shared: &Shared, mut request: Request, path: &[String]) -> Response {
    if let Err(refusal) = authorize(shared, &request) {
        return envelope(&refusal, None);
    }
    let mut path: Vec<&str> = path.iter().map(String::as_str).collect();
    // A slash at the end means nothing to Paystack, and clients send it.
    path.pop_if(|last| last.is_empty());
    let parameters = || -> BTreeMap<String, String> {
        let query = request.uri().query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    };
    let call = match (request.method().clone(), path.as_slice()) {
        (Method::POST, ["transaction", "initialize"]) => {
            let body = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await;
            // A body that cannot be read is no JSON.
            Call::Initialize(body.ok().and_then(|body| serde_json::from_slice(&body).ok()))
        }
        (Method::GET, ["transaction", "verify", reference]) => {
            Call::Verify((*reference).to_owned())
        }
        (Method::GET, ["transaction"]) => Call::List(parameters()),
        (Method::GET, ["transaction", id]) => Call::Fetch((*id).to_owned()),
        // Paystack answers an unknown route with nothing at all.
        _ => return StatusCode::NOT_FOUND.into(),
    };
    let rate = shared.paystack.admit(&call, shared);
    if rate.exceeded {
        return envelope(&answers::rate_limited(), Some(rate));
    }
    answer(shared, call, rate).await
}

/// Carries a call out, with the faults that strike before and after its effect.
async fn answer(shared: &Shared, call: Call, rate: Rate) -> Response {
    let struck = match &call {
        Call::Initialize(_) => shared.draw(&ON_INITIALIZE),
        Call::Verify(_) => shared.draw(&ON_VERIFY),
        Call::Fetch(_) | Call::List(_) => Struck::default(),
    };
    if struck.has(Fault::InitializeError) || struck.has(Fault::VerifyError) {
        return envelope(&answers::broken(), Some(rate));
    }
    let answer = shared.paystack.call(call, shared);
    if let Some(delay) =
        struck.delay(Fault::InitializeSlow).or_else(|| struck.delay(Fault::VerifySlow))
    {
        tokio::time::sleep(delay).await;
    }
    if struck.has(Fault::InitializeErrorAfter) {
        return envelope(&answers::broken(), Some(rate));
    }
    if struck.has(Fault::InitializeCutOff) || struck.has(Fault::VerifyCutOff) {
        return cut_off();
    }
    envelope(&answer, Some(rate))
}

/// Only the merchant's own secret key opens the API.
fn authorize(shared: &Shared, request: &Request) -> Result<(), Answer> {
    let header = request.header("authorization").ok_or_else(answers::no_key)?;
    let key = header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("bearer "));
    if key.map(str::trim) == Some(shared.config.secret_key.as_str()) {
        Ok(())
    } else {
        Err(answers::invalid_key())
    }
}

fn envelope(answer: &Answer, rate: Option<Rate>) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response =
        Response::builder().status(status).content_type("application/json; charset=utf-8");
    if let Some(rate) = rate {
        response = response
            .header("x-ratelimit-limit", rate.limit)
            .header("x-ratelimit-remaining", rate.remaining)
            .header("x-ratelimit-reset", rate.reset);
    }
    response.body(answer.body.to_string())
}

/// Begins an answer and breaks the connection in its middle.
pub(crate) fn cut_off() -> Response {
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let half = async {
        // Long enough for the head of the answer to leave.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err::<Vec<u8>, _>(broken)
    };
    Response::builder()
        .content_type("application/json; charset=utf-8")
        .header("content-length", 4_096)
        .body(Body::from_bytes_stream(futures_util::stream::once(half)))
}

/// Answers `/checkout/{access_code}`.
pub(crate) async fn checkout(shared: &Shared, mut request: Request, access_code: &str) -> Response {
    if request.method() == Method::POST {
        let form = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await;
        // A form that cannot be read is none.
        let Some(attempt) = form.ok().and_then(|form| checkout::read(&form)) else {
            return checkout::unreadable();
        };
        let outcome = attempt.outcome;
        return match pay(shared, access_code, attempt) {
            Ok(it) => checkout::after(&it, outcome, shared.config.callback_url.as_deref()),
            Err(why) => checkout::unpayable(why),
        };
    }
    match find_checkout(shared, access_code) {
        Some(it) => checkout::show(&it, &shared.config.merchant, request.original_uri().path()),
        None => checkout::unpayable(Unpayable::Unknown),
    }
}

/// References open no checkout, only access codes do.
fn find_checkout(shared: &Shared, access_code: &str) -> Option<Transaction> {
    let found = shared.paystack.read(|model| model.find(access_code).cloned());
    found.filter(|it| it.access_code == access_code)
}
