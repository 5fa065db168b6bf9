//! SQL of people: users and the wallet directory.
//!
//! Lock order: a user before its wallet, never the other way.

use std::collections::BTreeMap;

use primitives::{AccountId, Currency, Timestamp, UserId, WalletNumber};
use sqlx::{PgConnection, PgPool};

/// The database of people broke, or holds what cannot be. Shared with `sessions`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("failed to {doing}")]
    Sql {
        /// What was being tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// A row does not read as what it must be, in spite of the constraints.
    #[error("a row of {table} cannot be read")]
    Unreadable {
        /// The table.
        table: &'static str,
    },
}

pub(super) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Sql { doing, source }
}

/// A line of the wallet directory. Never changes once written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wallet {
    /// As the ledger knows it.
    pub account: AccountId,
    /// As people know it.
    pub number: WalletNumber,
    /// Its one currency.
    pub currency: Currency,
}

/// A person with what the provider last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Verified by the provider, if there is one.
    pub email: Option<String>,
    /// As the person likes to be called, if the provider knows.
    pub name: Option<String>,
    /// First sign-in.
    pub created_at: Timestamp,
    /// The wallet.
    pub wallet: Wallet,
    /// Whether the ledger has opened the wallet's account.
    pub is_opened: bool,
}

/// What a sign-in brings.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// With `subject`, who it is.
    pub issuer: &'a str,
    /// Never changes.
    pub subject: &'a str,
    /// Verified, if any.
    pub email: Option<&'a str>,
    /// If any.
    pub name: Option<&'a str>,
}

fn read_wallet(account: uuid::Uuid, number: &str, currency: &str) -> Result<Wallet, Error> {
    let unreadable = || Error::Unreadable { table: "api.wallets" };
    Ok(Wallet {
        account: AccountId::from_uuid(account),
        number: WalletNumber::parse(number).map_err(|_| unreadable())?,
        currency: Currency::parse(currency).map_err(|_| unreadable())?,
    })
}

/// The wallets with these numbers; numbers that nobody has are left out.
///
/// # Errors
/// The database broke.
pub async fn wallets_with(pool: &PgPool, numbers: &[WalletNumber]) -> Result<Vec<Wallet>, Error> {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let rows = sqlx::query!(
        "select account_id, wallet_number, currency
         from api.wallets
         where wallet_number = any($1)",
        &numbers,
    )
    .fetch_all(pool)
    .await
    .map_err(failed("look up wallet numbers"))?;
    rows.into_iter().map(|it| read_wallet(it.account_id, &it.wallet_number, &it.currency)).collect()
}

/// The numbers of these accounts; accounts that are no wallets are left out.
///
/// # Errors
/// The database broke.
pub async fn numbers_of(
    pool: &PgPool,
    accounts: &[AccountId],
) -> Result<BTreeMap<AccountId, WalletNumber>, Error> {
    let ids: Vec<_> = accounts.iter().map(|it| it.uuid()).collect();
    let rows = sqlx::query!(
        "select account_id, wallet_number
         from api.wallets
         where account_id = any($1)",
        &ids,
    )
    .fetch_all(pool)
    .await
    .map_err(failed("look up accounts' wallet numbers"))?;
    rows.into_iter()
        .map(|it| match WalletNumber::parse(&it.wallet_number) {
            Ok(number) => Ok((AccountId::from_uuid(it.account_id), number)),
            Err(_) => Err(Error::Unreadable { table: "api.wallets" }),
        })
        .collect()
}

/// The wallet of a person.
///
/// # Errors
/// The database broke.
pub async fn wallet_of(pool: &PgPool, user: UserId) -> Result<Option<Wallet>, Error> {
    let row = sqlx::query!(
        "select account_id, wallet_number, currency
         from api.wallets
         where user_id = $1",
        user.uuid(),
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("look up a person's wallet"))?;
    row.map(|it| read_wallet(it.account_id, &it.wallet_number, &it.currency)).transpose()
}

/// A person with wallet; `None` for one who has not got so far.
///
/// # Errors
/// The database broke.
pub async fn user(conn: &mut PgConnection, id: UserId) -> Result<Option<User>, Error> {
    let row = sqlx::query!(
        "select u.email, u.name, u.created_at,
                w.account_id, w.wallet_number, w.currency, w.opened_at
         from api.users u
         join api.wallets w on w.user_id = u.user_id
         where u.user_id = $1",
        id.uuid(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look up a person"))?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(User {
        id,
        email: row.email,
        name: row.name,
        created_at: Timestamp::from_datetime(row.created_at),
        wallet: read_wallet(row.account_id, &row.wallet_number, &row.currency)?,
        is_opened: row.opened_at.is_some(),
    }))
}

/// Writes down who arrived: a new person under `fresh`, or the known one with what the provider
/// says today. Holds the person's row until the transaction ends, so that arrivals of one person
/// come one after the other.
///
/// # Errors
/// The database broke.
pub async fn arrive(
    conn: &mut PgConnection,
    fresh: UserId,
    who: Arrival<'_>,
    now: Timestamp,
) -> Result<UserId, Error> {
    sqlx::query_scalar!(
        "insert into api.users as u
             (user_id, issuer, subject, email, name, created_at, signed_in_at)
         values ($1, $2, $3, $4, $5, $6, $6)
         on conflict on constraint users_one_per_subject do update
         set email = excluded.email,
             name = excluded.name,
             signed_in_at = greatest(u.signed_in_at, excluded.signed_in_at)
         returning user_id",
        fresh.uuid(),
        who.issuer,
        who.subject,
        who.email,
        who.name,
        now.to_datetime(),
    )
    .fetch_one(conn)
    .await
    .map(UserId::from_uuid)
    .map_err(failed("write down who signed in"))
}

/// Gives the person `wallet`, unless there is one already or the number is taken; says which of
/// the two happened by leaving it to [`user`] to find a wallet or none.
///
/// # Errors
/// The database broke.
pub async fn give_wallet(
    conn: &mut PgConnection,
    to: UserId,
    wallet: Wallet,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into api.wallets (account_id, user_id, wallet_number, currency, created_at)
         values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        wallet.account.uuid(),
        to.uuid(),
        wallet.number.to_string(),
        wallet.currency.as_str(),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed("give a person a wallet"))
}

/// Remembers that the ledger has opened the account, so that it is asked once.
///
/// # Errors
/// The database broke.
pub async fn opened(
    conn: &mut PgConnection,
    account: AccountId,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        "update api.wallets
         set opened_at = $2
         where account_id = $1
           and opened_at is null",
        account.uuid(),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map(drop)
    .map_err(failed("remember that an account is open"))
}
