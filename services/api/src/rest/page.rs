//! Pages of history: the opaque cursor, and query parameters read as late as bodies are.
//!
//! A cursor names a place in one wallet's history, so a page stays where it is while new
//! transactions arrive. It carries a checksum: a cursor somebody wrote by hand is refused, not guessed.

use std::borrow::Cow;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};
use primitives::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::rest::problem::Problem;

/// Says which layout a cursor has, should there ever be another.
const CURSOR_VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Prints the place after which the next page begins.
#[must_use]
pub(crate) fn print_cursor(position: i64) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend(position.to_be_bytes());
    bytes.extend(checksum(&bytes));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads what [`print_cursor`] printed; `None` for anything else.
#[must_use]
pub(crate) fn parse_cursor(text: &str) -> Option<i64> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (head, sum) = bytes.split_at_checked(1 + size_of::<i64>())?;
    let (version, position) = head.split_first()?;
    if *version != CURSOR_VERSION || sum != checksum(head) {
        return None;
    }
    position.try_into().ok().map(i64::from_be_bytes).filter(|it| *it > 0)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest([b"cursor".as_slice(), bytes].concat()));
    [a, b, c, d]
}

/// What a query parameter is called, and what the specification says of it.
pub(crate) trait Parameter: Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;
    /// Its schema.
    fn schema() -> MetaSchema;
}

/// A query parameter as it was written, not read yet. May be absent; given twice, it is wrong.
pub(crate) struct Written<P> {
    text: Option<String>,
    is_repeated: bool,
    of: PhantomData<fn() -> P>,
}

impl<P: Parameter> Written<P> {
    /// Reads it, if it is there.
    pub(crate) fn read<V>(
        &self,
        parse: impl FnOnce(&str) -> Result<V, &'static str>,
    ) -> Result<Option<V>, Problem> {
        if self.is_repeated {
            return Err(Problem::invalid_field(P::NAME, "may be given once"));
        }
        let read = self.text.as_deref().map(parse).transpose();
        read.map_err(|message| Problem::invalid_field(P::NAME, message))
    }
}

/// Declares a query parameter that is read late.
macro_rules! parameter {
    ($(#[$doc:meta])* $name:ident $text:literal $schema:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl $crate::rest::page::Parameter for $name {
            const NAME: &'static str = $text;

            fn schema() -> poem_openapi::registry::MetaSchema {
                $schema
            }
        }
    };
}
pub(crate) use parameter;

/// Reads a moment.
pub(crate) fn moment(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse(text).map_err(|_| "must be an RFC 3339 time, such as 2026-01-15T09:15:02Z")
}

impl<P: Parameter> Type for Written<P> {
    const IS_REQUIRED: bool = false;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        P::NAME.into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(P::schema()))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<P: Parameter> ParseFromParameter for Written<P> {
    fn parse_from_parameter(_value: &str) -> ParseResult<Self> {
        // Only the function below is called; it sees them all.
        Err(ParseError::expected_input())
    }

    fn parse_from_parameters<I: IntoIterator<Item = A>, A: AsRef<str>>(
        values: I,
    ) -> ParseResult<Self> {
        let mut values = values.into_iter();
        let text = values.next().map(|it| it.as_ref().to_owned());
        Ok(Self { text, is_repeated: values.next().is_some(), of: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_as_it_was_printed(position in 1_i64..) {
            prop_assert_eq!(parse_cursor(&print_cursor(position)), Some(position));
        }

        #[test]
        fn a_cursor_nobody_printed_is_refused(text in "[A-Za-z0-9_-]{0,24}") {
            prop_assert_eq!(parse_cursor(&text), None);
        }

        #[test]
        fn a_damaged_cursor_is_refused(position in 1_i64.., at in 0_usize..13, by in 1_u8..) {
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(print_cursor(position)).unwrap();
            bytes[at] ^= by;
            prop_assert_eq!(parse_cursor(&BASE64_URL_SAFE_NO_PAD.encode(bytes)), None);
        }
    }

    #[test]
    fn a_place_before_the_first_is_no_place() {
        assert_eq!(parse_cursor(&print_cursor(0)), None);
        assert_eq!(parse_cursor(&print_cursor(-1)), None);
        assert_eq!(parse_cursor(""), None);
        assert_eq!(parse_cursor("ünicode"), None);
    }
}
