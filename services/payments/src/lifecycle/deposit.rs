//! What we know of a deposit, and what can be read off it without anything happening.

use std::fmt;

use primitives::{AccountId, Amount, Currency, DepositId, Timestamp, TransferId};

use super::ATTEMPTS_PER_ASKING_MAX;
use super::ids::transfer_id;
use crate::reference::Reference;

/// What we know of a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// Chosen by whoever asked.
    pub deposit_id: DepositId,
    /// The wallet's account, to be credited.
    pub account_id: AccountId,
    /// What must be paid, and nothing else is credited.
    pub amount: Amount,
    /// In which currency.
    pub currency: Currency,
    /// The ledger transfer that credits it, chosen with the deposit.
    pub credit_transfer_id: TransferId,
    /// When the intent was stored.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// The attempt under way or the last one.
    pub attempt: Attempt,
    /// How many more attempts this asking may use.
    pub attempts_left: u16,
    /// Where the person pays, under the attempt's reference.
    pub checkout: Option<Checkout>,
    /// After this nobody waits for a checkout; `None` is for ever.
    pub wait_until: Option<Timestamp>,
    /// From then on an unpaid checkout counts as abandoned.
    pub abandon_at: Timestamp,
    /// From then on nobody looks by himself any more; a webhook still wakes.
    pub forget_at: Timestamp,
    /// Looks since the state was entered: the place in the schedule of pauses.
    pub n_looks: u32,
    /// What the verify answer proved.
    pub paid: Option<Paid>,
    /// Where that money is while no wallet has it.
    pub suspense: Suspense,
    /// How often a person said that it is to be credited.
    pub n_accepted: u16,
    /// When the ledger's answer was heard.
    pub credited_at: Option<Timestamp>,
}

/// Where a deposit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The intent is stored; no checkout is known yet.
    Initiated,
    /// The checkout is known; the person may pay.
    Pending,
    /// A webhook says that it is paid; verify has not said so yet.
    Confirming {
        /// The attempt that the webhook named.
        reference: Reference,
        /// If verify has not agreed by then, a person must look.
        until: Timestamp,
    },
    /// Proved by verify, or accepted by a person; the ledger must credit it.
    Paid,
    /// The ledger has been asked to credit it.
    Crediting,
    /// The ledger has credited it. Final.
    Credited,
    /// No checkout could be had, or Paystack says that the payment failed.
    Failed,
    /// Not paid in time.
    Abandoned,
    /// Not paid for so long that nobody looks by himself any more.
    Expired,
    /// Something does not agree; a person must look. Never credited from here by itself.
    Review(Reason),
    /// A person looked, and it is never credited. Final.
    Rejected(Reason),
}

impl State {
    /// Its name, as stored and shown.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Pending => "pending",
            Self::Confirming { .. } => "confirming",
            Self::Paid => "paid",
            Self::Crediting => "crediting",
            Self::Credited => "credited",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Expired => "expired",
            Self::Review(_) => "review",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Why a person must look, or had to: no wallet has what was paid.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Review(reason) | Self::Rejected(reason) => Some(reason),
            Self::Initiated
            | Self::Pending
            | Self::Confirming { .. }
            | Self::Paid
            | Self::Crediting
            | Self::Credited
            | Self::Failed
            | Self::Abandoned
            | Self::Expired => None,
        }
    }
}

/// Where money is that Paystack took for a deposit and that no wallet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspense {
    /// There is none.
    Nothing,
    /// The ledger is to put it on the suspense account.
    Owed,
    /// It is on the suspense account.
    Held,
    /// It was, and went to the wallet or back to the person.
    Left,
}

/// Why a person must look. The codes are for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Verify names another amount.
    AmountDiffers,
    /// Verify names another currency.
    CurrencyDiffers,
    /// Verify answered for another reference.
    ReferenceDiffers,
    /// Verify names the other of test and live.
    DomainDiffers,
    /// Paid and given back before we had credited it.
    Reversed,
    /// A webhook said paid, and verify never did.
    NotConfirmed,
    /// The ledger said no, for this reason.
    LedgerRefused(String),
}

impl Reason {
    /// The stable code, as stored and announced.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::AmountDiffers => "amount_differs".to_owned(),
            Self::CurrencyDiffers => "currency_differs".to_owned(),
            Self::ReferenceDiffers => "reference_differs".to_owned(),
            Self::DomainDiffers => "domain_differs".to_owned(),
            Self::Reversed => "reversed".to_owned(),
            Self::NotConfirmed => "not_confirmed".to_owned(),
            Self::LedgerRefused(why) => format!("ledger_refused:{why}"),
        }
    }

    /// Reads what [`Reason::code`] prints.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "amount_differs" => Self::AmountDiffers,
            "currency_differs" => Self::CurrencyDiffers,
            "reference_differs" => Self::ReferenceDiffers,
            "domain_differs" => Self::DomainDiffers,
            "reversed" => Self::Reversed,
            "not_confirmed" => Self::NotConfirmed,
            other => Self::LedgerRefused(other.strip_prefix("ledger_refused:")?.to_owned()),
        })
    }
}

/// One try to get a checkout, with a reference of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u16,
    /// What Paystack is told.
    pub reference: Reference,
    /// How far it came.
    pub phase: Phase,
}

/// How far an attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has left this house.
    Stored,
    /// Paystack is being asked; if this process dies now, nobody knows the outcome.
    Asked,
    /// Paystack was asked and its answer got lost.
    Unknown,
    /// Paystack surely made nothing.
    Refused,
    /// Paystack made the checkout.
    Made,
}

/// Where the person pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The page.
    pub authorization_url: String,
    /// The same for inline use.
    pub access_code: String,
}

/// What a verify answer proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// The attempt that was paid.
    pub reference: Reference,
    /// What is ours of it: what was asked for, unless something else was paid.
    pub amount: Amount,
    /// In which currency.
    pub currency: Currency,
    /// When, says Paystack.
    pub paid_at: Timestamp,
    /// Paystack's id of the transaction.
    pub provider_id: Option<String>,
}

impl fmt::Display for Paid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, amount, currency, paid_at, provider_id } = self;
        let id = provider_id.as_deref().unwrap_or("without id");
        write!(f, "{} {currency} under {reference} at {paid_at} ({id})", amount.minor())
    }
}

/// What is to be done for a deposit that is taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Step `Event::Asking`, then what it says.
    Initialize,
    /// Ask Paystack about this reference.
    Verify(Reference),
    /// Ask the ledger to credit.
    Credit,
    /// Ask the ledger to put what was paid on the suspense account.
    Suspend,
    /// Nothing.
    Rest,
}

/// The transfer that credits a deposit. Asking for it again asks for the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Its id.
    pub transfer_id: TransferId,
    /// The reference that was paid.
    pub reference: Reference,
    /// How much: what was paid.
    pub amount: Amount,
    /// Where the money is until then.
    pub source: Source,
}

/// Where money is before a wallet has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Paystack owes it to us, and the books do not know yet.
    Clearing,
    /// It is on the suspense account.
    Suspense {
        /// The transfer that takes it from there, with the credit or not at all.
        back_transfer_id: TransferId,
    },
}

/// What those who wait for a checkout are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Here it is.
    Checkout(Reference, Checkout),
    /// Paystack gave none; asking again is allowed.
    Unavailable,
}

/// What callers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// On its way.
    Pending,
    /// Credited.
    Success,
    /// Failed; a late payment is still credited.
    Failed,
    /// Not paid in time; a late payment is still credited.
    Abandoned,
    /// A person looks at it.
    Review,
}

impl Deposit {
    /// A deposit whose intent is about to be stored.
    #[must_use]
    pub fn intent(ids: (DepositId, TransferId), what: Intent, now: Timestamp) -> Self {
        let (deposit_id, credit_transfer_id) = ids;
        Self {
            deposit_id,
            account_id: what.account_id,
            amount: what.amount,
            currency: what.currency,
            credit_transfer_id,
            created_at: now,
            state: State::Initiated,
            attempt: Attempt::numbered(deposit_id, 1),
            attempts_left: ATTEMPTS_PER_ASKING_MAX - 1,
            checkout: None,
            wait_until: what.wait_until,
            abandon_at: what.abandon_at,
            forget_at: what.forget_at,
            n_looks: 0,
            paid: None,
            suspense: Suspense::Nothing,
            n_accepted: 0,
            credited_at: None,
        }
    }

    /// What is to be done when the deposit is taken up.
    #[must_use]
    pub fn work(&self) -> Work {
        match &self.state {
            State::Initiated => match self.attempt.phase {
                Phase::Stored => Work::Initialize,
                Phase::Asked | Phase::Unknown | Phase::Refused | Phase::Made => {
                    Work::Verify(self.attempt.reference.clone())
                }
            },
            State::Pending | State::Failed | State::Abandoned | State::Expired => {
                Work::Verify(self.attempt.reference.clone())
            }
            State::Confirming { reference, .. } => Work::Verify(reference.clone()),
            State::Paid | State::Crediting => Work::Credit,
            State::Review(_) if self.suspense == Suspense::Owed => Work::Suspend,
            State::Credited | State::Review(_) | State::Rejected(_) => Work::Rest,
        }
    }

    /// What those who wait for a checkout can be told by now.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        if let Some(checkout) = &self.checkout {
            return Some(Answer::Checkout(self.attempt.reference.clone(), checkout.clone()));
        }
        match &self.state {
            State::Initiated => None,
            State::Failed
            | State::Abandoned
            | State::Expired
            | State::Review(_)
            | State::Rejected(_) => Some(Answer::Unavailable),
            // A webhook overtook the answer to initialize, which may still come.
            State::Pending
            | State::Confirming { .. }
            | State::Paid
            | State::Crediting
            | State::Credited => match self.attempt.phase {
                Phase::Stored | Phase::Asked => None,
                Phase::Unknown | Phase::Refused | Phase::Made => Some(Answer::Unavailable),
            },
        }
    }

    /// What callers are shown.
    #[must_use]
    pub fn shown(&self) -> Shown {
        match &self.state {
            State::Initiated
            | State::Pending
            | State::Confirming { .. }
            | State::Paid
            | State::Crediting => Shown::Pending,
            State::Credited => Shown::Success,
            State::Failed | State::Rejected(_) => Shown::Failed,
            State::Abandoned | State::Expired => Shown::Abandoned,
            State::Review(_) => Shown::Review,
        }
    }

    /// The transfer that credits it, once something is known to be paid.
    #[must_use]
    pub fn credit(&self) -> Option<Credit> {
        let paid = self.paid.as_ref()?;
        // Once a person has had a say it comes from where that person saw it.
        let (source, transfer_id) = match self.n_accepted {
            0 => (Source::Clearing, self.credit_transfer_id),
            n => {
                let back_transfer_id = self.transfer_id("taken back", n);
                (Source::Suspense { back_transfer_id }, self.transfer_id("accepted", n))
            }
        };
        Some(Credit { transfer_id, reference: paid.reference.clone(), amount: paid.amount, source })
    }

    /// The transfer that puts what was paid on the suspense account.
    #[must_use]
    pub fn suspend_transfer_id(&self) -> TransferId {
        self.transfer_id("suspense", 0)
    }

    /// Whether what was paid is of the currency that was asked for.
    #[must_use]
    pub fn is_paid_in_its_currency(&self) -> bool {
        self.paid.as_ref().is_some_and(|it| it.currency == self.currency)
    }

    /// The id of a transfer of this deposit, the same whenever it is needed; sorted by the time of
    /// the deposit.
    fn transfer_id(&self, purpose: &str, n: u16) -> TransferId {
        transfer_id(self.credit_transfer_id.uuid(), purpose, n)
    }

    /// Whether anybody still waits for a checkout.
    #[must_use]
    pub fn is_awaited(&self, now: Timestamp) -> bool {
        self.wait_until.is_none_or(|until| now < until)
    }

    /// The reference that this deposit was paid under or claims to have been, if any.
    #[must_use]
    pub fn claimed_reference(&self) -> Option<&Reference> {
        match &self.state {
            State::Confirming { reference, .. } => Some(reference),
            State::Initiated
            | State::Pending
            | State::Paid
            | State::Crediting
            | State::Credited
            | State::Failed
            | State::Abandoned
            | State::Expired
            | State::Review(_)
            | State::Rejected(_) => self.paid.as_ref().map(|it| &it.reference),
        }
    }
}

/// What somebody wants to pay in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The wallet's account.
    pub account_id: AccountId,
    /// How much.
    pub amount: Amount,
    /// In which currency.
    pub currency: Currency,
    /// After this nobody waits; `None` is for ever.
    pub wait_until: Option<Timestamp>,
    /// See [`Deposit::abandon_at`].
    pub abandon_at: Timestamp,
    /// See [`Deposit::forget_at`].
    pub forget_at: Timestamp,
}

impl Attempt {
    pub(super) fn numbered(deposit_id: DepositId, number: u16) -> Self {
        Self { number, reference: Reference::of(deposit_id, number), phase: Phase::Stored }
    }
}
