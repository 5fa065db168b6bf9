//! Queries answered many at a time: what has arrived while the last ones were worked on is the
//! next batch, so a handler can read for all of them at once.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Desk, Error, Failure, NoAnswer, resume_panic};
use crate::trace;

/// The most batches worked on at a time: while Postgres reads for one, the other is decoded.
const WORKING_MAX: usize = 2;
/// The most batches that wait; a query beyond is refused at once, because who asks it will not
/// wait for so many others.
const WAITING_MAX: usize = 8;

/// As [`super::serve`], with up to `batch_max` queries a call; one answer each, in the same order.
///
/// # Errors
/// [`Error`] if it cannot go on; a panic of the handler goes on.
pub async fn serve_batches<F, Fut>(
    client: Client,
    subject: &'static str,
    queue: &'static str,
    shutdown: CancellationToken,
    batch_max: usize,
    handler: F,
) -> Result<(), Error>
where
    F: Fn(Vec<Bytes>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<Result<Vec<u8>, Failure>>> + Send + 'static,
{
    let desk = Desk { client, subject };
    let mut queries = desk.subscribe(queue).await?;
    let (batch_max, handler) = (batch_max.max(1), Arc::new(handler));
    let mut waiting = VecDeque::new();
    let mut working = JoinSet::new();
    let begin = |waiting: &mut VecDeque<Message>, working: &mut JoinSet<()>| {
        while working.len() < WORKING_MAX && !waiting.is_empty() {
            let batch = waiting.drain(..waiting.len().min(batch_max)).collect();
            working.spawn(answer(desk.clone(), batch, handler.clone()));
        }
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(done) = working.join_next() => resume_panic(done),
            first = queries.next() => {
                let first = first.ok_or(Error::Ended { subject })?;
                let waiting_max = batch_max.saturating_mul(WAITING_MAX);
                take(&desk, first, &mut queries, &mut waiting, waiting_max).await;
            }
        }
        begin(&mut waiting, &mut working);
    }
    desk.drain(&mut queries, |query| waiting.push_back(query)).await;
    begin(&mut waiting, &mut working);
    while let Some(done) = working.join_next().await {
        resume_panic(done);
        begin(&mut waiting, &mut working);
    }
    desk.flush().await;
    Ok(())
}

/// Lets `first` and what came with it wait, and refuses what is too much.
async fn take(
    desk: &Desk,
    first: Message,
    queries: &mut Subscriber,
    waiting: &mut VecDeque<Message>,
    waiting_max: usize,
) {
    let mut next = Some(first);
    let mut n_taken = 0_usize;
    while let Some(query) = next {
        if waiting.len() < waiting_max {
            waiting.push_back(query);
        } else if let Some(reply) = desk.reply_to(&query) {
            desk.tell(reply, Err(NoAnswer::Busy)).await;
        }
        n_taken = n_taken.saturating_add(1);
        // No more at a time than may wait, so that the batches get their turn.
        let may_take = n_taken < waiting_max;
        next = may_take.then(|| unconstrained(queries.next()).now_or_never().flatten()).flatten();
    }
}

async fn answer<F, Fut>(desk: Desk, batch: Vec<Message>, handler: Arc<F>)
where
    F: Fn(Vec<Bytes>) -> Fut,
    Fut: Future<Output = Vec<Result<Vec<u8>, Failure>>>,
{
    let span = tracing::info_span!("queries", subject = desk.subject, batch.size = batch.len());
    if !span.is_disabled() {
        let senders: Vec<String> =
            batch.iter().filter_map(|it| trace::of(it.headers.as_ref())).collect();
        trace::adopt(&span, senders.iter().map(String::as_str));
    }
    let (mut replies, mut payloads) = (Vec::new(), Vec::new());
    for query in batch {
        if let Some(reply) = desk.reply_to(&query) {
            replies.push(reply);
            payloads.push(query.payload);
        }
    }
    if payloads.is_empty() {
        return;
    }
    let answers = handler(payloads).instrument(span).await;
    assert_eq!(answers.len(), replies.len(), "{} answers every query once", desk.subject);
    let (mut failed, mut n_failed) = (None, 0_usize);
    for (reply, answer) in replies.into_iter().zip(answers) {
        let answer = answer.map_err(|Failure(cause)| {
            failed.get_or_insert(cause);
            n_failed = n_failed.saturating_add(1);
            NoAnswer::Failed
        });
        desk.tell(reply, answer).await;
    }
    // What breaks breaks for many: one line tells.
    if let Some(cause) = failed {
        let (subject, error) = (desk.subject, crate::chain(cause.as_ref()));
        tracing::error!(subject, error, n_failed, "{n_failed} of {subject} failed");
    }
}
