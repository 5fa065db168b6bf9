//! Who of several replicas works: the one whose Postgres session holds an advisory lock.
//!
//! This is a hint that keeps replicas from fighting, never the guarantee: that is the cursor's
//! compare-and-set for readers, and ids for the relay. The work runs on the very session that
//! holds the lock, so losing one is losing the other. A process that hangs loses its session by
//! the timeouts below, and another takes over.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgPool, Postgres};

use crate::store;

/// How long a session may be silent before Postgres ends it. A living one is pinged.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often a living session is pinged.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(4);
/// How often one who waits tries again.
pub(crate) const STANDBY: Duration = Duration::from_millis(500);

/// A Postgres session that holds the lock of one job.
pub(crate) struct Session(PoolConnection<Postgres>);

impl Session {
    /// Takes the job named `job`, or `None` while somebody else has it.
    pub(crate) async fn try_lead(pool: &PgPool, job: &str) -> Result<Option<Self>, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::Error::Connect)?;
        if !store::try_lock(&mut conn, job).await? {
            return Ok(None);
        }
        // The lock ends with the session, so the session never goes back to the pool.
        conn.close_on_drop();
        store::limit_silence(&mut conn, SILENCE_MAX).await?;
        Ok(Some(Self(conn)))
    }

    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    /// Shows Postgres that we live, and us that Postgres does.
    pub(crate) async fn ping(&mut self) -> Result<(), store::Error> {
        self.0.ping().await.map_err(store::Error::Connect)
    }
}
