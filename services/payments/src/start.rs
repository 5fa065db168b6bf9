//! Commands: stores the intent of a deposit, or answers from what is stored.
//!
//! The intent is durable before Paystack hears of it. Who asked waits in a row, not in memory, so an
//! answer can come from whichever process gets it. The same key and content always lead to the same
//! deposit; a no that depends on nothing but the request is kept, a no of the weather is not.

use std::sync::Arc;
use std::time::Duration;

use bus::follow::{Answer, Delivery, HandleError, Handler};
use primitives::{Amount, Currency, DepositId, Timestamp, TransferId};
use proto_events::convert::Malformed;
use proto_events::payments::v1::DepositRefusal;
use sqlx::PgConnection;

use crate::desk::Desk;
use crate::lifecycle::{Deposit, Event, Intent, Step};
use crate::store::deposits::{self, Claim, Contact};
use crate::store::requests::{self, Decision, Request};
use crate::store::{Error, waiters};
use crate::wire::{self, Start};

/// The most that Paystack takes in one payment: 10,000,000 major units of a currency with two decimals.
pub const AMOUNT_MINOR_MAX: u64 = 1_000_000_000;
/// The least that Paystack takes in one payment, by currency; of others it is not known.
const AMOUNTS_MINOR_MIN: [(&str, u64); 6] =
    [("GHS", 10), ("KES", 300), ("NGN", 5_000), ("USD", 200), ("XOF", 100), ("ZAR", 100)];
/// How long somebody who named no deadline is taken to listen.
const LISTENS_FOR: Duration = Duration::from_secs(60);

/// What a deposit begins with that its command does not say.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// What our Paystack account takes.
    pub(crate) currencies: Arc<[Currency]>,
    /// Where the browser goes when the command names no place.
    pub(crate) default_callback_url: Option<String>,
    /// See [`Deposit::abandon_at`].
    pub(crate) abandon_after: Duration,
    /// See [`Deposit::forget_at`].
    pub(crate) forget_after: Duration,
}

/// Uses [`proto_events::payments::v1::StartDeposit`].
pub(crate) struct Starter {
    pub(crate) desk: Desk,
    pub(crate) terms: Terms,
    /// Steps of a batch that is not committed yet.
    pub(crate) taken: Vec<Step>,
    /// Somebody has something to do after the commit.
    pub(crate) has_news: bool,
}

impl Handler for Starter {
    async fn handle(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        let mut answers = Vec::with_capacity(batch.len());
        for delivery in batch {
            let answer = match wire::start(&delivery.payload) {
                Ok(start) => self.start(conn, &start, delivery, now).await,
                Err(malformed) => Ok(park(&malformed)),
            };
            answers.push(answer.map_err(HandleError::retry)?);
        }
        Ok(answers)
    }

    fn committed(&mut self) {
        for step in self.taken.drain(..) {
            self.desk.committed(&step);
        }
        if std::mem::take(&mut self.has_news) {
            self.desk.bells.initialize.notify_one();
        }
    }

    fn rolled_back(&mut self) {
        self.taken.clear();
        self.has_news = false;
    }
}

fn park(malformed: &Malformed) -> Answer {
    let reply = wire::refused(DepositRefusal::Malformed.into(), false);
    Answer::Park { reason: malformed.to_string(), reply: Some(reply) }
}

fn no(refusal: DepositRefusal) -> Answer {
    Answer::Reply(wire::refused(refusal.into(), false))
}

impl Starter {
    async fn start(
        &mut self,
        conn: &mut PgConnection,
        start: &Start,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        match earlier(conn, start).await? {
            Some(request) if request.digest != start.request_digest => {
                Ok(no(DepositRefusal::IdempotencyKeyReused))
            }
            Some(Request { decision: Decision::Refusal(refusal), .. }) => {
                Ok(Answer::Reply(wire::refused(refusal, true)))
            }
            Some(Request { decision: Decision::Deposit(deposit_id), .. }) => {
                self.repeat(conn, deposit_id, start, delivery, now).await
            }
            // Nothing was begun, so nothing needs to be remembered: whoever still wants it asks.
            None if start.deadline_at.is_some_and(|deadline| deadline <= now) => {
                Ok(no(DepositRefusal::DeadlineExceeded))
            }
            None => match self.refusal(start.amount, start.currency) {
                Some(refusal) => {
                    let decision = Decision::Refusal(refusal.into());
                    keep(conn, start, decision, now).await?;
                    Ok(no(refusal))
                }
                None => self.begin(conn, start, delivery, now).await,
            },
        }
    }

    /// What Paystack would refuse whenever it is asked.
    fn refusal(&self, amount: Amount, currency: Currency) -> Option<DepositRefusal> {
        let least = AMOUNTS_MINOR_MIN.iter().find(|(code, _)| *code == currency.as_str());
        if amount.minor() > AMOUNT_MINOR_MAX || least.is_some_and(|(_, it)| amount.minor() < *it) {
            Some(DepositRefusal::LimitExceeded)
        } else if !self.terms.currencies.contains(&currency) {
            Some(DepositRefusal::CurrencyMismatch)
        } else {
            None
        }
    }

    async fn begin(
        &mut self,
        conn: &mut PgConnection,
        start: &Start,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let intent = Intent {
            account_id: start.account_id,
            amount: start.amount,
            currency: start.currency,
            wait_until: start.deadline_at,
            abandon_at: now.plus(self.terms.abandon_after),
            forget_at: now.plus(self.terms.forget_after),
        };
        let deposit = Deposit::intent((start.deposit_id, TransferId::generate()), intent, now);
        let contact = Contact {
            email: start.email.clone(),
            callback_url: start
                .callback_url
                .clone()
                .or_else(|| self.terms.default_callback_url.clone()),
        };
        deposits::insert(&mut *conn, &deposit, &contact, &start.request_digest).await?;
        keep(&mut *conn, start, Decision::Deposit(start.deposit_id), now).await?;
        wait(conn, start.deposit_id, start, delivery, false, now).await?;
        self.has_news = true;
        Ok(Answer::Silent)
    }

    /// The same request again: the checkout that is there, the one on its way, or another attempt.
    async fn repeat(
        &mut self,
        conn: &mut PgConnection,
        deposit_id: DepositId,
        start: &Start,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let Some(deposit) = deposits::lock(&mut *conn, deposit_id).await? else {
            return Err(Error::Corrupt("request without a deposit"));
        };
        if deposit.account_id != start.account_id {
            return Ok(no(DepositRefusal::IdempotencyKeyReused));
        }
        let is_late = start.deadline_at.is_some_and(|deadline| deadline <= now);
        if deposit.checkout.is_none() && is_late {
            return Ok(no(DepositRefusal::DeadlineExceeded));
        }
        let again = Event::AskedAgain { wait_until: start.deadline_at };
        let step = self.desk.take(&mut *conn, &deposit, again, Claim::Keep, now).await?;
        let answer = match step.deposit.answer() {
            Some(answer) => Answer::Reply(wire::started(&answer, true)),
            None => {
                // Whose first asking failed gets a first answer.
                let is_replay = step.deposit.attempt.number == deposit.attempt.number;
                wait(conn, deposit_id, start, delivery, is_replay, now).await?;
                Answer::Silent
            }
        };
        self.taken.push(step);
        Ok(answer)
    }
}

/// What was decided before under the same key, or without one under the same id.
async fn earlier(conn: &mut PgConnection, start: &Start) -> Result<Option<Request>, Error> {
    if let Some(key) = start.request_key
        && let Some(request) = requests::find(&mut *conn, key).await?
    {
        return Ok(Some(request));
    }
    let decision = Decision::Deposit(start.deposit_id);
    let digest = deposits::digest(conn, start.deposit_id).await?;
    Ok(digest.map(|digest| match start.request_key {
        None => Request { digest, decision },
        // The id belongs to a request under another key, or under none.
        Some(_) => Request { digest: Vec::new(), decision },
    }))
}

async fn keep(
    conn: &mut PgConnection,
    start: &Start,
    decision: Decision,
    now: Timestamp,
) -> Result<(), Error> {
    match start.request_key {
        Some(key) => requests::insert(conn, key, &start.request_digest, decision, now).await,
        None => Ok(()),
    }
}

async fn wait(
    conn: &mut PgConnection,
    deposit_id: DepositId,
    start: &Start,
    delivery: &Delivery,
    is_replay: bool,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(reply) = &delivery.reply else { return Ok(()) };
    let listens_until = start.deadline_at.unwrap_or_else(|| now.plus(LISTENS_FOR));
    waiters::insert(conn, deposit_id, &reply.to_text(), is_replay, listens_until).await
}
