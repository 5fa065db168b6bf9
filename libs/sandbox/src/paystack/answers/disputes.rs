//! What a dispute looks like.

use primitives::Timestamp;
use serde_json::{Map, Value, json};

use super::super::model::{Dispute, Resolution, Settings, Transaction};
use super::refunds::MERCHANT as OPS;
use super::{INTEGRATION, Shape, data, moment, transactions};

/// Who answers disputes.
pub(crate) const MERCHANT: &str = OPS;
/// Number of whoever entered the claim.
const CREATED_BY: u64 = 30;

/// In answers.
pub(crate) fn shown(settings: &Settings, it: &Dispute, of: &Transaction) -> Value {
    let mut shown = whole(settings, it, of);
    shown["createdAt"] = moment(it.created_at_us).into();
    shown["updatedAt"] = moment(it.updated_at_us).into();
    shown
}

/// As the one of a transaction.
pub(crate) fn of_transaction(settings: &Settings, it: &Dispute, of: &Transaction) -> Value {
    let mut shown = shown(settings, it, of);
    shown["merchant_transaction_reference"] = of.reference.clone().into();
    shown["integration"] = INTEGRATION.into();
    shown["created_by"] = CREATED_BY.into();
    shown
}

/// In webhooks.
pub(crate) fn announced(settings: &Settings, it: &Dispute, of: &Transaction) -> Value {
    let mut announced = whole(settings, it, of);
    announced["created_at"] = moment(it.created_at_us).into();
    announced["updated_at"] = moment(it.updated_at_us).into();
    announced
}

fn whole(settings: &Settings, it: &Dispute, of: &Transaction) -> Value {
    let (bin, last4) = transactions::card_ends(of);
    let history = it
        .history
        .iter()
        .map(|said| json!({ "status": said.what, "by": said.by, "createdAt": moment(said.at_us) }));
    let messages = it.messages.iter().map(
        |said| json!({ "sender": said.by, "body": said.what, "createdAt": moment(said.at_us) }),
    );
    json!({
        "id": it.id,
        "refund_amount": it.refund_amount,
        "currency": it.currency,
        "status": it.status.as_str(),
        "resolution": it.resolution.map(Resolution::as_str),
        "domain": settings.domain,
        "transaction": data(settings, of, Shape::Disputed),
        "transaction_reference": null,
        "category": it.category.as_str(),
        "customer": transactions::customer(of),
        "bin": bin,
        "last4": last4,
        "dueAt": moment(it.due_at_us),
        "resolvedAt": it.resolved_at_us.map(moment),
        "evidence": it.evidence,
        "attachments": it.attachments,
        "note": null,
        "history": history.collect::<Vec<_>>(),
        "messages": messages.collect::<Vec<_>>(),
    })
}

/// After the merchant answered: without its neighbours, and with the last message.
pub(crate) fn resolved(settings: &Settings, it: &Dispute, of: &Transaction) -> Value {
    let (bin, last4) = transactions::card_ends(of);
    let message = it.messages.last().map(|said| {
        let at = moment(said.at_us);
        json!({
            "dispute": it.id, "sender": said.by, "body": said.what, "id": it.id,
            "createdAt": at, "updatedAt": at,
        })
    });
    json!({
        "currency": it.currency,
        "last4": last4,
        "bin": bin,
        "transaction_reference": null,
        "merchant_transaction_reference": of.reference,
        "refund_amount": it.refund_amount,
        "status": it.status.as_str(),
        "domain": settings.domain,
        "resolution": it.resolution.map(Resolution::as_str),
        "category": it.category.as_str(),
        "note": null,
        "attachments": it.attachments,
        "id": it.id,
        "integration": INTEGRATION,
        "transaction": of.id,
        "created_by": CREATED_BY,
        "evidence": it.evidence.as_ref().and_then(|it| it.get("id")),
        "resolvedAt": it.resolved_at_us.map(moment),
        "createdAt": moment(it.created_at_us),
        "updatedAt": moment(it.updated_at_us),
        "dueAt": moment(it.due_at_us),
        "message": message,
    })
}

/// What the merchant can show.
pub(crate) fn evidence(id: u64, dispute: u64, body: &Map<String, Value>, now: Timestamp) -> Value {
    let at = moment(now.micros());
    let mut evidence = json!({
        "id": id, "dispute": dispute, "createdAt": at, "updatedAt": at,
    });
    for name in [
        "customer_email",
        "customer_name",
        "customer_phone",
        "service_details",
        "delivery_address",
        "delivery_date",
    ] {
        evidence[name] = body.get(name).cloned().unwrap_or_default();
    }
    evidence
}
