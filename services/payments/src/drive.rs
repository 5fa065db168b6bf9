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
use primitives::{DepositId, Timestamp};
use proto_events::ledger::v1::{Outcome, Rejection};
use proto_events::subjects;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, chain, log_failed};
use crate::lifecycle::{Deposit, Effect, Event, Work};
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
    /// To be credited.
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

impl Lane {
    fn states(self) -> Vec<String> {
        let states: &[&str] = match self {
            Self::Initialize => &["initiated"],
            Self::Verify => &["pending", "confirming", "failed", "abandoned"],
            Self::Credit => &["paid"],
        };
        states.iter().map(|it| (*it).to_owned()).collect()
    }

    fn bell(self, desk: &Desk) -> &Notify {
        match self {
            Self::Initialize => &desk.bells.initialize,
            Self::Verify => &desk.bells.verify,
            Self::Credit => &desk.bells.credit,
        }
    }
}

/// Runs a lane until `shutdown`, then finishes what is in hand.
///
/// Each deposit is worked on by a task of its own: work that waited for its turn in here could hold
/// a connection that the next look needs.
pub(crate) async fn run<F, Fut>(
    lane: Lane,
    desk: Desk,
    limits: Limits,
    shutdown: CancellationToken,
    work: F,
) -> anyhow::Result<()>
where
    F: Fn(DepositId) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let states = lane.states();
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
            match deposits::claim(&desk.pool, &states, now, until, room).await {
                Ok(due) => {
                    for deposit_id in due {
                        in_hand.spawn(work(deposit_id));
                    }
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "failed to look for due deposits");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(done) = in_hand.join_next() => resume_panic(done),
            () = lane.bell(&desk).notified() => {}
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
        Work::Credit | Work::Rest => return deposits::release(&desk.pool, deposit_id).await,
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
    if deposit.work() != Work::Credit {
        return deposits::release(&desk.pool, deposit_id).await;
    }
    let command = wire::credit(&deposit, wire::paid_reference(&deposit));
    let answer = ledger.command(subjects::ledger::POST_DEPOSIT, &command, wait).await;
    let event = credit_event(&deposit, answer);
    desk.happen(deposit_id, event, Claim::Release).await?;
    Ok(())
}

/// What the ledger's answer means; whatever is not surely a yes or a no is asked again.
fn credit_event(deposit: &Deposit, answer: Result<Outcome, ask::Error>) -> Event {
    let id = deposit.deposit_id;
    let outcome = match answer {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(deposit.id = %id, error = chain(&error), "the ledger gave no answer");
            return Event::CreditUnknown;
        }
    };
    if outcome.transfer_id != deposit.credit_transfer_id.uuid().as_bytes().as_slice() {
        tracing::error!(deposit.id = %id, "the ledger answered for another transfer");
        return Event::CreditUnknown;
    }
    match Rejection::try_from(outcome.rejection) {
        Ok(Rejection::Unspecified) => Event::CreditPosted,
        Ok(rejection) => Event::CreditRefused { why: rejection_code(rejection) },
        Err(_) => Event::CreditRefused { why: format!("unknown_{}", outcome.rejection) },
    }
}

/// `REJECTION_CREDIT_ACCOUNT_FROZEN` → `credit_account_frozen`
fn rejection_code(rejection: Rejection) -> String {
    rejection.as_str_name().trim_start_matches("REJECTION_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use primitives::{AccountId, Amount, Currency, TransferId};

    use super::*;
    use crate::lifecycle::Intent;

    #[test]
    fn only_the_ledgers_own_word_about_this_transfer_is_believed() {
        let now = Timestamp::from_seconds(1_000);
        let intent = Intent {
            account_id: AccountId::generate(),
            amount: Amount::try_new(5_000).unwrap(),
            currency: Currency::NGN,
            wait_until: None,
            abandon_at: now,
            forget_at: now,
        };
        let transfer_id = TransferId::generate();
        let deposit = Deposit::intent((DepositId::generate(), transfer_id), intent, now);
        let outcome = |transfer_id: TransferId, rejection: i32| {
            let transfer_id = transfer_id.uuid().as_bytes().to_vec().into();
            Ok(Outcome { transfer_id, rejection, ..Outcome::default() })
        };
        let refused = |why: &str| Event::CreditRefused { why: why.to_owned() };
        for (answer, event) in [
            (outcome(transfer_id, 0), Event::CreditPosted),
            (outcome(transfer_id, 9), refused("credit_account_frozen")),
            (outcome(transfer_id, 999), refused("unknown_999")),
            (outcome(TransferId::generate(), 0), Event::CreditUnknown),
            (Err(ask::Error::Unknown), Event::CreditUnknown),
        ] {
            assert_eq!(credit_event(&deposit, answer), event);
        }
    }
}
