//! Stops asking a provider that does not answer, for a while that grows.
//!
//! Three closed doors share one latch: too many failures in a row, a rate limit with its own time to
//! wait, and the half-open moment after, when the next call decides.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use primitives::Timestamp;
use prometheus::{IntGauge, register_int_gauge};

/// Failures in a row that open the circuit.
const FAILURES_MAX: u32 = 5;
/// How often the pause doubles at most.
const DOUBLINGS_MAX: u32 = 5;
/// The longest that a rate limit is believed.
const RATE_LIMIT_PAUSE_MAX: Duration = Duration::from_secs(120);

static OPEN: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!(
        "payments_provider_circuit_open",
        "1 while calls to Paystack are held back: it fails, or it said that we ask too often."
    )
    .expect("the name is registered here only")
});

/// Counts failures and says when to ask again.
#[derive(Debug)]
pub(crate) struct Circuit {
    first_pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    n_failures: u32,
    closed_again_at: Option<Timestamp>,
}

impl Circuit {
    /// Closed; `first_pause` is doubled with every failure beyond the last allowed one.
    pub(crate) fn new(first_pause: Duration) -> Self {
        Self { first_pause, state: Mutex::default() }
    }

    /// When calls may go out again, if they may not now.
    pub(crate) fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.lock().closed_again_at.filter(|until| now < *until);
        OPEN.set(i64::from(until.is_some()));
        until
    }

    /// The provider answered, whatever it said.
    pub(crate) fn succeeded(&self) {
        *self.lock() = State::default();
        OPEN.set(0);
    }

    /// The provider did not answer, or answered that it is broken.
    pub(crate) fn failed(&self, now: Timestamp) {
        let mut state = self.lock();
        state.n_failures = state.n_failures.saturating_add(1);
        if let Some(beyond) = state.n_failures.checked_sub(FAILURES_MAX) {
            let factor = 1_u32.checked_shl(beyond.min(DOUBLINGS_MAX)).unwrap_or(1);
            state.closed_again_at = Some(now.plus(self.first_pause.saturating_mul(factor)));
            OPEN.set(1);
        }
    }

    /// The provider said that we ask too often.
    pub(crate) fn limited(&self, now: Timestamp, pause: Duration) {
        self.lock().closed_again_at = Some(now.plus(pause.min(RATE_LIMIT_PAUSE_MAX)));
        OPEN.set(1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is valid at every step, also if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_hold_calls_back_longer_and_longer_and_one_success_forgets_them() {
        let second = Duration::from_secs(1);
        let circuit = Circuit::new(second);
        let now = Timestamp::from_seconds(100);
        for _ in 1..FAILURES_MAX {
            circuit.failed(now);
            assert_eq!(circuit.held_until(now), None);
        }
        for pause in [1, 2, 4, 8, 16, 32, 32] {
            circuit.failed(now);
            let until = now.plus(second * pause);
            assert_eq!(circuit.held_until(now), Some(until));
            assert_eq!(circuit.held_until(until), None, "the next call decides");
        }
        circuit.succeeded();
        circuit.failed(now);
        assert_eq!(circuit.held_until(now), None);
    }

    #[test]
    fn a_rate_limit_is_kept_within_bounds() {
        let circuit = Circuit::new(Duration::from_secs(1));
        let now = Timestamp::from_seconds(100);
        circuit.limited(now, Duration::from_secs(30));
        assert_eq!(circuit.held_until(now), Some(Timestamp::from_seconds(130)));
        circuit.limited(now, Duration::from_secs(86_400));
        assert_eq!(circuit.held_until(now), Some(Timestamp::from_seconds(220)));
    }
}
