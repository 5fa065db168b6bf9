//! Paystack over HTTP: the same paths, envelopes and oddities, around the pure [`model`].

mod answers;
mod checkout;
pub(crate) mod deliver;
mod history;
pub(crate) mod journal;
pub mod model;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poem::http::{Method, StatusCode};
use poem::{Body, Request, Response};
use primitives::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

pub use answers::Answer;
pub use deliver::{Progress, Record};

use crate::Shared;
use crate::faults::{Fault, Struck};
use deliver::{other_amount, other_currency};
use journal::Journal;
use model::{
    Attempt, Call, Effects, Kept, Model, NoUpload, Outcome, Parameters, Rate, RefundStatus, Scope,
    Transaction, Unpayable,
};

/// Larger than any body a client sends.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Larger than any evidence.
const UPLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
const ON_PAY: [Fault; 2] = [Fault::PaidOtherAmount, Fault::PaidOtherCurrency];
const ON_REFUND: [Fault; 2] = [Fault::RefundFails, Fault::RefundNeedsAttention];
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

/// The ways in which a call goes wrong.
struct Ways {
    error: Fault,
    slow: Fault,
    cut_off: Fault,
    /// Only what changes something can fail after its effect.
    error_after: Option<Fault>,
}

const INITIALIZE: Ways = Ways {
    error: Fault::InitializeError,
    slow: Fault::InitializeSlow,
    cut_off: Fault::InitializeCutOff,
    error_after: Some(Fault::InitializeErrorAfter),
};
const VERIFY: Ways = Ways {
    error: Fault::VerifyError,
    slow: Fault::VerifySlow,
    cut_off: Fault::VerifyCutOff,
    error_after: None,
};
const REFUND: Ways = Ways {
    error: Fault::RefundError,
    slow: Fault::RefundSlow,
    cut_off: Fault::RefundCutOff,
    error_after: Some(Fault::RefundErrorAfter),
};
const DISPUTE: Ways = Ways {
    error: Fault::DisputeError,
    slow: Fault::DisputeSlow,
    cut_off: Fault::DisputeCutOff,
    error_after: Some(Fault::DisputeErrorAfter),
};
const READ: Ways = Ways {
    error: Fault::ReadError,
    slow: Fault::ReadSlow,
    cut_off: Fault::ReadCutOff,
    error_after: None,
};

/// What a request asks for: something of the model, or of the record of webhooks.
#[derive(Debug)]
enum Ask {
    Model(Call),
    Webhooks(history::Ask),
}

impl Ask {
    const fn scope(&self) -> Scope {
        match self {
            Self::Model(call) => call.scope(),
            Self::Webhooks(_) => Scope::Other,
        }
    }

    const fn ways(&self) -> &'static Ways {
        match self {
            Self::Model(Call::Initialize(_)) => &INITIALIZE,
            Self::Model(Call::Verify(_)) => &VERIFY,
            Self::Model(Call::CreateRefund(_) | Call::RetryRefund(..)) => &REFUND,
            Self::Model(
                Call::UpdateDispute(..)
                | Call::AddEvidence(..)
                | Call::UploadUrl(..)
                | Call::ResolveDispute(..),
            ) => &DISPUTE,
            Self::Model(
                Call::Fetch(_)
                | Call::List(_)
                | Call::Totals(_)
                | Call::Timeline(_)
                | Call::FetchRefund(_)
                | Call::ListRefunds(_)
                | Call::ListDisputes(_)
                | Call::FetchDispute(_)
                | Call::DisputeOf(_),
            )
            | Self::Webhooks(_) => &READ,
        }
    }
}

/// The model and its journal, changed together.
#[derive(Debug)]
pub(crate) struct State {
    model: Mutex<(Model, Option<Journal>)>,
    /// Something else is due first.
    changed: Notify,
}

impl State {
    pub(crate) fn new(mut model: Model, journal: Option<Journal>, known: Vec<Kept>) -> Self {
        for kept in known {
            model.restore(kept);
        }
        Self { model: Mutex::new((model, journal)), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (Model, Option<Journal>)> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reset(&self) {
        let (model, journal) = &mut *self.lock();
        model.reset();
        if let Some(journal) = journal {
            journal.clear();
        }
    }

    /// Looks at the model, or changes it, at the time it is; what follows is written and sent
    /// before anybody else comes, so that webhooks are numbered as things happened.
    pub(crate) fn at_once<T>(
        &self,
        shared: &Shared,
        act: impl FnOnce(&mut Model, Timestamp) -> T,
    ) -> T {
        let (model, journal) = &mut *self.lock();
        let now = shared.clock.now();
        let due = model.next_due();
        model.advance(now);
        let done = act(model, now);
        let Effects { events, kept } = model.take_effects();
        if let Some(journal) = journal {
            for kept in &kept {
                journal.write(kept);
            }
        }
        for event in events {
            shared.outbox.send(event, &shared.draw(&ON_WEBHOOK), now);
        }
        if model.next_due() != due {
            self.changed.notify_one();
        }
        done
    }
}

/// Lets happen what is due, until it is dropped.
pub(crate) async fn run(shared: std::sync::Arc<Shared>) -> anyhow::Result<()> {
    let state = &shared.paystack;
    loop {
        let due = state.lock().0.next_due();
        match due {
            Some(due) => tokio::select! {
                () = shared.clock.wait_until(due) => state.at_once(&shared, |_, _| ()),
                () = state.changed.notified() => {}
            },
            None => state.changed.notified().await,
        }
    }
}

/// Sends the webhook of a paid transaction once more, with the faults that strike.
pub(crate) fn resend(shared: &Shared, name: &str) -> bool {
    let event = shared.at_once(|model, _| model.resend(name));
    let Some(event) = event else { return false };
    shared.outbox.send(event, &shared.draw(&ON_WEBHOOK), shared.clock.now());
    true
}

/// The webhook of a paid transaction and its signature, not sent.
pub(crate) fn webhook(shared: &Shared, name: &str) -> Option<(Vec<u8>, String)> {
    let event = shared.at_once(|model, _| model.resend(name))?;
    let body = deliver::body(&event);
    let signature = deliver::sign(&shared.config.secret_key, &body);
    Some((body, signature))
}

/// Does at the checkout what the person does, with the faults that strike, and sends the webhook.
pub(crate) fn pay(
    shared: &Shared,
    access_code: &str,
    mut attempt: Attempt,
) -> Result<Transaction, Unpayable> {
    let asked = find_checkout(shared, access_code).ok_or(Unpayable::Unknown)?;
    if attempt.outcome == Outcome::Success {
        let struck = shared.draw(&ON_PAY);
        if struck.has(Fault::PaidOtherAmount) {
            attempt.other_amount = Some(other_amount(asked.requested_amount));
        }
        if struck.has(Fault::PaidOtherCurrency) {
            attempt.other_currency = Some(other_currency(&asked.currency).to_owned());
        }
    }
    let pay = |model: &mut Model, now| model.pay(access_code, attempt, now).cloned();
    shared.at_once(pay)
}

/// Answers everything below `/paystack`.
pub(crate) async fn api(shared: &Shared, mut request: Request, path: &[String]) -> Response {
    if let Err(refusal) = authorize(shared, &request) {
        return envelope(&refusal, None);
    }
    let mut path: Vec<&str> = path.iter().map(String::as_str).collect();
    // A slash at the end means nothing to Paystack, and clients send it.
    path.pop_if(|last| last.is_empty());
    let query = request.uri().query().unwrap_or_default();
    let query = Parameters(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect());
    let ask = if request.method() == Method::GET {
        reading(&path, query)
    } else {
        let body = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await;
        // A body that cannot be read is no JSON.
        let body = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
        changing(request.method(), &path, query, body)
    };
    let ask = ask.filter(|it| shared.config.lists_webhooks || !matches!(it, Ask::Webhooks(_)));
    // Paystack answers an unknown route with nothing at all.
    let Some(ask) = ask else { return StatusCode::NOT_FOUND.into() };
    let rate = |model: &mut Model, now| model.admit(ask.scope(), now);
    let rate = shared.at_once(rate);
    if rate.exceeded {
        return envelope(&answers::rate_limited(), Some(rate));
    }
    answer(shared, ask, rate).await
}

/// The calls that change nothing.
fn reading(path: &[&str], query: Parameters) -> Option<Ask> {
    let webhooks = ["integration", "webhooks", "events"];
    if let Some(rest) = path.strip_prefix(&webhooks) {
        return Some(Ask::Webhooks(match rest {
            [] => history::Ask::List(query),
            ["lookup"] => history::Ask::Lookup(query),
            [id] => history::Ask::Fetch((*id).to_owned()),
            _ => return None,
        }));
    }
    let own = |text: &str| text.to_owned();
    Some(Ask::Model(match path {
        ["transaction", "verify", reference] => Call::Verify(own(reference)),
        ["transaction"] => Call::List(query),
        ["transaction", "totals"] => Call::Totals(query),
        ["transaction", "timeline", name] => Call::Timeline(own(name)),
        ["transaction", id] => Call::Fetch(own(id)),
        ["refund"] => Call::ListRefunds(query),
        ["refund", id] => Call::FetchRefund(own(id)),
        ["dispute"] => Call::ListDisputes(query),
        ["dispute", "transaction", id] => Call::DisputeOf(own(id)),
        ["dispute", id] => Call::FetchDispute(own(id)),
        ["dispute", id, "upload_url"] => Call::UploadUrl(own(id), query),
        _ => return None,
    }))
}

/// The calls that change something.
fn changing(method: &Method, path: &[&str], query: Parameters, body: Option<Value>) -> Option<Ask> {
    let own = |text: &str| text.to_owned();
    let call = match (method, path) {
        (&Method::POST, ["transaction", "initialize"]) => Call::Initialize(body),
        (&Method::POST, ["refund"]) => Call::CreateRefund(body),
        (&Method::POST, ["refund", "retry_with_customer_details", id]) => {
            Call::RetryRefund(own(id), body)
        }
        (&Method::PUT, ["dispute", id]) => Call::UpdateDispute(own(id), body),
        (&Method::POST, ["dispute", id, "evidence"]) => Call::AddEvidence(own(id), body),
        (&Method::PUT, ["dispute", id, "resolve"]) => Call::ResolveDispute(own(id), body),
        (&Method::POST, ["integration", "webhooks", "events", "resend"]) => {
            return Some(Ask::Webhooks(history::Ask::Resend(body)));
        }
        (&Method::POST, ["integration", "webhooks", "events", "resend-matching"]) => {
            return Some(Ask::Webhooks(history::Ask::ResendMatching(query, body)));
        }
        _ => return None,
    };
    Some(Ask::Model(call))
}

/// Carries a call out, with the faults that strike before and after its effect.
async fn answer(shared: &Shared, ask: Ask, rate: Rate) -> Response {
    let ways = ask.ways();
    let mut possible = vec![ways.error, ways.slow, ways.cut_off];
    possible.extend(ways.error_after);
    let struck = shared.draw(&possible);
    if struck.has(ways.error) {
        return envelope(&answers::broken(), Some(rate));
    }
    let answer = match ask {
        Ask::Model(call) => carry_out(shared, call),
        Ask::Webhooks(ask) => history::answer(shared, ask),
    };
    if let Some(delay) = struck.delay(ways.slow) {
        tokio::time::sleep(delay).await;
    }
    if ways.error_after.is_some_and(|fault| struck.has(fault)) {
        return envelope(&answers::broken(), Some(rate));
    }
    if struck.has(ways.cut_off) {
        return cut_off();
    }
    envelope(&answer, Some(rate))
}

fn carry_out(shared: &Shared, call: Call) -> Answer {
    let refunds = matches!(call, Call::CreateRefund(_));
    let struck = if refunds { shared.draw(&ON_REFUND) } else { Struck::default() };
    shared.at_once(|model, now| {
        let answer = model.call(call, now);
        if let (200, Some(id)) = (answer.status, answer.body["data"]["id"].as_u64()) {
            for (fault, ends) in [
                (Fault::RefundFails, RefundStatus::Failed),
                (Fault::RefundNeedsAttention, RefundStatus::NeedsAttention),
            ] {
                if struck.has(fault) {
                    model.refund_ends(id, ends);
                }
            }
        }
        answer
    })
}

/// Takes a file that a signed address was made for.
pub(crate) async fn upload(shared: &Shared, mut request: Request, file: &str) -> Response {
    if request.method() != Method::PUT {
        return StatusCode::METHOD_NOT_ALLOWED.into();
    }
    let query = request.uri().query().unwrap_or_default();
    let signature = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "signature")
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    let Ok(bytes) = request.take_body().into_bytes_limit(UPLOAD_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into();
    };
    let take = |model: &mut Model, now| model.upload(file, &signature, bytes.len(), now);
    match shared.at_once(take) {
        Ok(()) => StatusCode::OK.into(),
        Err(NoUpload::Unknown | NoUpload::Expired) => StatusCode::FORBIDDEN.into(),
    }
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
    let found = shared.at_once(|model, _| model.find(access_code).cloned());
    found.filter(|it| it.access_code == access_code)
}
