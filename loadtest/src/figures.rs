//! Many measurements, one figure.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer answers count as this long.
const LATENCY_US_MAX: u64 = 60_000_000;
const DIGITS: u8 = 3;

/// The middle one; of an even number, between the two in the middle. None of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        let lower = upper.checked_sub(1)?;
        return Some(f64::midpoint(*sorted.get(lower)?, *sorted.get(upper)?));
    }
    sorted.get(upper).copied()
}

/// How long answers took, to a thousandth of each.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_max(LATENCY_US_MAX, DIGITS);
        Self(histogram.unwrap_or_else(|_| unreachable!("the bounds are constants that fit")))
    }

    /// Counts one.
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX));
    }

    /// Milliseconds that this share of all answers did not exceed.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let us = u32::try_from(self.0.value_at_quantile(share)).unwrap_or(u32::MAX);
        f64::from(us) / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[1.0, 9.0, 5.0, 4.0]), Some(4.5));
    }

    #[test]
    fn quantiles_are_of_what_was_counted() {
        let mut latencies = Latencies::new();
        for ms in 1..=1_000 {
            latencies.add(Duration::from_millis(ms));
        }
        for (share, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = latencies.quantile_ms(share);
            assert!((found - ms).abs() <= ms / 1_000.0, "{share}: {found}");
        }
    }

    #[test]
    fn what_takes_for_ever_counts_as_long() {
        let mut latencies = Latencies::new();
        latencies.add(Duration::from_hours(1));
        assert!(latencies.quantile_ms(1.0) >= 59_000.0);
    }
}
