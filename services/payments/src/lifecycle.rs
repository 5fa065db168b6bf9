//! The whole life of a deposit, as one pure function from what is known and what happened to what
//! is known then and what must be done.
//!
//! The diagram in `services/README.md` shows every way from one state to another; a test draws it.
//!
//! What the rest of the service may rely on:
//! - P1: only a verify answer that agrees with our record makes a deposit `paid`; a webhook only
//!   makes somebody look.
//! - P2: only the ledger's answer makes a `paid` deposit `credited`, and it never leaves that state.
//! - P3: only a person leads a deposit out of `review`.
//! - P4: `failed`, `abandoned` and `expired` are opinions, not ends: a late payment still credits.
//! - P5: a reference is given to Paystack at most once; who does not know what became of it looks,
//!   and goes on with a new one.
//! - P6: what Paystack took and no wallet has is on the suspense account, or on its way there.
//!
//! There is no clock, no randomness and no I/O here. Pauses are named, not measured: the shell
//! knows how long each is ([`crate::schedule`]).

mod deposit;
mod event;
mod ids;

use primitives::Timestamp;

use crate::reference::Reference;

pub use deposit::{
    Answer, Attempt, Checkout, Credit, Deposit, Intent, Paid, Phase, Reason, Shown, Source, State,
    Suspense, Work,
};
pub use event::{Effect, Event, Pace, Verdict, When};
pub(crate) use ids::transfer_id;

/// How many attempts one asking may use up when Paystack's answers get lost.
pub const ATTEMPTS_PER_ASKING_MAX: u16 = 3;
/// How many attempts one deposit may use up in its whole life.
pub const ATTEMPTS_MAX: u16 = 100;

/// What is known after an event, and what must be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The deposit as it is to be stored.
    pub deposit: Deposit,
    /// In this order.
    pub effects: Vec<Effect>,
}

/// Decides what an event means for a deposit.
///
/// Any event may come at any time, and as often as it likes: what does not fit changes nothing.
///
/// # Panics
/// If the outcome breaks P1, P2, P3 or P6: a bug here, never a fact of life.
#[must_use]
pub fn step(deposit: &Deposit, event: Event, now: Timestamp) -> Step {
    let mut step = Step { deposit: deposit.clone(), effects: Vec::new() };
    let is_a_persons = matches!(event, Event::Accepted { .. } | Event::Rejected);
    match event {
        Event::AskedAgain { wait_until } => step.asked_again(wait_until),
        Event::Asking => step.asking(now),
        Event::CheckoutMade { reference, checkout } => step.checkout_made(&reference, checkout),
        Event::InitializeRefused { reference } => step.initialize_refused(&reference),
        Event::InitializeUnknown { reference } => step.initialize_unknown(&reference),
        Event::Claimed { reference, until } => step.claimed(reference, until),
        Event::Verified { verdict } => step.verified(verdict, now),
        Event::VerifyFailed => step.verify_failed(),
        Event::Crediting => step.crediting(),
        Event::CreditPosted => step.credit_posted(now),
        Event::CreditRefused { why } => step.credit_refused(why),
        Event::CreditUnknown => step.credit_unknown(),
        Event::Suspended => step.suspended(),
        Event::SuspendUnknown => step.suspend_unknown(),
        Event::Accepted { until } => step.accepted(until),
        Event::Rejected => step.rejected(),
        Event::GivenBack => step.given_back(),
    }
    step.assert_lawful(deposit, is_a_persons);
    step
}

impl Step {
    fn asked_again(&mut self, wait_until: Option<Timestamp>) {
        let deposit = &mut self.deposit;
        match deposit.state {
            State::Initiated => {
                deposit.wait_until = later(deposit.wait_until, wait_until);
            }
            State::Failed if deposit.checkout.is_none() => {
                if deposit.attempt.number >= ATTEMPTS_MAX {
                    return;
                }
                deposit.wait_until = wait_until;
                deposit.attempts_left = ATTEMPTS_PER_ASKING_MAX;
                self.begin_attempt();
            }
            State::Failed
            | State::Pending
            | State::Confirming { .. }
            | State::Paid
            | State::Crediting
            | State::Credited
            | State::Abandoned
            | State::Expired
            | State::Review(_)
            | State::Rejected(_) => {}
        }
    }

    fn asking(&mut self, now: Timestamp) {
        let deposit = &mut self.deposit;
        if deposit.state != State::Initiated || deposit.attempt.phase != Phase::Stored {
            return;
        }
        if deposit.is_awaited(now) {
            deposit.attempt.phase = Phase::Asked;
            self.effects.push(Effect::Initialize);
        } else {
            // Nothing payable exists, and nobody would hear of it if it did.
            deposit.attempt.phase = Phase::Refused;
            self.enter(State::Failed, When::Never);
            self.effects.push(Effect::Answer);
        }
    }

    fn checkout_made(&mut self, reference: &Reference, checkout: Checkout) {
        let deposit = &mut self.deposit;
        if deposit.attempt.reference != *reference || deposit.checkout.is_some() {
            return;
        }
        deposit.attempt.phase = Phase::Made;
        deposit.checkout = Some(checkout);
        match deposit.state {
            State::Initiated | State::Failed => {
                self.enter(State::Pending, When::After(Pace::Pending));
            }
            // A webhook overtook this answer.
            State::Pending
            | State::Confirming { .. }
            | State::Paid
            | State::Crediting
            | State::Credited
            | State::Abandoned
            | State::Expired
            | State::Review(_)
            | State::Rejected(_) => {}
        }
        self.effects.push(Effect::Answer);
    }

    fn initialize_refused(&mut self, reference: &Reference) {
        if !self.is_being_asked(reference) {
            return;
        }
        self.deposit.attempt.phase = Phase::Refused;
        if self.deposit.state == State::Initiated {
            self.enter(State::Failed, When::Never);
        }
        self.effects.push(Effect::Answer);
    }

    fn initialize_unknown(&mut self, reference: &Reference) {
        if !self.is_being_asked(reference) {
            return;
        }
        self.deposit.attempt.phase = Phase::Unknown;
        if self.deposit.state == State::Initiated {
            self.effects.push(Effect::Look(When::Now));
        } else {
            self.effects.push(Effect::Answer);
        }
    }

    fn claimed(&mut self, reference: Reference, until: Timestamp) {
        match self.deposit.state {
            State::Initiated
            | State::Pending
            | State::Failed
            | State::Abandoned
            | State::Expired => {
                self.enter(State::Confirming { reference, until }, When::Now);
            }
            State::Confirming { .. } => self.effects.push(Effect::Look(When::Now)),
            State::Paid
            | State::Crediting
            | State::Credited
            | State::Review(_)
            | State::Rejected(_) => {}
        }
    }

    fn verified(&mut self, verdict: Verdict, now: Timestamp) {
        match self.deposit.state {
            State::Initiated
            | State::Pending
            | State::Confirming { .. }
            | State::Failed
            | State::Abandoned
            | State::Expired => {}
            State::Paid
            | State::Crediting
            | State::Credited
            | State::Review(_)
            | State::Rejected(_) => return,
        }
        match verdict {
            // P1: the only way into `paid`.
            Verdict::Paid(paid) => {
                self.deposit.paid = Some(paid);
                self.enter(State::Paid, When::Now);
            }
            Verdict::Disagrees { reason, paid } => {
                if paid.is_some() {
                    self.deposit.paid = paid;
                    self.deposit.suspense = Suspense::Owed;
                }
                self.park(reason);
            }
            Verdict::Failed => self.unpaid(true, now),
            Verdict::Open | Verdict::NotFound => self.unpaid(false, now),
        }
    }

    /// Verify answered, and it is not paid.
    fn unpaid(&mut self, has_failed: bool, now: Timestamp) {
        self.deposit.n_looks = self.deposit.n_looks.saturating_add(1);
        let late = if now < self.deposit.forget_at { When::After(Pace::Late) } else { When::Never };
        match self.deposit.state {
            State::Initiated => self.attempt_lost(now),
            State::Pending if has_failed => self.enter(State::Failed, late),
            State::Abandoned | State::Expired if has_failed => self.enter(State::Failed, late),
            State::Pending | State::Abandoned if late == When::Never => {
                self.enter(State::Expired, late);
            }
            State::Pending if now >= self.deposit.abandon_at => self.enter(State::Abandoned, late),
            State::Pending => self.effects.push(Effect::Look(When::After(Pace::Pending))),
            State::Abandoned | State::Failed | State::Expired => {
                self.effects.push(Effect::Look(late));
            }
            State::Confirming { until, .. } if now >= until => self.park(Reason::NotConfirmed),
            State::Confirming { .. } => {
                self.effects.push(Effect::Look(When::After(Pace::Confirm)));
            }
            State::Paid
            | State::Crediting
            | State::Credited
            | State::Review(_)
            | State::Rejected(_) => {}
        }
    }

    /// What became of the attempt is not known, and it is not paid: its reference may be used up.
    fn attempt_lost(&mut self, now: Timestamp) {
        let deposit = &mut self.deposit;
        if deposit.attempt.phase == Phase::Stored {
            self.effects.push(Effect::Look(When::Now));
        } else if deposit.is_awaited(now)
            && deposit.attempts_left > 0
            && deposit.attempt.number < ATTEMPTS_MAX
        {
            // P5: a new reference, never the same one again.
            self.begin_attempt();
        } else {
            self.enter(State::Failed, When::After(Pace::Late));
            self.effects.push(Effect::Answer);
        }
    }

    fn verify_failed(&mut self) {
        self.deposit.n_looks = self.deposit.n_looks.saturating_add(1);
        let again = match self.deposit.state {
            State::Initiated if self.deposit.attempt.phase == Phase::Stored => When::Now,
            State::Initiated => {
                self.enter(State::Failed, When::After(Pace::Late));
                self.effects.push(Effect::Answer);
                return;
            }
            // Not as long as after an answer: Paystack is away, not undecided.
            State::Pending | State::Confirming { .. } => When::After(Pace::Unanswered),
            State::Failed | State::Abandoned => When::After(Pace::Late),
            State::Paid
            | State::Crediting
            | State::Credited
            | State::Expired
            | State::Review(_)
            | State::Rejected(_) => return,
        };
        self.effects.push(Effect::Look(again));
    }

    fn crediting(&mut self) {
        if self.deposit.state == State::Paid {
            // Due at once until the answer is heard: who asks may die.
            self.enter(State::Crediting, When::Now);
        }
    }

    fn credit_posted(&mut self, now: Timestamp) {
        if self.deposit.state == State::Crediting {
            if self.deposit.suspense == Suspense::Held {
                self.deposit.suspense = Suspense::Left;
            }
            self.deposit.credited_at = Some(now);
            self.enter(State::Credited, When::Never);
            self.effects.push(Effect::AnnounceCredited);
        }
    }

    fn credit_refused(&mut self, why: String) {
        if self.deposit.state == State::Crediting {
            // P6: it is Paystack's debt to us now, and nobody's money yet.
            if self.deposit.suspense == Suspense::Nothing {
                self.deposit.suspense = Suspense::Owed;
            }
            self.park(Reason::LedgerRefused(why));
        }
    }

    fn credit_unknown(&mut self) {
        if self.deposit.state == State::Crediting {
            self.look_again_soon();
        }
    }

    fn suspended(&mut self) {
        if self.deposit.suspense == Suspense::Owed {
            self.deposit.suspense = Suspense::Held;
            self.deposit.n_looks = 0;
            self.effects.push(Effect::Look(When::Never));
        }
    }

    fn suspend_unknown(&mut self) {
        if self.deposit.suspense == Suspense::Owed {
            self.look_again_soon();
        }
    }

    fn accepted(&mut self, until: Timestamp) {
        let deposit = &mut self.deposit;
        if !matches!(deposit.state, State::Review(_)) {
            return;
        }
        match deposit.suspense {
            // Nothing is known to be there: a person may have Paystack asked once more.
            Suspense::Nothing => {
                let reference = deposit.attempt.reference.clone();
                self.enter(State::Confirming { reference, until }, When::Now);
            }
            Suspense::Held
                if deposit.is_paid_in_its_currency() && deposit.n_accepted < ATTEMPTS_MAX =>
            {
                deposit.n_accepted = deposit.n_accepted.saturating_add(1);
                self.enter(State::Paid, When::Now);
            }
            // On its way to the suspense account, or nothing that this wallet could hold.
            Suspense::Owed | Suspense::Held | Suspense::Left => {}
        }
    }

    fn rejected(&mut self) {
        if let State::Review(reason) = &self.deposit.state
            && self.deposit.suspense != Suspense::Owed
        {
            let reason = reason.clone();
            self.enter(State::Rejected(reason), When::Never);
        }
    }

    fn given_back(&mut self) {
        if matches!(self.deposit.state, State::Review(_) | State::Rejected(_))
            && self.deposit.suspense == Suspense::Held
        {
            self.deposit.suspense = Suspense::Left;
        }
    }

    fn look_again_soon(&mut self) {
        self.deposit.n_looks = self.deposit.n_looks.saturating_add(1);
        self.effects.push(Effect::Look(When::After(Pace::Unanswered)));
    }

    fn enter(&mut self, state: State, when: When) {
        self.deposit.state = state;
        self.deposit.n_looks = 0;
        self.effects.push(Effect::Look(when));
    }

    fn park(&mut self, reason: Reason) {
        let when = if self.deposit.suspense == Suspense::Owed { When::Now } else { When::Never };
        self.enter(State::Review(reason), when);
        self.effects.push(Effect::Answer);
        self.effects.push(Effect::AnnounceParked);
    }

    fn begin_attempt(&mut self) {
        let deposit = &mut self.deposit;
        let number = deposit.attempt.number.saturating_add(1);
        deposit.attempt = Attempt::numbered(deposit.deposit_id, number);
        deposit.attempts_left = deposit.attempts_left.saturating_sub(1);
        self.enter(State::Initiated, When::Now);
    }

    fn is_being_asked(&self, reference: &Reference) -> bool {
        self.deposit.attempt.reference == *reference && self.deposit.attempt.phase == Phase::Asked
    }

    fn assert_lawful(&self, before: &Deposit, is_a_persons: bool) {
        let after = &self.deposit;
        assert!(
            before.state != State::Credited || after.state == State::Credited,
            "P2: a credited deposit stays credited"
        );
        assert!(
            after.state != State::Credited
                || matches!(before.state, State::Crediting | State::Credited),
            "P2: only the ledger's answer credits"
        );
        assert!(
            !matches!(before.state, State::Review(_))
                || matches!(after.state, State::Review(_))
                || is_a_persons,
            "P3: a deposit in review waits for a person"
        );
        let is_paid = matches!(after.state, State::Paid | State::Crediting | State::Credited);
        assert!(!is_paid || after.credit().is_some(), "P1: paid needs its proof");
        assert!(
            after.suspense == Suspense::Nothing || after.paid.is_some(),
            "P6: suspense is what was paid"
        );
    }
}

fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (None, _) | (_, None) => None,
    }
}
