//! The other side of a query: takes requests from a queue, answers each.
//!
//! Queries change nothing, so a failure is only logged and told; whoever asked may ask again.

mod batches;

use std::future::Future;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::batches::serve_batches;
use crate::{Cause, trace};

/// How long a loop that ends waits for NATS, which may be away.
const END_WAIT: Duration = Duration::from_secs(1);

/// The most queries of one subject that one process works on at a time; more wait.
pub const QUERIES_MAX: usize = 256;

/// The loop ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The subscription could not be made.
    #[error("failed to subscribe to {subject}")]
    Subscribe {
        /// To what.
        subject: &'static str,
        /// Why.
        #[source]
        source: async_nats::SubscribeError,
    },
    /// The client was closed.
    #[error("the subscription to {subject} ended")]
    Ended {
        /// To what.
        subject: &'static str,
    },
}

/// A query that could not be answered: logged once here, and the asker is told so.
#[derive(Debug)]
pub struct Failure(Cause);

impl Failure {
    /// A failure with its cause.
    pub fn new(error: impl Into<Cause>) -> Self {
        Self(error.into())
    }
}

/// Answers every query to `subject` until `shutdown`, together with the other members of
/// `queue`; finishes what is in hand.
///
/// # Errors
/// [`Error`] if it cannot go on; a panic of the handler goes on.
pub async fn serve<F, Fut>(
    client: Client,
    subject: &'static str,
    queue: &'static str,
    shutdown: CancellationToken,
    handler: F,
) -> Result<(), Error>
where
    F: Fn(Bytes) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<u8>, Failure>> + Send + 'static,
{
    let desk = Desk { client, subject };
    let mut queries = desk.subscribe(queue).await?;
    let mut working = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(done) = working.join_next() => resume_panic(done),
            query = queries.next(), if working.len() < QUERIES_MAX => {
                let query = query.ok_or(Error::Ended { subject })?;
                working.spawn(answer(desk.clone(), query, handler.clone()));
            }
        }
    }
    desk.drain(&mut queries, |query| {
        working.spawn(answer(desk.clone(), query, handler.clone()));
    })
    .await;
    while let Some(done) = working.join_next().await {
        resume_panic(done);
    }
    desk.flush().await;
    Ok(())
}

async fn answer<F, Fut>(desk: Desk, query: Message, handler: F)
where
    F: Fn(Bytes) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, Failure>>,
{
    let Some(reply) = desk.reply_to(&query) else { return };
    let span = tracing::info_span!("query", subject = desk.subject);
    trace::adopt(&span, trace::of(query.headers.as_ref()).as_deref().into_iter());
    let answer = handler(query.payload).instrument(span).await.map_err(|Failure(cause)| {
        let (subject, error) = (desk.subject, crate::chain(cause.as_ref()));
        tracing::error!(subject, error, "{subject} failed");
        NoAnswer::Failed
    });
    desk.tell(reply, answer).await;
}

/// Why there is no answer, as the asker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The query was tried and failed.
    Failed,
    /// Too many wait, so it was not tried.
    Busy,
}

impl NoAnswer {
    /// What is said under this name in the answer's headers.
    pub(crate) const HEADER: &str = "Wallet-Failed";

    fn print(self) -> &'static str {
        match self {
            Self::Failed => "1",
            Self::Busy => "busy",
        }
    }

    /// Reads what [`NoAnswer::print`] prints; whatever else there is means that it failed.
    pub(crate) fn read(text: &str) -> Self {
        if text == Self::Busy.print() { Self::Busy } else { Self::Failed }
    }
}

/// Where queries of one subject come in and answers go out.
#[derive(Clone)]
struct Desk {
    client: Client,
    subject: &'static str,
}

impl Desk {
    async fn subscribe(&self, queue: &'static str) -> Result<Subscriber, Error> {
        let subject = self.subject;
        let subscribed = self.client.queue_subscribe(subject, queue.to_owned()).await;
        subscribed.map_err(|source| Error::Subscribe { subject, source })
    }

    /// Where the answer goes.
    fn reply_to(&self, query: &Message) -> Option<Subject> {
        if query.reply.is_none() {
            let subject = self.subject;
            tracing::warn!(subject, "a query that wants no answer is not worked on");
        }
        query.reply.clone()
    }

    /// Sends an answer, or word that there is none.
    async fn tell(&self, reply: Subject, answer: Result<Vec<u8>, NoAnswer>) {
        let sent = match answer {
            Ok(answer) => self.client.publish(reply, Bytes::from(answer)).await,
            Err(why) => {
                let mut headers = HeaderMap::new();
                headers.insert(NoAnswer::HEADER, why.print());
                self.client.publish_with_headers(reply, headers, Bytes::new()).await
            }
        };
        if let Err(error) = sent {
            let subject = self.subject;
            tracing::warn!(subject, error = crate::chain(&error), "an answer is lost");
        }
    }

    /// What the server has already handed over is still taken.
    async fn drain(&self, queries: &mut Subscriber, mut take: impl FnMut(Message)) {
        let subject = self.subject;
        let drained = timeout(END_WAIT, async {
            queries.drain().await.map_err(|_| Error::Ended { subject })?;
            while let Some(query) = queries.next().await {
                take(query);
            }
            Ok::<(), Error>(())
        });
        if !matches!(drained.await, Ok(Ok(()))) {
            tracing::warn!(subject, "what NATS still had for {subject} is left to others");
        }
    }

    async fn flush(&self) {
        let subject = self.subject;
        if !matches!(timeout(END_WAIT, self.client.flush()).await, Ok(Ok(()))) {
            tracing::warn!(subject, "the last answers of {subject} may be lost");
        }
    }
}

/// A panic is a bug and stops the loop, as it would without the task.
fn resume_panic(done: Result<(), JoinError>) {
    if let Err(error) = done
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
