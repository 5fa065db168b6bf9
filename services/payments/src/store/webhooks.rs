//! Everything Paystack told us: with a good signature, or when we asked ([`super::rounds`]).

use primitives::{DepositId, Timestamp};
use sqlx::{PgConnection, PgPool};

use super::{Error, datetime};

/// Which key had signed a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignedBy {
    /// The one in use.
    Current,
    /// The one before the last rotation.
    Previous,
}

/// A webhook as it came.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    /// Tells repeats apart.
    pub(crate) identity: &'a str,
    /// Its name, if sane.
    pub(crate) event: Option<&'a str>,
    /// The reference it names, if well-formed.
    pub(crate) reference: Option<&'a str>,
    /// Every byte of it.
    pub(crate) body: &'a [u8],
    /// The digest of them.
    pub(crate) body_sha256: &'a [u8],
    /// By whom.
    pub(crate) signed_by: SignedBy,
}

/// A webhook that nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct New {
    /// The row.
    pub(crate) webhook_id: i64,
    /// Every byte of it.
    pub(crate) body: Vec<u8>,
}

/// Stores a webhook; says whether it had not been told before.
pub(crate) async fn insert(
    pool: &PgPool,
    received: &Received<'_>,
    now: Timestamp,
) -> Result<bool, Error> {
    let signed_by = match received.signed_by {
        SignedBy::Current => "current",
        SignedBy::Previous => "previous",
    };
    sqlx::query_scalar!(
        r#"insert into payments.webhooks
               (identity, event, reference, body, body_sha256, signed_by, received_at, last_received_at)
           values ($1, $2, $3, $4, $5, $6, $7, $7)
           on conflict (identity) do update
               set n_received = webhooks.n_received + 1, last_received_at = excluded.last_received_at
           returning n_received = 1 as "is_new!""#,
        received.identity,
        received.event,
        received.reference,
        received.body,
        received.body_sha256,
        signed_by,
        datetime(now),
    )
    .fetch_one(pool)
    .await
    .map_err(|source| Error::Webhook { what: "store", source })
}

/// Takes the oldest webhook that nobody else has in hand, until the transaction ends.
pub(crate) async fn take(conn: &mut PgConnection) -> Result<Option<New>, Error> {
    sqlx::query_as!(
        New,
        "select webhook_id, body
         from payments.webhooks
         where state = 'new'
         order by webhook_id
         limit 1
         for update skip locked",
    )
    .fetch_optional(conn)
    .await
    .map_err(|source| Error::Webhook { what: "take", source })
}

/// Says what became of a webhook; with a reason it waits for a person.
///
/// Unless somebody `is_told`, the commit does not wait for the disk, which belongs to the door: after
/// a power cut the webhook is as new as its deposit is untouched.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    webhook_id: i64,
    deposit_id: Option<DepositId>,
    reason: Option<&str>,
    is_told: bool,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "with commit as (
             select set_config('synchronous_commit',
                               case when $5 then current_setting('synchronous_commit') else 'off' end,
                               true)
         )
         update payments.webhooks
         set state = case when $3::text is null then 'handled' else 'parked' end,
             reason = $3, deposit_id = $2, handled_at = $4
         from commit
         where webhook_id = $1",
        webhook_id,
        deposit_id.map(DepositId::uuid),
        reason,
        datetime(now),
        is_told,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Webhook { what: "settle", source })?;
    Ok(())
}

/// How many webhooks wait for a person.
pub(crate) async fn count_parked(pool: &PgPool) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "n_parked!" from payments.webhooks where state = 'parked'"#,
    )
    .fetch_one(pool)
    .await
    .map_err(|source| Error::Webhook { what: "count", source })
}
