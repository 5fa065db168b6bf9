//! Refunds and disputes in virtual time: what `give_back` does, what the payer's bank and the people
//! at Paystack do, and whether the money is where it belongs in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_core::Change;
use payments::lifecycle::{Deposit, Event as DepositEvent, State as DepositState, Suspense, When};
use payments::notice::{Notice, Topic};
use payments::reference::Reference;
use payments::returns::{
    Around, Claim as Contested, DisputeSaid, Effect, Event, Kind, Payment, Reason, RefundSaid,
    Return, Source, State, Word, Work, committed_minor, has_others, is_known, judge_dispute,
    judge_found_refund, judge_refund, returned_minor, step,
};
use payments::verdict::Domain;
use primitives::{ReturnId, System};
use sandbox::paystack::model::{
    Call, Claim, DisputeStatus, Parameters, Refund, RefundStatus, Verdict,
};
use serde_json::{Map, Value, json};

use crate::books::{CURRENCIES, amount};
use crate::world::{Bug, Case, SWEEP_EVERY, Todo, World};

/// How long after an asking Paystack is believed that it has no such refund.
const SETTLE: Duration = Duration::from_secs(120);

/// What happens to deposits that were paid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Later {
    /// A worker takes up a deposit's return.
    GiveBack(usize, usize),
    /// An operator wants a deposit refunded.
    Refund(usize),
    /// Somebody refunds it at Paystack itself.
    RefundThere(usize),
    /// The payer's bank contests what was paid.
    Contest(usize),
    /// The merchant answers a dispute, or the bank decides one that was declined.
    Answer(u64),
    Decide(u64),
    /// A refund that needs the payer's account has it.
    Attend(u64),
    /// A person looks at a return in review.
    OperateReturn(usize, usize),
    /// Money leaves the wallet, or comes back.
    Spend(usize),
    Earn(usize),
    /// Something happens at Paystack by itself.
    Paystack,
    /// Paystack is asked for the refunds of a deposit's payment.
    SweepRefunds(usize),
    /// Paystack is asked for all its refunds and disputes.
    Sweep,
}

impl World {
    /// What people do with money that was credited.
    pub(super) fn live_on(&mut self, n: usize) {
        for (probability, todo) in [
            (0.15, Later::Refund(n)),
            (0.1, Later::Refund(n)),
            (0.05, Later::RefundThere(n)),
            (0.05, Later::RefundThere(n)),
            (0.3, Later::Spend(n)),
        ] {
            if self.dice.happens(probability) {
                let at = self.within(6_000);
                self.schedule(at, Todo::Later(todo));
            }
        }
    }

    pub(super) fn give_back_todo(&mut self, todo: Later) {
        match todo {
            Later::GiveBack(n, k) => self.give_back(n, k),
            Later::Refund(n) => self.refund(n),
            Later::RefundThere(n) => self.refund_there(n),
            Later::SweepRefunds(n) => {
                let of = transaction_id(&self.cases[n].deposit);
                self.sweep_refunds(("transaction", of));
            }
            Later::Contest(n) => self.contest(n),
            Later::Answer(id) => self.answer(id),
            Later::Decide(id) => {
                let lost = self.dice.happens(0.5);
                let verdict = if lost { Verdict::Reversed } else { Verdict::Won };
                self.paystack.decide(id, verdict, self.now);
                self.drain();
            }
            Later::Attend(id) => {
                let done = self.dice.happens(0.5);
                let next = if done { RefundStatus::Processed } else { RefundStatus::Failed };
                self.paystack.set_refund(id, next, self.now);
                self.drain();
            }
            Later::OperateReturn(n, k) => self.operate_return(n, k),
            Later::Spend(n) => {
                let case = &self.cases[n];
                let ends = (case.deposit.account_id, case.shop);
                let minor = 1 + self.dice.below(case.deposit.amount.minor());
                let is_spent = self.ledger.pay(ends, minor, self.now);
                if is_spent && self.dice.happens(0.5) {
                    let at = self.within(9_000);
                    self.schedule(at, Todo::Later(Later::Earn(n)));
                }
            }
            Later::Earn(n) => {
                let case = &self.cases[n];
                let minor = self.ledger.balance(case.shop).unsigned_abs();
                if minor > 0 {
                    let ends = (case.shop, case.deposit.account_id);
                    self.ledger.pay(ends, minor, self.now);
                }
            }
            Later::Paystack => {
                self.paystack.advance(self.now);
                self.drain();
            }
            Later::Sweep => self.sweep(),
        }
    }

    fn returns_of(&self, n: usize) -> Vec<Return> {
        self.cases[n].returns.iter().map(|(it, _)| it.clone()).collect()
    }

    fn unclaimed_minor(&self, n: usize, except: Option<ReturnId>) -> u64 {
        let case = &self.cases[n];
        let others =
            case.returns.iter().map(|(it, _)| it).filter(|it| Some(it.return_id) != except);
        let paid_minor = case.deposit.paid.as_ref().map_or(0, |it| it.amount.minor());
        paid_minor.saturating_sub(committed_minor(others))
    }

    /// Whether anything of a deposit's money is claimed: no person accepts it then.
    pub(super) fn is_claimed(&self, n: usize) -> bool {
        let case = &self.cases[n];
        case.deposit.suspense == Suspense::Left
            || committed_minor(case.returns.iter().map(|(it, _)| it)) > 0
    }

    /// As `payments refund` does.
    fn refund(&mut self, n: usize) {
        let deposit = self.cases[n].deposit.clone();
        let left = self.unclaimed_minor(n, None);
        let is_kept = matches!(deposit.state, DepositState::Rejected(_))
            && deposit.suspense == Suspense::Held;
        let Some(paid) = deposit.paid.as_ref().filter(|_| left > 0) else { return };
        if !is_kept && deposit.state != DepositState::Credited {
            return;
        }
        let minor =
            if is_kept || self.dice.happens(0.5) { left } else { 1 + self.dice.below(left) };
        let payment = Payment::of(&deposit, &paid.reference);
        let it = Return::refund(ReturnId::generate(), payment, amount(minor), self.now);
        self.begin_return(n, it);
    }

    /// Somebody refunds a payment at Paystack itself, the whole or a part, whatever we know of it.
    fn refund_there(&mut self, n: usize) {
        let Some(paid) = self.cases[n].deposit.paid.clone() else { return };
        let minor = paid.amount.minor();
        let minor = if self.dice.happens(0.3) { minor } else { 1 + self.dice.below(minor) };
        let of = transaction_id(&self.cases[n].deposit);
        let body = json!({ "transaction": of, "amount": minor });
        let answer = self.paystack.call(Call::CreateRefund(Some(body)), self.now);
        self.drain();
        if answer.status == 200 {
            // A webhook of it may have the list read at once.
            let by_webhook = self.dice.happens(0.5).then_some(5);
            for seconds in by_webhook.into_iter().chain([SWEEP_EVERY]) {
                let at = self.within(seconds);
                self.schedule(at, Todo::Later(Later::SweepRefunds(n)));
            }
        }
    }

    fn begin_return(&mut self, n: usize, it: Return) {
        let k = self.cases[n].returns.len();
        self.cases[n].returns.push((it, Some(self.now)));
        self.schedule(self.now, Todo::Later(Later::GiveBack(n, k)));
    }

    /// The payer's bank contests what was paid, or what is left of it.
    fn contest(&mut self, n: usize) {
        let deposit = &self.cases[n].deposit;
        let paid = deposit.paid.as_ref().map(|it| (it.reference.clone(), it.amount.minor()));
        let name = paid.as_ref().map_or(&deposit.attempt.reference, |it| &it.0).to_string();
        // Of what we have not heard of yet, all.
        let part = paid.map(|it| it.1).filter(|_| self.dice.happens(0.3));
        let part = part.map(|minor| 1 + self.dice.below(minor));
        let claim = Claim { amount: part, ..Claim::default() };
        if let Ok(dispute) = self.paystack.raise(&name, claim, self.now) {
            let id = dispute.id;
            if self.dice.happens(0.7) {
                let at = self.within(20_000);
                self.schedule(at, Todo::Later(Later::Answer(id)));
            }
        }
        self.drain();
    }

    /// The merchant answers a dispute at Paystack.
    fn answer(&mut self, id: u64) {
        let Some(dispute) = self.paystack.disputes().find(|it| it.id == id) else { return };
        let (all, declines) = (dispute.amount, self.dice.happens(0.7));
        let of = self.paystack.transactions().find(|it| it.id == dispute.transaction_id);
        let of = of.and_then(|it| Reference::parse(&it.reference).ok());
        let n = of.and_then(|it| self.references.get(&it).copied());
        // What goes back in part before it was booked is a person's matter, outside these books.
        let is_booked = n.is_some_and(|n| self.cases[n].deposit.paid.is_some());
        let resolution = if declines { "declined" } else { "merchant-accepted" };
        let part = match (declines, is_booked) {
            (true, _) => 0,
            (false, true) => 1 + self.dice.below(all),
            (false, false) => all,
        };
        let body = json!({
            "resolution": resolution, "message": "it was delivered", "refund_amount": part,
            "uploaded_filename": "proof.pdf",
        });
        self.paystack.call(Call::ResolveDispute(id.to_string(), Some(body)), self.now);
        self.drain();
        if declines {
            let at = self.within(20_000);
            self.schedule(at, Todo::Later(Later::Decide(id)));
        }
    }

    /// A webhook of a refund or a dispute was stored, and is looked at.
    pub(super) fn told_of_return(&mut self, n: usize, notice: &Notice, reference: &Reference) {
        match &notice.topic {
            Topic::Refund => {
                for k in 0..self.cases[n].returns.len() {
                    if self.cases[n].returns[k].0.kind.is_refund() {
                        self.happens(n, k, Event::Hinted);
                    }
                }
            }
            Topic::Dispute(id) => self.notice_dispute(n, id, reference),
            Topic::Payment | Topic::Other => {}
        }
    }

    /// Asks for all refunds and disputes, and notices those that nobody told of.
    fn sweep(&mut self) {
        self.sweep_refunds(("perPage", "1000".to_owned()));
        self.sweep_disputes();
    }

    /// As `adopt` does.
    fn sweep_refunds(&mut self, filter: (&str, String)) {
        for it in self.list_refunds(filter).unwrap_or_default() {
            let said = RefundSaid::read(object(&it));
            let is_paid_so = |case: &Case| {
                let paid = case.deposit.paid.as_ref();
                paid.is_some_and(|it| it.provider_id == said.transaction_id)
            };
            let n = self.of_transaction(&it).filter(|n| is_paid_so(&self.cases[*n]));
            let (Some(n), Some(id)) = (n, said.id.clone()) else { continue };
            if is_known(&self.returns_of(n), &said) {
                continue;
            }
            let deposit = &self.cases[n].deposit;
            let reference = deposit.paid.as_ref().expect("it is paid").reference.clone();
            let payment = Payment::of(deposit, &reference);
            let new = Return::found_refund(ReturnId::generate(), payment, id, self.now);
            self.begin_return(n, new);
        }
    }

    /// Whose payment a listed refund is of.
    fn of_transaction(&self, refund: &Value) -> Option<usize> {
        let id = refund["transaction"].as_u64()?;
        let of = self.paystack.transactions().find(|it| it.id == id)?;
        self.references.get(&Reference::parse(&of.reference).ok()?).copied()
    }

    fn sweep_disputes(&mut self) {
        let parameters = BTreeMap::from([("perPage".to_owned(), "1000".to_owned())]);
        let (Some(Ok(Value::Array(all))), _) =
            self.call(Call::ListDisputes(Parameters(parameters)))
        else {
            return;
        };
        for it in all {
            let named = it["transaction"]["reference"].as_str();
            let reference = named.and_then(|it| Reference::parse(it).ok()).expect("one of ours");
            let id = it["id"].as_u64().expect("an id").to_string();
            if let Some(n) = self.references.get(&reference).copied() {
                self.notice_dispute(n, &id, &reference);
            }
        }
    }

    fn notice_dispute(&mut self, n: usize, id: &str, reference: &Reference) {
        let is_it = |it: &(Return, _)| it.0.provider_id.as_deref() == Some(id);
        if let Some(k) = self.cases[n].returns.iter().position(is_it) {
            self.happens(n, k, Event::Hinted);
            return;
        }
        let deposit = &self.cases[n].deposit;
        let is_unpaid = deposit.paid.is_none();
        let payment = Payment::of(deposit, reference);
        let new = Return::dispute(ReturnId::generate(), payment, id.to_owned(), self.now);
        self.begin_return(n, new);
        if is_unpaid {
            let until = self.after(600);
            self.happen(n, DepositEvent::Claimed { reference: reference.clone(), until });
        }
    }

    /// A step of a return, stored.
    fn happens(&mut self, n: usize, k: usize, event: Event) -> Vec<Effect> {
        let before = self.cases[n].returns[k].0.clone();
        let at_most_minor = self.unclaimed_minor(n, Some(before.return_id));
        let told =
            self.is_traced.then(|| format!("{} {} {}", self.now, event.name(), event.detail()));
        let around = Around { now: self.now, settle: SETTLE, at_most_minor };
        let step = step(&before.as_of(&self.cases[n].deposit), event, around);
        if let Some(told) = told {
            let (kind, from, to) =
                (before.kind.name(), before.state.name(), step.after.state.name());
            self.cases[n].life.push(format!("{kind} {k} {told}: {from} -> {to}"));
        }
        self.tally.n_asked_again +=
            u64::from(step.effects.contains(&Effect::Ask) && step.after.n_asked > 1);
        for effect in &step.effects {
            match effect {
                Effect::Look(when) => {
                    let pause = 1_u64 << step.after.n_looks.min(10);
                    let due = match when {
                        When::Now => Some(self.now),
                        When::After(_) => Some(self.now.plus(Duration::from_secs(pause))),
                        When::Never => None,
                    };
                    self.cases[n].returns[k].1 = due;
                }
                Effect::AnnounceParked => self.see_to(n, k, &step.after),
                Effect::Ask => {}
            }
        }
        self.cases[n].returns[k].0 = step.after;
        if let Some(due) = self.cases[n].returns[k].1 {
            self.schedule(due, Todo::Later(Later::GiveBack(n, k)));
        }
        let case = &self.cases[n];
        let paid_minor = case.deposit.paid.as_ref().map_or(u64::MAX, |it| it.amount.minor());
        let is_all_back = returned_minor(case.returns.iter().map(|(it, _)| it)) >= paid_minor;
        if is_all_back && case.deposit.suspense == Suspense::Held {
            self.happen(n, DepositEvent::GivenBack);
        }
        step.effects
    }

    /// What a person does who is told that something is stuck.
    fn see_to(&mut self, n: usize, k: usize, it: &Return) {
        let at = self.within(5_000);
        if matches!(it.state, State::Review(_)) {
            self.schedule(at, Todo::Later(Later::OperateReturn(n, k)));
        } else if it.trouble.as_deref() == Some("needs_attention") {
            self.attend_soon(it);
        } else {
            self.ledger.change(self.cases[n].deposit.account_id, Change::Unfreeze, self.now);
        }
    }

    /// A person gives Paystack the bank account that a refund waits for, if it does.
    fn attend_soon(&mut self, it: &Return) {
        if let Some(id) = it.provider_id.as_ref().and_then(|id| id.parse().ok()) {
            let at = self.within(5_000);
            self.schedule(at, Todo::Later(Later::Attend(id)));
        }
    }

    /// A worker takes a return up, if it is due.
    fn give_back(&mut self, n: usize, k: usize) {
        let (it, due) = self.cases[n].returns[k].clone();
        let it = it.as_of(&self.cases[n].deposit);
        if due.is_none_or(|due| due > self.now) || self.dies_returning(n, k) {
            return;
        }
        let event = match it.work() {
            Work::Hold => match self.ask_ledger(|world| world.ledger.hold(&it, world.now)) {
                Some(Ok(())) => Event::HoldPosted { n: it.n_holds },
                Some(Err(why)) => Event::HoldRefused { n: it.n_holds, why },
                None => Event::HoldUnknown,
            },
            Work::Ask => {
                let asks = self.happens(n, k, Event::Asking).contains(&Effect::Ask);
                if !asks || self.dies_returning(n, k) {
                    return;
                }
                self.ask_paystack(n, k)
            }
            Work::Find => self.find(n, &it),
            Work::Look => self.look_at(n, &it),
            Work::Take => self.moved(it.n_refused, |world| world.ledger.take(&it, world.now)),
            Work::Release => self.moved(it.n_refused, |world| world.ledger.release(&it, world.now)),
            Work::Rest => return,
        };
        if !self.dies_returning(n, k) {
            self.happens(n, k, event);
        }
    }

    /// Whether the process dies here; somebody else takes the return up after the lease.
    fn dies_returning(&mut self, n: usize, k: usize) -> bool {
        let dies = self.dies(n);
        if dies {
            let at = self.after(20);
            self.schedule(at, Todo::Later(Later::GiveBack(n, k)));
        }
        dies
    }

    /// What the ledger said; none if the question or its answer was lost.
    fn ask_ledger(
        &mut self,
        ask: impl FnOnce(&mut Self) -> Result<(), ledger_core::Rejection>,
    ) -> Option<Result<(), String>> {
        if self.loses() {
            return None;
        }
        let said = ask(self).map_err(|why| why.code().to_owned());
        (!self.loses()).then_some(said)
    }

    fn moved(
        &mut self,
        n: u16,
        ask: impl FnOnce(&mut Self) -> Result<(), ledger_core::Rejection>,
    ) -> Event {
        match self.ask_ledger(ask) {
            Some(Ok(())) => Event::Moved { n },
            Some(Err(why)) => Event::MoveRefused { n, why },
            None => Event::MoveUnknown,
        }
    }

    /// A call whose question and answer may be lost; whether it arrived is the second.
    fn call(&mut self, call: Call) -> (Option<Result<Value, String>>, bool) {
        if self.loses() {
            return (None, false);
        }
        let answer = self.paystack.call(call, self.now);
        self.drain();
        if self.loses() {
            return (None, true);
        }
        if (200..300).contains(&answer.status) {
            (Some(Ok(answer.body["data"].clone())), true)
        } else {
            let code = answer.body["code"].as_str().unwrap_or("none").to_owned();
            (Some(Err(code)), true)
        }
    }

    fn ask_paystack(&mut self, n: usize, k: usize) -> Event {
        let it = self.cases[n].returns[k].0.clone();
        let body = json!({
            "transaction": transaction_id(&self.cases[n].deposit),
            "amount": it.amount.map(primitives::Amount::minor),
            "currency": it.payment.currency.as_str(),
            "merchant_note": it.tag(),
        });
        match self.call(Call::CreateRefund(Some(body))) {
            (Some(Ok(data)), _) => told(&it, &data),
            (Some(Err(why)), _) => Event::AskRefused { why },
            (None, true) if self.bug == Some(Bug::AskAgain) => Event::AskHeldBack,
            (None, true) => Event::AskUnknown,
            // That it never arrived may be known, or not.
            (None, false) if self.dice.happens(0.5) => Event::AskHeldBack,
            (None, false) => Event::AskUnknown,
        }
    }

    /// Paystack's list of refunds; none if it did not answer.
    fn list_refunds(&mut self, (name, value): (&str, String)) -> Option<Vec<Value>> {
        let parameters = BTreeMap::from([(name.to_owned(), value)]);
        match self.call(Call::ListRefunds(Parameters(parameters))) {
            (Some(Ok(Value::Array(all))), _) => Some(all),
            (Some(_) | None, _) => None,
        }
    }

    fn find(&mut self, n: usize, it: &Return) -> Event {
        let of = transaction_id(&self.cases[n].deposit);
        let Some(all) = self.list_refunds(("transaction", of)) else { return Event::NotTold };
        let tag = it.tag();
        let found = all.iter().find(|found| found["merchant_note"].as_str() == Some(&*tag));
        found.map_or(Event::Absent, |found| told(it, found))
    }

    fn look_at(&mut self, n: usize, it: &Return) -> Event {
        let id = it.provider_id.clone().expect("it is looked at by its id");
        let all = self.returns_of(n);
        let disagrees =
            |reason| Event::Told { provider_id: id.clone(), word: Word::Disagrees(reason) };
        if it.kind.is_refund() {
            return match self.call(Call::FetchRefund(id.clone())) {
                (Some(Ok(data)), _) if it.kind == Kind::FoundRefund => {
                    let said = RefundSaid::read(object(&data));
                    let judged = judge_found_refund(it, &said, Domain::Test, &all);
                    judged.map_or_else(disagrees, |claim| Event::Claimed { claim })
                }
                (Some(Ok(data)), _) => told(it, &data),
                (Some(Err(_)) | None, _) => Event::NotTold,
            };
        }
        let deposit = &self.cases[n].deposit;
        if deposit.paid.is_none() {
            let is_seen_to =
                matches!(deposit.state, DepositState::Review(_) | DepositState::Rejected(_));
            return if is_seen_to { disagrees(Reason::NothingPaid) } else { Event::NotTold };
        }
        let of = transaction_id(deposit);
        let (Some(Ok(data)), _) = self.call(Call::FetchDispute(id.clone())) else {
            return Event::NotTold;
        };
        let said = DisputeSaid::read(object(&data));
        let mut listed = Vec::new();
        if said.is_told_by_payment() {
            let Some(found) = self.list_refunds(("transaction", of)) else { return Event::NotTold };
            listed = found.iter().map(|it| RefundSaid::read(object(it))).collect();
        }
        let judged = judge_dispute(it, &said, Domain::Test, has_others(it, &all, &listed));
        judged.map_or_else(disagrees, |claim: Contested| Event::Claimed { claim })
    }

    /// A person looks at a return in review, and at Paystack's own pages.
    fn operate_return(&mut self, n: usize, k: usize) {
        let it = self.cases[n].returns[k].0.clone();
        if !matches!(it.state, State::Review(_)) {
            return;
        }
        let went_back = match it.kind {
            Kind::Refund | Kind::FoundRefund => self.refund_at_paystack(&it),
            Kind::Dispute => self.dispute_at_paystack(&it),
        };
        match went_back {
            Some(0) => drop(self.happens(n, k, Event::Rejected)),
            Some(_) if self.cases[n].deposit.paid.is_none() => {
                self.happens(n, k, Event::Rejected);
            }
            Some(minor) => {
                self.happens(n, k, Event::Accepted { amount: Some(amount(minor)) });
            }
            None => self.attend_soon(&it),
        }
        if matches!(self.cases[n].returns[k].0.state, State::Review(_)) {
            let at = self.within(5_000);
            self.schedule(at, Todo::Later(Later::OperateReturn(n, k)));
        }
    }

    /// How much of a refund went back; none while that is open.
    fn refund_at_paystack(&self, it: &Return) -> Option<u64> {
        let tag = it.tag();
        let is_it = |found: &&Refund| match it.kind {
            Kind::FoundRefund => it.provider_id == Some(found.id.to_string()),
            Kind::Refund | Kind::Dispute => found.merchant_note == tag,
        };
        let Some(found) = self.paystack.refunds().find(is_it) else { return Some(0) };
        match found.status {
            RefundStatus::Processed => Some(found.amount),
            RefundStatus::Failed => Some(0),
            RefundStatus::Pending | RefundStatus::Processing | RefundStatus::NeedsAttention => None,
        }
    }

    /// How much of a dispute went back; none while that is open.
    fn dispute_at_paystack(&self, it: &Return) -> Option<u64> {
        let is_it = |id: u64| it.provider_id.as_deref() == Some(id.to_string().as_str());
        let found = self.paystack.disputes().find(|found| is_it(found.id))?;
        (found.status == DisputeStatus::Resolved).then_some(found.lost_amount)
    }

    /// Whether every return of a deposit ended as Paystack's own record says; what the wallet was
    /// credited with by its balance, whatever left it since.
    pub(super) fn judge_returns(&self, case: &Case) -> Result<i64, String> {
        let (wallet, shop) = (case.deposit.account_id, case.shop);
        if self.ledger.held(wallet) != 0 {
            return Err(format!("{} are held for nothing", self.ledger.held(wallet)));
        }
        let of = self.paystack.find(case.deposit.attempt.reference.as_str());
        if let Some(of) = of.filter(|it| it.status.is_paid()) {
            let went_back: u64 = self
                .paystack
                .refunds()
                .filter(|it| it.transaction_id == of.id && it.status == RefundStatus::Processed)
                .map(|it| it.amount)
                .chain(
                    self.paystack
                        .disputes()
                        .filter(|it| it.transaction_id == of.id)
                        .map(|it| it.lost_amount),
                )
                .sum();
            let taken = returned_minor(case.returns.iter().map(|(it, _)| it));
            let booked = case.deposit.paid.as_ref().map_or(0, |it| it.amount.minor());
            if of.amount - went_back != booked - taken {
                let there = format!("{} paid and {went_back} back at Paystack", of.amount);
                return Err(format!("{there}, {booked} booked and {taken} taken here"));
            }
        }
        let mut credited = self.ledger.balance(wallet) + self.ledger.balance(shop);
        for (it, _) in &case.returns {
            let there = match it.kind {
                Kind::Refund | Kind::FoundRefund => self.refund_at_paystack(it),
                Kind::Dispute => self.dispute_at_paystack(it),
            };
            let there = there.ok_or_else(|| format!("open at Paystack: {it:#?}"))?;
            let taken = it.taken.filter(|_| it.state == State::Returned);
            let here = taken.map_or(0, primitives::Amount::minor);
            let is_booked = case.deposit.paid.is_some();
            if !it.state.is_end() || (is_booked && here != there) {
                return Err(format!("{here} went back, {there} at Paystack: {it:#?}"));
            }
            let n_there =
                self.paystack.refunds().filter(|found| found.merchant_note == it.tag()).count();
            if n_there > 1 {
                return Err(format!("{n_there} refunds instead of one: {it:#?}"));
            }
            if !it.is_uncovered_loss() && it.payment.source != Source::Suspense {
                credited += i64::try_from(here).unwrap_or(i64::MAX);
            }
        }
        Ok(credited)
    }

    /// Whether the clearing accounts say what Paystack owes us, and the suspense accounts what no
    /// wallet has.
    pub(super) fn judge_sums(&mut self) -> Result<(), String> {
        let totals = self.paystack.totals();
        for currency in CURRENCIES {
            let owed = totals.get(currency.as_str()).map_or(0, |it| it.owed);
            // Lost before it was booked: Paystack's record has both, ours neither.
            let clearing = self.ledger.system(System::PaystackClearing, currency);
            if -clearing != owed {
                return Err(format!("{currency}: {clearing} in clearing, {owed} owed"));
            }
            let mut suspense = 0;
            for case in &self.cases {
                let deposit = &case.deposit;
                let is_put_aside = matches!(deposit.suspense, Suspense::Held | Suspense::Left)
                    && deposit.state != DepositState::Credited;
                let paid = deposit.paid.as_ref();
                let paid = paid.filter(|it| is_put_aside && it.currency == currency);
                suspense += paid.map_or(0, |it| it.amount.to_i64());
                let of_it = |it: &&(Return, _)| it.0.payment.currency == currency;
                for (it, _) in case.returns.iter().filter(of_it) {
                    let went = it.taken.filter(|_| it.state == State::Returned);
                    if it.is_uncovered_loss() || it.payment.source == Source::Suspense {
                        suspense -= went.map_or(0, primitives::Amount::to_i64);
                    }
                }
            }
            let found = self.ledger.system(System::Suspense, currency);
            if found != suspense {
                return Err(format!("{currency}: {found} in suspense, {suspense} expected"));
            }
        }
        self.tally_returns();
        Ok(())
    }

    fn tally_returns(&mut self) {
        for (it, _) in self.cases.iter().flat_map(|it| &it.returns) {
            let is_back = it.state == State::Returned;
            self.tally.n_refunded += u64::from(is_back && it.kind == Kind::Refund);
            self.tally.n_found += u64::from(is_back && it.kind == Kind::FoundRefund);
            self.tally.n_lost_disputes += u64::from(is_back && it.kind == Kind::Dispute);
            self.tally.n_kept += u64::from(it.state == State::Kept);
            self.tally.n_uncovered += u64::from(it.is_uncovered_loss());
        }
    }
}

fn transaction_id(deposit: &Deposit) -> String {
    let paid = deposit.paid.as_ref().expect("it is refunded");
    paid.provider_id.clone().expect("Paystack said it")
}

fn object(data: &Value) -> &Map<String, Value> {
    data.as_object().expect("an object")
}

fn told(it: &Return, data: &Value) -> Event {
    let said = RefundSaid::read(object(data));
    let word = judge_refund(it, &said, Domain::Test);
    Event::Told { provider_id: said.id.expect("an id"), word }
}
