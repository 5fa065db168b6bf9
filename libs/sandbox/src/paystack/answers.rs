//! What Paystack's answers look like: envelopes, messages, codes, `null`s and oddities.

use primitives::Timestamp;
use serde_json::{Value, json};
use time::macros::format_description;

use super::model::{Settings, Status, Transaction};

/// Status and JSON body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The envelope.
    pub body: Value,
}

/// Where a transaction is shown: each place has its own oddities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Verify,
    Fetch,
    List,
    Webhook,
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

pub(super) fn initialized(settings: &Settings, it: &Transaction) -> Answer {
    let url = format!("{}/checkout/{}", settings.public_url, it.access_code);
    success(
        "Authorization URL created",
        json!({
            "authorization_url": url,
            "access_code": it.access_code,
            "reference": it.reference,
        }),
    )
}

pub(super) fn list(settings: &Settings, all: &[&Transaction], page: u64, per_page: u64) -> Answer {
    let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let skipped = page.saturating_sub(1).saturating_mul(per_page);
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let shown = all.iter().skip(count(skipped)).take(count(per_page));
    let data: Vec<Value> = shown.map(|it| data(settings, it, Shape::List)).collect();
    let volume: u64 =
        all.iter().filter(|it| it.status == Status::Success).map(|it| it.amount).sum();
    let mut answer = success("Transactions retrieved", Value::Array(data));
    if let Some(body) = answer.body.as_object_mut() {
        let meta = json!({
            "total": total,
            "total_volume": volume,
            "skipped": skipped,
            "perPage": per_page,
            "page": page,
            "pageCount": total.div_ceil(per_page),
        });
        body.insert("meta".to_owned(), meta);
    }
    answer
}

/// Local fees in Nigeria: 1.5 % and ₦100, which is waived under ₦2,500; ₦2,000 at most. For other
/// currencies Paystack's answer may be `null`, and here it is.
fn fees(it: &Transaction) -> Option<u64> {
    let paid = matches!(it.status, Status::Success | Status::Reversed) && it.currency == "NGN";
    let flat = if it.amount < 250_000 { 0 } else { 10_000 };
    paid.then(|| (it.amount.saturating_mul(15).div_ceil(1_000) + flat).min(200_000))
}

/// Milliseconds and `Z`, as JavaScript prints them.
fn moment(at_us: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let at = Timestamp::from_micros(at_us).to_datetime();
    // A description without time zone cannot fail on a UTC time.
    at.format(format).unwrap_or_default()
}

/// The `data` of one transaction.
pub(super) fn data(settings: &Settings, it: &Transaction, shape: Shape) -> Value {
    let created = moment(it.created_at_us);
    let paid_at = it.paid_at_us.map(moment);
    let mut data = json!({
        "id": it.id,
        "domain": settings.domain,
        "status": it.status.as_str(),
        "reference": it.reference,
        "amount": it.amount,
        "message": null,
        "gateway_response": it.gateway_response,
        "paid_at": paid_at,
        "created_at": created,
        "channel": "card",
        "currency": it.currency,
        "ip_address": if it.attempts == 0 { None } else { Some("203.0.113.7") },
        "metadata": metadata(it, shape),
        "log": if shape == Shape::Webhook { Value::Null } else { log(it) },
        "fees": fees(it),
        "fees_split": null,
        "fees_breakdown": null,
        "authorization": authorization(it),
        "customer": customer(it),
        "order_id": null,
        "paidAt": paid_at,
        "requested_amount": it.requested_amount,
        "pos_transaction_data": null,
        "source": null,
    });
    let rest = match shape {
        Shape::Webhook => json!({
            "plan": {}, "subaccount": {}, "split": {},
            "source": {
                "type": "api", "source": "merchant_api",
                "entry_point": "transaction_initialize", "identifier": null,
            },
        }),
        Shape::Verify | Shape::Fetch => json!({
            "receipt_number": null, "plan": null, "split": {}, "subaccount": {},
            "plan_object": {}, "connect": null, "createdAt": created,
            "transaction_date": created,
        }),
        Shape::List => json!({
            "plan": {}, "split": {}, "subaccount": {}, "connect": null, "createdAt": created,
        }),
    };
    if let (Some(data), Value::Object(rest)) = (data.as_object_mut(), rest) {
        data.extend(rest);
    }
    data
}

/// What was sent; if nothing was, `""`, `0` or `null`, depending on the place.
fn metadata(it: &Transaction, shape: Shape) -> Value {
    if it.metadata.as_str() != Some("") {
        return it.metadata.clone();
    }
    match shape {
        Shape::Verify | Shape::Fetch => json!(""),
        Shape::Webhook => json!(0),
        Shape::List => Value::Null,
    }
}

fn log(it: &Transaction) -> Value {
    if it.attempts == 0 {
        return Value::Null;
    }
    let paid = it.paid_at_us.is_some();
    let (kind, message) = if paid {
        ("success", "Successfully paid with card".to_owned())
    } else {
        ("error", format!("Error: {}", it.gateway_response))
    };
    json!({
        "start_time": Timestamp::from_micros(it.created_at_us).seconds(),
        "time_spent": 4,
        "attempts": it.attempts,
        "errors": it.attempts - u32::from(paid),
        "success": paid,
        "mobile": false,
        "input": [],
        "history": [
            { "type": "action", "message": "Attempted to pay with card", "time": 3 },
            { "type": kind, "message": message, "time": 4 },
        ],
    })
}

/// Empty until somebody tried to pay.
fn authorization(it: &Transaction) -> Value {
    if it.attempts == 0 {
        return json!({});
    }
    let card = if it.card.is_empty() { "4084084084084081" } else { &it.card };
    json!({
        "authorization_code": format!("AUTH_{:x}", it.id),
        "bin": card.get(..6).unwrap_or(card),
        "last4": card.get(card.len().saturating_sub(4)..).unwrap_or(card),
        "exp_month": "12",
        "exp_year": "2030",
        "channel": "card",
        "card_type": "visa ",
        "bank": "TEST BANK",
        "country_code": "NG",
        "brand": "visa",
        "reusable": true,
        "signature": format!("SIG_{:x}", it.id),
        "account_name": null,
    })
}

fn customer(it: &Transaction) -> Value {
    json!({
        "id": it.customer_id,
        "first_name": null,
        "last_name": null,
        "email": it.email,
        "customer_code": format!("CUS_{:x}", it.customer_id),
        "phone": null,
        "metadata": null,
        "risk_action": "default",
        "international_format_phone": null,
    })
}
