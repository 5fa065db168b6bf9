//! The whole life of a deposit, as one pure function from what is known and what happened to what
//! is known then and what must be done.
//!
//! ```text
//! initiated ──checkout──▶ pending ──webhook──▶ confirming
//!     │                     │  ▲                   │
//!     │ refused             │  └─(never back)      ├── verify agrees ──▶ paid ──ledger──▶ credited
//!     ▼                     ▼                      │
//!   failed ◀──verify──── abandoned                 └── does not agree, or never confirmed ──▶ review
//! ```
//!
//! What the rest of the service may rely on:
//! - P1: only a verify answer that agrees with our record makes a deposit `paid`; a webhook only
//!   makes somebody look.
//! - P2: only the ledger's answer makes a `paid` deposit `credited`, and it never leaves that state.
//! - P3: `review` is never paid or credited.
//! - P4: `failed` and `abandoned` are opinions, not ends: a late payment still credits.
//! - P5: a reference is given to Paystack at most once; who does not know what became of it looks,
//!   and goes on with a new one.
//!
//! There is no clock, no randomness and no I/O here. Pauses are named, not measured: the shell
//! knows how long each is ([`crate::schedule`]).

mod deposit;

use primitives::Timestamp;

use crate::reference::Reference;

pub use deposit::{
    Answer, Attempt, Checkout, Deposit, Intent, Paid, Phase, Reason, Shown, State, Work,
};

/// How many attempts one asking may use up when Paystack's answers get lost.
pub const ATTEMPTS_PER_ASKING_MAX: u16 = 3;
/// How many attempts one deposit may use up in its whole life.
pub const ATTEMPTS_MAX: u16 = 100;

/// What verify says of a reference, once compared with our record ([`crate::verdict::judge`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Paid, and everything agrees.
    Paid {
        /// When, says Paystack.
        paid_at: Timestamp,
        /// Paystack's id of the transaction.
        provider_id: Option<String>,
    },
    /// Not paid yet, or a status that we do not know.
    Open,
    /// The payment failed; the person may try again on the same checkout.
    Failed,
    /// Paystack does not know the reference, or not under this key.
    NotFound,
    /// Paid, but not what we asked for; or paid and given back.
    Disagrees(Reason),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks for this deposit's checkout once more, and waits until then.
    AskedAgain {
        /// `None` is for ever.
        wait_until: Option<Timestamp>,
    },
    /// Paystack is about to be asked. Stored before the call, so that a crash is noticed.
    Asking,
    /// Paystack made a checkout.
    CheckoutMade {
        /// For this attempt.
        reference: Reference,
        /// Where to pay.
        checkout: Checkout,
    },
    /// Paystack surely made nothing.
    InitializeRefused {
        /// For this attempt.
        reference: Reference,
    },
    /// Paystack may have made a checkout, or not.
    InitializeUnknown {
        /// For this attempt.
        reference: Reference,
    },
    /// A signed webhook says that a reference of this deposit is paid.
    Claimed {
        /// The one it named.
        reference: Reference,
        /// How long to wait for verify to agree.
        until: Timestamp,
    },
    /// Verify answered.
    Verified {
        /// For this attempt.
        reference: Reference,
        /// What it said.
        verdict: Verdict,
    },
    /// Verify did not answer.
    VerifyFailed,
    /// The ledger has posted the credit, now or before.
    CreditPosted,
    /// The ledger said no, and will for ever.
    CreditRefused {
        /// Its reason's code.
        why: String,
    },
    /// The ledger did not answer; it may have posted.
    CreditUnknown,
}

/// What must be done, in the same transaction or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask Paystack for a checkout under the attempt's reference, now that this is stored.
    Initialize,
    /// Somebody takes the deposit up then; [`Deposit::work`] says what for.
    Look(When),
    /// Tell those who wait for a checkout; [`Deposit::answer`] says what.
    Answer,
    /// Announce that the wallet has been credited.
    AnnounceCredited,
    /// Announce that a person must look.
    AnnounceParked,
}

/// When somebody takes a deposit up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// After a pause that grows with the number of looks.
    After(Pace),
    /// Not by itself.
    Never,
}

/// Which row of pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A checkout is open.
    Pending,
    /// A webhook waits for verify to agree.
    Confirm,
    /// Failed or abandoned, and perhaps paid late.
    Late,
    /// Paystack or the ledger did not answer.
    Unanswered,
}

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
/// If the outcome breaks P2 or P3: a bug here, never a fact of life.
#[must_use]
pub fn step(deposit: &Deposit, event: Event, now: Timestamp) -> Step {
    let mut step = Step { deposit: deposit.clone(), effects: Vec::new() };
    match event {
        Event::AskedAgain { wait_until } => step.asked_again(wait_until),
        Event::Asking => step.asking(now),
        Event::CheckoutMade { reference, checkout } => step.checkout_made(&reference, checkout),
        Event::InitializeRefused { reference } => step.initialize_refused(&reference),
        Event::InitializeUnknown { reference } => step.initialize_unknown(&reference),
        Event::Claimed { reference, until } => step.claimed(reference, until),
        Event::Verified { reference, verdict } => step.verified(reference, verdict, now),
        Event::VerifyFailed => step.verify_failed(),
        Event::CreditPosted => step.credit_posted(now),
        Event::CreditRefused { why } => step.credit_refused(why),
        Event::CreditUnknown => step.credit_unknown(),
    }
    step.assert_lawful(deposit);
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
            | State::Credited
            | State::Abandoned
            | State::Review(_) => {}
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
            | State::Credited
            | State::Abandoned
            | State::Review(_) => {}
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
            State::Initiated | State::Pending | State::Failed | State::Abandoned => {
                self.enter(State::Confirming { reference, until }, When::Now);
            }
            State::Confirming { .. } => self.effects.push(Effect::Look(When::Now)),
            State::Paid | State::Credited | State::Review(_) => {}
        }
    }

    fn verified(&mut self, reference: Reference, verdict: Verdict, now: Timestamp) {
        match self.deposit.state {
            State::Initiated
            | State::Pending
            | State::Confirming { .. }
            | State::Failed
            | State::Abandoned => {}
            State::Paid | State::Credited | State::Review(_) => return,
        }
        match verdict {
            // P1: the only way into `paid`.
            Verdict::Paid { paid_at, provider_id } => {
                self.deposit.paid = Some(Paid { reference, paid_at, provider_id });
                self.enter(State::Paid, When::Now);
            }
            Verdict::Disagrees(reason) => self.park(reason),
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
            State::Pending if now >= self.deposit.abandon_at => self.enter(State::Abandoned, late),
            State::Pending => self.effects.push(Effect::Look(When::After(Pace::Pending))),
            State::Abandoned if has_failed => self.enter(State::Failed, late),
            State::Abandoned | State::Failed => self.effects.push(Effect::Look(late)),
            State::Confirming { until, .. } if now >= until => self.park(Reason::NotConfirmed),
            State::Confirming { .. } => {
                self.effects.push(Effect::Look(When::After(Pace::Confirm)));
            }
            State::Paid | State::Credited | State::Review(_) => {}
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
            State::Paid | State::Credited | State::Review(_) => return,
        };
        self.effects.push(Effect::Look(again));
    }

    fn credit_posted(&mut self, now: Timestamp) {
        if self.deposit.state == State::Paid {
            self.deposit.credited_at = Some(now);
            self.enter(State::Credited, When::Never);
            self.effects.push(Effect::AnnounceCredited);
        }
    }

    fn credit_refused(&mut self, why: String) {
        if self.deposit.state == State::Paid {
            self.park(Reason::LedgerRefused(why));
        }
    }

    fn credit_unknown(&mut self) {
        if self.deposit.state == State::Paid {
            self.deposit.n_looks = self.deposit.n_looks.saturating_add(1);
            self.effects.push(Effect::Look(When::After(Pace::Unanswered)));
        }
    }

    fn enter(&mut self, state: State, when: When) {
        self.deposit.state = state;
        self.deposit.n_looks = 0;
        self.effects.push(Effect::Look(when));
    }

    fn park(&mut self, reason: Reason) {
        self.enter(State::Review(reason), When::Never);
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

    fn assert_lawful(&self, before: &Deposit) {
        let after = &self.deposit;
        assert!(
            before.state != State::Credited || after.state == State::Credited,
            "P2: a credited deposit stays credited"
        );
        assert!(
            after.state != State::Credited || matches!(before.state, State::Paid | State::Credited),
            "P2: only a paid deposit is credited"
        );
        assert!(
            !matches!(before.state, State::Review(_)) || matches!(after.state, State::Review(_)),
            "P3: a deposit in review waits for a person"
        );
        assert!(
            !matches!(after.state, State::Paid | State::Credited) || after.paid.is_some(),
            "P1: paid needs its proof"
        );
    }
}

fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (None, _) | (_, None) => None,
    }
}
