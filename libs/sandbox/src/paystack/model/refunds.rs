//! Refunds: money on its way back to whoever paid.
//!
//! A refund moves by itself, when the clock says so: `pending` → `processing` → how it ends. There
//! is no idempotency: two equal calls make two refunds, as long as there is something to give back.

use primitives::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::answers::{self, Answer, refunds as shapes};
use super::lists::{Paging, Parameters};
use super::{Due, Kept, Model, Status, Transaction, cards, events, fields};

/// How far a refund has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefundStatus {
    /// Waits for the processor.
    Pending,
    /// Received by the processor.
    Processing,
    /// Needs the customer's bank account.
    NeedsAttention,
    /// Not done; the amount is the merchant's again.
    Failed,
    /// Done by the processor.
    Processed,
}

impl RefundStatus {
    /// As Paystack spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::NeedsAttention => "needs-attention",
            Self::Failed => "failed",
            Self::Processed => "processed",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Processing | Self::NeedsAttention => false,
            Self::Failed | Self::Processed => true,
        }
    }

    /// Whether a refund may come from here to there.
    const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Failed | Self::Processed, _) | (_, Self::Pending) => false,
            (Self::Processing, Self::Processing) | (Self::NeedsAttention, Self::NeedsAttention) => {
                false
            }
            (Self::Pending | Self::Processing | Self::NeedsAttention, _) => true,
        }
    }
}

/// One refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Paystack's id.
    pub id: u64,
    /// Of which transaction.
    pub transaction_id: u64,
    /// That transaction's reference.
    pub transaction_reference: String,
    /// What is given back, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: String,
    /// How far it has come.
    pub status: RefundStatus,
    /// How it ends if nobody interferes.
    pub ends: RefundStatus,
    /// What the customer is told.
    pub customer_note: String,
    /// What the merchant wrote down.
    pub merchant_note: String,
    /// The processor's reference, once it has one.
    pub refund_reference: Option<String>,
    /// In microseconds since 1970.
    pub created_at_us: i64,
    /// In microseconds since 1970.
    pub updated_at_us: i64,
    /// In microseconds since 1970.
    pub refunded_at_us: Option<i64>,
    /// When it moves on by itself.
    pub due_at_us: Option<i64>,
}

/// What a new refund says about itself.
struct Notes {
    customer: String,
    merchant: String,
}

impl Model {
    /// Every refund, oldest first.
    pub fn refunds(&self) -> impl DoubleEndedIterator<Item = &Refund> {
        self.refunds.values()
    }

    pub(super) fn create_refund(
        &mut self,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Answer, Answer> {
        let body = fields::object(body)?;
        let name = match fields::given(body, "transaction") {
            None => return Err(answers::missing_params("Transaction reference is required")),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(id)) => id.to_string(),
            Some(_) => return Err(answers::invalid_params("\"transaction\" must be a string")),
        };
        let of = self.by_id_or_reference(&name).ok_or_else(answers::id_not_found)?;
        if !of.status.is_paid() {
            return Err(answers::refused(400, "Only a successful transaction can be refunded"));
        }
        let remains = self.remains(of);
        if remains == 0 && !self.has_open_dispute(of.id) {
            return Err(answers::fully_reversed());
        }
        let amount = fields::number(body, "amount")?.unwrap_or(remains);
        if fields::text(body, "currency")?.is_some_and(|it| it != of.currency) {
            let message = "\"currency\" must be the currency of the transaction";
            return Err(answers::invalid_params(message));
        }
        let notes = Notes {
            customer: fields::text(body, "customer_note")?
                .unwrap_or_else(|| format!("Refund for transaction {}", of.reference)),
            merchant: fields::text(body, "merchant_note")?.unwrap_or_else(|| {
                format!("Refund for transaction {} by {}", of.reference, shapes::MERCHANT)
            }),
        };
        if amount == 0 {
            return Err(answers::invalid_params("\"amount\" must be greater than 0"));
        }
        if amount > remains {
            let message = "Refund amount cannot be more than what remains of the transaction";
            return Err(answers::refused(400, message));
        }
        if self.settings.refunds_need_balance && amount > self.balance(&of.currency) {
            let message = "Your balance is not enough to fulfil this request";
            return Err(answers::refused(400, message));
        }
        let of = of.clone();
        let id = self.open_refund(&of, amount, notes, now);
        self.move_refund(id, RefundStatus::Pending, now);
        let it = self.refunds.get(&id).ok_or_else(answers::broken)?;
        let data = shapes::created(&self.settings, it, &of);
        Ok(answers::success("Refund has been queued for processing", data))
    }

    fn open_refund(&mut self, of: &Transaction, amount: u64, notes: Notes, now: Timestamp) -> u64 {
        let id = self.next_id(now);
        let refund = Refund {
            id,
            transaction_id: of.id,
            transaction_reference: of.reference.clone(),
            amount,
            currency: of.currency.clone(),
            status: RefundStatus::Pending,
            ends: cards::refund_of(&of.card),
            customer_note: notes.customer,
            merchant_note: notes.merchant,
            refund_reference: None,
            created_at_us: now.micros(),
            updated_at_us: now.micros(),
            refunded_at_us: None,
            due_at_us: None,
        };
        self.restore_refund(refund);
        id
    }

    /// Puts a refund into a state, says so, and has the clock move it on from there.
    fn move_refund(&mut self, id: u64, status: RefundStatus, now: Timestamp) {
        let pause = match status {
            RefundStatus::Pending => Some(self.settings.refund_pending),
            RefundStatus::Processing => Some(self.settings.refund_processing),
            RefundStatus::NeedsAttention | RefundStatus::Failed | RefundStatus::Processed => None,
        };
        let digits = self.made_up_digits("refund", id, 12);
        let Some(refund) = self.refunds.get_mut(&id) else { return };
        refund.status = status;
        refund.updated_at_us = now.micros();
        refund.due_at_us = pause.map(|pause| now.plus(pause).micros());
        match status {
            RefundStatus::Pending | RefundStatus::Processing | RefundStatus::NeedsAttention => {}
            RefundStatus::Failed => refund.refund_reference = Some(format!("TRF_{digits}")),
            RefundStatus::Processed => {
                refund.refund_reference = Some(digits);
                refund.refunded_at_us = Some(now.micros());
            }
        }
        if let Some(due_at_us) = refund.due_at_us {
            self.agenda.insert((due_at_us, Due::Refund(id)));
        }
        let refund = refund.clone();
        self.show_reversal(refund.transaction_id);
        if let Some(of) = self.transactions.get(&refund.transaction_id) {
            self.effects.events.push(events::refund(&self.settings, &refund, of));
        }
        self.effects.kept.push(Kept::Refund { refund });
    }

    /// The moment has come that a refund waited for.
    pub(super) fn refund_is_due(&mut self, id: u64, at: Timestamp) {
        let Some(refund) = self.refunds.get(&id) else { return };
        // Somebody moved it meanwhile.
        if refund.due_at_us != Some(at.micros()) {
            return;
        }
        match refund.status {
            RefundStatus::Pending => self.move_refund(id, RefundStatus::Processing, at),
            RefundStatus::Processing => self.move_refund(id, refund.ends, at),
            RefundStatus::NeedsAttention | RefundStatus::Failed | RefundStatus::Processed => {}
        }
    }

    /// Lets the processor decide: the refund's next status, at once. None if it cannot become that.
    pub fn set_refund(&mut self, id: u64, next: RefundStatus, now: Timestamp) -> Option<&Refund> {
        self.advance(now);
        self.refunds.get(&id).filter(|it| it.status.may_become(next))?;
        self.move_refund(id, next, now);
        self.refunds.get(&id)
    }

    /// How a refund is to end that has not ended. False if it has.
    pub(crate) fn refund_ends(&mut self, id: u64, ends: RefundStatus) -> bool {
        let Some(refund) = self.refunds.get_mut(&id).filter(|it| !it.status.is_final()) else {
            return false;
        };
        refund.ends = ends;
        self.effects.kept.push(Kept::Refund { refund: refund.clone() });
        true
    }

    pub(super) fn retry_refund(
        &mut self,
        id: &str,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Answer, Answer> {
        let it = self.refund(id)?;
        let (id, status) = (it.id, it.status);
        let body = fields::object(body)?;
        let details = fields::given(body, "refund_account_details");
        let missing = || answers::missing_params("\"refund_account_details\" is required");
        let details = fields::object(Some(details.ok_or_else(missing)?))?;
        for name in ["currency", "account_number", "bank_id"] {
            fields::required_text(details, name)?;
        }
        if status != RefundStatus::NeedsAttention {
            return Err(answers::not_needing_attention());
        }
        if let Some(refund) = self.refunds.get_mut(&id) {
            // There is an account to send it to.
            refund.ends = RefundStatus::Processed;
        }
        self.move_refund(id, RefundStatus::Processing, now);
        let it = self.refunds.get(&id).ok_or_else(answers::broken)?;
        let data = shapes::retried(&self.settings, it);
        Ok(answers::success("Refund retried and has been queued for processing", data))
    }

    fn refund(&self, id: &str) -> Result<&Refund, Answer> {
        let id: u64 = id.parse().map_err(|_| answers::number_expected("id"))?;
        self.refunds.get(&id).ok_or_else(|| answers::not_found("Refund"))
    }

    pub(super) fn fetch_refund(&self, id: &str) -> Result<Answer, Answer> {
        let it = self.refund(id)?;
        let of = self.transactions.get(&it.transaction_id).ok_or_else(answers::broken)?;
        Ok(answers::success("Refund retrieved", shapes::fetched(&self.settings, it, of)))
    }

    /// Filters by the transaction's id only: a reference finds nothing, a currency is not looked at.
    pub(super) fn list_refunds(&self, parameters: &Parameters) -> Result<Answer, Answer> {
        let paging = Paging::read(parameters)?;
        let period = parameters.period()?;
        let of = parameters.text("transaction").map(str::parse::<u64>);
        let wanted = |it: &&Refund| {
            period.contains(&it.created_at_us)
                && of.as_ref().is_none_or(|id| *id == Ok(it.transaction_id))
        };
        let all: Vec<&Refund> = match &of {
            None => self.refunds().rev().filter(wanted).collect(),
            Some(Ok(id)) => self.refunds_of(*id).rev().filter(wanted).collect(),
            Some(Err(_)) => Vec::new(),
        };
        let n_failed = all.iter().filter(|it| it.status == RefundStatus::Failed).count();
        let (shown, mut meta) = paging.cut(all, |it| it.id);
        meta["failedRefundCount"] = n_failed.into();
        let shape = |it: &&Refund| {
            let of = self.transactions.get(&it.transaction_id)?;
            Some(shapes::listed(&self.settings, it, of))
        };
        Ok(answers::listed("Refunds retrieved", shown.iter().filter_map(shape).collect(), meta))
    }

    /// The refunds of one transaction, oldest first.
    pub(super) fn refunds_of(&self, id: u64) -> impl DoubleEndedIterator<Item = &Refund> {
        let ids = self.claims.get(&id).map(|it| it.refunds.as_slice()).unwrap_or_default();
        ids.iter().filter_map(|id| self.refunds.get(id))
    }

    /// Gives back what remains of a payment, at once and without a webhook. None if it was none.
    pub fn reverse(&mut self, name: &str, now: Timestamp) -> Option<&Transaction> {
        self.advance(now);
        let of = self.find(name).filter(|it| it.status == Status::Success)?.clone();
        let (customer, merchant) = (String::new(), "Given back in the dashboard".to_owned());
        let amount = self.remains(&of);
        let id = self.open_refund(&of, amount, Notes { customer, merchant }, now);
        let n_events = self.effects.events.len();
        self.move_refund(id, RefundStatus::Processed, now);
        self.effects.events.truncate(n_events);
        self.transactions.get(&of.id)
    }
}
