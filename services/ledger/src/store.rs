//! All SQL of the ledger.
//!
//! Lock order: the reader's cursor (`bus.cursors`, taken by `bus::follow` before anything here),
//! then accounts by `account_id`, then rows of transfers, entries and batches, which are only ever
//! added. Nobody takes them the other way. The cursor makes one writer at a time; the locks on
//! accounts are the second guard, against a hand in `psql`.
//!
//! Every statement here is about a whole batch, however long. What is read for answers is in
//! [`read`], what is read to check the books in [`check`].

pub(crate) mod check;
pub(crate) mod read;

use ledger_core::{
    Account, AccountKind, Books, Changes, Command, Decision, Entry, Head, Rejection, Transfer,
    TransferKind, Verdict,
};
use primitives::{AccountId, Currency, KeyId, RequestKey, System, Timestamp, TransferId};
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
    #[error("failed to load earlier decisions")]
    Decisions(#[source] sqlx::Error),
    #[error("failed to lock {n_accounts} accounts")]
    Lock {
        n_accounts: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to open {n_accounts} accounts")]
    Open {
        n_accounts: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to update {n_accounts} accounts")]
    Update {
        n_accounts: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("{n_updated} accounts of {n_accounts} were updated")]
    Lost { n_accounts: usize, n_updated: u64 },
    #[error("failed to save {n_transfers} transfers with {n_entries} entries")]
    Save {
        n_transfers: usize,
        n_entries: usize,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to close a batch")]
    Close(#[source] sqlx::Error),
    #[error("failed to grant the runtime role its rights")]
    Grant(#[source] sqlx::Error),
    #[error("failed to read an account")]
    Account(#[source] sqlx::Error),
    #[error("failed to read a transfer")]
    Transfer(#[source] sqlx::Error),
    #[error("failed to read a history")]
    History(#[source] sqlx::Error),
    #[error("failed to read the books for the audit")]
    Check(#[source] sqlx::Error),
    #[error("column {column} holds what the ledger never writes")]
    Unreadable { column: &'static str },
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
    sqlx::query!(
        "insert into ledger.accounts
           (account_id, kind, currency, opened_at, debits_minor, credits_minor, frozen)
         select account_id, kind, currency, $4, 0, 0, false
         from unnest($1::uuid[], $2::text[], $3::text[]) as it (account_id, kind, currency)
         on conflict (account_id) do nothing",
        &column(&accounts, |it| it.id.uuid()),
        &column(&accounts, |it| print_kind(it.kind).to_owned()),
        &column(&accounts, |it| it.currency.to_string()),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Open { n_accounts: accounts.len(), source })?;
    Ok(())
}

/// Lets `role` add to the books, and change balances and freezes; nothing else.
pub(crate) async fn grant_runtime(conn: &mut PgConnection, role: &str) -> Result<(), Error> {
    sqlx::query!("select ledger.grant_runtime($1)", role)
        .fetch_one(conn)
        .await
        .map_err(Error::Grant)?;
    Ok(())
}

/// Loads what `commands` touch: their accounts, locked, and what was decided before under the same
/// ids and request keys.
pub(crate) async fn load<'a>(
    conn: &mut PgConnection,
    commands: impl Iterator<Item = &'a Command> + Clone,
) -> Result<Books, Error> {
    let transfers = commands.clone().filter_map(Command::transfer);
    let ids: Vec<Uuid> = transfers.clone().map(|it| it.id.uuid()).collect();
    let keys: Vec<Vec<u8>> =
        transfers.filter_map(|it| it.request_key).map(|it| it.0.to_vec()).collect();
    let mut account_ids: Vec<Uuid> =
        commands.flat_map(Command::account_ids).map(AccountId::uuid).collect();
    account_ids.sort_unstable();
    account_ids.dedup();
    let accounts = lock_accounts(conn, &account_ids).await?;
    let head = head(conn).await?;
    let decisions = load_decisions(conn, &ids, &keys).await?;
    Ok(Books::new(head, accounts, decisions))
}

/// Saves what a batch has changed.
pub(crate) async fn save(conn: &mut PgConnection, changes: &Changes) -> Result<(), Error> {
    open_accounts(conn, &changes.opened).await?;
    update_accounts(conn, &changes.updated).await?;
    insert_transfers_and_entries(conn, &changes.decided, &changes.entries).await?;
    if !changes.entries.is_empty() {
        close_batch(conn, changes.head).await?;
    }
    Ok(())
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

async fn lock_accounts(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Account>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_as!(
        AccountRow,
        "select account_id, kind, currency, debits_minor, credits_minor, frozen, opened_at
         from ledger.accounts
         where account_id = any($1)
         order by account_id
         for no key update",
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(|source| Error::Lock { n_accounts: ids.len(), source })?;
    rows.into_iter().map(AccountRow::read).collect()
}

async fn load_decisions(
    conn: &mut PgConnection,
    ids: &[Uuid],
    keys: &[Vec<u8>],
) -> Result<Vec<Decision>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_file!("sql/load_decisions.sql", ids, keys)
        .fetch_all(conn)
        .await
        .map_err(Error::Decisions)?;
    rows.into_iter()
        .map(|it| {
            let unreadable = |column| Error::Unreadable { column };
            let digest = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes);
            let verdict = match (it.rejection, it.position, it.debit_balance_after_minor) {
                (0, Some(position), Some(debit_balance_after_minor)) => {
                    Verdict::Posted { position, debit_balance_after_minor }
                }
                (0, ..) => return Err(unreadable("transfers.position")),
                (number, ..) => Rejection::from_number(number)
                    .map(Verdict::Rejected)
                    .ok_or_else(|| unreadable("transfers.rejection"))?,
            };
            let key = it.request_key.map(digest).transpose();
            Ok(Decision {
                transfer_id: TransferId::from_uuid(it.transfer_id),
                request_key: key.map_err(|_| unreadable("transfers.request_key"))?.map(RequestKey),
                request_digest: digest(it.request_digest)
                    .map_err(|_| unreadable("transfers.request_digest"))?,
                verdict,
                decided_at: Timestamp::from_datetime(it.decided_at),
            })
        })
        .collect()
}

async fn open_accounts(conn: &mut PgConnection, accounts: &[Account]) -> Result<(), Error> {
    if accounts.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into ledger.accounts
           (account_id, kind, currency, debits_minor, credits_minor, frozen, opened_at)
         select *
         from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[],
           $7::timestamptz[])",
        &column(accounts, |it| it.id.uuid()),
        &column(accounts, |it| print_kind(it.kind).to_owned()),
        &column(accounts, |it| it.currency.to_string()),
        &column(accounts, |it| print_sum(it.debits_minor)),
        &column(accounts, |it| print_sum(it.credits_minor)),
        &column(accounts, |it| it.frozen),
        &column(accounts, |it| it.opened_at.to_datetime()),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Open { n_accounts: accounts.len(), source })?;
    Ok(())
}

async fn update_accounts(conn: &mut PgConnection, accounts: &[Account]) -> Result<(), Error> {
    if accounts.is_empty() {
        return Ok(());
    }
    let n_accounts = accounts.len();
    let updated = sqlx::query!(
        "update ledger.accounts a
         set debits_minor = it.debits_minor,
           credits_minor = it.credits_minor,
           frozen = it.frozen
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::boolean[])
           as it (account_id, debits_minor, credits_minor, frozen)
         where a.account_id = it.account_id",
        &column(accounts, |it| it.id.uuid()),
        &column(accounts, |it| print_sum(it.debits_minor)),
        &column(accounts, |it| print_sum(it.credits_minor)),
        &column(accounts, |it| it.frozen),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Update { n_accounts, source })?;
    let n_updated = updated.rows_affected();
    if usize::try_from(n_updated) != Ok(n_accounts) {
        return Err(Error::Lost { n_accounts, n_updated });
    }
    Ok(())
}

/// Both in one statement, at whose end Postgres checks that each follows from the other.
///
/// What is absent travels as the empty value of its type; the statement makes it null.
async fn insert_transfers_and_entries(
    conn: &mut PgConnection,
    decided: &[(Transfer, Decision)],
    entries: &[Entry],
) -> Result<(), Error> {
    if decided.is_empty() {
        return Ok(());
    }
    let (transfers, decisions): (Vec<&Transfer>, Vec<&Decision>) =
        decided.iter().map(|(transfer, decision)| (transfer, decision)).unzip();
    let key = |it: Option<RequestKey>| it.map_or_else(Vec::new, |key| key.0.to_vec());
    let made_by = |it: Option<KeyId>| it.map_or(Uuid::nil(), KeyId::uuid);
    let rejection = |it: Verdict| it.rejection().map_or(0, Rejection::number);
    let position = |it| match it {
        Verdict::Posted { position, .. } => position,
        Verdict::Done | Verdict::Rejected(_) => 0,
    };
    sqlx::query_file!(
        "sql/insert_transfers_and_entries.sql",
        &column(&transfers, |it| it.id.uuid()),
        &column(&transfers, |it| print_transfer_kind(it.kind)),
        &column(&transfers, |it| it.debit_account_id.uuid()),
        &column(&transfers, |it| it.credit_account_id.uuid()),
        &column(&transfers, |it| it.amount.to_i64()),
        &column(&transfers, |it| it.currency.to_string()),
        &column(&transfers, |it| it.note.clone()),
        &column(&transfers, |it| it.reference.clone()),
        &column(&transfers, |it| key(it.request_key)),
        &column(&transfers, |it| it.request_digest.to_vec()),
        &column(&transfers, |it| made_by(it.made_by_key_id)),
        &column(&decisions, |it| rejection(it.verdict)),
        &column(&decisions, |it| position(it.verdict)),
        &column(&decisions, |it| it.decided_at.to_datetime()),
        &column(entries, |it| it.position),
        &column(entries, |it| it.transfer_id.uuid()),
        &column(entries, |it| it.account_id.uuid()),
        &column(entries, |it| it.amount_minor),
        &column(entries, |it| it.balance_before_minor),
        &column(entries, |it| it.balance_after_minor),
    )
    .execute(conn)
    .await
    .map_err(|source| {
        let (n_transfers, n_entries) = (decided.len(), entries.len());
        Error::Save { n_transfers, n_entries, source }
    })?;
    Ok(())
}

/// One column of many rows, as `unnest` takes it.
fn column<R, V>(rows: &[R], value: impl Fn(&R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// Remembers when the entries up to `head` were decided.
async fn close_batch(conn: &mut PgConnection, head: Head) -> Result<(), Error> {
    sqlx::query!(
        "insert into ledger.batches (last_position, decided_at) values ($1, $2)",
        head.position,
        head.decided_at.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::Close)?;
    Ok(())
}

/// An account as Postgres keeps it.
pub(crate) struct AccountRow {
    account_id: Uuid,
    kind: String,
    currency: String,
    debits_minor: i64,
    credits_minor: i64,
    frozen: bool,
    opened_at: OffsetDateTime,
}

impl AccountRow {
    fn read(self) -> Result<Account, Error> {
        let sum = |sum: i64| {
            u64::try_from(sum).map_err(|_| Error::Unreadable { column: "accounts.debits_minor" })
        };
        Ok(Account {
            id: AccountId::from_uuid(self.account_id),
            kind: read_kind(&self.kind)?,
            currency: read_currency(&self.currency)?,
            debits_minor: sum(self.debits_minor)?,
            credits_minor: sum(self.credits_minor)?,
            frozen: self.frozen,
            opened_at: Timestamp::from_datetime(self.opened_at),
        })
    }
}

/// A sum as Postgres keeps it. The rules keep it within `i64`; if they did not, the column's
/// constraint would refuse the minus.
fn print_sum(sum: u64) -> i64 {
    i64::try_from(sum).unwrap_or(-1)
}

const fn print_kind(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Wallet => "wallet",
        AccountKind::System(System::PaystackClearing) => "paystack_clearing",
        AccountKind::System(System::Suspense) => "suspense",
    }
}

fn read_kind(kind: &str) -> Result<AccountKind, Error> {
    match kind {
        "wallet" => Ok(AccountKind::Wallet),
        "paystack_clearing" => Ok(AccountKind::System(System::PaystackClearing)),
        "suspense" => Ok(AccountKind::System(System::Suspense)),
        _ => Err(Error::Unreadable { column: "accounts.kind" }),
    }
}

fn read_currency(code: &str) -> Result<Currency, Error> {
    Currency::parse(code).map_err(|_| Error::Unreadable { column: "currency" })
}

/// The number of a kind, the same as on the wire.
pub(crate) const fn print_transfer_kind(kind: TransferKind) -> i16 {
    match kind {
        TransferKind::Wallet => 1,
        TransferKind::Deposit => 2,
    }
}
