//! Compares what Paystack says of a refund or a dispute with what we recorded. Pure.

use primitives::{Amount, Timestamp};
use serde_json::{Map, Value};

use super::{Kind, Reason, Return, State};
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

/// What a dispute or a found refund is about, and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What the payer wants back, or gets.
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
    /// `transaction`, or its `id`, as digits.
    pub transaction_id: Option<String>,
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
        // A number in a list and in what is fetched, an object in the answer to a new one.
        let of = data.get("transaction");
        let of = of.and_then(|it| it.get("id")).or(of);
        Self {
            id: loose::whole_number(data.get("id")).map(|it| it.to_string()),
            status: text("status"),
            amount_minor: loose::whole_number(data.get("amount")),
            currency: text("currency"),
            domain: text("domain"),
            merchant_note: text("merchant_note"),
            transaction_id: loose::whole_number(of).map(|it| it.to_string()),
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

    /// Whether that the payment was given back is all that says who lost: then nothing else may have
    /// been the cause, and Paystack's refunds of the payment must be known as well.
    #[must_use]
    pub fn is_told_by_payment(&self) -> bool {
        self.resolution.as_deref() == Some("declined")
            && self.transaction_status.as_deref() == Some("reversed")
    }
}

/// Whether money of a payment may have gone back by anything but one dispute: by another of `all`
/// returns of it, or by a refund that Paystack lists, perhaps one that we have not heard of.
#[must_use]
pub fn has_others(dispute: &Return, all: &[Return], listed: &[RefundSaid]) -> bool {
    let is_other = |it: &Return| it.return_id != dispute.return_id;
    all.iter().any(|it| is_other(it) && !matches!(it.state, State::Kept | State::Refused))
        || listed.iter().any(|it| it.status.as_deref() != Some("failed"))
}

/// Whether a refund in Paystack's list is one of these, all returns of its payment: found before, or
/// asked for by us, whether or not we heard of it. That we gave one up does not make it ours. One
/// without any note may be ours as long as we do not know which ours is.
#[must_use]
pub fn is_known(all: &[Return], said: &RefundSaid) -> bool {
    let is_it = |it: &Return| match it.kind {
        Kind::Dispute => false,
        Kind::FoundRefund => it.provider_id == said.id,
        Kind::Refund if it.provider_id.is_some() => it.provider_id == said.id,
        Kind::Refund => {
            let is_given_up = matches!(it.state, State::Kept | State::Refused);
            !is_given_up && said.merchant_note.as_ref().is_none_or(|note| *note == it.tag())
        }
    };
    all.iter().any(is_it)
}

/// How a refund stands that we asked for.
#[must_use]
pub fn judge_refund(ours: &Return, said: &RefundSaid, domain: Domain) -> Word {
    match refund(ours, said, domain) {
        Ok(Claim { amount, word }) if ours.amount == Some(amount) => word,
        Ok(_) => Word::Disagrees(Reason::AmountDiffers),
        Err(reason) => Word::Disagrees(reason),
    }
}

/// What a refund is about that somebody made at Paystack itself, and how it stands. `all` are the
/// returns of its payment.
///
/// # Errors
/// Why it cannot be booked by itself. One more reason is a dispute: what its merchant agreed to give
/// back may be listed as a refund too, and would be taken twice.
pub fn judge_found_refund(
    ours: &Return,
    said: &RefundSaid,
    domain: Domain,
    all: &[Return],
) -> Result<Claim, Reason> {
    let is_contested = |it: &Return| it.kind == Kind::Dispute && it.state != State::Kept;
    if ours.state == State::Noticed && all.iter().any(is_contested) {
        return Err(Reason::Unclear);
    }
    refund(ours, said, domain)
}

fn refund(ours: &Return, said: &RefundSaid, domain: Domain) -> Result<Claim, Reason> {
    if said.domain.as_deref().is_some_and(|it| it != domain.as_str()) {
        return Err(Reason::DomainDiffers);
    }
    if said.currency.as_deref() != Some(ours.payment.currency.as_str()) {
        return Err(Reason::CurrencyDiffers);
    }
    let amount = said.amount_minor.and_then(|it| Amount::try_new(it).ok());
    let amount = amount.ok_or(Reason::AmountDiffers)?;
    let word = match said.status.as_deref() {
        Some("processed") => Word::Back { amount },
        Some("failed") => Word::NotBack,
        Some("needs-attention") => Word::NeedsAttention,
        Some(_) | None => Word::Open { answer_by: None },
    };
    Ok(Claim { amount, word })
}

/// What a dispute is about and how it stands. `has_others` is whether money of the same payment may
/// have gone back by anything else, as [`has_others`] tells.
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
    if said.is_told_by_payment() {
        // It stays `declined` whoever wins: only the transaction tells, if nothing else reversed it.
        return if has_others { Word::Disagrees(Reason::Unclear) } else { Word::Back { amount } };
    }
    match (said.resolution.as_deref(), said.transaction_status.as_deref()) {
        (Some("merchant-accepted" | "auto-accepted"), _) if said.refund_amount_minor != Some(0) => {
            Word::Back { amount }
        }
        (Some("declined"), Some("success")) => Word::NotBack,
        (Some("declined"), Some("reversal_pending" | "reversal-pending")) => {
            Word::Open { answer_by: None }
        }
        (_, _) => Word::Disagrees(Reason::Unclear),
    }
}
