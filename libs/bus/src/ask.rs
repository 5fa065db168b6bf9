//! Asks for a command's outcome or a query's answer, and waits for it.
//!
//! This is the hot path of every request: one subscription serves all commands of an [`Asker`],
//! and a token at the end of the reply subject says whose answer came. Where many callers ask for
//! the same kind of thing, [`Gather`] puts what they ask for into one message.

mod gather;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, HeaderMap, Request, Subscriber, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message;
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use self::gather::{Gather, Limits};
use crate::answer::NoAnswer;
use crate::trace;

/// Where a command's answer goes. A header, because JetStream takes the message's own reply
/// subject for its acknowledgement.
pub(crate) const REPLY_HEADER: &str = "Wallet-Reply";

/// Why something failed; shared, because one failure may be many callers'.
pub type Why = Arc<dyn std::error::Error + Send + Sync>;

/// No answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The command was surely not taken, or the query failed.
    #[error("{reason}")]
    Unavailable {
        /// What happened.
        reason: &'static str,
        /// Why, if something said so.
        #[source]
        source: Option<Why>,
    },
    /// The command was taken, or may have been, and no answer came in time. Asking again under
    /// the same ids is harmless and tells.
    #[error("no answer came in time")]
    Unknown,
    /// The answer is not what it should be: a bug on one of the two sides.
    #[error("the answer cannot be decoded")]
    Undecodable(#[source] Why),
}

fn unavailable(reason: &'static str) -> Error {
    Error::Unavailable { reason, source: None }
}

fn because(reason: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable { reason, source: Some(Arc::new(source)) }
}

fn decode<R: Message + Default>(answer: Bytes) -> Result<R, Error> {
    R::decode(answer).map_err(|error| Error::Undecodable(Arc::new(error)))
}

/// Asks the services. Cheap to clone; clones share one subscription.
#[derive(Clone)]
pub struct Asker(Arc<Inner>);

struct Inner {
    client: Client,
    js: jetstream::Context,
    inbox: OnceCell<Inbox>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl Asker {
    /// Asks over `client`. The subscription for answers begins with the first command.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let js = jetstream::new(client.clone());
        Self(Arc::new(Inner { client, js, inbox: OnceCell::new() }))
    }

    /// Puts `command` into the stream that captures `subject`, and waits at most `wait` for the
    /// answer that the service sends after its commit.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it was surely not taken, [`Error::Unknown`] if nobody knows.
    pub async fn command<R: Message + Default>(
        &self,
        subject: &'static str,
        command: &impl Message,
        wait: Duration,
    ) -> Result<R, Error> {
        let deadline = Instant::now().checked_add(wait).ok_or(Error::Unknown)?;
        self.expect_connected()?;
        let inbox = self.0.inbox.get_or_try_init(|| Inbox::open(&self.0.client));
        let inbox = timeout_at(deadline, inbox)
            .await
            .map_err(|_| unavailable("the subscription for answers could not be made in time"))??;
        let mut waiting = inbox.expect_answer();
        let mut headers = HeaderMap::new();
        headers.insert(REPLY_HEADER, waiting.address.as_str());
        // No message id: a second asking with the same command inside must reach the service,
        // which answers it from its books, and the stream would remember each id for minutes.
        trace::inject(&mut headers);
        let message =
            PublishMessage::build().payload(Bytes::from(command.encode_to_vec())).headers(headers);
        // Until this returns nothing has been handed over, so a failure is a refusal.
        let acknowledged = timeout_at(deadline, self.0.js.send_publish(subject, message))
            .await
            .map_err(|_| unavailable("the command could not be handed over in time"))?
            .map_err(|error| because("the command could not be handed over", error))?;
        let answer = timeout_at(deadline, answer(acknowledged, &mut waiting.answer))
            .await
            .map_err(|_| Error::Unknown)??;
        decode(answer)
    }

    /// Sends `query` to whoever serves `subject`, and waits at most `wait` for the answer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none.
    pub async fn query<R: Message + Default>(
        &self,
        subject: &'static str,
        query: &impl Message,
        wait: Duration,
    ) -> Result<R, Error> {
        self.expect_connected()?;
        let mut headers = HeaderMap::new();
        trace::inject(&mut headers);
        let request = Request::new()
            .payload(Bytes::from(query.encode_to_vec()))
            .headers(headers)
            .timeout(Some(wait));
        let answer = self.0.client.send_request(subject, request).await.map_err(|error| {
            let reason = match error.kind() {
                RequestErrorKind::NoResponders => "nobody serves this query",
                RequestErrorKind::TimedOut => "the query was not answered in time",
                RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => "the query could not be sent",
            };
            because(reason, error)
        })?;
        let said = answer.headers.as_ref().and_then(|it| it.get(NoAnswer::HEADER));
        match said.map(|it| NoAnswer::read(it.as_str())) {
            None => decode(answer.payload),
            Some(NoAnswer::Failed) => Err(unavailable("the query failed on the other side")),
            Some(NoAnswer::Busy) => Err(unavailable("the other side has too many queries")),
        }
    }

    /// What is handed to a client without a connection is sent when it is back: too late to say
    /// no.
    fn expect_connected(&self) -> Result<(), Error> {
        if self.0.client.connection_state() == State::Connected {
            Ok(())
        } else {
            Err(unavailable("NATS is not connected"))
        }
    }
}

/// Waits for the answer; a refusal by the stream comes first, if it comes at all.
async fn answer(
    acknowledged: PublishAckFuture,
    answer: &mut oneshot::Receiver<Bytes>,
) -> Result<Bytes, Error> {
    tokio::select! {
        biased;
        // An answer before the acknowledgement is as good as one after it.
        answer = &mut *answer => return answer.map_err(|_| Error::Unknown),
        acknowledged = acknowledged.into_future() => match acknowledged {
            Err(error) if is_refusal(&error) => {
                return Err(because("the stream refused the command", error));
            }
            // Without an acknowledgement it may be there all the same.
            Ok(_) | Err(_) => {}
        },
    }
    answer.await.map_err(|_| Error::Unknown)
}

/// Whether the stream surely does not hold the message.
fn is_refusal(error: &PublishError) -> bool {
    match error.kind() {
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::MaxPayloadExceeded => true,
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => false,
        // Said by JetStream itself, or an acknowledgement that could not be read.
        PublishErrorKind::Other => std::error::Error::source(error)
            .is_some_and(|it| it.downcast_ref::<jetstream::Error>().is_some()),
    }
}

type Waiters = Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>;

/// The subscription that all answers to commands come by.
struct Inbox {
    prefix: String,
    next_token: AtomicU64,
    waiters: Waiters,
    /// The task that hands answers out; it ends with the inbox.
    _reader: JoinSet<()>,
}

impl Inbox {
    async fn open(client: &Client) -> Result<Self, Error> {
        let prefix = client.new_inbox();
        let answers = client
            .subscribe(format!("{prefix}.*"))
            .await
            .map_err(|error| because("the subscription for answers could not be made", error))?;
        let waiters = Waiters::default();
        let mut reader = JoinSet::new();
        reader.spawn(hand_out(answers, waiters.clone()));
        Ok(Self { prefix, next_token: AtomicU64::new(0), waiters, _reader: reader })
    }

    /// A new address, and what will come to it.
    fn expect_answer(&self) -> Waiting<'_> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiters).insert(token, sender);
        let address = format!("{}.{token}", self.prefix);
        Waiting { inbox: self, token, address, answer }
    }
}

/// Somebody who waits. Whoever gives up is forgotten.
struct Waiting<'a> {
    inbox: &'a Inbox,
    token: u64,
    address: String,
    answer: oneshot::Receiver<Bytes>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.inbox.waiters).remove(&self.token);
    }
}

/// A panic while the map was locked cannot have left it half changed.
fn lock(waiters: &Waiters) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Bytes>>> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn hand_out(mut answers: Subscriber, waiters: Waiters) {
    while let Some(message) = answers.next().await {
        let token = message.subject.rsplit('.').next().and_then(|it| it.parse::<u64>().ok());
        let waiter = token.and_then(|it| lock(&waiters).remove(&it));
        if waiter.is_none_or(|it| it.send(message.payload).is_err()) {
            tracing::debug!("an answer came too late for whoever asked");
        }
    }
}
