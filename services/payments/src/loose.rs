//! Reads Paystack's JSON the way Paystack writes it: numbers as strings, ids above 2^32, fields that
//! are null, empty, missing or of another type from one event to the next.
//!
//! Nothing here rounds or guesses: what is not a whole number is no number.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use primitives::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::verdict::Said;

/// A JSON object that notices a key said twice: two readers could see two different amounts.
pub(crate) struct Object<V> {
    /// The last value under each key.
    pub(crate) fields: BTreeMap<String, V>,
    /// Some key was said twice.
    pub(crate) has_duplicates: bool,
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Fields<V> {
            type Value = Object<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object { fields: BTreeMap::new(), has_duplicates: false };
                while let Some((key, value)) = map.next_entry()? {
                    object.has_duplicates |= object.fields.insert(key, value).is_some();
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A whole number, written as one or as a string of digits.
pub(crate) fn whole_number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

/// A text that is not empty.
pub(crate) fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().filter(|it| !it.is_empty()).map(str::to_owned)
}

/// What a transaction object says, in a verify answer or under a webhook's `data`.
pub(crate) fn said<'a>(field: impl Fn(&str) -> Option<&'a Value>) -> Said {
    let paid_at = text(field("paid_at")).or_else(|| text(field("paidAt")));
    Said {
        provider_id: whole_number(field("id")).map(|id| id.to_string()),
        status: text(field("status")),
        reference: text(field("reference")),
        amount_minor: whole_number(field("amount")),
        requested_amount_minor: whole_number(field("requested_amount")),
        currency: text(field("currency")),
        domain: text(field("domain")),
        // A time that cannot be read is as good as none; the shell has the time of its look.
        paid_at: paid_at.and_then(|it| Timestamp::parse(&it).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_is_a_number_or_digits_and_nothing_is_rounded() {
        let check =
            |value: Value, number| assert_eq!(whole_number(Some(&value)), number, "{value}");
        check(json!(5_000), Some(5_000));
        check(json!("5000"), Some(5_000));
        check(json!(u64::MAX), Some(u64::MAX));
        check(json!(0), Some(0));
        for no in [json!(5000.0), json!(1e3), json!(-1), json!("-1"), json!("5e3"), json!("5.0")] {
            check(no, None);
        }
        for no in [json!(null), json!(""), json!([5]), json!({}), json!(true), json!("٥")] {
            check(no, None);
        }
        assert_eq!(whole_number(None), None);
    }

    #[test]
    fn a_key_said_twice_is_noticed() {
        let twice: Object<Value> = serde_json::from_str(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert!(twice.has_duplicates);
        let escaped: Object<Value> = serde_json::from_str(r#"{"a":1,"\u0061":3}"#).unwrap();
        assert!(escaped.has_duplicates);
        let once: Object<Value> = serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap();
        assert!(!once.has_duplicates);
        assert!(serde_json::from_str::<Object<Value>>("[1]").is_err());
    }
}
