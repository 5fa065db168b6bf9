//! Who of several replicas works: the one whose Postgres session holds an advisory lock.
//!
//! This is a hint that keeps replicas from fighting, never the guarantee: that is the cursor's
//! compare-and-set for readers, and ids for the relay. The work runs on the very session that
//! holds the lock, so losing one is losing the other. A process that hangs loses its session by
//! its silence, and another takes over.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgPool, Postgres};

use crate::store;

/// How often a living session is pinged in the time that it may be silent.
const PINGS: u32 = 4;
/// How often one who waits tries again.
pub(crate) const STANDBY: Duration = Duration::from_millis(500);

/// A Postgres session that holds the lock of one job.
pub(crate) struct Session {
    conn: PoolConnection<Postgres>,
    silence_max: Duration,
}

impl Session {
    /// Takes the job named `job`, or `None` while somebody else has it. Postgres ends the session
    /// when it is silent for `silence_max`.
    pub(crate) async fn try_lead(
        pool: &PgPool,
        job: &str,
        silence_max: Duration,
    ) -> Result<Option<Self>, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::Error::Connect)?;
        if !store::try_lock(&mut conn, job).await? {
            return Ok(None);
        }
        // The lock ends with the session, so the session never goes back to the pool.
        conn.close_on_drop();
        store::limit_silence(&mut conn, silence_max).await?;
        Ok(Some(Self { conn, silence_max }))
    }

    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// How often a living session is pinged.
    pub(crate) fn ping_every(&self) -> Duration {
        self.silence_max / PINGS
    }

    /// Shows Postgres that we live, and us that Postgres does.
    pub(crate) async fn ping(&mut self) -> Result<(), store::Error> {
        self.conn.ping().await.map_err(store::Error::Connect)
    }
}
