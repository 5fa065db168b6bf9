//! SQL of pending transfers: commands whose outcome was not known when the caller was answered 202.

use primitives::{AccountId, KeyId, Timestamp, TransferId};
use proto_events::ledger::v1::Rejection;
use sqlx::PgPool;
use uuid::Uuid;

/// The database of pending transfers broke, or holds what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("failed to {doing}")]
    Sql {
        /// What was being tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The row names a rejection that this release does not know.
    #[error("rejection {0} of a pending transfer is unknown")]
    UnknownRejection(i32),
}

fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Sql { doing, source }
}

/// A transfer whose outcome was not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The id the caller was given.
    pub transfer: TransferId,
    /// Who sends.
    pub account: AccountId,
    /// The API key that asked, if one did.
    pub made_by: Option<KeyId>,
    /// The very command, so that asking again is asking the same.
    pub command: Vec<u8>,
    /// The ledger refuses it after this moment.
    pub deadline_at: Timestamp,
    /// The number the caller wrote.
    pub recipient_number: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// For the two people.
    pub note: Option<String>,
    /// When the caller asked.
    pub created_at: Timestamp,
    /// What the ledger said when it was asked again.
    pub settled: Option<Settled>,
}

/// What became of a pending transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The transfer decided under the same request key: an earlier copy, if there was one.
    pub as_transfer: TransferId,
    /// Why not, if not.
    pub rejection: Option<Rejection>,
    /// When the ledger decided.
    pub at: Timestamp,
}

/// What makes two pending transfers the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Whose wallet and which `Idempotency-Key`.
    pub key: [u8; 32],
    /// What was asked.
    pub digest: [u8; 32],
}

/// Remembers a transfer and says under which id: an earlier copy's, if one is remembered.
///
/// # Errors
/// The database broke.
pub async fn remember(
    pool: &PgPool,
    it: &Pending,
    request: Option<Request>,
) -> Result<TransferId, Error> {
    sqlx::query_scalar!(
        "insert into api.pending_transfers as p
             (transfer_id, account_id, made_by_key_id, request_key, request_digest, command,
              deadline_at, recipient_number, amount_minor, currency, note, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict on constraint pending_transfers_one_per_request do update
         set transfer_id = p.transfer_id
         returning transfer_id",
        it.transfer.uuid(),
        it.account.uuid(),
        it.made_by.map(KeyId::uuid),
        request.map(|it| it.key.to_vec()),
        request.map(|it| it.digest.to_vec()),
        it.command,
        it.deadline_at.to_datetime(),
        it.recipient_number,
        it.amount_minor,
        it.currency,
        it.note,
        it.created_at.to_datetime(),
    )
    .fetch_one(pool)
    .await
    .map(TransferId::from_uuid)
    .map_err(failed("remember a pending transfer"))
}

/// The pending transfer with this id, if this account sent it.
///
/// # Errors
/// The database broke.
pub async fn find(
    pool: &PgPool,
    account: AccountId,
    transfer: TransferId,
) -> Result<Option<Pending>, Error> {
    let row = sqlx::query!(
        "select made_by_key_id, command, deadline_at, recipient_number, amount_minor, currency,
                note, created_at, settled_as, settled_rejection, settled_at
         from api.pending_transfers
         where transfer_id = $1
           and account_id = $2",
        transfer.uuid(),
        account.uuid(),
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("find a pending transfer"))?;
    let Some(row) = row else { return Ok(None) };
    let settled = match (row.settled_as, row.settled_at) {
        (Some(as_transfer), Some(at)) => Some(Settled {
            as_transfer: TransferId::from_uuid(as_transfer),
            rejection: row.settled_rejection.map(rejection).transpose()?,
            at: Timestamp::from_datetime(at),
        }),
        (_, _) => None,
    };
    Ok(Some(Pending {
        transfer,
        account,
        made_by: row.made_by_key_id.map(KeyId::from_uuid),
        command: row.command,
        deadline_at: Timestamp::from_datetime(row.deadline_at),
        recipient_number: row.recipient_number,
        amount_minor: row.amount_minor,
        currency: row.currency,
        note: row.note,
        created_at: Timestamp::from_datetime(row.created_at),
        settled,
    }))
}

fn rejection(number: i32) -> Result<Rejection, Error> {
    Rejection::try_from(number).map_err(|_| Error::UnknownRejection(number))
}

/// Remembers what the ledger said. What was settled stays as it was first.
///
/// # Errors
/// The database broke.
pub async fn settle(pool: &PgPool, transfer: TransferId, as_: Settled) -> Result<(), Error> {
    sqlx::query!(
        "update api.pending_transfers
         set settled_as = $2, settled_rejection = $3, settled_at = $4
         where transfer_id = $1
           and settled_at is null",
        transfer.uuid(),
        Uuid::from(as_.as_transfer.uuid()),
        as_.rejection.map(i32::from),
        as_.at.to_datetime(),
    )
    .execute(pool)
    .await
    .map(drop)
    .map_err(failed("settle a pending transfer"))
}
