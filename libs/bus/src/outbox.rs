//! Events leave only from the transaction that made them true: [`enqueue`] writes them beside the
//! change, [`relay`] publishes them in that order.
//!
//! Rows are kept for days after: a stream that was wiped or lost its tail gets the missing events
//! again. Readers drop what they have by event id.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Info, InfoError, RawMessageError, RawMessageErrorKind, Stream,
};
use async_nats::{Client, HeaderMap, jetstream};
use bytes::Bytes;
use futures_util::future::join_all;
use primitives::{EventId, Timestamp};
use prost::Message;
use proto_events::common::v1::Envelope;
use proto_events::subjects;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::follow::SILENCE_MAX;
use crate::pause::{self, Pause};
use crate::session::{STANDBY, Session};
use crate::store::{self, Waiting};
use crate::{Cause, metrics, streams, trace};

/// The largest event. NATS takes 1 MiB with the envelope and the headers.
pub const EVENT_BYTES_MAX: usize = 1_000_000;
/// How long a published event is kept, for a stream that needs it again.
pub const KEPT_FOR: Duration = Duration::from_hours(3 * 24);

/// Events on their way to the stream at a time.
const WINDOW: i64 = 64;
/// How often the outbox is looked into when nobody wakes the relay: another replica's transaction
/// cannot, and an event should be out well within a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the stream is compared with what was published, and old rows are deleted.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How many old rows are deleted at a time.
const DELETED_AT_ONCE: i64 = 500;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Made with the event, so that readers can drop repeats.
    pub id: EventId,
    /// From `proto_events::subjects`.
    pub subject: &'static str,
    /// The encoded message.
    pub payload: Vec<u8>,
    /// When it became true.
    pub occurred_at: Timestamp,
    /// The command or event before it.
    pub cause: Option<Uuid>,
}

/// Events could not be enqueued; the transaction is lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// NATS would not carry it, so the transaction must not promise it.
    #[error("event {id} on {subject} has {bytes} bytes, more than {EVENT_BYTES_MAX}")]
    TooLarge {
        /// Which event.
        id: EventId,
        /// Its subject.
        subject: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Postgres did not take them.
    #[error("failed to enqueue events")]
    Enqueue(#[source] Cause),
}

/// Promises that `events` will be published, if the transaction of `conn` commits. Enqueuing an
/// event id again changes nothing.
///
/// # Errors
/// [`Error`] if they cannot be kept.
pub async fn enqueue(
    conn: &mut PgConnection,
    origin: &'static str,
    events: &[Event],
) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    if let Some(large) = events.iter().find(|it| it.payload.len() > EVENT_BYTES_MAX) {
        let (id, subject, bytes) = (large.id, large.subject, large.payload.len());
        return Err(Error::TooLarge { id, subject, bytes });
    }
    store::enqueue(conn, origin, events, trace::current().as_deref(), Timestamp::now())
        .await
        .map_err(|error| Error::Enqueue(error.into()))
}

/// Tells the relay of the same process to look now. Call it after the commit; forgetting to costs
/// a moment, not an event.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Wakes the relay, or keeps it from falling asleep.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Trouble that passes.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Find(#[from] streams::Error),
    #[error("failed to look at the stream of events")]
    Look(#[source] InfoError),
    #[error("failed to look at message {sequence}")]
    Witness {
        sequence: u64,
        #[source]
        source: RawMessageError,
    },
    #[error("event {event_id} was not taken by the stream")]
    Publish {
        event_id: Uuid,
        #[source]
        source: PublishError,
    },
}

/// Publishes the events of `origin` in the order they were enqueued until `shutdown`, whatever
/// breaks meanwhile. Of several replicas one works. Holds one connection of `pool`.
///
/// The order holds unless the stream refuses an event in the middle; transactions that ran at the
/// same time have no order.
///
/// # Errors
/// None: what breaks is tried again.
pub async fn relay(
    pool: PgPool,
    origin: &'static str,
    client: Client,
    wake: Wake,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let relay = Relay { pool, origin, js: jetstream::new(client), wake, shutdown };
    let mut pause = Pause::new();
    while !relay.shutdown.is_cancelled() {
        match relay.lead(&mut pause).await {
            Ok(Some(())) => break,
            Ok(None) => pause::sleep(STANDBY, &relay.shutdown).await,
            Err(trouble) => {
                let error = crate::chain(&trouble);
                tracing::warn!(origin, error, "the relay of {origin} stopped and starts again");
                pause.wait(&relay.shutdown).await;
            }
        }
    }
    Ok(())
}

struct Relay {
    pool: PgPool,
    origin: &'static str,
    js: jetstream::Context,
    wake: Wake,
    shutdown: CancellationToken,
}

impl Relay {
    /// Publishes until shutdown; `None` while another replica works.
    async fn lead(&self, pause: &mut Pause) -> Result<Option<()>, Trouble> {
        let opened = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Ok(Some(())),
            opened = self.open() => opened?,
        };
        let Some((mut session, stream)) = opened else { return Ok(None) };
        let mut born_at = self.check(session.conn(), &stream).await?;
        self.forget(session.conn()).await?;
        let mut checked_at = Instant::now();
        while !self.shutdown.is_cancelled() {
            if checked_at.elapsed() >= CHECK_EVERY {
                born_at = self.check(session.conn(), &stream).await?;
                self.forget(session.conn()).await?;
                checked_at = Instant::now();
            }
            let waiting = store::next_waiting(session.conn(), self.origin, WINDOW).await?;
            self.measure(&waiting);
            if waiting.is_empty() {
                tokio::select! {
                    () = self.shutdown.cancelled() => {}
                    () = self.wake.0.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                continue;
            }
            self.publish(session.conn(), waiting, born_at).await?;
            pause.reset();
        }
        Ok(Some(()))
    }

    async fn open(&self) -> Result<Option<(Session, Stream)>, Trouble> {
        let job = format!("bus.relay/{}", self.origin);
        let Some(mut session) = Session::try_lead(&self.pool, &job, SILENCE_MAX).await? else {
            return Ok(None);
        };
        // Forgetting where an event went costs a repeat, and waiting for the disk costs the
        // service's own commits.
        store::commit_lazily(session.conn()).await?;
        let stream = streams::find(&self.js, &subjects::EVT).await?;
        Ok(Some((session, stream)))
    }

    fn measure(&self, waiting: &[Waiting]) {
        let now = Timestamp::now();
        let oldest = waiting.first().map_or(Duration::ZERO, |it| now.since(it.enqueued_at));
        metrics::OUTBOX_OLDEST.with_label_values(&[self.origin]).set(oldest.as_secs_f64());
    }

    /// Publishes a window of events and remembers where each one went, also when a later one
    /// fails.
    async fn publish(
        &self,
        conn: &mut PgConnection,
        waiting: Vec<Waiting>,
        born_at: Timestamp,
    ) -> Result<(), Trouble> {
        let mut acknowledgements = Vec::with_capacity(waiting.len());
        let mut failed = None;
        for event in waiting {
            let (outbox_id, event_id) = (event.outbox_id, event.event_id);
            let subject = event.subject.clone();
            match self.js.send_publish(subject, self.message(event)).await {
                Ok(acknowledged) => acknowledgements.push((outbox_id, event_id, acknowledged)),
                Err(source) => {
                    failed = Some(Trouble::Publish { event_id, source });
                    break;
                }
            }
        }
        // All at once: one that never comes must not hold up the others for its own time-out.
        let acknowledged = join_all(acknowledgements.into_iter().map(async |it| {
            let (outbox_id, event_id, acknowledged) = it;
            (outbox_id, event_id, acknowledged.await)
        }));
        let mut placed = Vec::new();
        for (outbox_id, event_id, acknowledged) in acknowledged.await {
            match acknowledged {
                Ok(acknowledged) => placed.push((outbox_id, acknowledged.sequence)),
                Err(source) => {
                    failed.get_or_insert(Trouble::Publish { event_id, source });
                }
            }
        }
        store::mark_published(conn, &placed, born_at, Timestamp::now()).await?;
        failed.map_or(Ok(()), Err)
    }

    fn message(&self, event: Waiting) -> PublishMessage {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, event.event_id.to_string());
        if let Some(traceparent) = &event.traceparent {
            headers.insert(trace::HEADER, traceparent.as_str());
        }
        let envelope = Envelope {
            event_id: Bytes::copy_from_slice(event.event_id.as_bytes()),
            occurred_at_us: event.occurred_at.micros(),
            origin: self.origin.to_owned(),
            cause_id: event
                .cause_id
                .map_or_else(Bytes::new, |it| Bytes::copy_from_slice(it.as_bytes())),
            traceparent: event.traceparent.unwrap_or_default(),
            payload: Bytes::from(event.payload),
        };
        PublishMessage::build().payload(Bytes::from(envelope.encode_to_vec())).headers(headers)
    }

    /// Compares the stream with what was published into it, and lets what it has lost wait again.
    /// Says when the stream was born.
    async fn check(&self, conn: &mut PgConnection, stream: &Stream) -> Result<Timestamp, Trouble> {
        let info = stream.get_info().await.map_err(Trouble::Look)?;
        let born_at = Timestamp::from_datetime(info.created);
        let mut n_newer = 0_i64;
        // Steps back twice as far each time, so a long tail costs few looks.
        let kept = loop {
            let origin = self.origin;
            match store::published_newest(conn, origin, n_newer).await? {
                None => break 0,
                Some(it) if self.holds(stream, &info, &it).await? => break it.sequence,
                Some(_) => n_newer = n_newer.saturating_mul(2).saturating_add(1),
            }
        };
        if n_newer > 0 {
            let n_events = store::unpublish_after(conn, self.origin, kept).await?;
            tracing::error!(
                origin = self.origin,
                n_events,
                "the stream of events has lost what came after message {kept}; {n_events} events \
                 of {} are published again",
                self.origin
            );
        }
        Ok(born_at)
    }

    /// Whether the stream still has the event where it put it, or has had it and let it go.
    async fn holds(
        &self,
        stream: &Stream,
        info: &Info,
        published: &store::Published,
    ) -> Result<bool, Trouble> {
        let sequence = published.sequence;
        if Timestamp::from_datetime(info.created) != published.born_at
            || info.state.last_sequence < sequence
        {
            return Ok(false);
        }
        if sequence < info.state.first_sequence {
            return Ok(true);
        }
        match stream.get_raw_message(sequence).await {
            Ok(found) => {
                let id = found.headers.get(async_nats::header::NATS_MESSAGE_ID);
                Ok(id.is_some_and(|it| it.as_str() == published.event_id.to_string()))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(true),
            Err(source) => Err(Trouble::Witness { sequence, source }),
        }
    }

    async fn forget(&self, conn: &mut PgConnection) -> Result<(), Trouble> {
        let before = Timestamp::now().minus(KEPT_FOR);
        store::delete_published(conn, self.origin, before, DELETED_AT_ONCE).await?;
        Ok(())
    }
}
