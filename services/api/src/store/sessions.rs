//! SQL of sign-ins: sessions, refresh tokens, burnt states.
//!
//! Lock order: a refresh token before its session, never the other way. [`forget`] takes a session
//! first, but only one whose tokens have all expired, and those nobody spends. Burnt states are
//! locked by nobody else.

use primitives::{SessionId, Timestamp, UserId};
use sqlx::{PgConnection, PgPool};

use crate::store::users::{Error, failed};

/// Most rows one sign-in clears away of each kind, so that no sign-in pays for a flood.
const FORGOTTEN_MAX: i64 = 100;

/// Whether a state has signed somebody in before.
///
/// # Errors
/// The database broke.
pub async fn is_burnt(pool: &PgPool, state: [u8; 32]) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"select exists (select from api.burnt_states where digest = $1) as "is_burnt!""#,
        &state[..],
    )
    .fetch_one(pool)
    .await
    .map_err(failed("look for a burnt state"))
}

/// Burns a state; false if it was burnt before. One that two burn at once, one burns.
///
/// # Errors
/// The database broke.
pub async fn burn(
    conn: &mut PgConnection,
    state: [u8; 32],
    expires_at: Timestamp,
) -> Result<bool, Error> {
    sqlx::query!(
        "insert into api.burnt_states (digest, expires_at)
         values ($1, $2)
         on conflict do nothing",
        &state[..],
        expires_at.to_datetime(),
    )
    .execute(conn)
    .await
    .map(|it| it.rows_affected() == 1)
    .map_err(failed("burn a state"))
}

/// Begins a session with its first refresh token.
///
/// # Errors
/// The database broke.
pub async fn begin_session(
    conn: &mut PgConnection,
    session: SessionId,
    of: UserId,
    token: RefreshRow,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into api.sessions (session_id, user_id, created_at, expires_at)
         values ($1, $2, $3, $4)",
        session.uuid(),
        of.uuid(),
        token.issued_at.to_datetime(),
        token.expires_at.to_datetime(),
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("begin a session"))?;
    insert_token(conn, session, token).await
}

/// A refresh token as it is kept.
#[derive(Debug, Clone, Copy)]
pub struct RefreshRow {
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// Since when.
    pub issued_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

async fn insert_token(
    conn: &mut PgConnection,
    session: SessionId,
    token: RefreshRow,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into api.refresh_tokens (digest, session_id, issued_at, expires_at)
         values ($1, $2, $3, $4)",
        &token.digest[..],
        session.uuid(),
        token.issued_at.to_datetime(),
        token.expires_at.to_datetime(),
    )
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed("keep a refresh token"))
}

/// Spends a refresh token and says whose session it was; `None` if it cannot be spent. Of two that
/// spend it at once, one does: the other waits for the row and then finds it spent.
///
/// # Errors
/// The database broke.
pub async fn spend(
    conn: &mut PgConnection,
    digest: [u8; 32],
    now: Timestamp,
) -> Result<Option<(SessionId, UserId)>, Error> {
    let row = sqlx::query!(
        "update api.refresh_tokens t
         set spent_at = $2
         from api.sessions s
         where t.digest = $1
           and t.spent_at is null
           and t.expires_at > $2
           and s.session_id = t.session_id
           and s.ended_at is null
         returning s.session_id, s.user_id",
        &digest[..],
        now.to_datetime(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("spend a refresh token"))?;
    Ok(row.map(|it| (SessionId::from_uuid(it.session_id), UserId::from_uuid(it.user_id))))
}

/// Puts the next refresh token of a session in the place of the one that was just spent.
///
/// # Errors
/// The database broke.
pub async fn succeed_token(
    conn: &mut PgConnection,
    session: SessionId,
    token: RefreshRow,
) -> Result<(), Error> {
    insert_token(&mut *conn, session, token).await?;
    sqlx::query!(
        "update api.sessions
         set expires_at = greatest(expires_at, $2)
         where session_id = $1
           and ended_at is null",
        session.uuid(),
        token.expires_at.to_datetime(),
    )
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed("prolong a session"))
}

/// What is known of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenState {
    /// Its session.
    pub session: SessionId,
    /// Whether it was used.
    pub is_spent: bool,
    /// Whether its session has ended.
    pub is_ended: bool,
}

/// Looks at a refresh token; `None` for one that never was or is long forgotten.
///
/// # Errors
/// The database broke.
pub async fn token_state(
    conn: &mut PgConnection,
    digest: [u8; 32],
) -> Result<Option<TokenState>, Error> {
    let row = sqlx::query!(
        r#"select s.session_id, t.spent_at is not null as "is_spent!",
                  s.ended_at is not null as "is_ended!"
           from api.refresh_tokens t
           join api.sessions s on s.session_id = t.session_id
           where t.digest = $1"#,
        &digest[..],
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look at a refresh token"))?;
    Ok(row.map(|it| TokenState {
        session: SessionId::from_uuid(it.session_id),
        is_spent: it.is_spent,
        is_ended: it.is_ended,
    }))
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its person said so.
    Logout,
    /// A spent refresh token was used: somebody has a copy.
    RefreshTokenReused,
}

impl EndReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::RefreshTokenReused => "refresh_token_reused",
        }
    }
}

/// Ends a session; one that has ended keeps its first reason.
///
/// # Errors
/// The database broke.
pub async fn end_session(
    conn: &mut PgConnection,
    session: SessionId,
    because: EndReason,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "update api.sessions
         set ended_at = $2, ended_because = $3
         where session_id = $1
           and ended_at is null",
        session.uuid(),
        now.to_datetime(),
        because.as_str(),
    )
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed("end a session"))
}

/// Whose session this is, while it lives.
///
/// # Errors
/// The database broke.
pub async fn living_session(pool: &PgPool, session: SessionId) -> Result<Option<UserId>, Error> {
    sqlx::query_scalar!(
        "select user_id
         from api.sessions
         where session_id = $1
           and ended_at is null",
        session.uuid(),
    )
    .fetch_optional(pool)
    .await
    .map(|it| it.map(UserId::from_uuid))
    .map_err(failed("look up a session"))
}

/// Clears away some of what nobody can use any more: burnt states whose cookies are too old, and
/// sessions whose last refresh token has expired.
///
/// # Errors
/// The database broke.
pub async fn forget(conn: &mut PgConnection, now: Timestamp) -> Result<(), Error> {
    sqlx::query!(
        "delete from api.burnt_states
         where digest in (
             select digest
             from api.burnt_states
             where expires_at < $1
             order by expires_at
             limit $2
             for update skip locked
         )",
        now.to_datetime(),
        FORGOTTEN_MAX,
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("forget burnt states"))?;
    sqlx::query!(
        "delete from api.sessions
         where session_id in (
             select session_id
             from api.sessions
             where expires_at < $1
             order by expires_at
             limit $2
             for update skip locked
         )",
        now.to_datetime(),
        FORGOTTEN_MAX,
    )
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed("forget expired sessions"))
}
