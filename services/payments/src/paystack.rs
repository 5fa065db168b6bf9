//! A thin client of Paystack: initialize and verify; what it lists is in `lists`, refunds and disputes
//! in [`returns`].
//!
//! It asks once. Whether to ask again, and under which reference, is for the rules: a POST that was
//! repeated by the transport would be a second checkout. So the one thing an [`Error`] must say truly
//! is whether something may have happened at Paystack.
//!
//! Answers are read loosely: any field may be missing, and an unknown status is not known yet.

mod lists;
pub(crate) mod returns;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use primitives::{Amount, Currency, Timestamp};
use prometheus::{HistogramVec, register_histogram_vec};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect, retry};
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::circuit::Circuit;
use crate::lifecycle::Checkout;
use crate::loose;
use crate::reference::Reference;
use crate::verdict::{self, Said};
use chassis::Secret;

pub(crate) use lists::{Listed, PAGE_PAUSE, TRANSACTIONS_A_PAGE, Undelivered};

/// The largest answer that is read: a page of a hundred transactions with everything in them.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest link to a checkout.
const URL_CHARS_MAX: usize = 2_048;
/// How long a rate limit lasts if Paystack does not say.
const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(60);

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "payments_provider_seconds",
        "Calls to Paystack, by call and result.",
        &["call", "result"],
        vec![0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
    )
    .expect("the name is registered here only")
});

/// Where Paystack is and how long it may take.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `https://api.paystack.co`
    pub(crate) base_url: Url,
    /// Our key; it also decides between test and live.
    pub(crate) secret_key: Secret,
    /// For a connection.
    pub(crate) connect_timeout: Duration,
    /// For a whole call.
    pub(crate) timeout: Duration,
    /// The first pause when it keeps failing.
    pub(crate) circuit_pause: Duration,
}

/// A way to ask Paystack.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: Url,
    secret_key: Secret,
    circuit: Circuit,
}

/// What a checkout is asked for with.
#[derive(Debug, Clone)]
pub(crate) struct Initialize {
    /// Whose.
    pub(crate) email: String,
    /// How much, in minor units.
    pub(crate) amount: Amount,
    /// In which currency.
    pub(crate) currency: Currency,
    /// Under which reference; used up by asking.
    pub(crate) reference: Reference,
    /// Where the browser goes afterwards.
    pub(crate) callback_url: Option<String>,
}

/// What Paystack knows of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// This.
    Transaction(Said),
    /// Nothing, or nothing under this key.
    Nothing,
}

/// Paystack gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing has left: calls are held back for a while.
    #[error("calls to paystack are held back until {until}")]
    Held {
        /// Until then.
        until: Timestamp,
    },
    /// Nothing has arrived: there was no connection.
    #[error("failed to connect to paystack")]
    Connect(#[source] reqwest::Error),
    /// Nothing was done: we asked too often.
    #[error("paystack limits our rate")]
    RateLimited,
    /// Nothing was done: Paystack said no.
    #[error("paystack refused with {status}, code {code}")]
    Refused {
        /// Of its answer.
        status: StatusCode,
        /// Its code, or `none`.
        code: String,
    },
    /// The reference has been used before, perhaps by a call of ours whose answer was lost.
    #[error("paystack knows the reference already")]
    DuplicateReference,
    /// It may have happened: the answer did not come.
    #[error("failed to hear paystack's answer")]
    Transport(#[source] reqwest::Error),
    /// It may have happened: Paystack failed on the way.
    #[error("paystack failed with {0}")]
    Failed(StatusCode),
    /// It may have happened: the answer cannot be understood.
    #[error("paystack's answer is not understood: {0}")]
    Strange(&'static str),
}

impl Error {
    /// Whether the call may have had its effect.
    pub(crate) const fn may_have_happened(&self) -> bool {
        match self {
            Self::Held { .. } | Self::Connect(_) | Self::RateLimited | Self::Refused { .. } => {
                false
            }
            Self::DuplicateReference | Self::Transport(_) | Self::Failed(_) | Self::Strange(_) => {
                true
            }
        }
    }

    const fn label(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Connect(_) => "connect",
            Self::RateLimited => "rate_limited",
            Self::Refused { .. } => "refused",
            Self::DuplicateReference => "duplicate_reference",
            Self::Transport(_) => "transport",
            Self::Failed(_) => "failed",
            Self::Strange(_) => "strange",
        }
    }
}

/// What initialize is told; the names are Paystack's.
#[derive(Serialize)]
struct InitializeBody<'a> {
    email: &'a str,
    amount: u64,
    currency: &'a str,
    reference: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_url: Option<&'a str>,
}

impl Client {
    /// A client that opens no connection yet.
    pub(crate) fn try_new(settings: &Settings) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("fast-wallet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            // A redirect would carry our key elsewhere, and a repeated POST is a second checkout.
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .build()?;
        Ok(Self {
            http,
            base_url: settings.base_url.clone(),
            secret_key: settings.secret_key.clone(),
            circuit: Circuit::new(settings.circuit_pause),
        })
    }

    /// Asks for a checkout, once.
    pub(crate) async fn initialize(&self, asked: &Initialize) -> Result<Checkout, Error> {
        let body = InitializeBody {
            email: &asked.email,
            amount: asked.amount.minor(),
            currency: asked.currency.as_str(),
            reference: asked.reference.as_str(),
            callback_url: asked.callback_url.as_deref(),
        };
        let request = self.request(Method::POST, &["transaction", "initialize"]).json(&body);
        self.observed("initialize", async {
            let answer = self.call(request).await?;
            if answer.status.is_success() {
                return checkout(&answer.body, &asked.reference);
            }
            if code(&answer.body) == "duplicate_reference" {
                return Err(Error::DuplicateReference);
            }
            Err(answer.into_error())
        })
        .await
    }

    /// Asks what became of a reference. Harmless to repeat.
    pub(crate) async fn verify(&self, reference: &Reference) -> Result<Found, Error> {
        let request = self.request(Method::GET, &["transaction", "verify", reference.as_str()]);
        self.observed("verify", async {
            let answer = self.call(request).await?;
            if answer.status.is_success() {
                let Some(Value::Object(data)) = answer.body.get("data") else {
                    return Err(Error::Strange("no data"));
                };
                return Ok(Found::Transaction(verdict::said(data)));
            }
            // 400 in truth, 404 in the OpenAPI document.
            let is_client_error = answer.status.is_client_error();
            if is_client_error && code(&answer.body) == "transaction_not_found" {
                return Ok(Found::Nothing);
            }
            Err(answer.into_error())
        })
        .await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base_url.clone();
        // Segments are percent-encoded here. A base that cannot have any was refused at the start.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url).bearer_auth(self.secret_key.expose())
    }

    async fn call(&self, request: RequestBuilder) -> Result<Answer, Error> {
        if let Some(until) = self.circuit.held_until(Timestamp::now()) {
            return Err(Error::Held { until });
        }
        let outcome = self.send(request).await;
        match &outcome {
            Ok(_) => self.circuit.succeeded(),
            // Held back by `send` for as long as Paystack said.
            Err(Error::RateLimited | Error::Held { .. }) => {}
            Err(
                Error::Connect(_)
                | Error::Refused { .. }
                | Error::DuplicateReference
                | Error::Transport(_)
                | Error::Failed(_)
                | Error::Strange(_),
            ) => self.circuit.failed(Timestamp::now()),
        }
        outcome
    }

    /// One exchange. A 4xx is an answer; what says nothing about the call is an error.
    async fn send(&self, request: RequestBuilder) -> Result<Answer, Error> {
        let mut response = request.send().await.map_err(|error| {
            if error.is_connect() { Error::Connect(error) } else { Error::Transport(error) }
        })?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.circuit.limited(Timestamp::now(), rate_limit_pause(response.headers()));
            return Err(Error::RateLimited);
        }
        if !status.is_success() && !status.is_client_error()
            || status == StatusCode::REQUEST_TIMEOUT
        {
            return Err(Error::Failed(status));
        }
        let bytes = read(&mut response).await?;
        // Unknown routes answer 404 with an empty body.
        let body = if bytes.is_empty() { Some(Map::new()) } else { object(&bytes) };
        match body {
            Some(body) => Ok(Answer { status, body }),
            None if status.is_success() => Err(Error::Strange("no JSON object")),
            None => Ok(Answer { status, body: Map::new() }),
        }
    }

    async fn observed<T>(
        &self,
        call: &'static str,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let outcome = future.await;
        let result = outcome.as_ref().map_or_else(Error::label, |_| "ok");
        SECONDS.with_label_values(&[call, result]).observe(started.elapsed().as_secs_f64());
        outcome
    }
}

struct Answer {
    status: StatusCode,
    body: Map<String, Value>,
}

impl Answer {
    fn into_error(self) -> Error {
        Error::Refused { status: self.status, code: code(&self.body) }
    }
}

async fn read(response: &mut Response) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Error::Transport)? {
        if bytes.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
            return Err(Error::Strange("too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Some(object),
        Ok(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
        )
        | Err(_) => None,
    }
}

/// Paystack's code, made fit for a log: it is their text, not ours.
fn code(body: &Map<String, Value>) -> String {
    let text = loose::text(body.get("code")).unwrap_or_else(|| "none".to_owned());
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect()
}

fn checkout(body: &Map<String, Value>, reference: &Reference) -> Result<Checkout, Error> {
    // The outer status is `true`, in odd samples the text "success".
    match body.get("status") {
        Some(Value::Bool(true)) => {}
        Some(Value::String(text)) if text == "success" => {}
        Some(_) | None => return Err(Error::Strange("200 without success")),
    }
    let Some(Value::Object(data)) = body.get("data") else {
        return Err(Error::Strange("no data"));
    };
    if loose::text(data.get("reference")).is_some_and(|it| it != reference.as_str()) {
        return Err(Error::Strange("another reference"));
    }
    let url = loose::text(data.get("authorization_url"));
    let access_code = loose::text(data.get("access_code"));
    let (Some(authorization_url), Some(access_code)) = (url, access_code) else {
        return Err(Error::Strange("no checkout"));
    };
    let is_web_page = authorization_url.len() <= URL_CHARS_MAX
        && Url::parse(&authorization_url).is_ok_and(|it| matches!(it.scheme(), "https" | "http"));
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let is_code = access_code.len() <= URL_CHARS_MAX && is_plain(&access_code);
    if !is_web_page || !is_plain(&authorization_url) || !is_code {
        return Err(Error::Strange("no usable checkout"));
    }
    Ok(Checkout { authorization_url, access_code })
}

fn rate_limit_pause(headers: &HeaderMap) -> Duration {
    let seconds = ["x-ratelimit-reset", "retry-after"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse().ok());
    seconds.map_or(RATE_LIMIT_PAUSE, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use primitives::DepositId;
    use serde_json::json;

    use super::*;

    fn read_checkout(answer: &Value, reference: &Reference) -> Result<Checkout, Error> {
        checkout(&object(answer.to_string().as_bytes()).unwrap(), reference)
    }

    #[test]
    fn a_checkout_is_taken_only_whole_and_for_our_reference() {
        let reference = Reference::of(DepositId::generate(), 1);
        let url = "https://checkout.paystack.com/0peioxfhpn";
        let with = |reference: &str, url: &str, status: Value| {
            json!({"status": status, "message": "Authorization URL created",
                "data": {"authorization_url": url, "access_code": "0peioxfhpn", "reference": reference}})
        };
        let good = with(reference.as_str(), url, json!(true));
        assert_eq!(read_checkout(&good, &reference).unwrap().authorization_url, url);
        let long = format!("https://checkout.paystack.com/{}", "x".repeat(3_000));
        for bad in [
            with("dep-another", url, json!(true)),
            with(reference.as_str(), url, json!(false)),
            with(reference.as_str(), "javascript:alert(1)", json!(true)),
            with(reference.as_str(), "", json!(true)),
            with(reference.as_str(), &long, json!(true)),
            json!({"status": true, "data": null}),
            json!({"status": true}),
        ] {
            let error = read_checkout(&bad, &reference).unwrap_err();
            assert!(error.may_have_happened(), "{bad}: whether it was made is not known");
        }
    }

    #[test]
    fn a_rate_limit_says_for_how_long() {
        let mut headers = HeaderMap::new();
        assert_eq!(rate_limit_pause(&headers), RATE_LIMIT_PAUSE);
        headers.insert("x-ratelimit-reset", "7".parse().unwrap());
        assert_eq!(rate_limit_pause(&headers), Duration::from_secs(7));
        headers.insert("x-ratelimit-reset", "soon".parse().unwrap());
        assert_eq!(rate_limit_pause(&headers), RATE_LIMIT_PAUSE);
    }
}
