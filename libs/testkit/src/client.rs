//! The REST client that tests use: what a caller's app would send, and what it would check.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longer than any promised answer.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Talks to one origin. Follows no redirects and keeps no cookies: tests look at both.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    origin: String,
}

/// A call being put together.
#[derive(Debug)]
#[must_use = "a call does nothing until it is sent"]
pub struct Call {
    request: reqwest::RequestBuilder,
    shown: String,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub body: Vec<u8>,
    shown: String,
}

impl Client {
    /// A client of `origin`, such as `http://127.0.0.1:8000`.
    ///
    /// # Panics
    /// When the TLS backend cannot be set up.
    #[must_use]
    pub fn new(origin: impl Into<String>) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER_WAIT)
            .build()
            .expect("a plain client can be made");
        let origin = origin.into();
        Self { http, origin: origin.trim_end_matches('/').to_owned() }
    }

    /// The origin it talks to.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Any method on a path; the path may carry a query.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let shown = format!("{method} {path}");
        Call { request: self.http.request(method, format!("{}{path}", self.origin)), shown }
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// A POST.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }
}

impl Call {
    /// As a person, with an access token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// As a service, with an API key.
    pub fn api_key(self, key: &str) -> Self {
        self.header("x-api-key", key)
    }

    /// With an idempotency key.
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With any header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// With a JSON body.
    pub fn json(mut self, body: &Value) -> Self {
        self.request = self.request.json(body);
        self
    }

    /// With any body.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.request = self.request.header("content-type", content_type).body(body.into());
        self
    }

    /// With a form, as a browser posts it.
    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
        self.request = self.request.form(fields);
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let response = self.request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        Ok(Answer { status, headers, body, shown: self.shown })
    }

    /// Sends it.
    ///
    /// # Panics
    /// When no whole answer came.
    pub async fn send(self) -> Answer {
        let shown = self.shown.clone();
        self.try_send().await.unwrap_or_else(|error| panic!("{shown}: no answer: {error:?}"))
    }
}

impl Answer {
    /// Reads an answer off the wire, for a request that no library would send. The sender must have
    /// asked for `connection: close`.
    ///
    /// # Panics
    /// When it is no HTTP/1.1 answer.
    #[must_use]
    pub fn parse(shown: &str, received: &[u8]) -> Self {
        const HEAD_END: &[u8] = b"\r\n\r\n";
        let said = || format!("{shown}: {}", String::from_utf8_lossy(received));
        let end = received.windows(HEAD_END.len()).position(|it| it == HEAD_END);
        let (head, body) = received.split_at(end.unwrap_or_else(|| panic!("{}", said())));
        let head = std::str::from_utf8(head).unwrap_or_else(|_| panic!("{}", said()));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|it| it.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.parse::<HeaderName>().ok()?, value.trim().parse().ok()?))
        });
        Self {
            status: status.unwrap_or_else(|| panic!("{}", said())),
            headers: headers.collect(),
            body: body[HEAD_END.len()..].to_vec(),
            shown: shown.to_owned(),
        }
    }

    /// A header's text; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: impl TryInto<HeaderName>) -> &str {
        let name = name.try_into().ok();
        name.and_then(|name| self.headers.get(name)?.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Insists on a status.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.shown, self.text());
        self
    }

    /// Insists on a 200 with JSON, and reads it.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    pub fn ok<T: DeserializeOwned>(&self) -> T {
        self.expect(200);
        assert_eq!(self.media_type(), "application/json", "{}", self.shown);
        self.read()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not the JSON that was wanted.
    #[track_caller]
    pub fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error} in {}", self.shown, self.text()))
    }

    /// Insists on a problem as the contract promises it, and returns its body.
    ///
    /// # Panics
    /// When status, code, content type or any member is not as promised.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.shown);
        let body: Value = self.read();
        let shown = format!("{}: {body}", self.shown);
        assert_eq!(body["code"], code, "{shown}");
        assert_eq!(body["status"], status, "{shown}");
        assert_eq!(body["type"], chassis::http::problem_type(code), "{shown}");
        for member in ["title", "detail"] {
            assert!(
                body[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member}: {shown}"
            );
        }
        let request_id = body["request_id"].as_str().unwrap_or_default();
        assert!(!request_id.is_empty(), "{shown}");
        assert_eq!(request_id, self.header("x-request-id"), "{shown}");
        let fields_are_named = body.get("errors").is_none_or(|errors| {
            errors.as_array().is_some_and(|errors| {
                !errors.is_empty()
                    && errors.iter().all(|e| e["field"].is_string() && e["message"].is_string())
            })
        });
        assert!(fields_are_named, "{shown}");
        body
    }

    fn media_type(&self) -> &str {
        self.header("content-type").split(';').next().unwrap_or_default().trim()
    }
}
