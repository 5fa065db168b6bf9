//! Logs and traces of the process.
//!
//! Log lines go to standard error, as JSON or as text for people. Spans go to an OpenTelemetry
//! collector only if one is configured. Trace context travels in the W3C form (`traceparent`).

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::{LogFormat, Logging};

/// How long the last spans may take to reach the collector.
const FLUSH_WAIT: Duration = Duration::from_secs(3);

/// Keeps the exporter alive; [`Telemetry::finish`] sends what it still holds.
#[derive(Debug)]
#[must_use = "call finish() at the end, or the last spans are lost"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets the process's subscriber, propagator and panic hook. Once a process, before its runtime is made.
///
/// # Errors
/// When the filter cannot be read, the exporter cannot be made, or a subscriber is already set.
pub fn init(name: &'static str, logging: &Logging) -> anyhow::Result<Telemetry> {
    let mut directives = logging.log_level.clone();
    if !directives.contains("async_nats=") {
        // It would write whole messages, and a new API key travels in one.
        directives.push_str(",async_nats=error");
    }
    let filter = EnvFilter::builder().parse(&directives).context("LOG_LEVEL cannot be read")?;
    let provider = logging.otlp_endpoint.as_deref().map(|url| exporter(name, url)).transpose()?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(name)));
    Registry::default()
        .with(traces)
        .with(lines(logging.log_format))
        .with(filter)
        .try_init()
        .context("logging is already set up")?;
    log_panics();
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends the spans still held; gives up after a few seconds.
    pub fn finish(self) {
        let Some(provider) = self.provider else {
            return;
        };
        if let Err(error) = provider.shutdown_with_timeout(FLUSH_WAIT) {
            tracing::warn!("the last spans were not sent: {error}");
        }
    }
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        LogFormat::Pretty => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.compact().with_target(false).with_ansi(colours).boxed()
        }
    }
}

fn exporter(name: &'static str, url: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
        .build()
        .context("cannot export to OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let resource = Resource::builder().with_service_name(name).build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Panics become log lines like any other error, with the place and without a backtrace.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let text = crate::context::panic_text(panic.payload_as_any());
        tracing::error!(panic.place = place, "panic at {place}: {text}");
    }));
}

/// Lets the hook read the payload the way [`crate::context::panic_text`] takes it.
trait PayloadAsAny {
    fn payload_as_any(&self) -> &(dyn std::any::Any + Send);
}

impl PayloadAsAny for std::panic::PanicHookInfo<'_> {
    fn payload_as_any(&self) -> &(dyn std::any::Any + Send) {
        self.payload()
    }
}
