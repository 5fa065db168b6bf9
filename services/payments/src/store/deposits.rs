//! Deposits and their attempts.

use primitives::{DepositId, Timestamp};
use sqlx::{PgConnection, PgPool};

use super::row::{Row, confirming, phase_name, small, suspense_name};
use super::{Error, datetime};
use crate::lifecycle::{Deposit, Reason};
use crate::reference::Reference;

/// What Paystack's checkout needs besides the deposit itself.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    /// The person's address.
    pub(crate) email: String,
    /// Where the browser goes afterwards.
    pub(crate) callback_url: Option<String>,
}

/// What becomes of the time a deposit is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// It stays.
    Keep,
    /// It is this; `None` for not by itself.
    At(Option<Timestamp>),
}

/// What becomes of a worker's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Whoever has it keeps it.
    Keep,
    /// The worker that saves is done with it.
    Release,
}

/// How many deposits stand in one state.
#[derive(Debug)]
pub(crate) struct Count {
    /// As stored.
    pub(crate) state: String,
    /// How many.
    pub(crate) n_deposits: i64,
}

/// Stores an intent and its first attempt, due at once.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    deposit: &Deposit,
    contact: &Contact,
    request_digest: &[u8; 32],
) -> Result<(), Error> {
    let failed = |source| Error::Deposit { what: "insert", source };
    sqlx::query!(
        "insert into payments.deposits
             (deposit_id, account_id, email, amount_minor, currency, callback_url, request_digest,
              credit_transfer_id, created_at, state, attempt_number, attempts_left, wait_until,
              abandon_at, forget_at, n_looks, due_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'initiated', $10, $11, $12, $13, $14, 0, $9)",
        deposit.deposit_id.uuid(),
        deposit.account_id.uuid(),
        contact.email,
        deposit.amount.to_i64(),
        deposit.currency.as_str(),
        contact.callback_url,
        request_digest.as_slice(),
        deposit.credit_transfer_id.uuid(),
        datetime(deposit.created_at),
        small(deposit.attempt.number),
        small(deposit.attempts_left),
        deposit.wait_until.map(datetime),
        datetime(deposit.abandon_at),
        datetime(deposit.forget_at),
    )
    .execute(&mut *conn)
    .await
    .map_err(failed)?;
    save_attempt(conn, deposit, deposit.created_at).await
}

/// Reads a deposit and keeps everybody else from changing it until the transaction ends.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    deposit_id: DepositId,
) -> Result<Option<Deposit>, Error> {
    let row = sqlx::query_as!(
        Row,
        "select d.deposit_id, d.account_id, d.amount_minor, d.currency, d.credit_transfer_id,
                d.created_at, d.state, d.review_reason, d.confirming_reference, d.confirm_until,
                d.attempt_number, d.attempts_left, d.authorization_url, d.access_code,
                d.wait_until, d.abandon_at, d.forget_at, d.n_looks, d.paid_reference, d.paid_at,
                d.paid_minor, d.paid_currency, d.provider_transaction_id, d.suspense, d.n_accepted,
                d.credited_at, a.reference, a.phase
         from payments.deposits d
         join payments.attempts a using (deposit_id, attempt_number)
         where d.deposit_id = $1
         for update of d",
        deposit_id.uuid(),
    )
    .fetch_optional(conn)
    .await
    .map_err(|source| Error::Deposit { what: "lock", source })?;
    row.map(Row::read).transpose()
}

/// Reads a deposit as it was last committed.
pub(crate) async fn load(pool: &PgPool, deposit_id: DepositId) -> Result<Option<Deposit>, Error> {
    let row = sqlx::query_as!(
        Row,
        "select d.deposit_id, d.account_id, d.amount_minor, d.currency, d.credit_transfer_id,
                d.created_at, d.state, d.review_reason, d.confirming_reference, d.confirm_until,
                d.attempt_number, d.attempts_left, d.authorization_url, d.access_code,
                d.wait_until, d.abandon_at, d.forget_at, d.n_looks, d.paid_reference, d.paid_at,
                d.paid_minor, d.paid_currency, d.provider_transaction_id, d.suspense, d.n_accepted,
                d.credited_at, a.reference, a.phase
         from payments.deposits d
         join payments.attempts a using (deposit_id, attempt_number)
         where d.deposit_id = $1",
        deposit_id.uuid(),
    )
    .fetch_optional(pool)
    .await
    .map_err(|source| Error::Deposit { what: "load", source })?;
    row.map(Row::read).transpose()
}

/// Writes what a step changed.
pub(crate) async fn save(
    conn: &mut PgConnection,
    deposit: &Deposit,
    due: Due,
    claim: Claim,
    now: Timestamp,
) -> Result<(), Error> {
    // The attempt first: a deposit may name it only once it is there.
    save_attempt(&mut *conn, deposit, now).await?;
    let (confirming_reference, confirm_until) = confirming(&deposit.state);
    let paid = deposit.paid.as_ref();
    let (keep_due, due_at) = match due {
        Due::Keep => (true, None),
        Due::At(moment) => (false, moment.map(datetime)),
    };
    sqlx::query!(
        "update payments.deposits
         set state = $2, review_reason = $3, confirming_reference = $4, confirm_until = $5,
             attempt_number = $6, attempts_left = $7, authorization_url = $8, access_code = $9,
             wait_until = $10, n_looks = $11, paid_reference = $12, paid_at = $13,
             paid_minor = $14, paid_currency = $15, provider_transaction_id = $16, suspense = $17,
             n_accepted = $18, credited_at = $19,
             due_at = case when $20 then due_at else $21 end,
             claimed_until = case when $22 then null else claimed_until end
         where deposit_id = $1",
        deposit.deposit_id.uuid(),
        deposit.state.name(),
        deposit.state.reason().map(Reason::code),
        confirming_reference,
        confirm_until,
        small(deposit.attempt.number),
        small(deposit.attempts_left),
        deposit.checkout.as_ref().map(|it| &*it.authorization_url),
        deposit.checkout.as_ref().map(|it| &*it.access_code),
        deposit.wait_until.map(datetime),
        i32::try_from(deposit.n_looks).unwrap_or(i32::MAX),
        paid.map(|it| it.reference.as_str()),
        paid.map(|it| datetime(it.paid_at)),
        paid.map(|it| it.amount.to_i64()),
        paid.map(|it| it.currency.as_str()),
        paid.and_then(|it| it.provider_id.as_deref()),
        suspense_name(deposit.suspense),
        small(deposit.n_accepted),
        deposit.credited_at.map(datetime),
        keep_due,
        due_at,
        claim == Claim::Release,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Deposit { what: "save", source })?;
    Ok(())
}

/// Takes up to `room` due deposits of these states into one worker's hands.
///
/// State by state down an index, because a sort of all that is due would make each claim cost more
/// the more is waiting. The disk is not waited for: a claim is a hint, and one that a power cut took
/// is made again.
pub(crate) async fn claim(
    pool: &PgPool,
    states: &[String],
    now: Timestamp,
    until: Timestamp,
    room: i64,
) -> Result<Vec<DepositId>, Error> {
    let ids = sqlx::query_scalar!(
        "with due as (
             select d.deposit_id
             from (select set_config('synchronous_commit', 'off', true)) as lazily
             cross join unnest($2::text[]) as wanted (state)
             cross join lateral (
                 select deposit_id, due_at
                 from payments.deposits
                 where state = wanted.state
                   and due_at <= $1
                   and (claimed_until is null or claimed_until <= $1)
                 order by due_at
                 limit $4
                 for update skip locked
             ) d
             order by (wanted.state = 'confirming') desc, d.due_at
             limit $4
         )
         update payments.deposits d
         set claimed_until = $3, looked_at = $1
         from due
         where d.deposit_id = due.deposit_id
         returning d.deposit_id",
        datetime(now),
        states,
        datetime(until),
        room,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Deposit { what: "claim", source })?;
    Ok(ids.into_iter().map(DepositId::from_uuid).collect())
}

/// Gives a worker's claim back.
pub(crate) async fn release(pool: &PgPool, deposit_id: DepositId) -> Result<(), Error> {
    sqlx::query!(
        "update payments.deposits set claimed_until = null where deposit_id = $1",
        deposit_id.uuid(),
    )
    .execute(pool)
    .await
    .map_err(|source| Error::Deposit { what: "release", source })?;
    Ok(())
}

/// What Paystack's checkout needs besides the deposit.
pub(crate) async fn contact(pool: &PgPool, deposit_id: DepositId) -> Result<Contact, Error> {
    sqlx::query_as!(
        Contact,
        "select email, callback_url from payments.deposits where deposit_id = $1",
        deposit_id.uuid(),
    )
    .fetch_one(pool)
    .await
    .map_err(|source| Error::Deposit { what: "load the contact of", source })
}

/// The digest of what was asked for under a deposit's id, if there is such a deposit.
pub(crate) async fn digest(
    conn: &mut PgConnection,
    deposit_id: DepositId,
) -> Result<Option<Vec<u8>>, Error> {
    sqlx::query_scalar!(
        "select request_digest from payments.deposits where deposit_id = $1",
        deposit_id.uuid(),
    )
    .fetch_optional(conn)
    .await
    .map_err(|source| Error::Deposit { what: "look up", source })
}

/// The deposit that has this reference among its attempts.
pub(crate) async fn of_reference(
    conn: &mut PgConnection,
    reference: &Reference,
) -> Result<Option<DepositId>, Error> {
    let id = sqlx::query_scalar!(
        "select deposit_id from payments.attempts where reference = $1",
        reference.as_str(),
    )
    .fetch_optional(conn)
    .await
    .map_err(|source| Error::Deposit { what: "look up", source })?;
    Ok(id.map(DepositId::from_uuid))
}

/// The deposit that was paid by this transaction at Paystack.
pub(crate) async fn of_transaction(
    conn: &mut PgConnection,
    transaction_id: &str,
) -> Result<Option<DepositId>, Error> {
    // Paystack's ids are its own, so there is one at most; of two, neither is this one's.
    let ids = sqlx::query_scalar!(
        "select deposit_id from payments.deposits where provider_transaction_id = $1 limit 2",
        transaction_id,
    )
    .fetch_all(conn)
    .await
    .map_err(|source| Error::Deposit { what: "look up", source })?;
    Ok(<[_; 1]>::try_from(ids).ok().map(|[id]| DepositId::from_uuid(id)))
}

/// Lets an open deposit be verified soon, unless somebody has just looked. Says whether it will be.
pub(crate) async fn look_soon(
    pool: &PgPool,
    deposit_id: DepositId,
    now: Timestamp,
    not_looked_since: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "update payments.deposits
         set due_at = $2
         where deposit_id = $1
           and state = 'pending'
           and due_at > $2
           and coalesce(looked_at, created_at) < $3",
        deposit_id.uuid(),
        datetime(now),
        datetime(not_looked_since),
    )
    .execute(pool)
    .await
    .map_err(|source| Error::Deposit { what: "wake", source })?;
    Ok(done.rows_affected() > 0)
}

/// How many deposits stand in each state but those that only grow.
pub(crate) async fn count(pool: &PgPool) -> Result<Vec<Count>, Error> {
    sqlx::query_as!(
        Count,
        r#"select state, count(*) as "n_deposits!"
           from payments.deposits
           where state <> 'credited' and state not in ('expired', 'rejected')
           group by state
           order by state"#,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Deposit { what: "count", source })
}

async fn save_attempt(
    conn: &mut PgConnection,
    deposit: &Deposit,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into payments.attempts (reference, deposit_id, attempt_number, phase, created_at)
         values ($1, $2, $3, $4, $5)
         on conflict (reference) do update set phase = excluded.phase
         where attempts.phase <> excluded.phase",
        deposit.attempt.reference.as_str(),
        deposit.deposit_id.uuid(),
        small(deposit.attempt.number),
        phase_name(deposit.attempt.phase),
        datetime(now),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Deposit { what: "save an attempt of", source })?;
    Ok(())
}
