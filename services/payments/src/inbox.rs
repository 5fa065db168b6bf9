//! Looks at stored webhooks and wakes the deposits they name.
//!
//! One webhook, one transaction: it is settled exactly when its effect is there. A webhook never
//! proves anything; the most it does is make somebody ask Paystack.

use std::time::Duration;

use primitives::{Amount, DepositId, ReturnId, Timestamp};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, chain};
use crate::lifecycle::{Deposit, Effect, Event, Step};
use crate::notice::{self, Meaning, Notice, Oddity, Topic};
use crate::reference::Reference;
use crate::returns::{self, Kind, Payment, Return};
use crate::store::deposits::{self, Claim};
use crate::store::rounds::{self, Round};
use crate::store::webhooks::{self, New};
use crate::store::{Error, returns as return_rows};

/// Why a webhook is parked that broke whoever looked at it.
const BROKEN: &str = "broken";

/// What one webhook changed.
#[derive(Default)]
struct Settled {
    step: Option<Step>,
    returns: Vec<returns::Step>,
    /// A dispute was heard of.
    is_news: bool,
}

/// What became of a webhook.
#[derive(Default)]
struct Met {
    settled: Settled,
    /// Why a person should see it, if so.
    oddity: Option<Oddity>,
}

impl Met {
    fn odd(oddity: Oddity) -> Self {
        Self { oddity: Some(oddity), ..Self::default() }
    }
}

/// Runs until `shutdown`.
pub(crate) async fn run(
    desk: Desk,
    poll: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        match next(&desk).await {
            Ok(Some(settled)) => {
                settled.committed(&desk);
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to look at a webhook");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = desk.bells.inbox.notified() => {}
            () = tokio::time::sleep(poll) => {}
        }
    }
    Ok(())
}

/// Settles the next webhook; `None` if there is none.
async fn next(desk: &Desk) -> Result<Option<Settled>, Error> {
    let now = Timestamp::now();
    let mut tx = desk.pool.begin().await.map_err(Error::Begin)?;
    let Some(new) = webhooks::take(&mut tx).await? else { return Ok(None) };
    let webhook_id = new.webhook_id;
    match settle(desk, &mut tx, new, now).await {
        Ok(settled) => {
            tx.commit().await.map_err(Error::Commit)?;
            Ok(Some(settled))
        }
        Err(error) if error.is_poison() => {
            tx.rollback().await.map_err(Error::Commit)?;
            let text = chain(&error);
            tracing::error!(
                error = text,
                "webhook {webhook_id} cannot be used and waits for a person"
            );
            let mut conn = desk.pool.acquire().await.map_err(Error::Begin)?;
            webhooks::settle(&mut conn, webhook_id, None, Some(BROKEN), false, now).await?;
            Ok(Some(Settled::default()))
        }
        Err(error) => Err(error),
    }
}

async fn settle(
    desk: &Desk,
    conn: &mut PgConnection,
    new: New,
    now: Timestamp,
) -> Result<Settled, Error> {
    let notice = notice::read(&new.body);
    let found = match &notice.reference {
        Some(reference) => deposits::of_reference(&mut *conn, reference).await?,
        None => None,
    };
    let met = match found {
        Some(deposit_id) => meet(desk, &mut *conn, &notice, deposit_id, now).await?,
        None => Met::odd(stranger(desk, &notice)),
    };
    let reason = met.oddity.map(Oddity::code);
    let is_told = met.settled.is_told();
    webhooks::settle(conn, new.webhook_id, found, reason, is_told, now).await?;
    if let Some(reason) = reason {
        let id = new.webhook_id;
        tracing::error!(reason, "webhook {id} waits for a person: {reason}");
    }
    Ok(met.settled)
}

async fn meet(
    desk: &Desk,
    conn: &mut PgConnection,
    notice: &Notice,
    deposit_id: DepositId,
    now: Timestamp,
) -> Result<Met, Error> {
    let deposit = deposits::lock(&mut *conn, deposit_id).await?;
    let (Some(deposit), Some(reference)) = (deposit, &notice.reference) else {
        return Ok(Met::odd(Oddity::UnknownReference));
    };
    if let Some(oddity) = unusable(desk, notice) {
        return Ok(Met::odd(oddity));
    }
    match &notice.topic {
        Topic::Payment | Topic::Other => {
            let expected = desk.expected(&deposit, reference);
            let claim_until = now.plus(desk.confirm_for);
            let Meaning { event, oddity } =
                notice::meaning(notice, &deposit, &expected, claim_until);
            let step = match event {
                Some(event) => Some(desk.take(conn, &deposit, event, Claim::Keep, now).await?),
                None => None,
            };
            Ok(Met { settled: Settled { step, ..Settled::default() }, oddity })
        }
        Topic::Refund => refund(desk, conn, notice, &deposit, now).await,
        Topic::Dispute(id) => dispute(desk, conn, (id, reference), &deposit, now).await,
    }
}

/// Something became of a refund, and it is not said of which: whoever waits for one looks. If nobody
/// does, Paystack's list is read for what we did not ask for.
async fn refund(
    desk: &Desk,
    conn: &mut PgConnection,
    notice: &Notice,
    deposit: &Deposit,
    now: Timestamp,
) -> Result<Met, Error> {
    let all = return_rows::of_deposit(&mut *conn, deposit.deposit_id).await?;
    let mut met = Met::default();
    let is_meant = |it: &&Return| {
        it.kind.is_refund() && it.amount.map(Amount::minor) == notice.said.amount_minor
    };
    for it in all.iter().filter(is_meant) {
        let hint = (it.return_id, returns::Event::Hinted);
        let step = desk.take_return(&mut *conn, (deposit, &all), hint, Claim::Keep, now).await?;
        met.settled.returns.extend(step);
    }
    if met.settled.returns.is_empty() {
        if deposit.paid.as_ref().is_some_and(|it| it.provider_id.is_some()) {
            rounds::hasten(conn, Round::Missed, now).await?;
        } else {
            met.oddity = Some(Oddity::NeedsPerson);
        }
    }
    Ok(met)
}

/// Something became of a dispute: whoever waits for it looks, and a new one is seen through.
async fn dispute(
    desk: &Desk,
    conn: &mut PgConnection,
    (id, reference): (&str, &Reference),
    deposit: &Deposit,
    now: Timestamp,
) -> Result<Met, Error> {
    let all = return_rows::of_deposit(&mut *conn, deposit.deposit_id).await?;
    let mut met = Met::default();
    let known =
        all.iter().find(|it| it.kind == Kind::Dispute && it.provider_id.as_deref() == Some(id));
    if let Some(it) = known {
        let hint = (it.return_id, returns::Event::Hinted);
        let step = desk.take_return(conn, (deposit, &all), hint, Claim::Keep, now).await?;
        met.settled.returns.extend(step);
        return Ok(met);
    }
    let payment = Payment::of(deposit, reference);
    let new = Return::dispute(ReturnId::generate(), payment, id.to_owned(), now);
    desk.begin_return(&mut *conn, &new, now).await?;
    met.settled.is_news = true;
    if deposit.paid.is_none() {
        // What is contested was paid: verify has to say so.
        let until = now.plus(desk.confirm_for);
        let event = Event::Claimed { reference: reference.clone(), until };
        met.settled.step = Some(desk.take(conn, deposit, event, Claim::Keep, now).await?);
    }
    Ok(met)
}

impl Settled {
    /// Whether anybody outside hears of it: then a power cut must not take it back.
    fn is_told(&self) -> bool {
        let is_parked = |it: &returns::Step| it.effects.contains(&returns::Effect::AnnounceParked);
        self.step.as_ref().is_some_and(is_told) || self.returns.iter().any(is_parked)
    }

    fn committed(&self, desk: &Desk) {
        if let Some(step) = &self.step {
            desk.committed(step);
        }
        for step in &self.returns {
            desk.return_committed(step);
        }
        if self.is_news {
            desk.bells.give_back.notify_one();
        }
    }
}

/// Why a webhook cannot be used, whatever it is about.
fn unusable(desk: &Desk, notice: &Notice) -> Option<Oddity> {
    match notice.oddity {
        Some(oddity) => Some(oddity),
        None if notice.is_for_another(desk.domain) => Some(Oddity::OtherDomain),
        None => None,
    }
}

fn is_told(step: &Step) -> bool {
    step.effects.iter().any(|effect| match effect {
        Effect::Answer | Effect::AnnounceCredited | Effect::AnnounceParked => true,
        Effect::Initialize | Effect::Look(_) => false,
    })
}

/// Why a webhook that names no deposit of ours waits for a person.
fn stranger(desk: &Desk, notice: &Notice) -> Oddity {
    unusable(desk, notice).unwrap_or(Oddity::UnknownReference)
}
