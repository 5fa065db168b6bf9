//! Compares what Paystack says of a refund or a dispute with what we recorded. Pure.

use primitives::{Amount, Timestamp};
use serde_json::{Map, Value};

use super::{Reason, Return};
use crate::loose;
use crate::verdict::Domain;

/// How Paystack says a return stands, once compared with our record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Not ended, or a status that we do not know.
    Open {
        /// Until when a dispute must be answered there.
        answer_by: Option<Timestamp>,
    },
    /// The payer's bank account must be told to Paystack.
    NeedsAttention,
    /// So much went back to the payer.
    Back {
        /// In the payment's currency.
        amount: Amount,
    },
    /// Nothing went back, and nothing will.
    NotBack,
    /// It is not what we know of.
    Disagrees(Reason),
}

impl Word {
    /// Its name in the timeline.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "told: open",
            Self::NeedsAttention => "told: needs attention",
            Self::Back { .. } => "told: went back",
            Self::NotBack => "told: did not go back",
            Self::Disagrees(_) => "told: disagrees",
        }
    }
}

/// What a dispute is about, and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What the payer wants back.
    pub amount: Amount,
    /// How it stands.
    pub word: Word,
}

/// What Paystack says of a refund.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefundSaid {
    /// `id`, as digits.
    pub id: Option<String>,
    /// `status`
    pub status: Option<String>,
    /// `amount`
    pub amount_minor: Option<u64>,
    /// `currency`
    pub currency: Option<String>,
    /// `domain`
    pub domain: Option<String>,
    /// `merchant_note`
    pub merchant_note: Option<String>,
}

/// What Paystack says of a dispute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DisputeSaid {
    /// `status`
    pub status: Option<String>,
    /// `resolution`
    pub resolution: Option<String>,
    /// `refund_amount`
    pub refund_amount_minor: Option<u64>,
    /// `currency`
    pub currency: Option<String>,
    /// `domain`
    pub domain: Option<String>,
    /// `dueAt`
    pub answer_by: Option<Timestamp>,
    /// `transaction.reference`
    pub reference: Option<String>,
    /// `transaction.status`
    pub transaction_status: Option<String>,
    /// `transaction.amount`
    pub transaction_amount_minor: Option<u64>,
}

impl RefundSaid {
    /// Reads what Paystack says: `data` of an answer, or one of a list.
    #[must_use]
    pub fn read(data: &Map<String, Value>) -> Self {
        let text = |name| loose::text(data.get(name));
        Self {
            id: loose::whole_number(data.get("id")).map(|it| it.to_string()),
            status: text("status"),
            amount_minor: loose::whole_number(data.get("amount")),
            currency: text("currency"),
            domain: text("domain"),
            merchant_note: text("merchant_note"),
        }
    }
}

impl DisputeSaid {
    /// Reads what Paystack says: `data` of an answer.
    #[must_use]
    pub fn read(data: &Map<String, Value>) -> Self {
        let text = |name| loose::text(data.get(name));
        let of = data.get("transaction").and_then(Value::as_object);
        let of = |name| of.and_then(|it| it.get(name));
        Self {
            status: text("status"),
            resolution: text("resolution"),
            refund_amount_minor: loose::whole_number(data.get("refund_amount")),
            currency: text("currency").or_else(|| loose::text(of("currency"))),
            domain: text("domain"),
            answer_by: text("dueAt").and_then(|it| Timestamp::parse(&it).ok()),
            reference: loose::text(of("reference")),
            transaction_status: loose::text(of("status")),
            transaction_amount_minor: loose::whole_number(of("amount")),
        }
    }
}

/// How a refund stands that we asked for.
#[must_use]
pub fn judge_refund(ours: &Return, said: &RefundSaid, domain: Domain) -> Word {
    if said.domain.as_deref().is_some_and(|it| it != domain.as_str()) {
        return Word::Disagrees(Reason::DomainDiffers);
    }
    if said.currency.as_deref() != Some(ours.payment.currency.as_str()) {
        return Word::Disagrees(Reason::CurrencyDiffers);
    }
    let amount = said.amount_minor.and_then(|it| Amount::try_new(it).ok());
    let Some(amount) = amount.filter(|it| Some(*it) == ours.amount) else {
        return Word::Disagrees(Reason::AmountDiffers);
    };
    match said.status.as_deref() {
        Some("processed") => Word::Back { amount },
        Some("failed") => Word::NotBack,
        Some("needs-attention") => Word::NeedsAttention,
        Some(_) | None => Word::Open { answer_by: None },
    }
}

/// What a dispute is about and how it stands. `has_others` is whether money of the same payment went
/// back by other returns.
///
/// # Errors
/// Why it cannot be about the payment that we know of.
pub fn judge_dispute(
    ours: &Return,
    said: &DisputeSaid,
    domain: Domain,
    has_others: bool,
) -> Result<Claim, Reason> {
    if said.domain.as_deref().is_some_and(|it| it != domain.as_str()) {
        return Err(Reason::DomainDiffers);
    }
    if said.reference.as_deref() != Some(ours.payment.reference.as_str()) {
        return Err(Reason::ReferenceDiffers);
    }
    if said.currency.as_deref() != Some(ours.payment.currency.as_str()) {
        return Err(Reason::CurrencyDiffers);
    }
    // Null in some samples, and nothing once it is declined: all of the payment is contested.
    let offered = said.refund_amount_minor.filter(|it| *it > 0);
    let amount_minor = offered.or(said.transaction_amount_minor);
    let amount = amount_minor.and_then(|it| Amount::try_new(it).ok());
    let amount = amount.ok_or(Reason::AmountDiffers)?;
    Ok(Claim { amount, word: standing(said, amount, has_others) })
}

fn standing(said: &DisputeSaid, amount: Amount, has_others: bool) -> Word {
    if !matches!(said.status.as_deref(), Some("resolved" | "archived")) {
        return Word::Open { answer_by: said.answer_by };
    }
    match (said.resolution.as_deref(), said.transaction_status.as_deref()) {
        (Some("merchant-accepted" | "auto-accepted"), _) if said.refund_amount_minor != Some(0) => {
            Word::Back { amount }
        }
        // It stays `declined` whoever wins: only the transaction tells.
        (Some("declined"), Some("success")) => Word::NotBack,
        (Some("declined"), Some("reversed")) if !has_others => Word::Back { amount },
        (Some("declined"), Some("reversal_pending" | "reversal-pending")) => {
            Word::Open { answer_by: None }
        }
        (_, _) => Word::Disagrees(Reason::Unclear),
    }
}
