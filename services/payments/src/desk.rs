//! Where every step of a deposit is taken: lock, decide, save, announce, and wake who must go on.
//!
//! Whatever happened (a command, a webhook, an answer of Paystack or of the ledger) comes here as an
//! event, so there is one way for a deposit to change. Nothing slow is awaited in here.

use std::sync::Arc;
use std::time::Duration;

use bus::outbox::{self, Wake};
use primitives::{DepositId, EventId, Timestamp};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;

use crate::lifecycle::{self, Deposit, Effect, Event, Reason, State, Step, When};
use crate::schedule::Schedule;
use crate::store::Error;
use crate::store::deposits::{self, Claim, Due};
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
    let of = |(subject, payload)| outbox::Event {
        id: EventId::generate(),
        subject,
        payload,
        occurred_at: now,
        cause: Some(step.deposit.credit_transfer_id.uuid()),
    };
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
