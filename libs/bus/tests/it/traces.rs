//! A trace survives the queue: from whoever asks, through the handler, into the event's row.

use bus::ask::Asker;
use bus::follow::{Answer, Delivery, HandleError, Handler};
use bus::outbox::{self, Event};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use primitives::{EventId, Timestamp};
use proto_events::common::v1::Envelope;
use proto_events::subjects::keys::KEY_REVOKED;
use sqlx::PgConnection;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

use crate::world::{BOUND, SUBJECT, World, answer, said};

/// Answers with the sender's trace context, and announces something.
struct Tracer;

impl Handler for Tracer {
    async fn handle(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        let id = EventId::generate();
        let event =
            Event { id, subject: KEY_REVOKED, payload: Vec::new(), occurred_at: now, cause: None };
        outbox::enqueue(conn, "traces", &[event]).await.map_err(HandleError::retry)?;
        let heard = |it: &Delivery| it.traceparent.clone().unwrap_or_default();
        Ok(batch.iter().map(|it| Answer::Reply(answer(&heard(it)))).collect())
    }
}

#[tokio::test]
async fn a_trace_survives_the_queue() {
    let world = World::new().await;
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    // For this thread, which runs everything in this test.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let reader = world.read("traces", Tracer).await;
    let span = tracing::info_span!("request");
    let trace_id = span.context().span().span_context().trace_id().to_string();
    let asker = Asker::new(world.client.clone());
    let command = said("x");
    let asked = asker.command::<Envelope>(SUBJECT, &command, BOUND).instrument(span);
    let heard = asked.await.unwrap().origin;
    assert!(heard.contains(&trace_id), "{heard} is of trace {trace_id}");
    let kept: String = sqlx::query_scalar("select traceparent from bus.outbox")
        .fetch_one(&world.database.pool)
        .await
        .unwrap();
    assert!(kept.contains(&trace_id), "{kept} is of trace {trace_id}");
    assert_ne!(kept, heard, "the event is of the batch's own span");
    reader.stop().await;
}
