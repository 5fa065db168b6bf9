//! The one way to read a stream: begin, move the cursor by compare-and-set, let the handler work,
//! commit, reply.
//!
//! Batches form by themselves: what has arrived while the last commit ran is the next one.
//! Of several replicas one works (see [`crate::session`]); two would still be right, because only
//! one of them can move the cursor from where both saw it.

mod batch;
mod carry;
pub mod health;
mod keep;

use std::future::Future;
use std::time::Duration;

use async_nats::{Client, jetstream};
use bytes::Bytes;
use primitives::Timestamp;
use proto_events::subjects::Stream;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::cursor::{self, Settled};
use crate::feed;
use crate::follow::health::Health;
use crate::pause::{self, Pause};
use crate::place::Place;
use crate::session::{STANDBY, Session};
use crate::{Cause, metrics, store};

/// The usual [`Follow::batch_bytes_max`].
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// The usual [`Follow::silence_max`].
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A process that is merely busy must not lose its session.
const SILENCE_MIN: Duration = Duration::from_millis(500);

/// Where an answer goes: an inbox of whoever asked. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(async_nats::Subject);

impl Reply {
    /// What every inbox begins with. Nothing else is replied to, or an asker could make a service
    /// publish commands and events under the service's own rights.
    const PREFIX: &str = "_INBOX.";

    /// Reads what [`Reply::to_text`] prints; `None` if it is no inbox.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut before = b'.';
        for byte in text.bytes() {
            let is_plain = byte.is_ascii_graphic() && byte != b'*' && byte != b'>';
            if !is_plain || (byte == b'.' && before == b'.') {
                return None;
            }
            before = byte;
        }
        let good = text.starts_with(Self::PREFIX) && before != b'.';
        good.then(|| Self(async_nats::Subject::from(text)))
    }

    /// As a row keeps it.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0.to_string()
    }

    pub(crate) fn into_subject(self) -> async_nats::Subject {
        self.0
    }
}

/// A message on its way to a [`Handler`].
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its place in the stream.
    pub sequence: u64,
    /// What it was published under.
    pub subject: String,
    /// Its body.
    pub payload: Bytes,
    /// When the stream took it.
    pub published_at: Timestamp,
    /// Where the answer goes, if anybody waits for it.
    pub reply: Option<Reply>,
    /// The sender's span.
    pub traceparent: Option<String>,
}

/// What becomes of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was used; whoever asked is told so after the commit.
    Reply(Vec<u8>),
    /// It was used; nobody is told, or somebody will be later by [`crate::reply::send`].
    Silent,
    /// It cannot be used: it goes to `bus.parked` in the same transaction.
    Park {
        /// For the person who looks at it.
        reason: String,
        /// What the asker is told, if anything.
        reply: Option<Vec<u8>>,
    },
}

/// A batch that could not be used. Its transaction is rolled back.
#[derive(Debug)]
pub enum HandleError {
    /// Something near us is broken: the whole batch again, after a pause.
    ///
    /// Errors that come from what a message says rather than from the weather (SQLSTATE classes
    /// 22, 23 and P0: data, constraints, raised by a trigger) count as [`HandleError::Poison`]
    /// wherever in the chain they are.
    Retry(Cause),
    /// A message in the batch cannot be used. The messages are tried one by one, and the one that
    /// is poison by itself is parked.
    Poison {
        /// For the person who looks at it.
        reason: String,
    },
    /// The handler was not prepared for this batch and now is: the same batch again, at once, and
    /// without [`Handler::rolled_back`], because the handler knows. Said twice in a row it counts
    /// as a [`HandleError::Retry`].
    Again,
}

impl HandleError {
    /// A [`HandleError::Retry`] of any error.
    pub fn retry(cause: impl Into<Cause>) -> Self {
        Self::Retry(cause.into())
    }

    /// A [`HandleError::Poison`].
    pub fn poison(reason: impl Into<String>) -> Self {
        Self::Poison { reason: reason.into() }
    }
}

/// Uses messages, inside the transaction that moves the cursor past them.
pub trait Handler: Send + 'static {
    /// Uses `batch`, which is in stream order and never empty; one answer each, in the same order.
    ///
    /// Everything the messages change must go through `conn`, and nothing may be remembered as
    /// done before [`Handler::committed`]. Nothing slow may be awaited: Postgres ends a
    /// transaction that is silent for fifteen seconds. A panic counts as poison.
    fn handle(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Answer>, HandleError>> + Send;

    /// The last batch is durable; called before its replies go out.
    fn committed(&mut self) {}

    /// The last batch did not happen, or somebody else has written since: whatever is kept in
    /// memory must be forgotten. May be called more than once, and before the first batch; not
    /// called when a batch comes again because the handler said [`HandleError::Again`].
    fn rolled_back(&mut self) {}
}

/// Who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// The cursor's name; replicas of one reader share it.
    pub reader: &'static str,
    /// What is read.
    pub stream: Stream,
    /// Only these subjects of it.
    pub filter: Option<&'static str>,
    /// The most messages in one transaction.
    pub batch_max: usize,
    /// The most bytes of their bodies; a message that has more is a batch of its own.
    pub batch_bytes_max: usize,
    /// How long the session that does the work may be silent before Postgres ends it, and another
    /// replica takes over from a process that hangs.
    pub silence_max: Duration,
}

/// The reader cannot be run as it is declared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No message could ever match.
    #[error("stream {stream} does not capture {filter}")]
    Filter {
        /// Of the stream.
        stream: &'static str,
        /// The filter.
        filter: &'static str,
    },
    /// A batch must hold something.
    #[error("a batch holds at least one message")]
    BatchMax,
    /// A shorter silence is no sign of trouble.
    #[error("a session may be silent for at least {} ms", SILENCE_MIN.as_millis())]
    SilenceMax,
}

/// Why a reader stopped reading.
enum End {
    Shutdown,
    /// Another replica works.
    Standby,
    /// Another writer has moved the cursor.
    Fenced,
    /// The stream is not what it was.
    Changed,
}

/// Trouble that passes.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Cursor(#[from] cursor::Error),
    #[error(transparent)]
    Feed(#[from] feed::Error),
}

/// Reads until `shutdown`, whatever breaks meanwhile. Holds one connection of `pool`.
///
/// # Errors
/// [`Error`] if `follow` makes no sense; nothing else.
pub async fn run(
    follow: Follow,
    pool: PgPool,
    client: Client,
    shutdown: CancellationToken,
    handler: impl Handler,
) -> Result<(), Error> {
    run_watched(follow, pool, client, shutdown, handler, Health::new()).await
}

/// As [`run`], and tells `health` how it is.
///
/// # Errors
/// As [`run`].
pub async fn run_watched(
    follow: Follow,
    pool: PgPool,
    client: Client,
    shutdown: CancellationToken,
    handler: impl Handler,
    health: Health,
) -> Result<(), Error> {
    follow.check()?;
    let js = jetstream::new(client.clone());
    let pause = Pause::new();
    let mut reader = Reader { follow, pool, client, js, shutdown, handler, pause, health };
    reader.run().await;
    Ok(())
}

impl Follow {
    fn check(&self) -> Result<(), Error> {
        if self.batch_max == 0 || self.batch_bytes_max == 0 {
            return Err(Error::BatchMax);
        }
        if self.silence_max < SILENCE_MIN {
            return Err(Error::SilenceMax);
        }
        let captured = self.stream.subjects.trim_end_matches('>');
        match self.filter {
            Some(filter) if !filter.starts_with(captured) => {
                Err(Error::Filter { stream: self.stream.name, filter })
            }
            _ => Ok(()),
        }
    }
}

struct Reader<H> {
    follow: Follow,
    pool: PgPool,
    client: Client,
    js: jetstream::Context,
    shutdown: CancellationToken,
    handler: H,
    pause: Pause,
    health: Health,
}

impl<H: Handler> Reader<H> {
    async fn run(&mut self) {
        let reader = self.follow.reader;
        while !self.shutdown.is_cancelled() {
            let end = self.lead().await;
            self.handler.rolled_back();
            match end {
                Ok(End::Shutdown) => break,
                Ok(End::Standby) => {
                    self.health.leads(reader, false);
                    pause::sleep(STANDBY, &self.shutdown).await;
                }
                Ok(End::Changed) => {}
                Ok(End::Fenced) => {
                    metrics::FENCE_LOSSES.with_label_values(&[reader]).inc();
                    tracing::warn!(reader, "another writer has moved {reader}'s cursor");
                    self.pause.wait(&self.shutdown).await;
                }
                Err(trouble) => {
                    let error = crate::chain(&trouble);
                    tracing::warn!(reader, error, "{reader} stopped reading and starts again");
                    self.health.troubled(reader, &error, Timestamp::now());
                    self.pause.wait(&self.shutdown).await;
                }
            }
        }
        // The last replies are worth a moment.
        let flushed = tokio::time::timeout(STANDBY, self.client.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!(reader, "the last replies of {reader} may be lost");
        }
    }

    /// Works as the one replica that does, until something ends it.
    async fn lead(&mut self) -> Result<End, Trouble> {
        let connects = keep::Connects::of(&self.client);
        let opened = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Ok(End::Shutdown),
            opened = open(&self.follow, &self.pool, &self.js, &self.health) => opened?,
        };
        let Some((mut session, settled)) = opened else { return Ok(End::Standby) };
        self.health.leads(self.follow.reader, true);
        let (at, seen) = watch::channel(settled.place);
        let changed = CancellationToken::new();
        let kept = keep::keep(self.follow, settled.stream.clone(), seen, changed.clone());
        let reconnected = keep::reconnected(self.client.clone(), connects);
        let (ended, noticed) = (changed.clone(), changed.clone());
        let watched = async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = reconnected => noticed.cancel(),
            }
        };
        let read = async {
            let end = self.read(&mut session, settled, &at, &changed).await;
            changed.cancel();
            end
        };
        let (end, (), ()) = tokio::join!(read, kept, watched);
        end
    }

    async fn read(
        &mut self,
        session: &mut Session,
        settled: Settled,
        at: &watch::Sender<Place>,
        changed: &CancellationToken,
    ) -> Result<End, Trouble> {
        let Settled { mut place, mut feed, .. } = settled;
        let mut ping = tokio::time::interval(session.ping_every());
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(End::Shutdown),
                () = changed.cancelled() => return Ok(End::Changed),
                _ = ping.tick() => {
                    session.ping().await?;
                    continue;
                }
                first = feed.next() => first?,
            };
            let batch = batch::collect(first, &mut feed, &self.follow);
            if let Some(end) = self.carry(session, &mut place, &batch).await? {
                return Ok(end);
            }
            at.send_replace(place);
        }
    }
}

/// The session that works and the feed it reads; `None` while another replica works.
async fn open(
    follow: &Follow,
    pool: &PgPool,
    js: &jetstream::Context,
    health: &Health,
) -> Result<Option<(Session, Settled)>, Trouble> {
    let job = format!("bus.follow/{}/{}", follow.reader, follow.stream.name);
    let Some(mut session) = Session::try_lead(pool, &job, follow.silence_max).await? else {
        return Ok(None);
    };
    let settled = cursor::settle(&mut session, js, follow, health).await?;
    Ok(Some((session, settled)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_inbox_is_replied_to() {
        let inbox = "_INBOX.Zx8.7f";
        assert_eq!(Reply::from_text(inbox).unwrap().to_text(), inbox);
        for bad in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOX..a",
            "_INBOX.a.",
            "_INBOX.*",
            "_INBOX.>",
            "_INBOX.a b",
            "_INBOXES.a",
            "cmd.ledger.v1.0.x",
        ] {
            assert_eq!(Reply::from_text(bad), None, "{bad}");
        }
    }
}
