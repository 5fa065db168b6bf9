//! One run: the service's steps, the provider, the ledger, the network and the clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use ledger_core::Change;
use payments::lifecycle::{
    Checkout, Deposit, Effect, Event, Intent, Paid, Reason, State, Suspense, Verdict, When, Work,
    step,
};
use payments::notice::{self, Topic};
use payments::reference::Reference;
use payments::returns::Return;
use payments::verdict::{Domain, Expected, FeesPaidBy, judge, said};
use primitives::{AccountId, Currency, DepositId, Timestamp, TransferId};
use sandbox::paystack::model::{Call, Model, Settings, Status};
use serde_json::{Value, json};

use crate::books::{Ledger, amount};
use crate::giving_back::Later;
use crate::people::{Dice, Weather};

/// Seconds from the beginning until an unpaid deposit is abandoned, and until nobody looks.
const ABANDON_AFTER: u64 = 2_000;
const FORGET_AFTER: u64 = 5_000;
/// Deposits begin within so many seconds.
const BEGIN_WITHIN: u64 = 3_000;
/// From here on nothing goes wrong any more, so that everything comes to an end.
const CALM_AFTER: u64 = 20_000;
/// How often Paystack is asked for all its refunds and disputes.
pub(super) const SWEEP_EVERY: u64 = 5_000;
/// A worker that died is followed by another one after so long.
const LEASE: u64 = 20;
/// How long verify may take to agree with a webhook.
const CONFIRM_FOR: Duration = Duration::from_secs(600);
/// More events than any run has that comes to an end.
const EVENTS_PER_DEPOSIT_MAX: usize = 2_000;

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// What a signed webhook says is believed.
    CreditWebhookAmount,
    /// A deposit is credited in our record before the ledger was asked.
    MarkBeforeLedger,
    /// Who got no answer asks for a refund again, without looking whether it was made.
    AskAgain,
}

/// What happened in a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) n_deposits: u64,
    pub(crate) n_events: u64,
    pub(crate) n_credited: u64,
    pub(crate) n_accepted: u64,
    pub(crate) n_rejected: u64,
    pub(crate) n_crashes: u64,
    pub(crate) n_lost: u64,
    pub(crate) n_repeated: u64,
    pub(crate) n_late: u64,
    pub(crate) n_refunded: u64,
    pub(crate) n_found: u64,
    pub(crate) n_kept: u64,
    pub(crate) n_lost_disputes: u64,
    pub(crate) n_uncovered: u64,
    pub(crate) n_asked_again: u64,
}

impl Tally {
    /// What must be seen for a run to show anything.
    pub(crate) const fn all(&self) -> [(&'static str, u64); 13] {
        [
            ("credited", self.n_credited),
            ("accepted", self.n_accepted),
            ("rejected", self.n_rejected),
            ("crashes", self.n_crashes),
            ("lost questions and answers", self.n_lost),
            ("repeated webhooks", self.n_repeated),
            ("late payments", self.n_late),
            ("refunds", self.n_refunded),
            ("refunds made at Paystack itself", self.n_found),
            ("refunds that failed and disputes that were won", self.n_kept),
            ("disputes that were lost", self.n_lost_disputes),
            ("losses that no hold covered", self.n_uncovered),
            ("refunds that were asked for again", self.n_asked_again),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.n_deposits += other.n_deposits;
        self.n_events += other.n_events;
        self.n_credited += other.n_credited;
        self.n_accepted += other.n_accepted;
        self.n_rejected += other.n_rejected;
        self.n_crashes += other.n_crashes;
        self.n_lost += other.n_lost;
        self.n_repeated += other.n_repeated;
        self.n_late += other.n_late;
        self.n_refunded += other.n_refunded;
        self.n_found += other.n_found;
        self.n_kept += other.n_kept;
        self.n_lost_disputes += other.n_lost_disputes;
        self.n_uncovered += other.n_uncovered;
        self.n_asked_again += other.n_asked_again;
    }
}

/// A deposit as it is stored, and what is remembered of it for the judgement.
pub(super) struct Case {
    pub(super) deposit: Deposit,
    due: Option<Timestamp>,
    pub(super) life: Vec<String>,
    n_credited: u64,
    /// Its refunds and disputes, and when they are due.
    pub(super) returns: Vec<(Return, Option<Timestamp>)>,
    /// Whom it pays.
    pub(super) shop: AccountId,
}

/// What is to happen, and to which deposit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Todo {
    Look(usize),
    Pay(usize),
    Operate(usize),
    Webhook(Vec<u8>),
    Later(Later),
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) tally: Tally,
    pub(super) bug: Option<Bug>,
    pub(super) is_traced: bool,
    /// Whose the references are that Paystack was given.
    pub(super) references: HashMap<Reference, usize>,
    pub(super) dice: Dice,
    pub(super) weather: Weather,
    pub(super) now: Timestamp,
    begun_at: Timestamp,
    pub(super) paystack: Model,
    pub(super) ledger: Ledger,
    pub(super) cases: Vec<Case>,
    agenda: BinaryHeap<Reverse<(Timestamp, u64, Todo)>>,
    n_todos: u64,
    /// When something happens at Paystack by itself.
    paystack_due: Option<Timestamp>,
}

impl World {
    pub(crate) fn new(seed: u64, n_deposits: usize, bug: Option<Bug>, is_traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let now = Timestamp::from_seconds(1_800_000_000);
        let settings = Settings {
            domain: "test",
            public_url: "http://sandbox".to_owned(),
            currencies: vec!["NGN".to_owned(), "USD".to_owned()],
            calls_per_minute: None,
            strict_limits: false,
            fees_on_customer: false,
            refunds_need_balance: false,
            refund_pending: Duration::from_millis(500),
            refund_processing: Duration::from_secs(1),
        };
        let mut world = Self {
            tally: Tally::default(),
            bug,
            is_traced,
            references: HashMap::new(),
            weather: dice.weather(),
            dice,
            now,
            begun_at: now,
            paystack: Model::new(settings, seed),
            ledger: Ledger::new(now),
            cases: Vec::new(),
            agenda: BinaryHeap::new(),
            n_todos: 0,
            paystack_due: None,
        };
        for _ in 0..n_deposits {
            world.begin();
        }
        for n in 1..=CALM_AFTER * 2 / SWEEP_EVERY {
            world.schedule(world.after(n * SWEEP_EVERY), Todo::Later(Later::Sweep));
        }
        world
    }

    fn begin(&mut self) {
        let begins_at = self.now.plus(Duration::from_secs(self.dice.below(BEGIN_WITHIN)));
        let account_id = AccountId::generate();
        self.ledger.open(account_id, self.now);
        if self.dice.happens(self.weather.frozen) {
            self.ledger.change(account_id, Change::Freeze, self.now);
        }
        let intent = Intent {
            account_id,
            amount: amount(5_000 + self.dice.below(1_000_000)),
            currency: Currency::NGN,
            wait_until: self.dice.happens(0.5).then(|| begins_at.plus(Duration::from_secs(30))),
            abandon_at: begins_at.plus(Duration::from_secs(ABANDON_AFTER)),
            forget_at: begins_at.plus(Duration::from_secs(FORGET_AFTER)),
        };
        let ids = (DepositId::generate(), TransferId::generate());
        let deposit = Deposit::intent(ids, intent, begins_at);
        let n = self.cases.len();
        let shop = AccountId::generate();
        self.ledger.open(shop, self.now);
        self.cases.push(Case {
            deposit,
            due: Some(begins_at),
            life: Vec::new(),
            n_credited: 0,
            returns: Vec::new(),
            shop,
        });
        self.schedule(begins_at, Todo::Look(n));
        let pays_at = begins_at.plus(Duration::from_secs(1 + self.dice.below(FORGET_AFTER - 2)));
        self.schedule(pays_at, Todo::Pay(n));
        self.tally.n_deposits += 1;
    }

    pub(super) fn schedule(&mut self, at: Timestamp, todo: Todo) {
        self.n_todos += 1;
        self.agenda.push(Reverse((at, self.n_todos, todo)));
    }

    pub(super) fn after(&self, seconds: u64) -> Timestamp {
        self.now.plus(Duration::from_secs(seconds))
    }

    /// Some moment of the next seconds.
    pub(super) fn within(&mut self, seconds: u64) -> Timestamp {
        let later = 1 + self.dice.below(seconds);
        self.after(later)
    }

    /// Plays to the end and judges it.
    pub(crate) fn play(&mut self) -> Result<(), String> {
        let most = self.cases.len().saturating_mul(EVENTS_PER_DEPOSIT_MAX);
        let mut n_events = 0_usize;
        while let Some(Reverse((at, _, todo))) = self.agenda.pop() {
            self.now = self.now.max(at);
            if self.now > self.begun_at.plus(Duration::from_secs(CALM_AFTER)) {
                self.weather = Weather::CALM;
            }
            match todo {
                Todo::Look(n) => self.look(n),
                Todo::Pay(n) => self.pay(n),
                Todo::Operate(n) => self.operate(n),
                Todo::Webhook(body) => self.told(&body),
                Todo::Later(todo) => self.give_back_todo(todo),
            }
            n_events += 1;
            if n_events > most {
                return Err(format!("it never comes to an end: {}", self.stuck()));
            }
        }
        self.tally.n_events = u64::try_from(n_events).unwrap_or(u64::MAX);
        self.judge()
    }

    /// What has not ended.
    fn stuck(&self) -> String {
        let is_open = |case: &&Case| case.returns.iter().any(|(it, _)| !it.state.is_end());
        let told = |case: &Case| format!("{:#?}\n{}\n", case.returns, case.life.join("\n"));
        self.cases.iter().filter(is_open).map(told).collect()
    }

    /// A step of a deposit, stored.
    pub(super) fn happen(&mut self, n: usize, event: Event) -> Vec<Effect> {
        let case = &mut self.cases[n];
        let told =
            self.is_traced.then(|| format!("{} {} {}", self.now, event.name(), event.detail()));
        let step = step(&case.deposit, event, self.now);
        if let Some(told) = told {
            let (before, after) = (case.deposit.state.name(), step.deposit.state.name());
            case.life.push(format!("{told}: {before} -> {after}"));
        }
        case.deposit = step.deposit;
        let mut is_credited = false;
        for effect in &step.effects {
            match effect {
                Effect::Look(When::Now) => case.due = Some(self.now),
                Effect::Look(When::After(_)) => {
                    let pause = 1_u64 << case.deposit.n_looks.min(10);
                    case.due = Some(self.now.plus(Duration::from_secs(pause)));
                }
                Effect::Look(When::Never) => case.due = None,
                Effect::AnnounceCredited => {
                    case.n_credited += 1;
                    is_credited = true;
                }
                Effect::AnnounceParked | Effect::Answer | Effect::Initialize => {}
            }
        }
        if let Some(due) = self.cases[n].due {
            self.schedule(due, Todo::Look(n));
        }
        if is_credited {
            self.live_on(n);
        }
        if step.effects.contains(&Effect::AnnounceParked) {
            let at = self.within(5_000);
            self.schedule(at, Todo::Operate(n));
        }
        step.effects
    }

    /// Whether the process dies here; somebody else takes the deposit up after the lease.
    pub(super) fn dies(&mut self, n: usize) -> bool {
        let dies = self.dice.happens(self.weather.crash);
        if dies {
            self.tally.n_crashes += 1;
            self.schedule(self.after(LEASE), Todo::Look(n));
        }
        dies
    }

    pub(super) fn loses(&mut self) -> bool {
        let loses = self.dice.happens(self.weather.lost);
        self.tally.n_lost += u64::from(loses);
        loses
    }

    /// A worker takes a deposit up, if it is due.
    fn look(&mut self, n: usize) {
        if self.cases[n].due.is_none_or(|due| due > self.now) || self.dies(n) {
            return;
        }
        match self.cases[n].deposit.work() {
            Work::Initialize => self.initialize(n),
            Work::Verify(reference) => self.verify(n, &reference),
            Work::Credit => self.credit(n),
            Work::Suspend => self.suspend(n),
            Work::Rest => {}
        }
    }

    fn initialize(&mut self, n: usize) {
        if !self.happen(n, Event::Asking).contains(&Effect::Initialize) || self.dies(n) {
            return;
        }
        let deposit = &self.cases[n].deposit;
        let reference = deposit.attempt.reference.clone();
        self.references.insert(reference.clone(), n);
        let body = json!({
            "email": "ada@example.com",
            "amount": deposit.amount.minor(),
            "currency": deposit.currency.as_str(),
            "reference": reference.as_str(),
        });
        let event = if self.loses() {
            // It never arrived; whether that is known depends.
            match self.dice.happens(0.5) {
                true => Event::InitializeRefused { reference },
                false => Event::InitializeUnknown { reference },
            }
        } else {
            let answer = self.paystack.call(Call::Initialize(Some(body)), self.now);
            let text = |name: &str| answer.body["data"][name].as_str().map(str::to_owned);
            match (text("authorization_url"), text("access_code")) {
                _ if self.loses() => Event::InitializeUnknown { reference },
                (Some(authorization_url), Some(access_code)) => {
                    let checkout = Checkout { authorization_url, access_code };
                    Event::CheckoutMade { reference, checkout }
                }
                (_, _) => Event::InitializeUnknown { reference },
            }
        };
        if !self.dies(n) {
            self.happen(n, event);
        }
    }

    fn verify(&mut self, n: usize, reference: &Reference) {
        let event = if self.loses() {
            Event::VerifyFailed
        } else {
            let call = Call::Verify(reference.as_str().to_owned());
            let answer = self.paystack.call(call, self.now);
            let verdict = match answer.body.get("data") {
                Some(Value::Object(data)) if answer.status == 200 => {
                    judge(&self.expected(n, reference), &said(data), self.now)
                }
                _ => Verdict::NotFound,
            };
            Event::Verified { verdict }
        };
        if !self.dies(n) {
            self.happen(n, event);
        }
    }

    fn expected<'a>(&self, n: usize, reference: &'a Reference) -> Expected<'a> {
        let deposit = &self.cases[n].deposit;
        Expected {
            reference,
            amount: deposit.amount,
            currency: deposit.currency,
            domain: Domain::Test,
            fees_paid_by: FeesPaidBy::Merchant,
        }
    }

    fn credit(&mut self, n: usize) {
        self.happen(n, Event::Crediting);
        let deposit = self.cases[n].deposit.clone();
        let Some(credit) = deposit.credit().filter(|_| deposit.state == State::Crediting) else {
            return;
        };
        if self.bug == Some(Bug::MarkBeforeLedger) {
            self.happen(n, Event::CreditPosted);
        }
        if self.dies(n) {
            return;
        }
        let event = if self.loses() {
            Event::CreditUnknown
        } else {
            let outcome = self.ledger.credit(&deposit, &credit, self.now);
            match outcome {
                _ if self.loses() => Event::CreditUnknown,
                Ok(()) => Event::CreditPosted,
                Err(why) => Event::CreditRefused { why: why.code().to_owned() },
            }
        };
        if !self.dies(n) {
            self.happen(n, event);
        }
    }

    fn suspend(&mut self, n: usize) {
        let deposit = self.cases[n].deposit.clone();
        let event = if self.loses() {
            Event::SuspendUnknown
        } else {
            let done = self.ledger.suspend(&deposit, self.now).is_ok();
            if done && !self.loses() { Event::Suspended } else { Event::SuspendUnknown }
        };
        if !self.dies(n) {
            self.happen(n, event);
        }
    }

    /// Somebody at the checkout does something, if there is one.
    fn pay(&mut self, n: usize) {
        let deposit = &self.cases[n].deposit;
        let (amount_minor, forget_at, abandon_at) =
            (deposit.amount.minor(), deposit.forget_at, deposit.abandon_at);
        let again_at = self.within(1_000);
        let Some(checkout) = self.cases[n].deposit.checkout.clone() else {
            if self.dice.happens(0.5) && again_at < forget_at {
                let wait_until = Some(self.after(60));
                self.happen(n, Event::AskedAgain { wait_until });
                self.schedule(again_at, Todo::Pay(n));
            }
            return;
        };
        let attempt = self.dice.attempt(amount_minor);
        let paid = self.paystack.pay(&checkout.access_code, attempt, self.now);
        let is_paid = paid.is_ok_and(|it| it.status == Status::Success);
        self.tally.n_late += u64::from(is_paid && self.now >= abandon_at);
        if !is_paid && self.dice.happens(0.5) && again_at < forget_at {
            self.schedule(again_at, Todo::Pay(n));
        }
        self.drain();
        if is_paid && self.dice.happens(0.1) {
            let at = self.within(8_000);
            self.schedule(at, Todo::Later(Later::Contest(n)));
        }
    }

    /// Webhooks of whatever happened at Paystack, and when something happens there next.
    pub(super) fn drain(&mut self) {
        for event in self.paystack.take_effects().events {
            self.send(json!({ "event": event.name, "data": event.data }));
        }
        if let Some(at) = self.paystack.next_due()
            && self.paystack_due.is_none_or(|due| due <= self.now || at < due)
        {
            self.paystack_due = Some(at);
            self.schedule(at, Todo::Later(Later::Paystack));
        }
    }

    /// A webhook on its way: lost, late, twice, or with something else in it.
    fn send(&mut self, mut body: Value) {
        if self.dice.happens(self.weather.webhook_garbled) {
            body["data"]["amount"] = json!(1 + self.dice.below(9_000_000));
        }
        let body = body.to_string().into_bytes();
        let mut n_times = u64::from(!self.dice.happens(self.weather.webhook_lost));
        while n_times > 0 && self.dice.happens(self.weather.webhook_twice) {
            n_times += 1;
            self.tally.n_repeated += 1;
        }
        for _ in 0..n_times {
            let at = self.within(4_000);
            self.schedule(at, Todo::Webhook(body.clone()));
        }
    }

    /// A webhook was stored, and is looked at.
    fn told(&mut self, body: &[u8]) {
        let notice = notice::read(body);
        let Some(reference) = notice.reference.clone() else { return };
        let Some(n) = self.references.get(&reference).copied() else { return };
        if notice.topic != Topic::Payment {
            return self.told_of_return(n, &notice, &reference);
        }
        let until = self.now.plus(CONFIRM_FOR);
        let expected = self.expected(n, &reference);
        let meaning = notice::meaning(&notice, &self.cases[n].deposit, &expected, until);
        let Some(event) = meaning.event else { return };
        self.happen(n, event);
        if self.bug == Some(Bug::CreditWebhookAmount) {
            let minor = notice.said.amount_minor.unwrap_or(1);
            let paid = Paid {
                reference,
                amount: amount(minor),
                currency: Currency::NGN,
                paid_at: self.now,
                provider_id: None,
            };
            self.happen(n, Event::Verified { verdict: Verdict::Paid(paid) });
        }
    }

    /// A person looks at a deposit in review.
    fn operate(&mut self, n: usize) {
        let deposit = &self.cases[n].deposit;
        if !matches!(deposit.state, State::Review(_)) {
            return;
        }
        let (account_id, n_accepted) = (deposit.account_id, deposit.n_accepted);
        if self.dice.happens(0.7) {
            self.ledger.change(account_id, Change::Unfreeze, self.now);
        }
        let is_claimed = self.is_claimed(n);
        if !is_claimed && n_accepted < 5 && self.dice.happens(0.7) {
            let until = self.now.plus(CONFIRM_FOR);
            self.happen(n, Event::Accepted { until });
        } else {
            self.happen(n, Event::Rejected);
            for (probability, todo) in [(0.5, Later::Refund(n)), (0.1, Later::RefundThere(n))] {
                if self.dice.happens(probability) {
                    let at = self.within(5_000);
                    self.schedule(at, Todo::Later(todo));
                }
            }
        }
        if matches!(self.cases[n].deposit.state, State::Review(_)) {
            let at = self.within(5_000);
            self.schedule(at, Todo::Operate(n));
        }
    }

    /// Whether everything ended as Paystack's own record says.
    fn judge(&mut self) -> Result<(), String> {
        for case in &self.cases {
            self.judge_one(case)
                .map_err(|what| format!("{what}\n{:#?}\n{}", case.deposit, case.life.join("\n")))?;
        }
        for case in &self.cases {
            self.tally.n_credited += u64::from(case.deposit.state == State::Credited);
            self.tally.n_accepted += u64::from(case.deposit.n_accepted);
            let is_rejected = matches!(case.deposit.state, State::Rejected(_));
            self.tally.n_rejected += u64::from(is_rejected);
        }
        self.judge_sums()
    }

    fn judge_one(&self, case: &Case) -> Result<(), String> {
        let Case { deposit, n_credited, .. } = case;
        let paid = self.paystack.find(deposit.attempt.reference.as_str());
        let paid = paid.filter(|it| it.status.is_paid());
        let balance = self.judge_returns(case)?;
        let is_credited = deposit.state == State::Credited;
        if *n_credited != u64::from(is_credited) {
            return Err(format!("it was announced {n_credited} times"));
        }
        let Some(paid) = paid else {
            let is_clean = !is_credited && balance == 0 && deposit.suspense == Suspense::Nothing;
            return if is_clean { Ok(()) } else { Err("nobody paid it".to_owned()) };
        };
        let is_right = paid.amount == deposit.amount.minor() && paid.currency == "NGN";
        if is_credited && deposit.n_accepted == 0 && !is_right {
            return Err("something else was paid than what was asked for".to_owned());
        }
        let is_held = matches!(deposit.suspense, Suspense::Held | Suspense::Left);
        let expected = if is_credited {
            i64::try_from(paid.amount).unwrap_or(-1)
        } else if matches!(deposit.state, State::Rejected(_)) && is_held {
            // A person's word.
            0
        } else if deposit.state == State::Rejected(Reason::Reversed) {
            // Gone before it was booked.
            0
        } else {
            return Err(format!("it was paid and is {}", deposit.state.name()));
        };
        if balance == expected {
            Ok(())
        } else {
            Err(format!("{balance} is in the wallet, {} was paid", paid.amount))
        }
    }
}
