//! Compares whole days: what Paystack lists as paid, what our record made of it, what the ledger's
//! books have. Every night the last whole day, and those that were missed.
//!
//! A payment belongs to the day that Paystack says it was paid on, so that both sides mean the same
//! day whenever they heard of it. Paystack's list goes by when a transaction was made, so older ones
//! are fetched too; what it does not list at all is asked for by name before anybody is alarmed.
//!
//! Nothing is credited here. A payment that we slept through is looked at as if its webhook had come.

pub(crate) mod command;
pub(crate) mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bus::ask::Asker;
use futures_util::{StreamExt as _, stream};
use primitives::{DepositId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::compare::{Class, Difference, Ours, Rules, compare, is_paid};
use crate::day::{BACK_MAX, Day, missing, next_at};
use crate::desk::{Desk, chain};
use crate::lifecycle::{Event, State};
use crate::paystack::{self, Client, Found, Listed};
use crate::returns::committed_minor;
use crate::standing::{self, Place};
use crate::store;
use crate::store::deposits::{self, Claim};
use crate::store::reconciliations::{self, Known, Run};
use crate::store::returns;
use crate::store::rounds::{self, Lease, Round, Taken};
use crate::verdict::Said;

/// Most pages of one list; more would be a list without an end.
const PAGES_MAX: u32 = 100_000;
/// References looked up with one statement.
const REFERENCES_MAX: usize = 1_000;
/// Deposits looked at side by side.
const LOOKS_MAX: usize = 4;

/// How days are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// When of the day (UTC).
    pub(crate) after_midnight: Duration,
    /// The pause after a failure.
    pub(crate) retry: Duration,
    /// How long before its day a payment's transaction may have been made.
    pub(crate) lookback: Duration,
    /// How long a payment may be on its way.
    pub(crate) grace: Duration,
    /// How long the ledger may take to answer.
    pub(crate) wait: Duration,
    /// How long one process may keep the work without a word.
    pub(crate) lease: Duration,
    /// How often it is looked whether it is time.
    pub(crate) poll: Duration,
}

/// What comparing needs.
pub(crate) struct Office {
    /// Our record.
    pub(crate) desk: Desk,
    /// Paystack's.
    pub(crate) paystack: Arc<Client>,
    /// The books.
    pub(crate) ledger: Asker,
    /// How.
    pub(crate) terms: Terms,
}

/// On whose behalf a day is compared.
pub(crate) enum By<'a> {
    /// It is night, and it is our turn as long as the lease says.
    Night(&'a mut Lease, &'a CancellationToken),
    /// A person asked: who and why.
    Person(&'a str, &'a str),
}

/// What came of comparing a day.
#[derive(Debug)]
pub(crate) struct Report {
    /// Under which it is kept.
    pub(crate) run_id: i64,
    /// The day.
    pub(crate) day: Day,
    /// How many payments Paystack had.
    pub(crate) n_payments: usize,
    /// How many references of ours were looked at.
    pub(crate) n_deposits: usize,
    /// How many deposits are looked at once more because of it.
    pub(crate) n_woken: usize,
    /// What does not agree.
    pub(crate) differences: Vec<Difference>,
}

/// Why a day could not be compared. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Paystack gave no usable answer.
    #[error("paystack did not say what was paid")]
    Paystack(#[from] paystack::Error),
    /// Its list has fewer transactions than it says, or no end.
    #[error("paystack's list is not whole: {n_seen} of {n_said:?}")]
    NotWhole {
        /// On all pages.
        n_seen: u64,
        /// By its own count.
        n_said: Option<u64>,
    },
    /// The ledger gave no usable answer.
    #[error("the ledger did not say what it posted")]
    Ledger(#[from] standing::Unread),
    /// Postgres failed.
    #[error("our record could not be read or written")]
    Store(#[from] store::Error),
    /// Somebody else does it now, or the process stops.
    #[error("somebody else does it, or the process stops")]
    Over,
}

/// A reference of ours, looked at.
struct Looked {
    ours: Ours,
    deposit_id: DepositId,
    /// Nobody is about to do something for it.
    is_asleep: bool,
}

/// Runs until `shutdown`.
pub(crate) async fn run(office: Office, shutdown: CancellationToken) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        if let Err(error) = office.night(&shutdown).await {
            tracing::warn!(error = chain(&error), "failed to see whether it is night");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(office.terms.poll) => {}
        }
    }
    Ok(())
}

impl Office {
    /// Compares what is to be compared, if it is time and nobody else does.
    async fn night(&self, shutdown: &CancellationToken) -> Result<(), store::Error> {
        let (pool, terms, now) = (&self.desk.pool, self.terms, Timestamp::now());
        rounds::begin(pool, Round::Nightly, next_at(now, terms.after_midnight)).await?;
        let taken = rounds::take(pool, Round::Nightly, now, now.plus(terms.lease)).await?;
        let Some(Taken { mut lease, .. }) = taken else { return Ok(()) };
        let ended = self.missing_days(&mut lease, shutdown).await;
        let now = Timestamp::now();
        let due_at = match ended {
            Ok(()) => next_at(now, terms.after_midnight),
            Err(Trouble::Over) => now,
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to reconcile; tried again later");
                now.plus(terms.retry)
            }
        };
        rounds::give_back(pool, lease, due_at, None).await
    }

    async fn missing_days(
        &self,
        lease: &mut Lease,
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        let now = Timestamp::now();
        let since = Day::of(now.minus(BACK_MAX));
        let reconciled = reconciliations::days(&self.desk.pool, since).await?;
        for day in missing(now, &reconciled) {
            self.reconcile(day, By::Night(&mut *lease, shutdown)).await?;
        }
        Ok(())
    }

    /// Compares a day, wakes what we slept through, and keeps what was found.
    pub(crate) async fn reconcile(&self, day: Day, mut by: By<'_>) -> Result<Report, Trouble> {
        let begun_at = Timestamp::now();
        let mut said = self.payments(day, &mut by).await?;
        let known = self.known(day, &said).await?;
        self.ask_for_the_rest(&known, &mut said, &mut by).await?;
        let looked = self.look_at(known, &mut by).await?;
        let ours: Vec<Ours> = looked.iter().map(|it| it.ours.clone()).collect();
        let rules = Rules {
            now: begun_at,
            grace: self.terms.grace,
            domain: self.desk.domain,
            fees_paid_by: self.desk.fees_paid_by,
        };
        let differences = compare(&rules, &said, &ours);
        let n_woken = self.wake(&looked, &differences).await?;
        let n_payments = said.iter().filter(|it| is_paid(it)).count();
        let run = Run {
            day,
            begun_at,
            finished_at: Timestamp::now(),
            signed: match by {
                By::Night(..) => None,
                By::Person(who, why) => Some((who, why)),
            },
            n_payments,
            n_deposits: ours.len(),
            differences: &differences,
        };
        let run_id = self.keep(&run, &by).await?;
        let n_deposits = ours.len();
        let report = Report { run_id, day, n_payments, n_deposits, n_woken, differences };
        log(&report);
        Ok(report)
    }

    /// What Paystack lists as paid on a day.
    async fn payments(&self, day: Day, by: &mut By<'_>) -> Result<Vec<Said>, Trouble> {
        let from = day.start().minus(self.terms.lookback);
        // What is made while we read would push what we have not read yet to the next page.
        let to = day.end().min(Timestamp::now());
        let mut paid = BTreeMap::new();
        let mut n_seen = 0_u64;
        for n_page in 1..=PAGES_MAX {
            let page = self.paystack.transactions(from, to, n_page).await?;
            let n_listed = page.listed.len();
            n_seen = n_seen.saturating_add(u64::try_from(n_listed).unwrap_or(u64::MAX));
            let of_day = page.listed.into_iter().filter(|it| belongs(it, day));
            // Pages may overlap.
            let name = |it: &Said| (it.provider_id.clone(), it.reference.clone());
            paid.extend(of_day.map(|it| (name(&it.said), it.said)));
            let n_said = page.total;
            match n_said {
                Some(n_said) if n_seen >= n_said => return Ok(paid.into_values().collect()),
                None if n_listed < paystack::TRANSACTIONS_A_PAGE => {
                    return Ok(paid.into_values().collect());
                }
                Some(_) if n_listed == 0 => return Err(Trouble::NotWhole { n_seen, n_said }),
                Some(_) | None => self.go_on(by).await?,
            }
            tokio::time::sleep(paystack::PAGE_PAUSE).await;
        }
        Err(Trouble::NotWhole { n_seen, n_said: None })
    }

    /// Every reference of ours that Paystack names, and those that our record says were paid that day.
    async fn known(&self, day: Day, said: &[Said]) -> Result<BTreeSet<Known>, Trouble> {
        let pool = &self.desk.pool;
        let references: Vec<String> = said.iter().filter_map(|it| it.reference.clone()).collect();
        let mut known: BTreeSet<Known> =
            reconciliations::paid_on(pool, day).await?.into_iter().collect();
        for some in references.chunks(REFERENCES_MAX) {
            known.extend(reconciliations::of_references(pool, some).await?);
        }
        Ok(known)
    }

    /// Has Paystack say what became of what it did not list: a list can miss what there is.
    async fn ask_for_the_rest(
        &self,
        known: &BTreeSet<Known>,
        said: &mut Vec<Said>,
        by: &mut By<'_>,
    ) -> Result<(), Trouble> {
        let listed: BTreeSet<String> = said.iter().filter_map(|it| it.reference.clone()).collect();
        for it in known.iter().filter(|it| !listed.contains(it.reference.as_str())) {
            match self.paystack.verify(&it.reference).await? {
                Found::Transaction(found) => said.push(found),
                Found::Nothing => {}
            }
            self.go_on(by).await?;
        }
        Ok(())
    }

    async fn look_at(
        &self,
        known: BTreeSet<Known>,
        by: &mut By<'_>,
    ) -> Result<Vec<Looked>, Trouble> {
        let mut all = Vec::with_capacity(known.len());
        let mut looks =
            pin!(stream::iter(known).map(|it| self.look_at_one(it)).buffered(LOOKS_MAX));
        while let Some(looked) = looks.next().await {
            all.extend(looked?);
            self.go_on(by).await?;
        }
        Ok(all)
    }

    /// What we have of one reference, and what the books have of that.
    async fn look_at_one(&self, known: Known) -> Result<Option<Looked>, Trouble> {
        let Known { reference, deposit_id } = known;
        let Some(deposit) = deposits::load(&self.desk.pool, deposit_id).await? else {
            return Ok(None);
        };
        let place = Place::of(&deposit, &reference);
        let standing = standing::with_books(place, &self.ledger, self.terms.wait).await?;
        let is_asleep = is_asleep(&deposit.state);
        let returns = returns::of_deposit(&self.desk.pool, deposit_id).await?;
        let has_return = committed_minor(&returns) > 0;
        let ours = Ours { reference, standing, has_return };
        Ok(Some(Looked { ours, deposit_id, is_asleep }))
    }

    /// Has verify asked about what was paid and never came to us, as a webhook would have.
    async fn wake(&self, looked: &[Looked], differences: &[Difference]) -> Result<usize, Trouble> {
        let slept: BTreeSet<&str> = differences
            .iter()
            .filter(|it| it.class == Class::NotCredited)
            .map(|it| it.reference.as_str())
            .collect();
        let mut n_woken = 0_usize;
        for it in looked.iter().filter(|it| it.is_asleep) {
            if slept.contains(it.ours.reference.as_str()) {
                let until = Timestamp::now().plus(self.desk.confirm_for);
                let claimed = Event::Claimed { reference: it.ours.reference.clone(), until };
                self.desk.happen(it.deposit_id, claimed, Claim::Keep).await?;
                n_woken = n_woken.saturating_add(1);
            }
        }
        Ok(n_woken)
    }

    async fn keep(&self, run: &Run<'_>, by: &By<'_>) -> Result<i64, Trouble> {
        let mut tx = self.desk.pool.begin().await.map_err(store::Error::Begin)?;
        if let By::Night(lease, _) = by
            && !rounds::hold(&mut tx, lease).await?
        {
            return Err(Trouble::Over);
        }
        let run_id = reconciliations::insert(&mut tx, run).await?;
        tx.commit().await.map_err(store::Error::Commit)?;
        Ok(run_id)
    }

    /// Between two steps: whether it is still ours to do.
    async fn go_on(&self, by: &mut By<'_>) -> Result<(), Trouble> {
        let By::Night(lease, shutdown) = by else { return Ok(()) };
        if shutdown.is_cancelled() {
            return Err(Trouble::Over);
        }
        let until = Timestamp::now().plus(self.terms.lease);
        // Half of it left is enough for another step.
        if until.since(lease.until()).saturating_mul(2) < self.terms.lease {
            return Ok(());
        }
        let is_ours = rounds::renew(&self.desk.pool, lease, until).await?;
        if is_ours { Ok(()) } else { Err(Trouble::Over) }
    }
}

/// Whether a transaction was paid on a day; one that says no time is looked at whenever it is seen.
fn belongs(listed: &Listed, day: Day) -> bool {
    let at = listed.said.paid_at.or(listed.created_at);
    is_paid(&listed.said) && at.is_none_or(|at| day.has(at))
}

/// Whether a webhook would wake it.
fn is_asleep(state: &State) -> bool {
    match state {
        State::Initiated
        | State::Pending
        | State::Confirming { .. }
        | State::Failed
        | State::Abandoned
        | State::Expired => true,
        State::Paid
        | State::Crediting
        | State::Credited
        | State::Review(_)
        | State::Rejected(_) => false,
    }
}

fn log(report: &Report) {
    let Report { run_id, day, n_payments, n_deposits, n_woken, differences } = report;
    let n_differences = differences.len();
    tracing::info!(run_id, n_payments, n_deposits, n_woken, n_differences, "reconciled {day}");
    if n_differences > 0 {
        let classes = shown::by_class(differences);
        let counts: Vec<String> = classes.iter().map(|(class, n)| format!("{class} {n}")).collect();
        let counts = counts.join(", ");
        tracing::error!(run_id, "paystack, our record and the books differ on {day}: {counts}");
    }
}
