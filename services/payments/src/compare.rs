//! Compares a day of payments as Paystack lists them with our record and the ledger's books. Pure.
//!
//! Three parties say what happened, and here nobody is believed more than another: what differs is
//! named and left to a person, but for a payment that we slept through, which is looked at again.
//! Which payments belong to a day is the shell's to find (`nightly`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use primitives::{AccountId, Amount, Currency, Timestamp};

use crate::reference::Reference;
use crate::verdict::{Domain, FeesPaidBy, Said, ours_of};

/// How much is shown of what Paystack writes.
const SHOWN_CHARS_MAX: usize = 100;
/// What every reference of ours begins with.
const OURS: &str = "dep-";

/// How something differs. The codes are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Paid under a reference that looks like ours, and we never made it.
    UnknownHere,
    /// Paid under a reference that nobody here would make.
    UnknownForeign,
    /// Paid, and we have neither credited it nor put it aside, nor is it on its way.
    NotCredited,
    /// Paid under another reference of a deposit than the one that counted.
    PaidTwice,
    /// Another amount than we credited or put aside.
    AmountDiffers,
    /// Another currency than we credited or put aside.
    CurrencyDiffers,
    /// The other of test and live.
    DomainDiffers,
    /// We credited it or put it aside, and Paystack does not say that it was paid.
    UnknownThere,
    /// Given back or about to be, and we know of no refund and no dispute.
    Reversed,
    /// Our record says that the ledger posted it; the books say something else.
    NotInBooks,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::UnknownHere,
        Self::UnknownForeign,
        Self::NotCredited,
        Self::PaidTwice,
        Self::AmountDiffers,
        Self::CurrencyDiffers,
        Self::DomainDiffers,
        Self::UnknownThere,
        Self::Reversed,
        Self::NotInBooks,
    ];

    /// The stable code, as stored, counted and printed.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownHere => "unknown_here",
            Self::UnknownForeign => "unknown_foreign",
            Self::NotCredited => "not_credited",
            Self::PaidTwice => "paid_twice",
            Self::AmountDiffers => "amount_differs",
            Self::CurrencyDiffers => "currency_differs",
            Self::DomainDiffers => "domain_differs",
            Self::UnknownThere => "unknown_there",
            Self::Reversed => "reversed",
            Self::NotInBooks => "not_in_books",
        }
    }
}

/// One thing that does not agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// How.
    pub class: Class,
    /// Of which payment: its reference, or Paystack's id if it has none; at most 103 characters of
    /// ASCII.
    pub reference: String,
    /// What each side says, for a person; at most some hundred characters.
    pub detail: String,
}

/// What is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The moment of the comparison.
    pub now: Timestamp,
    /// How long a payment may be on its way to the wallet.
    pub grace: Duration,
    /// The side of Paystack that was asked.
    pub domain: Domain,
    /// Which of Paystack's amounts is ours.
    pub fees_paid_by: FeesPaidBy,
}

/// What our record says of one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// The reference, of any attempt of a deposit.
    pub reference: Reference,
    /// What we made of it.
    pub standing: Standing,
    /// A refund or a dispute of it is known, so that it may be reversed.
    pub has_return: bool,
}

/// What we made of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet; the deposit is in this state.
    Unsettled(&'static str),
    /// The deposit was settled under another of its references.
    Otherwise(Reference),
    /// Credited, or put on the suspense account.
    Settled(Settled),
}

/// A payment that the books should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// How much was credited or put aside.
    pub amount: Amount,
    /// In which currency.
    pub currency: Currency,
    /// The account that it must have come from.
    pub from: AccountId,
    /// What the books say of the transfer, seen from the account that it must have gone to; `None`
    /// if they have no such transfer of that account.
    pub entry: Option<Entry>,
}

/// A transfer as the ledger shows it to one of its accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// It posted.
    pub is_posted: bool,
    /// It credited the account that was asked about.
    pub is_credit: bool,
    /// The other account.
    pub counterparty: Option<AccountId>,
    /// How much.
    pub amount_minor: u64,
    /// In which currency.
    pub currency: String,
    /// For which payment.
    pub reference: String,
}

/// What Paystack's status means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Paid,
    GivenBack,
    Unpaid,
}

fn there(said: &Said) -> There {
    match said.status.as_deref() {
        Some("success") => There::Paid,
        Some("reversed" | "reversal_pending" | "reversal-pending") => There::GivenBack,
        Some(_) | None => There::Unpaid,
    }
}

/// Whether Paystack says that money came, whatever became of it.
#[must_use]
pub fn is_paid(said: &Said) -> bool {
    match there(said) {
        There::Paid | There::GivenBack => true,
        There::Unpaid => false,
    }
}

/// Compares what Paystack says with what we have, and what we have with the books. In the order of
/// classes and references; each is named once.
///
/// Every payment in `said` is judged, and everything settled in `ours`: whatever does not belong to
/// the day has been left out of both.
#[must_use]
pub fn compare(rules: &Rules, said: &[Said], ours: &[Ours]) -> Vec<Difference> {
    let mut found = Found::default();
    let known: BTreeMap<&str, &Ours> = ours.iter().map(|it| (it.reference.as_str(), it)).collect();
    let mut paid = BTreeSet::new();
    for it in said.iter().filter(|it| is_paid(it)) {
        match it.reference.as_deref().and_then(|reference| known.get(reference)) {
            Some(of_it) => {
                paid.insert(&of_it.reference);
                found.judge(rules, it, of_it);
            }
            None => found.unknown(it),
        }
    }
    for it in ours {
        if let Standing::Settled(settled) = &it.standing {
            if !paid.contains(&it.reference) {
                found.not_paid(it, settled, said);
            }
            found.in_books(&it.reference, settled);
        }
    }
    let difference = |((class, reference), detail)| Difference { class, reference, detail };
    found.0.into_iter().map(difference).collect()
}

/// What was found so far, each thing once.
#[derive(Debug, Default)]
struct Found(BTreeMap<(Class, String), String>);

impl Found {
    fn add(&mut self, class: Class, reference: &str, detail: String) {
        self.0.entry((class, reference.to_owned())).or_insert(detail);
    }

    fn unknown(&mut self, said: &Said) {
        let id = || format!("id {}", said.provider_id.as_deref().unwrap_or("unknown"));
        let reference = said.reference.as_deref().map_or_else(id, shown);
        let is_like_ours = reference.starts_with(OURS);
        let class = if is_like_ours { Class::UnknownHere } else { Class::UnknownForeign };
        self.add(class, &reference, format!("paystack has {}", described(said)));
    }

    /// A payment of which we know the reference.
    fn judge(&mut self, rules: &Rules, said: &Said, ours: &Ours) {
        let reference = ours.reference.as_str();
        let there = there(said);
        if there == There::GivenBack && !ours.has_return {
            let detail = format!("paystack has {}, and we know of no return", described(said));
            self.add(Class::Reversed, reference, detail);
        }
        if said.domain.as_deref().is_some_and(|it| it != rules.domain.as_str()) {
            let detail =
                format!("paystack has {}, we ask for {}", described(said), rules.domain.as_str());
            self.add(Class::DomainDiffers, reference, detail);
        }
        match &ours.standing {
            Standing::Unsettled(state) => {
                let age = said.paid_at.map_or(Duration::MAX, |it| rules.now.since(it));
                if there == There::Paid && age >= rules.grace {
                    let detail =
                        format!("paystack has {}, our deposit is {state}", described(said));
                    self.add(Class::NotCredited, reference, detail);
                }
            }
            Standing::Otherwise(paid) => {
                let detail =
                    format!("paystack has {}, the deposit was paid as {paid}", described(said));
                self.add(Class::PaidTwice, reference, detail);
            }
            Standing::Settled(settled) => self.agrees(rules, said, reference, settled),
        }
    }

    fn agrees(&mut self, rules: &Rules, said: &Said, reference: &str, settled: &Settled) {
        let Settled { amount, currency, .. } = settled;
        let detail =
            format!("paystack has {}, we have {} {currency}", described(said), amount.minor());
        if ours_of(said, rules.fees_paid_by) != Some(amount.minor()) {
            self.add(Class::AmountDiffers, reference, detail.clone());
        }
        if said.currency.as_deref() != Some(currency.as_str()) {
            self.add(Class::CurrencyDiffers, reference, detail);
        }
    }

    /// Settled here, and Paystack does not say that it was paid.
    fn not_paid(&mut self, ours: &Ours, settled: &Settled, said: &[Said]) {
        let reference = ours.reference.as_str();
        let of_it = said.iter().find(|it| it.reference.as_deref() == Some(reference));
        let there = of_it.map_or_else(|| "no such payment".to_owned(), described);
        let Settled { amount, currency, .. } = settled;
        let detail = format!("paystack has {there}, we have {} {currency}", amount.minor());
        self.add(Class::UnknownThere, reference, detail);
    }

    /// Settled here, so the books must know it.
    fn in_books(&mut self, reference: &Reference, settled: &Settled) {
        let Settled { amount, currency, from, entry } = settled;
        let wrong = match entry {
            None => Some("no such transfer".to_owned()),
            Some(it) if !it.is_posted => Some("a transfer that was refused".to_owned()),
            Some(it) if !it.is_credit => Some("a transfer the other way".to_owned()),
            Some(it) if it.counterparty != Some(*from) => {
                Some("a transfer from another account".to_owned())
            }
            Some(it)
                if (it.amount_minor, it.currency.as_str())
                    != (amount.minor(), currency.as_str()) =>
            {
                Some(format!("{} {}", it.amount_minor, shown(&it.currency)))
            }
            Some(it) if it.reference != reference.as_str() => {
                Some(format!("a transfer for {}", shown(&it.reference)))
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let detail = format!("the books have {wrong}, we have {} {currency}", amount.minor());
            self.add(Class::NotInBooks, reference.as_str(), detail);
        }
    }
}

/// What Paystack says of a payment, in one piece.
fn described(said: &Said) -> String {
    let amount = said.amount_minor.map_or_else(|| "no amount".to_owned(), |it| it.to_string());
    let text = |it: &Option<String>| shown(it.as_deref().unwrap_or("nothing"));
    let (currency, status) = (text(&said.currency), text(&said.status));
    let id = text(&said.provider_id);
    format!("{amount} {currency} with status {status} (id {id})")
}

/// Their text, made fit for a log, a row and a terminal.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(SHOWN_CHARS_MAX).map(plain).collect()
}
