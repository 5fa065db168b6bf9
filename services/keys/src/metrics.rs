//! What the service counts.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, register_int_counter_vec};

/// Questions whether a key is good, by what was found.
pub(crate) static VERIFICATIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "keys_verifications_total",
        "Questions whether a key is good, by answer.",
        &["result"]
    )
    .unwrap_or_else(|error| unreachable!("a name registered once: {error}"))
});

/// Commands decided and committed, by outcome.
pub(crate) static OUTCOMES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "keys_outcomes_total",
        "Commands decided and committed, by outcome.",
        &["outcome"]
    )
    .unwrap_or_else(|error| unreachable!("a name registered once: {error}"))
});
