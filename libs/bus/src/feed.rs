//! Messages of one stream in order, from a place on: an ephemeral pull consumer without
//! acknowledgements.
//!
//! It belongs to one birth of the stream and one life of the server: it is kept in the server's
//! memory, so whatever could change the stream under a reader (deletion, a restart that lost the
//! tail) also ends the consumer. Any end, gap or silence is an [`Error`]; the reader then looks at
//! the stream again before it opens the next feed. That is why the client library's own ordered
//! consumer, which silently continues on a new stream, is not used.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use futures_util::{FutureExt, StreamExt};
use primitives::Timestamp;
use tokio::task::coop::unconstrained;

/// How long the server keeps a consumer nobody pulls from.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// How long one pull request stays open.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// A server carries messages of a mebibyte, and never sends one that is larger than all that was
/// asked for.
const BYTES_AHEAD_MIN: usize = 2 * 1024 * 1024;

/// The feed ended. Nothing is lost: it is opened again from the reader's place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to create a consumer")]
    Create(#[source] jetstream::stream::ConsumerError),
    #[error("failed to pull")]
    Pull(#[source] jetstream::consumer::StreamError),
    #[error("the consumer broke")]
    Broken(#[source] pull::MessagesError),
    #[error("the consumer ended")]
    Ended,
    #[error("a message did not say where it is from")]
    Unplaced(#[source] async_nats::Error),
    #[error("message {got} came where {expected} was due")]
    Gap { expected: u64, got: u64 },
}

/// Where to begin.
pub(crate) enum From {
    /// With this sequence, or the first one after it that there is.
    Sequence(u64),
    /// With whatever is published next.
    New,
}

/// What is asked for at a time. Half as much again may be in memory: more is asked for when half
/// of it has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) messages: usize,
    /// Raised to what the largest message needs.
    pub(crate) bytes: usize,
}

/// A message, and where the stream had it.
pub(crate) struct Arrived {
    pub(crate) message: async_nats::Message,
    pub(crate) sequence: u64,
    pub(crate) published_at: Timestamp,
}

/// An open consumer.
pub(crate) struct Feed {
    messages: pull::Stream,
    /// The consumer's own count, which has no gaps unless a delivery was lost.
    n_received: u64,
    /// What came next and was not taken: a message that did not fit, or the end.
    kept: Option<Result<Arrived, Error>>,
}

impl Feed {
    /// Opens a feed that asks for as much as `ahead`, and notices within twice `heartbeat` that
    /// the server is gone.
    pub(crate) async fn open<I>(
        stream: &Stream<I>,
        from: From,
        filter: Option<&str>,
        ahead: Ahead,
        heartbeat: Duration,
    ) -> Result<Self, Error> {
        let deliver_policy = match from {
            From::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
            From::New => DeliverPolicy::New,
        };
        let consumer = stream
            .create_consumer(pull::Config {
                deliver_policy,
                ack_policy: AckPolicy::None,
                filter_subject: filter.unwrap_or_default().to_owned(),
                memory_storage: true,
                num_replicas: 1,
                inactive_threshold: FORGOTTEN_AFTER,
                ..pull::Config::default()
            })
            .await
            .map_err(Error::Create)?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(ahead.messages)
            .max_bytes_per_batch(ahead.bytes.max(BYTES_AHEAD_MIN))
            .expires(PULL_EXPIRES)
            .heartbeat(heartbeat)
            .messages()
            .await
            .map_err(Error::Pull)?;
        Ok(Self { messages, n_received: 0, kept: None })
    }

    /// Waits for the next message. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Result<Arrived, Error> {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let message = self.messages.next().await;
        self.check(message)
    }

    /// The next message if it has arrived and `fits`; otherwise it is kept for [`Feed::next`].
    pub(crate) fn ready(&mut self, fits: impl FnOnce(&Arrived) -> bool) -> Option<Arrived> {
        if self.kept.is_none() {
            // Without this the runtime says after 128 messages that no more have arrived, to let
            // other tasks have their turn, and no batch would ever be larger.
            let message = unconstrained(self.messages.next()).now_or_never()?;
            self.kept = Some(self.check(message));
        }
        match self.kept.take() {
            Some(Ok(arrived)) if fits(&arrived) => Some(arrived),
            kept => {
                self.kept = kept;
                None
            }
        }
    }

    fn check(
        &mut self,
        message: Option<Result<jetstream::Message, pull::MessagesError>>,
    ) -> Result<Arrived, Error> {
        let message = message.ok_or(Error::Ended)?.map_err(Error::Broken)?;
        let info = message.info().map_err(Error::Unplaced)?;
        let (got, sequence) = (info.consumer_sequence, info.stream_sequence);
        let published_at = Timestamp::from_datetime(info.published);
        let expected = self.n_received.saturating_add(1);
        if got != expected {
            return Err(Error::Gap { expected, got });
        }
        self.n_received = got;
        Ok(Arrived { message: message.message, sequence, published_at })
    }
}
