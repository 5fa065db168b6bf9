//! All SQL of the bus.
//!
//! Lock order: a reader's row of `bus.cursors` first, then whatever its handler locks, then
//! inserts into `bus.parked` and `bus.outbox`. The relay locks only rows of `bus.outbox`.

mod outbox;
mod places;

pub(crate) use outbox::{
    Published, Waiting, delete_published, enqueue, mark_published, next_waiting, published_newest,
    unpublish_after,
};
pub(crate) use places::{Parked, insert_place, load_place, move_place, park};

use std::time::Duration;

use sqlx::PgConnection;

/// What was being tried when Postgres said no or went away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to reach postgres")]
    Connect(#[source] sqlx::Error),
    #[error("failed to try the lock of {job}")]
    Lock {
        job: String,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to set the session's limits")]
    Limit(#[source] sqlx::Error),
    #[error("failed to begin a transaction")]
    Begin(#[source] sqlx::Error),
    #[error("failed to commit")]
    Commit(#[source] sqlx::Error),
    #[error("failed to load the cursor")]
    LoadPlace(#[source] sqlx::Error),
    #[error("failed to save the cursor")]
    SavePlace(#[source] sqlx::Error),
    #[error("failed to park a message")]
    Park(#[source] sqlx::Error),
    #[error("failed to enqueue {n_events} events")]
    Enqueue {
        n_events: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to look into the outbox")]
    LookOutbox(#[source] sqlx::Error),
    #[error("failed to mark events in the outbox")]
    MarkOutbox(#[source] sqlx::Error),
}

/// As Postgres keeps a sequence. JetStream's never come near the limit.
fn bigint(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// Back from [`bigint`]; a check keeps them from being negative.
fn sequence(bigint: i64) -> u64 {
    u64::try_from(bigint).unwrap_or(0)
}

/// Takes the advisory lock of `job` for this session, if nobody has it.
pub(crate) async fn try_lock(conn: &mut PgConnection, job: &str) -> Result<bool, Error> {
    sqlx::query_scalar!(r#"select pg_try_advisory_lock(hashtextextended($1, 0)) as "taken!""#, job)
        .fetch_one(conn)
        .await
        .map_err(|source| Error::Lock { job: job.to_owned(), source })
}

/// Lets Postgres end this session when it is silent for `silence_max`, inside a transaction or
/// outside.
pub(crate) async fn limit_silence(
    conn: &mut PgConnection,
    silence_max: Duration,
) -> Result<(), Error> {
    let silence_max_ms = silence_max.as_millis().to_string();
    sqlx::query!(
        r#"
        select
          set_config('idle_session_timeout', $1, false) as outside,
          set_config('idle_in_transaction_session_timeout', $1, false) as inside
        "#,
        silence_max_ms,
    )
    .fetch_one(conn)
    .await
    .map_err(Error::Limit)?;
    Ok(())
}

/// Lets this session's commits return before they are on disk.
pub(crate) async fn commit_lazily(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("select set_config('synchronous_commit', 'off', false) as lazily")
        .fetch_one(conn)
        .await
        .map_err(Error::Limit)?;
    Ok(())
}
