//! What a refund looks like: its transaction is an object once and a number later, its time of
//! creation has two spellings, and whether it is taken off the balance is a bool, a number or null.

use std::time::Duration;

use primitives::Timestamp;
use serde_json::{Value, json};

use super::super::model::{Refund, RefundStatus, Settings, Transaction};
use super::{INTEGRATION, moment, transactions};

/// Who asks for refunds and answers disputes.
pub(crate) const MERCHANT: &str = "ops@example.com";
/// The customer may wait as long as this for the money.
const EXPECTED_AFTER: Duration = Duration::from_secs(10 * 24 * 60 * 60);

fn expected_at(it: &Refund) -> String {
    moment(Timestamp::from_micros(it.created_at_us).plus(EXPECTED_AFTER).micros())
}

fn is_deducted(it: &Refund) -> bool {
    match it.status {
        RefundStatus::Pending | RefundStatus::Failed => false,
        RefundStatus::Processing | RefundStatus::NeedsAttention | RefundStatus::Processed => true,
    }
}

/// Straight after it was asked for.
pub(crate) fn created(settings: &Settings, it: &Refund, of: &Transaction) -> Value {
    let paid_at = of.paid_at_us.map(moment);
    json!({
        "transaction": {
            "id": of.id, "domain": settings.domain, "reference": of.reference,
            "amount": of.amount, "paid_at": paid_at, "channel": of.channel,
            "currency": of.currency,
            "authorization": { "exp_month": null, "exp_year": null, "account_name": null },
            "customer": { "international_format_phone": null },
            "plan": {}, "subaccount": { "currency": null }, "split": {}, "order_id": null,
            "paidAt": paid_at, "pos_transaction_data": null, "source": null,
            "fees_breakdown": null,
        },
        "integration": INTEGRATION,
        "deducted_amount": 0,
        "channel": null,
        "merchant_note": it.merchant_note,
        "customer_note": it.customer_note,
        "status": it.status.as_str(),
        "refunded_by": MERCHANT,
        "expected_at": expected_at(it),
        "currency": it.currency,
        "domain": settings.domain,
        "amount": it.amount,
        "fully_deducted": false,
        "id": it.id,
        "createdAt": moment(it.created_at_us),
        "updatedAt": moment(it.updated_at_us),
    })
}

/// What a refund and an item of a list have in common.
fn whole(settings: &Settings, it: &Refund, of: &Transaction) -> Value {
    json!({
        "integration": INTEGRATION,
        "transaction": it.transaction_id,
        "dispute": null,
        "settlement": null,
        "id": it.id,
        "domain": settings.domain,
        "currency": it.currency,
        "amount": it.amount,
        "status": it.status.as_str(),
        "refunded_at": it.refunded_at_us.map(moment),
        "expected_at": expected_at(it),
        "channel": of.channel,
        "refunded_by": MERCHANT,
        "customer_note": it.customer_note,
        "merchant_note": it.merchant_note,
        "deducted_amount": if is_deducted(it) { it.amount } else { 0 },
        "fully_deducted": u8::from(is_deducted(it)),
        "bank_reference": null,
        "transaction_reference": it.transaction_reference,
        "reason": it.status.as_str().to_uppercase(),
        "customer": transactions::customer(of),
        "refund_type": if it.amount == of.amount { "full" } else { "partial" },
        "transaction_amount": of.amount,
        "initiated_by": MERCHANT,
        "refund_channel": "default",
        "session_id": null,
        "collect_account_number": it.status == RefundStatus::NeedsAttention,
        "updatedAt": moment(it.updated_at_us),
    })
}

/// One by its id.
pub(crate) fn fetched(settings: &Settings, it: &Refund, of: &Transaction) -> Value {
    let mut data = whole(settings, it, of);
    data["createdAt"] = moment(it.created_at_us).into();
    data
}

/// One of a list.
pub(crate) fn listed(settings: &Settings, it: &Refund, of: &Transaction) -> Value {
    let mut data = whole(settings, it, of);
    data["created_at"] = moment(it.created_at_us).into();
    if !is_deducted(it) {
        data["fully_deducted"] = Value::Null;
    }
    data
}

/// After the customer's account was given.
pub(crate) fn retried(settings: &Settings, it: &Refund) -> Value {
    json!({
        "integration": INTEGRATION,
        "transaction": it.transaction_id,
        "dispute": null,
        "settlement": null,
        "id": it.id,
        "domain": settings.domain,
        "currency": it.currency,
        "amount": it.amount,
        "status": it.status.as_str(),
        "refunded_at": null,
        "expected_at": expected_at(it),
        "channel": "card",
        "refunded_by": MERCHANT,
        "customer_note": it.customer_note,
        "merchant_note": it.merchant_note,
        "deducted_amount": it.amount,
        "fully_deducted": true,
        "bank_reference": null,
        "reason": "PROCESSING",
        "customer": null,
        "initiated_by": MERCHANT,
        "reversed_at": null,
        "session_id": null,
    })
}
