//! Wire to primitives and back. Printing cannot fail; reading says which field is wrong.

use bytes::Bytes;
use primitives::{
    AccountId, Amount, ChangeId, Currency, DepositId, EventId, KeyId, RequestKey, Timestamp,
    TransferId, UserId,
};
use uuid::Uuid;

/// A message that does not mean anything: a bug in its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} is not {expected}")]
pub struct Malformed {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What it should have been.
    pub expected: &'static str,
}

/// An id that is a UUID inside.
pub trait WireId: Sized {
    /// From the UUID.
    fn from_uuid(id: Uuid) -> Self;
    /// To the UUID.
    fn uuid(self) -> Uuid;

    /// Reads 16 bytes.
    ///
    /// # Errors
    /// [`Malformed`] for another length.
    fn read(field: &'static str, bytes: &[u8]) -> Result<Self, Malformed> {
        Uuid::from_slice(bytes)
            .map(Self::from_uuid)
            .map_err(|_| Malformed { field, expected: "16 bytes" })
    }

    /// Reads 16 bytes, or nothing from an empty field.
    ///
    /// # Errors
    /// [`Malformed`] for another length.
    fn read_optional(field: &'static str, bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if bytes.is_empty() { Ok(None) } else { Self::read(field, bytes).map(Some) }
    }

    /// As 16 bytes.
    fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.uuid().as_bytes())
    }
}

macro_rules! wire_id {
    ($($id:ident)*) => { $(
        impl WireId for $id {
            fn from_uuid(id: Uuid) -> Self {
                $id::from_uuid(id)
            }

            fn uuid(self) -> Uuid {
                $id::uuid(self)
            }
        }
    )* };
}
wire_id!(AccountId ChangeId DepositId EventId KeyId TransferId UserId);

/// Reads an amount of minor units.
///
/// # Errors
/// [`Malformed`] outside what an [`Amount`] can be.
pub fn amount(field: &'static str, minor: u64) -> Result<Amount, Malformed> {
    Amount::try_new(minor).map_err(|_| Malformed { field, expected: "an amount" })
}

/// Reads a currency code.
///
/// # Errors
/// [`Malformed`] for anything but three capitals.
pub fn currency(field: &'static str, text: &str) -> Result<Currency, Malformed> {
    Currency::parse(text).map_err(|_| Malformed { field, expected: "a currency code" })
}

/// Reads 32 bytes, such as a SHA-256 digest.
///
/// # Errors
/// [`Malformed`] for another length.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    bytes.try_into().map_err(|_| Malformed { field, expected: "32 bytes" })
}

/// Reads a request key, or nothing from an empty field.
///
/// # Errors
/// [`Malformed`] for another length than 0 or 32.
pub fn request_key(field: &'static str, bytes: &[u8]) -> Result<Option<RequestKey>, Malformed> {
    if bytes.is_empty() { Ok(None) } else { digest(field, bytes).map(|it| Some(RequestKey(it))) }
}

/// Reads a moment that may be absent: 0 is none.
#[must_use]
pub fn moment(micros: i64) -> Option<Timestamp> {
    (micros != 0).then(|| Timestamp::from_micros(micros))
}

/// Prints a moment that may be absent.
#[must_use]
pub fn moment_us(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::micros)
}
