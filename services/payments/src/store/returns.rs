//! Returns: refunds, those that were found too, and disputes.
//!
//! Whoever changes one holds its deposit's row; that is the lock of all returns of a deposit.

use primitives::{AccountId, Amount, DepositId, ReturnId, Timestamp};
use sqlx::{PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::deposits::{Claim, Due};
use super::row::{amount_of, currency_of, reference_of, small};
use super::{Error, at, datetime};
use crate::returns::{Cover, Kind, Payment, Reason, Return, Source, State};

/// A return as Postgres has it, with its deposit's wallet.
struct Row {
    return_id: Uuid,
    deposit_id: Uuid,
    account_id: Uuid,
    kind: String,
    source: String,
    reference: String,
    currency: String,
    amount_minor: Option<i64>,
    taken_minor: Option<i64>,
    created_at: OffsetDateTime,
    state: String,
    review_reason: Option<String>,
    cover: String,
    n_holds: i16,
    n_refused: i16,
    provider_id: Option<String>,
    n_asked: i16,
    asked_at: Option<OffsetDateTime>,
    answer_by: Option<OffsetDateTime>,
    trouble: Option<String>,
    n_looks: i32,
    ended_at: Option<OffsetDateTime>,
}

impl Row {
    /// Checks a row again.
    fn read(self) -> Result<Return, Error> {
        let number = |value| u16::try_from(value).map_err(|_| Error::Corrupt("number"));
        let amount = |minor: Option<i64>| minor.map(amount_of).transpose();
        Ok(Return {
            return_id: ReturnId::from_uuid(self.return_id),
            kind: kind_of(&self.kind)?,
            payment: Payment {
                deposit_id: DepositId::from_uuid(self.deposit_id),
                reference: reference_of(&self.reference)?,
                currency: currency_of(&self.currency)?,
                source: match self.source.as_str() {
                    "wallet" => Source::Wallet(AccountId::from_uuid(self.account_id)),
                    "suspense" => Source::Suspense,
                    _ => return Err(Error::Corrupt("source")),
                },
            },
            amount: amount(self.amount_minor)?,
            taken: amount(self.taken_minor)?,
            created_at: at(self.created_at),
            state: state_of(&self.state, self.review_reason.as_deref())?,
            cover: cover_of(&self.cover)?,
            n_holds: number(self.n_holds)?,
            n_refused: number(self.n_refused)?,
            provider_id: self.provider_id,
            n_asked: number(self.n_asked)?,
            asked_at: self.asked_at.map(at),
            answer_by: self.answer_by.map(at),
            trouble: self.trouble,
            n_looks: u32::try_from(self.n_looks).map_err(|_| Error::Corrupt("number of looks"))?,
            ended_at: self.ended_at.map(at),
        })
    }
}

/// Stores a return that begins, due at once.
pub(crate) async fn insert(conn: &mut PgConnection, it: &Return) -> Result<(), Error> {
    sqlx::query!(
        "insert into payments.returns
             (return_id, deposit_id, kind, source, reference, currency, amount_minor, created_at,
              state, cover, n_holds, provider_id, n_asked, n_looks, due_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, $8)",
        it.return_id.uuid(),
        it.payment.deposit_id.uuid(),
        it.kind.name(),
        source_name(it.payment.source),
        it.payment.reference.as_str(),
        it.payment.currency.as_str(),
        it.amount.map(Amount::to_i64),
        datetime(it.created_at),
        it.state.name(),
        cover_name(it.cover),
        small(it.n_holds),
        it.provider_id,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Return { what: "insert", source })?;
    Ok(())
}

/// Every return of a deposit, oldest first.
pub(crate) async fn of_deposit(
    executor: impl PgExecutor<'_>,
    deposit_id: DepositId,
) -> Result<Vec<Return>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "select r.return_id, r.deposit_id, d.account_id, r.kind, r.source, r.reference, r.currency,
                r.amount_minor, r.taken_minor, r.created_at, r.state, r.review_reason, r.cover,
                r.n_holds, r.n_refused, r.provider_id, r.n_asked, r.asked_at, r.answer_by, r.trouble, r.n_looks,
                r.ended_at
         from payments.returns r
         join payments.deposits d using (deposit_id)
         where r.deposit_id = $1
         order by r.created_at, r.return_id",
        deposit_id.uuid(),
    )
    .fetch_all(executor)
    .await
    .map_err(|source| Error::Return { what: "load", source })?;
    rows.into_iter().map(Row::read).collect()
}

/// Whose money a return is about; `None` if there is no such return.
pub(crate) async fn deposit_of(
    pool: &PgPool,
    return_id: ReturnId,
) -> Result<Option<DepositId>, Error> {
    let id = sqlx::query_scalar!(
        "select deposit_id from payments.returns where return_id = $1",
        return_id.uuid(),
    )
    .fetch_optional(pool)
    .await
    .map_err(|source| Error::Return { what: "look up", source })?;
    Ok(id.map(DepositId::from_uuid))
}

/// Whether a return is the refund of this id at Paystack.
pub(crate) async fn has_refund(pool: &PgPool, provider_id: &str) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"select exists (
               select from payments.returns
               where provider_id = $1 and kind in ('refund', 'found_refund')) as "has!""#,
        provider_id,
    )
    .fetch_one(pool)
    .await
    .map_err(|source| Error::Return { what: "look up", source })
}

/// Writes what a step changed.
pub(crate) async fn save(
    conn: &mut PgConnection,
    it: &Return,
    due: Due,
    claim: Claim,
) -> Result<(), Error> {
    let (keep_due, due_at) = match due {
        Due::Keep => (true, None),
        Due::At(moment) => (false, moment.map(datetime)),
    };
    sqlx::query!(
        "update payments.returns
         set amount_minor = $2, taken_minor = $3, state = $4, review_reason = $5, cover = $6,
             n_holds = $7, provider_id = $8, n_asked = $9, asked_at = $10, answer_by = $11,
             trouble = $12, n_looks = $13, ended_at = $14, n_refused = $15,
             source = $16, currency = $17,
             due_at = case when $18 then due_at else $19 end,
             claimed_until = case when $20 then null else claimed_until end
         where return_id = $1",
        it.return_id.uuid(),
        it.amount.map(Amount::to_i64),
        it.taken.map(Amount::to_i64),
        it.state.name(),
        it.state.reason().map(Reason::code),
        cover_name(it.cover),
        small(it.n_holds),
        it.provider_id,
        small(it.n_asked),
        it.asked_at.map(datetime),
        it.answer_by.map(datetime),
        it.trouble,
        i32::try_from(it.n_looks).unwrap_or(i32::MAX),
        it.ended_at.map(datetime),
        small(it.n_refused),
        source_name(it.payment.source),
        it.payment.currency.as_str(),
        keep_due,
        due_at,
        claim == Claim::Release,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Return { what: "save", source })?;
    Ok(())
}

/// Takes up to `room` due returns into one worker's hands.
pub(crate) async fn claim(
    pool: &PgPool,
    now: Timestamp,
    until: Timestamp,
    room: i64,
) -> Result<Vec<(DepositId, ReturnId)>, Error> {
    let claimed = sqlx::query!(
        "with due as (
             select return_id
             from payments.returns
             where due_at <= $1 and (claimed_until is null or claimed_until <= $1)
             order by due_at
             limit $3
             for update skip locked
         )
         update payments.returns r
         set claimed_until = $2
         from due
         where r.return_id = due.return_id
         returning r.deposit_id, r.return_id",
        datetime(now),
        datetime(until),
        room,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Return { what: "claim", source })?;
    let ids = |it: (Uuid, Uuid)| (DepositId::from_uuid(it.0), ReturnId::from_uuid(it.1));
    Ok(claimed.into_iter().map(|it| ids((it.deposit_id, it.return_id))).collect())
}

/// Gives a worker's claim back.
pub(crate) async fn release(pool: &PgPool, return_id: ReturnId) -> Result<(), Error> {
    sqlx::query!(
        "update payments.returns set claimed_until = null where return_id = $1",
        return_id.uuid(),
    )
    .execute(pool)
    .await
    .map_err(|source| Error::Return { what: "release", source })?;
    Ok(())
}

/// A return that a person should see.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// The row.
    pub(crate) return_id: Uuid,
    /// Refund, found refund or dispute.
    pub(crate) kind: String,
    /// What was paid.
    pub(crate) reference: String,
    /// Where it stands.
    pub(crate) state: String,
    /// Why a person should see it.
    pub(crate) why: String,
    /// How much it is about, if that is known.
    pub(crate) amount_minor: Option<i64>,
    /// In which currency.
    pub(crate) currency: String,
    /// Until when a dispute must be answered at Paystack.
    pub(crate) answer_by: Option<OffsetDateTime>,
}

/// Returns that a person should see, those with the nearest deadline first: in review, in trouble,
/// lost without money to take, and disputes that nobody has answered.
pub(crate) async fn waiting(pool: &PgPool, limit: i64) -> Result<Vec<Waiting>, Error> {
    sqlx::query_as!(
        Waiting,
        r#"select return_id as "return_id!", kind as "kind!", reference as "reference!",
                  state as "state!", currency as "currency!", answer_by,
                  coalesce(review_reason, trouble, 'answer it at Paystack') as "why!",
                  coalesce(taken_minor, amount_minor) as amount_minor
           from payments.returns_in_sight
           where state in ('review', 'returned') or trouble is not null
              or (kind = 'dispute' and state = 'open' and answer_by is not null)
           order by answer_by nulls last, created_at
           limit $1"#,
        limit,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Return { what: "list", source })
}

/// How many returns stand where, and when the next dispute must be answered.
#[derive(Debug)]
pub(crate) struct Count {
    /// Refund, found refund or dispute.
    pub(crate) kind: String,
    /// As stored.
    pub(crate) state: String,
    /// How many.
    pub(crate) n_returns: i64,
    /// How many of them a person should see.
    pub(crate) n_troubled: i64,
    /// The nearest deadline among them.
    pub(crate) answer_by: Option<OffsetDateTime>,
}

/// How many returns stand in each state that is no end, and how many were lost with nothing held that
/// nobody has seen to.
pub(crate) async fn count(pool: &PgPool) -> Result<Vec<Count>, Error> {
    sqlx::query_as!(
        Count,
        r#"select kind as "kind!", state as "state!", count(*) as "n_returns!",
                  count(*) filter (where state in ('review', 'returned') or trouble is not null)
                      as "n_troubled!",
                  min(answer_by) filter (where state = 'open') as answer_by
           from payments.returns_in_sight
           group by kind, state"#,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Return { what: "count", source })
}

fn kind_of(name: &str) -> Result<Kind, Error> {
    Kind::ALL.into_iter().find(|it| it.name() == name).ok_or(Error::Corrupt("kind"))
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Wallet(_) => "wallet",
        Source::Suspense => "suspense",
    }
}

fn cover_name(cover: Cover) -> &'static str {
    match cover {
        Cover::Nothing => "nothing",
        Cover::Wanted => "wanted",
        Cover::Held => "held",
        Cover::Refused => "refused",
    }
}

fn cover_of(name: &str) -> Result<Cover, Error> {
    Ok(match name {
        "nothing" => Cover::Nothing,
        "wanted" => Cover::Wanted,
        "held" => Cover::Held,
        "refused" => Cover::Refused,
        _ => return Err(Error::Corrupt("cover")),
    })
}

fn state_of(name: &str, reason: Option<&str>) -> Result<State, Error> {
    Ok(match name {
        "noticed" => State::Noticed,
        "wanted" => State::Wanted,
        "held" => State::Held,
        "asked" => State::Asked,
        "open" => State::Open,
        "taking" => State::Taking,
        "releasing" => State::Releasing,
        "review" => {
            let reason = reason.and_then(Reason::parse);
            State::Review(reason.ok_or(Error::Corrupt("reason for review"))?)
        }
        "returned" => State::Returned,
        "kept" => State::Kept,
        "refused" => State::Refused,
        _ => return Err(Error::Corrupt("state of a return")),
    })
}
