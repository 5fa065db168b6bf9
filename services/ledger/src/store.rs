//! All SQL of the ledger.
//!
//! Lock order: the reader's cursor (`bus.cursors`, taken by `bus::follow` before anything here),
//! then rows that change: accounts, holds, reversals, each in order of id. Transfers, account
//! changes and batches are only ever added. Nobody takes them the other way. The cursor makes one
//! writer at a time; positions that have no gap are the second guard, against a hand in `psql`.
//!
//! Every statement here is about a whole batch, however long. What is found before a batch is
//! decided is in [`find`], how transfers are written in [`insert`], what is read for answers in
//! [`read`], what is read to check the books in [`check`].

pub(crate) mod check;
pub(crate) mod find;
mod insert;
pub(crate) mod read;
pub(crate) mod seed;

use ledger_core::{
    Account, AccountKind, Change, ChangeRecord, Changes, Head, Hold, Limits, Rejection, Reversible,
    Standing, Status,
};
use primitives::{AccountId, Currency, RequestKey, System, Timestamp};
use sqlx::PgConnection;
use sqlx::types::Uuid;
use time::OffsetDateTime;

/// The currencies in which the ledger has accounts of its own.
const CURRENCIES: [&str; 6] = ["NGN", "GHS", "ZAR", "KES", "USD", "XOF"];

/// What was being tried when Postgres failed, or what it holds that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to connect to the books")]
    Connect(#[source] sqlx::Error),
    #[error("failed to begin a reading of the books")]
    Begin(#[source] sqlx::Error),
    #[error("failed to read where the books end")]
    Head(#[source] sqlx::Error),
    #[error("failed to find what a batch is about")]
    Find(#[source] sqlx::Error),
    #[error("something in the batch was decided before")]
    Repeat(#[source] sqlx::Error),
    #[error("failed to open {n_accounts} accounts")]
    Open {
        n_accounts: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to change {n_accounts} accounts")]
    Change {
        n_accounts: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to save {n_transfers} transfers")]
    Save {
        n_transfers: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("{n_saved} rows of {n_rows} were saved")]
    Lost { n_rows: usize, n_saved: u64 },
    #[error("failed to save what remains of {n_holds} holds")]
    Holds {
        n_holds: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to save what was moved back of {n_transfers} transfers")]
    Reversals {
        n_transfers: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to commit")]
    Commit(#[source] sqlx::Error),
    #[error("failed to look for holds whose time is up")]
    Due(#[source] sqlx::Error),
    #[error("failed to grant the runtime role its rights")]
    Grant(#[source] sqlx::Error),
    #[error("failed to read balances")]
    Balances(#[source] sqlx::Error),
    #[error("failed to read a transfer")]
    Transfer(#[source] sqlx::Error),
    #[error("failed to read a history")]
    History(#[source] sqlx::Error),
    #[error("failed to read the books for the audit")]
    Check(#[source] sqlx::Error),
    #[error("postgres did not send a whole page of the books")]
    Page,
    #[error("column {column} holds what the ledger never writes")]
    Unreadable { column: &'static str },
}

pub(crate) const fn unreadable(column: &'static str) -> Error {
    Error::Unreadable { column }
}

/// Opens the ledger's own accounts: one of each kind per currency; those that exist stay.
pub(crate) async fn open_system_accounts(
    conn: &mut PgConnection,
    now: Timestamp,
) -> Result<(), Error> {
    let currencies = CURRENCIES.iter().filter_map(|it| Currency::parse(it).ok());
    let accounts: Vec<Account> = currencies
        .flat_map(|it| [System::PaystackClearing, System::Suspense].map(|kind| (kind, it)))
        .map(|(kind, currency)| Account::system(kind, currency, now))
        .collect();
    open_accounts(conn, &accounts, Head::START).await
}

/// Lets `role` add to the books, and change what its rules say may change; nothing else.
pub(crate) async fn grant_runtime(conn: &mut PgConnection, role: &str) -> Result<(), Error> {
    sqlx::query!("select ledger.grant_runtime($1)", role)
        .fetch_one(conn)
        .await
        .map_err(Error::Grant)?;
    Ok(())
}

/// Saves what a batch has changed.
///
/// # Errors
/// [`Error::Repeat`] if a transfer's id or request key is in the books already: the transaction
/// is of no more use, and the batch must be decided with the earlier decision at hand.
pub(crate) async fn save(conn: &mut PgConnection, changes: &Changes) -> Result<(), Error> {
    let head_before = head_before(changes);
    open_accounts(conn, &changes.opened, head_before).await?;
    change_accounts(conn, &changes.changed).await?;
    insert_account_changes(conn, &changes.change_records).await?;
    if !changes.records.is_empty() {
        insert::transfers(conn, &changes.records, changes.head).await?;
    }
    save_holds(conn, &changes.holds).await?;
    save_reversals(conn, &changes.reversed).await
}

/// Where the books ended before the batch.
fn head_before(changes: &Changes) -> Head {
    let first = changes.records.first().map(|it| it.position.saturating_sub(1));
    Head { position: first.unwrap_or(changes.head.position), ..changes.head }
}

/// How far the books are written.
pub(crate) async fn head(conn: &mut PgConnection) -> Result<Head, Error> {
    let newest = sqlx::query!(
        "select last_position, decided_at
         from ledger.batches
         order by last_position desc
         limit 1"
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::Head)?;
    Ok(newest.map_or(Head::START, |it| Head {
        position: it.last_position,
        decided_at: Timestamp::from_datetime(it.decided_at),
    }))
}

/// Those that exist already stay as they are: only `migrate` ever asks for them again.
async fn open_accounts(
    conn: &mut PgConnection,
    accounts: &[Account],
    after: Head,
) -> Result<(), Error> {
    if accounts.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into ledger.accounts
           (account_id, kind, currency, status, least_minor, greatest_minor, opened_at, opened_after)
         select account_id, kind, currency, status, least_minor, greatest_minor, opened_at, $8
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
           $7::timestamptz[])
           as it (account_id, kind, currency, status, least_minor, greatest_minor, opened_at)
         on conflict (account_id) do nothing",
        &column(accounts, |it| it.id.uuid()),
        &column(accounts, |it| print_kind(it.kind).to_owned()),
        &column(accounts, |it| it.currency.to_string()),
        &column(accounts, |it| print_status(it.status).to_owned()),
        &column(accounts, |it| it.limits.least_minor),
        &column(accounts, |it| it.limits.greatest_minor),
        &column(accounts, |it| it.opened_at.to_datetime()),
        after.position,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Open { n_accounts: accounts.len(), source })?;
    Ok(())
}

async fn change_accounts(conn: &mut PgConnection, accounts: &[Account]) -> Result<(), Error> {
    if accounts.is_empty() {
        return Ok(());
    }
    let n_accounts = accounts.len();
    let changed = sqlx::query!(
        "update ledger.accounts a
         set status = it.status,
           least_minor = it.least_minor,
           greatest_minor = it.greatest_minor
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[])
           as it (account_id, status, least_minor, greatest_minor)
         where a.account_id = it.account_id",
        &column(accounts, |it| it.id.uuid()),
        &column(accounts, |it| print_status(it.status).to_owned()),
        &column(accounts, |it| it.limits.least_minor),
        &column(accounts, |it| it.limits.greatest_minor),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Change { n_accounts, source })?;
    all_of(n_accounts, changed.rows_affected())
}

async fn insert_account_changes(
    conn: &mut PgConnection,
    records: &[ChangeRecord],
) -> Result<(), Error> {
    if records.is_empty() {
        return Ok(());
    }
    // What is absent travels as zeros; the statement makes it null.
    let limits = |it: &ChangeRecord| match it.asked.change {
        Change::SetLimits(limits) => limits,
        Change::Freeze | Change::Unfreeze | Change::Close => {
            Limits { least_minor: 0, greatest_minor: 0 }
        }
    };
    sqlx::query!(
        "insert into ledger.account_changes
           (change_id, account_id, change, least_minor, greatest_minor, rejection, after_position,
            decided_at)
         select change_id, account_id, change,
           case change when 4 then least_minor end,
           case change when 4 then greatest_minor end,
           rejection, after_position, decided_at
         from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[],
           $6::smallint[], $7::bigint[], $8::timestamptz[]) with ordinality
           as it (change_id, account_id, change, least_minor, greatest_minor, rejection,
             after_position, decided_at, n)
         order by n",
        &column(records, |it| it.asked.id.uuid()),
        &column(records, |it| it.asked.account_id.uuid()),
        &column(records, |it| print_change(it.asked.change)),
        &column(records, |it| limits(it).least_minor),
        &column(records, |it| limits(it).greatest_minor),
        &column(records, |it| it.verdict.rejection().map_or(0, Rejection::number)),
        &column(records, |it| it.after_position),
        &column(records, |it| it.decided_at.to_datetime()),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Change { n_accounts: records.len(), source })?;
    Ok(())
}

async fn save_holds(conn: &mut PgConnection, holds: &[Hold]) -> Result<(), Error> {
    if holds.is_empty() {
        return Ok(());
    }
    let n_holds = holds.len();
    let saved = sqlx::query!(
        "insert into ledger.holds as h
           (hold_id, debit_account_id, credit_account_id, amount_minor, remaining_minor, expires_at,
            currency)
         select hold_id, debit_account_id, credit_account_id, amount_minor, remaining_minor,
           nullif(expires_at, 'epoch'), currency
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[],
           $6::timestamptz[], $7::text[])
           as it (hold_id, debit_account_id, credit_account_id, amount_minor, remaining_minor,
             expires_at, currency)
         on conflict (hold_id) do update
         set remaining_minor = excluded.remaining_minor",
        &column(holds, |it| it.id.uuid()),
        &column(holds, |it| it.of.debit_account_id.uuid()),
        &column(holds, |it| it.of.credit_account_id.uuid()),
        &column(holds, |it| it.of.amount.to_i64()),
        &column(holds, |it| it.remaining_minor),
        // Never is the beginning of time; the statement makes it null.
        &column(holds, |it| it.expires_at.unwrap_or(Timestamp::from_micros(0)).to_datetime()),
        &column(holds, |it| it.of.currency.to_string()),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Holds { n_holds, source })?;
    all_of(n_holds, saved.rows_affected())
}

async fn save_reversals(conn: &mut PgConnection, reversed: &[Reversible]) -> Result<(), Error> {
    if reversed.is_empty() {
        return Ok(());
    }
    let n_transfers = reversed.len();
    let saved = sqlx::query!(
        "insert into ledger.reversals as r
           (transfer_id, amount_minor, reversed_minor)
         select *
         from unnest($1::uuid[], $2::bigint[], $3::bigint[])
         on conflict (transfer_id) do update
         set reversed_minor = excluded.reversed_minor",
        &column(reversed, |it| it.id.uuid()),
        &column(reversed, |it| it.of.map_or(0, |of| of.amount.to_i64())),
        &column(reversed, |it| it.reversed_minor),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Reversals { n_transfers, source })?;
    all_of(n_transfers, saved.rows_affected())
}

/// A row that is not there cannot be changed: somebody took it away.
fn all_of(n_rows: usize, n_saved: u64) -> Result<(), Error> {
    if usize::try_from(n_saved) == Ok(n_rows) {
        Ok(())
    } else {
        Err(Error::Lost { n_rows, n_saved })
    }
}

/// A request key as Postgres keeps it.
fn halves(key: RequestKey) -> (Uuid, Uuid) {
    let half = |bytes: &[u8]| Uuid::from_slice(bytes).expect("half of 32 bytes is 16");
    let (first, rest) = key.0.split_at(16);
    (half(first), half(rest))
}

/// Back from [`halves`].
fn read_request_key(first: Option<Uuid>, rest: Option<Uuid>) -> Option<RequestKey> {
    let mut key = [0; 32];
    let (first, rest) = first.zip(rest)?;
    let (to_first, to_rest) = key.split_at_mut(16);
    to_first.copy_from_slice(first.as_bytes());
    to_rest.copy_from_slice(rest.as_bytes());
    Some(RequestKey(key))
}

/// One column of many rows, as `unnest` takes it.
fn column<R, V>(rows: &[R], value: impl Fn(&R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// An account as Postgres keeps it, with what stands on it.
#[derive(Debug)]
pub(crate) struct AccountRow {
    pub(crate) account_id: Uuid,
    pub(crate) kind: String,
    pub(crate) currency: String,
    pub(crate) status: String,
    pub(crate) least_minor: i64,
    pub(crate) greatest_minor: i64,
    pub(crate) opened_at: OffsetDateTime,
    /// Of the newest transfer that changed something on it; none if none did.
    pub(crate) balance_minor: Option<i64>,
    pub(crate) held_minor: Option<i64>,
}

/// The accounts there are of `ids`, with what stood on each after the transfer at its position, and
/// each with its place among them.
async fn accounts_at(
    conn: &mut PgConnection,
    ids: &[Uuid],
    positions: &[i64],
) -> Result<Vec<(usize, AccountRow)>, sqlx::Error> {
    let rows = sqlx::query_file!("sql/read_accounts.sql", ids, positions).fetch_all(conn).await?;
    let placed = rows.into_iter().filter_map(|it| {
        // Postgres counts from 1.
        let place = usize::try_from(it.n).ok()?.checked_sub(1)?;
        let row = AccountRow {
            account_id: it.account_id,
            kind: it.kind,
            currency: it.currency,
            status: it.status,
            least_minor: it.least_minor,
            greatest_minor: it.greatest_minor,
            opened_at: it.opened_at,
            balance_minor: it.balance_minor,
            held_minor: it.held_minor,
        };
        Some((place, row))
    });
    Ok(placed.collect())
}

impl AccountRow {
    pub(crate) fn read(self) -> Result<Account, Error> {
        Ok(Account {
            id: AccountId::from_uuid(self.account_id),
            kind: read_kind(&self.kind)?,
            currency: read_currency(&self.currency)?,
            status: read_status(&self.status)?,
            limits: Limits { least_minor: self.least_minor, greatest_minor: self.greatest_minor },
            standing: Standing {
                balance_minor: self.balance_minor.unwrap_or(0),
                held_minor: self.held_minor.unwrap_or(0),
            },
            opened_at: Timestamp::from_datetime(self.opened_at),
        })
    }
}

const fn print_kind(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Wallet => "wallet",
        AccountKind::System(System::PaystackClearing) => "paystack_clearing",
        AccountKind::System(System::Suspense) => "suspense",
    }
}

pub(crate) fn read_kind(kind: &str) -> Result<AccountKind, Error> {
    match kind {
        "wallet" => Ok(AccountKind::Wallet),
        "paystack_clearing" => Ok(AccountKind::System(System::PaystackClearing)),
        "suspense" => Ok(AccountKind::System(System::Suspense)),
        _ => Err(unreadable("accounts.kind")),
    }
}

const fn print_status(status: Status) -> &'static str {
    match status {
        Status::Open => "open",
        Status::Frozen => "frozen",
        Status::Closed => "closed",
    }
}

fn read_status(status: &str) -> Result<Status, Error> {
    match status {
        "open" => Ok(Status::Open),
        "frozen" => Ok(Status::Frozen),
        "closed" => Ok(Status::Closed),
        _ => Err(unreadable("accounts.status")),
    }
}

pub(crate) fn read_currency(code: &str) -> Result<Currency, Error> {
    Currency::parse(code).map_err(|_| unreadable("currency"))
}

/// The number of a change, the same as on the wire.
pub(crate) const fn print_change(change: Change) -> i16 {
    match change {
        Change::Freeze => 1,
        Change::Unfreeze => 2,
        Change::Close => 3,
        Change::SetLimits(_) => 4,
    }
}

pub(crate) fn read_change(
    number: i16,
    least_minor: Option<i64>,
    greatest_minor: Option<i64>,
) -> Result<Change, Error> {
    match (number, least_minor, greatest_minor) {
        (1, None, None) => Ok(Change::Freeze),
        (2, None, None) => Ok(Change::Unfreeze),
        (3, None, None) => Ok(Change::Close),
        (4, Some(least_minor), Some(greatest_minor)) => {
            Ok(Change::SetLimits(Limits { least_minor, greatest_minor }))
        }
        _ => Err(unreadable("account_changes.change")),
    }
}
