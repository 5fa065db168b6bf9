//! What we know of a return, and what can be read off it without anything happening.

use primitives::{AccountId, Amount, Currency, DepositId, ReturnId, Timestamp, TransferId};

use crate::lifecycle::{Deposit, transfer_id};
use crate::reference::Reference;

/// What we know of a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// Chosen by whoever noticed it first.
    pub return_id: ReturnId,
    /// Who wants it.
    pub kind: Kind,
    /// Whose money it is.
    pub payment: Payment,
    /// How much is to go back; not known of what was only heard of.
    pub amount: Option<Amount>,
    /// How much went back, once that is known; no more than `amount`.
    pub taken: Option<Amount>,
    /// When it was noticed.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// Whether the ledger holds the money.
    pub cover: Cover,
    /// How many holds were asked for; each has an id of its own.
    pub n_holds: u16,
    /// How often the ledger refused to take or to give back; the next try has another id.
    pub n_refused: u16,
    /// Paystack's id of it.
    pub provider_id: Option<String>,
    /// How often Paystack was asked for the refund.
    pub n_asked: u16,
    /// When it was asked last.
    pub asked_at: Option<Timestamp>,
    /// Until when a dispute must be answered at Paystack.
    pub answer_by: Option<Timestamp>,
    /// What stands in its way, or why it ended as it did: a short code.
    pub trouble: Option<String>,
    /// Looks since the state was entered: the place in the schedule of pauses.
    pub n_looks: u32,
    /// When the ledger's last answer was heard.
    pub ended_at: Option<Timestamp>,
}

/// The payment that money is to go back of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Which deposit it was.
    pub deposit_id: DepositId,
    /// What it was paid under, as Paystack knows it.
    pub reference: Reference,
    /// In which currency.
    pub currency: Currency,
    /// Where the money is taken from.
    pub source: Source,
}

/// Who wants the money back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// We do; Paystack is to be asked.
    Refund,
    /// Somebody did, at Paystack itself; its list told us.
    FoundRefund,
    /// The payer's bank does; Paystack told us.
    Dispute,
}

impl Payment {
    /// What was paid for a deposit under one of its references.
    #[must_use]
    pub fn of(deposit: &Deposit, reference: &Reference) -> Self {
        let source = match deposit.state.reason() {
            // No wallet has it.
            Some(_) => Source::Suspense,
            None => Source::Wallet(deposit.account_id),
        };
        Self {
            deposit_id: deposit.deposit_id,
            reference: reference.clone(),
            currency: deposit.paid.as_ref().map_or(deposit.currency, |it| it.currency),
            source,
        }
    }
}

/// Where the money is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The wallet that was credited, or is to be.
    Wallet(AccountId),
    /// The suspense account, where what no wallet has was put.
    Suspense,
}

/// Where a return stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A dispute or a found refund that was heard of; Paystack has not said what it is about.
    Noticed,
    /// A refund that somebody wants; the ledger is to hold the money.
    Wanted,
    /// The money is held, and Paystack is to be asked for the refund.
    Held,
    /// Paystack was asked, and what it did is not known.
    Asked,
    /// Paystack, or the bank, has not ended it.
    Open,
    /// The money went back; the ledger is to take it.
    Taking,
    /// The money did not go back; the ledger is to give it back to the wallet.
    Releasing,
    /// A person must look.
    Review(Reason),
    /// The payer has the money. Final.
    Returned,
    /// The wallet keeps the money. Final.
    Kept,
    /// A refund that the ledger had no money for; Paystack was never asked. Final.
    Refused,
}

/// Whether the ledger holds the money of a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// It was never asked to.
    Nothing,
    /// It is to; perhaps it does.
    Wanted,
    /// It does, or did until the end.
    Held,
    /// It said no.
    Refused,
}

/// Why a person must look. The codes are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Paystack names another amount.
    AmountDiffers,
    /// Paystack names another currency.
    CurrencyDiffers,
    /// Paystack names another payment.
    ReferenceDiffers,
    /// Paystack names the other of test and live.
    DomainDiffers,
    /// Paystack was asked as often as it may be, and nobody knows what it did.
    NoAnswer,
    /// Nothing is known to be paid.
    NothingPaid,
    /// More is contested than is left of the payment.
    ExceedsPaid,
    /// For which of several returns the money went back cannot be told.
    Unclear,
}

/// What is to be done when a return is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Ask the ledger to hold the money.
    Hold,
    /// Ask Paystack for the refund.
    Ask,
    /// Look through Paystack's refunds for ours.
    Find,
    /// Ask Paystack how it stands.
    Look,
    /// Have the ledger take what is held, or what nobody held from the suspense account.
    Take,
    /// Have the ledger give back what is held.
    Release,
    /// Nothing.
    Rest,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Refund, Self::FoundRefund, Self::Dispute];

    /// As stored and announced.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::FoundRefund => "found_refund",
            Self::Dispute => "dispute",
        }
    }

    /// Whether it is a refund, whoever asked for it.
    #[must_use]
    pub const fn is_refund(self) -> bool {
        match self {
            Self::Refund | Self::FoundRefund => true,
            Self::Dispute => false,
        }
    }
}

impl State {
    /// Its name, as stored and shown.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Noticed => "noticed",
            Self::Wanted => "wanted",
            Self::Held => "held",
            Self::Asked => "asked",
            Self::Open => "open",
            Self::Taking => "taking",
            Self::Releasing => "releasing",
            Self::Review(_) => "review",
            Self::Returned => "returned",
            Self::Kept => "kept",
            Self::Refused => "refused",
        }
    }

    /// Why a person must look, if one must.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Review(reason) => Some(*reason),
            Self::Noticed
            | Self::Wanted
            | Self::Held
            | Self::Asked
            | Self::Open
            | Self::Taking
            | Self::Releasing
            | Self::Returned
            | Self::Kept
            | Self::Refused => None,
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        match self {
            Self::Returned | Self::Kept | Self::Refused => true,
            Self::Noticed
            | Self::Wanted
            | Self::Held
            | Self::Asked
            | Self::Open
            | Self::Taking
            | Self::Releasing
            | Self::Review(_) => false,
        }
    }
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AmountDiffers,
        Self::CurrencyDiffers,
        Self::ReferenceDiffers,
        Self::DomainDiffers,
        Self::NoAnswer,
        Self::NothingPaid,
        Self::ExceedsPaid,
        Self::Unclear,
    ];

    /// The stable code, as stored and announced.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::AmountDiffers => "amount_differs",
            Self::CurrencyDiffers => "currency_differs",
            Self::ReferenceDiffers => "reference_differs",
            Self::DomainDiffers => "domain_differs",
            Self::NoAnswer => "no_answer",
            Self::NothingPaid => "nothing_paid",
            Self::ExceedsPaid => "exceeds_paid",
            Self::Unclear => "unclear",
        }
    }

    /// Reads what [`Reason::code`] prints.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }
}

impl Return {
    /// A refund that somebody wants, about to be stored.
    #[must_use]
    pub fn refund(return_id: ReturnId, payment: Payment, amount: Amount, now: Timestamp) -> Self {
        Self {
            amount: Some(amount),
            state: State::Wanted,
            cover: Cover::Wanted,
            n_holds: 1,
            ..Self::begun(return_id, Kind::Refund, payment, now)
        }
    }

    /// A dispute that was heard of under Paystack's id, about to be stored.
    #[must_use]
    pub fn dispute(
        return_id: ReturnId,
        payment: Payment,
        provider_id: String,
        now: Timestamp,
    ) -> Self {
        let provider_id = Some(provider_id);
        Self { provider_id, ..Self::begun(return_id, Kind::Dispute, payment, now) }
    }

    /// A refund that somebody made at Paystack itself, under its id there, about to be stored.
    #[must_use]
    pub fn found_refund(
        return_id: ReturnId,
        payment: Payment,
        provider_id: String,
        now: Timestamp,
    ) -> Self {
        let provider_id = Some(provider_id);
        Self { provider_id, ..Self::begun(return_id, Kind::FoundRefund, payment, now) }
    }

    /// The same, of what is known of the deposit by now: a dispute may be heard of before its payment
    /// is proved, and what was paid may be of another currency than was asked for.
    #[must_use]
    pub fn as_of(&self, deposit: &Deposit) -> Self {
        if self.cover != Cover::Nothing || self.state.is_end() {
            return self.clone();
        }
        Self { payment: Payment::of(deposit, &self.payment.reference), ..self.clone() }
    }

    fn begun(return_id: ReturnId, kind: Kind, payment: Payment, now: Timestamp) -> Self {
        Self {
            return_id,
            kind,
            payment,
            amount: None,
            taken: None,
            created_at: now,
            state: State::Noticed,
            cover: Cover::Nothing,
            n_holds: 0,
            n_refused: 0,
            provider_id: None,
            n_asked: 0,
            asked_at: None,
            answer_by: None,
            trouble: None,
            n_looks: 0,
            ended_at: None,
        }
    }

    /// What is to be done when it is taken up.
    #[must_use]
    pub fn work(&self) -> Work {
        match (&self.state, self.cover) {
            (State::Noticed, _) => Work::Look,
            // What became of a hold must be known before anything else is done.
            (
                State::Wanted | State::Open | State::Taking | State::Releasing | State::Review(_),
                Cover::Wanted,
            ) => Work::Hold,
            (State::Held, _) => Work::Ask,
            (State::Asked, _) => Work::Find,
            (State::Open, Cover::Nothing | Cover::Held | Cover::Refused) => Work::Look,
            (State::Taking, Cover::Nothing | Cover::Held | Cover::Refused) => Work::Take,
            (State::Releasing, Cover::Held) => Work::Release,
            (State::Wanted | State::Review(_), Cover::Nothing | Cover::Held | Cover::Refused)
            | (State::Releasing, Cover::Nothing | Cover::Refused)
            | (State::Returned | State::Kept | State::Refused, _) => Work::Rest,
        }
    }

    /// Whether Paystack has the next word.
    #[must_use]
    pub fn is_waiting_for_paystack(&self) -> bool {
        matches!(self.work(), Work::Find | Work::Look)
    }

    /// The hold that was asked for last.
    #[must_use]
    pub fn hold_transfer_id(&self) -> TransferId {
        transfer_id(self.return_id.uuid(), "hold", self.n_holds)
    }

    /// What takes the money: a capture of the hold, or a transfer from the suspense account.
    #[must_use]
    pub fn take_transfer_id(&self) -> TransferId {
        transfer_id(self.return_id.uuid(), "take", self.n_refused)
    }

    /// What gives back what remains of the hold.
    #[must_use]
    pub fn release_transfer_id(&self) -> TransferId {
        transfer_id(self.return_id.uuid(), "release", self.n_refused)
    }

    /// What Paystack keeps of us with a refund, so that it is found again.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("fast-wallet {}", self.return_id)
    }

    /// What of the payment this return has claimed, in minor units.
    #[must_use]
    pub fn claimed_minor(&self) -> u64 {
        let amount = |it: Option<Amount>| it.map_or(0, Amount::minor);
        match self.state {
            State::Kept | State::Refused => 0,
            State::Taking | State::Returned => amount(self.taken),
            State::Noticed
            | State::Wanted
            | State::Held
            | State::Asked
            | State::Open
            | State::Releasing
            | State::Review(_) => amount(self.amount),
        }
    }

    /// Why a person should look at it, or why it ended as it did: a short code; empty for no reason.
    #[must_use]
    pub fn why(&self) -> &str {
        let in_review = self.state.reason().map(Reason::code);
        in_review.or(self.trouble.as_deref()).unwrap_or_default()
    }

    /// Whether it took money that was not held: somebody has to find out who pays.
    #[must_use]
    pub fn is_uncovered_loss(&self) -> bool {
        self.state == State::Returned && self.cover != Cover::Held
    }
}

/// What of a payment went back in all, in minor units.
#[must_use]
pub fn returned_minor<'a>(returns: impl IntoIterator<Item = &'a Return>) -> u64 {
    committed_minor(returns.into_iter().filter(|it| it.state == State::Returned))
}

/// What of a payment its returns have claimed in all, in minor units.
#[must_use]
pub fn committed_minor<'a>(returns: impl IntoIterator<Item = &'a Return>) -> u64 {
    returns.into_iter().map(Return::claimed_minor).fold(0, u64::saturating_add)
}
