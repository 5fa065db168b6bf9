//! SQL of request keys: one `Idempotency-Key` of a wallet is for one request.

use primitives::{RequestKey, Timestamp};
use sqlx::PgPool;

use super::users::{Error, failed};

/// Takes the key for the request with this digest, and says which request it belongs to: this one,
/// or an earlier one.
///
/// # Errors
/// The database broke.
pub async fn claim(
    pool: &PgPool,
    key: RequestKey,
    digest: [u8; 32],
    now: Timestamp,
) -> Result<Vec<u8>, Error> {
    // The update changes nothing; it makes the row of an earlier or a simultaneous request seen.
    sqlx::query_scalar!(
        "insert into api.request_keys as k
             (request_key, request_digest, first_at)
         values ($1, $2, $3)
         on conflict (request_key) do update
         set request_key = k.request_key
         returning request_digest",
        &key.0[..],
        &digest[..],
        now.to_datetime(),
    )
    .fetch_one(pool)
    .await
    .map_err(failed("claim a request key"))
}
