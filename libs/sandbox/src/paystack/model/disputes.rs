//! Disputes: a customer's bank contests a payment, the merchant answers, somebody loses.
//!
//! Silence until `dueAt` accepts the claim. A declined claim waits for the bank, and `declined`
//! stays its resolution whoever wins: only the transaction tells whether the money went back.

use std::time::Duration;

use primitives::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::answers::{self, Answer, disputes as shapes};
use super::events::{self, Stage};
use super::lists::{Paging, Parameters};
use super::{Due, Kept, Model, fields};

/// A merchant is reminded as often as this.
const REMIND_EVERY: Duration = Duration::from_secs(4 * 60 * 60);

/// How far a dispute has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisputeStatus {
    /// The merchant has to say something.
    AwaitingMerchantFeedback,
    /// The merchant declined; the bank has to decide.
    AwaitingBankFeedback,
    /// It is over.
    Resolved,
}

impl DisputeStatus {
    /// As Paystack spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingMerchantFeedback => "awaiting-merchant-feedback",
            Self::AwaitingBankFeedback => "awaiting-bank-feedback",
            Self::Resolved => "resolved",
        }
    }
}

/// What a claim is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Paid without getting anything for it.
    Chargeback,
    /// Somebody else used the card.
    Fraud,
    /// Anything else.
    General,
}

impl Category {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Chargeback => "chargeback",
            Self::Fraud => "fraud",
            Self::General => "general",
        }
    }
}

/// What the merchant said, or did not say in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// The merchant gives in.
    MerchantAccepted,
    /// The merchant does not.
    Declined,
    /// The merchant was silent.
    AutoAccepted,
}

impl Resolution {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MerchantAccepted => "merchant-accepted",
            Self::Declined => "declined",
            Self::AutoAccepted => "auto-accepted",
        }
    }
}

/// How the bank decides about a declined claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The merchant keeps the money.
    Won,
    /// The customer has it back.
    Reversed,
}

/// Something that was said or done about a dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// A state in the history, a sentence among the messages.
    pub what: String,
    /// An e-mail.
    pub by: String,
    /// In microseconds since 1970.
    pub at_us: i64,
}

/// One dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// Paystack's id.
    pub id: u64,
    /// Of which transaction.
    pub transaction_id: u64,
    /// What the bank asks for, in minor units.
    pub amount: u64,
    /// What the merchant would give back.
    pub refund_amount: u64,
    /// What went back.
    pub lost_amount: u64,
    /// In which currency.
    pub currency: String,
    /// What it is about.
    pub category: Category,
    /// How far it has come.
    pub status: DisputeStatus,
    /// What the merchant said.
    pub resolution: Option<Resolution>,
    /// Names of files that were sent along.
    pub attachments: Option<String>,
    /// The evidence, if there is any.
    pub evidence: Option<Value>,
    /// The states it had.
    pub history: Vec<Said>,
    /// What was said.
    pub messages: Vec<Said>,
    /// Silence accepts it then. In microseconds since 1970.
    pub due_at_us: i64,
    /// When the clock looks at it again.
    pub wake_at_us: Option<i64>,
    /// In microseconds since 1970.
    pub resolved_at_us: Option<i64>,
    /// In microseconds since 1970.
    pub created_at_us: i64,
    /// In microseconds since 1970.
    pub updated_at_us: i64,
}

/// What the customer's bank claims.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// In minor units; none: what remains of the payment.
    pub amount: Option<u64>,
    /// What it is about.
    pub category: Category,
    /// How long the merchant may be silent.
    pub due: Duration,
}

impl Default for Claim {
    /// Everything, within two days.
    fn default() -> Self {
        let due = Duration::from_secs(48 * 60 * 60);
        Self { amount: None, category: Category::Chargeback, due }
    }
}

/// Why nothing can be contested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undisputable {
    /// No paid transaction has this name.
    Unpaid,
    /// The claim is for nothing, or for more than what remains of the payment.
    Amount,
}

const BANK: &str = "disputes@bank.example";

impl Model {
    /// Every dispute, oldest first.
    pub fn disputes(&self) -> impl DoubleEndedIterator<Item = &Dispute> {
        self.disputes.values()
    }

    /// The disputes of one transaction, oldest first.
    pub(super) fn disputes_of(&self, id: u64) -> impl DoubleEndedIterator<Item = &Dispute> {
        let ids = self.claims.get(&id).map(|it| it.disputes.as_slice()).unwrap_or_default();
        ids.iter().filter_map(|id| self.disputes.get(id))
    }

    pub(super) fn has_open_dispute(&self, transaction_id: u64) -> bool {
        self.disputes_of(transaction_id).any(|it| it.status != DisputeStatus::Resolved)
    }

    /// The customer's bank contests a payment. `name` is a reference or an access code.
    ///
    /// # Errors
    /// There is nothing to contest.
    pub fn raise(
        &mut self,
        name: &str,
        claim: Claim,
        now: Timestamp,
    ) -> Result<&Dispute, Undisputable> {
        self.advance(now);
        let of = self.find(name).filter(|it| it.status.is_paid()).ok_or(Undisputable::Unpaid)?;
        let remains = self.remains(of);
        let amount = claim.amount.unwrap_or(remains);
        if amount == 0 || amount > remains {
            return Err(Undisputable::Amount);
        }
        let id = self.next_id(now);
        let (transaction_id, currency) = (of.id, of.currency.clone());
        let said =
            |what: &str| Said { what: what.to_owned(), by: BANK.to_owned(), at_us: now.micros() };
        let message = match claim.category {
            Category::Chargeback => "Debited without value",
            Category::Fraud => "The customer did not make this payment",
            Category::General => "The customer asks for the money back",
        };
        let due_at = now.plus(claim.due);
        let status = DisputeStatus::AwaitingMerchantFeedback;
        self.restore_dispute(Dispute {
            id,
            transaction_id,
            amount,
            refund_amount: amount,
            lost_amount: 0,
            currency,
            category: claim.category,
            status,
            resolution: None,
            attachments: None,
            evidence: None,
            history: vec![said("pending"), said(status.as_str())],
            messages: vec![said(message)],
            due_at_us: due_at.micros(),
            wake_at_us: Some(now.plus(REMIND_EVERY).min(due_at).micros()),
            resolved_at_us: None,
            created_at_us: now.micros(),
            updated_at_us: now.micros(),
        });
        self.announce(id, Some(Stage::Create));
        self.disputes.get(&id).ok_or(Undisputable::Unpaid)
    }

    /// Sends the webhook of a change, and writes the change down.
    fn announce(&mut self, id: u64, stage: Option<Stage>) {
        let Some(it) = self.disputes.get(&id) else { return };
        if let (Some(stage), Some(of)) = (stage, self.transactions.get(&it.transaction_id)) {
            self.effects.events.push(events::dispute(&self.settings, it, of, stage));
        }
        self.effects.kept.push(Kept::Dispute { dispute: it.clone() });
    }

    /// The moment has come to remind of a dispute, or to take silence for an answer.
    pub(super) fn dispute_is_due(&mut self, id: u64, at: Timestamp) {
        let awaiting = DisputeStatus::AwaitingMerchantFeedback;
        let Some(it) = self.disputes.get_mut(&id) else { return };
        if it.wake_at_us != Some(at.micros()) || it.status != awaiting {
            return;
        }
        if at.micros() >= it.due_at_us {
            let (lost, resolution) = (it.refund_amount, Resolution::AutoAccepted);
            it.resolution = Some(resolution);
            self.close(id, lost, BANK, at);
            return;
        }
        let wake_at_us = at.plus(REMIND_EVERY).micros().min(it.due_at_us);
        it.wake_at_us = Some(wake_at_us);
        self.agenda.insert((wake_at_us, Due::Dispute(id)));
        self.announce(id, Some(Stage::Remind));
    }

    /// Ends a dispute; `lost` goes back to the customer.
    fn close(&mut self, id: u64, lost: u64, by: &str, at: Timestamp) {
        let Some(it) = self.disputes.get_mut(&id) else { return };
        it.step(DisputeStatus::Resolved, by, at);
        it.lost_amount = lost;
        it.wake_at_us = None;
        it.resolved_at_us = Some(at.micros());
        let of = it.transaction_id;
        self.show_reversal(of);
        self.announce(id, Some(Stage::Resolve));
    }

    /// The bank decides about a claim that was declined; false if none such waits for it.
    pub fn decide(&mut self, id: u64, verdict: Verdict, now: Timestamp) -> bool {
        self.advance(now);
        let waits = |it: &&Dispute| it.status == DisputeStatus::AwaitingBankFeedback;
        if self.disputes.get(&id).filter(waits).is_none() {
            return false;
        }
        let Some(it) = self.disputes.get_mut(&id) else { return false };
        let lost = match verdict {
            Verdict::Won => 0,
            Verdict::Reversed => it.amount,
        };
        it.refund_amount = it.refund_amount.max(lost);
        self.close(id, lost, BANK, now);
        true
    }

    fn dispute(&self, id: &str) -> Result<&Dispute, Answer> {
        let id: u64 = id.parse().map_err(|_| answers::number_expected("id"))?;
        self.disputes.get(&id).ok_or_else(|| answers::not_found("Dispute"))
    }

    /// A dispute that still waits for the merchant.
    pub(super) fn answerable(&self, id: &str) -> Result<u64, Answer> {
        let it = self.dispute(id)?;
        if it.status == DisputeStatus::AwaitingMerchantFeedback {
            Ok(it.id)
        } else {
            Err(answers::refused(400, "Dispute has already been responded to"))
        }
    }

    fn shown(&self, it: &Dispute) -> Option<Value> {
        let of = self.transactions.get(&it.transaction_id)?;
        Some(shapes::shown(&self.settings, it, of))
    }

    pub(super) fn list_disputes(&self, parameters: &Parameters) -> Result<Answer, Answer> {
        let paging = Paging::read(parameters)?;
        let period = parameters.period()?;
        let of = parameters.text("transaction").map(str::parse::<u64>);
        let wanted = |it: &&Dispute| {
            period.contains(&it.created_at_us)
                && parameters.text("status").is_none_or(|status| status == it.status.as_str())
                && of.as_ref().is_none_or(|id| *id == Ok(it.transaction_id))
        };
        let all: Vec<&Dispute> = self.disputes().rev().filter(wanted).collect();
        let (shown, meta) = paging.cut(all, |it| it.id);
        let data = shown.into_iter().filter_map(|it| self.shown(it)).collect();
        Ok(answers::listed("Disputes retrieved", data, meta))
    }

    pub(super) fn fetch_dispute(&self, id: &str) -> Result<Answer, Answer> {
        let data = self.shown(self.dispute(id)?).ok_or_else(answers::broken)?;
        Ok(answers::success("Dispute retrieved", data))
    }

    /// The latest of a transaction: one object, as Paystack answers.
    pub(super) fn dispute_of(&self, transaction: &str) -> Result<Answer, Answer> {
        let id: u64 = transaction.parse().map_err(|_| answers::id_not_numeric())?;
        let latest = self.disputes_of(id).next_back();
        let it = latest.ok_or_else(|| answers::not_found("Dispute"))?;
        let of = self.transactions.get(&id).ok_or_else(answers::broken)?;
        let data = shapes::of_transaction(&self.settings, it, of);
        Ok(answers::success("Dispute retrieved successfully", data))
    }

    pub(super) fn update_dispute(
        &mut self,
        id: &str,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Answer, Answer> {
        let id = self.answerable(id)?;
        let body = fields::object(body)?;
        let amount = fields::required_number(body, "refund_amount")?;
        let attachment = fields::text(body, "uploaded_filename")?;
        let it = self.disputes.get_mut(&id).ok_or_else(answers::broken)?;
        it.offer(amount)?;
        it.attachments = attachment.or_else(|| it.attachments.take());
        it.updated_at_us = now.micros();
        self.announce(id, None);
        let it = self.disputes.get(&id).ok_or_else(answers::broken)?;
        let data = self.shown(it).into_iter().collect();
        Ok(answers::success("Dispute updated successfully", Value::Array(data)))
    }

    pub(super) fn add_evidence(
        &mut self,
        id: &str,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Answer, Answer> {
        let id = self.answerable(id)?;
        let body = fields::object(body)?;
        for name in ["customer_email", "customer_name", "customer_phone", "service_details"] {
            fields::required_text(body, name)?;
        }
        let evidence = shapes::evidence(self.next_id(now), id, body, now);
        self.last_id = self.next_id(now);
        let it = self.disputes.get_mut(&id).ok_or_else(answers::broken)?;
        it.evidence = Some(evidence.clone());
        it.updated_at_us = now.micros();
        self.announce(id, None);
        Ok(answers::success("Evidence created", evidence))
    }

    pub(super) fn resolve_dispute(
        &mut self,
        id: &str,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Answer, Answer> {
        let id = self.answerable(id)?;
        let body = fields::object(body)?;
        let resolution = match fields::required_text(body, "resolution")?.as_str() {
            "merchant-accepted" => Resolution::MerchantAccepted,
            "declined" => Resolution::Declined,
            _ => {
                let message = "\"resolution\" must be one of [merchant-accepted, declined]";
                return Err(answers::invalid_params(message));
            }
        };
        let message = fields::required_text(body, "message")?;
        let amount = fields::required_number(body, "refund_amount")?;
        let attachment = fields::required_text(body, "uploaded_filename")?;
        let evidence = fields::number(body, "evidence")?;
        let it = self.disputes.get_mut(&id).ok_or_else(answers::broken)?;
        let known = it.evidence.as_ref().and_then(|it| it.get("id")?.as_u64());
        if evidence.is_some() && evidence != known {
            return Err(answers::not_found("Evidence"));
        }
        it.offer(amount)?;
        it.resolution = Some(resolution);
        it.attachments = Some(attachment);
        let by = shapes::MERCHANT.to_owned();
        it.messages.push(Said { what: message, by, at_us: now.micros() });
        match resolution {
            Resolution::Declined => {
                it.step(DisputeStatus::AwaitingBankFeedback, shapes::MERCHANT, now);
                it.wake_at_us = None;
                self.announce(id, None);
            }
            Resolution::MerchantAccepted | Resolution::AutoAccepted => {
                self.close(id, amount, shapes::MERCHANT, now);
            }
        }
        let it = self.disputes.get(&id).ok_or_else(answers::broken)?;
        let of = self.transactions.get(&it.transaction_id).ok_or_else(answers::broken)?;
        let data = shapes::resolved(&self.settings, it, of);
        Ok(answers::success("Dispute successfully resolved", data))
    }
}

impl Dispute {
    fn step(&mut self, status: DisputeStatus, by: &str, at: Timestamp) {
        self.status = status;
        self.updated_at_us = at.micros();
        let (what, by) = (status.as_str().to_owned(), by.to_owned());
        self.history.push(Said { what, by, at_us: at.micros() });
    }

    /// The merchant names what would be given back.
    fn offer(&mut self, amount: u64) -> Result<(), Answer> {
        if amount > self.amount {
            let message = "Refund amount cannot be greater than initial amount";
            return Err(answers::refused(400, message));
        }
        self.refund_amount = amount;
        Ok(())
    }
}
