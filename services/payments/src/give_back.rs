//! Takes up refunds and disputes that are due and does what is to be done: has the ledger hold, take
//! and give back, asks Paystack for refunds and how things stand.
//!
//! As in [`crate::drive`], a worker holds nothing while it waits for an answer, and every step is
//! decided again from the locked row.

use std::sync::Arc;
use std::time::Duration;

use bus::ask::Asker;
use primitives::{DepositId, ReturnId, Timestamp, TransferId};
use proto_events::ledger::v1::Command;
use proto_events::subjects;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::desk::{Desk, chain};
use crate::drive::{Queue, Said, decisive, said};
use crate::lifecycle::Deposit;
use crate::paystack::returns::AskRefund;
use crate::paystack::{self, Client};
use crate::returns::{
    DisputeSaid, Effect, Event, Kind, Reason, RefundSaid, Return, Word, Work, has_others,
    judge_dispute, judge_found_refund, judge_refund,
};
use crate::store::deposits::{self, Claim};
use crate::store::{self, returns};
use crate::wire;

/// What a worker needs.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    /// Where steps are taken.
    pub(crate) desk: Desk,
    /// Who has the money.
    pub(crate) paystack: Arc<Client>,
    /// Who has the books.
    pub(crate) ledger: Asker,
    /// How long the ledger may take to answer.
    pub(crate) wait: Duration,
}

/// Which return of which deposit.
pub(crate) type Ids = (DepositId, ReturnId);

/// Refunds and disputes that are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Returns;

impl Queue for Returns {
    type Item = Ids;

    async fn claim(
        &self,
        pool: &PgPool,
        now: Timestamp,
        until: Timestamp,
        room: i64,
    ) -> Result<Vec<Ids>, store::Error> {
        returns::claim(pool, now, until, room).await
    }

    fn bell<'a>(&self, desk: &'a Desk) -> &'a Notify {
        &desk.bells.give_back
    }
}

/// Does what is to be done for one return.
pub(crate) async fn give_back(worker: Worker, ids: Ids) {
    if let Err(error) = worker.work(ids).await {
        let error = chain(&error);
        tracing::error!(deposit.id = %ids.0, error, "failed to work on return {}", ids.1);
    }
}

impl Worker {
    async fn work(&self, ids: Ids) -> Result<(), store::Error> {
        let pool = &self.desk.pool;
        let Some(deposit) = deposits::load(pool, ids.0).await? else { return Ok(()) };
        let all = returns::of_deposit(pool, ids.0).await?;
        let Some(it) = all.iter().find(|it| it.return_id == ids.1) else { return Ok(()) };
        let it = &it.as_of(&deposit);
        let event = match it.work() {
            Work::Hold => self.hold(it).await,
            Work::Ask => return self.ask(ids, &deposit).await,
            Work::Find => self.find(it, &deposit).await,
            Work::Look => self.look(it, &deposit, &all).await,
            Work::Take => self.moved(it, wire::returns::take(it)).await,
            Work::Release => self.moved(it, Some(wire::returns::release(it))).await,
            Work::Rest => return returns::release(pool, ids.1).await,
        };
        self.desk.return_happens(ids, event, Claim::Release).await?;
        Ok(())
    }

    async fn hold(&self, it: &Return) -> Event {
        match self.post(it, wire::returns::hold(it)).await {
            Said::Done => Event::HoldPosted { n: it.n_holds },
            Said::Refused(why) => Event::HoldRefused { n: it.n_holds, why },
            Said::Nothing => Event::HoldUnknown,
        }
    }

    async fn moved(&self, it: &Return, command: Option<(TransferId, Command)>) -> Event {
        match self.post(it, command).await {
            Said::Done => Event::Moved { n: it.n_refused },
            Said::Refused(why) => Event::MoveRefused { n: it.n_refused, why },
            Said::Nothing => Event::MoveUnknown,
        }
    }

    async fn post(&self, it: &Return, command: Option<(TransferId, Command)>) -> Said {
        let Some((transfer_id, command)) = command else {
            // The rules never ask for that.
            tracing::error!(return.id = %it.return_id, "a return of an unknown amount is to move");
            return Said::Nothing;
        };
        let answer = self.ledger.command(subjects::ledger::POST_ANY, &command, self.wait).await;
        said(it.payment.deposit_id, transfer_id, decisive(answer))
    }

    /// Stores that Paystack is about to be asked, and asks.
    async fn ask(&self, ids: Ids, deposit: &Deposit) -> Result<(), store::Error> {
        let asking = self.desk.return_happens(ids, Event::Asking, Claim::Keep).await?;
        let Some(asking) = asking.filter(|it| it.effects.contains(&Effect::Ask)) else {
            return returns::release(&self.desk.pool, ids.1).await;
        };
        let event = self.asked(&asking.after, deposit).await;
        self.desk.return_happens(ids, event, Claim::Release).await?;
        Ok(())
    }

    async fn asked(&self, it: &Return, deposit: &Deposit) -> Event {
        let (Some(transaction_id), Some(amount)) = (transaction_id(deposit), it.amount) else {
            return Event::AskRefused { why: "payment_unknown".to_owned() };
        };
        let (currency, tag) = (it.payment.currency, &it.tag());
        let asked = AskRefund { transaction_id, amount, currency, tag };
        match self.paystack.refund(&asked).await {
            Ok(said) => self.refund_said(it, said).unwrap_or(Event::AskUnknown),
            Err(error) => {
                let text = chain(&error);
                tracing::warn!(return.id = %it.return_id, error = text, "no refund");
                let may_have_happened = error.may_have_happened();
                if let paystack::Error::Refused { code, .. } = error {
                    Event::AskRefused { why: code }
                } else if may_have_happened {
                    Event::AskUnknown
                } else {
                    Event::AskHeldBack
                }
            }
        }
    }

    /// Looks for a refund that may have been made.
    async fn find(&self, it: &Return, deposit: &Deposit) -> Event {
        let Some(transaction_id) = transaction_id(deposit) else { return Event::NotTold };
        let tag = it.tag();
        match self.paystack.refunds_of(transaction_id).await {
            Ok(all) => {
                let ours = all.into_iter().find(|it| it.merchant_note.as_deref() == Some(&*tag));
                ours.map_or(Event::Absent, |said| {
                    self.refund_said(it, said).unwrap_or(Event::NotTold)
                })
            }
            Err(error) => not_told(it, &error),
        }
    }

    async fn look(&self, it: &Return, deposit: &Deposit, all: &[Return]) -> Event {
        let Some(id) = &it.provider_id else { return Event::NotTold };
        match it.kind {
            Kind::Refund => match self.paystack.fetch_refund(id).await {
                Ok(said) => self.refund_said(it, said).unwrap_or(Event::NotTold),
                Err(error) => not_told(it, &error),
            },
            Kind::FoundRefund => match self.paystack.fetch_refund(id).await {
                Ok(said) => claimed(id, judge_found_refund(it, &said, self.desk.domain, all)),
                Err(error) => not_told(it, &error),
            },
            Kind::Dispute => self.look_at_dispute(it, id, deposit, all).await,
        }
    }

    async fn look_at_dispute(
        &self,
        it: &Return,
        id: &str,
        deposit: &Deposit,
        all: &[Return],
    ) -> Event {
        if deposit.paid.is_none() {
            // Perhaps verify has not answered yet; what a person looks at is not paid.
            let is_seen_to = deposit.state.reason().is_some();
            let nothing_paid = claimed(id, Err(Reason::NothingPaid));
            return if is_seen_to { nothing_paid } else { Event::NotTold };
        }
        match self.dispute_said(it, id, deposit, all).await {
            Ok((said, has_others)) => {
                claimed(id, judge_dispute(it, &said, self.desk.domain, has_others))
            }
            Err(error) => not_told(it, &error),
        }
    }

    /// What Paystack says of a dispute, and whether money may have gone back by anything else.
    async fn dispute_said(
        &self,
        it: &Return,
        id: &str,
        deposit: &Deposit,
        all: &[Return],
    ) -> Result<(DisputeSaid, bool), paystack::Error> {
        let said = self.paystack.fetch_dispute(id).await?;
        // Asked after the dispute, so that what reversed the payment is there.
        let listed = match transaction_id(deposit) {
            Some(of) if said.is_told_by_payment() => self.paystack.refunds_of(of).await?,
            Some(_) | None => Vec::new(),
        };
        let has_others = has_others(it, all, &listed);
        Ok((said, has_others))
    }

    /// What Paystack says of a refund; none if it does not say which one it is.
    fn refund_said(&self, it: &Return, said: RefundSaid) -> Option<Event> {
        let word = judge_refund(it, &said, self.desk.domain);
        Some(Event::Told { provider_id: said.id?, word })
    }
}

/// What Paystack says of a return that others began.
fn claimed(id: &str, judged: Result<crate::returns::Claim, Reason>) -> Event {
    match judged {
        Ok(claim) => Event::Claimed { claim },
        Err(reason) => Event::Told { provider_id: id.to_owned(), word: Word::Disagrees(reason) },
    }
}

/// Paystack's id of what was paid.
fn transaction_id(deposit: &Deposit) -> Option<&str> {
    deposit.paid.as_ref()?.provider_id.as_deref()
}

fn not_told(it: &Return, error: &paystack::Error) -> Event {
    let (id, error) = (it.return_id, chain(error));
    tracing::warn!(return.id = %id, error, "failed to ask how {} {id} stands", it.kind.name());
    Event::NotTold
}
