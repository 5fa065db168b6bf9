//! What goes around every public endpoint, in one place and one order:
//! request id, span, preflight, body limit, the endpoint with its panics caught, one error body, headers.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use poem::endpoint::BoxEndpoint;
use poem::http::header::{self, HeaderName, HeaderValue};
use poem::http::{Method, StatusCode};
use poem::{Endpoint, EndpointExt, IntoResponse, PathPattern, Request, Response};
use tracing::Instrument;

use super::cors::Cors;
use super::request_id::{self, RequestId};
use super::{PROBLEM_JSON, Problem, body, observe};

/// The contract's limit for a JSON body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What a page may load unless it says otherwise: nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// What differs between services.
#[derive(Debug, Clone)]
pub struct Options {
    /// The label of its metrics.
    pub service: &'static str,
    /// Origins whose pages may read answers, such as `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// The largest body that is read.
    pub body_bytes_max: usize,
    /// For how long browsers shall insist on HTTPS; none where the origin is plain HTTP.
    pub hsts: Option<Duration>,
    /// Puts an error of the framework into words; what it leaves is told by its status alone.
    pub map_error: fn(&poem::Error) -> Option<Problem>,
    /// Every method and path template (`/keys/{id}/revoke`), for the `Allow` of a 405.
    pub routes: Vec<(Method, String)>,
}

impl Options {
    /// The contract's limits, no foreign origins, no HSTS, nothing mapped.
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            allowed_origins: Vec::new(),
            body_bytes_max: BODY_BYTES_MAX,
            hsts: None,
            map_error: |_| None,
            routes: Vec::new(),
        }
    }
}

/// Gives `endpoint` the manners of the house. The result never fails: every error is a problem.
pub fn wrap<E: Endpoint + 'static>(
    endpoint: E,
    options: Options,
) -> BoxEndpoint<'static, Response> {
    let hsts = options.hsts.and_then(|it| {
        HeaderValue::from_str(&format!("max-age={}; includeSubDomains", it.as_secs())).ok()
    });
    Wrapped { endpoint, options, hsts }.boxed()
}

struct Wrapped<E> {
    endpoint: E,
    options: Options,
    hsts: Option<HeaderValue>,
}

impl<E: Endpoint> Endpoint for Wrapped<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let started = Instant::now();
        let id = RequestId::of(&request);
        let span = observe::span(&request, &id.0);
        let method = request.method().clone();
        let cors = Cors::of(&request, &self.options.allowed_origins);
        request.set_data(id.clone());
        let mut response = match cors.preflight() {
            Some(response) => response,
            None => self.answer(request, &id.0).instrument(span.clone()).await,
        };
        cors.write(response.headers_mut());
        self.write_headers(&mut response);
        response.headers_mut().insert(request_id::HEADER, id.to_header());
        observe::finish(&span, self.options.service, &method, &response, started.elapsed());
        Ok(response)
    }
}

impl<E: Endpoint> Wrapped<E> {
    async fn answer(&self, mut request: Request, id: &str) -> Response {
        if let Err(refusal) = body::take_in(&mut request, self.options.body_bytes_max).await {
            return Problem::from(refusal).answer(id);
        }
        let path = request.uri().path().to_owned();
        let said = AssertUnwindSafe(self.endpoint.call(request)).catch_unwind().await;
        match said {
            Ok(Ok(answer)) => put_into_words(answer.into_response(), id).await,
            Ok(Err(error)) => self.explain(error, &path, id).await,
            // The panic hook has written where and why.
            Err(_panic) => Problem::internal().answer(id),
        }
    }

    /// Any error of the framework or of a handler, as a problem.
    async fn explain(&self, error: poem::Error, path: &str, id: &str) -> Response {
        let route = error.data::<PathPattern>().cloned();
        let mut response = if let Some(problem) = error.downcast_ref::<Problem>() {
            problem.clone().answer(id)
        } else if error.is_from_response() {
            put_into_words(error.into_response(), id).await
        } else {
            let problem = (self.options.map_error)(&error).unwrap_or_else(|| {
                if error.status().is_server_error() {
                    tracing::error!("the request failed: {}", chain(&error));
                }
                Problem::from_status(error.status())
            });
            problem.answer(id)
        };
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && !response.headers().contains_key(header::ALLOW)
            && let Ok(allow) = HeaderValue::from_str(&allow(&self.options.routes, path))
        {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        if let Some(route) = route {
            response.set_data(route);
        }
        response
    }

    fn write_headers(&self, response: &mut Response) {
        let is_json = response.content_type().is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind == "application/json" || kind == PROBLEM_JSON
        });
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        let mut unless_set = |name: HeaderName, value: &'static str| {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        };
        unless_set(header::REFERRER_POLICY, "no-referrer");
        unless_set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
        if is_json {
            unless_set(header::CACHE_CONTROL, "no-store");
        }
        if let Some(hsts) = &self.hsts {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}

/// Gives a finished answer the error body, if it is an error that has none of its own.
///
/// A [`Problem`] gets its request id; so does a problem that a handler wrote by other means.
/// An error with a page of its own (HTML, JSON) is left alone.
async fn put_into_words(mut response: Response, id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let route = response.data::<PathPattern>().cloned();
    let kind = response
        .content_type()
        .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
    let mut answer = if let Some(problem) = response.data::<Problem>().cloned() {
        problem.answer(id)
    } else if kind.as_deref() == Some(PROBLEM_JSON) {
        return with_request_id(response, id).await;
    } else if kind.as_deref().is_none_or(|kind| kind == "text/plain") {
        if status.is_server_error() {
            tracing::error!("a handler answered {status} without saying why");
        }
        let mut answer = Problem::from_status(status).answer(id);
        for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
            if let Some(value) = response.headers_mut().remove(&name) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    } else {
        return response;
    };
    if let Some(route) = route {
        answer.set_data(route);
    }
    answer
}

/// Writes the request id into a problem that was made without one.
async fn with_request_id(mut response: Response, id: &str) -> Response {
    let Ok(bytes) = response.take_body().into_bytes().await else {
        return Problem::internal().answer(id);
    };
    let Ok(serde_json::Value::Object(mut members)) = serde_json::from_slice(&bytes) else {
        tracing::error!("a handler's problem is not a JSON object");
        return Problem::internal().answer(id);
    };
    members.insert("request_id".to_owned(), id.into());
    response.set_body(serde_json::Value::Object(members).to_string());
    response
}

/// The methods that a path takes, by the table of routes.
fn allow(routes: &[(Method, String)], path: &str) -> String {
    let mut methods: Vec<&str> = Vec::new();
    for (method, _) in routes.iter().filter(|(_, template)| fits(template, path)) {
        let also_head = if method == Method::GET { Some(Method::HEAD.as_str()) } else { None };
        for name in [Some(method.as_str()), also_head].into_iter().flatten() {
            if !methods.contains(&name) {
                methods.push(name);
            }
        }
    }
    methods.join(", ")
}

/// Whether a path fits a template such as `/keys/{id}/revoke`.
#[must_use]
pub fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(want), Some(give)) if want.starts_with('{') && !give.is_empty() => {}
            (Some(want), Some(give)) if want == give => {}
            (_, _) => return false,
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &poem::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
