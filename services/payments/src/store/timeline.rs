//! Everything that ever happened to a deposit, one line each.

use primitives::{DepositId, ReturnId, Timestamp};
use sqlx::PgConnection;

use super::{Error, datetime};

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Of which of the deposit's returns, if it is one's.
    pub(crate) return_id: Option<ReturnId>,
    /// What.
    pub(crate) event: &'a str,
    /// What it says of itself.
    pub(crate) detail: &'a str,
    /// The state before it.
    pub(crate) before: &'a str,
    /// The state after it.
    pub(crate) after: &'a str,
}

/// Adds a line.
pub(crate) async fn add(
    conn: &mut PgConnection,
    deposit_id: DepositId,
    line: &Line<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into payments.timeline
             (deposit_id, return_id, happened_at, event, detail, state_before, state_after)
         values ($1, $2, $3, $4, $5, $6, $7)",
        deposit_id.uuid(),
        line.return_id.map(ReturnId::uuid),
        datetime(now),
        line.event,
        line.detail,
        line.before,
        line.after,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Deposit { what: "write the timeline of", source })?;
    Ok(())
}
