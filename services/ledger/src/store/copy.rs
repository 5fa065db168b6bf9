//! Transfers on their way into Postgres: many by binary `copy`, few by `insert`.
//!
//! `copy` costs Postgres least by the row, but it is two writes before an answer, and where the
//! client does not switch Nagle's algorithm off, which ours cannot, the second waits up to 40 ms
//! for the first to be acknowledged, unless that was long enough to be acknowledged at once. So
//! small batches go as one `insert`.
//!
//! The format is that of the chapter on `copy` in Postgres' manual: a header, then for each row the
//! number of its fields and for each field its length and its bytes, big-endian; -1 is null, and a
//! row of -1 fields ends it.

use ledger_core::{Action, Record, Rejection, Standing};
use primitives::{Amount, Timestamp, TransferId};
use sqlx::PgConnection;
use sqlx::types::Uuid;

use super::{Error, column};

/// The columns of a row, in this order.
const STATEMENT: &str = "copy ledger.transfers (
  position, transfer_id, kind, rejection, debit_account_id, credit_account_id, amount_minor,
  currency, debit_balance_after_minor, debit_held_after_minor, credit_balance_after_minor,
  credit_held_after_minor, of_transfer_id, expires_at, note, reference, made_by_key_id,
  request_key, request_key_rest, request_digest, decided_at
) from stdin (format binary)";
const N_FIELDS: i16 = 21;

/// Signature, flags, and the length of an extension there is none of.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// 2000-01-01, where Postgres begins to count, in microseconds since 1970.
pub(super) const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// What a row takes at most without its texts.
const ROW_BYTES: usize = 320;

/// The constraints that refuse what was decided before.
const REPEATS: [&str; 2] = ["transfers_transfer_id_once", "transfers_request_key_once"];

/// From so many rows on they are copied. A row has about 200 bytes, and two segments of loopback,
/// the longest there are, are acknowledged at once.
const COPIED_MIN: usize = 750;

/// Writes `records`.
pub(super) async fn transfers(conn: &mut PgConnection, records: &[Record]) -> Result<(), Error> {
    let n_transfers = records.len();
    let failed = |source: sqlx::Error| {
        let constraint = source.as_database_error().and_then(|it| it.constraint());
        if constraint.is_some_and(|it| REPEATS.contains(&it)) {
            Error::Repeat(source)
        } else {
            Error::Save { n_transfers, source }
        }
    };
    if n_transfers < COPIED_MIN {
        let n_saved = insert(conn, records).await.map_err(failed)?;
        return super::all_of(n_transfers, n_saved);
    }
    let mut copy = conn.copy_in_raw(STATEMENT).await.map_err(failed)?;
    copy.send(rows(records)).await.map_err(failed)?;
    let n_saved = copy.finish().await.map_err(failed)?;
    super::all_of(n_transfers, n_saved)
}

async fn insert(conn: &mut PgConnection, records: &[Record]) -> Result<u64, sqlx::Error> {
    let nil = |id: Option<Uuid>| id.unwrap_or_default();
    let moment = |at: Option<Timestamp>| at.unwrap_or(Timestamp::from_micros(0)).to_datetime();
    let key = |it: &Record| it.transfer.request_key.map(super::halves).unwrap_or_default();
    let standing = |it: Option<Standing>| it.unwrap_or_default();
    let inserted = sqlx::query_file!(
        "sql/insert_transfers.sql",
        &column(records, |it| it.position),
        &column(records, |it| it.transfer.id.uuid()),
        &column(records, |it| it.transfer.action.kind().number()),
        &column(records, |it| it.verdict.rejection().map_or(0, Rejection::number)),
        &column(records, |it| nil(it.of.map(|of| of.debit_account_id.uuid()))),
        &column(records, |it| nil(it.of.map(|of| of.credit_account_id.uuid()))),
        &column(records, amount_minor),
        &column(records, |it| it.of.map_or_else(String::new, |of| of.currency.to_string())),
        &column(records, |it| standing(it.debit_after).balance_minor),
        &column(records, |it| standing(it.debit_after).held_minor),
        &column(records, |it| standing(it.credit_after).balance_minor),
        &column(records, |it| standing(it.credit_after).held_minor),
        &column(records, |it| nil(about(&it.transfer.action))),
        &column(records, |it| moment(expires_at(&it.transfer.action))),
        &column(records, |it| it.transfer.note.clone()),
        &column(records, |it| it.transfer.reference.clone()),
        &column(records, |it| nil(it.transfer.made_by_key_id.map(|it| it.uuid()))),
        &column(records, |it| key(it).0),
        &column(records, |it| key(it).1),
        &column(records, |it| it.transfer.request_digest.to_vec()),
        &column(records, |it| it.decided_at.to_datetime()),
        &column(records, |it| it.of.is_some()),
        &column(records, |it| it.credit_after.is_some()),
        &column(records, |it| it.transfer.request_key.is_some()),
    )
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected())
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

fn rows(records: &[Record]) -> Vec<u8> {
    let mut rows = Rows(Vec::with_capacity(records.len().saturating_mul(ROW_BYTES)));
    rows.0.extend_from_slice(HEADER);
    for record in records {
        rows.row(record);
    }
    rows.0.extend_from_slice(&(-1_i16).to_be_bytes());
    rows.0
}

/// Rows as they are sent.
struct Rows(Vec<u8>);

impl Rows {
    fn row(&mut self, it: &Record) {
        let Record { transfer, of, debit_after, credit_after, .. } = it;
        let action = &transfer.action;
        self.0.extend_from_slice(&N_FIELDS.to_be_bytes());
        self.i64(Some(it.position));
        self.uuid(Some(transfer.id.uuid()));
        self.i16(action.kind().number());
        self.i16(it.verdict.rejection().map_or(0, Rejection::number));
        self.uuid(of.map(|it| it.debit_account_id.uuid()));
        self.uuid(of.map(|it| it.credit_account_id.uuid()));
        self.i64(Some(amount_minor(it)));
        self.text(of.as_ref().map_or("", |it| it.currency.as_str()));
        self.i64(debit_after.map(|it| it.balance_minor));
        self.i64(debit_after.map(|it| it.held_minor).filter(|it| *it != 0));
        self.i64(credit_after.map(|it| it.balance_minor));
        self.i64(credit_after.map(|it| it.held_minor).filter(|it| *it != 0));
        self.uuid(about(action));
        self.moment(expires_at(action));
        self.text(&transfer.note);
        self.text(&transfer.reference);
        self.uuid(transfer.made_by_key_id.map(|it| it.uuid()));
        let halves = transfer.request_key.map(super::halves);
        self.uuid(halves.map(|(first, _)| first));
        self.uuid(halves.map(|(_, rest)| rest));
        self.bytes(Some(&transfer.request_digest));
        self.moment(Some(it.decided_at));
    }

    /// The empty text is null: none of these texts means anything when it is empty.
    fn text(&mut self, text: &str) {
        self.bytes(Some(text.as_bytes()).filter(|it| !it.is_empty()));
    }

    fn uuid(&mut self, id: Option<Uuid>) {
        self.bytes(id.as_ref().map(|it| it.as_bytes().as_slice()));
    }

    fn moment(&mut self, at: Option<Timestamp>) {
        self.i64(at.map(|it| it.micros().saturating_sub(POSTGRES_EPOCH_US)));
    }

    fn i64(&mut self, number: Option<i64>) {
        self.bytes(number.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }

    fn i16(&mut self, number: i16) {
        self.bytes(Some(&number.to_be_bytes()));
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        let length = bytes.map_or(Ok(-1), |it| i32::try_from(it.len()));
        let length = length.expect("a field is far shorter than 2 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes.unwrap_or_default());
    }
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
