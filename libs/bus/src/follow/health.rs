//! What a reader says of itself, for `/readyz`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use primitives::Timestamp;

use crate::metrics;
use crate::place::Change;

/// Trouble shorter than this is nobody's affair: a reader that lost its connection is back sooner.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a reader is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It has not found out yet.
    Starting,
    /// It reads.
    Leading,
    /// Another replica reads; this one would take over.
    StandingBy,
    /// Something near it is broken; it keeps trying.
    Troubled {
        /// Since when.
        since: Timestamp,
        /// What it said last.
        error: String,
    },
}

/// A stream that turned out not to be what it was. What was in it must be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamChange {
    /// Which stream.
    pub stream: &'static str,
    /// What happened to it.
    pub change: Change,
    /// The epoch that began then.
    pub epoch: i64,
    /// When it was noticed.
    pub noticed_at: Timestamp,
}

/// A view of one reader; clones see the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    role: Role,
    change: Option<StreamChange>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Of a reader that is yet to be run.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Seen { role: Role::Starting, change: None })))
    }

    /// What the reader is doing.
    #[must_use]
    pub fn role(&self) -> Role {
        self.seen().role.clone()
    }

    /// The last change of its stream that this process has noticed.
    #[must_use]
    pub fn last_change(&self) -> Option<StreamChange> {
        self.seen().change
    }

    /// Whether the reader does its part: it reads, or stands by while another one does.
    ///
    /// # Errors
    /// What it is in trouble with, in words that hold no secret.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        match &self.seen().role {
            Role::Leading | Role::StandingBy => Ok(()),
            Role::Starting => Err("it has not begun to read".to_owned()),
            Role::Troubled { since, .. } if now.since(*since) < PATIENCE => Ok(()),
            Role::Troubled { since, error } => {
                Err(format!("it cannot read since {since}: {error}"))
            }
        }
    }

    pub(super) fn leads(&self, reader: &str, leads: bool) {
        self.seen().role = if leads { Role::Leading } else { Role::StandingBy };
        metrics::LEADING.with_label_values(&[reader]).set(i64::from(leads));
    }

    /// The reader is in trouble, perhaps still.
    pub(super) fn troubled(&self, reader: &str, error: &str, now: Timestamp) {
        let mut seen = self.seen();
        let since = match seen.role {
            Role::Troubled { since, .. } => since,
            Role::Starting | Role::Leading | Role::StandingBy => now,
        };
        seen.role = Role::Troubled { since, error: error.to_owned() };
        metrics::LEADING.with_label_values(&[reader]).set(0);
    }

    pub(crate) fn changed(&self, change: StreamChange) {
        self.seen().change = Some(change);
    }

    /// A panic while it was locked cannot have left it half changed.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line for people: what it is doing, and what happened to its stream.
impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seen = self.seen();
        match &seen.role {
            Role::Starting => f.write_str("starting")?,
            Role::Leading => f.write_str("leading")?,
            Role::StandingBy => f.write_str("standing by")?,
            Role::Troubled { since, error } => {
                write!(f, "in trouble since {since}: {error}")?;
            }
        }
        if let Some(StreamChange { stream, change, epoch, noticed_at }) = seen.change {
            write!(f, "; {stream} {change}, noticed at {noticed_at}, epoch {epoch}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_counts_when_it_lasts_and_a_change_is_remembered() {
        let health = Health::new();
        let at = Timestamp::from_seconds;
        assert!(health.check(at(0)).is_err(), "it has not begun");
        health.leads("health", true);
        assert_eq!(health.check(at(0)), Ok(()));
        health.troubled("health", "no connection", at(10));
        health.troubled("health", "still none", at(12));
        assert_eq!(health.check(at(12)), Ok(()), "it may pass");
        assert!(health.check(at(13)).unwrap_err().contains("still none"));
        health.leads("health", false);
        assert_eq!(health.check(at(99)), Ok(()));
        let change = Change::RolledBack;
        let noticed_at = at(0);
        health.changed(StreamChange { stream: "STREAM", change, epoch: 2, noticed_at });
        let expected =
            "standing by; STREAM was rolled back, noticed at 1970-01-01T00:00:00Z, epoch 2";
        assert_eq!(health.to_string(), expected);
    }
}
