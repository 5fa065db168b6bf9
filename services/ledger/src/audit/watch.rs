//! The loop that keeps looking.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger_core::audit::{VIOLATIONS_MAX, Violation};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::look::{Manner, Place, ROWS_MAX, Round};
use super::{Health, whole};
use crate::metrics;
use crate::store::{self, check};

/// Books with at most so many transfers, and so many accounts, are read as a whole at the start and
/// while something is wrong with them: a second's work. Greater ones are left to the rounds.
const WHOLE_MAX: i64 = 100_000;
/// How much more a look takes while the books do not balance: nothing is written then, so nobody is
/// in its way, and everybody waits for the round that finds nothing.
const STOPPED_FACTOR: usize = 10;

/// The loop that keeps looking.
#[derive(Debug)]
pub(crate) struct Watch {
    every: Duration,
    health: watch::Sender<Option<usize>>,
    round: Round,
    found: BTreeSet<Violation>,
    /// How far the next round must come without finding anything until the books are believed;
    /// none if nothing was found.
    until: Option<Until>,
    /// The next look is to be a whole reading, if the books are small.
    is_whole_due: bool,
    may_be_small: bool,
}

/// A round that begins in the middle.
#[derive(Debug, Clone, Copy)]
struct Until {
    place: Place,
    /// The books have ended once since.
    is_around: bool,
}

impl Until {
    /// Whether a look that came to `place`, perhaps round the end, completes the round.
    fn completes(&mut self, place: Place, is_around: bool) -> bool {
        let is_past = self.is_around && is_around;
        self.is_around |= is_around;
        is_past || (self.is_around && place >= self.place)
    }
}

impl Watch {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            health: watch::Sender::new(None),
            round: Round::new(),
            found: BTreeSet::new(),
            until: None,
            is_whole_due: false,
            may_be_small: true,
        }
    }

    pub(crate) fn health(&self) -> Health {
        Health(self.health.subscribe())
    }

    /// Looks until shutdown. A look that fails is tried again: that Postgres is away is for others
    /// to say.
    pub(crate) async fn run(
        mut self,
        pool: PgPool,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        while !shutdown.is_cancelled() {
            let looked = tokio::select! {
                () = shutdown.cancelled() => break,
                looked = self.look(&pool) => looked,
            };
            if let Err(error) = looked {
                let error = anyhow::Error::new(error);
                tracing::warn!("the audit looks again later: {error:#}");
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
        Ok(())
    }

    async fn look(&mut self, pool: &PgPool) -> Result<(), store::Error> {
        let is_whole = self.is_whole_due && self.may_be_small && self.is_small(pool).await?;
        if is_whole {
            let violations = whole::read(pool, &mut |_| {}).await?.violations;
            self.is_whole_due = !violations.is_empty();
            if violations.is_empty() {
                self.believe();
            }
            self.take(violations, self.round.place());
        } else {
            self.go_on(pool).await?;
        }
        let n_violations = self.found.len();
        metrics::AUDIT_VIOLATIONS.set(i64::try_from(n_violations).unwrap_or(i64::MAX));
        self.health.send_replace(Some(n_violations));
        Ok(())
    }

    /// The next part of the round. What is wrong is followed by a whole reading, and so is the
    /// first look, which is short so that a start is not kept waiting.
    async fn go_on(&mut self, pool: &PgPool) -> Result<(), store::Error> {
        let is_first = self.health.borrow().is_none();
        let (factor, manner) = match (self.found.is_empty(), is_first) {
            (true, false) => (1, Manner::Gentle),
            (true, true) => (1, Manner::Hurried),
            (false, _) => (STOPPED_FACTOR, Manner::Hurried),
        };
        let look = self.round.look(pool, ROWS_MAX.saturating_mul(factor), manner).await?;
        self.is_whole_due |= !look.violations.is_empty() || is_first;
        if look.is_around {
            metrics::AUDIT_ROUNDS.inc();
        }
        let until = self.until.as_mut();
        let is_complete = until.is_some_and(|it| it.completes(look.place, look.is_around));
        if is_complete && look.violations.is_empty() {
            self.believe();
        }
        self.take(look.violations, look.place);
        Ok(())
    }

    /// Remembers what was found up to `place`.
    fn take(&mut self, violations: Vec<Violation>, place: Place) {
        if !violations.is_empty() {
            self.until = Some(Until { place, is_around: false });
        }
        for violation in violations {
            if self.found.len() < VIOLATIONS_MAX && !self.found.contains(&violation) {
                tracing::error!("the books do not balance: {violation}");
                self.found.insert(violation);
            }
        }
    }

    /// All books were looked at, and nothing was found.
    fn believe(&mut self) {
        if !self.found.is_empty() {
            tracing::info!("all books were looked at and nothing was found: they balance again");
        }
        self.found.clear();
        self.until = None;
    }

    /// Books only grow, so those that were great once need not be counted again.
    async fn is_small(&mut self, pool: &PgPool) -> Result<bool, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::Error::Connect)?;
        let n_transfers = store::head(&mut conn).await?.position;
        let n_accounts = check::n_accounts(&mut conn, WHOLE_MAX.saturating_add(1)).await?;
        self.may_be_small = n_transfers <= WHOLE_MAX && n_accounts <= WHOLE_MAX;
        Ok(self.may_be_small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks that follow one in which something was found up to `place`; which of them completes
    /// the round.
    fn check(place: i64, looks: &[(i64, bool)], expected: usize) {
        let mut until = Until { place: Place::Transfers(place), is_around: false };
        let complete: Vec<usize> = looks
            .iter()
            .enumerate()
            .filter_map(|(n, (place, is_around))| {
                until.completes(Place::Transfers(*place), *is_around).then_some(n)
            })
            .collect();
        assert_eq!(complete.first(), Some(&expected), "{place}: {looks:?}");
    }

    #[test]
    fn a_round_from_anywhere_is_complete_when_everything_was_seen_again() {
        // Every look is a whole round.
        check(0, &[(0, true)], 0);
        // Pages that begin and end where they did.
        check(50, &[(100, false), (0, true), (50, false)], 2);
        check(0, &[(50, false), (100, false), (0, true)], 2);
        // Other pages: one that goes past the place, also round the end.
        check(50, &[(90, false), (0, true), (40, false), (80, false)], 3);
        check(50, &[(0, true), (40, false), (0, true)], 2);
    }
}
