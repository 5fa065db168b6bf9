//! What is shown of comparisons: counts by class, and how far they came.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prometheus::{IntGauge, IntGaugeVec, register_int_gauge, register_int_gauge_vec};
use sqlx::PgPool;

use crate::compare::{Class, Difference};
use crate::store::{self, reconciliations};

static DIFFERENCES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "payments_reconciliation_differences",
        "What did not agree between Paystack, our record and the books on the newest day that was compared.",
        &["class"]
    )
    .expect("the name is registered here only")
});

static UNTIL: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!(
        "payments_reconciled_until_seconds",
        "The end of the newest day that was compared, in seconds since 1970."
    )
    .expect("the name is registered here only")
});

/// How many of each class there are, without those of which there are none.
pub(crate) fn by_class(differences: &[Difference]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for difference in differences {
        let n: &mut usize = counts.entry(difference.class.code()).or_default();
        *n = n.saturating_add(1);
    }
    counts
}

/// Shows the newest comparison.
pub(crate) async fn count(pool: &PgPool) -> Result<(), store::Error> {
    let newest = reconciliations::newest(pool).await?;
    for class in Class::ALL {
        let n_differences = newest.by_class.get(class.code()).copied().unwrap_or(0);
        DIFFERENCES.with_label_values(&[class.code()]).set(n_differences);
    }
    UNTIL.set(newest.until.seconds());
    Ok(())
}
