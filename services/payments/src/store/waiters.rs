//! Who waits for a checkout.

use primitives::{DepositId, Timestamp};
use sqlx::{PgConnection, PgPool};

use super::{Error, datetime};

/// Somebody who waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    /// The row.
    pub(crate) waiter_id: i64,
    /// For what.
    pub(crate) deposit_id: DepositId,
    /// Where the answer goes.
    pub(crate) reply_to: String,
    /// Somebody else had asked for the same before.
    pub(crate) is_replay: bool,
}

/// Remembers somebody.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    deposit_id: DepositId,
    reply_to: &str,
    is_replay: bool,
    listens_until: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into payments.waiters (deposit_id, reply_to, is_replay, listens_until)
         values ($1, $2, $3, $4)",
        deposit_id.uuid(),
        reply_to,
        is_replay,
        datetime(listens_until),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Waiters { what: "remember", source })?;
    Ok(())
}

/// Those whose deposit has something to tell by now, the longest waiting first.
pub(crate) async fn answerable(pool: &PgPool, waiters_max: i64) -> Result<Vec<Waiter>, Error> {
    let rows = sqlx::query!(
        "select w.waiter_id, w.deposit_id, w.reply_to, w.is_replay
         from payments.waiters w
         join payments.deposits d using (deposit_id)
         where d.authorization_url is not null or d.state <> 'initiated'
         order by w.waiter_id
         limit $1",
        waiters_max,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Waiters { what: "look for", source })?;
    Ok(rows
        .into_iter()
        .map(|row| Waiter {
            waiter_id: row.waiter_id,
            deposit_id: DepositId::from_uuid(row.deposit_id),
            reply_to: row.reply_to,
            is_replay: row.is_replay,
        })
        .collect())
}

/// Forgets those who were told, and those who cannot be listening any more.
pub(crate) async fn forget(
    pool: &PgPool,
    told: &[i64],
    gone_before: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "delete from payments.waiters where waiter_id = any($1) or listens_until < $2",
        told,
        datetime(gone_before),
    )
    .execute(pool)
    .await
    .map_err(|source| Error::Waiters { what: "forget", source })?;
    Ok(())
}
