//! Compares what Paystack says with what we recorded. Pure.
//!
//! Our record is the only truth about what was asked for: never the metadata, never the callback,
//! never the webhook. Whatever Paystack leaves out does not agree.

use primitives::{Amount, Currency, Timestamp};

use serde_json::{Map, Value};

use crate::lifecycle::{Paid, Reason, Verdict};
use crate::loose;
use crate::reference::Reference;

/// Who bears Paystack's fees, and so which of its two amounts must be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FeesPaidBy {
    /// `amount` is what we asked for, exactly.
    Merchant,
    /// `requested_amount` is what we asked for, and `amount` is no less.
    Customer,
}

/// The two sides of Paystack, told apart by the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// `sk_test_…`
    Test,
    /// `sk_live_…`
    Live,
}

impl Domain {
    /// As Paystack writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

/// What must be found for the money to be ours to credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The attempt's reference.
    pub reference: &'a Reference,
    /// The deposit's amount.
    pub amount: Amount,
    /// The deposit's currency.
    pub currency: Currency,
    /// The key's side.
    pub domain: Domain,
    /// Which amount is compared.
    pub fees_paid_by: FeesPaidBy,
}

/// What Paystack says of a transaction, in a verify answer or in a webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// `data.id`, as digits.
    pub provider_id: Option<String>,
    /// `data.status`
    pub status: Option<String>,
    /// `data.reference`
    pub reference: Option<String>,
    /// `data.amount`
    pub amount_minor: Option<u64>,
    /// `data.requested_amount`
    pub requested_amount_minor: Option<u64>,
    /// `data.currency`
    pub currency: Option<String>,
    /// `data.domain`
    pub domain: Option<String>,
    /// `data.paid_at`
    pub paid_at: Option<Timestamp>,
}

/// Reads what Paystack says: `data` of a verify answer.
#[must_use]
pub fn said(data: &Map<String, Value>) -> Said {
    loose::said(|name| data.get(name))
}

/// What a verify answer means for a deposit. `now` stands in for a missing time of payment.
#[must_use]
pub fn judge(expected: &Expected<'_>, said: &Said, now: Timestamp) -> Verdict {
    match said.status.as_deref() {
        Some("success") => {
            let paid = paid(expected, said, now);
            match (difference(expected, said), paid) {
                (None, Some(paid)) => Verdict::Paid(paid),
                (None, None) => Verdict::Disagrees { reason: Reason::AmountDiffers, paid: None },
                (Some(reason), paid) => Verdict::Disagrees { reason, paid },
            }
        }
        Some("failed") => Verdict::Failed,
        Some("reversed" | "reversal_pending" | "reversal-pending") => {
            Verdict::Disagrees { reason: Reason::Reversed, paid: None }
        }
        // `abandoned` is said straight after initialize, and an unknown status is not known yet.
        Some(_) | None => Verdict::Open,
    }
}

/// How much of a payment is ours, in minor units, if it says so.
#[must_use]
pub fn ours_of(said: &Said, fees_paid_by: FeesPaidBy) -> Option<u64> {
    match fees_paid_by {
        FeesPaidBy::Merchant => said.amount_minor,
        FeesPaidBy::Customer => said.requested_amount_minor.min(said.amount_minor),
    }
}

/// What was paid under our reference to our side of Paystack, if it says so in full.
///
/// Ours of it is what was asked for if the customer bore the fees: the rest is Paystack's.
fn paid(expected: &Expected<'_>, said: &Said, now: Timestamp) -> Option<Paid> {
    let is_ours = said.reference.as_deref() == Some(expected.reference.as_str())
        && said.domain.as_deref().is_none_or(|it| it == expected.domain.as_str());
    if !is_ours {
        return None;
    }
    Some(Paid {
        reference: expected.reference.clone(),
        amount: Amount::try_new(ours_of(said, expected.fees_paid_by)?).ok()?,
        currency: Currency::parse(said.currency.as_deref()?).ok()?,
        paid_at: said.paid_at.unwrap_or(now),
        provider_id: said.provider_id.clone(),
    })
}

/// The first thing that does not agree with our record, if anything.
#[must_use]
pub fn difference(expected: &Expected<'_>, said: &Said) -> Option<Reason> {
    if said.reference.as_deref() != Some(expected.reference.as_str()) {
        return Some(Reason::ReferenceDiffers);
    }
    if said.domain.as_deref().is_some_and(|it| it != expected.domain.as_str()) {
        return Some(Reason::DomainDiffers);
    }
    if said.currency.as_deref() != Some(expected.currency.as_str()) {
        return Some(Reason::CurrencyDiffers);
    }
    if is_amount_right(expected, said) { None } else { Some(Reason::AmountDiffers) }
}

fn is_amount_right(expected: &Expected<'_>, said: &Said) -> bool {
    let ours = expected.amount.minor();
    let Some(amount) = said.amount_minor else { return false };
    match expected.fees_paid_by {
        FeesPaidBy::Merchant => {
            amount == ours && said.requested_amount_minor.is_none_or(|it| it == ours)
        }
        FeesPaidBy::Customer => said.requested_amount_minor == Some(ours) && amount >= ours,
    }
}

#[cfg(test)]
mod tests {
    use primitives::DepositId;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_000)
    }

    fn said(reference: &Reference) -> Said {
        Said {
            provider_id: Some("4099260516".to_owned()),
            status: Some("success".to_owned()),
            reference: Some(reference.as_str().to_owned()),
            amount_minor: Some(5_000),
            requested_amount_minor: Some(5_000),
            currency: Some("NGN".to_owned()),
            domain: Some("test".to_owned()),
            paid_at: Some(Timestamp::from_seconds(900)),
        }
    }

    /// What is expected of an answer.
    enum Judged {
        /// Agrees, at this second.
        Paid(i64),
        /// Does not, and so much of that currency is Paystack's debt to us, if anything.
        Disagrees(Reason, Option<(u64, &'static str)>),
        Failed,
        Open,
    }

    fn check(fees_paid_by: FeesPaidBy, change: impl Fn(&mut Said), judged: Judged) {
        let reference = Reference::of(DepositId::generate(), 1);
        let paid = |minor, currency: &str, seconds| Paid {
            reference: reference.clone(),
            amount: Amount::try_new(minor).unwrap(),
            currency: Currency::parse(currency).unwrap(),
            paid_at: Timestamp::from_seconds(seconds),
            provider_id: Some("4099260516".to_owned()),
        };
        let outcome = match judged {
            Judged::Paid(seconds) => Verdict::Paid(paid(5_000, "NGN", seconds)),
            Judged::Disagrees(reason, there) => Verdict::Disagrees {
                reason,
                paid: there.map(|(minor, currency)| paid(minor, currency, 900)),
            },
            Judged::Failed => Verdict::Failed,
            Judged::Open => Verdict::Open,
        };
        let expected = Expected {
            reference: &reference,
            amount: Amount::try_new(5_000).unwrap(),
            currency: Currency::NGN,
            domain: Domain::Test,
            fees_paid_by,
        };
        let mut found = said(&reference);
        change(&mut found);
        assert_eq!(judge(&expected, &found, now()), outcome, "{found:?}");
    }

    #[test]
    fn paid_is_said_only_when_everything_agrees() {
        use FeesPaidBy::{Customer, Merchant};
        use Reason::{AmountDiffers, CurrencyDiffers, DomainDiffers, ReferenceDiffers, Reversed};
        let paid = || Judged::Paid(900);
        let off = |reason| Judged::Disagrees(reason, None);
        let there = |reason, minor| Judged::Disagrees(reason, Some((minor, "NGN")));
        check(Merchant, |_| {}, paid());
        check(Merchant, |it| it.requested_amount_minor = None, paid());
        check(Merchant, |it| it.domain = None, paid());
        check(Merchant, |it| it.amount_minor = Some(4_999), there(AmountDiffers, 4_999));
        check(Merchant, |it| it.amount_minor = Some(5_001), there(AmountDiffers, 5_001));
        check(Merchant, |it| it.amount_minor = None, off(AmountDiffers));
        check(Merchant, |it| it.requested_amount_minor = Some(4_999), there(AmountDiffers, 5_000));
        let dollars = Judged::Disagrees(CurrencyDiffers, Some((5_000, "USD")));
        check(Merchant, |it| it.currency = Some("USD".to_owned()), dollars);
        check(Merchant, |it| it.currency = Some("ngn".to_owned()), off(CurrencyDiffers));
        check(Merchant, |it| it.currency = None, off(CurrencyDiffers));
        check(Merchant, |it| it.domain = Some("live".to_owned()), off(DomainDiffers));
        check(Merchant, |it| it.reference = None, off(ReferenceDiffers));
        check(Merchant, |it| it.reference = Some("dep-other".to_owned()), off(ReferenceDiffers));
        check(Merchant, |it| it.status = Some("reversed".to_owned()), off(Reversed));
        check(Customer, |_| {}, paid());
        check(Customer, |it| it.amount_minor = Some(5_103), paid());
        check(Customer, |it| it.amount_minor = Some(4_999), there(AmountDiffers, 4_999));
        check(Customer, |it| it.requested_amount_minor = None, off(AmountDiffers));
        check(Customer, |it| it.requested_amount_minor = Some(5_103), there(AmountDiffers, 5_000));
    }

    #[test]
    fn what_is_not_success_is_not_paid_and_an_unknown_status_is_not_a_failure() {
        let merchant = FeesPaidBy::Merchant;
        check(merchant, |it| it.status = Some("failed".to_owned()), Judged::Failed);
        for open in ["abandoned", "ongoing", "pending", "processing", "queued", "SUCCESS", "", "?"]
        {
            check(merchant, |it| it.status = Some(open.to_owned()), Judged::Open);
        }
        check(merchant, |it| it.status = None, Judged::Open);
        check(merchant, |it| it.paid_at = None, Judged::Paid(1_000));
    }
}
