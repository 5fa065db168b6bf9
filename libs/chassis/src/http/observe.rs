//! How a request is seen: one span, two metrics, and a line if it failed on our side.
//!
//! Query strings, bodies and headers are never seen. The route is the template that matched, never
//! the path, so the number of time series is bounded.

use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry::propagation::Extractor;
use poem::http::{HeaderMap, Method};
use poem::{PathPattern, Request, Response};
use prometheus::{HistogramVec, IntCounterVec, register_histogram_vec, register_int_counter_vec};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The route of a request that matched none.
const NO_ROUTE: &str = "none";

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "http_requests_total",
        "Requests answered, by service, method, route and status.",
        &["service", "method", "route", "status"]
    )
    .expect("the name is registered here only")
});

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "http_request_seconds",
        "From the request's head to its answer's head, by service, method and route.",
        &["service", "method", "route"],
        vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
    )
    .expect("the name is registered here only")
});

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// The span of a request, below the caller's own if it sent a `traceparent`.
pub(super) fn span(request: &Request, request_id: &str) -> Span {
    let span = tracing::info_span!(
        "request",
        http.method = method(request.method()),
        http.path = request.uri().path(),
        http.status = tracing::field::Empty,
        elapsed_ms = tracing::field::Empty,
        request.id = request_id,
    );
    if request.headers().contains_key("traceparent") {
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&Headers(request.headers()))
        });
        // Without an exporter there is no layer that could take a parent.
        span.set_parent(parent).ok();
    }
    span
}

/// Puts the outcome into the span, the log and the metrics.
pub(super) fn finish(
    span: &Span,
    service: &str,
    http_method: &Method,
    response: &Response,
    elapsed: Duration,
) {
    let status = response.status();
    let method = method(http_method);
    let route = response.data::<PathPattern>().map_or(NO_ROUTE, |pattern| &pattern.0);
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    span.record("http.status", status.as_u16());
    span.record("elapsed_ms", elapsed_ms);
    span.in_scope(|| {
        let code = status.as_u16();
        if status.is_server_error() {
            tracing::warn!(
                http.route = route,
                "{method} {route} answered {code} after {elapsed_ms} ms"
            );
        } else {
            // Metrics count them; a line each would cost more than most requests do.
            tracing::debug!(
                http.route = route,
                "{method} {route} answered {code} after {elapsed_ms} ms"
            );
        }
    });
    REQUESTS.with_label_values(&[service, method, route, status.as_str()]).inc();
    SECONDS.with_label_values(&[service, method, route]).observe(elapsed.as_secs_f64());
}

/// Callers may invent methods; labels may not.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
