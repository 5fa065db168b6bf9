//! Many callers' items in few messages, or whatever else carries many at a time.
//!
//! What is asked for while earlier messages are under way leaves in the next one; nobody lingers
//! for a fuller message, so a single caller waits no longer than it would alone. Every caller has
//! a deadline of its own, and may go away, without anybody else noticing.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span};

use super::{Asker, Error, unavailable};

/// How much is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most items in one message; the largest ones together must fit into it.
    pub items_max: usize,
    /// The most messages under way. The fewer, the fuller they are.
    pub in_flight_max: usize,
    /// The most items that wait for a message; who comes then is told at once that it is too much.
    pub waiting_max: usize,
}

/// Asks for the items of many callers in few messages. Cheap to clone; clones gather together.
#[derive(Debug)]
pub struct Gather<Q, A>(Arc<Inner<Q, A>>);

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Inner<Q, A> {
    queue: mpsc::Sender<Caller<Q, A>>,
    /// What a caller is told whose item was sent, and whose time is over.
    overdue: Error,
    /// The task that gathers; it ends with this.
    _collector: JoinSet<()>,
}

/// Whoever takes the item, its caller or its message, decides whether it is asked for.
type Slot<Q> = Arc<Mutex<Option<Q>>>;

#[derive(Debug)]
struct Caller<Q, A> {
    item: Slot<Q>,
    answer: oneshot::Sender<Result<A, Error>>,
    deadline: Instant,
    span: Span,
}

/// The other side answered something else than what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{n_asked} items were asked for and {n_answered} answered")]
struct Miscounted {
    n_asked: usize,
    n_answered: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Gathers for queries: `join` makes the query, `split` takes its answer apart, in the items'
    /// order.
    #[must_use]
    pub fn queries<M, R>(
        asker: &Asker,
        subject: &'static str,
        limits: Limits,
        join: impl Fn(Vec<Q>) -> M + Clone + Send + Sync + 'static,
        split: impl Fn(R) -> Vec<A> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        M: Message + 'static,
        R: Message + Default + 'static,
    {
        let asker = asker.clone();
        let overdue = unavailable("the query was not answered in time");
        Self::new(limits, overdue, move |items, wait| {
            let (asker, query, split) = (asker.clone(), join(items), split.clone());
            async move { asker.query(subject, &query, wait).await.map(split) }
        })
    }

    /// Gathers for commands: `join` makes the command, `split` takes its answer apart, in the
    /// items' order. A refusal is every caller's, and so is an answer that does not come.
    #[must_use]
    pub fn commands<M, R>(
        asker: &Asker,
        subject: &'static str,
        limits: Limits,
        join: impl Fn(Vec<Q>) -> M + Clone + Send + Sync + 'static,
        split: impl Fn(R) -> Vec<A> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        M: Message + 'static,
        R: Message + Default + 'static,
    {
        let asker = asker.clone();
        Self::new(limits, Error::Unknown, move |items, wait| {
            let (asker, command, split) = (asker.clone(), join(items), split.clone());
            async move { asker.command(subject, &command, wait).await.map(split) }
        })
    }

    /// Gathers for whatever `send` does with many items within a time: one answer each, in the
    /// items' order. `overdue` is what a caller is told whose item was sent and not answered in time.
    #[must_use]
    pub fn new<F>(
        limits: Limits,
        overdue: Error,
        send: impl Fn(Vec<Q>, Duration) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<A>, Error>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(limits.waiting_max.max(1));
        let mut collector = JoinSet::new();
        collector.spawn(collect(waiting, limits, send));
        Self(Arc::new(Inner { queue, overdue, _collector: collector }))
    }

    /// Asks for `item`, and waits at most `wait` for its answer.
    ///
    /// # Errors
    /// As [`Asker::query`] or [`Asker::command`]; what never left is [`Error::Unavailable`].
    pub async fn ask(&self, item: Q, wait: Duration) -> Result<A, Error> {
        let deadline = Instant::now().checked_add(wait).ok_or(Error::Unknown)?;
        let item = Arc::new(Mutex::new(Some(item)));
        let (answer, answered) = oneshot::channel();
        let caller = Caller { item: item.clone(), answer, deadline, span: Span::current() };
        self.0.queue.try_send(caller).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => unavailable("too many wait to be asked for"),
            mpsc::error::TrySendError::Closed(_) => unavailable("nothing is gathered any more"),
        })?;
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Err(_) if lock(&item).take().is_some() => {
                Err(unavailable("what was asked for could not be sent in time"))
            }
            // In time, but without an answer: a panic has ended its message.
            Ok(Err(_)) | Err(_) => Err(self.0.overdue.clone()),
        }
    }
}

/// Sends what has arrived whenever a message may leave.
async fn collect<Q, A, F>(
    mut queue: mpsc::Receiver<Caller<Q, A>>,
    limits: Limits,
    send: impl Fn(Vec<Q>, Duration) -> F + Clone + Send + Sync + 'static,
) where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<Vec<A>, Error>> + Send + 'static,
{
    let mut in_flight = JoinSet::new();
    let mut callers = Vec::new();
    loop {
        tokio::select! {
            biased;
            // A panic is its message's alone: the callers are told, the next message leaves.
            Some(_) = in_flight.join_next() => {}
            n = queue.recv_many(&mut callers, limits.items_max.max(1)),
                if in_flight.len() < limits.in_flight_max.max(1) =>
            {
                if n == 0 {
                    break;
                }
                // Whoever is just about to ask has one turn to do so: fuller messages under load,
                // and no wait without it.
                yield_now().await;
                while callers.len() < limits.items_max && let Ok(caller) = queue.try_recv() {
                    callers.push(caller);
                }
                in_flight.spawn(carry(std::mem::take(&mut callers), send.clone()));
            }
        }
    }
}

/// One message, from its callers and back to them.
async fn carry<Q, A, F>(callers: Vec<Caller<Q, A>>, send: impl Fn(Vec<Q>, Duration) -> F)
where
    F: Future<Output = Result<Vec<A>, Error>>,
{
    let now = Instant::now();
    let (mut items, mut waiting) = (Vec::new(), Vec::new());
    let (mut deadline, mut span) = (now, Span::none());
    for caller in callers {
        // Who went away is not asked for.
        if caller.answer.is_closed() {
            continue;
        }
        let Some(item) = lock(&caller.item).take() else { continue };
        if items.is_empty() {
            // A message has many causes, and a span has one parent.
            span = caller.span;
        }
        deadline = deadline.max(caller.deadline);
        items.push(item);
        waiting.push(caller.answer);
    }
    if items.is_empty() {
        return;
    }
    let n_asked = items.len();
    let answered = send(items, deadline.duration_since(now)).instrument(span).await;
    let answered = answered.and_then(|answers| match answers.len() {
        n_answered if n_answered == n_asked => Ok(answers),
        n_answered => Err(Error::Undecodable(Arc::new(Miscounted { n_asked, n_answered }))),
    });
    match answered {
        Ok(answers) => {
            for (to, answer) in waiting.into_iter().zip(answers) {
                tell(to, Ok(answer));
            }
        }
        Err(error) => {
            for to in waiting {
                tell(to, Err(error.clone()));
            }
        }
    }
}

fn tell<A>(to: oneshot::Sender<Result<A, Error>>, answer: Result<A, Error>) {
    if to.send(answer).is_err() {
        tracing::debug!("an answer came too late for whoever asked");
    }
}

/// A panic while it was locked cannot have left it half taken.
fn lock<Q>(item: &Slot<Q>) -> MutexGuard<'_, Option<Q>> {
    item.lock().unwrap_or_else(PoisonError::into_inner)
}
