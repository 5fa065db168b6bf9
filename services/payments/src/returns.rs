//! Money on its way back to whoever paid it: a refund that we ask for or that somebody made at
//! Paystack itself, or a dispute that the payer's bank opened. One pure function again, from what is known and what happened to what is known then
//! and what must be done.
//!
//! A deposit that was credited stays credited; what follows is a return with a life of its own.
//! The diagram in `services/README.md` shows it; a test draws it.
//!
//! What the rest of the service may rely on:
//! - R1: Paystack is asked for a refund only while the ledger holds the money.
//! - R2: what is held is taken only if Paystack or a person says that it went back, and released
//!   only if Paystack or a person says that it did not, or if Paystack was surely never asked.
//! - R3: Paystack, which knows no idempotency here, is asked again only after it was looked up, long
//!   enough after the last asking, and was not found.
//! - R4: only a person leads a return out of `review`.
//! - R5: what has ended has ended; its money moved once.

mod event;
mod model;
mod since;
mod word;

use std::time::Duration;

use primitives::{Amount, Timestamp};

use crate::lifecycle::{Pace, When};

pub use event::{Effect, Event};
pub use model::{
    Cover, Kind, Payment, Reason, Return, Source, State, Work, committed_minor, returned_minor,
};
pub use since::Since;
pub use word::{
    Claim, DisputeSaid, RefundSaid, Word, has_others, is_known, judge_dispute, judge_found_refund,
    judge_refund,
};

/// How often Paystack is asked for one refund at most.
pub const ASKED_MAX: u16 = 3;
/// How often the ledger is asked to hold the money of one return at most.
pub const HOLDS_MAX: u16 = 1_000;

/// What is known after an event, and what must be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The return as it is to be stored.
    pub after: Return,
    /// In this order.
    pub effects: Vec<Effect>,
}

/// What else a step depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around {
    /// The clock.
    pub now: Timestamp,
    /// How long after an asking Paystack is believed that it has no such refund.
    pub settle: Duration,
    /// What of the payment no other return has claimed, in minor units.
    pub at_most_minor: u64,
}

/// Decides what an event means for a return.
///
/// Any event may come at any time, and as often as it likes: what does not fit changes nothing.
///
/// # Panics
/// If the outcome breaks R1, R2, R4 or R5: a bug here, never a fact of life.
#[must_use]
pub fn step(before: &Return, event: Event, around: Around) -> Step {
    let now = around.now;
    let mut step = Step { after: before.clone(), effects: Vec::new() };
    let is_a_persons = matches!(event, Event::Accepted { .. } | Event::Rejected);
    match event {
        // An answer to an earlier hold or try says nothing of the one that is under way.
        Event::HoldPosted { n } => step.if_hold(n, Step::hold_posted),
        Event::HoldRefused { n, why } => step.if_hold(n, |it| it.hold_refused(why)),
        Event::HoldUnknown => step.if_wanted(Step::look_again_soon),
        Event::Asking => step.asking(now),
        Event::AskRefused { why } => step.ask_refused(why),
        Event::AskHeldBack => step.ask_held_back(),
        Event::AskUnknown => step.if_in(&[State::Asked], Step::look_again_soon),
        Event::Absent => step.absent(now, around.settle),
        Event::Claimed { claim } => step.claimed(claim, around.at_most_minor),
        Event::Told { provider_id, word } => step.told(provider_id, word),
        Event::NotTold => {
            step.if_in(&[State::Noticed, State::Asked, State::Open], Step::look_again_soon);
        }
        Event::Hinted => step.hinted(),
        Event::Moved { n } => step.if_try(n, |it| it.moved(now)),
        Event::MoveRefused { n, why } => step.if_try(n, |it| it.move_refused(why)),
        Event::MoveUnknown => {
            step.if_in(&[State::Taking, State::Releasing], Step::look_again_soon);
        }
        Event::Accepted { amount } => step.accepted(amount, around.at_most_minor),
        Event::Rejected => step.rejected(),
    }
    step.assert_lawful(before, is_a_persons);
    step
}

impl Step {
    fn hold_posted(&mut self) {
        self.after.cover = Cover::Held;
        self.after.trouble = None;
        match self.after.state {
            State::Wanted => self.enter(State::Held, When::Now),
            State::Open => self.look(When::After(Pace::Returning)),
            State::Taking | State::Releasing => self.look(When::Now),
            State::Review(_) => self.look(When::Never),
            State::Noticed
            | State::Held
            | State::Asked
            | State::Returned
            | State::Kept
            | State::Refused => {}
        }
    }

    fn hold_refused(&mut self, why: String) {
        self.after.cover = Cover::Refused;
        match self.after.state {
            // Nothing was asked of Paystack, and nothing is.
            State::Wanted => self.enter(State::Refused, When::Never),
            State::Open => {
                self.look(When::After(Pace::Returning));
                self.announce_trouble(&why);
            }
            State::Taking => self.look(When::Now),
            State::Releasing => self.enter(State::Kept, When::Never),
            State::Review(_) => self.look(When::Never),
            State::Noticed
            | State::Held
            | State::Asked
            | State::Returned
            | State::Kept
            | State::Refused => {}
        }
        self.after.trouble = Some(why);
    }

    fn asking(&mut self, now: Timestamp) {
        if self.after.state == State::Held {
            self.after.n_asked = self.after.n_asked.saturating_add(1);
            self.after.asked_at = Some(now);
            // Due at once: who asks may die, and somebody must look then.
            self.enter(State::Asked, When::Now);
            self.effects.push(Effect::Ask);
        }
    }

    fn ask_refused(&mut self, why: String) {
        if self.after.state != State::Asked {
            return;
        }
        if self.after.n_asked > 1 {
            // Perhaps because an earlier asking, whose answer was lost, did make the refund.
            self.look_again_soon();
        } else {
            self.after.trouble = Some(why);
            self.enter(State::Releasing, When::Now);
        }
    }

    /// It has not left the house.
    fn ask_held_back(&mut self) {
        if self.after.state == State::Asked {
            self.after.n_asked = self.after.n_asked.saturating_sub(1);
            self.after.state = State::Held;
            self.look_again_soon();
        }
    }

    fn absent(&mut self, now: Timestamp, settle: Duration) {
        if self.after.state != State::Asked {
            return;
        }
        // R3: the last asking may still be on its way to them.
        if self.after.asked_at.is_some_and(|at| now < at.plus(settle)) {
            self.look_again_soon();
        } else if self.after.n_asked < ASKED_MAX {
            self.enter(State::Held, When::Now);
        } else {
            self.park(Reason::NoAnswer);
        }
    }

    /// What something is about that others began; `at_most_minor` is what of the payment no other
    /// return has claimed.
    fn claimed(&mut self, claim: Claim, at_most_minor: u64) {
        if self.after.kind == Kind::Refund {
            return;
        }
        if self.after.state == State::Noticed {
            self.after.amount = Some(claim.amount);
            if claim.amount.minor() > at_most_minor {
                self.after.cover = Cover::Refused;
                return self.park(Reason::ExceedsPaid);
            }
            // If it was over before we heard of it, and nothing went back, nothing is held.
            if claim.word != Word::NotBack {
                self.after.cover = Cover::Wanted;
                self.after.n_holds = 1;
            }
            self.enter(State::Open, When::Now);
        }
        self.heard(claim.word);
    }

    fn told(&mut self, provider_id: String, word: Word) {
        match (&self.after.state, &word) {
            (State::Asked, _) => {
                self.after.provider_id = Some(provider_id);
                self.enter(State::Open, When::Now);
                self.heard(word);
            }
            (State::Open, _) | (State::Noticed, Word::Disagrees(_)) => self.heard(word),
            (
                State::Noticed
                | State::Wanted
                | State::Held
                | State::Taking
                | State::Releasing
                | State::Review(_)
                | State::Returned
                | State::Kept
                | State::Refused,
                _,
            ) => {}
        }
    }

    /// What Paystack says of a return that is open, or cannot be.
    fn heard(&mut self, word: Word) {
        if !matches!(self.after.state, State::Open | State::Noticed) {
            return;
        }
        match word {
            Word::Open { answer_by } => self.still_open(answer_by),
            Word::NeedsAttention => {
                self.look_again(Pace::Returning);
                self.announce_trouble("needs_attention");
                self.after.trouble = Some("needs_attention".to_owned());
            }
            Word::Back { amount } => self.gone_back(amount),
            Word::NotBack => self.leave_it(),
            Word::Disagrees(reason) => self.park(reason),
        }
    }

    fn still_open(&mut self, answer_by: Option<Timestamp>) {
        self.after.answer_by = answer_by;
        match self.after.cover {
            Cover::Wanted => self.look(When::Now),
            Cover::Refused if self.after.n_holds < HOLDS_MAX => {
                self.hold_again();
                self.after.n_looks = self.after.n_looks.saturating_add(1);
                self.look(When::Now);
            }
            Cover::Nothing | Cover::Held | Cover::Refused => {
                self.after.trouble = None;
                self.look_again(Pace::Returning);
            }
        }
    }

    fn gone_back(&mut self, amount: Amount) {
        let is_right = match self.after.kind {
            Kind::Refund | Kind::FoundRefund => self.after.amount == Some(amount),
            // The merchant may have agreed to a part.
            Kind::Dispute => self.after.amount.is_some_and(|all| amount <= all),
        };
        if is_right {
            self.take(amount);
        } else {
            self.park(Reason::AmountDiffers);
        }
    }

    /// So much went back: it is taken from what is held, and if nothing is, the wallet is asked for it
    /// before the suspense account pays.
    fn take(&mut self, amount: Amount) {
        self.after.taken = Some(amount);
        let is_uncovered = matches!(self.after.cover, Cover::Nothing | Cover::Refused);
        if is_uncovered && self.after.n_holds < HOLDS_MAX {
            self.hold_again();
        }
        self.enter(State::Taking, When::Now);
    }

    /// Perhaps there is money in the wallet by now.
    fn hold_again(&mut self) {
        self.after.n_holds = self.after.n_holds.saturating_add(1);
        self.after.cover = Cover::Wanted;
    }

    /// It did not go back: what is held is the wallet's again.
    fn leave_it(&mut self) {
        match self.after.cover {
            Cover::Wanted | Cover::Held => self.enter(State::Releasing, When::Now),
            Cover::Nothing | Cover::Refused => self.enter(State::Kept, When::Never),
        }
    }

    fn hinted(&mut self) {
        if self.after.is_waiting_for_paystack() {
            self.look(When::Now);
        }
    }

    fn moved(&mut self, now: Timestamp) {
        let end = match self.after.state {
            State::Taking => State::Returned,
            State::Releasing => State::Kept,
            State::Noticed
            | State::Wanted
            | State::Held
            | State::Asked
            | State::Open
            | State::Review(_)
            | State::Returned
            | State::Kept
            | State::Refused => return,
        };
        if self.after.cover == Cover::Wanted {
            return;
        }
        self.after.ended_at = Some(now);
        self.enter(end, When::Never);
    }

    fn move_refused(&mut self, why: String) {
        if matches!(self.after.state, State::Taking | State::Releasing) {
            // A no is for ever under its id.
            self.after.n_refused = self.after.n_refused.saturating_add(1);
            self.look_again(Pace::Returning);
            self.announce_trouble(&why);
            self.after.trouble = Some(why);
        }
    }

    fn accepted(&mut self, amount: Option<Amount>, at_most_minor: u64) {
        if !matches!(self.after.state, State::Review(_)) {
            return;
        }
        let all = self.after.amount;
        let Some(taken) = amount.or(all) else { return };
        // Not more than was booked of the payment, which is nothing if verify never proved it.
        if all.is_some_and(|all| taken > all) || taken.minor() > at_most_minor {
            return;
        }
        self.after.amount = Some(all.unwrap_or(taken));
        self.take(taken);
    }

    fn rejected(&mut self) {
        if matches!(self.after.state, State::Review(_)) {
            self.leave_it();
        }
    }

    fn if_in(&mut self, states: &[State], then: impl FnOnce(&mut Self)) {
        if states.contains(&self.after.state) {
            then(self);
        }
    }

    fn if_hold(&mut self, n: u16, then: impl FnOnce(&mut Self)) {
        if self.after.cover == Cover::Wanted && self.after.n_holds == n {
            then(self);
        }
    }

    fn if_try(&mut self, n: u16, then: impl FnOnce(&mut Self)) {
        if self.after.n_refused == n {
            then(self);
        }
    }

    fn if_wanted(&mut self, then: impl FnOnce(&mut Self)) {
        if self.after.cover == Cover::Wanted {
            then(self);
        }
    }

    fn look(&mut self, when: When) {
        self.effects.push(Effect::Look(when));
    }

    fn look_again_soon(&mut self) {
        self.look_again(Pace::Unanswered);
    }

    fn look_again(&mut self, pace: Pace) {
        self.after.n_looks = self.after.n_looks.saturating_add(1);
        self.look(When::After(pace));
    }

    fn enter(&mut self, state: State, when: When) {
        self.after.state = state;
        self.after.n_looks = 0;
        self.look(when);
    }

    fn park(&mut self, reason: Reason) {
        let is_hold_unknown = self.after.cover == Cover::Wanted;
        let when = if is_hold_unknown { When::Now } else { When::Never };
        self.enter(State::Review(reason), when);
        self.effects.push(Effect::AnnounceParked);
    }

    /// Once for each trouble.
    fn announce_trouble(&mut self, why: &str) {
        if self.after.trouble.as_deref() != Some(why) {
            self.effects.push(Effect::AnnounceParked);
        }
    }

    fn assert_lawful(&self, before: &Return, is_a_persons: bool) {
        let after = &self.after;
        assert!(
            !self.effects.contains(&Effect::Ask) || after.cover == Cover::Held,
            "R1: Paystack is asked only while the money is held"
        );
        assert!(
            after.state != State::Taking || after.taken.is_some(),
            "R2: what is taken went back"
        );
        assert!(
            !matches!(before.state, State::Review(_))
                || matches!(after.state, State::Review(_))
                || is_a_persons,
            "R4: a return in review waits for a person"
        );
        assert!(!before.state.is_end() || after.state == before.state, "R5: an end is an end");
    }
}
