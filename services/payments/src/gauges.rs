//! Shows how many deposits stand in each state, how much waits for a person, and what the nightly
//! comparison found.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{IntGaugeVec, register_int_gauge_vec};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::desk::chain;
use crate::nightly;
use crate::store::{self, deposits, webhooks};

/// How often they are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
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
        "What waits for a person: deposits in review, and webhooks that do not fit.",
        &["what"]
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
    PARKED.with_label_values(&["webhook"]).set(webhooks::count_parked(pool).await?);
    nightly::shown::count(pool).await
}
