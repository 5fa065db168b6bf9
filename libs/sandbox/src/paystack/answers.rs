//! What Paystack's answers look like: envelopes, messages, codes, `null`s and oddities.

pub(super) mod disputes;
pub(super) mod refunds;
mod transactions;

use primitives::Timestamp;
use serde_json::{Value, json};
use time::macros::format_description;

pub(super) use transactions::{Shape, data, initialized, timeline, transaction_totals};

/// Number of the merchant's integration.
pub(super) const INTEGRATION: u64 = 412_829;

/// Status and JSON body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The envelope.
    pub body: Value,
}

pub(super) fn success(message: &str, data: Value) -> Answer {
    Answer { status: 200, body: json!({ "status": true, "message": message, "data": data }) }
}

/// A refusal that carries nothing but a message, as many do.
pub(super) fn refused(status: u16, message: &str) -> Answer {
    Answer { status, body: json!({ "status": false, "message": message }) }
}

fn coded(status: u16, kind: &str, code: &str, message: &str, next_step: &str) -> Answer {
    let meta = json!({ "nextStep": next_step });
    let body =
        json!({ "status": false, "message": message, "meta": meta, "type": kind, "code": code });
    Answer { status, body }
}

pub(super) fn missing_params(message: &str) -> Answer {
    let step = "Provide all required params ";
    coded(400, "validation_error", "missing_params", message, step)
}

pub(super) fn invalid_params(message: &str) -> Answer {
    let step = "Ensure that the value(s) you're passing are valid.";
    coded(400, "validation_error", "invalid_params", message, step)
}

pub(super) fn unreadable() -> Answer {
    invalid_params("The request body must be a JSON object")
}

pub(super) fn invalid_reference() -> Answer {
    let step = "Ensure that you aren't using any characters that aren't alphanumeric or \
                contained in \"-,., =\" in your reference";
    let message = "Invalid character in transaction reference";
    coded(400, "validation_error", "invalid_character_in_reference", message, step)
}

pub(super) fn duplicate_reference() -> Answer {
    let step = "Try and create the Transaction or Charge with a new reference";
    let message = "Duplicate Transaction Reference";
    coded(400, "validation_error", "duplicate_reference", message, step)
}

/// 400, whatever the OpenAPI document says.
pub(super) fn reference_not_found() -> Answer {
    let step = "Ensure that you're passing the reference of a transaction that exists on this \
                integration";
    let message = "Transaction reference not found.";
    coded(400, "validation_error", "transaction_not_found", message, step)
}

pub(super) fn id_not_found() -> Answer {
    let step = "Ensure that you're passing the id of a transaction that exists on this integration";
    coded(404, "validation_error", "transaction_not_found", "Transaction not found", step)
}

pub(super) fn id_not_numeric() -> Answer {
    refused(400, "Transaction ID should be numeric.")
}

pub(super) fn number_expected(name: &str) -> Answer {
    invalid_params(&format!("\"{name}\" must be a number"))
}

/// Of anything but transactions.
pub(super) fn not_found(what: &str) -> Answer {
    let step = format!("Ensure that the {} you're asking for exists", what.to_lowercase());
    coded(404, "validation_error", "not_found", &format!("{what} not found"), &step)
}

pub(super) fn fully_reversed() -> Answer {
    let step = "Ensure that the transaction has not been reversed before";
    let message = "Transaction has been fully reversed";
    coded(400, "api_error", "transaction_reversed", message, step)
}

pub(super) fn not_needing_attention() -> Answer {
    let message = "Invalid Refund state, refund status should be \"needs-attention\"";
    Answer { status: 422, ..invalid_params(message) }
}

pub(super) fn no_key() -> Answer {
    refused(401, "No Authorization Header was found")
}

pub(super) fn invalid_key() -> Answer {
    refused(401, "Invalid key")
}

pub(super) fn rate_limited() -> Answer {
    let step = "Wait a few minutes and try the API call again";
    coded(429, "api_error", "rate_limited", "Rate limit exceeded!", step)
}

pub(super) fn broken() -> Answer {
    let step = "Try again later";
    coded(500, "api_error", "unknown", "An error occurred", step)
}

/// A page of a list.
pub(super) fn listed(message: &str, data: Vec<Value>, meta: Value) -> Answer {
    let mut answer = success(message, Value::Array(data));
    if let Some(body) = answer.body.as_object_mut() {
        body.insert("meta".to_owned(), meta);
    }
    answer
}

/// Milliseconds and `Z`, as JavaScript prints them.
pub(super) fn moment(at_us: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let at = Timestamp::from_micros(at_us).to_datetime();
    // A description without time zone cannot fail on a UTC time.
    at.format(format).unwrap_or_default()
}
