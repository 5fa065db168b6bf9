//! The other side of a query: takes requests from a queue, answers each.
//!
//! Queries change nothing, so a failure is only logged and told; whoever asked may ask again.

use std::future::Future;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::ask::FAILED_HEADER;
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
    let mut queries = client
        .queue_subscribe(subject, queue.to_owned())
        .await
        .map_err(|source| Error::Subscribe { subject, source })?;
    let mut working = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(done) = working.join_next() => resume_panic(done),
            query = queries.next(), if working.len() < QUERIES_MAX => {
                let query = query.ok_or(Error::Ended { subject })?;
                working.spawn(answer(client.clone(), subject, query, handler.clone()));
            }
        }
    }
    // What the server has already handed over is still answered.
    let drained = timeout(END_WAIT, async {
        queries.drain().await.map_err(|_| Error::Ended { subject })?;
        while let Some(query) = queries.next().await {
            working.spawn(answer(client.clone(), subject, query, handler.clone()));
        }
        Ok::<(), Error>(())
    });
    if !matches!(drained.await, Ok(Ok(()))) {
        tracing::warn!(subject, "what NATS still had for {subject} is left to others");
    }
    while let Some(done) = working.join_next().await {
        resume_panic(done);
    }
    if !matches!(timeout(END_WAIT, client.flush()).await, Ok(Ok(()))) {
        tracing::warn!(subject, "the last answers of {subject} may be lost");
    }
    Ok(())
}

async fn answer<F, Fut>(client: Client, subject: &'static str, query: Message, handler: F)
where
    F: Fn(Bytes) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, Failure>>,
{
    let Some(reply) = query.reply else {
        tracing::warn!(subject, "a query that wants no answer is not worked on");
        return;
    };
    let span = tracing::info_span!("query", subject);
    trace::adopt(&span, trace::of(query.headers.as_ref()).as_deref().into_iter());
    let sent = match handler(query.payload).instrument(span).await {
        Ok(answer) => client.publish(reply, Bytes::from(answer)).await,
        Err(Failure(cause)) => {
            tracing::error!(subject, error = crate::chain(cause.as_ref()), "{subject} failed");
            let mut headers = HeaderMap::new();
            headers.insert(FAILED_HEADER, "1");
            client.publish_with_headers(reply, headers, Bytes::new()).await
        }
    };
    if let Err(error) = sent {
        tracing::warn!(subject, error = crate::chain(&error), "an answer is lost");
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
