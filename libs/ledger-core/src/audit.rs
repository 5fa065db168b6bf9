//! The books checked against themselves: what is written must follow from the rules alone.
//!
//! [`Audit`] reads entries in order of position, whole books or any stretch of them, and says every
//! difference with its ids. It trusts nothing that another line says: each entry is compared with
//! its transfer, its account, and the account's entry before. Memory grows with the number of
//! accounts read, not of entries.

use std::collections::BTreeMap;
use std::fmt;

use primitives::{AccountId, Currency, TransferId};

use crate::{Account, AccountKind, Entry};

/// The most violations that are listed; more would say nothing new.
pub const VIOLATIONS_MAX: usize = 1_000;

/// An entry together with what it refers to, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The entry.
    pub entry: Entry,
    /// The transfer it names; none if there is no such transfer, or it did not post.
    pub transfer: Option<Posted>,
    /// Kind and currency of the account it names; none if there is no such account.
    pub account: Option<(AccountKind, Currency)>,
}

/// What a posted transfer says its entries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Position of its debit entry; the credit entry's is the next.
    pub position: i64,
    /// Where the money left.
    pub debit_account_id: AccountId,
    /// Where it arrived.
    pub credit_account_id: AccountId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Of what.
    pub currency: Currency,
}

/// Something in the books that the rules could not have written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Positions do not count on by one (I6).
    PositionGap {
        /// The position that should have come.
        expected: i64,
        /// The one that came.
        found: i64,
    },
    /// The newest entry is not where the books say they end (I6).
    WrongEnd {
        /// Where the books say they end.
        expected: i64,
        /// The last position there is.
        found: i64,
    },
    /// The entry's balances do not differ by its amount (I5).
    WrongBalanceAfter {
        /// Which entry.
        position: i64,
    },
    /// The entry does not begin where the account's previous entry ended (I5).
    BrokenChain {
        /// Which entry.
        position: i64,
        /// Whose.
        account_id: AccountId,
        /// What the previous entry ended with.
        expected_minor: i64,
        /// What this one begins with.
        found_minor: i64,
    },
    /// The entry names no transfer that posted (I1).
    EntryWithoutTransfer {
        /// Which entry.
        position: i64,
        /// The transfer it names.
        transfer_id: TransferId,
    },
    /// The entry is neither side of its transfer (I1).
    EntryDiffersFromTransfer {
        /// Which entry.
        position: i64,
        /// The transfer it names.
        transfer_id: TransferId,
    },
    /// The posted transfer has no entries where it says (I1).
    TransferWithoutEntries {
        /// Which.
        transfer_id: TransferId,
    },
    /// The entry names an account that does not exist, or of another currency than its transfer.
    WrongAccount {
        /// Which entry.
        position: i64,
        /// The account it names.
        account_id: AccountId,
    },
    /// A wallet holds less than nothing, or more than can be (I2).
    WalletOutOfBounds {
        /// Whose.
        account_id: AccountId,
        /// What it holds.
        balance_minor: i64,
    },
    /// The account's sums are not those of its entries (I5).
    BalanceDiffersFromEntries {
        /// Whose.
        account_id: AccountId,
        /// What the entries say it holds.
        expected_minor: i64,
        /// What the account says.
        found_minor: i64,
    },
    /// The entries of a currency do not sum to zero (I1).
    CurrencyOutOfBalance {
        /// Which.
        currency: Currency,
        /// What they sum to, in minor units.
        sum_minor: i128,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PositionGap { expected, found } => {
                write!(f, "entry {expected} is missing: the next is {found}")
            }
            Self::WrongEnd { expected, found } => {
                write!(f, "the last entry is {found}, it should be {expected}")
            }
            Self::WrongBalanceAfter { position } => {
                write!(f, "entry {position}: its balances differ by other than its amount")
            }
            Self::BrokenChain {
                position,
                account_id,
                expected_minor: held,
                found_minor: found,
            } => {
                write!(f, "entry {position}: begins with {found}, {account_id} held {held}")
            }
            Self::EntryWithoutTransfer { position, transfer_id: id } => {
                write!(f, "entry {position}: {id} did not post")
            }
            Self::EntryDiffersFromTransfer { position, transfer_id: id } => {
                write!(f, "entry {position}: it is neither side of {id}")
            }
            Self::TransferWithoutEntries { transfer_id: id } => {
                write!(f, "{id} posted, but its entries are missing")
            }
            Self::WrongAccount { position, account_id: id } => {
                write!(f, "entry {position}: {id} is unknown or of another currency")
            }
            Self::WalletOutOfBounds { account_id: id, balance_minor: held } => {
                write!(f, "the wallet {id} holds {held}")
            }
            Self::BalanceDiffersFromEntries { account_id: id, expected_minor, found_minor } => {
                write!(f, "{id} says {found_minor}, its entries say {expected_minor}")
            }
            Self::CurrencyOutOfBalance { currency, sum_minor: sum } => {
                write!(f, "all entries of {currency} sum to {sum} instead of zero")
            }
        }
    }
}

/// What the entries read so far say about one account.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    debits_minor: i128,
    credits_minor: i128,
    balance_minor: i64,
}

/// A reading of the books, entry by entry.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    position: i64,
    running: BTreeMap<AccountId, Running>,
    sums: BTreeMap<Currency, i128>,
    violations: Vec<Violation>,
}

impl Audit {
    /// Reads from the first entry on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a stretch that begins after `position`; `openings` are the balances that the accounts
    /// in it had there.
    #[must_use]
    pub fn after(position: i64, openings: impl IntoIterator<Item = (AccountId, i64)>) -> Self {
        let opening = |(id, balance_minor)| (id, Running { balance_minor, ..Running::default() });
        Self { position, running: openings.into_iter().map(opening).collect(), ..Self::default() }
    }

    /// The position that was read last.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.position
    }

    /// Reads the next entry.
    pub fn line(&mut self, line: &Line) {
        let Line { entry, transfer, account } = line;
        let Entry { position, transfer_id, account_id, amount_minor, .. } = *entry;
        let expected = self.position.saturating_add(1);
        if position != expected {
            self.found(Violation::PositionGap { expected, found: position });
        }
        self.position = position;
        if entry.balance_before_minor.checked_add(amount_minor) != Some(entry.balance_after_minor) {
            self.found(Violation::WrongBalanceAfter { position });
        }
        match transfer {
            None => self.found(Violation::EntryWithoutTransfer { position, transfer_id }),
            Some(posted) if !is_side(entry, posted) => {
                self.found(Violation::EntryDiffersFromTransfer { position, transfer_id });
            }
            Some(_) => {}
        }
        match (account, transfer) {
            (None, _) => self.found(Violation::WrongAccount { position, account_id }),
            (Some((_, currency)), Some(posted)) if *currency != posted.currency => {
                self.found(Violation::WrongAccount { position, account_id });
            }
            (Some((AccountKind::Wallet, _)), _) if entry.balance_after_minor < 0 => {
                let balance_minor = entry.balance_after_minor;
                self.found(Violation::WalletOutOfBounds { account_id, balance_minor });
            }
            (Some(_), _) => {}
        }
        if let Some((_, currency)) = account {
            let sum = self.sums.entry(*currency).or_default();
            *sum = sum.saturating_add(i128::from(amount_minor));
        }
        self.chain(entry);
    }

    /// Compares the entry with the account's previous one, and takes its place.
    fn chain(&mut self, entry: &Entry) {
        let Entry { position, account_id, amount_minor, .. } = *entry;
        let running = self.running.entry(account_id).or_default();
        let expected_minor = running.balance_minor;
        let found_minor = entry.balance_before_minor;
        running.balance_minor = entry.balance_after_minor;
        let side = i128::from(amount_minor.unsigned_abs());
        if amount_minor < 0 {
            running.debits_minor = running.debits_minor.saturating_add(side);
        } else {
            running.credits_minor = running.credits_minor.saturating_add(side);
        }
        if expected_minor != found_minor {
            let broken =
                Violation::BrokenChain { position, account_id, expected_minor, found_minor };
            self.found(broken);
        }
    }

    /// Compares an account with its entries, all of which must have been read.
    pub fn account(&mut self, account: &Account) {
        let running = self.running.get(&account.id).copied().unwrap_or_default();
        let agrees = i128::from(account.debits_minor) == running.debits_minor
            && i128::from(account.credits_minor) == running.credits_minor;
        if !agrees {
            let expected_minor = running.credits_minor.saturating_sub(running.debits_minor);
            self.found(Violation::BalanceDiffersFromEntries {
                account_id: account.id,
                expected_minor: i64::try_from(expected_minor).unwrap_or(i64::MAX),
                found_minor: account.balance_minor(),
            });
        }
        self.bounds(account);
    }

    /// Compares an account with its last entry only, for who cannot read them all.
    pub fn account_against_last_entry(&mut self, account: &Account, balance_after_minor: i64) {
        let found_minor = account.balance_minor();
        if found_minor != balance_after_minor {
            self.found(Violation::BalanceDiffersFromEntries {
                account_id: account.id,
                expected_minor: balance_after_minor,
                found_minor,
            });
        }
        self.bounds(account);
    }

    fn bounds(&mut self, account: &Account) {
        if !account.is_sound() {
            let balance_minor = account.balance_minor();
            self.found(Violation::WalletOutOfBounds { account_id: account.id, balance_minor });
        }
    }

    /// Compares where the reading ended with where the books say they end.
    pub fn end(&mut self, expected: i64) {
        if self.position != expected {
            self.found(Violation::WrongEnd { expected, found: self.position });
        }
    }

    /// Compares the sums of all entries per currency with zero; only after the last entry.
    pub fn sums(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        for (currency, sum_minor) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            self.found(Violation::CurrencyOutOfBalance { currency, sum_minor });
        }
    }

    /// Notes a violation that was found by other means.
    pub fn found(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }

    /// Everything that was found.
    #[must_use]
    pub fn finish(self) -> Vec<Violation> {
        self.violations
    }
}

/// Whether `entry` is one of the two entries that `posted` must have (I1). As no position occurs
/// twice, a transfer has each side at most once.
fn is_side(entry: &Entry, posted: &Posted) -> bool {
    let found = (entry.position, entry.account_id, entry.amount_minor);
    let Posted { position, amount_minor, .. } = *posted;
    found == (position, posted.debit_account_id, amount_minor.saturating_neg())
        || found == (position.saturating_add(1), posted.credit_account_id, amount_minor)
}

/// Audits whole books that fit in memory: all entries in order of position, then all accounts.
#[must_use]
pub fn audit<'a>(
    lines: impl IntoIterator<Item = &'a Line>,
    accounts: impl IntoIterator<Item = &'a Account>,
) -> Vec<Violation> {
    let mut audit = Audit::new();
    for line in lines {
        audit.line(line);
    }
    for account in accounts {
        audit.account(account);
    }
    audit.sums();
    audit.finish()
}
