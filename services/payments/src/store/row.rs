//! A deposit's row and the deposit in it.

use primitives::{AccountId, Amount, Currency, DepositId, TransferId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, at, datetime};
use crate::lifecycle::{Attempt, Checkout, Deposit, Paid, Phase, Reason, State, Suspense};
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
    pub(super) paid_minor: Option<i64>,
    pub(super) paid_currency: Option<String>,
    pub(super) provider_transaction_id: Option<String>,
    pub(super) suspense: String,
    pub(super) n_accepted: i16,
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
        let paid = match (self.paid_reference, self.paid_at, self.paid_minor, self.paid_currency) {
            (Some(reference), Some(paid_at), Some(minor), Some(currency)) => Some(Paid {
                reference: reference_of(&reference)?,
                amount: amount_of(minor)?,
                currency: currency_of(&currency)?,
                paid_at: at(paid_at),
                provider_id: self.provider_transaction_id,
            }),
            (None, None, None, None) => None,
            _ => return Err(Error::Corrupt("proof of payment")),
        };
        let number = |value| u16::try_from(value).map_err(|_| Error::Corrupt("number"));
        Ok(Deposit {
            deposit_id: DepositId::from_uuid(self.deposit_id),
            account_id: AccountId::from_uuid(self.account_id),
            amount: amount_of(self.amount_minor)?,
            currency: currency_of(&self.currency)?,
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
            suspense: suspense_of(&self.suspense)?,
            n_accepted: number(self.n_accepted)?,
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
            "crediting" => State::Crediting,
            "credited" => State::Credited,
            "failed" => State::Failed,
            "abandoned" => State::Abandoned,
            "expired" => State::Expired,
            "review" => State::Review(self.reason()?),
            "rejected" => State::Rejected(self.reason()?),
            _ => return Err(Error::Corrupt("state")),
        })
    }

    fn reason(&self) -> Result<Reason, Error> {
        let reason = self.review_reason.as_deref().and_then(Reason::parse);
        reason.ok_or(Error::Corrupt("reason for review"))
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
        | State::Crediting
        | State::Credited
        | State::Failed
        | State::Abandoned
        | State::Expired
        | State::Review(_)
        | State::Rejected(_) => (None, None),
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

pub(super) fn suspense_name(suspense: Suspense) -> &'static str {
    match suspense {
        Suspense::Nothing => "nothing",
        Suspense::Owed => "owed",
        Suspense::Held => "held",
        Suspense::Left => "left",
    }
}

fn suspense_of(name: &str) -> Result<Suspense, Error> {
    Ok(match name {
        "nothing" => Suspense::Nothing,
        "owed" => Suspense::Owed,
        "held" => Suspense::Held,
        "left" => Suspense::Left,
        _ => return Err(Error::Corrupt("suspense")),
    })
}

pub(super) fn amount_of(minor: i64) -> Result<Amount, Error> {
    Amount::from_i64(minor).map_err(|_| Error::Corrupt("amount"))
}

pub(super) fn currency_of(code: &str) -> Result<Currency, Error> {
    Currency::parse(code).map_err(|_| Error::Corrupt("currency"))
}

pub(super) fn reference_of(text: &str) -> Result<Reference, Error> {
    Reference::parse(text).map_err(|_| Error::Corrupt("reference"))
}

/// Attempts are counted to [`crate::lifecycle::ATTEMPTS_MAX`], so they fit.
pub(super) fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}
