//! What the audit reads: the books in pages, everything as it is kept, nothing filtered.

use ledger_core::audit::{Line, Posted};
use ledger_core::{Account, Entry};
use primitives::{AccountId, TransferId};
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{AccountRow, Error, read_currency, read_kind};

/// A transaction in which everything is seen as of one moment.
pub(crate) async fn snapshot(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    pool.begin_with("begin isolation level repeatable read, read only").await.map_err(Error::Begin)
}

/// At most `limit` entries after `position`, in order, with what they refer to.
pub(crate) async fn lines(
    conn: &mut PgConnection,
    position: i64,
    limit: i64,
) -> Result<Vec<Line>, Error> {
    let rows = sqlx::query_file!("sql/read_lines.sql", position, limit)
        .fetch_all(conn)
        .await
        .map_err(Error::Check)?;
    rows.into_iter()
        .map(|it| {
            let transfer = match (
                it.transfer_position,
                it.debit_account_id,
                it.credit_account_id,
                it.transfer_amount_minor,
                it.transfer_currency,
            ) {
                (Some(position), Some(debit), Some(credit), Some(amount_minor), Some(currency)) => {
                    Some(Posted {
                        position,
                        debit_account_id: AccountId::from_uuid(debit),
                        credit_account_id: AccountId::from_uuid(credit),
                        amount_minor,
                        currency: read_currency(&currency)?,
                    })
                }
                _ => None,
            };
            let account = match (it.account_kind, it.account_currency) {
                (Some(kind), Some(currency)) => {
                    Some((read_kind(&kind)?, read_currency(&currency)?))
                }
                _ => None,
            };
            let entry = Entry {
                position: it.position,
                transfer_id: TransferId::from_uuid(it.transfer_id),
                account_id: AccountId::from_uuid(it.account_id),
                amount_minor: it.amount_minor,
                balance_before_minor: it.balance_before_minor,
                balance_after_minor: it.balance_after_minor,
            };
            Ok(Line { entry, transfer, account })
        })
        .collect()
}

/// What each of `accounts` held after its last entry up to `position`; none if it had no entry.
pub(crate) async fn openings(
    conn: &mut PgConnection,
    accounts: &[Uuid],
    position: i64,
) -> Result<Vec<(AccountId, i64)>, Error> {
    let rows = sqlx::query!(
        r#"select it.account_id as "account_id!", e.balance_after_minor
           from unnest($1::uuid[]) as it (account_id)
           cross join lateral (
             select balance_after_minor
             from ledger.entries e
             where e.account_id = it.account_id
               and e.position <= $2
             order by e.position desc
             limit 1
           ) e"#,
        accounts,
        position,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)?;
    Ok(rows
        .into_iter()
        .map(|it| (AccountId::from_uuid(it.account_id), it.balance_after_minor))
        .collect())
}

/// At most `limit` accounts after `account_id`, in order of id.
pub(crate) async fn accounts(
    conn: &mut PgConnection,
    account_id: Uuid,
    limit: i64,
) -> Result<Vec<Account>, Error> {
    let rows = sqlx::query_as!(
        AccountRow,
        "select account_id, kind, currency, debits_minor, credits_minor, frozen, opened_at
         from ledger.accounts
         where account_id > $1
         order by account_id
         limit $2",
        account_id,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)?;
    rows.into_iter().map(AccountRow::read).collect()
}

/// At most `limit` transfers after `transfer_id`, in order of id: which, and whether it posted but
/// has no entry of its own where it says.
pub(crate) async fn transfers(
    conn: &mut PgConnection,
    transfer_id: Uuid,
    limit: i64,
) -> Result<Vec<(Uuid, bool)>, Error> {
    let rows = sqlx::query!(
        r#"select t.transfer_id, t.position is not null and e.position is null as "bare!"
           from (
             select transfer_id, position
             from ledger.transfers
             where transfer_id > $1
             order by transfer_id
             limit $2
           ) t
           left join ledger.entries e
             on e.position = t.position
             and e.transfer_id = t.transfer_id
           order by t.transfer_id"#,
        transfer_id,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)?;
    Ok(rows.into_iter().map(|it| (it.transfer_id, it.bare)).collect())
}

/// The newest position there is; 0 in empty books.
pub(crate) async fn last_position(conn: &mut PgConnection) -> Result<i64, Error> {
    let position = sqlx::query_scalar!("select max(position) from ledger.entries")
        .fetch_one(conn)
        .await
        .map_err(Error::Check)?;
    Ok(position.unwrap_or(0))
}
