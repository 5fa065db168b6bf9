//! Where every step of a deposit is taken: lock, decide, save, announce, and wake who must go on.
//!
//! Whatever happened (a command, a webhook, an answer of Paystack or of the ledger) comes here as an
//! event, so there is one way for a deposit to change. Nothing slow is awaited in here.

use std::sync::Arc;
use std::time::Duration;

use bus::outbox::{self, Wake};
use primitives::{DepositId, EventId, ReturnId, Timestamp};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::lifecycle::{self, Deposit, Effect, Event, Reason, State, Step, Suspense, When};
use crate::returns::{self, Around, Return, committed_minor, returned_minor};
use crate::schedule::Schedule;
use crate::store::Error;
use crate::store::deposits::{self, Claim, Due};
use crate::store::returns as returns_store;
use crate::store::timeline::{self, Line};
use crate::verdict::{Domain, Expected, FeesPaidBy};
use crate::{ORIGIN, wire};

/// What all loops of the service share.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    /// The service's own database.
    pub(crate) pool: PgPool,
    /// Who is woken when there is something to do.
    pub(crate) bells: Arc<Bells>,
    /// The side of Paystack that our key belongs to.
    pub(crate) domain: Domain,
    /// Which of Paystack's amounts is compared.
    pub(crate) fees_paid_by: FeesPaidBy,
    /// How long verify may take to agree with a webhook.
    pub(crate) confirm_for: Duration,
    /// How long after asking for a refund Paystack is believed that it has none.
    pub(crate) refund_settle: Duration,
    /// How long pauses are.
    pub(crate) schedule: Schedule,
    /// Wakes the relay.
    pub(crate) relay: Wake,
}

/// One bell for each loop: it says *look*, the database says *what*. A bell that rings while its
/// loop is busy is heard when the loop comes back.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    /// Deposits without a checkout.
    pub(crate) initialize: Notify,
    /// Deposits that may have been paid.
    pub(crate) verify: Notify,
    /// Deposits to be credited.
    pub(crate) credit: Notify,
    /// Refunds and disputes.
    pub(crate) give_back: Notify,
    /// Those who wait for a checkout.
    pub(crate) tell: Notify,
    /// Webhooks that nobody has looked at.
    pub(crate) inbox: Notify,
}

impl Desk {
    /// Takes a step in a transaction of its own; `None` if there is no such deposit.
    pub(crate) async fn happen(
        &self,
        deposit_id: DepositId,
        event: Event,
        claim: Claim,
    ) -> Result<Option<Step>, Error> {
        let mut tx = self.pool.begin().await.map_err(Error::Begin)?;
        let Some(deposit) = deposits::lock(&mut tx, deposit_id).await? else { return Ok(None) };
        let step = self.take(&mut tx, &deposit, event, claim, Timestamp::now()).await?;
        tx.commit().await.map_err(Error::Commit)?;
        self.committed(&step);
        Ok(Some(step))
    }

    /// Takes a step of a locked deposit in somebody's transaction, who calls [`Desk::committed`] after.
    pub(crate) async fn take(
        &self,
        conn: &mut PgConnection,
        deposit: &Deposit,
        event: Event,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Step, Error> {
        let (name, detail) = (event.name(), event.detail());
        let step = lifecycle::step(deposit, event, now);
        let line = Line {
            return_id: None,
            event: name,
            detail: &detail,
            before: deposit.state.name(),
            after: step.deposit.state.name(),
        };
        timeline::add(&mut *conn, deposit.deposit_id, &line, now).await?;
        let due = self.due(&step, now);
        if step.deposit != *deposit || due != Due::Keep || claim == Claim::Release {
            deposits::save(&mut *conn, &step.deposit, due, claim, now).await?;
        }
        let announcements = announcements(&step, now);
        outbox::enqueue(conn, ORIGIN, &announcements).await.map_err(Error::Announce)?;
        Ok(step)
    }

    /// Wakes whoever a committed step has work for.
    pub(crate) fn committed(&self, step: &Step) {
        for effect in &step.effects {
            match effect {
                Effect::Look(When::Now) => match step.deposit.state {
                    State::Initiated => self.bells.initialize.notify_one(),
                    State::Paid | State::Crediting | State::Review(_) => {
                        self.bells.credit.notify_one();
                    }
                    State::Pending
                    | State::Confirming { .. }
                    | State::Failed
                    | State::Abandoned
                    | State::Expired
                    | State::Credited
                    | State::Rejected(_) => self.bells.verify.notify_one(),
                },
                Effect::Answer => self.bells.tell.notify_one(),
                Effect::AnnounceCredited | Effect::AnnounceParked => self.relay.wake(),
                Effect::Look(When::After(_) | When::Never) | Effect::Initialize => {}
            }
        }
        log(step);
    }

    /// Stores a return that begins, in somebody's transaction.
    pub(crate) async fn begin_return(
        &self,
        conn: &mut PgConnection,
        it: &Return,
        now: Timestamp,
    ) -> Result<(), Error> {
        returns_store::insert(&mut *conn, it).await?;
        let state = it.state.name();
        let minor = it.amount.map(|it| it.minor().to_string());
        let detail = it.provider_id.clone().or(minor).unwrap_or_default();
        let line = Line {
            return_id: Some(it.return_id),
            event: it.kind.name(),
            detail: &detail,
            before: state,
            after: state,
        };
        timeline::add(conn, it.payment.deposit_id, &line, now).await
    }

    /// Takes a step of a return in a transaction of its own; `None` if there is no such return.
    pub(crate) async fn return_happens(
        &self,
        (deposit_id, return_id): (DepositId, ReturnId),
        event: returns::Event,
        claim: Claim,
    ) -> Result<Option<returns::Step>, Error> {
        let now = Timestamp::now();
        let mut tx = self.pool.begin().await.map_err(Error::Begin)?;
        let Some(deposit) = deposits::lock(&mut tx, deposit_id).await? else { return Ok(None) };
        let all = returns_store::of_deposit(&mut *tx, deposit_id).await?;
        let step =
            self.take_return(&mut tx, (&deposit, &all), (return_id, event), claim, now).await?;
        tx.commit().await.map_err(Error::Commit)?;
        if let Some(step) = &step {
            self.return_committed(step);
        }
        Ok(step)
    }

    /// Takes a step of one of a locked deposit's returns in somebody's transaction, who calls
    /// [`Desk::return_committed`] after. `None` if it is none of them.
    pub(crate) async fn take_return(
        &self,
        conn: &mut PgConnection,
        (deposit, all): (&Deposit, &[Return]),
        (return_id, event): (ReturnId, returns::Event),
        claim: Claim,
        now: Timestamp,
    ) -> Result<Option<returns::Step>, Error> {
        let Some(before) = all.iter().find(|it| it.return_id == return_id) else {
            return Ok(None);
        };
        let (name, detail) = (event.name(), event.detail());
        let at_most_minor = unclaimed_minor(deposit, all, Some(return_id));
        let around = Around { now, settle: self.refund_settle, at_most_minor };
        let step = returns::step(&before.as_of(deposit), event, around);
        let line = Line {
            return_id: Some(before.return_id),
            event: name,
            detail: &detail,
            before: before.state.name(),
            after: step.after.state.name(),
        };
        timeline::add(&mut *conn, deposit.deposit_id, &line, now).await?;
        let due = self.return_due(&step, now);
        if step.after != *before || due != Due::Keep || claim == Claim::Release {
            returns_store::save(&mut *conn, &step.after, due, claim).await?;
        }
        if is_given_back(deposit, all, &step.after) {
            self.take(&mut *conn, deposit, Event::GivenBack, Claim::Keep, now).await?;
        }
        if step.effects.contains(&returns::Effect::AnnounceParked) {
            let parked = announcement(wire::returns::parked(&step.after), None, now);
            outbox::enqueue(conn, ORIGIN, &[parked]).await.map_err(Error::Announce)?;
        }
        Ok(Some(step))
    }

    /// Wakes whoever a committed step of a return has work for.
    pub(crate) fn return_committed(&self, step: &returns::Step) {
        let it = &step.after;
        for effect in &step.effects {
            match effect {
                returns::Effect::Look(When::Now) => self.bells.give_back.notify_one(),
                returns::Effect::AnnounceParked => {
                    self.relay.wake();
                    let (id, kind) = (it.return_id, it.kind.name());
                    let why = it.why();
                    tracing::error!(return.id = %id, why, "{kind} {id} waits for a person: {why}");
                }
                returns::Effect::Look(When::After(_) | When::Never) | returns::Effect::Ask => {}
            }
        }
    }

    fn return_due(&self, step: &returns::Step, now: Timestamp) -> Due {
        let when = step.effects.iter().rev().find_map(|effect| match effect {
            returns::Effect::Look(when) => Some(*when),
            returns::Effect::Ask | returns::Effect::AnnounceParked => None,
        });
        when.map_or(Due::Keep, |when| {
            Due::At(self.schedule.at(when, step.after.n_looks, now, rand::random()))
        })
    }

    /// What must be found under a reference of a deposit for it to count as paid.
    pub(crate) fn expected<'a>(
        &self,
        deposit: &Deposit,
        reference: &'a crate::reference::Reference,
    ) -> Expected<'a> {
        Expected {
            reference,
            amount: deposit.amount,
            currency: deposit.currency,
            domain: self.domain,
            fees_paid_by: self.fees_paid_by,
        }
    }

    fn due(&self, step: &Step, now: Timestamp) -> Due {
        let when = step.effects.iter().rev().find_map(|effect| match effect {
            Effect::Look(when) => Some(*when),
            Effect::Initialize
            | Effect::Answer
            | Effect::AnnounceCredited
            | Effect::AnnounceParked => None,
        });
        // A look after the schedule's n-th pause: n were already had.
        let n_pauses = step.deposit.n_looks;
        when.map_or(Due::Keep, |when| {
            Due::At(self.schedule.at(when, n_pauses, now, rand::random()))
        })
    }
}

/// What a step announces, in its own transaction.
fn announcements(step: &Step, now: Timestamp) -> Vec<outbox::Event> {
    let cause = Some(step.deposit.credit_transfer_id.uuid());
    let of = |what| announcement(what, cause, now);
    let mut all = Vec::new();
    for effect in &step.effects {
        match effect {
            Effect::AnnounceCredited => all.push(of(wire::credited(&step.deposit))),
            Effect::AnnounceParked => all.push(of(wire::parked(&step.deposit))),
            Effect::Initialize | Effect::Look(_) | Effect::Answer => {}
        }
    }
    all
}

/// Whether nothing is left of what was kept for the payer, now that `ended` is as it is.
fn is_given_back(deposit: &Deposit, all: &[Return], ended: &Return) -> bool {
    let others = all.iter().filter(|it| it.return_id != ended.return_id);
    let paid_minor = deposit.paid.as_ref().map_or(0, |it| it.amount.minor());
    deposit.suspense == Suspense::Held
        && ended.state == returns::State::Returned
        && returned_minor(others.chain([ended])) >= paid_minor
}

/// What of a deposit's payment no return but `except` has claimed, in minor units.
pub(crate) fn unclaimed_minor(
    deposit: &Deposit,
    returns: &[Return],
    except: Option<ReturnId>,
) -> u64 {
    let others = returns.iter().filter(|it| Some(it.return_id) != except);
    let paid_minor = deposit.paid.as_ref().map_or(0, |it| it.amount.minor());
    paid_minor.saturating_sub(committed_minor(others))
}

fn announcement(
    (subject, payload): (&'static str, Vec<u8>),
    cause: Option<Uuid>,
    now: Timestamp,
) -> outbox::Event {
    outbox::Event { id: EventId::generate(), subject, payload, occurred_at: now, cause }
}

/// One line for what somebody may want to know a day later.
fn log(step: &Step) {
    let deposit = &step.deposit;
    let (id, reference) = (deposit.deposit_id, &deposit.attempt.reference);
    if step.effects.contains(&Effect::AnnounceCredited) {
        tracing::info!(deposit.id = %id, "deposit {reference} is credited");
    }
    if let (true, State::Review(reason)) =
        (step.effects.contains(&Effect::AnnounceParked), &deposit.state)
    {
        warn_parked(id, reference.as_str(), reason);
    }
}

fn warn_parked(id: DepositId, reference: &str, reason: &Reason) {
    let reason = reason.code();
    tracing::error!(deposit.id = %id, reason, "deposit {reference} waits for a person: {reason}");
}

/// An error and its causes, for the one log line it gets.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Logs what went wrong with a deposit in a worker's hands; its claim ends by itself.
pub(crate) fn log_failed(deposit_id: DepositId, what: &str, error: &Error) {
    let error = chain(error);
    tracing::error!(deposit.id = %deposit_id, error, "failed to {what} deposit {deposit_id}");
}
