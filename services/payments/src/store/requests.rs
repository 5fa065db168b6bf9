//! What was decided under a caller's key, for ever.

use primitives::{DepositId, RequestKey, Timestamp};
use sqlx::PgConnection;

use super::{Error, datetime};

/// A decision that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Of what was asked.
    pub(crate) digest: Vec<u8>,
    /// What it led to.
    pub(crate) decision: Decision,
}

/// What a request led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This deposit.
    Deposit(DepositId),
    /// A no that stays one; the number is the wire's.
    Refusal(i32),
}

/// What was decided under `key` before, if anything.
pub(crate) async fn find(
    conn: &mut PgConnection,
    key: RequestKey,
) -> Result<Option<Request>, Error> {
    let row = sqlx::query!(
        "select request_digest, deposit_id, refusal
         from payments.requests
         where request_key = $1",
        key.0.as_slice(),
    )
    .fetch_optional(conn)
    .await
    .map_err(|source| Error::Request { what: "look up", source })?;
    let Some(row) = row else { return Ok(None) };
    let decision = match (row.deposit_id, row.refusal) {
        (Some(id), None) => Decision::Deposit(DepositId::from_uuid(id)),
        (None, Some(refusal)) => Decision::Refusal(i32::from(refusal)),
        (Some(_), Some(_)) | (None, None) => return Err(Error::Corrupt("decision")),
    };
    Ok(Some(Request { digest: row.request_digest, decision }))
}

/// Keeps a decision.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    key: RequestKey,
    digest: &[u8; 32],
    decision: Decision,
    now: Timestamp,
) -> Result<(), Error> {
    let (deposit_id, refusal) = match decision {
        Decision::Deposit(id) => (Some(id.uuid()), None),
        Decision::Refusal(number) => (None, Some(i16::try_from(number).unwrap_or(i16::MAX))),
    };
    sqlx::query!(
        "insert into payments.requests (request_key, request_digest, deposit_id, refusal, decided_at)
         values ($1, $2, $3, $4, $5)",
        key.0.as_slice(),
        digest.as_slice(),
        deposit_id,
        refusal,
        datetime(now),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Request { what: "keep", source })?;
    Ok(())
}
