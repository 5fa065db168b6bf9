//! A deposit's row and the deposit in it.

use primitives::{AccountId, Amount, Currency, DepositId, TransferId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, at, datetime};
use crate::lifecycle::{Attempt, Checkout, Deposit, Paid, Phase, Reason, State};
use crate::reference::Reference;

/// A deposit with its current attempt, as Postgres has it.
pub(super) struct Row {
    pub(super) deposit_id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) amount_minor: i64,
    pub(super) currency: String,
    pub(super) credit_transfer_id: Uuid,
    pub(super) created_at: OffsetDateTime,
    pub(super) state: String,
    pub(super) review_reason: Option<String>,
    pub(super) confirming_reference: Option<String>,
    pub(super) confirm_until: Option<OffsetDateTime>,
    pub(super) attempt_number: i16,
    pub(super) attempts_left: i16,
    pub(super) authorization_url: Option<String>,
    pub(super) access_code: Option<String>,
    pub(super) wait_until: Option<OffsetDateTime>,
    pub(super) abandon_at: OffsetDateTime,
    pub(super) forget_at: OffsetDateTime,
    pub(super) n_looks: i32,
    pub(super) paid_reference: Option<String>,
    pub(super) paid_at: Option<OffsetDateTime>,
    pub(super) provider_transaction_id: Option<String>,
    pub(super) credited_at: Option<OffsetDateTime>,
    pub(super) reference: String,
    pub(super) phase: String,
}

impl Row {
    /// Checks a row again.
    pub(super) fn read(self) -> Result<Deposit, Error> {
        let state = self.state()?;
        let checkout = match (self.authorization_url, self.access_code) {
            (Some(authorization_url), Some(access_code)) => {
                Some(Checkout { authorization_url, access_code })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(Error::Corrupt("checkout")),
        };
        let paid = match (self.paid_reference, self.paid_at) {
            (Some(reference), Some(paid_at)) => Some(Paid {
                reference: reference_of(&reference)?,
                paid_at: at(paid_at),
                provider_id: self.provider_transaction_id,
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(Error::Corrupt("proof of payment")),
        };
        let number = |value| u16::try_from(value).map_err(|_| Error::Corrupt("number"));
        Ok(Deposit {
            deposit_id: DepositId::from_uuid(self.deposit_id),
            account_id: AccountId::from_uuid(self.account_id),
            amount: Amount::from_i64(self.amount_minor).map_err(|_| Error::Corrupt("amount"))?,
            currency: Currency::parse(&self.currency).map_err(|_| Error::Corrupt("currency"))?,
            credit_transfer_id: TransferId::from_uuid(self.credit_transfer_id),
            created_at: at(self.created_at),
            state,
            attempt: Attempt {
                number: number(self.attempt_number)?,
                reference: reference_of(&self.reference)?,
                phase: phase_of(&self.phase)?,
            },
            attempts_left: number(self.attempts_left)?,
            checkout,
            wait_until: self.wait_until.map(at),
            abandon_at: at(self.abandon_at),
            forget_at: at(self.forget_at),
            n_looks: u32::try_from(self.n_looks).map_err(|_| Error::Corrupt("number of looks"))?,
            paid,
            credited_at: self.credited_at.map(at),
        })
    }

    fn state(&self) -> Result<State, Error> {
        Ok(match self.state.as_str() {
            "initiated" => State::Initiated,
            "pending" => State::Pending,
            "confirming" => {
                let reference = self.confirming_reference.as_deref();
                let (Some(reference), Some(until)) = (reference, self.confirm_until) else {
                    return Err(Error::Corrupt("claim"));
                };
                State::Confirming { reference: reference_of(reference)?, until: at(until) }
            }
            "paid" => State::Paid,
            "credited" => State::Credited,
            "failed" => State::Failed,
            "abandoned" => State::Abandoned,
            "review" => {
                let reason = self.review_reason.as_deref().and_then(Reason::parse);
                State::Review(reason.ok_or(Error::Corrupt("reason for review"))?)
            }
            _ => return Err(Error::Corrupt("state")),
        })
    }
}

/// A state as stored.
pub(super) fn state_name(state: &State) -> &'static str {
    match state {
        State::Initiated => "initiated",
        State::Pending => "pending",
        State::Confirming { .. } => "confirming",
        State::Paid => "paid",
        State::Credited => "credited",
        State::Failed => "failed",
        State::Abandoned => "abandoned",
        State::Review(_) => "review",
    }
}

pub(super) fn review_reason(state: &State) -> Option<String> {
    match state {
        State::Review(reason) => Some(reason.code()),
        State::Initiated
        | State::Pending
        | State::Confirming { .. }
        | State::Paid
        | State::Credited
        | State::Failed
        | State::Abandoned => None,
    }
}

pub(super) fn confirming(state: &State) -> (Option<&str>, Option<OffsetDateTime>) {
    match state {
        State::Confirming { reference, until } => {
            (Some(reference.as_str()), Some(datetime(*until)))
        }
        State::Initiated
        | State::Pending
        | State::Paid
        | State::Credited
        | State::Failed
        | State::Abandoned
        | State::Review(_) => (None, None),
    }
}

pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Stored => "stored",
        Phase::Asked => "asked",
        Phase::Unknown => "unknown",
        Phase::Refused => "refused",
        Phase::Made => "made",
    }
}

fn phase_of(name: &str) -> Result<Phase, Error> {
    Ok(match name {
        "stored" => Phase::Stored,
        "asked" => Phase::Asked,
        "unknown" => Phase::Unknown,
        "refused" => Phase::Refused,
        "made" => Phase::Made,
        _ => return Err(Error::Corrupt("phase")),
    })
}

fn reference_of(text: &str) -> Result<Reference, Error> {
    Reference::parse(text).map_err(|_| Error::Corrupt("reference"))
}

/// Attempts are counted to [`crate::lifecycle::ATTEMPTS_MAX`], so they fit.
pub(super) fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}
