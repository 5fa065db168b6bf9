//! Transfers on their way out of Postgres, by binary `copy`.
//!
//! The format is that of the chapter on `copy` in Postgres' manual: a header, then for each row the
//! number of its fields and for each field its length and its bytes, big-endian; -1 is null, and a
//! row of -1 fields ends it.

use ledger_core::audit::{Line, Original};
use ledger_core::{Action, Move, Record, Rejection, Standing, Transfer, TransferKind, Verdict};
use primitives::{AccountId, Amount, Currency, Timestamp, TransferId};
use sqlx::types::Uuid;

use super::Unreadable;

/// Signature, flags, and the length of an extension there is none of.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// 2000-01-01, where Postgres begins to count, in microseconds since 1970.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The bytes end where they should not, or say something that is no row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut;

/// Reads a whole answer.
pub(super) fn lines(page: &[u8]) -> Result<Vec<Result<Line, Unreadable>>, Cut> {
    let mut fields = Fields(page.strip_prefix(HEADER).ok_or(Cut)?);
    let mut lines = Vec::new();
    while fields.begin()? {
        lines.push(fields.line()?);
    }
    Ok(lines)
}

/// Fields that are left, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Whether there is another row; its number of fields is known.
    fn begin(&mut self) -> Result<bool, Cut> {
        Ok(i16::from_be_bytes(*self.take::<2>()?) >= 0)
    }

    fn line(&mut self) -> Result<Result<Line, Unreadable>, Cut> {
        let position = self.i64()?.ok_or(Cut)?;
        let transfer_id = TransferId::from_uuid(self.uuid()?.ok_or(Cut)?);
        let row = Row {
            position,
            transfer_id,
            kind: self.i16()?.ok_or(Cut)?,
            rejection: self.i16()?.ok_or(Cut)?,
            of: self.sides()?,
            debit_after: (self.i64()?, self.i64()?),
            credit_after: (self.i64()?, self.i64()?),
            about: self.uuid()?.map(TransferId::from_uuid),
            expires_at: self.moment()?,
            decided_at: self.moment()?.ok_or(Cut)?,
        };
        let (original, kind) = (self.i64()?, self.i16()?);
        let of = self.sides()?;
        let original = original.zip(kind).map(|(position, kind)| (position, kind, of));
        Ok(row.read(original).ok_or(Unreadable { position, transfer_id }))
    }

    fn sides(&mut self) -> Result<Sides<'a>, Cut> {
        Ok(Sides {
            debit: self.uuid()?,
            credit: self.uuid()?,
            amount_minor: self.i64()?,
            currency: self.field()?,
        })
    }

    fn i64(&mut self) -> Result<Option<i64>, Cut> {
        Ok(self.array()?.map(i64::from_be_bytes))
    }

    fn i16(&mut self) -> Result<Option<i16>, Cut> {
        Ok(self.array()?.map(i16::from_be_bytes))
    }

    fn uuid(&mut self) -> Result<Option<Uuid>, Cut> {
        Ok(self.array()?.map(Uuid::from_bytes))
    }

    fn moment(&mut self) -> Result<Option<Timestamp>, Cut> {
        let micros = self.i64()?;
        Ok(micros.map(|it| Timestamp::from_micros(it.saturating_add(POSTGRES_EPOCH_US))))
    }

    /// A field of so many bytes; none if it is null.
    fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Cut> {
        self.field()?.map(|it| it.try_into().map_err(|_| Cut)).transpose()
    }

    fn field(&mut self) -> Result<Option<&'a [u8]>, Cut> {
        let length = i32::from_be_bytes(*self.take::<4>()?);
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        let (field, rest) = self.0.split_at_checked(length).ok_or(Cut)?;
        self.0 = rest;
        Ok(Some(field))
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Cut> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Cut)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// From where to where, as far as that is kept.
struct Sides<'a> {
    debit: Option<Uuid>,
    credit: Option<Uuid>,
    amount_minor: Option<i64>,
    currency: Option<&'a [u8]>,
}

impl Sides<'_> {
    /// What it moves, if that is kept; none on the outside if it cannot be read.
    fn read(&self) -> Option<Option<Move>> {
        let Self { debit: Some(debit), credit: Some(credit), currency: Some(currency), .. } = *self
        else {
            return Some(None);
        };
        let currency = std::str::from_utf8(currency).ok()?;
        Some(Some(Move {
            debit_account_id: AccountId::from_uuid(debit),
            credit_account_id: AccountId::from_uuid(credit),
            amount: Amount::from_i64(self.amount_minor?).ok()?,
            currency: Currency::parse(currency).ok()?,
        }))
    }
}

/// A row as it is kept.
struct Row<'a> {
    position: i64,
    transfer_id: TransferId,
    kind: i16,
    rejection: i16,
    of: Sides<'a>,
    debit_after: (Option<i64>, Option<i64>),
    credit_after: (Option<i64>, Option<i64>),
    about: Option<TransferId>,
    expires_at: Option<Timestamp>,
    decided_at: Timestamp,
}

impl Row<'_> {
    /// The line, if the ledger could have written it at all. Notes, keys and digests are not read:
    /// no rule depends on them.
    fn read(&self, original: Option<(i64, i16, Sides<'_>)>) -> Option<Line> {
        let of = self.of.read()?;
        let debit_after = standing(self.debit_after)?;
        let verdict = match self.rejection {
            0 => {
                let debit_balance_after_minor = debit_after?.balance_minor;
                Verdict::Done { debit_balance_after_minor }
            }
            number => Verdict::Rejected(Rejection::from_number(number)?),
        };
        let reversed = match original {
            Some((position, kind, of)) => {
                let (kind, of) = (TransferKind::from_number(kind)?, of.read()??);
                Some(Original { position, kind, of })
            }
            None => None,
        };
        let transfer = Transfer {
            id: self.transfer_id,
            action: self.action(of)?,
            note: String::new(),
            reference: String::new(),
            request_key: None,
            request_digest: [0; 32],
            made_by_key_id: None,
        };
        let record = Record {
            position: self.position,
            transfer,
            of,
            verdict,
            debit_after,
            credit_after: standing(self.credit_after)?,
            decided_at: self.decided_at,
        };
        Some(Line { record, reversed })
    }

    fn action(&self, of: Option<Move>) -> Option<Action> {
        let amount = of.map(|it| it.amount);
        Some(match TransferKind::from_number(self.kind)? {
            TransferKind::Wallet => Action::Wallet(of?),
            TransferKind::Deposit => Action::Deposit(of?),
            TransferKind::Internal => Action::Internal(of?),
            TransferKind::Hold => Action::Hold { of: of?, expires_at: self.expires_at },
            TransferKind::Capture => Action::Capture { hold_id: self.about?, amount },
            TransferKind::Release => Action::Release { hold_id: self.about? },
            TransferKind::Expiry => Action::Expire { hold_id: self.about? },
            TransferKind::Reversal => Action::Reverse { transfer_id: self.about?, amount },
        })
    }
}

/// What stands on one side; none on the outside if something is held of nothing.
const fn standing(after: (Option<i64>, Option<i64>)) -> Option<Option<Standing>> {
    match after {
        (Some(balance_minor), None) => Some(Some(Standing { balance_minor, held_minor: 0 })),
        (Some(balance_minor), Some(held_minor)) => {
            Some(Some(Standing { balance_minor, held_minor }))
        }
        (None, None) => Some(None),
        (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of 21 fields, in the order of `sql/read_lines.sql`.
    fn row(fields: [Option<Vec<u8>>; 21]) -> Vec<u8> {
        let mut row = 21_i16.to_be_bytes().to_vec();
        for field in fields {
            let length = field.as_ref().map_or(-1, |it| i32::try_from(it.len()).unwrap());
            row.extend(length.to_be_bytes());
            row.extend(field.unwrap_or_default());
        }
        row
    }

    fn number(number: i64) -> Option<Vec<u8>> {
        Some(number.to_be_bytes().to_vec())
    }

    fn small(number: i16) -> Option<Vec<u8>> {
        Some(number.to_be_bytes().to_vec())
    }

    fn id(number: u128) -> Option<Vec<u8>> {
        Some(number.to_be_bytes().to_vec())
    }

    fn page(currency: &str) -> Vec<u8> {
        let mut page = HEADER.to_vec();
        page.extend(row([
            number(7),
            id(9),
            small(1),
            small(0),
            id(1),
            id(2),
            number(30),
            Some(currency.as_bytes().to_vec()),
            number(70),
            None,
            number(30),
            number(5),
            None,
            None,
            number(0),
            None,
            None,
            None,
            None,
            None,
            None,
        ]));
        page.extend((-1_i16).to_be_bytes());
        page
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let lines = lines(&page("NGN")).unwrap();
        let Ok(Line { record, reversed: None }) = lines.first().unwrap() else {
            panic!("{lines:?}")
        };
        let of = record.of.unwrap();
        assert_eq!((record.position, record.transfer.id.uuid().as_u128()), (7, 9));
        assert_eq!(record.transfer.action, Action::Wallet(of));
        assert_eq!((of.debit_account_id.uuid().as_u128(), of.amount.minor()), (1, 30));
        assert_eq!(record.verdict, Verdict::Done { debit_balance_after_minor: 70 });
        assert_eq!(record.credit_after, Some(Standing { balance_minor: 30, held_minor: 5 }));
        assert_eq!(record.decided_at, Timestamp::from_micros(POSTGRES_EPOCH_US));
    }

    #[test]
    fn what_the_ledger_never_writes_is_said_and_what_is_cut_off_is_no_page() {
        let transfer_id = TransferId::from_uuid(Uuid::from_u128(9));
        assert_eq!(lines(&page("ngn")), Ok(vec![Err(Unreadable { position: 7, transfer_id })]));
        let whole = page("NGN");
        for length in 0..whole.len() {
            assert_eq!(lines(&whole[..length]), Err(Cut), "{length}");
        }
    }
}
