//! Takes up deposits that are due and does what is to be done: asks Paystack for checkouts, asks the
//! ledger to credit. (Verifying is in [`crate::reconcile`].)
//!
//! A lane is woken, not fed: the database says what is due. A worker promises to be done by the end of
//! its lease and holds nothing else, no transaction and no lock, while it waits for an answer. If it
//! dies, somebody takes the deposit up again; that its lease is only a hint costs nothing, because
//! every step is decided again from the locked row.

use std::sync::Arc;
use std::time::Duration;

use bus::ask::{self, Asker};
use primitives::{DepositId, Timestamp, TransferId};
use proto_events::ledger::v1::{Outcome, Outcomes, Rejection};
use proto_events::subjects;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, chain, log_failed};
use crate::lifecycle::{Credit, Deposit, Effect, Event, Source, State, Work};
use crate::paystack::{self, Initialize};
use crate::store::deposits::{self, Claim};
use crate::store::{self};
use crate::{reconcile, wire};

/// Deposits that need the same kind of work, apart so that a slow provider does not hold up credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Without a checkout.
    Initialize,
    /// Perhaps paid.
    Verify,
    /// To be credited, or to be put on the suspense account.
    Credit,
}

/// How a lane works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most deposits in hand at one time.
    pub(crate) concurrency_max: usize,
    /// How long a worker may keep a deposit.
    pub(crate) lease: Duration,
    /// How often to look when nobody rings.
    pub(crate) poll: Duration,
}

/// Where a lane takes its work from.
pub(crate) trait Queue: Send + 'static {
    /// One piece of it.
    type Item: Send + 'static;

    /// Takes up to `room` due pieces into this worker's hands, until then.
    fn claim(
        &self,
        pool: &PgPool,
        now: Timestamp,
        until: Timestamp,
        room: i64,
    ) -> impl Future<Output = Result<Vec<Self::Item>, store::Error>> + Send;

    /// Rings when there is more.
    fn bell<'a>(&self, desk: &'a Desk) -> &'a Notify;
}

impl Queue for Lane {
    type Item = DepositId;

    async fn claim(
        &self,
        pool: &PgPool,
        now: Timestamp,
        until: Timestamp,
        room: i64,
    ) -> Result<Vec<DepositId>, store::Error> {
        deposits::claim(pool, &self.states(), now, until, room).await
    }

    fn bell<'a>(&self, desk: &'a Desk) -> &'a Notify {
        match self {
            Self::Initialize => &desk.bells.initialize,
            Self::Verify => &desk.bells.verify,
            Self::Credit => &desk.bells.credit,
        }
    }
}

impl Lane {
    fn states(self) -> Vec<String> {
        let states: &[&str] = match self {
            Self::Initialize => &["initiated"],
            Self::Verify => &["pending", "confirming", "failed", "abandoned"],
            Self::Credit => &["paid", "crediting", "review"],
        };
        states.iter().map(|it| (*it).to_owned()).collect()
    }
}

/// Runs a lane until `shutdown`, then finishes what is in hand.
///
/// Each piece is worked on by a task of its own: work that waited for its turn in here could hold
/// a connection that the next look needs.
pub(crate) async fn run<Q, F, Fut>(
    queue: Q,
    desk: Desk,
    limits: Limits,
    shutdown: CancellationToken,
    work: F,
) -> anyhow::Result<()>
where
    Q: Queue,
    F: Fn(Q::Item) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut in_hand = JoinSet::new();
    loop {
        if shutdown.is_cancelled() {
            while let Some(done) = in_hand.join_next().await {
                resume_panic(done);
            }
            return Ok(());
        }
        let room = limits.concurrency_max.saturating_sub(in_hand.len());
        if room > 0 {
            let now = Timestamp::now();
            let room = i64::try_from(room).unwrap_or(i64::MAX);
            let until = now.plus(limits.lease);
            match queue.claim(&desk.pool, now, until, room).await {
                Ok(due) => {
                    for item in due {
                        in_hand.spawn(work(item));
                    }
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "failed to look for what is due");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(done) = in_hand.join_next() => resume_panic(done),
            () = queue.bell(&desk).notified() => {}
            () = tokio::time::sleep(limits.poll) => {}
        }
    }
}

/// A bug in the work is a bug in the loop: the process stops, and the deposit is still there.
fn resume_panic(done: Result<(), JoinError>) {
    if let Err(error) = done
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Gets one deposit its checkout, or finds out what became of the last try.
pub(crate) async fn initialize(desk: Desk, paystack: Arc<paystack::Client>, deposit_id: DepositId) {
    if let Err(error) = try_initialize(&desk, &paystack, deposit_id).await {
        log_failed(deposit_id, "initialize", &error);
    }
}

async fn try_initialize(
    desk: &Desk,
    paystack: &paystack::Client,
    deposit_id: DepositId,
) -> Result<(), store::Error> {
    let Some(deposit) = deposits::load(&desk.pool, deposit_id).await? else { return Ok(()) };
    match deposit.work() {
        Work::Initialize => {}
        // Asked before, and nobody knows the answer: the reference may be used up.
        Work::Verify(reference) => {
            return reconcile::try_verify(desk, paystack, &deposit, &reference).await;
        }
        Work::Credit | Work::Suspend | Work::Rest => {
            return deposits::release(&desk.pool, deposit_id).await;
        }
    }
    let contact = deposits::contact(&desk.pool, deposit_id).await?;
    let asking = desk.happen(deposit_id, Event::Asking, Claim::Keep).await?;
    let Some(asking) = asking.filter(|it| it.effects.contains(&Effect::Initialize)) else {
        return deposits::release(&desk.pool, deposit_id).await;
    };
    let reference = asking.deposit.attempt.reference;
    let asked = Initialize {
        email: contact.email,
        amount: deposit.amount,
        currency: deposit.currency,
        reference: reference.clone(),
        callback_url: contact.callback_url,
    };
    let event = match paystack.initialize(&asked).await {
        Ok(checkout) => Event::CheckoutMade { reference, checkout },
        Err(error) => {
            let (may_have_happened, error) = (error.may_have_happened(), chain(&error));
            tracing::warn!(deposit.id = %deposit_id, error, "no checkout for {reference}");
            if may_have_happened {
                Event::InitializeUnknown { reference }
            } else {
                Event::InitializeRefused { reference }
            }
        }
    };
    desk.happen(deposit_id, event, Claim::Release).await?;
    Ok(())
}

/// Has one paid deposit credited.
pub(crate) async fn credit(desk: Desk, ledger: Asker, wait: Duration, deposit_id: DepositId) {
    if let Err(error) = try_credit(&desk, &ledger, wait, deposit_id).await {
        log_failed(deposit_id, "credit", &error);
    }
}

async fn try_credit(
    desk: &Desk,
    ledger: &Asker,
    wait: Duration,
    deposit_id: DepositId,
) -> Result<(), store::Error> {
    let Some(deposit) = deposits::load(&desk.pool, deposit_id).await? else { return Ok(()) };
    let event = match deposit.work() {
        Work::Credit => {
            let asking = desk.happen(deposit_id, Event::Crediting, Claim::Keep).await?;
            let Some(credit) = asking
                .filter(|it| it.deposit.state == State::Crediting)
                .and_then(|it| it.deposit.credit())
            else {
                return deposits::release(&desk.pool, deposit_id).await;
            };
            match ask_to_credit(ledger, wait, &deposit, &credit).await {
                Said::Done => Event::CreditPosted,
                Said::Refused(why) => Event::CreditRefused { why },
                Said::Nothing => Event::CreditUnknown,
            }
        }
        Work::Suspend => match ask_to_suspend(ledger, wait, &deposit).await {
            Said::Done => Event::Suspended,
            Said::Refused(why) => {
                tracing::error!(deposit.id = %deposit_id, why, "the suspense account takes nothing: {why}");
                Event::SuspendUnknown
            }
            Said::Nothing => Event::SuspendUnknown,
        },
        Work::Initialize | Work::Verify(_) | Work::Rest => {
            return deposits::release(&desk.pool, deposit_id).await;
        }
    };
    desk.happen(deposit_id, event, Claim::Release).await?;
    Ok(())
}

/// What the ledger said of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is posted.
    Done,
    /// It will never be, for this reason.
    Refused(String),
    /// Nothing that can be relied on: ask again.
    Nothing,
}

async fn ask_to_credit(ledger: &Asker, wait: Duration, deposit: &Deposit, credit: &Credit) -> Said {
    match credit.source {
        Source::Clearing => {
            let command = wire::credit(deposit, credit);
            let answer = ledger.command(subjects::ledger::POST_DEPOSIT, &command, wait).await;
            said(deposit.deposit_id, credit.transfer_id, answer)
        }
        Source::Suspense { back_transfer_id } => {
            let command = wire::credit_from_suspense(deposit, credit, back_transfer_id);
            let answer = ledger.command(subjects::ledger::POST_ANY, &command, wait).await;
            said(deposit.deposit_id, credit.transfer_id, decisive(answer))
        }
    }
}

async fn ask_to_suspend(ledger: &Asker, wait: Duration, deposit: &Deposit) -> Said {
    let Some(command) = wire::suspend(deposit) else { return Said::Nothing };
    let answer = ledger.command(subjects::ledger::POST_ANY, &command, wait).await;
    said(deposit.deposit_id, deposit.suspend_transfer_id(), decisive(answer))
}

/// Of a linked group the last outcome, unless another one says why there is none.
pub(crate) fn decisive(answer: Result<Outcomes, ask::Error>) -> Result<Outcome, ask::Error> {
    let mut outcomes = answer?.outcomes;
    let last = outcomes.pop().unwrap_or_default();
    let of_another = i32::from(Rejection::GroupRefused);
    let reason = outcomes.iter().map(|it| it.rejection).find(|it| ![0, of_another].contains(it));
    match reason {
        Some(rejection) if last.rejection == of_another => Ok(Outcome { rejection, ..last }),
        Some(_) | None => Ok(last),
    }
}

/// What the ledger's answer means; whatever is not surely a yes or a no is asked again.
pub(crate) fn said(
    id: DepositId,
    transfer_id: TransferId,
    answer: Result<Outcome, ask::Error>,
) -> Said {
    let outcome = match answer {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(deposit.id = %id, error = chain(&error), "the ledger gave no answer");
            return Said::Nothing;
        }
    };
    if outcome.transfer_id != transfer_id.uuid().as_bytes().as_slice() {
        tracing::error!(deposit.id = %id, "the ledger answered for another transfer");
        return Said::Nothing;
    }
    match Rejection::try_from(outcome.rejection) {
        Ok(Rejection::Unspecified) => Said::Done,
        Ok(rejection) => Said::Refused(rejection_code(rejection)),
        Err(_) => Said::Refused(format!("unknown_{}", outcome.rejection)),
    }
}

/// `REJECTION_CREDIT_ACCOUNT_FROZEN` → `credit_account_frozen`
fn rejection_code(rejection: Rejection) -> String {
    rejection.as_str_name().trim_start_matches("REJECTION_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(transfer_id: TransferId, rejection: i32) -> Outcome {
        let transfer_id = transfer_id.uuid().as_bytes().to_vec().into();
        Outcome { transfer_id, rejection, ..Outcome::default() }
    }

    #[test]
    fn only_the_ledgers_own_word_about_this_transfer_is_believed() {
        let (id, transfer_id) = (DepositId::generate(), TransferId::generate());
        let refused = |why: &str| Said::Refused(why.to_owned());
        for (answer, expected) in [
            (Ok(outcome(transfer_id, 0)), Said::Done),
            (Ok(outcome(transfer_id, 9)), refused("credit_account_frozen")),
            (Ok(outcome(transfer_id, 999)), refused("unknown_999")),
            (Ok(outcome(TransferId::generate(), 0)), Said::Nothing),
            (Err(ask::Error::Unknown), Said::Nothing),
        ] {
            assert_eq!(said(id, transfer_id, answer), expected);
        }
    }

    #[test]
    fn of_a_group_the_reason_counts_whichever_transfer_has_it() {
        let (id, first, last) =
            (DepositId::generate(), TransferId::generate(), TransferId::generate());
        let group = i32::from(Rejection::GroupRefused);
        let refused = |why: &str| Said::Refused(why.to_owned());
        for ((of_first, of_last), expected) in [
            ((0, 0), Said::Done),
            ((group, 9), refused("credit_account_frozen")),
            ((10, group), refused("insufficient_funds")),
        ] {
            let outcomes = vec![outcome(first, of_first), outcome(last, of_last)];
            assert_eq!(said(id, last, decisive(Ok(Outcomes { outcomes }))), expected);
        }
        assert_eq!(said(id, last, decisive(Ok(Outcomes::default()))), Said::Nothing);
    }
}
