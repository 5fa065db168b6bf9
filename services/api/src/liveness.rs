//! Which sessions live: a short memory in front of one indexed look-up.
//!
//! An ended session's access tokens are refused at once by the replica that ended it, and by the
//! others as soon as what they remember is older than [`REMEMBERED`].

use std::time::Duration;

use moka::sync::Cache;
use primitives::{SessionId, UserId};
use sqlx::PgPool;

use crate::store::{sessions, users};

/// How long another replica's logout may go unnoticed.
const REMEMBERED: Duration = Duration::from_secs(3);
/// Most sessions remembered; beyond that, the database is asked more often.
const SESSIONS_MAX: u64 = 200_000;

/// Remembers which sessions live.
pub struct Liveness {
    pool: PgPool,
    living: Cache<SessionId, UserId>,
    ended: Cache<SessionId, ()>,
}

impl Liveness {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let living = Cache::builder().max_capacity(SESSIONS_MAX).time_to_live(REMEMBERED).build();
        // Needed only while a look-up that began before the end may still be on its way.
        let ended =
            Cache::builder().max_capacity(SESSIONS_MAX).time_to_live(REMEMBERED * 2).build();
        Self { pool, living, ended }
    }

    /// Whose session this is, while it lives.
    ///
    /// # Errors
    /// The database broke.
    pub async fn person_of(&self, session: SessionId) -> Result<Option<UserId>, users::Error> {
        if self.ended.contains_key(&session) {
            return Ok(None);
        }
        if let Some(user) = self.living.get(&session) {
            return Ok(Some(user));
        }
        let user = sessions::living_session(&self.pool, session).await?;
        if let Some(user) = user {
            self.living.insert(session, user);
        }
        // A session may have ended here while the database was asked.
        Ok(user.filter(|_| !self.ended.contains_key(&session)))
    }

    /// Forgets a session whose end is committed.
    pub fn end(&self, session: SessionId) {
        self.ended.insert(session, ());
        self.living.invalidate(&session);
    }
}
