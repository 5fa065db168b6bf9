//! Gives back holds whose time is up.
//!
//! Woken by a timer, told what to do by the database: which holds are due. Each is asked for as a
//! command like any other, under an id that follows from the hold's, so that it is ordered with the
//! money, and replicas that notice the same hold ask for the same thing. A capture after the time is
//! refused by the rules, whether this has looked already or not.

use std::time::Duration;

use bus::ask::Asker;
use bytes::Bytes;
use ledger_core::TransferKind;
use primitives::{Timestamp, TransferId};
use proto_events::convert::WireId;
use proto_events::ledger::v1 as wire;
use proto_events::subjects::ledger as subjects;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store;
use crate::store::find;

/// The most holds given back in one look; the rest has its turn at once.
const HOLDS_MAX: i64 = 500;
/// How long one outcome is waited for. A hold that is still there is due again at the next look.
const WAIT: Duration = Duration::from_secs(5);

/// Looks every `every`, until shutdown.
pub(crate) async fn run(
    pool: PgPool,
    asker: Asker,
    every: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        let looked = tokio::select! {
            () = shutdown.cancelled() => break,
            looked = look(&pool, &asker) => looked,
        };
        match looked {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!("holds are looked for again later: {error:#}"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
    Ok(())
}

/// Gives back what is due; true if there may be more.
async fn look(pool: &PgPool, asker: &Asker) -> anyhow::Result<bool> {
    let mut conn = pool.acquire().await.map_err(store::Error::Connect)?;
    let due = find::due(&mut conn, Timestamp::now(), HOLDS_MAX).await?;
    drop(conn);
    let is_full = i64::try_from(due.len()) == Ok(HOLDS_MAX);
    for hold_id in due {
        let expiry = wire::Command {
            deadline_at_us: 0,
            body: Some(wire::command::Body::PostTransfer(expiry_of(hold_id))),
        };
        let outcome: wire::Outcome = asker.command(subjects::EXPIRE_HOLD, &expiry, WAIT).await?;
        if outcome.rejection() == wire::Rejection::Unspecified && !outcome.replayed {
            crate::metrics::HOLDS_EXPIRED.inc();
            tracing::info!(transfer.id = %hold_id, "hold {hold_id} has expired");
        } else {
            // Somebody else was faster: it was captured, released or expired meanwhile.
            tracing::debug!(transfer.id = %hold_id, "hold {hold_id} is settled already");
        }
    }
    Ok(is_full)
}

fn expiry_of(hold_id: TransferId) -> wire::PostTransfer {
    wire::PostTransfer {
        transfer_id: TransferId::expiry_of(hold_id).to_bytes(),
        kind: i32::from(TransferKind::Expiry.number()),
        of_transfer_id: hold_id.to_bytes(),
        request_digest: Bytes::from_static(&[0; 32]),
        ..wire::PostTransfer::default()
    }
}
