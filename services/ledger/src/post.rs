//! Posts: find, decide, save, answer.
//!
//! `bus::follow` has begun the transaction and moved the cursor before [`Post`] is called, and
//! commits and replies after it. So of two writers only one can commit, and nobody hears of a
//! transfer that is not durable. The rules are in `ledger-core`, and so is what is remembered
//! between batches ([`Writer`]); nothing is decided here.

use std::time::Instant;

use bus::follow::{Answer, Delivery, HandleError, Handler};
use ledger_core::{Changes, Command, Outcome, Rejection, Writer};
use primitives::Timestamp;
use sqlx::PgConnection;

use crate::audit::Health;
use crate::wire::{self, Unreadable};
use crate::{metrics, store};

/// The ledger's side of `CMD_LEDGER`.
#[derive(Debug)]
pub struct Post {
    writer: Writer,
    health: Health,
    batch: Option<Batch>,
}

/// What is remembered and counted once the batch in hand is committed.
#[derive(Debug)]
struct Batch {
    begun_at: Instant,
    changes: Changes,
    outcomes: Vec<&'static str>,
}

/// The books contradict themselves, so nothing more is written into them.
#[derive(Debug, thiserror::Error)]
#[error("nothing is posted: {0}")]
struct Stopped(String);

impl Post {
    /// Remembers about `accounts_max` accounts, and writes only while the books balance.
    #[must_use]
    pub fn new(accounts_max: usize, health: Health) -> Self {
        Self { writer: Writer::new(accounts_max), health, batch: None }
    }

    async fn post(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Answer>, store::Error> {
        let begun_at = Instant::now();
        let commands: Vec<Result<Command, Unreadable>> =
            batch.iter().map(|it| wire::read_command(&it.subject, &it.payload)).collect();
        let readable = || commands.iter().flatten();
        let found = store::find::subjects(conn, &Writer::subjects(readable())).await?;
        let needs = self.writer.needs(readable(), &found);
        let found = store::find::rest(conn, &needs, found).await?;
        let mut books = self.writer.books(readable(), found);
        let outcomes: Vec<Result<Vec<Outcome>, Unreadable>> =
            commands.into_iter().map(|it| Ok(books.apply(it?, now))).collect();
        let changes = books.into_changes();
        store::save(conn, &changes).await?;
        let labels = outcomes.iter().flat_map(labels).collect();
        self.batch = Some(Batch { begun_at, changes, outcomes: labels });
        let answers = batch.iter().zip(outcomes).map(|(it, outcome)| answer(it, outcome, now));
        Ok(answers.collect())
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
        self.health.expect_balanced().map_err(|it| HandleError::retry(Stopped(it)))?;
        let looked = self.writer.looks_first();
        match self.post(conn, batch, now).await {
            // It had looked, and still met one: two request keys that begin alike. Whoever makes
            // those must not stop everybody else.
            Err(store::Error::Repeat(_)) if looked => {
                Err(HandleError::poison("a request key begins like another one"))
            }
            // Something was decided before: once more, and looking first.
            Err(store::Error::Repeat(_)) => {
                metrics::REPEATS_MET.inc();
                self.writer.met_a_repeat();
                Err(HandleError::Again)
            }
            // What Postgres refuses for its content, `follow` recognises by its code and parks.
            posted => posted.map_err(HandleError::retry),
        }
    }

    fn committed(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        metrics::BATCH_SECONDS.observe(batch.begun_at.elapsed().as_secs_f64());
        let n_transfers = u32::try_from(batch.changes.records.len()).unwrap_or(u32::MAX);
        metrics::BATCH_SIZE.observe(f64::from(n_transfers));
        metrics::count(&batch.outcomes);
        self.writer.committed(batch.changes);
        let n_accounts = i64::try_from(self.writer.n_accounts()).unwrap_or(i64::MAX);
        metrics::ACCOUNTS_IN_MEMORY.set(n_accounts);
    }

    fn rolled_back(&mut self) {
        self.batch = None;
        self.writer.forget();
    }
}

fn answer(
    delivery: &Delivery,
    outcomes: Result<Vec<Outcome>, Unreadable>,
    now: Timestamp,
) -> Answer {
    let is_several = wire::is_several(&delivery.subject);
    match outcomes {
        // Nobody waits: nothing to print.
        Ok(_) if delivery.reply.is_none() => Answer::Silent,
        Ok(outcomes) => Answer::Reply(wire::answer(&outcomes, is_several)),
        Err(unreadable) => Answer::Park {
            reply: Some(wire::malformed(&unreadable, is_several, now)),
            reason: unreadable.reason,
        },
    }
}

/// How transfers are counted; other commands are not.
fn labels(outcomes: &Result<Vec<Outcome>, Unreadable>) -> impl Iterator<Item = &'static str> {
    let malformed = outcomes.is_err().then_some(Rejection::Malformed.code());
    let transfers = outcomes.iter().flatten().filter(|it| it.transfer_id.is_some());
    malformed.into_iter().chain(transfers.map(|it| match it.verdict.rejection() {
        _ if it.replayed => "replayed",
        Some(rejection) => rejection.code(),
        None => "posted",
    }))
}
