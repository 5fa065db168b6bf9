//! JSON bodies, read strictly and late.
//!
//! Strictly: a field that is unknown or given twice is refused, as is a number that is not written
//! in digits, so that nothing a caller wrote is dropped, guessed or rounded. Every wrong field is
//! named in one answer. Late: a handler calls [`Body::read`] once it knows who asks, so that a
//! stranger is told 401 whatever the body says.
//!
//! The types derive `Object` for the specification only; reading goes through [`Request`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use poem::http::header;
use poem::{FromRequest, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use primitives::Amount;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::rest::problem::{FieldError, Problem};

const MISSING: &str = "is required";
const NOT_TEXT: &str = "must be a string";

/// A body that a handler can ask for.
pub trait Request: Type + Sized {
    /// Takes every field it knows, and is `None` when one of them is wrong. Reads all of them
    /// before it gives up, so that the caller is told everything at once.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// A JSON body, not read yet.
pub struct Body<T> {
    content_type: Option<String>,
    bytes: Vec<u8>,
    of: PhantomData<fn() -> T>,
}

impl<T: Request> Body<T> {
    /// A body that somebody else has taken from the request.
    #[must_use]
    pub(crate) fn of(content_type: Option<String>, bytes: Vec<u8>) -> Self {
        Self { content_type, bytes, of: PhantomData }
    }

    /// Reads the body.
    ///
    /// # Errors
    /// `unsupported_media_type`, `malformed_request`, `invalid_amount` or `invalid_field`.
    pub fn read(&self) -> Result<T, Problem> {
        if !self.content_type.as_deref().is_some_and(is_json) {
            return Err(Problem::unsupported_media_type());
        }
        let object = serde_json::from_slice(&self.bytes);
        let mut fields = Fields::of(object.map_err(|_| Problem::malformed_request())?);
        let read = T::read(&mut fields);
        fields.finish(read)
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The fields of a body that nobody has taken, and what was wrong with those somebody has.
pub struct Fields<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    errors: Vec<FieldError>,
    is_amount_wrong: bool,
}

impl<'a> Fields<'a> {
    fn of(object: Object<'a>) -> Self {
        Self { fields: object.0, errors: Vec::new(), is_amount_wrong: false }
    }

    /// A sum of money.
    pub fn amount(&mut self, name: &'static str) -> Option<Amount> {
        let written = self.take(name);
        let read = written.map_or(Err(MISSING), |it| parse_amount(it.get()));
        self.is_amount_wrong |= read.is_err();
        self.keep(name, read)
    }

    /// A string that must be there and that `parse` understands.
    pub fn text<V>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(String) -> Result<V, &'static str>,
    ) -> Option<V> {
        let read = match self.take(name) {
            None => Err(MISSING),
            Some(written) => string(written).and_then(parse),
        };
        self.keep(name, read)
    }

    /// A string that may be absent or `null`. The outer `None` says that it is there and wrong.
    #[expect(clippy::option_option, reason = "absent and wrong are two things")]
    pub fn optional_text<V>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(String) -> Result<V, &'static str>,
    ) -> Option<Option<V>> {
        let read = match self.take(name) {
            None => Ok(None),
            Some(written) if written.get() == "null" => Ok(None),
            Some(written) => string(written).and_then(parse).map(Some),
        };
        self.keep(name, read)
    }

    /// A list of strings that must be there and that `parse` understands.
    pub fn texts<V>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(Vec<String>) -> Result<V, &'static str>,
    ) -> Option<V> {
        let read = match self.take(name) {
            None => Err(MISSING),
            Some(written) => serde_json::from_str(written.get())
                .map_err(|_| "must be a list of strings")
                .and_then(parse),
        };
        self.keep(name, read)
    }

    /// A yes or no that may be absent or `null`, which is no.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        let read = match self.take(name).map(RawValue::get) {
            None | Some("null" | "false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err("must be true or false"),
        };
        self.keep(name, read)
    }

    /// A list of 1 to `len_max` objects that must be there. What is wrong in one of them is named
    /// by its place: `transfers[3].amount`.
    pub fn list<T: Request>(&mut self, name: &'static str, len_max: usize) -> Option<Vec<T>> {
        let written: Result<Vec<&RawValue>, _> = match self.take(name) {
            None => Err(MISSING),
            Some(written) => serde_json::from_str(written.get()).map_err(|_| "must be a list"),
        };
        let written = written.and_then(|it| match it.len() {
            0 => Err("must not be empty"),
            len if len > len_max => Err("has too many items"),
            _ => Ok(it),
        });
        let written = self.keep(name, written)?;
        let items: Vec<Option<T>> = written
            .into_iter()
            .enumerate()
            .map(|(place, item)| self.item(&format!("{name}[{place}]"), item))
            .collect();
        items.into_iter().collect()
    }

    fn item<T: Request>(&mut self, at: &str, written: &RawValue) -> Option<T> {
        let Ok(object) = serde_json::from_str(written.get()) else {
            let message = "must be an object that has no name twice".into();
            self.errors.push(FieldError { field: at.to_owned().into(), message });
            return None;
        };
        let mut fields = Fields::of(object);
        let read = T::read(&mut fields);
        fields.name_unknown();
        self.is_amount_wrong |= fields.is_amount_wrong;
        let is_right = fields.errors.is_empty();
        self.errors.extend(fields.errors.into_iter().map(|it| FieldError {
            field: format!("{at}.{}", it.field).into(),
            message: it.message,
        }));
        read.filter(|_| is_right)
    }

    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.fields.iter().position(|(it, _)| it == name)?;
        Some(self.fields.swap_remove(at).1)
    }

    fn keep<V>(&mut self, name: &'static str, read: Result<V, &'static str>) -> Option<V> {
        read.map_err(|message| {
            self.errors.push(FieldError { field: name.into(), message: message.into() });
        })
        .ok()
    }

    /// Refuses what nobody took. Callers' spelling is shown back to them, but not at any length.
    fn name_unknown(&mut self) {
        self.errors.extend(self.fields.iter().map(|(name, _)| FieldError {
            field: Cow::Owned(name.chars().take(64).collect()),
            message: "is not a field of this request".into(),
        }));
    }

    fn finish<T>(mut self, read: Option<T>) -> Result<T, Problem> {
        self.name_unknown();
        match read {
            Some(it) if self.errors.is_empty() => Ok(it),
            Some(_) | None if self.is_amount_wrong => {
                Err(Problem::invalid_amount().errors(self.errors))
            }
            Some(_) | None => Err(Problem::invalid_fields(self.errors)),
        }
    }
}

fn string(written: &RawValue) -> Result<String, &'static str> {
    serde_json::from_str(written.get()).map_err(|_| NOT_TEXT)
}

/// Reads an amount from the very text of the JSON value: digits, and nothing else. `1.0` and `1e3`
/// are whole numbers to mathematics, but not amounts: whoever writes them computes in floats.
fn parse_amount(written: &str) -> Result<Amount, &'static str> {
    if written == "null" {
        return Err(MISSING);
    }
    if written.is_empty() || !written.bytes().all(|it| it.is_ascii_digit()) {
        return Err("must be a whole number of minor units, written in digits only");
    }
    let minor: u64 = written.parse().map_err(|_| "must be at most 9007199254740991")?;
    Amount::try_new(minor).map_err(|_| "must be between 1 and 9007199254740991")
}

/// A JSON object with every value as it was written, and no name twice.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name in an object; borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
                    // Two amounts would mean one to us and the other to whoever logs the request.
                    if fields.iter().any(|(it, _)| *it == name) || fields.len() >= FIELDS_MAX {
                        return Err(serde::de::Error::custom("a name twice, or too many names"));
                    }
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Read)
    }
}

/// No request has as many fields; it bounds the search for repeated names.
const FIELDS_MAX: usize = 64;

impl<'a, T: Request> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: T::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a poem::Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|it| it.to_str().ok()).map(str::to_owned);
        let bytes = <Vec<u8> as FromRequest>::from_request(request, body).await?;
        Ok(Self { content_type, bytes, of: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use poem_openapi::Object;
    use primitives::AMOUNT_MINOR_MAX;
    use proptest::prelude::*;

    use super::*;
    use crate::rest::problem::Code;

    #[derive(Debug, PartialEq, Object)]
    struct Asked {
        amount: u64,
        note: Option<String>,
        tags: Vec<String>,
    }

    impl Request for Asked {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let amount = fields.amount("amount");
            let note = fields
                .optional_text("note", |it| if it.len() > 3 { Err("too long") } else { Ok(it) });
            let tags = fields.texts("tags", Ok);
            Some(Self { amount: amount?.minor(), note: note?, tags: tags? })
        }
    }

    fn read(content_type: Option<&str>, bytes: &[u8]) -> Result<Asked, Problem> {
        let content_type = content_type.map(str::to_owned);
        Body { content_type, bytes: bytes.to_vec(), of: PhantomData }.read()
    }

    fn code(body: &str) -> Option<Code> {
        read(Some("application/json"), body.as_bytes()).err().map(|it| it.code())
    }

    #[test]
    fn a_body_is_read_whole_or_refused() {
        let good = r#" {"amount": 5000, "note": null, "tags": ["a"]} "#;
        let asked = Asked { amount: 5000, note: None, tags: vec!["a".to_owned()] };
        assert_eq!(read(Some("application/json; charset=utf-8"), good.as_bytes()), Ok(asked));
        for wrong in [None, Some(""), Some("text/plain"), Some("application/x-www-form-urlencoded")]
        {
            let problem = read(wrong, good.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::UnsupportedMediaType, "{wrong:?}");
        }
        for unreadable in [
            "",
            "null",
            "[]",
            "5",
            "{",
            "{}{}",
            r#"{"amount": 1, "amount": 1, "tags": []}"#,
            r#"{"amount": 01, "tags": []}"#,
            r#"{"amount": +1, "tags": []}"#,
            r#"{"amount": NaN, "tags": []}"#,
            r#"{'amount': 1}"#,
        ] {
            assert_eq!(code(unreadable), Some(Code::MalformedRequest), "{unreadable}");
        }
        assert_eq!(
            read(Some("application/json"), b"\xff\xfe").unwrap_err().code(),
            Code::MalformedRequest
        );
        for wrong in [
            r#"{"amount": 1}"#,
            r#"{"amount": 1, "tags": "a"}"#,
            r#"{"amount": 1, "tags": [1]}"#,
            r#"{"amount": 1, "tags": [], "note": 1}"#,
            r#"{"amount": 1, "tags": [], "note": "long"}"#,
            r#"{"amount": 1, "tags": [], "note": "\ud800"}"#,
            r#"{"amount": 1, "tags": [], "amounts": 1}"#,
        ] {
            assert_eq!(code(wrong), Some(Code::InvalidField), "{wrong}");
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let problem = read(Some("application/json"), br#"{"note": 5, "x": 1}"#).unwrap_err();
        let http = chassis::http::Problem::from(problem);
        let fields: Vec<&str> = http.errors.iter().map(|it| it.field.as_ref()).collect();
        assert_eq!((http.code, fields), ("invalid_amount", vec!["amount", "note", "tags", "x"]));
    }

    #[test]
    fn an_amount_is_digits_and_nothing_else() {
        for (written, minor) in [("1", 1), ("5000", 5000), ("9007199254740991", AMOUNT_MINOR_MAX)] {
            assert_eq!(parse_amount(written).map(Amount::minor), Ok(minor));
        }
        for wrong in [
            "null",
            "0",
            "-0",
            "-1",
            "1.0",
            "1e3",
            "1E3",
            "0.5",
            "1.5",
            "\"5\"",
            "true",
            "[]",
            "{}",
            "[1]",
            "9007199254740992",
            "18446744073709551616",
            "1e400",
            "99999999999999999999999",
        ] {
            assert!(parse_amount(wrong).is_err(), "{wrong}");
            let body = format!(r#"{{"amount": {wrong}, "tags": []}}"#);
            assert_eq!(code(&body), Some(Code::InvalidAmount), "{body}");
        }
        assert_eq!(code(r#"{"tags": []}"#), Some(Code::InvalidAmount));
    }

    proptest! {
        #[test]
        fn an_amount_is_what_was_written_or_refused(minor: u64) {
            let read = parse_amount(&minor.to_string()).map(Amount::minor).ok();
            prop_assert_eq!(read, (1..=AMOUNT_MINOR_MAX).contains(&minor).then_some(minor));
        }

        #[test]
        fn no_number_in_another_notation_is_an_amount(number: f64) {
            prop_assume!(number.is_finite());
            let written = serde_json::to_string(&number).unwrap();
            prop_assert_eq!(parse_amount(&written).ok(), None);
        }
    }

    /// Random bytes, and readable bodies with random damage, for `FUZZ_SECONDS` (default 1). Nothing
    /// panics, and what is accepted says in digits what was understood.
    #[test]
    fn random_bytes_are_refused_or_understood_exactly() {
        let seconds = std::env::var_os("FUZZ_SECONDS")
            .map_or(1, |it| it.to_str().unwrap().parse().expect("FUZZ_SECONDS is a number"));
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seconds);
        let template = br#"{"amount": 5000, "note": "abc", "tags": ["a", "b"]}"#;
        let (mut n_tried, mut n_accepted) = (0_u64, 0_u64);
        while Instant::now() < until {
            for _ in 0..1_000 {
                let mut bytes = template.to_vec();
                for _ in 0..rng.random_range(0..3) {
                    let at = rng.random_range(0..bytes.len());
                    let symbols = b"0123456789eE.+-\"{}[],: ntrue\\u\xff\x00";
                    bytes[at] = symbols[rng.random_range(0..symbols.len())];
                }
                if rng.random_range(0..4) == 0 {
                    rng.fill_bytes(&mut bytes);
                }
                n_tried += 1;
                if let Ok(asked) = read(Some("application/json"), &bytes) {
                    n_accepted += 1;
                    let text = String::from_utf8(bytes).unwrap();
                    let digits = asked.amount.to_string();
                    assert!(
                        text.contains(&format!("\"amount\": {digits}")) || text.contains(&digits),
                        "{text}"
                    );
                    assert!((1..=AMOUNT_MINOR_MAX).contains(&asked.amount), "{text}");
                }
            }
        }
        assert!(n_accepted > 0 && n_accepted < n_tried, "{n_accepted} of {n_tried} accepted");
    }
}
