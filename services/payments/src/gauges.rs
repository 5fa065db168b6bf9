//! Shows how many deposits stand in each state, how much waits for a person, and what the nightly
//! comparison found.

use std::sync::LazyLock;
use std::time::Duration;

use primitives::Timestamp;
use prometheus::{IntGauge, IntGaugeVec, register_int_gauge, register_int_gauge_vec};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::desk::chain;
use crate::nightly;
use crate::returns::Kind;
use crate::store::{self, deposits, returns, webhooks};

/// How often they are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// Every state of a return that is shown.
const RETURN_STATES: [&str; 8] =
    ["noticed", "wanted", "held", "asked", "open", "taking", "releasing", "review"];
/// Every state that is shown; settled deposits only grow in number, so they are not counted.
const STATES: [&str; 8] =
    ["initiated", "pending", "confirming", "paid", "crediting", "failed", "abandoned", "review"];

static IN_STATE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "payments_in_state",
        "Deposits by state, without the credited, expired and rejected ones.",
        &["state"]
    )
    .expect("the name is registered here only")
});

static PARKED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "payments_parked",
        "What waits for a person: deposits in review, refunds and disputes that are stuck, and \
         webhooks that do not fit.",
        &["what"]
    )
    .expect("the name is registered here only")
});

static RETURNS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "payments_returns",
        "Refunds and disputes that have not ended, by state.",
        &["kind", "state"]
    )
    .expect("the name is registered here only")
});

static ANSWER_BY: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!(
        "payments_dispute_answer_by_timestamp_seconds",
        "When the next open dispute must be answered at Paystack; 0 if there is none."
    )
    .expect("the name is registered here only")
});

/// Runs until `shutdown`.
pub(crate) async fn run(pool: PgPool, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        if let Err(error) = count(&pool).await {
            tracing::warn!(error = chain(&error), "failed to count deposits");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}

async fn count(pool: &PgPool) -> Result<(), store::Error> {
    let counts = deposits::count(pool).await?;
    for state in STATES {
        let n_deposits = counts.iter().find(|it| it.state == state).map_or(0, |it| it.n_deposits);
        IN_STATE.with_label_values(&[state]).set(n_deposits);
        if state == "review" {
            PARKED.with_label_values(&["deposit"]).set(n_deposits);
        }
    }
    count_returns(pool).await?;
    PARKED.with_label_values(&["webhook"]).set(webhooks::count_parked(pool).await?);
    nightly::shown::count(pool).await
}

async fn count_returns(pool: &PgPool) -> Result<(), store::Error> {
    let counts = returns::count(pool).await?;
    for kind in Kind::ALL {
        for state in RETURN_STATES {
            let found = counts.iter().find(|it| it.kind == kind.name() && it.state == state);
            let n_returns = found.map_or(0, |it| it.n_returns);
            RETURNS.with_label_values(&[kind.name(), state]).set(n_returns);
        }
    }
    let n_troubled = counts.iter().map(|it| it.n_troubled).sum();
    PARKED.with_label_values(&["return"]).set(n_troubled);
    let next = counts.iter().filter_map(|it| it.answer_by).min();
    ANSWER_BY.set(next.map_or(0, |at| Timestamp::from_datetime(at).seconds()));
    Ok(())
}
