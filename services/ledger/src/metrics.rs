//! What the ledger counts, in Prometheus' default registry.

use std::sync::LazyLock;

use prometheus::{
    Histogram, IntCounterVec, IntGauge, exponential_buckets, histogram_opts, register_histogram,
    register_int_counter_vec, register_int_gauge,
};

/// Each name is registered here and nowhere else, so that it cannot be taken.
const ONCE: &str = "a metric's name is valid and registered once";

/// Transfers decided and committed, by outcome.
pub(crate) static TRANSFERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "ledger_transfers_total",
        "Transfers decided and committed, by outcome: posted, replayed, or the rejection's code.",
        &["outcome"]
    )
    .expect(ONCE)
});

/// Commands in one transaction.
pub(crate) static BATCH_SIZE: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = exponential_buckets(1.0, 2.0, 13).expect("a growing row of buckets");
    register_histogram!(histogram_opts!(
        "ledger_batch_size",
        "Commands decided in one transaction.",
        buckets
    ))
    .expect(ONCE)
});

/// From the first statement of a batch until its commit is durable.
pub(crate) static BATCH_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = exponential_buckets(0.000_5, 2.0, 15).expect("a growing row of buckets");
    register_histogram!(histogram_opts!(
        "ledger_batch_seconds",
        "Seconds from the first statement of a batch until its commit is durable.",
        buckets
    ))
    .expect(ONCE)
});

/// What the audit has found and not seen mended.
pub(crate) static AUDIT_VIOLATIONS: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!(
        "ledger_audit_violations",
        "Contradictions in the books that the audit has found and not seen mended."
    )
    .expect(ONCE)
});
