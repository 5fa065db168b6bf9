//! What a request leaves behind: a log line, a span, metrics; and what it must not leave.

use std::io;
use std::sync::{Arc, Mutex};

use chassis::http::{Options, wrap};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use poem::http::{Method, Uri};
use poem::{Endpoint, Request, Response, Route, get, handler};
use serde_json::Value;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[handler]
fn item() -> String {
    tracing::info!("inside");
    tracing::Span::current().context().span().span_context().trace_id().to_string()
}

fn endpoint(service: &'static str) -> impl Endpoint<Output = Response> {
    wrap(Route::new().at("/items/:id", get(item)), Options::new(service))
}

fn request(method: Method, uri: &'static str) -> Request {
    Request::builder()
        .method(method)
        .uri(Uri::from_static(uri))
        .header("x-request-id", "req-1")
        .header("authorization", "Bearer hunter2")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .body("hunter2")
}

#[tokio::test]
async fn a_request_is_logged_with_its_id_and_without_query_headers_or_body() {
    let lines = Lines::default();
    let writer = lines.clone();
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(move || writer.clone());
    let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(json));
    endpoint("logged").call(request(Method::GET, "/items/7?token=hunter2")).await.unwrap();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("hunter2") && !text.contains('?'), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for line in &lines {
        assert_eq!(line["span"]["request.id"], "req-1", "{line}");
        assert_eq!(line["span"]["http.path"], "/items/7", "{line}");
        assert_eq!(line["span"]["http.method"], "GET", "{line}");
    }
    assert_eq!(lines[1]["span"]["http.status"], 200);
    assert!(lines[1]["span"]["elapsed_ms"].is_u64(), "{}", lines[1]);
    assert!(
        lines[1]["message"].as_str().unwrap().starts_with("GET /items/:id answered 200 after ")
    );
}

#[tokio::test]
async fn a_traceparent_becomes_the_parent_of_the_span() {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let answer = endpoint("traced").call(request(Method::GET, "/items/7")).await.unwrap();
    assert_eq!(answer.into_body().into_string().await.unwrap(), "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn metrics_count_by_template_and_never_by_path() {
    let endpoint = endpoint("counted");
    let invented = Method::from_bytes(b"INVENTED").unwrap();
    for (method, uri) in [
        (Method::GET, "/items/1"),
        (Method::GET, "/items/2?x=3"),
        (Method::GET, "/secret-path"),
        (invented, "/items/3"),
    ] {
        endpoint.call(request(method, uri)).await.unwrap();
    }
    let text = chassis::metrics::print().unwrap();
    let mine: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("http_requests_total{") && line.contains("\"counted\""))
        .collect();
    assert_eq!(
        mine,
        [
            "http_requests_total{method=\"GET\",route=\"/items/:id\",service=\"counted\",status=\"200\"} 2",
            "http_requests_total{method=\"GET\",route=\"none\",service=\"counted\",status=\"404\"} 1",
            "http_requests_total{method=\"OTHER\",route=\"/items/:id\",service=\"counted\",status=\"405\"} 1",
        ]
    );
    let seconds =
        "http_request_seconds_count{method=\"GET\",route=\"/items/:id\",service=\"counted\"} 2";
    assert!(text.contains(seconds), "{text}");
}
