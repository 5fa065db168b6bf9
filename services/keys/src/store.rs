//! All SQL of the service.
//!
//! Lock order: the person's row in `owners`, then rows of `keys`; `flush_uses` locks only rows of
//! `keys` and skips those that are held, so it waits for nobody and nobody deadlocks with it.

use primitives::{KeyId, RequestKey, Timestamp, UserId};
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::key::{Digest, Key, Name, Permissions, Refusal};
use crate::wire::Request;

/// Most keys in one list; those that are good always are among them.
const KEYS_LISTED_MAX: i64 = 1_000;

/// What was being tried when Postgres, or what it holds, let us down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to begin")]
    Begin(#[source] sqlx::Error),
    #[error("failed to lock a person's keys")]
    LockOwner(#[source] sqlx::Error),
    #[error("failed to find a request")]
    FindRequest(#[source] sqlx::Error),
    #[error("failed to save how a request ended")]
    SaveRequest(#[source] sqlx::Error),
    #[error("failed to find a key")]
    FindKey(#[source] sqlx::Error),
    #[error("failed to list keys")]
    ListKeys(#[source] sqlx::Error),
    #[error("failed to count active keys")]
    CountActive(#[source] sqlx::Error),
    #[error("failed to insert a key")]
    InsertKey(#[source] sqlx::Error),
    #[error("failed to note a key's successor")]
    RollOver(#[source] sqlx::Error),
    #[error("failed to revoke a key")]
    Revoke(#[source] sqlx::Error),
    #[error("failed to save {n_uses} uses")]
    FlushUses {
        n_uses: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("column {column} holds what no release wrote")]
    Unreadable { column: &'static str },
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The key that was made or ended.
    Done(KeyId),
    Refused(Refusal),
}

/// A request as it was the first time.
#[derive(Debug)]
pub(crate) struct KeptRequest {
    pub(crate) user_id: UserId,
    pub(crate) digest: Vec<u8>,
    pub(crate) ending: Ending,
}

/// Holds a person's keys until the transaction ends: whoever counts them has them alone.
pub(crate) async fn lock_owner(conn: &mut PgConnection, user_id: UserId) -> Result<(), Error> {
    sqlx::query!(
        "insert into keys.owners (user_id) values ($1) on conflict do nothing",
        user_id.uuid(),
    )
    .execute(&mut *conn)
    .await
    .map_err(Error::LockOwner)?;
    sqlx::query!(
        "select user_id from keys.owners where user_id = $1 for no key update",
        user_id.uuid(),
    )
    .fetch_one(conn)
    .await
    .map_err(Error::LockOwner)?;
    Ok(())
}

/// How the request under `request_key` ended, if it was made before.
pub(crate) async fn find_request(
    conn: &mut PgConnection,
    request_key: &RequestKey,
) -> Result<Option<KeptRequest>, Error> {
    let row = sqlx::query!(
        "select user_id, request_digest, key_id, refusal from keys.requests where request_key = $1",
        &request_key.0[..],
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::FindRequest)?;
    let Some(row) = row else { return Ok(None) };
    let ending = match (row.key_id, row.refusal) {
        (Some(key_id), None) => Ending::Done(KeyId::from_uuid(key_id)),
        (None, Some(code)) => {
            let unreadable = Error::Unreadable { column: "requests.refusal" };
            Ending::Refused(Refusal::from_code(&code).ok_or(unreadable)?)
        }
        _ => return Err(Error::Unreadable { column: "requests.key_id" }),
    };
    let user_id = UserId::from_uuid(row.user_id);
    Ok(Some(KeptRequest { user_id, digest: row.request_digest, ending }))
}

/// Keeps how a request ended, for ever.
pub(crate) async fn save_request(
    conn: &mut PgConnection,
    user_id: UserId,
    request: &Request,
    ending: Ending,
    now: Timestamp,
) -> Result<(), Error> {
    let (key_id, refusal) = match ending {
        Ending::Done(key_id) => (Some(key_id.uuid()), None),
        Ending::Refused(refusal) => (None, Some(refusal.code())),
    };
    sqlx::query!(
        "insert into keys.requests (request_key, user_id, request_digest, key_id, refusal, decided_at)
         values ($1, $2, $3, $4, $5, $6)",
        &request.key.0[..],
        user_id.uuid(),
        request.digest,
        key_id,
        refusal,
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::SaveRequest)?;
    Ok(())
}

struct Row {
    key_id: Uuid,
    user_id: Uuid,
    name: String,
    prefix: String,
    digest: Vec<u8>,
    permissions: i16,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    revoked_at: Option<OffsetDateTime>,
    rolled_over_to: Option<Uuid>,
    last_used_at: Option<OffsetDateTime>,
}

impl Row {
    fn read(self) -> Result<Key, Error> {
        let unreadable = |column| Error::Unreadable { column };
        Ok(Key {
            id: KeyId::from_uuid(self.key_id),
            user_id: UserId::from_uuid(self.user_id),
            name: Name::parse(&self.name).map_err(|_| unreadable("keys.name"))?,
            prefix: self.prefix,
            digest: Digest(self.digest.try_into().map_err(|_| unreadable("keys.digest"))?),
            permissions: Permissions::from_bits(self.permissions)
                .map_err(|_| unreadable("keys.permissions"))?,
            created_at: Timestamp::from_datetime(self.created_at),
            expires_at: Timestamp::from_datetime(self.expires_at),
            revoked_at: self.revoked_at.map(Timestamp::from_datetime),
            rolled_over_to: self.rolled_over_to.map(KeyId::from_uuid),
            last_used_at: self.last_used_at.map(Timestamp::from_datetime),
        })
    }
}

/// One key, whoever it belongs to.
pub(crate) async fn find_key(conn: &mut PgConnection, key_id: KeyId) -> Result<Option<Key>, Error> {
    sqlx::query_as!(
        Row,
        "select key_id, user_id, name, prefix, digest, permissions, created_at, expires_at,
                revoked_at, rolled_over_to, last_used_at
         from keys.keys
         where key_id = $1",
        key_id.uuid(),
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::FindKey)?
    .map(Row::read)
    .transpose()
}

/// The key with this digest. One look-up in a unique index: how long it takes can tell about
/// digests only, and a digest leads to no key.
pub(crate) async fn find_key_by_digest(
    conn: &mut PgConnection,
    digest: Digest,
) -> Result<Option<Key>, Error> {
    sqlx::query_as!(
        Row,
        "select key_id, user_id, name, prefix, digest, permissions, created_at, expires_at,
                revoked_at, rolled_over_to, last_used_at
         from keys.keys
         where digest = $1",
        &digest.0[..],
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::FindKey)?
    .map(Row::read)
    .transpose()
}

/// A person's keys, newest first; beyond a thousand, the oldest that are not good are left out.
pub(crate) async fn list_keys(
    conn: &mut PgConnection,
    user_id: UserId,
    now: Timestamp,
) -> Result<Vec<Key>, Error> {
    sqlx::query_as!(
        Row,
        "select key_id, user_id, name, prefix, digest, permissions, created_at, expires_at,
                revoked_at, rolled_over_to, last_used_at
         from (
             select *
             from keys.keys
             where user_id = $1
             order by (revoked_at is null and expires_at > $2) desc, created_at desc, key_id desc
             limit $3
         ) as listed
         order by created_at desc, key_id desc",
        user_id.uuid(),
        now.to_datetime(),
        KEYS_LISTED_MAX,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::ListKeys)?
    .into_iter()
    .map(Row::read)
    .collect()
}

/// How many keys of a person are good. The person's row is held.
pub(crate) async fn count_active(
    conn: &mut PgConnection,
    user_id: UserId,
    now: Timestamp,
) -> Result<u32, Error> {
    let n_active = sqlx::query_scalar!(
        r#"select count(*) as "n_active!"
           from keys.keys
           where user_id = $1 and revoked_at is null and expires_at > $2"#,
        user_id.uuid(),
        now.to_datetime(),
    )
    .fetch_one(conn)
    .await
    .map_err(Error::CountActive)?;
    u32::try_from(n_active).map_err(|_| Error::Unreadable { column: "count" })
}

/// Keeps a new key.
pub(crate) async fn insert_key(conn: &mut PgConnection, key: &Key) -> Result<(), Error> {
    sqlx::query!(
        "insert into keys.keys
             (key_id, user_id, name, prefix, digest, permissions, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        key.id.uuid(),
        key.user_id.uuid(),
        key.name.as_str(),
        key.prefix,
        &key.digest.0[..],
        key.permissions.bits(),
        key.created_at.to_datetime(),
        key.expires_at.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::InsertKey)?;
    Ok(())
}

/// Notes which key took the place of `expired`.
pub(crate) async fn roll_over(
    conn: &mut PgConnection,
    expired: KeyId,
    successor: KeyId,
) -> Result<(), Error> {
    sqlx::query!(
        "update keys.keys set rolled_over_to = $2 where key_id = $1",
        expired.uuid(),
        successor.uuid(),
    )
    .execute(conn)
    .await
    .map_err(Error::RollOver)?;
    Ok(())
}

/// Ends a key that was not ended before.
pub(crate) async fn revoke(
    conn: &mut PgConnection,
    key_id: KeyId,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "update keys.keys set revoked_at = $2 where key_id = $1",
        key_id.uuid(),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::Revoke)?;
    Ok(())
}

/// Saves when keys were used, in one statement; the answer names those that are saved.
pub(crate) async fn flush_uses(
    conn: &mut PgConnection,
    uses: &[(KeyId, Timestamp)],
) -> Result<Vec<KeyId>, Error> {
    let (key_ids, used_at): (Vec<Uuid>, Vec<OffsetDateTime>) =
        uses.iter().map(|(key_id, at)| (key_id.uuid(), at.to_datetime())).unzip();
    let saved = sqlx::query_scalar!(
        "with used as (
             select keys.key_id, used.used_at
             from unnest($1::uuid[], $2::timestamptz[]) as used (key_id, used_at)
             join keys.keys on keys.key_id = used.key_id
             order by keys.key_id
             for no key update of keys skip locked
         )
         update keys.keys
         set last_used_at = greatest(keys.last_used_at, used.used_at)
         from used
         where keys.key_id = used.key_id
         returning keys.key_id",
        &key_ids[..],
        &used_at[..],
    )
    .fetch_all(conn)
    .await
    .map_err(|source| Error::FlushUses { n_uses: uses.len(), source })?;
    Ok(saved.into_iter().map(KeyId::from_uuid).collect())
}
