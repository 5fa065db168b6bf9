//! What is read to answer questions: balances, one transfer, a page of a history.
//!
//! Nothing here locks; every row of a history is final once it can be seen.

use std::time::Duration;

use ledger_core::{Account, TransferKind};
use primitives::{AccountId, Timestamp, TransferId};
use sqlx::PgConnection;
use sqlx::types::Uuid;
use time::OffsetDateTime;

use super::Error;

/// As finely as moments are kept.
const ONE_MICROSECOND: Duration = Duration::from_micros(1);

/// A transfer as one of its accounts sees it, as Postgres keeps it.
#[derive(Debug)]
pub(crate) struct Movement {
    pub(crate) transfer_id: Uuid,
    pub(crate) kind: i16,
    pub(crate) debit_account_id: Uuid,
    pub(crate) credit_account_id: Uuid,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) note: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) made_by_key_id: Option<Uuid>,
    pub(crate) rejection: i16,
    pub(crate) decided_at: OffsetDateTime,
    pub(crate) position: i64,
    pub(crate) balance_after_minor: Option<i64>,
}

/// Which part of an account's history.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) account_id: AccountId,
    /// At most so many.
    pub(crate) limit: i64,
    /// Only what stands before this position.
    pub(crate) before_position: Option<i64>,
    /// Only this kind.
    pub(crate) kind: Option<TransferKind>,
    /// Only debits, or only credits.
    pub(crate) is_debit: Option<bool>,
    /// From this moment on.
    pub(crate) from: Option<Timestamp>,
    /// Before this moment.
    pub(crate) to: Option<Timestamp>,
}

/// Whose balance, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of {
    pub(crate) account_id: AccountId,
    /// As it was at this moment; as it is if absent.
    pub(crate) at: Option<Timestamp>,
}

/// The accounts as they stand, or stood, in the order asked for; none where there is none.
pub(crate) async fn balances(
    conn: &mut PgConnection,
    asked: &[Of],
) -> Result<Vec<Option<Account>>, Error> {
    let mut positions = Vec::with_capacity(asked.len());
    for it in asked {
        positions.push(match it.at {
            Some(at) => last_position_before(conn, at.plus(ONE_MICROSECOND)).await?,
            None => i64::MAX,
        });
    }
    let ids: Vec<Uuid> = asked.iter().map(|it| it.account_id.uuid()).collect();
    let rows = super::accounts_at(conn, &ids, &positions).await.map_err(Error::Balances)?;
    let mut accounts = vec![None; asked.len()];
    for (place, row) in rows {
        if let Some(account) = accounts.get_mut(place) {
            *account = Some(row.read()?);
        }
    }
    Ok(accounts)
}

/// One transfer as `account_id` may see it: a rejected one only if it was to be debited.
pub(crate) async fn movement(
    conn: &mut PgConnection,
    account_id: AccountId,
    transfer_id: TransferId,
) -> Result<Option<Movement>, Error> {
    sqlx::query_file_as!(Movement, "sql/find_movement.sql", account_id.uuid(), transfer_id.uuid())
        .fetch_optional(conn)
        .await
        .map_err(Error::Transfer)
}

/// A page of a history, newest first.
///
/// Moments become positions first, so that the page is one stretch of each history.
pub(crate) async fn movements(
    conn: &mut PgConnection,
    page: &Page,
) -> Result<Vec<Movement>, Error> {
    let after = match page.from {
        Some(from) => last_position_before(conn, from).await?,
        None => 0,
    };
    let until = match page.to {
        Some(to) => last_position_before(conn, to).await?.saturating_add(1),
        None => i64::MAX,
    };
    let before = page.before_position.unwrap_or(i64::MAX).min(until);
    if before <= after {
        return Ok(Vec::new());
    }
    sqlx::query_file_as!(
        Movement,
        "sql/list_movements.sql",
        page.account_id.uuid(),
        before,
        after,
        page.kind.map(TransferKind::number),
        page.is_debit,
        page.limit,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::History)
}

/// The newest position that was decided before `moment`; 0 if none was.
async fn last_position_before(conn: &mut PgConnection, moment: Timestamp) -> Result<i64, Error> {
    let position = sqlx::query_scalar!(
        "select last_position
         from ledger.batches
         where decided_at < $1
         order by decided_at desc, last_position desc
         limit 1",
        moment.to_datetime(),
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::History)?;
    Ok(position.unwrap_or(0))
}
