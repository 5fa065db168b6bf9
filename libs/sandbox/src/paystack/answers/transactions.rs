//! What a transaction looks like: each place it is shown has its own oddities.

use std::collections::BTreeMap;

use primitives::Timestamp;
use serde_json::{Value, json};

use super::super::model::{Settings, Status, Transaction, fees};
use super::{Answer, moment, success};

/// Where a transaction is shown: each place has its own oddities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Verify,
    Fetch,
    /// Within a dispute.
    Disputed,
    List,
    Webhook,
}

pub(crate) fn initialized(settings: &Settings, it: &Transaction) -> Answer {
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

/// The `data` of one transaction.
pub(crate) fn data(settings: &Settings, it: &Transaction, shape: Shape) -> Value {
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
        "channel": it.channel,
        "currency": it.currency,
        "ip_address": if it.attempts == 0 { None } else { Some("203.0.113.7") },
        "metadata": metadata(it, shape),
        "log": if shape == Shape::Webhook { Value::Null } else { log(it) },
        "fees": fees_of(it),
        "fees_split": null,
        "fees_breakdown": null,
        "authorization": authorization(it, shape),
        "customer": customer(it),
        "order_id": null,
        "paidAt": paid_at,
        "requested_amount": it.requested_amount,
        "pos_transaction_data": null,
        "source": null,
    });
    let rest = match shape {
        Shape::Webhook => json!({
            "plan": {}, "subaccount": {}, "split": {}, "source": source(),
        }),
        Shape::Verify => json!({
            "receipt_number": null, "plan": null, "split": {}, "subaccount": {},
            "plan_object": {}, "connect": null, "createdAt": created,
            "transaction_date": created,
        }),
        Shape::Fetch => json!({
            "receipt_number": null, "plan": {}, "split": {}, "subaccount": {},
            "plan_object": {}, "connect": null, "createdAt": created,
            "transaction_date": created, "helpdesk_link": null, "source": source(),
        }),
        Shape::Disputed => json!({
            "receipt_number": null, "plan": {}, "split": {}, "subaccount": {},
            "connect": null, "createdAt": created,
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

/// Whence the transaction was made.
fn source() -> Value {
    json!({
        "type": "api", "source": "merchant_api", "entry_point": "transaction_initialize",
        "identifier": null,
    })
}

/// What was sent; if nothing was, `""`, `0` or `null`, depending on the place.
fn metadata(it: &Transaction, shape: Shape) -> Value {
    if it.metadata.as_str() != Some("") {
        return it.metadata.clone();
    }
    match shape {
        Shape::Verify | Shape::Fetch | Shape::Disputed => json!(""),
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
        ("success", format!("Successfully paid with {}", it.channel))
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
            { "type": "action", "message": format!("Attempted to pay with {}", it.channel), "time": 3 },
            { "type": kind, "message": message, "time": 4 },
        ],
    })
}

/// Empty until somebody tried to pay.
fn authorization(it: &Transaction, shape: Shape) -> Value {
    if it.attempts == 0 {
        return json!({});
    }
    let (bin, last4) = card_ends(it);
    let mut authorization = json!({
        "authorization_code": format!("AUTH_{:x}", it.id),
        "bin": bin,
        "last4": last4,
        "exp_month": "12",
        "exp_year": "2030",
        "channel": it.channel,
        "card_type": "visa ",
        "bank": "TEST BANK",
        "country_code": "NG",
        "brand": "visa",
        "reusable": true,
        "signature": format!("SIG_{:x}", it.id),
        "account_name": null,
    });
    if matches!(shape, Shape::Fetch | Shape::Disputed) {
        authorization["receiver_bank_account_number"] = Value::Null;
        authorization["receiver_bank"] = Value::Null;
    }
    authorization
}

/// The first six and the last four digits.
pub(super) fn card_ends(it: &Transaction) -> (&str, &str) {
    let card = if it.card.is_empty() { "4084084084084081" } else { &it.card };
    (card.get(..6).unwrap_or(card), card.get(card.len().saturating_sub(4)..).unwrap_or(card))
}

pub(super) fn customer(it: &Transaction) -> Value {
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

fn fees_of(it: &Transaction) -> Option<u64> {
    if it.status.is_paid() { fees(it.amount, &it.currency) } else { None }
}

/// The log by itself; for an unpaid transaction it is there, too, and empty.
pub(crate) fn timeline(it: &Transaction) -> Value {
    if it.attempts > 0 {
        return log(it);
    }
    json!({
        "start_time": Timestamp::from_micros(it.created_at_us).seconds(),
        "time_spent": 0, "attempts": 0, "errors": 0, "success": false, "mobile": false,
        "input": [], "history": [],
    })
}

/// Counts all, sums what is paid; the sum over currencies means nothing, and is there.
pub(crate) fn transaction_totals<'a>(all: impl Iterator<Item = &'a Transaction>) -> Answer {
    let (mut n_all, mut volume) = (0_u64, 0_u64);
    let mut by_currency: BTreeMap<&str, u64> = BTreeMap::new();
    for it in all {
        n_all += 1;
        if it.status == Status::Success {
            volume = volume.saturating_add(it.amount);
            let sum = by_currency.entry(&it.currency).or_default();
            *sum = sum.saturating_add(it.amount);
        }
    }
    let sum = |(currency, amount): (&str, u64)| json!({ "currency": currency, "amount": amount });
    let by_currency: Vec<Value> = by_currency.into_iter().map(sum).collect();
    let data = json!({
        "total_transactions": n_all,
        "total_volume": volume,
        "total_volume_by_currency": by_currency,
        "pending_transfers": 0,
        "pending_transfers_by_currency": [],
    });
    success("Transaction totals", data)
}
