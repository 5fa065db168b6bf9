//! What an operator does: looks at a deposit's life, and decides what nobody else may.
//!
//! `payments inspect`, `payments review` and `payments refund` talk to the database, not to the running service: what
//! is decided is taken up by whichever process looks next, within a second.

mod giving_back;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use chassis::{Configure as _, Logging, postgres};
use primitives::{DepositId, ReturnId, Timestamp};

use crate::desk::Desk;
use crate::lifecycle::{Deposit, Event, State, Suspense};
use crate::reference::Reference;
use crate::returns::{Return, Since, committed_minor};
use crate::store::decisions::{self, About, What};
use crate::store::deposits::{self, Claim};
use crate::store::returns;
use crate::{Config, ORIGIN, desk};
use giving_back::described_return;

/// Most lines that a list has.
const LIST_MAX: i64 = 500;
/// Connections of a command that does one thing.
const CONNECTIONS: u32 = 2;
/// It was refused, for a reason that was said.
const EXIT_REFUSED: u8 = 1;
/// It could not be done.
const EXIT_FAILED: u8 = 2;
const WHO_CHARS_MAX: usize = 200;
const WHY_CHARS_MAX: usize = 2_000;

/// What the payments service can do beside what every service can.
#[derive(Debug, clap::Subcommand)]
#[command(about = "Money in through Paystack: deposits from the intent to the credit")]
pub enum Verb {
    /// Tells the life of one deposit, by any of its references.
    Inspect(Inspect),
    /// Shows what waits for a person, and takes that person's decision.
    #[command(subcommand)]
    Review(Review),
    /// Gives what was paid for a deposit back to whoever paid it, through Paystack.
    Refund(Refund),
}

/// What `payments inspect` takes.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// The reference, as callers and Paystack know it.
    reference: String,
    #[command(flatten)]
    common: Common,
}

/// What `payments review` does.
#[derive(Debug, clap::Subcommand)]
pub enum Review {
    /// Lists deposits, refunds, disputes and webhooks that wait for a person, oldest first.
    List(Common),
    /// Has what was paid for a deposit credited from the suspense account; if nothing is known to be
    /// paid, has Paystack asked once more. Of a refund or a dispute: says that the money went back.
    Accept(Decision),
    /// Says that a deposit is never credited; what was paid stays on the suspense account. Of a
    /// refund or a dispute: says that the money did not go back.
    Reject(Decision),
    /// Says that a parked webhook, or a refund or a dispute that cost us, has been seen to; it changes
    /// nothing else.
    Dismiss(Dismissal),
}

/// A decision.
#[derive(Debug, clap::Args)]
pub struct Decision {
    /// The deposit's reference, or the id of a refund or a dispute (`ret_…`).
    name: String,
    /// How much of a refund or a dispute went back, in minor units, if not all of it.
    #[arg(long, value_name = "MINOR")]
    amount: Option<u64>,
    #[command(flatten)]
    signature: Signature,
    #[command(flatten)]
    common: Common,
}

/// That something has been seen to.
#[derive(Debug, clap::Args)]
pub struct Dismissal {
    /// The webhook's number in the list, or the id of a refund or a dispute (`ret_…`).
    name: String,
    #[command(flatten)]
    signature: Signature,
    #[command(flatten)]
    common: Common,
}

/// What `payments refund` takes.
#[derive(Debug, clap::Args)]
pub struct Refund {
    /// The deposit's reference.
    reference: String,
    /// How much, in minor units; what is left of the payment if it is not said.
    #[arg(long, value_name = "MINOR")]
    amount: Option<u64>,
    /// Also if a refund of the same amount is under way.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    signature: Signature,
    #[command(flatten)]
    common: Common,
}

/// Who decides, and why.
#[derive(Debug, clap::Args)]
pub struct Signature {
    /// Who decides or asks.
    #[arg(long, value_name = "NAME")]
    who: String,
    /// Why; kept for ever.
    #[arg(long, value_name = "TEXT")]
    why: String,
}

impl Signature {
    pub(crate) fn parts(&self) -> (&str, &str) {
        (&self.who, &self.why)
    }
}

/// What every one of them takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    config: Config,
}

/// A decision cannot be taken now. The sentences are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such deposit.
    #[error("no deposit has this reference")]
    Unknown,
    /// There is no such return.
    #[error("no refund or dispute has this id")]
    UnknownReturn,
    /// There is no such webhook, or it does not wait for a person.
    #[error("no webhook of this number, nor a refund or a dispute of this id, waits for a person")]
    NotParked,
    /// It does not wait for a person.
    #[error("the deposit is {0}: nothing is to be decided")]
    NotInReview(&'static str),
    /// Its money is not put aside yet.
    #[error("what was paid is still on its way to the suspense account: try again in a moment")]
    NotPutAside,
    /// What was paid is of another currency than the wallet.
    #[error("what was paid is of another currency than the wallet: it can only be rejected")]
    OtherCurrency,
    /// A refund or a dispute does not wait for a person.
    #[error("it is {0}: nothing is to be decided")]
    ReturnNotInReview(&'static str),
    /// How much went back is not said, or cannot be.
    #[error("say how much went back (--amount): at most {0} in minor units")]
    AmountNeeded(u64),
    /// No wallet was credited, and nothing is kept for the payer.
    #[error(
        "the deposit is {0}: only what was credited, or rejected with its money put aside, is refunded"
    )]
    NotRefundable(&'static str),
    /// Paystack never said what it calls the payment.
    #[error("paystack's id of the payment is not known: refund it there")]
    PaymentUnknown,
    /// Less is left of the payment.
    #[error("{0} are left of the payment, in minor units")]
    TooMuch(u64),
    /// The same again, perhaps by mistake.
    #[error(
        "{0} is a refund of the same amount and under way: say --again if another one is meant"
    )]
    AlreadyRefunding(ReturnId),
    /// Nobody said who, or why.
    #[error("say who decides (at most 200 characters) and why (at most 2,000)")]
    NotSigned,
    /// Its money is the payer's again, or claimed.
    #[error("what was paid is the payer's again, or a refund or a dispute claims it")]
    GivenBack,
    /// It has been tried too often.
    #[error("it has been accepted too often: find out why the ledger refuses it")]
    TooOften,
}

/// Does it, and says how it ended: 0, 1 if it was refused, 2 if it could not be done.
#[must_use]
pub fn run(verb: Verb) -> ExitCode {
    let common = match &verb {
        Verb::Inspect(Inspect { common, .. })
        | Verb::Refund(Refund { common, .. })
        | Verb::Review(
            Review::List(common)
            | Review::Accept(Decision { common, .. })
            | Review::Reject(Decision { common, .. })
            | Review::Dismiss(Dismissal { common, .. }),
        ) => common,
    };
    if let Err(code) = chassis::check(ORIGIN, [common.logging.check(), common.config.check()]) {
        return code;
    }
    let (logging, config) = (common.logging.clone(), common.config.clone());
    let ended = chassis::within(ORIGIN, &logging, async {
        match operate(verb, config).await {
            Ok(Ok(text)) => say(&text, ExitCode::SUCCESS),
            Ok(Err(refused)) => say(&format!("{refused}\n"), ExitCode::from(EXIT_REFUSED)),
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::from(EXIT_FAILED)
            }
        }
    });
    ended.unwrap_or_else(|_| ExitCode::from(EXIT_FAILED))
}

fn say(text: &str, code: ExitCode) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

async fn operate(verb: Verb, config: Config) -> anyhow::Result<Result<String, Refused>> {
    let operator = Operator::connect(&config).await?;
    match verb {
        Verb::Inspect(it) => operator.inspect(&it.reference).await,
        Verb::Review(Review::List(_)) => operator.list().await.map(Ok),
        Verb::Review(Review::Accept(it)) => {
            operator.accept(&it.name, it.amount, it.signature.parts()).await
        }
        Verb::Review(Review::Reject(it)) => operator.reject(&it.name, it.signature.parts()).await,
        Verb::Review(Review::Dismiss(it)) => operator.dismiss(&it.name, it.signature.parts()).await,
        Verb::Refund(it) => {
            let signed = it.signature.parts();
            operator.refund(&it.reference, it.amount, it.again, signed).await
        }
    }
}

/// An operator at work. What is said is for people.
#[derive(Debug)]
pub struct Operator(Desk);

impl Operator {
    /// Connects to the service's database.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(config: &Config) -> anyhow::Result<Self> {
        let url = &config.database_url;
        let pool = postgres::connect(url, "payments-operator", CONNECTIONS).await?;
        Ok(Self(desk(config, pool)?))
    }

    /// The life of a deposit, a line for everything that happened.
    ///
    /// # Errors
    /// When Postgres fails. That there is no such deposit is the inner error.
    pub async fn inspect(&self, reference: &str) -> anyhow::Result<Result<String, Refused>> {
        let pool = &self.0.pool;
        let Some(deposit_id) = self.find(reference).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let Some(deposit) = deposits::load(pool, deposit_id).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let all = returns::of_deposit(pool, deposit_id).await?;
        let mut text = format!("{deposit_id} is {}\n", described(&deposit, &all));
        if let Some(moved) = moved(&deposit) {
            writeln!(text, "{moved}")?;
        }
        for it in &all {
            writeln!(text, "{}", described_return(it))?;
        }
        for moment in decisions::life(pool, deposit_id).await? {
            writeln!(text, "{}  {}", Timestamp::from_datetime(moment.at), moment.what)?;
        }
        Ok(Ok(text))
    }

    /// Deposits, refunds, disputes and webhooks that wait for a person, a line each.
    ///
    /// # Errors
    /// When Postgres fails.
    pub async fn list(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for it in decisions::waiting(&self.0.pool, LIST_MAX).await? {
            let since = it.since.map(|at| Timestamp::from_datetime(at).to_string());
            let paid = match (it.paid_minor, it.paid_currency) {
                (Some(minor), Some(currency)) => {
                    format!("{minor} {currency} paid, {}", it.suspense)
                }
                (_, _) => "nothing known to be paid".to_owned(),
            };
            let (reference, reason, since) = (it.reference, it.reason, since.unwrap_or_default());
            let asked = format!("{} {} asked for", it.amount_minor, it.currency);
            writeln!(text, "deposit {reference}  {reason}  {asked}, {paid}  {since}")?;
        }
        text.push_str(&self.list_returns().await?);
        for it in decisions::parked(&self.0.pool, LIST_MAX).await? {
            let (event, reason) = (it.event.unwrap_or_default(), it.reason.unwrap_or_default());
            let (id, reference) = (it.webhook_id, it.reference.unwrap_or_default());
            let at = Timestamp::from_datetime(it.received_at);
            writeln!(text, "webhook {id}  {reason}  {event} {reference}  {at}")?;
        }
        if text.is_empty() {
            text.push_str("nothing waits for a person\n");
        }
        Ok(text)
    }

    /// Has what was paid for a deposit credited from the suspense account; if nothing is known to be
    /// paid, has Paystack asked once more. Of a return: says that so much went back, in minor units.
    /// `signed` is who and why.
    ///
    /// # Errors
    /// When Postgres fails. What cannot be decided now is the inner error.
    pub async fn accept(
        &self,
        name: &str,
        amount_minor: Option<u64>,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        if let Ok(return_id) = ReturnId::parse(name) {
            return self.went_back(return_id, amount_minor, signed).await;
        }
        let until = Timestamp::now().plus(self.0.confirm_for);
        self.decide(name, Event::Accepted { until }, signed).await
    }

    /// Says that a deposit is never credited, or that nothing of a return went back. `signed` is who
    /// and why.
    ///
    /// # Errors
    /// As [`Operator::accept`].
    pub async fn reject(
        &self,
        name: &str,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        if let Ok(return_id) = ReturnId::parse(name) {
            return self.did_not_go_back(return_id, signed).await;
        }
        self.decide(name, Event::Rejected, signed).await
    }

    /// Says that a parked webhook, or a dispute that cost us, has been seen to. `signed` is who and
    /// why.
    ///
    /// # Errors
    /// As [`Operator::accept`].
    pub async fn dismiss(
        &self,
        name: &str,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        let Some(signed) = signature(signed) else { return Ok(Err(Refused::NotSigned)) };
        if let Ok(return_id) = ReturnId::parse(name) {
            return self.dismiss_loss(return_id, signed).await;
        }
        let Ok(webhook_id) = name.parse() else { return Ok(Err(Refused::NotParked)) };
        let mut tx = self.0.pool.begin().await.context("failed to begin")?;
        if !decisions::lock_parked(&mut tx, webhook_id).await? {
            return Ok(Err(Refused::NotParked));
        }
        let (about, now) = (About::Webhook(webhook_id), Timestamp::now());
        decisions::insert(&mut tx, about, What::Dismiss, signed, now).await?;
        decisions::dismiss(&mut tx, webhook_id).await?;
        tx.commit().await.context("failed to commit")?;
        Ok(Ok(format!("webhook {webhook_id} is dismissed\n")))
    }

    async fn find(&self, reference: &str) -> anyhow::Result<Option<DepositId>> {
        let Ok(reference) = Reference::parse(reference) else { return Ok(None) };
        let mut conn = self.0.pool.acquire().await.context("failed to connect")?;
        Ok(deposits::of_reference(&mut conn, &reference).await?)
    }

    /// Takes a decision, with what follows from it, in one transaction.
    async fn decide(
        &self,
        reference: &str,
        event: Event,
        signed: (&str, &str),
    ) -> anyhow::Result<Result<String, Refused>> {
        let desk = &self.0;
        let Some(signed) = signature(signed) else { return Ok(Err(Refused::NotSigned)) };
        let Some(deposit_id) = self.find(reference).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let now = Timestamp::now();
        let mut tx = desk.pool.begin().await.context("failed to begin")?;
        let Some(deposit) = deposits::lock(&mut tx, deposit_id).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let what = if event == Event::Rejected { What::Reject } else { What::Accept };
        let all = returns::of_deposit(&mut *tx, deposit_id).await?;
        if let Some(refused) = refusal(&deposit, &all, what) {
            return Ok(Err(refused));
        }
        decisions::insert(&mut tx, About::Deposit(deposit_id), what, signed, now).await?;
        let step = desk.take(&mut tx, &deposit, event, Claim::Keep, now).await?;
        if step.deposit.state == deposit.state {
            return Ok(Err(Refused::TooOften));
        }
        tx.commit().await.context("failed to commit")?;
        Ok(Ok(format!("{deposit_id} is {}\n", described(&step.deposit, &all))))
    }
}

/// The transfers in the ledger that have moved what was paid, if any.
fn moved(deposit: &Deposit) -> Option<String> {
    let put_aside = match deposit.suspense {
        Suspense::Nothing | Suspense::Owed => None,
        Suspense::Held | Suspense::Left => Some(deposit.suspend_transfer_id()),
    };
    let credited = deposit.credit().filter(|_| deposit.state == State::Credited);
    let put_aside = put_aside.map(|id| format!("put aside by {id}"));
    let credited = credited.map(|it| format!("credited by {}", it.transfer_id));
    match (put_aside, credited) {
        (Some(first), Some(then)) => Some(format!("{first}, {then}")),
        (one, other) => one.or(other),
    }
}

/// Where a deposit stands, with what became of its money since.
fn described(deposit: &Deposit, all: &[Return]) -> String {
    let aside = match deposit.suspense {
        Suspense::Nothing | Suspense::Left => "",
        Suspense::Owed => ", what was paid is on its way to the suspense account",
        Suspense::Held => ", what was paid is on the suspense account",
    };
    let reason = deposit.state.reason().map(|it| format!(" ({})", it.code())).unwrap_or_default();
    let since = Since::of(deposit, all).map(|it| format!(", {it}")).unwrap_or_default();
    format!("{}{reason}{aside}{since}", deposit.state.name())
}

/// Who decides and why, if both are said.
pub(crate) fn signature<'a>((who, why): (&'a str, &'a str)) -> Option<(&'a str, &'a str)> {
    let (who, why) = (who.trim(), why.trim());
    let is_said = |text: &str, most| (1..=most).contains(&text.chars().count());
    (is_said(who, WHO_CHARS_MAX) && is_said(why, WHY_CHARS_MAX)).then_some((who, why))
}

/// Why it cannot be decided now, if so.
fn refusal(deposit: &Deposit, all: &[Return], what: What) -> Option<Refused> {
    if !matches!(deposit.state, State::Review(_)) {
        return Some(Refused::NotInReview(deposit.state.name()));
    }
    match (what, deposit.suspense) {
        (_, Suspense::Owed) => Some(Refused::NotPutAside),
        (What::Accept, Suspense::Held) if !deposit.is_paid_in_its_currency() => {
            Some(Refused::OtherCurrency)
        }
        (What::Accept, Suspense::Left) => Some(Refused::GivenBack),
        (What::Accept, Suspense::Nothing | Suspense::Held) if committed_minor(all) > 0 => {
            Some(Refused::GivenBack)
        }
        (
            What::Accept | What::Reject | What::Dismiss | What::Refund,
            Suspense::Nothing | Suspense::Held | Suspense::Left,
        ) => None,
    }
}
