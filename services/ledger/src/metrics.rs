//! What the ledger counts, in Prometheus' default registry.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prometheus::{
    Histogram, IntCounter, IntCounterVec, IntGauge, exponential_buckets, histogram_opts,
    register_histogram, register_int_counter, register_int_counter_vec, register_int_gauge,
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

/// Transfers in one transaction.
pub(crate) static BATCH_SIZE: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = exponential_buckets(1.0, 2.0, 13).expect("a growing row of buckets");
    register_histogram!(histogram_opts!(
        "ledger_batch_size",
        "Transfers decided in one transaction.",
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

/// How often the audit has come round.
pub(crate) static AUDIT_ROUNDS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "ledger_audit_rounds_total",
        "Times the audit has come round: every transfer and account was looked at once more."
    )
    .expect(ONCE)
});

/// Accounts that the writer remembers.
pub(crate) static ACCOUNTS_IN_MEMORY: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!(
        "ledger_accounts_in_memory",
        "Accounts whose balances the writer remembers between batches."
    )
    .expect(ONCE)
});

/// Batches that had to be decided again.
pub(crate) static REPEATS_MET: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "ledger_repeats_met_total",
        "Batches decided again because the books knew a transfer of theirs already."
    )
    .expect(ONCE)
});

/// Holds that were given back because their time was up.
pub(crate) static HOLDS_EXPIRED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "ledger_holds_expired_total",
        "Holds that were given back because their time was up."
    )
    .expect(ONCE)
});

/// Counts the outcomes of one batch.
pub(crate) fn count(outcomes: &[&'static str]) {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for outcome in outcomes {
        let n = counts.entry(outcome).or_default();
        *n = n.saturating_add(1);
    }
    for (outcome, n) in counts {
        TRANSFERS.with_label_values(&[outcome]).inc_by(n);
    }
}
