//! Answers what became of a deposit, to the wallet it belongs to and to nobody else.
//!
//! Asking credits nothing. It may make somebody ask Paystack sooner: the person who looks at the
//! status has usually just paid.

use std::time::Duration;

use bus::answer::Failure;
use bytes::Bytes;
use primitives::{AccountId, Timestamp};
use prost::Message as _;
use proto_events::convert::WireId as _;
use proto_events::payments::v1::GetDeposit;
use proto_events::subjects;
use tokio_util::sync::CancellationToken;

use crate::ORIGIN;
use crate::desk::Desk;
use crate::lifecycle::State;
use crate::reference::Reference;
use crate::store::deposits;
use crate::wire;

/// Runs until `shutdown`.
pub(crate) async fn run(
    desk: Desk,
    nats: async_nats::Client,
    look_pause: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let handler = move |query: Bytes| {
        let desk = desk.clone();
        async move { get(&desk, &query, look_pause).await }
    };
    bus::answer::serve(nats, subjects::payments::GET_DEPOSIT, ORIGIN, shutdown, handler).await?;
    Ok(())
}

async fn get(desk: &Desk, query: &[u8], look_pause: Duration) -> Result<Vec<u8>, Failure> {
    let query = GetDeposit::decode(query).map_err(Failure::new)?;
    let account_id = AccountId::read("account_id", &query.account_id).map_err(Failure::new)?;
    // A malformed reference is nobody's.
    let Ok(reference) = Reference::parse(&query.reference) else { return Ok(wire::not_found()) };
    let mut conn = desk.pool.acquire().await.map_err(Failure::new)?;
    let found = deposits::of_reference(&mut conn, &reference).await.map_err(Failure::new)?;
    drop(conn);
    let Some(deposit_id) = found else { return Ok(wire::not_found()) };
    let deposit = deposits::load(&desk.pool, deposit_id).await.map_err(Failure::new)?;
    let Some(deposit) = deposit.filter(|it| it.account_id == account_id) else {
        return Ok(wire::not_found());
    };
    if deposit.state == State::Pending {
        let now = Timestamp::now();
        let not_since = now.minus(look_pause);
        let will_look = deposits::look_soon(&desk.pool, deposit_id, now, not_since).await;
        if will_look.map_err(Failure::new)? {
            desk.bells.verify.notify_one();
        }
    }
    Ok(wire::shown(&deposit, &reference))
}
