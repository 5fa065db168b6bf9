//! Work that one process does for all of them, and webhooks that we fetched ourselves.

use primitives::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::{Error, at, datetime};
use crate::notice::Notice;

/// Which work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Fetching webhooks that Paystack could not deliver.
    Missed,
    /// Comparing days.
    Nightly,
}

impl Round {
    /// As stored.
    const fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Nightly => "nightly",
        }
    }
}

/// A round in hand, until it is finished or its time is over.
#[derive(Debug)]
pub(crate) struct Lease {
    round: Round,
    until: Timestamp,
}

impl Lease {
    /// It is ours so long.
    pub(crate) const fn until(&self) -> Timestamp {
        self.until
    }
}

/// A round that was taken up.
#[derive(Debug)]
pub(crate) struct Taken {
    /// In our hands for now.
    pub(crate) lease: Lease,
    /// Everything before this moment was done; for a new round, since when it is known.
    pub(crate) done_until: Timestamp,
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Round { what, source }
}

/// Says when a round is due that has never been.
pub(crate) async fn begin(pool: &PgPool, round: Round, due_at: Timestamp) -> Result<(), Error> {
    sqlx::query!(
        "update payments.rounds set due_at = $2 where what = $1 and due_at is null",
        round.name(),
        datetime(due_at),
    )
    .execute(pool)
    .await
    .map_err(failed("begin"))?;
    Ok(())
}

/// Has a round taken up as soon as somebody looks, if it is in nobody's hands.
pub(crate) async fn hasten(
    conn: &mut PgConnection,
    round: Round,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "update payments.rounds set due_at = least(due_at, $2) where what = $1",
        round.name(),
        datetime(now),
    )
    .execute(conn)
    .await
    .map_err(failed("hasten"))?;
    Ok(())
}

/// Takes up a round that is due and that nobody else has in hand.
pub(crate) async fn take(
    pool: &PgPool,
    round: Round,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Taken>, Error> {
    let taken = sqlx::query!(
        r#"update payments.rounds
           set claimed_until = $3
           where what = $1 and due_at <= $2 and (claimed_until is null or claimed_until <= $2)
           returning coalesce(done_until, known_since) as "done_until!""#,
        round.name(),
        datetime(now),
        datetime(until),
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("take up"))?;
    let lease = Lease { round, until };
    Ok(taken.map(|it| Taken { lease, done_until: at(it.done_until) }))
}

/// Promises to say more by `until`; false if somebody else has taken it up.
pub(crate) async fn renew(
    pool: &PgPool,
    lease: &mut Lease,
    until: Timestamp,
) -> Result<bool, Error> {
    if until <= lease.until {
        return Ok(true);
    }
    let done = sqlx::query!(
        "update payments.rounds set claimed_until = $3 where what = $1 and claimed_until = $2",
        lease.round.name(),
        datetime(lease.until),
        datetime(until),
    )
    .execute(pool)
    .await
    .map_err(failed("renew"))?;
    lease.until = until;
    Ok(done.rows_affected() > 0)
}

/// Whether it is still in our hands, and nobody takes it out of them before the transaction ends.
pub(crate) async fn hold(conn: &mut PgConnection, lease: &Lease) -> Result<bool, Error> {
    let held = sqlx::query_scalar!(
        "select what from payments.rounds where what = $1 and claimed_until = $2 for update",
        lease.round.name(),
        datetime(lease.until),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("hold"))?;
    Ok(held.is_some())
}

/// Gives a round back until `due_at`; with `done_until`, everything before that moment was done.
/// Nothing happens if it is somebody else's by now.
pub(crate) async fn give_back(
    pool: &PgPool,
    lease: Lease,
    due_at: Timestamp,
    done_until: Option<Timestamp>,
) -> Result<(), Error> {
    sqlx::query!(
        "update payments.rounds
         set claimed_until = null, due_at = $3,
             done_until = case when $4::timestamptz is null then done_until
                               else greatest(done_until, $4) end
         where what = $1 and claimed_until = $2",
        lease.round.name(),
        datetime(lease.until),
        datetime(due_at),
        done_until.map(datetime),
    )
    .execute(pool)
    .await
    .map_err(failed("give back"))?;
    Ok(())
}

/// Stores a webhook that we fetched, unless its fact was told before; says whether it was not.
pub(crate) async fn insert_pulled(
    pool: &PgPool,
    notice: &Notice,
    (body, body_sha256): (&[u8], &[u8]),
    now: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "insert into payments.webhooks
             (identity, event, reference, body, body_sha256, signed_by, received_at, last_received_at)
         values ($1, $2, $3, $4, $5, 'pulled', $6, $6)
         on conflict (identity) do nothing",
        notice.identity,
        notice.event,
        notice.reference.as_ref().map(|it| it.as_str()),
        body,
        body_sha256,
        datetime(now),
    )
    .execute(pool)
    .await
    .map_err(|source| Error::Webhook { what: "store", source })?;
    Ok(done.rows_affected() > 0)
}
