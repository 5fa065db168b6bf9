//! What the audit reads: the books as they are kept, in pages, nothing filtered.
//!
//! A row that holds what the ledger never writes is no error here but something to be found, so it
//! is handed on by its id.

mod rows;

use futures_util::TryStreamExt;
use ledger_core::audit::Line;
use ledger_core::{Account, ChangeRecord, Head, Hold};
use primitives::{AccountId, ChangeId, Timestamp, TransferId};
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::find::{ChangeRow, read_move};
use super::{AccountRow, Error};

/// A transfer that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) position: i64,
    pub(crate) transfer_id: TransferId,
}

/// A transaction in which everything is seen as of one moment.
pub(crate) async fn snapshot(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    pool.begin_with("begin isolation level repeatable read, read only").await.map_err(Error::Begin)
}

/// At most `limit` transfers after `position`, in order, each with what it moves back.
///
/// By `copy`, which costs a third of what fetching rows does.
pub(crate) async fn lines(
    conn: &mut PgConnection,
    position: i64,
    limit: i64,
) -> Result<Vec<Result<Line, Unreadable>>, Error> {
    // Two numbers are put into it, because `copy` takes no parameters.
    let statement = include_str!("../../sql/read_lines.sql")
        .replace("$1", &position.to_string())
        .replace("$2", &limit.to_string());
    let mut stream = conn.copy_out_raw(&statement).await.map_err(Error::Check)?;
    let mut page = Vec::new();
    while let Some(bytes) = stream.try_next().await.map_err(Error::Check)? {
        page.extend_from_slice(&bytes);
    }
    rows::lines(&page).map_err(|rows::Cut| Error::Page)
}

/// What was decided at `position`; what begins all books if nothing was.
pub(crate) async fn head_at(conn: &mut PgConnection, position: i64) -> Result<Head, Error> {
    let decided_at = sqlx::query_scalar!(
        "select decided_at from ledger.transfers where position = $1",
        position
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::Check)?;
    let decided_at = decided_at.map_or(Head::START.decided_at, Timestamp::from_datetime);
    Ok(Head { position, decided_at })
}

/// The newest position there is; 0 in empty books.
pub(crate) async fn last_position(conn: &mut PgConnection) -> Result<i64, Error> {
    let position = sqlx::query_scalar!("select max(position) from ledger.transfers")
        .fetch_one(conn)
        .await
        .map_err(Error::Check)?;
    Ok(position.unwrap_or(0))
}

/// How many accounts there are, as far as `most`.
pub(crate) async fn n_accounts(conn: &mut PgConnection, most: i64) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from (select from ledger.accounts limit $1) it"#,
        most,
    )
    .fetch_one(conn)
    .await
    .map_err(Error::Check)
}

/// Where the batches after `position` and up to `last_position` end, in order.
pub(crate) async fn batches(
    conn: &mut PgConnection,
    position: i64,
    last_position: i64,
) -> Result<Vec<Head>, Error> {
    let rows = sqlx::query!(
        "select last_position, decided_at
         from ledger.batches
         where last_position > $1
           and last_position <= $2
         order by last_position",
        position,
        last_position,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)?;
    let head =
        |position, decided_at| Head { position, decided_at: Timestamp::from_datetime(decided_at) };
    Ok(rows.into_iter().map(|it| head(it.last_position, it.decided_at)).collect())
}

/// The accounts of these that can be read, with what stood on each after its last transfer up to
/// `position`.
pub(crate) async fn openings(
    conn: &mut PgConnection,
    accounts: &[Uuid],
    position: i64,
) -> Result<Vec<Account>, Error> {
    let positions = vec![position; accounts.len()];
    let rows = super::accounts_at(conn, accounts, &positions).await.map_err(Error::Check)?;
    Ok(rows.into_iter().filter_map(|(_, it)| it.read().ok()).collect())
}

/// An account, and how its changes say it is.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) account: AccountRow,
    /// The newest of freezing, unfreezing and closing it, by number; none if it was always open.
    pub(crate) change: Option<i16>,
    /// The newest limits it was given; none if it has those it was opened with.
    pub(crate) limits: Option<(i64, i64)>,
}

/// At most `limit` accounts after `account_id`, in order of id, and what their changes say.
pub(crate) async fn accounts_with_changes(
    conn: &mut PgConnection,
    account_id: Uuid,
    limit: i64,
) -> Result<Vec<Kept>, Error> {
    let rows = sqlx::query_file!("sql/read_accounts_with_changes.sql", account_id, limit)
        .fetch_all(conn)
        .await
        .map_err(Error::Check)?;
    let kept = rows.into_iter().map(|it| Kept {
        account: AccountRow {
            account_id: it.account_id,
            kind: it.kind,
            currency: it.currency,
            status: it.status,
            least_minor: it.least_minor,
            greatest_minor: it.greatest_minor,
            opened_at: it.opened_at,
            balance_minor: None,
            held_minor: None,
        },
        change: it.newest_change,
        limits: it.newest_least_minor.zip(it.newest_greatest_minor),
    });
    Ok(kept.collect())
}

/// At most `limit` accounts after `account_id`, in order of id, without what stands on them; of one
/// that cannot be read, its id.
pub(crate) async fn accounts(
    conn: &mut PgConnection,
    account_id: Uuid,
    limit: i64,
) -> Result<Vec<Result<Account, AccountId>>, Error> {
    let rows = sqlx::query_as!(
        AccountRow,
        r#"select account_id, kind, currency, status, least_minor, greatest_minor, opened_at,
             null::bigint as "balance_minor?", null::bigint as "held_minor?"
           from ledger.accounts
           where account_id > $1
           order by account_id
           limit $2"#,
        account_id,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)?;
    let read = |it: AccountRow| {
        let id = AccountId::from_uuid(it.account_id);
        it.read().map_err(|_| id)
    };
    Ok(rows.into_iter().map(read).collect())
}

/// A place among the changes of accounts: after which position, and which of those there.
pub(crate) type ChangePlace = (i64, i64);

/// At most `limit` changes of accounts after `place`, in the order of decision; of one that cannot
/// be read, its id.
pub(crate) async fn changes(
    conn: &mut PgConnection,
    place: ChangePlace,
    limit: i64,
) -> Result<Vec<(ChangePlace, Result<ChangeRecord, ChangeId>)>, Error> {
    let rows = sqlx::query!(
        "select change_id, account_id, change, least_minor, greatest_minor, rejection,
           after_position, change_no, decided_at
         from ledger.account_changes
         where (after_position, change_no) > ($1, $2)
         order by after_position, change_no
         limit $3",
        place.0,
        place.1,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)?;
    let read = rows.into_iter().map(|it| {
        let row = ChangeRow {
            change_id: it.change_id,
            account_id: it.account_id,
            change: it.change,
            least_minor: it.least_minor,
            greatest_minor: it.greatest_minor,
            rejection: it.rejection,
            after_position: it.after_position,
            decided_at: it.decided_at,
        };
        let id = ChangeId::from_uuid(it.change_id);
        ((it.after_position, it.change_no), row.read().map_err(|_| id))
    });
    Ok(read.collect())
}

/// A hold as it is kept, as far as it can be read.
#[derive(Debug)]
pub(crate) struct KeptHold {
    pub(crate) id: TransferId,
    pub(crate) hold: Option<Hold>,
}

/// At most `limit` holds after `hold_id`, in order of id.
pub(crate) async fn holds(
    conn: &mut PgConnection,
    hold_id: Uuid,
    limit: i64,
) -> Result<Vec<KeptHold>, Error> {
    let rows = sqlx::query!(
        "select hold_id, debit_account_id, credit_account_id, amount_minor, remaining_minor,
           expires_at, currency
         from ledger.holds
         where hold_id > $1
         order by hold_id
         limit $2",
        hold_id,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)?;
    let kept = rows.into_iter().map(|it| {
        let (debit, credit) = (Some(it.debit_account_id), Some(it.credit_account_id));
        let of = read_move(debit, credit, it.amount_minor, Some(&it.currency));
        let (id, remaining_minor) = (TransferId::from_uuid(it.hold_id), it.remaining_minor);
        let expires_at = it.expires_at.map(Timestamp::from_datetime);
        // What cannot be read is no hold.
        let hold = of.ok().flatten().map(|of| Hold { id, of, remaining_minor, expires_at });
        KeptHold { id, hold }
    });
    Ok(kept.collect())
}

/// A sum that is kept, and what the transfers say it is.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) id: TransferId,
    pub(crate) kept_minor: i64,
    /// None if there is no such transfer, or another one.
    pub(crate) expected_minor: Option<i64>,
}

/// At most `limit` holds after `hold_id`, in order of id, and what remains of each.
pub(crate) async fn remainders(
    conn: &mut PgConnection,
    hold_id: Uuid,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    let rows = sqlx::query_file!("sql/read_remainders.sql", hold_id, limit)
        .fetch_all(conn)
        .await
        .map_err(Error::Check)?;
    let sums = rows.into_iter().map(|it| Sum {
        id: TransferId::from_uuid(it.hold_id),
        kept_minor: it.remaining_minor,
        expected_minor: it.expected_minor,
    });
    Ok(sums.collect())
}

/// At most `limit` transfers after `transfer_id` of which something was moved back, in order of id,
/// and how much.
pub(crate) async fn reversals(
    conn: &mut PgConnection,
    transfer_id: Uuid,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    let rows = sqlx::query_file!("sql/read_reversals.sql", transfer_id, limit)
        .fetch_all(conn)
        .await
        .map_err(Error::Check)?;
    let sums = rows.into_iter().map(|it| Sum {
        id: TransferId::from_uuid(it.transfer_id),
        kept_minor: it.reversed_minor,
        expected_minor: it.expected_minor,
    });
    Ok(sums.collect())
}

/// Which of these holds are not kept.
pub(crate) async fn holds_not_kept(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        r#"select it.id as "id!"
           from unnest($1::uuid[]) as it (id)
           where not exists (select from ledger.holds h where h.hold_id = it.id)"#,
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)
}

/// Of which of these transfers nothing is kept to have been moved back.
pub(crate) async fn reversals_not_kept(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        r#"select it.id as "id!"
           from unnest($1::uuid[]) as it (id)
           where not exists (select from ledger.reversals r where r.transfer_id = it.id)"#,
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Check)
}
