//! Transfers on their way into Postgres: a batch is one statement with one array of rows.
//!
//! Not `copy`, which costs Postgres less by the row: it is two writes before an answer, and where
//! the client does not switch Nagle's algorithm off, which ours cannot, the second waits up to
//! 40 ms for the first to be acknowledged.

use ledger_core::{Action, Head, Record, Rejection};
use primitives::{Amount, Timestamp, TransferId};
use sqlx::PgConnection;
use sqlx::types::Uuid;
use time::OffsetDateTime;

use super::{Error, all_of, column};

/// The constraints that refuse what was decided before.
const REPEATS: [&str; 2] = ["transfers_transfer_id_once", "transfers_request_key_once"];

/// `ledger.new_transfer`: the same fields in the same order.
#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "ledger.new_transfer")]
struct NewTransfer {
    position: i64,
    transfer_id: Uuid,
    kind: i16,
    rejection: i16,
    debit_account_id: Option<Uuid>,
    credit_account_id: Option<Uuid>,
    amount_minor: i64,
    currency: Option<String>,
    debit_balance_after_minor: Option<i64>,
    debit_held_after_minor: Option<i64>,
    credit_balance_after_minor: Option<i64>,
    credit_held_after_minor: Option<i64>,
    of_transfer_id: Option<Uuid>,
    expires_at: Option<OffsetDateTime>,
    note: Option<String>,
    reference: Option<String>,
    made_by_key_id: Option<Uuid>,
    request_key: Option<Uuid>,
    request_key_rest: Option<Uuid>,
    request_digest: [u8; 32],
    decided_at: OffsetDateTime,
}

/// Writes `records`, which end the books at `head`.
pub(super) async fn transfers(
    conn: &mut PgConnection,
    records: &[Record],
    head: Head,
) -> Result<(), Error> {
    let n_transfers = records.len();
    let saved = sqlx::query_file!(
        "sql/insert_transfers.sql",
        column(records, NewTransfer::of) as _,
        head.position,
        head.decided_at.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(|source| {
        let constraint = source.as_database_error().and_then(|it| it.constraint());
        if constraint.is_some_and(|it| REPEATS.contains(&it)) {
            Error::Repeat(source)
        } else {
            Error::Save { n_transfers, source }
        }
    })?;
    all_of(n_transfers, saved.rows_affected())
}

impl NewTransfer {
    fn of(record: &Record) -> Self {
        let Record { transfer, of, debit_after, credit_after, .. } = record;
        let action = &transfer.action;
        let halves = transfer.request_key.map(super::halves);
        let held = |held_minor: i64| Some(held_minor).filter(|it| *it != 0);
        Self {
            position: record.position,
            transfer_id: transfer.id.uuid(),
            kind: action.kind().number(),
            rejection: record.verdict.rejection().map_or(0, Rejection::number),
            debit_account_id: of.map(|it| it.debit_account_id.uuid()),
            credit_account_id: of.map(|it| it.credit_account_id.uuid()),
            amount_minor: amount_minor(record),
            currency: of.map(|it| it.currency.to_string()),
            debit_balance_after_minor: debit_after.map(|it| it.balance_minor),
            debit_held_after_minor: debit_after.and_then(|it| held(it.held_minor)),
            credit_balance_after_minor: credit_after.map(|it| it.balance_minor),
            credit_held_after_minor: credit_after.and_then(|it| held(it.held_minor)),
            of_transfer_id: about(action),
            expires_at: expires_at(action).map(Timestamp::to_datetime),
            note: text(&transfer.note),
            reference: text(&transfer.reference),
            made_by_key_id: transfer.made_by_key_id.map(|it| it.uuid()),
            request_key: halves.map(|(first, _)| first),
            request_key_rest: halves.map(|(_, rest)| rest),
            request_digest: transfer.request_digest,
            decided_at: record.decided_at.to_datetime(),
        }
    }
}

/// The empty text is null: neither means anything when it is empty.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// How much was moved; of what was refused before that was known, how much was asked for.
fn amount_minor(record: &Record) -> i64 {
    let amount = record.of.map(|it| it.amount).or_else(|| asked(&record.transfer.action));
    amount.map_or(0, Amount::to_i64)
}

/// The hold or the transfer it is about.
fn about(action: &Action) -> Option<Uuid> {
    action.hold_id().or_else(|| action.reversed_id()).map(TransferId::uuid)
}

/// How much was asked for, by what names an amount of an earlier transfer.
const fn asked(action: &Action) -> Option<Amount> {
    match action {
        Action::Capture { amount, .. } | Action::Reverse { amount, .. } => *amount,
        Action::Wallet(_)
        | Action::Deposit(_)
        | Action::Internal(_)
        | Action::Hold { .. }
        | Action::Release { .. }
        | Action::Expire { .. } => None,
    }
}

const fn expires_at(action: &Action) -> Option<Timestamp> {
    match action {
        Action::Hold { expires_at, .. } => *expires_at,
        Action::Wallet(_)
        | Action::Deposit(_)
        | Action::Internal(_)
        | Action::Capture { .. }
        | Action::Release { .. }
        | Action::Expire { .. }
        | Action::Reverse { .. } => None,
    }
}
