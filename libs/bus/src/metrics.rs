//! What the bus tells Prometheus, in its default registry.

use std::sync::LazyLock;

use prometheus::{
    GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, register_gauge_vec, register_histogram_vec,
    register_int_counter_vec, register_int_gauge_vec,
};

/// Each name is registered here and nowhere else, so that it cannot be taken.
const ONCE: &str = "a metric's name is valid and registered once";

/// Messages in the stream that the reader has not used yet.
pub(crate) static CURSOR_LAG: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "bus_cursor_lag",
        "Messages in the stream that the reader has not used yet",
        &["reader"]
    )
    .expect(ONCE)
});

/// Age of the oldest event that is not published yet.
pub(crate) static OUTBOX_OLDEST: LazyLock<GaugeVec> = LazyLock::new(|| {
    register_gauge_vec!(
        "bus_outbox_oldest_seconds",
        "Age of the oldest event that is not published yet",
        &["origin"]
    )
    .expect(ONCE)
});

/// Messages that could not be used and wait for a person.
pub(crate) static PARKED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "bus_parked_total",
        "Messages that could not be used and wait for a person in bus.parked",
        &["reader"]
    )
    .expect(ONCE)
});

/// Batches dropped because another reader of the same name had moved the cursor.
pub(crate) static FENCE_LOSSES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "bus_fence_losses_total",
        "Batches dropped because another reader of the same name had moved the cursor",
        &["reader"]
    )
    .expect(ONCE)
});

/// Times a stream turned out to be wiped, made again or rolled back.
pub(crate) static EPOCHS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "bus_epochs_total",
        "Times a stream turned out to be wiped, made again or rolled back",
        &["reader"]
    )
    .expect(ONCE)
});

/// Messages used in one transaction.
pub(crate) static BATCH_SIZE: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "bus_batch_size",
        "Messages used in one transaction",
        &["reader"],
        vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
    )
    .expect(ONCE)
});

/// 1 in the process that reads, 0 in those that stand by.
pub(crate) static LEADING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "bus_leading",
        "1 in the process that reads, 0 in those that stand by",
        &["reader"]
    )
    .expect(ONCE)
});
