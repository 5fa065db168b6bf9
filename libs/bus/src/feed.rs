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

/// How long the server keeps a consumer nobody pulls from.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// How long one pull request stays open.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

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

/// An open consumer.
pub(crate) struct Feed {
    messages: pull::Stream,
    /// The consumer's own count, which has no gaps unless a delivery was lost.
    n_received: u64,
    /// An end that came behind messages which were taken first.
    broken: Option<Error>,
}

impl Feed {
    /// Opens a feed that holds at most `buffer_max` messages nobody has taken yet, and notices
    /// within twice `heartbeat` that the server is gone.
    pub(crate) async fn open<I>(
        stream: &Stream<I>,
        from: From,
        filter: Option<&str>,
        buffer_max: usize,
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
            .max_messages_per_batch(buffer_max)
            .expires(PULL_EXPIRES)
            .heartbeat(heartbeat)
            .messages()
            .await
            .map_err(Error::Pull)?;
        Ok(Self { messages, n_received: 0, broken: None })
    }

    /// Waits for the next message. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Result<jetstream::Message, Error> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let message = self.messages.next().await;
        self.check(message)
    }

    /// The next message if it has arrived; an end is kept for [`Feed::next`].
    pub(crate) fn ready(&mut self) -> Option<jetstream::Message> {
        if self.broken.is_some() {
            return None;
        }
        let message = self.messages.next().now_or_never()?;
        match self.check(message) {
            Ok(message) => Some(message),
            Err(error) => {
                self.broken = Some(error);
                None
            }
        }
    }

    fn check(
        &mut self,
        message: Option<Result<jetstream::Message, pull::MessagesError>>,
    ) -> Result<jetstream::Message, Error> {
        let message = message.ok_or(Error::Ended)?.map_err(Error::Broken)?;
        let got = message.info().map_err(Error::Unplaced)?.consumer_sequence;
        let expected = self.n_received.saturating_add(1);
        if got != expected {
            return Err(Error::Gap { expected, got });
        }
        self.n_received = got;
        Ok(message)
    }
}
