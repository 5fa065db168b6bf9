//! Comparisons of days: what they need of our record, and what they found.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{DepositId, Timestamp};
use sqlx::{PgConnection, PgPool};

use super::{Error, at, datetime};
use crate::compare::Difference;
use crate::day::Day;
use crate::reference::Reference;

/// A reference of a deposit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    /// The reference.
    pub(crate) reference: Reference,
    /// Whose.
    pub(crate) deposit_id: DepositId,
}

/// A finished comparison.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// Of this day.
    pub(crate) day: Day,
    /// When it began.
    pub(crate) begun_at: Timestamp,
    /// When it ended.
    pub(crate) finished_at: Timestamp,
    /// Who asked for it and why, if anybody did.
    pub(crate) signed: Option<(&'a str, &'a str)>,
    /// How many payments Paystack had.
    pub(crate) n_payments: usize,
    /// How many references of ours were looked at.
    pub(crate) n_deposits: usize,
    /// What was found.
    pub(crate) differences: &'a [Difference],
}

/// What is shown of all comparisons.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// The end of the newest day that was compared once it was over; if none was, since when there is
    /// such work.
    pub(crate) until: Timestamp,
    /// What the newest comparison of that day found, by code.
    pub(crate) by_class: BTreeMap<String, i64>,
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Reconciliation { what, source }
}

fn known(reference: &str, deposit_id: uuid::Uuid) -> Result<Known, Error> {
    let reference = Reference::parse(reference).map_err(|_| Error::Corrupt("reference"))?;
    Ok(Known { reference, deposit_id: DepositId::from_uuid(deposit_id) })
}

/// Those of the references that are ours.
pub(crate) async fn of_references(
    pool: &PgPool,
    references: &[String],
) -> Result<Vec<Known>, Error> {
    let rows = sqlx::query!(
        "select reference, deposit_id from payments.attempts where reference = any($1)",
        references,
    )
    .fetch_all(pool)
    .await
    .map_err(failed("look up references for"))?;
    rows.iter().map(|it| known(&it.reference, it.deposit_id)).collect()
}

/// What our record says was paid on a day.
pub(crate) async fn paid_on(pool: &PgPool, day: Day) -> Result<Vec<Known>, Error> {
    let rows = sqlx::query!(
        r#"select paid_reference as "reference!", deposit_id
           from payments.deposits
           where paid_at >= $1 and paid_at < $2"#,
        datetime(day.start()),
        datetime(day.end()),
    )
    .fetch_all(pool)
    .await
    .map_err(failed("look up payments for"))?;
    rows.iter().map(|it| known(&it.reference, it.deposit_id)).collect()
}

/// The days since `first` that were compared once they were over, and the first that ever was.
pub(crate) async fn days(pool: &PgPool, first: Day) -> Result<BTreeSet<Day>, Error> {
    let days = sqlx::query_scalar!(
        r#"with whole as (
               select day
               from payments.reconciliations
               where begun_at >= (day + 1)::timestamp at time zone 'UTC'
           )
           select day as "day!" from whole where day >= $1
           union
           select min(day) from whole having min(day) is not null"#,
        first.date(),
    )
    .fetch_all(pool)
    .await
    .map_err(failed("look for"))?;
    Ok(days.into_iter().map(Day::from_date).collect())
}

/// Keeps a comparison and what it found, in one transaction.
pub(crate) async fn insert(conn: &mut PgConnection, run: &Run<'_>) -> Result<i64, Error> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let run_id = sqlx::query_scalar!(
        "insert into payments.reconciliations
             (day, begun_at, finished_at, who, why, n_payments, n_deposits, n_differences)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         returning run_id",
        run.day.date(),
        datetime(run.begun_at),
        // The clock may have been set back meanwhile.
        datetime(run.finished_at.max(run.begun_at)),
        run.signed.map(|(who, _)| who),
        run.signed.map(|(_, why)| why),
        count(run.n_payments),
        count(run.n_deposits),
        count(run.differences.len()),
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(failed("keep"))?;
    let column = |of: fn(&Difference) -> &str| -> Vec<String> {
        run.differences.iter().map(|it| of(it).to_owned()).collect()
    };
    sqlx::query!(
        "insert into payments.differences (run_id, class, reference, detail)
         select $1, * from unnest($2::text[], $3::text[], $4::text[])",
        run_id,
        &column(|it| it.class.code()),
        &column(|it| it.reference.as_str()),
        &column(|it| it.detail.as_str()),
    )
    .execute(conn)
    .await
    .map_err(failed("keep the differences of"))?;
    Ok(run_id)
}

/// What is shown of all comparisons.
pub(crate) async fn newest(pool: &PgPool) -> Result<Newest, Error> {
    let run = sqlx::query!(
        "select run_id, day
         from payments.reconciliations
         where begun_at >= (day + 1)::timestamp at time zone 'UTC'
         order by day desc, run_id desc
         limit 1",
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("look at"))?;
    let Some(run) = run else {
        let since =
            sqlx::query_scalar!("select known_since from payments.rounds where what = 'nightly'",)
                .fetch_one(pool)
                .await
                .map_err(failed("look at"))?;
        return Ok(Newest { until: at(since), by_class: BTreeMap::new() });
    };
    let counts = sqlx::query!(
        r#"select class, count(*) as "n_differences!"
           from payments.differences
           where run_id = $1
           group by class"#,
        run.run_id,
    )
    .fetch_all(pool)
    .await
    .map_err(failed("count the differences of"))?;
    let by_class = counts.into_iter().map(|it| (it.class, it.n_differences)).collect();
    Ok(Newest { until: Day::from_date(run.day).end(), by_class })
}
