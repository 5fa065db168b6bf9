//! What an operator sees of refunds and disputes, and decides about them.

use std::fmt::Write as _;

use anyhow::Context as _;
use primitives::{Amount, ReturnId, Timestamp};

use super::{LIST_MAX, Operator, Refused, signature};
use crate::desk::unclaimed_minor;
use crate::lifecycle::{Deposit, State as DepositState, Suspense};
use crate::returns::{Cover, Event, Kind, Payment, Return, State};
use crate::store::decisions::{self, About, What};
use crate::store::deposits::{self, Claim};
use crate::store::returns;

impl Operator {
    /// Has what was paid for a deposit given back: so much of it, in minor units, or all that is left.
    /// `again` allows another refund of an amount that is on its way. `signed` is who and why.
    ///
    /// # Errors
    /// When Postgres fails. Why it cannot be is the inner error.
    pub async fn refund(
        &self,
        reference: &str,
        amount_minor: Option<u64>,
        again: bool,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        let Some(signed) = signature(signed) else { return Ok(Err(Refused::NotSigned)) };
        let Some(deposit_id) = self.find(reference).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let now = Timestamp::now();
        let mut tx = self.0.pool.begin().await.context("failed to begin")?;
        let Some(deposit) = deposits::lock(&mut tx, deposit_id).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let all = returns::of_deposit(&mut *tx, deposit_id).await?;
        let (payment, amount) = match refundable(&deposit, &all, amount_minor, again) {
            Ok(what) => what,
            Err(refused) => return Ok(Err(refused)),
        };
        let it = Return::refund(ReturnId::generate(), payment, amount, now);
        self.0.begin_return(&mut tx, &it, now).await?;
        decisions::insert(&mut tx, About::Return(it.return_id), What::Refund, signed, now).await?;
        tx.commit().await.context("failed to commit")?;
        Ok(Ok(format!("{}\n", described_return(&it))))
    }

    /// A person says how much of a return went back: all of it, or so much in minor units.
    pub(super) async fn went_back(
        &self,
        return_id: ReturnId,
        amount_minor: Option<u64>,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        let amount = amount_minor.map(Amount::try_new).transpose();
        let Ok(amount) = amount else { return Ok(Err(Refused::AmountNeeded(u64::MAX))) };
        self.decide_return(return_id, Event::Accepted { amount }, signed).await
    }

    /// A person says that nothing of a return went back.
    pub(super) async fn did_not_go_back(
        &self,
        return_id: ReturnId,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        self.decide_return(return_id, Event::Rejected, signed).await
    }

    /// Takes a decision, with what follows from it, in one transaction.
    async fn decide_return(
        &self,
        return_id: ReturnId,
        event: Event,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        let desk = &self.0;
        let Some(signed) = signature(signed) else { return Ok(Err(Refused::NotSigned)) };
        let Some(deposit_id) = returns::deposit_of(&desk.pool, return_id).await? else {
            return Ok(Err(Refused::UnknownReturn));
        };
        let now = Timestamp::now();
        let mut tx = desk.pool.begin().await.context("failed to begin")?;
        let Some(deposit) = deposits::lock(&mut tx, deposit_id).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let all = returns::of_deposit(&mut *tx, deposit_id).await?;
        let Some(before) = all.iter().find(|it| it.return_id == return_id) else {
            return Ok(Err(Refused::UnknownReturn));
        };
        if !matches!(before.state, State::Review(_)) {
            return Ok(Err(Refused::ReturnNotInReview(before.state.name())));
        }
        let what = if event == Event::Rejected { What::Reject } else { What::Accept };
        decisions::insert(&mut tx, About::Return(return_id), what, signed, now).await?;
        let event = (return_id, event);
        let step = desk.take_return(&mut tx, (&deposit, &all), event, Claim::Keep, now).await?;
        let Some(after) = step.map(|it| it.after).filter(|it| it.state != before.state) else {
            let unclaimed = unclaimed_minor(&deposit, &all, Some(return_id));
            let claimed = before.amount.map_or(u64::MAX, Amount::minor);
            return Ok(Err(Refused::AmountNeeded(unclaimed.min(claimed))));
        };
        tx.commit().await.context("failed to commit")?;
        Ok(Ok(format!("{}\n", described_return(&after))))
    }

    /// A person has seen to a return that took money which was not held.
    pub(super) async fn dismiss_loss(
        &self,
        return_id: ReturnId,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        let Some(deposit_id) = returns::deposit_of(&self.0.pool, return_id).await? else {
            return Ok(Err(Refused::UnknownReturn));
        };
        let all = returns::of_deposit(&self.0.pool, deposit_id).await?;
        if !all.iter().any(|it| it.return_id == return_id && it.is_uncovered_loss()) {
            return Ok(Err(Refused::NotParked));
        }
        let mut conn = self.0.pool.acquire().await.context("failed to connect")?;
        let (about, now) = (About::Return(return_id), Timestamp::now());
        decisions::insert(&mut conn, about, What::Dismiss, signed, now).await?;
        Ok(Ok(format!("{return_id} is dismissed\n")))
    }

    /// Returns that a person should see, a line each, the nearest deadline first.
    pub(super) async fn list_returns(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for it in returns::waiting(&self.0.pool, LIST_MAX).await? {
            let id = ReturnId::from_uuid(it.return_id);
            let amount = it.amount_minor.map_or_else(|| "?".to_owned(), |it| it.to_string());
            let by = it.answer_by.map(|at| format!("  by {}", Timestamp::from_datetime(at)));
            let (kind, reference, why) = (it.kind, it.reference, it.why);
            let (state, currency, by) = (it.state, it.currency, by.unwrap_or_default());
            writeln!(text, "{kind} {id}  {why}  {amount} {currency} of {reference}, {state}{by}")?;
        }
        Ok(text)
    }
}

/// What is to be given back, or why nothing can be.
fn refundable(
    deposit: &Deposit,
    all: &[Return],
    amount_minor: Option<u64>,
    again: bool,
) -> Result<(Payment, Amount), Refused> {
    let is_kept =
        matches!(deposit.state, DepositState::Rejected(_)) && deposit.suspense == Suspense::Held;
    let paid = deposit.paid.as_ref().filter(|_| is_kept || deposit.state == DepositState::Credited);
    let paid = paid.ok_or_else(|| Refused::NotRefundable(deposit.state.name()))?;
    if paid.provider_id.is_none() {
        return Err(Refused::PaymentUnknown);
    }
    let left = unclaimed_minor(deposit, all, None);
    let minor = amount_minor.unwrap_or(left);
    // What no wallet has goes back whole.
    if minor > left || (is_kept && minor < left) {
        return Err(Refused::TooMuch(left));
    }
    let amount = Amount::try_new(minor).map_err(|_| Refused::TooMuch(left))?;
    let is_the_same =
        |it: &&Return| it.kind == Kind::Refund && it.amount == Some(amount) && !it.state.is_end();
    match all.iter().find(is_the_same) {
        Some(it) if !again => Err(Refused::AlreadyRefunding(it.return_id)),
        Some(_) | None => Ok((Payment::of(deposit, &paid.reference), amount)),
    }
}

/// One line about a return.
pub(super) fn described_return(it: &Return) -> String {
    let amount = it.taken.or(it.amount).map(|it| it.minor().to_string());
    let why = Some(it.why()).filter(|it| !it.is_empty()).map(|it| format!(" ({it})"));
    let theirs = it.provider_id.as_ref().map(|id| format!(", {id} at Paystack"));
    let held = Some(it.hold_transfer_id()).filter(|_| it.cover == Cover::Held);
    let held = held.map(|id| format!(", held by {id}"));
    let taken = Some(it.take_transfer_id()).filter(|_| it.state == State::Returned);
    let taken = taken.map(|id| format!(", taken by {id}"));
    let by = it.answer_by.filter(|_| it.state == State::Open);
    let by = by.map(|at| format!(", to be answered there by {at}"));
    format!(
        "{} {} of {} {} is {}{}{}{}{}{}",
        it.kind.name(),
        it.return_id,
        amount.unwrap_or_else(|| "an unknown amount of".to_owned()),
        it.payment.currency,
        it.state.name(),
        why.unwrap_or_default(),
        theirs.unwrap_or_default(),
        held.unwrap_or_default(),
        taken.unwrap_or_default(),
        by.unwrap_or_default(),
    )
}
