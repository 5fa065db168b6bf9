//! How long the pauses named by the rules are: data, jittered by a random number given from outside.

use std::time::Duration;

use primitives::Timestamp;

use crate::lifecycle::{Pace, When};

/// One row of growing pauses: `first`, doubled with each look, never over `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// After the first look.
    pub first: Duration,
    /// However many looks there were.
    pub longest: Duration,
}

impl Row {
    /// The pause after so many looks; `random` spreads it by up to a fifth either way, so that what
    /// was started together does not come back together.
    #[must_use]
    pub fn pause(self, n_looks: u32, random: u32) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(n_looks.min(20)).unwrap_or(1));
        let pause = doubled.min(self.longest);
        // 800 … 1200 thousandths.
        let thousandths = random.checked_rem(401).unwrap_or(0).saturating_add(800);
        pause.saturating_mul(thousandths).checked_div(1_000).unwrap_or(pause)
    }
}

/// Every row of pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// While a checkout is open.
    pub pending: Row,
    /// While verify does not agree with a webhook yet.
    pub confirm: Row,
    /// After failed or abandoned.
    pub late: Row,
    /// While Paystack or the ledger does not answer.
    pub unanswered: Row,
    /// While a refund or a dispute is open at Paystack.
    pub returning: Row,
}

impl Schedule {
    /// The moment that `when` means; `None` for never.
    #[must_use]
    pub fn at(&self, when: When, n_looks: u32, now: Timestamp, random: u32) -> Option<Timestamp> {
        let row = match when {
            When::Now => return Some(now),
            When::Never => return None,
            When::After(Pace::Pending) => self.pending,
            When::After(Pace::Confirm) => self.confirm,
            When::After(Pace::Late) => self.late,
            When::After(Pace::Unanswered) => self.unanswered,
            When::After(Pace::Returning) => self.returning,
        };
        Some(now.plus(row.pause(n_looks, random)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_spread_by_a_fifth() {
        let row = Row { first: Duration::from_secs(10), longest: Duration::from_secs(60) };
        let middle = 200;
        let pauses: Vec<u64> = (0..5).map(|n| row.pause(n, middle).as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 60, 60]);
        assert_eq!(row.pause(u32::MAX, middle), Duration::from_secs(60));
        assert_eq!(row.pause(0, 0), Duration::from_secs(8));
        assert_eq!(row.pause(0, 400), Duration::from_secs(12));
        for random in [1, 77, 401, u32::MAX] {
            let pause = row.pause(0, random);
            assert!(pause >= Duration::from_secs(8) && pause <= Duration::from_secs(12));
        }
    }
}
