//! What a test reads in the service's database.

use sqlx::PgPool;
use uuid::Uuid;

/// A deposit as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) account_id: Uuid,
    pub(crate) amount_minor: i64,
    pub(crate) credit_transfer_id: Uuid,
    pub(crate) state: String,
    pub(crate) review_reason: Option<String>,
    pub(crate) attempt_number: i16,
    pub(crate) paid_reference: Option<String>,
    pub(crate) suspense: String,
    pub(crate) n_accepted: i16,
    pub(crate) is_due: bool,
}

pub(crate) async fn deposits(pool: &PgPool) -> Vec<Stored> {
    sqlx::query_as(
        "select account_id, amount_minor, credit_transfer_id, state, review_reason,
                attempt_number, paid_reference, suspense, n_accepted, due_at is not null as is_due
         from payments.deposits order by created_at, deposit_id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// A refund or a dispute as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredReturn {
    pub(crate) return_id: Uuid,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) cover: String,
    pub(crate) taken_minor: Option<i64>,
    pub(crate) currency: String,
    pub(crate) trouble: Option<String>,
    pub(crate) n_asked: i16,
}

pub(crate) async fn returns(pool: &PgPool) -> Vec<StoredReturn> {
    sqlx::query_as(
        "select return_id, kind, state, cover, taken_minor, currency, trouble, n_asked
         from payments.returns order by created_at, return_id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Every webhook: event, state, reason, how often it came, by which key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Webhook {
    pub(crate) event: Option<String>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) n_received: i32,
    pub(crate) signed_by: String,
}

pub(crate) async fn webhooks(pool: &PgPool) -> Vec<Webhook> {
    sqlx::query_as(
        "select event, state, reason, n_received, signed_by
         from payments.webhooks order by webhook_id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// The phases of all attempts, in order.
pub(crate) async fn phases(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select phase from payments.attempts order by deposit_id, attempt_number")
        .fetch_all(pool)
        .await
        .unwrap()
}

/// How often anything has happened to the deposit that has this reference.
pub(crate) async fn n_events(pool: &PgPool, reference: &str) -> i64 {
    sqlx::query_scalar(
        "select count(*) from payments.timeline t
         join payments.attempts a using (deposit_id) where a.reference = $1",
    )
    .bind(reference)
    .fetch_one(pool)
    .await
    .unwrap()
}

pub(crate) async fn n_waiters(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from payments.waiters").fetch_one(pool).await.unwrap()
}

/// What the service promised to announce, by subject.
pub(crate) async fn announced(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select subject from bus.outbox order by subject")
        .fetch_all(pool)
        .await
        .unwrap()
}

/// Runs a statement and says which constraint refused it.
pub(crate) async fn refused_by(pool: &PgPool, statement: &'static str) -> Option<String> {
    match sqlx::raw_sql(statement).execute(pool).await {
        Ok(_) => None,
        Err(error) => {
            let database = error.as_database_error().expect("Postgres refuses");
            Some(database.constraint().unwrap_or_else(|| database.message()).to_owned())
        }
    }
}

/// Runs a statement that must succeed.
pub(crate) async fn run(pool: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap();
}
