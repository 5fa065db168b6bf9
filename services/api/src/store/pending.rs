//! SQL of pending transfers: commands whose outcome was not known when the caller was answered 202.
//!
//! A command is named by its first transfer.

use primitives::{AccountId, KeyId, Timestamp, TransferId};
use proto_events::ledger::v1::Rejection;
use sqlx::PgPool;

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
    /// A place that no transfer of a command has.
    #[error("place {0} of a pending transfer is impossible")]
    ImpossiblePlace(i16),
}

fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Sql { doing, source }
}

/// A command whose outcome was not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Who sends.
    pub account: AccountId,
    /// The API key that asked, if one did.
    pub made_by: Option<KeyId>,
    /// What makes another command the same request.
    pub request: Option<Request>,
    /// The very message, so that asking again is asking the same.
    pub message: Vec<u8>,
    /// The ledger refuses it after this moment.
    pub deadline_at: Timestamp,
    /// When the caller asked.
    pub created_at: Timestamp,
}

/// What makes two commands the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Whose wallet and which `Idempotency-Key`.
    pub key: [u8; 32],
    /// What was asked.
    pub digest: [u8; 32],
}

/// One transfer of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The id the caller was given.
    pub id: TransferId,
    /// The number the caller wrote.
    pub recipient_number: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// For the two people.
    pub note: Option<String>,
}

/// A pending transfer that was found, with its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The transfer.
    pub transfer: Transfer,
    /// What was asked of the ledger.
    pub command: Command,
    /// The command's name.
    pub command_id: TransferId,
    /// Which of the command's transfers it is, from 0.
    pub place: usize,
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

/// Remembers a command with its transfers, and says under which ids: an earlier copy's, if one is
/// remembered. Without transfers there is nothing to remember.
///
/// # Errors
/// The database broke.
pub async fn remember(
    pool: &PgPool,
    command: &Command,
    transfers: &[Transfer],
) -> Result<Vec<TransferId>, Error> {
    let Some(first) = transfers.first() else { return Ok(Vec::new()) };
    let column =
        |of: fn(&Transfer) -> String| -> Vec<String> { transfers.iter().map(of).collect() };
    let ids: Vec<_> = transfers.iter().map(|it| it.id.uuid()).collect();
    let amounts: Vec<i64> = transfers.iter().map(|it| it.amount_minor).collect();
    let done = sqlx::query!(
        "with command as (
             insert into api.pending_commands
                 (command_id, account_id, made_by_key_id, request_key, request_digest, command,
                  deadline_at, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict on constraint pending_commands_one_per_request do nothing
             returning command_id
         )
         insert into api.pending_transfers
             (transfer_id, command_id, place, recipient_number, amount_minor, currency, note)
         select it.transfer_id, command.command_id, it.place - 1, it.recipient_number,
                it.amount_minor, it.currency, nullif(it.note, '')
         from command,
              unnest($9::uuid[], $10::text[], $11::bigint[], $12::text[], $13::text[])
                  with ordinality
                  as it (transfer_id, recipient_number, amount_minor, currency, note, place)",
        first.id.uuid(),
        command.account.uuid(),
        command.made_by.map(KeyId::uuid),
        command.request.map(|it| it.key.to_vec()),
        command.request.map(|it| it.digest.to_vec()),
        command.message,
        command.deadline_at.to_datetime(),
        command.created_at.to_datetime(),
        &ids,
        &column(|it| it.recipient_number.clone()),
        &amounts,
        &column(|it| it.currency.clone()),
        &column(|it| it.note.clone().unwrap_or_default()),
    )
    .execute(pool)
    .await
    .map_err(failed("remember pending transfers"))?;
    match command.request {
        Some(request) if done.rows_affected() == 0 => earlier(pool, request).await,
        Some(_) | None => Ok(transfers.iter().map(|it| it.id).collect()),
    }
}

/// The transfers that an earlier copy of the request was answered with.
async fn earlier(pool: &PgPool, request: Request) -> Result<Vec<TransferId>, Error> {
    let ids = sqlx::query_scalar!(
        "select t.transfer_id
         from api.pending_commands c
         join api.pending_transfers t using (command_id)
         where c.request_key = $1
           and c.request_digest = $2
         order by t.place",
        &request.key[..],
        &request.digest[..],
    )
    .fetch_all(pool)
    .await
    .map_err(failed("find an earlier copy of pending transfers"))?;
    Ok(ids.into_iter().map(TransferId::from_uuid).collect())
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
        "select c.command_id, c.made_by_key_id, c.request_key, c.request_digest, c.command,
                c.deadline_at, c.created_at, t.place, t.recipient_number, t.amount_minor,
                t.currency, t.note, t.settled_as, t.settled_rejection, t.settled_at
         from api.pending_transfers t
         join api.pending_commands c using (command_id)
         where t.transfer_id = $1
           and c.account_id = $2",
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
    let digest = |it: Option<Vec<u8>>| it.and_then(|it| <[u8; 32]>::try_from(it).ok());
    let request = digest(row.request_key).zip(digest(row.request_digest));
    Ok(Some(Pending {
        transfer: Transfer {
            id: transfer,
            recipient_number: row.recipient_number,
            amount_minor: row.amount_minor,
            currency: row.currency,
            note: row.note,
        },
        command: Command {
            account,
            made_by: row.made_by_key_id.map(KeyId::from_uuid),
            request: request.map(|(key, digest)| Request { key, digest }),
            message: row.command,
            deadline_at: Timestamp::from_datetime(row.deadline_at),
            created_at: Timestamp::from_datetime(row.created_at),
        },
        command_id: TransferId::from_uuid(row.command_id),
        place: usize::try_from(row.place).map_err(|_| Error::ImpossiblePlace(row.place))?,
        settled,
    }))
}

fn rejection(number: i32) -> Result<Rejection, Error> {
    Rejection::try_from(number).map_err(|_| Error::UnknownRejection(number))
}

/// Remembers what the ledger said of each transfer of a command, in their order. What was settled
/// stays as it was first.
///
/// # Errors
/// The database broke.
pub async fn settle(pool: &PgPool, command: TransferId, as_: &[Settled]) -> Result<(), Error> {
    let ids: Vec<_> = as_.iter().map(|it| it.as_transfer.uuid()).collect();
    let rejections: Vec<i32> =
        as_.iter().map(|it| it.rejection.unwrap_or_default().into()).collect();
    let moments: Vec<_> = as_.iter().map(|it| it.at.to_datetime()).collect();
    sqlx::query!(
        "update api.pending_transfers t
         set settled_as = it.transfer_id,
             settled_rejection = nullif(it.rejection, 0),
             settled_at = it.at
         from unnest($2::uuid[], $3::integer[], $4::timestamptz[]) with ordinality
                  as it (transfer_id, rejection, at, place)
         where t.command_id = $1
           and t.place = it.place - 1
           and t.settled_at is null",
        command.uuid(),
        &ids,
        &rejections,
        &moments,
    )
    .execute(pool)
    .await
    .map(drop)
    .map_err(failed("settle pending transfers"))
}
