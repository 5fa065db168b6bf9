//! SQL of request keys: one `Idempotency-Key` of a wallet is for one request.

use std::collections::BTreeMap;

use chassis::postgres::Kept;
use primitives::{RequestKey, Timestamp};
use sqlx::PgConnection;

use super::users::{Error, failed};

/// A key, and the request that wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whose wallet and which `Idempotency-Key`.
    pub key: RequestKey,
    /// What is asked.
    pub digest: [u8; 32],
}

/// Takes the keys that are free, and says of each claim whether its key is for this very request.
///
/// Unless `is_durable`, a crash of Postgres may forget the keys of its last moment. That is for
/// requests whose owner keeps key and digest for ever beside the outcome, and refuses another
/// request by itself; the wait for the disk would add nothing but time.
///
/// # Errors
/// The database broke.
pub async fn claim(
    conns: &Kept,
    claims: &[Claim],
    now: Timestamp,
    is_durable: bool,
) -> Result<Vec<bool>, Error> {
    let mut free: BTreeMap<[u8; 32], [u8; 32]> = BTreeMap::new();
    for claim in claims {
        free.entry(claim.key.0).or_insert(claim.digest);
    }
    // In the order of keys: two replicas that take the same ones wait, and never for each other.
    let (keys, digests): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
        free.iter().map(|(key, digest)| (key.to_vec(), digest.to_vec())).unzip();
    let mut conn = conns.take().await.map_err(failed("claim request keys"))?;
    let taken = sqlx::query!(
        "with commit as (
             select set_config('synchronous_commit',
                               case when $4 then current_setting('synchronous_commit') else 'off' end,
                               true)
         )
         insert into api.request_keys (request_key, request_digest, first_at)
         select it.request_key, it.request_digest, $3
         from commit, unnest($1::bytea[], $2::bytea[]) as it (request_key, request_digest)
         on conflict (request_key) do nothing",
        &keys,
        &digests,
        now.to_datetime(),
        is_durable,
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("claim request keys"))?;
    let is_new = usize::try_from(taken.rows_affected()).is_ok_and(|it| it == keys.len());
    let first = if is_new { free } else { digests_of(&mut conn, &keys).await? };
    conns.keep(conn);
    Ok(claims.iter().map(|it| first.get(&it.key.0) == Some(&it.digest)).collect())
}

/// What the keys were first used for.
async fn digests_of(
    conn: &mut PgConnection,
    keys: &[Vec<u8>],
) -> Result<BTreeMap<[u8; 32], [u8; 32]>, Error> {
    let rows = sqlx::query!(
        "select request_key, request_digest
         from api.request_keys
         where request_key = any($1)",
        keys,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look up request keys"))?;
    let unreadable = |_| Error::Unreadable { table: "api.request_keys" };
    rows.into_iter()
        .map(|it| {
            let key = it.request_key.try_into().map_err(unreadable)?;
            Ok((key, it.request_digest.try_into().map_err(unreadable)?))
        })
        .collect()
}
