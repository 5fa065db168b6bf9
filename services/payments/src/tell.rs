//! Tells those who wait for a checkout what became of it. Woken, not fed: who waits is in the database.
//!
//! A row is forgotten only after its answer was sent, so a crash in between sends it twice, to an inbox
//! that takes one.

use std::time::Duration;

use bus::follow::Reply;
use primitives::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, chain};
use crate::store::{self, deposits, waiters};
use crate::wire;

/// Most answers in one round.
const WAITERS_MAX: i64 = 200;
/// How long after somebody's deadline an answer is still worth sending.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub(crate) async fn run(
    desk: Desk,
    nats: async_nats::Client,
    poll: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        if let Err(error) = tell(&desk, &nats).await {
            tracing::warn!(error = chain(&error), "failed to tell those who wait");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = desk.bells.tell.notified() => {}
            () = tokio::time::sleep(poll) => {}
        }
    }
}

/// One round: everybody who can be told by now.
pub(crate) async fn tell(desk: &Desk, nats: &async_nats::Client) -> Result<(), store::Error> {
    loop {
        let waiting = waiters::answerable(&desk.pool, WAITERS_MAX).await?;
        let mut told = Vec::with_capacity(waiting.len());
        for waiter in waiting {
            let Some(deposit) = deposits::load(&desk.pool, waiter.deposit_id).await? else {
                continue;
            };
            let Some(answer) = deposit.answer() else { continue };
            if let Some(to) = Reply::from_text(&waiter.reply_to) {
                bus::reply::send(nats, &to, wire::started(&answer, waiter.is_replay)).await;
            }
            told.push(waiter.waiter_id);
        }
        let is_all = told.len() < usize::try_from(WAITERS_MAX).unwrap_or(usize::MAX);
        waiters::forget(&desk.pool, &told, Timestamp::now().minus(GRACE)).await?;
        if is_all {
            return Ok(());
        }
    }
}
