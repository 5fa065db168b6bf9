//! Posts: load, apply, save, announce, answer.
//!
//! `bus::follow` has begun the transaction and moved the cursor before [`Post`] is called, and
//! commits and replies after it. So of two writers only one can commit, and nobody hears of a
//! transfer that is not durable. The rules are in `ledger-core`; nothing is decided here.

use std::time::Instant;

use bus::follow::{Answer, Delivery, HandleError, Handler};
use bus::outbox::{self, Event, Wake};
use ledger_core::{Changes, Command, Outcome, Rejection, Verdict};
use primitives::{EventId, Timestamp};
use prost::Message;
use proto_events::subjects;
use sqlx::PgConnection;

use crate::wire::{self, Unreadable};
use crate::{ORIGIN, metrics, store};

/// The ledger's side of [`subjects::CMD_LEDGER`].
#[derive(Debug)]
pub struct Post {
    wake: Wake,
    batch: Option<Batch>,
}

/// What is counted once the batch in hand is committed.
#[derive(Debug)]
struct Batch {
    begun_at: Instant,
    n_commands: usize,
    n_posted: usize,
    outcomes: Vec<&'static str>,
}

/// What broke while posting.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("failed to enqueue the news of {n_posted} posted transfers")]
    Enqueue {
        n_posted: usize,
        #[source]
        source: outbox::Error,
    },
}

impl Post {
    /// Wakes the relay through `wake` when there is something to announce.
    #[must_use]
    pub const fn new(wake: Wake) -> Self {
        Self { wake, batch: None }
    }

    async fn post(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Answer>, Error> {
        let begun_at = Instant::now();
        let commands: Vec<Result<Command, Unreadable>> =
            batch.iter().map(|it| wire::read_command(&it.subject, &it.payload)).collect();
        let mut books = store::load(conn, commands.iter().flatten()).await?;
        let outcomes: Vec<Result<Outcome, &Unreadable>> =
            commands.iter().map(|it| Ok(books.apply(it.as_ref()?, now))).collect();
        let changes = books.into_changes();
        store::save(conn, &changes).await?;
        let n_posted = announce(conn, &changes).await?;
        self.batch = Some(Batch {
            begun_at,
            n_commands: batch.len(),
            n_posted,
            outcomes: outcomes.iter().filter_map(label).collect(),
        });
        Ok(outcomes.into_iter().map(|it| answer(it, now)).collect())
    }
}

impl Handler for Post {
    async fn handle(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        self.batch = None;
        // What Postgres refuses for its content, `follow` recognises by its code and parks.
        self.post(conn, batch, now).await.map_err(HandleError::retry)
    }

    fn committed(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        metrics::BATCH_SECONDS.observe(batch.begun_at.elapsed().as_secs_f64());
        let n_commands = u32::try_from(batch.n_commands).unwrap_or(u32::MAX);
        metrics::BATCH_SIZE.observe(f64::from(n_commands));
        for outcome in batch.outcomes {
            metrics::TRANSFERS.with_label_values(&[outcome]).inc();
        }
        if batch.n_posted > 0 {
            self.wake.wake();
        }
    }

    fn rolled_back(&mut self) {
        self.batch = None;
    }
}

/// One event a batch, with the transfers that posted, in order.
async fn announce(conn: &mut PgConnection, changes: &Changes) -> Result<usize, Error> {
    let posted = wire::transfers_posted(&changes.decided);
    let n_posted = posted.transfers.len();
    if n_posted == 0 {
        return Ok(0);
    }
    let event = Event {
        id: EventId::generate(),
        subject: subjects::ledger::TRANSFERS_POSTED,
        payload: posted.encode_to_vec(),
        occurred_at: changes.head.decided_at,
        cause: None,
    };
    outbox::enqueue(conn, ORIGIN, &[event])
        .await
        .map_err(|source| Error::Enqueue { n_posted, source })?;
    Ok(n_posted)
}

fn answer(outcome: Result<Outcome, &Unreadable>, now: Timestamp) -> Answer {
    match outcome {
        Ok(outcome) => Answer::Reply(wire::outcome(&outcome).encode_to_vec()),
        Err(unreadable) => Answer::Park {
            reason: unreadable.reason.clone(),
            reply: Some(wire::malformed(unreadable, now).encode_to_vec()),
        },
    }
}

/// How a transfer is counted; other commands are not.
fn label(outcome: &Result<Outcome, &Unreadable>) -> Option<&'static str> {
    match outcome {
        Err(_) => Some(Rejection::Malformed.code()),
        Ok(Outcome { transfer_id: None, .. }) => None,
        Ok(Outcome { replayed: true, .. }) => Some("replayed"),
        Ok(Outcome { verdict: Verdict::Rejected(rejection), .. }) => Some(rejection.code()),
        Ok(Outcome { verdict: Verdict::Posted { .. } | Verdict::Done, .. }) => Some("posted"),
    }
}
