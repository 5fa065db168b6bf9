//! The reference of a deposit: what we, the caller and Paystack all call one attempt to be paid.
//!
//! Paystack's two families of references differ in what they allow; ours are good for both:
//! lower-case letters, digits and `-`, 16–50 characters. A reference is used up for ever the moment
//! Paystack has seen it, so every attempt has its own, and each follows from the deposit's id and
//! the attempt's number: nothing is invented while executing.

use std::fmt;

use primitives::DepositId;

/// A well-formed provider reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(String);

/// The text is no reference of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reference is 16-50 lower-case letters, digits and hyphens")]
pub struct ReferenceError;

impl Reference {
    /// The reference of a deposit's attempt; attempts are counted from 1.
    #[must_use]
    pub fn of(deposit_id: DepositId, attempt_number: u16) -> Self {
        let digits = deposit_id.uuid().simple();
        if attempt_number <= 1 {
            Self(format!("dep-{digits}"))
        } else {
            Self(format!("dep-{digits}-{attempt_number}"))
        }
    }

    /// Reads a reference.
    ///
    /// # Errors
    /// [`ReferenceError`] for a wrong length or any other character.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fits = (16..=50).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(ReferenceError) }
    }

    /// As callers and Paystack see it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_has_its_own_well_formed_reference() {
        let deposit_id = DepositId::generate();
        let all: Vec<_> = [1, 2, 99, u16::MAX].map(|n| Reference::of(deposit_id, n)).into();
        for (i, reference) in all.iter().enumerate() {
            assert_eq!(Reference::parse(reference.as_str()).as_ref(), Ok(reference));
            assert!(all.iter().skip(i + 1).all(|other| other != reference));
        }
    }

    #[test]
    fn nothing_else_is_a_reference() {
        let long = "a".repeat(51);
        for bad in ["", "dep-1", "DEP-0192f0c1e6b87c3a", "dep_0192f0c1e6b87c3a9d", long.as_str()] {
            assert_eq!(Reference::parse(bad), Err(ReferenceError), "{bad}");
        }
        for bad in ["dep-0192f0c1e6b8\0c3a", "dep-0192f0c1e6b8/c3a", "dep-0192f0c1e6b8 c3a"] {
            assert_eq!(Reference::parse(bad), Err(ReferenceError), "{bad}");
        }
    }
}
