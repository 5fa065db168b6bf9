//! Wallet numbers: thirteen digits that people read to each other, the last a Luhn check digit.

use std::fmt;

/// Numbers that can exist: twelve free digits, the first not zero so that none looks shorter.
const PAYLOAD_MIN: u64 = 100_000_000_000;
const PAYLOAD_MAX: u64 = 999_999_999_999;

/// A thirteen-digit wallet number whose check digit is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalletNumber(u64);

/// The text is no wallet number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalletNumberError {
    /// Not exactly thirteen ASCII digits.
    #[error("a wallet number has 13 digits")]
    Shape,
    /// The last digit does not follow from the others: a slip of the finger.
    #[error("the wallet number's check digit is wrong")]
    CheckDigit,
}

impl WalletNumber {
    /// Makes a number from any random 64 bits, by choosing twelve digits and adding the check digit.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        let span = PAYLOAD_MAX.saturating_sub(PAYLOAD_MIN).saturating_add(1);
        let payload = PAYLOAD_MIN.saturating_add(bits.checked_rem(span).unwrap_or(0));
        let check = luhn_check_digit(payload);
        Self(payload.saturating_mul(10).saturating_add(check))
    }

    /// Reads thirteen digits and checks the last.
    ///
    /// # Errors
    /// [`WalletNumberError`] says whether the shape or the check digit is wrong.
    pub fn parse(text: &str) -> Result<Self, WalletNumberError> {
        if text.len() != 13 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(WalletNumberError::Shape);
        }
        let number: u64 = text.parse().map_err(|_| WalletNumberError::Shape)?;
        let payload = number.checked_div(10).unwrap_or(0);
        let check = number.checked_rem(10).unwrap_or(0);
        if luhn_check_digit(payload) == check {
            Ok(Self(number))
        } else {
            Err(WalletNumberError::CheckDigit)
        }
    }
}

impl fmt::Display for WalletNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:013}", self.0)
    }
}

/// ISO/IEC 7812-1: every second digit from the right is doubled, nines are cast out, and the check
/// digit brings the sum to a multiple of ten.
fn luhn_check_digit(payload: u64) -> u64 {
    let mut rest = payload;
    let mut sum: u64 = 0;
    let mut doubled = true;
    while rest > 0 {
        let digit = rest.checked_rem(10).unwrap_or(0);
        rest = rest.checked_div(10).unwrap_or(0);
        let value = if doubled { digit.saturating_mul(2) } else { digit };
        sum = sum.saturating_add(if value > 9 { value.saturating_sub(9) } else { value });
        doubled = !doubled;
    }
    let over = sum.checked_rem(10).unwrap_or(0);
    10_u64.saturating_sub(over).checked_rem(10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_digit_is_luhns() {
        // 7992739871 with check digit 3 is the worked example of ISO/IEC 7812-1 texts.
        assert_eq!(luhn_check_digit(7_992_739_871), 3);
        assert_eq!(WalletNumber::parse("1"), Err(WalletNumberError::Shape));
        assert_eq!(WalletNumber::parse("१२३४५६७८९०१२३"), Err(WalletNumberError::Shape));
    }

    proptest! {
        #[test]
        fn what_is_made_can_be_read(bits: u64) {
            let number = WalletNumber::from_random(bits);
            prop_assert_eq!(WalletNumber::parse(&number.to_string()), Ok(number));
        }

        #[test]
        fn one_wrong_digit_is_always_noticed(bits: u64, place in 0_usize..13, by in 1_u8..10) {
            let mut digits = WalletNumber::from_random(bits).to_string().into_bytes();
            // Nine digits follow any digit in this ring; none of them is the digit itself.
            let ring = b"01234567890123456789";
            let from = ring.iter().position(|it| *it == digits[place]).unwrap();
            digits[place] = *ring.iter().skip(from).nth(by.into()).unwrap();
            let wrong = String::from_utf8(digits).unwrap();
            prop_assert_eq!(WalletNumber::parse(&wrong), Err(WalletNumberError::CheckDigit));
        }
    }
}
