//! One batch from its transaction to its replies, and what happens when it cannot be used.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use primitives::Timestamp;
use sqlx::Connection;
use tracing::Instrument;

use super::batch::Batch;
use super::{Answer, Delivery, End, HandleError, Handler, Reader, Trouble};
use crate::place::Place;
use crate::session::Session;
use crate::{Cause, metrics, outbox, reply, store, trace};

/// The most of a reason that is kept.
const REASON_CHARS_MAX: usize = 2_000;

/// A transaction that did not commit.
enum Failure {
    /// The cursor was not where we left it.
    Fenced,
    /// The batch again, after a pause.
    Retry(Cause),
    /// One of the messages cannot be used.
    Poison(String),
    /// The batch again, at once.
    Again,
    /// The session is of no more use; the commit may or may not have happened.
    Lost(store::Error),
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match disposition(&error) {
            Disposition::Poison => Self::Poison(crate::chain(&error)),
            Disposition::Retry => Self::Retry(error.into()),
            Disposition::Lost => Self::Lost(error),
        }
    }
}

impl From<HandleError> for Failure {
    fn from(error: HandleError) -> Self {
        match error {
            HandleError::Poison { reason } => Self::Poison(reason),
            HandleError::Again => Self::Again,
            HandleError::Retry(cause) => match disposition(cause.as_ref()) {
                Disposition::Poison => Self::Poison(crate::chain(cause.as_ref())),
                // If the session is lost, the next begin says so.
                Disposition::Retry | Disposition::Lost => Self::Retry(cause),
            },
        }
    }
}

/// What an error asks for.
#[derive(Debug, PartialEq, Eq)]
enum Disposition {
    Retry,
    Poison,
    Lost,
}

/// The one place that tells weather from poison.
fn disposition(error: &(dyn std::error::Error + 'static)) -> Disposition {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(outbox::Error::TooLarge { .. }) = cause.downcast_ref() {
            return Disposition::Poison;
        }
        if let Some(cause) = cause.downcast_ref::<sqlx::Error>() {
            let Some(said) = cause.as_database_error() else { return Disposition::Lost };
            // Data exceptions, broken constraints, and what our own triggers raise come from the
            // message; everything else (serialization, resources, shutdown, rights) passes.
            let poison = said
                .code()
                .is_some_and(|code| ["22", "23", "P0"].iter().any(|class| code.starts_with(class)));
            return if poison { Disposition::Poison } else { Disposition::Retry };
        }
        next = cause.source();
    }
    Disposition::Retry
}

impl<H: Handler> Reader<H> {
    /// Uses every message of `batch` or parks it; `Some` says why it stopped before.
    pub(super) async fn carry(
        &mut self,
        session: &mut Session,
        place: &mut Place,
        batch: &Batch,
    ) -> Result<Option<End>, Trouble> {
        let reader = self.follow.reader;
        let mut todo = VecDeque::from([batch.all()]);
        let mut may_be_again = true;
        let mut has_failed = false;
        while let Some(range) = todo.pop_front() {
            if has_failed && self.shutdown.is_cancelled() {
                return Ok(Some(End::Shutdown));
            }
            let failure = match self.attempt(session, place, batch, range.clone()).await {
                Ok(()) => {
                    may_be_again = true;
                    self.pause.reset();
                    self.health.leads(reader, true);
                    continue;
                }
                Err(Failure::Again) if may_be_again => {
                    may_be_again = false;
                    todo.push_front(range);
                    continue;
                }
                Err(failure) => failure,
            };
            (may_be_again, has_failed) = (true, true);
            self.handler.rolled_back();
            match failure {
                Failure::Fenced => return Ok(Some(End::Fenced)),
                Failure::Lost(error) => return Err(error.into()),
                Failure::Again => {
                    todo.push_front(range);
                    self.wait_out("its handler was unprepared twice".into()).await;
                }
                Failure::Retry(cause) => {
                    todo.push_front(range);
                    self.wait_out(cause).await;
                }
                Failure::Poison(reason) if range.len() > 1 => {
                    tracing::warn!(reader, reason, "{reader} tries a batch one by one");
                    todo = range.map(|n| n..n.saturating_add(1)).chain(todo).collect();
                }
                Failure::Poison(reason) => {
                    let parked = self.park(session, place, batch, range.start, reason).await?;
                    if !parked {
                        return Ok(Some(End::Fenced));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Pauses before a batch is tried again.
    async fn wait_out(&mut self, cause: Cause) {
        let (reader, error) = (self.follow.reader, crate::chain(cause.as_ref()));
        tracing::warn!(reader, error, "{reader} tries a batch again");
        self.health.troubled(reader, &error, Timestamp::now());
        self.pause.wait(&self.shutdown).await;
    }

    /// Begin, compare-and-set, handle, commit, reply.
    async fn attempt(
        &mut self,
        session: &mut Session,
        place: &mut Place,
        batch: &Batch,
        range: Range<usize>,
    ) -> Result<(), Failure> {
        let first = range.start;
        let deliveries = batch.deliveries.get(range).unwrap_or_default();
        let Some(last) = deliveries.last() else { return Ok(()) };
        let next = place.moved_to(last.sequence, last.published_at);
        let reader = self.follow.reader;
        let span = tracing::info_span!("batch", reader, batch.size = deliveries.len());
        trace::adopt(&span, deliveries.iter().filter_map(|it| it.traceparent.as_deref()));
        let replies = async {
            let now = Timestamp::now();
            let mut tx = session.conn().begin().await.map_err(store::Error::Begin)?;
            if !store::move_place(&mut tx, place, &next, now).await? {
                return Err(Failure::Fenced);
            }
            let handled = AssertUnwindSafe(self.handler.handle(&mut tx, deliveries, now));
            let answers = handled.catch_unwind().await.map_err(panicked)??;
            assert_eq!(answers.len(), deliveries.len(), "{reader} answers every message once");
            let mut replies = Vec::new();
            let mut unused = Vec::new();
            for (n, (delivery, answer)) in deliveries.iter().zip(answers).enumerate() {
                let payload = match answer {
                    Answer::Reply(payload) => Some(payload),
                    Answer::Silent => None,
                    Answer::Park { reason, reply } => {
                        let headers = batch.headers(first.saturating_add(n));
                        let parked = parked(delivery, &headers, &reason);
                        store::park(&mut tx, place, &parked, now).await?;
                        unused.push((delivery, reason));
                        reply
                    }
                };
                replies.extend(delivery.reply.clone().zip(payload));
            }
            tx.commit().await.map_err(store::Error::Commit)?;
            for (delivery, reason) in unused {
                said_parked(reader, delivery, &reason);
            }
            Ok(replies)
        }
        .instrument(span)
        .await?;
        *place = next;
        metrics::BATCH_SIZE.with_label_values(&[reader]).observe(size(deliveries.len()));
        self.handler.committed();
        reply::send_all(&self.client, replies).await;
        Ok(())
    }

    /// Parks the `n`th message and moves past it; false if another writer is ahead.
    async fn park(
        &mut self,
        session: &mut Session,
        place: &mut Place,
        batch: &Batch,
        n: usize,
        reason: String,
    ) -> Result<bool, store::Error> {
        let Some(delivery) = batch.deliveries.get(n) else { return Ok(true) };
        let now = Timestamp::now();
        let mut tx = session.conn().begin().await.map_err(store::Error::Begin)?;
        let next = place.moved_to(delivery.sequence, delivery.published_at);
        if !store::move_place(&mut tx, place, &next, now).await? {
            return Ok(false);
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        let headers = batch.headers(n);
        store::park(&mut tx, place, &parked(delivery, &headers, &reason), now).await?;
        tx.commit().await.map_err(store::Error::Commit)?;
        *place = next;
        said_parked(self.follow.reader, delivery, &reason);
        Ok(true)
    }
}

/// How a panic becomes a reason.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Failure {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it did not say why");
    Failure::Poison(format!("the handler panicked: {said}"))
}

fn parked<'a>(delivery: &'a Delivery, headers: &'a [String], reason: &'a str) -> store::Parked<'a> {
    store::Parked {
        sequence: delivery.sequence,
        subject: &delivery.subject,
        payload: &delivery.payload,
        headers,
        reason,
        published_at: delivery.published_at,
    }
}

fn said_parked(reader: &'static str, delivery: &Delivery, reason: &str) {
    metrics::PARKED.with_label_values(&[reader]).inc();
    tracing::error!(
        reader,
        sequence = delivery.sequence,
        subject = delivery.subject,
        reason,
        "{reader} parked message {}: {reason}",
        delivery.sequence
    );
}

/// A batch's size as the histogram wants it.
fn size(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
