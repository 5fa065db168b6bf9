//! Money: whole minor units, checked at the door.
//!
//! An [`Amount`] is never zero, never negative and never rounded; it fits a JSON number exactly.

use std::fmt;

/// The largest amount one request may name, in minor units: 2^53 − 1, the largest integer every
/// JSON reader keeps exactly (contract, section 1).
pub const AMOUNT_MINOR_MAX: u64 = 9_007_199_254_740_991;

/// A positive sum of money in the currency's minor unit (kobo for NGN), 1 … [`AMOUNT_MINOR_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

/// The number is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Zero moves nothing.
    #[error("an amount is at least 1 minor unit")]
    Zero,
    /// Negative amounts do not exist; direction is said by debit and credit.
    #[error("an amount is never negative")]
    Negative,
    /// More than [`AMOUNT_MINOR_MAX`].
    #[error("an amount is at most {AMOUNT_MINOR_MAX} minor units")]
    TooLarge,
}

impl Amount {
    /// Checks `minor` units.
    ///
    /// # Errors
    /// [`AmountError`] outside 1 … [`AMOUNT_MINOR_MAX`].
    pub const fn try_new(minor: u64) -> Result<Self, AmountError> {
        match minor {
            0 => Err(AmountError::Zero),
            1..=AMOUNT_MINOR_MAX => Ok(Self(minor)),
            _ => Err(AmountError::TooLarge),
        }
    }

    /// Checks minor units as Postgres keeps them (`bigint`).
    ///
    /// # Errors
    /// [`AmountError`] outside 1 … [`AMOUNT_MINOR_MAX`].
    pub fn from_i64(minor: i64) -> Result<Self, AmountError> {
        u64::try_from(minor).map_err(|_| AmountError::Negative).and_then(Self::try_new)
    }

    /// Minor units.
    #[must_use]
    pub const fn minor(self) -> u64 {
        self.0
    }

    /// Minor units as Postgres keeps them. Every amount fits: the largest is below 2^53.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        self.0.cast_signed()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An ISO 4217 code: three capital letters.
///
/// Which currencies exist here is configuration; this type only says that it is a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The text is not three capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a currency is an ISO 4217 code: three capital letters")]
pub struct CurrencyError;

impl Currency {
    /// Nigerian naira, the default; its minor unit is the kobo.
    pub const NGN: Self = Self(*b"NGN");
    /// United States dollar.
    pub const USD: Self = Self(*b"USD");

    /// Reads an ISO 4217 code.
    ///
    /// # Errors
    /// [`CurrencyError`] unless it is three capital ASCII letters.
    pub fn parse(text: &str) -> Result<Self, CurrencyError> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError)?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(CurrencyError) }
    }

    /// The code, such as `NGN`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII letters are ever stored, so this cannot fail.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_between_one_and_the_largest_exact_json_integer() {
        assert_eq!(Amount::try_new(0), Err(AmountError::Zero));
        assert_eq!(Amount::try_new(1).map(Amount::minor), Ok(1));
        assert_eq!(Amount::try_new(AMOUNT_MINOR_MAX).map(Amount::minor), Ok(AMOUNT_MINOR_MAX));
        assert_eq!(Amount::try_new(AMOUNT_MINOR_MAX + 1), Err(AmountError::TooLarge));
        assert_eq!(Amount::from_i64(-1), Err(AmountError::Negative));
    }

    #[test]
    fn a_currency_is_three_capitals() {
        assert_eq!(Currency::parse("NGN"), Ok(Currency::NGN));
        for bad in ["", "ngn", "NG", "NGNN", "N1N", "₦"] {
            assert_eq!(Currency::parse(bad), Err(CurrencyError), "{bad}");
        }
    }
}
