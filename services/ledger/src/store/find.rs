//! What is found before a batch is decided.

use ledger_core::{
    Account, AccountChange, ChangeRecord, Decision, Found, Hold, Move, Needs, Rejection,
    Reversible, Subjects, TransferKind, Verdict,
};
use primitives::{AccountId, Amount, ChangeId, Timestamp, TransferId};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use super::{Error, read_change, read_currency, unreadable};

/// Finds the holds and transfers that a batch is about.
pub(crate) async fn subjects(conn: &mut PgConnection, subjects: &Subjects) -> Result<Found, Error> {
    Ok(Found {
        holds: holds(conn, &ids(subjects.holds.iter().map(|it| it.uuid()))).await?,
        reversed: reversed(conn, &ids(subjects.reversed.iter().map(|it| it.uuid()))).await?,
        ..Found::default()
    })
}

/// Finds what else is needed, beside the holds and transfers in `found`.
pub(crate) async fn rest(
    conn: &mut PgConnection,
    needs: &Needs,
    found: Found,
) -> Result<Found, Error> {
    let head = if needs.head { Some(super::head(conn).await?) } else { None };
    let transfers = ids(needs.transfers.iter().map(|it| it.uuid()));
    let keys = ids(needs.request_keys.iter().map(|it| super::halves(*it).0));
    Ok(Found {
        head,
        accounts: accounts(conn, &ids(needs.accounts.iter().map(|it| it.uuid()))).await?,
        decisions: decisions(conn, &transfers, &keys).await?,
        changes: changes(conn, &ids(needs.changes.iter().map(|it| it.uuid()))).await?,
        ..found
    })
}

fn ids(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    ids.collect()
}

async fn accounts(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Account>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let newest = vec![i64::MAX; ids.len()];
    let rows = super::accounts_at(conn, ids, &newest).await.map_err(Error::Find)?;
    rows.into_iter().map(|(_, it)| it.read()).collect()
}

async fn decisions(
    conn: &mut PgConnection,
    ids: &[Uuid],
    keys: &[Uuid],
) -> Result<Vec<Decision>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_file!("sql/find_decisions.sql", ids, keys)
        .fetch_all(conn)
        .await
        .map_err(Error::Find)?;
    rows.into_iter()
        .map(|it| {
            Ok(Decision {
                transfer_id: TransferId::from_uuid(it.transfer_id),
                request_key: super::read_request_key(it.request_key, it.request_key_rest),
                request_digest: <[u8; 32]>::try_from(it.request_digest)
                    .map_err(|_| unreadable("transfers.request_digest"))?,
                verdict: read_verdict(it.rejection, it.debit_balance_after_minor)?,
                decided_at: Timestamp::from_datetime(it.decided_at),
            })
        })
        .collect()
}

/// Reads how a transfer, or a change, which leaves no balance, was decided.
pub(crate) fn read_verdict(
    rejection: i16,
    debit_balance_after_minor: Option<i64>,
) -> Result<Verdict, Error> {
    if rejection == 0 {
        let debit_balance_after_minor = debit_balance_after_minor.unwrap_or(0);
        return Ok(Verdict::Done { debit_balance_after_minor });
    }
    let rejection = Rejection::from_number(rejection);
    rejection.map(Verdict::Rejected).ok_or_else(|| unreadable("rejection"))
}

async fn changes(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<ChangeRecord>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_as!(
        ChangeRow,
        "select change_id, account_id, change, least_minor, greatest_minor, rejection,
           after_position, decided_at
         from ledger.account_changes
         where change_id = any($1)",
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Find)?;
    rows.into_iter().map(ChangeRow::read).collect()
}

/// A change of an account as Postgres keeps it.
#[derive(Debug)]
pub(crate) struct ChangeRow {
    pub(crate) change_id: Uuid,
    pub(crate) account_id: Uuid,
    pub(crate) change: i16,
    pub(crate) least_minor: Option<i64>,
    pub(crate) greatest_minor: Option<i64>,
    pub(crate) rejection: i16,
    pub(crate) after_position: i64,
    pub(crate) decided_at: time::OffsetDateTime,
}

impl ChangeRow {
    pub(crate) fn read(self) -> Result<ChangeRecord, Error> {
        Ok(ChangeRecord {
            asked: AccountChange {
                id: ChangeId::from_uuid(self.change_id),
                account_id: AccountId::from_uuid(self.account_id),
                change: read_change(self.change, self.least_minor, self.greatest_minor)?,
            },
            verdict: read_verdict(self.rejection, None)?,
            after_position: self.after_position,
            decided_at: Timestamp::from_datetime(self.decided_at),
        })
    }
}

async fn holds(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Hold>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        "select hold_id, debit_account_id, credit_account_id, amount_minor, remaining_minor,
           expires_at, currency
         from ledger.holds
         where hold_id = any($1)
         order by hold_id
         for no key update",
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Find)?;
    rows.into_iter()
        .map(|it| {
            let of = read_move(
                Some(it.debit_account_id),
                Some(it.credit_account_id),
                it.amount_minor,
                Some(&it.currency),
            )?;
            Ok(Hold {
                id: TransferId::from_uuid(it.hold_id),
                of: of.ok_or_else(|| unreadable("holds.amount_minor"))?,
                remaining_minor: it.remaining_minor,
                expires_at: it.expires_at.map(Timestamp::from_datetime),
            })
        })
        .collect()
}

async fn reversed(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Reversible>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_file!("sql/find_reversed.sql", ids)
        .fetch_all(conn)
        .await
        .map_err(Error::Find)?;
    rows.into_iter()
        .map(|it| {
            let (debit, credit) = (it.debit_account_id, it.credit_account_id);
            let of = read_move(debit, credit, it.amount_minor, it.currency.as_deref())?;
            Ok(Reversible {
                id: TransferId::from_uuid(it.transfer_id),
                kind: read_transfer_kind(it.kind)?,
                of: of.filter(|_| it.rejection == 0),
                reversed_minor: it.reversed_minor,
            })
        })
        .collect()
}

/// Reads what a transfer moves; none if it was refused before that was known.
pub(crate) fn read_move(
    debit_account_id: Option<Uuid>,
    credit_account_id: Option<Uuid>,
    amount_minor: i64,
    currency: Option<&str>,
) -> Result<Option<Move>, Error> {
    let (Some(debit), Some(credit), Some(currency)) =
        (debit_account_id, credit_account_id, currency)
    else {
        return Ok(None);
    };
    Ok(Some(Move {
        debit_account_id: AccountId::from_uuid(debit),
        credit_account_id: AccountId::from_uuid(credit),
        amount: Amount::from_i64(amount_minor).map_err(|_| unreadable("amount_minor"))?,
        currency: read_currency(currency)?,
    }))
}

pub(crate) fn read_transfer_kind(number: i16) -> Result<TransferKind, Error> {
    TransferKind::from_number(number).ok_or_else(|| unreadable("transfers.kind"))
}

/// Holds of which something remains and whose time was up at `now`, the longest due first.
pub(crate) async fn due(
    conn: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<TransferId>, Error> {
    let ids = sqlx::query_scalar!(
        "select hold_id
         from ledger.holds
         where remaining_minor > 0
           and expires_at is not null
           and expires_at <= $1
         order by expires_at
         limit $2",
        now.to_datetime(),
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::Due)?;
    Ok(ids.into_iter().map(TransferId::from_uuid).collect())
}
