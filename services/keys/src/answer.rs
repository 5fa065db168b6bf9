//! Answers queries: is this key good, and which keys does a person have.

use bus::answer::Failure;
use bytes::Bytes;
use chassis::postgres::Kept;
use primitives::{Timestamp, UserId};
use prost::Message;
use proto_events::convert::{self, WireId};
use proto_events::keys::v1 as wire;
use proto_events::subjects;
use sqlx::PgPool;
use sqlx::pool::PoolConnection;
use tokio_util::sync::CancellationToken;

use crate::key::{self, Denial, Digest};
use crate::uses::Uses;
use crate::wire::{print_key, verified};
use crate::{metrics, store};

/// Connections that stay with the verifications, which come by the thousand.
const KEPT: usize = 2;
/// Replicas share the questions.
const QUEUE: &str = "keys";

/// Answers [`wire::VerifyKey`] until shutdown.
pub(crate) async fn verify(
    client: async_nats::Client,
    pool: PgPool,
    uses: Uses,
    shutdown: CancellationToken,
) -> Result<(), bus::answer::Error> {
    let conns = Kept::of(&pool, KEPT);
    let handler = move |payload| {
        let (conns, uses) = (conns.clone(), uses.clone());
        async move { verify_one(&conns, &uses, payload, Timestamp::now()).await }
    };
    bus::answer::serve(client, subjects::keys::VERIFY_KEY, QUEUE, shutdown, handler).await
}

/// Looks a digest up, and compares it once more in constant time ([`key::check`]).
async fn verify_one(
    conns: &Kept,
    uses: &Uses,
    payload: Bytes,
    now: Timestamp,
) -> Result<Vec<u8>, Failure> {
    let query = wire::VerifyKey::decode(payload).map_err(Failure::new)?;
    let digest = convert::digest("digest", &query.digest).map(Digest).map_err(Failure::new)?;
    let mut conn = conns.take().await.map_err(unreachable)?;
    let found = store::find_key_by_digest(&mut conn, digest).await.map_err(Failure::new)?;
    conns.keep(conn);
    let decided = key::check(found.as_ref(), digest, now);
    let result = match &decided {
        Ok(grant) => {
            uses.touch(grant.key_id, now);
            "granted"
        }
        Err(Denial::Unknown) => "unknown",
        Err(Denial::Revoked) => "revoked",
        Err(Denial::Expired) => "expired",
    };
    metrics::VERIFICATIONS.with_label_values(&[result]).inc();
    Ok(verified(decided).encode_to_vec())
}

/// Answers [`wire::ListKeys`] until shutdown.
pub(crate) async fn list(
    client: async_nats::Client,
    pool: PgPool,
    shutdown: CancellationToken,
) -> Result<(), bus::answer::Error> {
    let handler = move |payload| {
        let pool = pool.clone();
        async move { list_one(&pool, payload, Timestamp::now()).await }
    };
    bus::answer::serve(client, subjects::keys::LIST_KEYS, QUEUE, shutdown, handler).await
}

async fn list_one(pool: &PgPool, payload: Bytes, now: Timestamp) -> Result<Vec<u8>, Failure> {
    let query = wire::ListKeys::decode(payload).map_err(Failure::new)?;
    let user_id = UserId::read("user_id", &query.user_id).map_err(Failure::new)?;
    let mut conn = acquire(pool).await?;
    let keys = store::list_keys(&mut conn, user_id, now).await.map_err(Failure::new)?;
    let keys = keys.iter().map(|key| print_key(key, now)).collect();
    Ok(wire::Keys { keys }.encode_to_vec())
}

async fn acquire(pool: &PgPool) -> Result<PoolConnection<sqlx::Postgres>, Failure> {
    pool.acquire().await.map_err(unreachable)
}

fn unreachable(source: sqlx::Error) -> Failure {
    Failure::new(store::Error::Begin(source))
}
