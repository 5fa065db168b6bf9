//! W3C trace context into and out of message headers, so that a trace survives the queue.
//!
//! Without an OpenTelemetry layer in the subscriber there is no context, and nothing is sent.

use async_nats::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header's name, by the W3C.
pub(crate) const HEADER: &str = "traceparent";

/// One `traceparent`, being written or read.
struct Carrier(Option<String>);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        if key == HEADER { self.0.as_deref() } else { None }
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

/// The current span as a `traceparent`.
pub(crate) fn current() -> Option<String> {
    let mut carrier = Carrier(None);
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.0
}

/// Puts the current span into `headers`.
pub(crate) fn inject(headers: &mut HeaderMap) {
    if let Some(traceparent) = current() {
        headers.insert(HEADER, traceparent);
    }
}

/// What a sender put into `headers`.
pub(crate) fn of(headers: Option<&HeaderMap>) -> Option<String> {
    headers?.get(HEADER).map(|it| it.as_str().to_owned())
}

/// Makes the first sender's span the parent of `span`, and links the others: a batch has many
/// causes, and a span has one parent.
pub(crate) fn adopt<'a>(span: &Span, traceparents: impl Iterator<Item = &'a str>) {
    if span.is_disabled() {
        return;
    }
    for (n, traceparent) in traceparents.enumerate() {
        let carrier = Carrier(Some(traceparent.to_owned()));
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        if n > 0 {
            span.add_link(context.span().span_context().clone());
        } else if let Err(error) = span.set_parent(context) {
            tracing::trace!(%error, "no trace to join");
            return;
        }
    }
}
