//! What a body may say, read as loosely and refused as strictly as Paystack does.

use primitives::Timestamp;
use serde_json::{Map, Value};

use super::super::answers::{self, Answer};

/// Largest transaction: ten million in the major unit.
const AMOUNT_MINOR_MAX: u64 = 10_000_000 * 100;
/// Smallest transaction in each currency Paystack knows.
const AMOUNT_MINOR_MIN: [(&str, u64); 6] =
    [("NGN", 5_000), ("USD", 200), ("GHS", 10), ("ZAR", 100), ("KES", 300), ("XOF", 100)];
const CHANNELS: [&str; 10] = [
    "card",
    "bank",
    "apple_pay",
    "ussd",
    "qr",
    "mobile_money",
    "bank_transfer",
    "eft",
    "capitec_pay",
    "payattitude",
];

pub(super) fn object(body: Option<&Value>) -> Result<&Map<String, Value>, Answer> {
    body.and_then(Value::as_object).ok_or_else(answers::unreadable)
}

/// What a field holds; `null` counts as absent, because clients send it for what they leave out.
pub(super) fn given<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

/// Text that may be left out.
pub(super) fn text(body: &Map<String, Value>, name: &str) -> Result<Option<String>, Answer> {
    match given(body, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(answers::invalid_params(&format!("\"{name}\" must be a string"))),
    }
}

/// Text that must be there and say something.
pub(super) fn required_text(body: &Map<String, Value>, name: &str) -> Result<String, Answer> {
    match text(body, name)? {
        None => Err(answers::missing_params(&format!("\"{name}\" is required"))),
        Some(text) if text.is_empty() => {
            Err(answers::invalid_params(&format!("\"{name}\" is not allowed to be empty")))
        }
        Some(text) => Ok(text),
    }
}

/// A whole number that must be there.
pub(super) fn required_number(body: &Map<String, Value>, name: &str) -> Result<u64, Answer> {
    let missing = || answers::missing_params(&format!("\"{name}\" is required"));
    number(body, name)?.ok_or_else(missing)
}

/// A whole number, or a string of digits.
pub(super) fn number(body: &Map<String, Value>, name: &str) -> Result<Option<u64>, Answer> {
    let refusal = || answers::invalid_params(&format!("\"{name}\" must be a number"));
    match given(body, name) {
        None => Ok(None),
        Some(Value::Number(number)) => number.as_u64().ok_or_else(refusal).map(Some),
        Some(Value::String(text)) => text.parse().map_err(|_| refusal()).map(Some),
        Some(_) => Err(refusal()),
    }
}

pub(super) fn email(body: &Map<String, Value>) -> Result<String, Answer> {
    match given(body, "email") {
        None => Err(answers::missing_params("Email Address is required")),
        Some(Value::String(text)) if text.is_empty() => {
            Err(answers::invalid_params("\"email\" is not allowed to be empty"))
        }
        Some(Value::String(text)) if is_email(text) => Ok(text.to_lowercase()),
        Some(_) => Err(answers::invalid_params("\"email\" must be a valid email")),
    }
}

fn is_email(text: &str) -> bool {
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    plain
        && text.split_once('@').is_some_and(|(name, host)| {
            let labels = host.split('.').all(|label| !label.is_empty());
            !name.is_empty() && host.contains('.') && labels && !host.contains('@')
        })
}

/// A whole number of minor units; a string of digits will do.
pub(super) fn amount(body: &Map<String, Value>, currency: &str) -> Result<u64, Answer> {
    let amount = number(body, "amount").ok().flatten();
    let amount = amount.ok_or_else(|| answers::refused(400, "Invalid Amount Sent"))?;
    let least = AMOUNT_MINOR_MIN.iter().find(|(code, _)| *code == currency).map_or(1, |it| it.1);
    if amount < least {
        return Err(answers::refused(400, "You must specify a valid amount"));
    }
    if amount > AMOUNT_MINOR_MAX {
        return Err(answers::refused(400, "Transaction amount limit exceeded"));
    }
    Ok(amount)
}

pub(super) fn callback_url(body: &Map<String, Value>) -> Result<Option<String>, Answer> {
    let refusal = || answers::invalid_params("\"callback_url\" must be a valid uri");
    match given(body, "callback_url") {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => {
            let url = url::Url::parse(text).map_err(|_| refusal())?;
            let web = matches!(url.scheme(), "http" | "https");
            if web { Ok(Some(url.to_string())) } else { Err(refusal()) }
        }
        Some(_) => Err(refusal()),
    }
}

/// The channels the merchant leaves open; none named: all.
pub(super) fn channels(body: &Map<String, Value>) -> Result<Vec<String>, Answer> {
    let refusal = || answers::invalid_params("\"channels\" must be an array of known channels");
    match given(body, "channels") {
        None => Ok(Vec::new()),
        Some(Value::Array(channels)) => {
            let known = |channel: &Value| {
                let channel = channel.as_str().filter(|it| CHANNELS.contains(it));
                channel.map(str::to_owned)
            };
            channels.iter().map(known).collect::<Option<_>>().ok_or_else(refusal)
        }
        Some(_) => Err(refusal()),
    }
}

/// An object, or text; text that holds an object becomes one. Absent is `""`.
pub(super) fn metadata(body: &Map<String, Value>) -> Result<Value, Answer> {
    match given(body, "metadata") {
        None => Ok(Value::String(String::new())),
        Some(object @ Value::Object(_)) => Ok(object.clone()),
        Some(Value::String(text)) => Ok(serde_json::from_str::<Map<String, Value>>(text)
            .map_or_else(|_| Value::String(text.clone()), Value::Object)),
        Some(_) => Err(answers::invalid_params("\"metadata\" must be an object or a string")),
    }
}

/// Letters, digits, `-`, `.` and `=`; the commas in the refusal's text only separate them.
pub(super) fn is_reference(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'=');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

/// A time in ISO 8601, or a day.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let at = Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z")));
    // Anything else is no time.
    at.ok()
}
