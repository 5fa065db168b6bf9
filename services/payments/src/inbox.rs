//! Looks at stored webhooks and wakes the deposits they name.
//!
//! One webhook, one transaction: it is settled exactly when its effect is there. A webhook never
//! proves anything; the most it does is make somebody ask Paystack.

use std::time::Duration;

use primitives::{DepositId, Timestamp};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, chain};
use crate::lifecycle::{Effect, Step};
use crate::notice::{self, Meaning, Notice, Oddity};
use crate::store::Error;
use crate::store::deposits::{self, Claim};
use crate::store::webhooks::{self, New};

/// Why a webhook is parked that broke whoever looked at it.
const BROKEN: &str = "broken";

/// What became of one webhook.
struct Settled {
    step: Option<Step>,
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
                if let Some(step) = &settled.step {
                    desk.committed(step);
                }
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
            Ok(Some(Settled { step: None }))
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
    let (step, oddity) = match found {
        Some(deposit_id) => meet(desk, &mut *conn, &notice, deposit_id, now).await?,
        None => (None, Some(stranger(desk, &notice))),
    };
    let reason = oddity.map(Oddity::code);
    let is_told = step.as_ref().is_some_and(is_told);
    webhooks::settle(conn, new.webhook_id, found, reason, is_told, now).await?;
    if let Some(reason) = reason {
        let id = new.webhook_id;
        tracing::error!(reason, "webhook {id} waits for a person: {reason}");
    }
    Ok(Settled { step })
}

async fn meet(
    desk: &Desk,
    conn: &mut PgConnection,
    notice: &Notice,
    deposit_id: DepositId,
    now: Timestamp,
) -> Result<(Option<Step>, Option<Oddity>), Error> {
    let deposit = deposits::lock(&mut *conn, deposit_id).await?;
    let (Some(deposit), Some(reference)) = (deposit, &notice.reference) else {
        return Ok((None, Some(Oddity::UnknownReference)));
    };
    let expected = desk.expected(&deposit, reference);
    let claim_until = now.plus(desk.confirm_for);
    let Meaning { event, oddity } = notice::meaning(notice, &deposit, &expected, claim_until);
    let step = match event {
        Some(event) => Some(desk.take(conn, &deposit, event, Claim::Keep, now).await?),
        None => None,
    };
    Ok((step, oddity))
}

/// Whether anybody outside hears of a step: then a power cut must not take it back.
fn is_told(step: &Step) -> bool {
    step.effects.iter().any(|effect| match effect {
        Effect::Answer | Effect::AnnounceCredited | Effect::AnnounceParked => true,
        Effect::Initialize | Effect::Look(_) => false,
    })
}

/// Why a webhook that names no deposit of ours waits for a person.
fn stranger(desk: &Desk, notice: &Notice) -> Oddity {
    match notice.oddity {
        Some(oddity) => oddity,
        None if notice.is_for_another(desk.domain) => Oddity::OtherDomain,
        None => Oddity::UnknownReference,
    }
}
