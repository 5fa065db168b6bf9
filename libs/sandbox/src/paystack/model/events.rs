//! The webhooks: what each says, in each one's own way of saying it.

use serde_json::{Value, json};

use super::super::answers::{self, Shape, disputes as dispute_shapes};
use super::{Dispute, Refund, RefundStatus, Settings, Transaction};

/// What kind of thing a webhook is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// A payment.
    Transaction,
    /// Money on its way back.
    Refund,
    /// A payment somebody contests.
    Dispute,
}

impl Topic {
    /// As it is spelled.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transactions",
            Self::Refund => "refunds",
            Self::Dispute => "disputes",
        }
    }
}

/// A webhook to be sent: the whole fact, to be written down by the sender.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `charge.success`.
    pub name: &'static str,
    /// Which transaction it is about.
    pub reference: String,
    /// What it is about, and that thing's id.
    pub about: (Topic, u64),
    /// The `data` of the body.
    pub data: Value,
}

pub(super) fn charge_success(settings: &Settings, paid: &Transaction) -> Event {
    let data = answers::data(settings, paid, Shape::Webhook);
    let (reference, about) = (paid.reference.clone(), (Topic::Transaction, paid.id));
    Event { name: "charge.success", reference, about, data }
}

/// `amount` is text in some and a number in others, and only one says which refund it means.
pub(super) fn refund(settings: &Settings, it: &Refund, of: &Transaction) -> Event {
    let mut data = json!({
        "status": it.status.as_str(),
        "transaction_reference": it.transaction_reference,
        "refund_reference": it.refund_reference,
        "amount": it.amount.to_string(),
        "currency": it.currency,
        "customer": { "first_name": null, "last_name": null, "email": of.email },
        "integration": answers::INTEGRATION,
        "domain": settings.domain,
    });
    let (name, rest) = match it.status {
        RefundStatus::Pending => ("refund.pending", json!({ "processor": "instant-transfer" })),
        RefundStatus::Processing => {
            ("refund.processing", json!({ "processor": "instant-transfer" }))
        }
        RefundStatus::Processed => ("refund.processed", json!({ "processor": "mpgs_zen" })),
        RefundStatus::Failed => {
            ("refund.failed", json!({ "processor": "instant-transfer", "amount": it.amount }))
        }
        RefundStatus::NeedsAttention => {
            let rest = json!({
                "id": it.id.to_string(),
                "amount": it.amount,
                "customer_note": it.customer_note,
                "merchant_note": it.merchant_note,
            });
            ("refund.needs-attention", rest)
        }
    };
    if let (Some(data), Value::Object(rest)) = (data.as_object_mut(), rest) {
        data.extend(rest);
    }
    let (reference, about) = (it.transaction_reference.clone(), (Topic::Refund, it.id));
    Event { name, reference, about, data }
}

/// What happens to a dispute.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Create,
    Remind,
    Resolve,
}

pub(super) fn dispute(settings: &Settings, it: &Dispute, of: &Transaction, stage: Stage) -> Event {
    let name = match stage {
        Stage::Create => "charge.dispute.create",
        Stage::Remind => "charge.dispute.remind",
        Stage::Resolve => "charge.dispute.resolve",
    };
    let data = dispute_shapes::announced(settings, it, of);
    Event { name, reference: of.reference.clone(), about: (Topic::Dispute, it.id), data }
}
