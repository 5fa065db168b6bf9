//! The books: the accounts a batch touches, what was decided before, and the one way to decide more.
//!
//! Books may be partial: whoever makes them must bring every account and every earlier decision
//! that the commands to come can name ([`Command::account_ids`], ids and request keys). An account
//! that is not here does not exist.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{AccountId, RequestKey, System, Timestamp, TransferId};

use crate::{Account, AccountKind, Body, Command, Rejection, Transfer, TransferKind};

/// The accounts a batch touches, and the transfers already decided.
#[derive(Debug, Clone)]
pub struct Books {
    head: Head,
    accounts: BTreeMap<AccountId, Account>,
    decisions: BTreeMap<TransferId, Decision>,
    by_request_key: BTreeMap<RequestKey, TransferId>,
    opened: BTreeSet<AccountId>,
    touched: BTreeSet<AccountId>,
    decided: Vec<(Transfer, Decision)>,
    entries: Vec<Entry>,
}

/// How far the books have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Position of the newest entry; 0 in empty books.
    pub position: i64,
    /// When it was decided.
    pub decided_at: Timestamp,
}

impl Head {
    /// The head of empty books.
    pub const START: Self = Self { position: 0, decided_at: Timestamp::from_micros(0) };
}

/// What was decided about a transfer; kept for ever (I3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which transfer.
    pub transfer_id: TransferId,
    /// The request key it came under.
    pub request_key: Option<RequestKey>,
    /// Digest of what was asked.
    pub request_digest: [u8; 32],
    /// Yes, or why not.
    pub verdict: Verdict,
    /// When.
    pub decided_at: Timestamp,
}

/// The ledger's yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The account is as was asked. Only for commands that move no money.
    Done,
    /// The money has moved.
    Posted {
        /// Position of the debit entry; the credit entry's is the next.
        position: i64,
        /// What the debited account holds right after.
        debit_balance_after_minor: i64,
    },
    /// Nothing has changed.
    Rejected(Rejection),
}

impl Verdict {
    /// Why not, if it is a no.
    #[must_use]
    pub const fn rejection(self) -> Option<Rejection> {
        match self {
            Self::Done | Self::Posted { .. } => None,
            Self::Rejected(rejection) => Some(rejection),
        }
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Yes, or why not.
    pub verdict: Verdict,
    /// It had been decided before; this repeats what was decided then.
    pub replayed: bool,
    /// The transfer decided under this id or request key, which may be an earlier one than was
    /// sent; none for commands that are no transfers.
    pub transfer_id: Option<TransferId>,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// One side of a transfer as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Place among all entries: 1, 2, 3 … (I6).
    pub position: i64,
    /// Which transfer.
    pub transfer_id: TransferId,
    /// Whose account.
    pub account_id: AccountId,
    /// Above zero for a credit, below for a debit.
    pub amount_minor: i64,
    /// What the account held before.
    pub balance_before_minor: i64,
    /// What it holds after.
    pub balance_after_minor: i64,
}

/// What a batch has changed, to be saved all at once or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Accounts that were not there before, as they are after the batch.
    pub opened: Vec<Account>,
    /// Accounts that were there before and differ, as they are after the batch.
    pub updated: Vec<Account>,
    /// Transfers decided for the first time, in order, refused ones too.
    pub decided: Vec<(Transfer, Decision)>,
    /// What was written, in order of position.
    pub entries: Vec<Entry>,
    /// How far the books are written with this batch.
    pub head: Head,
}

impl Books {
    /// Books written up to `head`, with the accounts and earlier decisions that are needed.
    #[must_use]
    pub fn new(
        head: Head,
        accounts: impl IntoIterator<Item = Account>,
        decisions: impl IntoIterator<Item = Decision>,
    ) -> Self {
        let decisions: BTreeMap<_, _> =
            decisions.into_iter().map(|it| (it.transfer_id, it)).collect();
        Self {
            head,
            accounts: accounts.into_iter().map(|it| (it.id, it)).collect(),
            by_request_key: decisions
                .values()
                .filter_map(|it| it.request_key.map(|key| (key, it.transfer_id)))
                .collect(),
            decisions,
            opened: BTreeSet::new(),
            touched: BTreeSet::new(),
            decided: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Decides `command`, and moves the money when it posts.
    ///
    /// The same transfer gets the same outcome however often it is asked (I3).
    ///
    /// # Panics
    /// If an invariant does not hold afterwards: a bug here, or books that were damaged.
    pub fn apply(&mut self, command: &Command, now: Timestamp) -> Outcome {
        // I6: a clock that was set back must not reorder history. Deadlines are about the real
        // time, so that a clock that was ahead for a moment does not refuse everything after.
        let decided_at = now.max(self.head.decided_at);
        let late = command.is_late(now);
        match &command.body {
            Body::PostTransfer(transfer) => self.post(transfer, late, decided_at),
            Body::OpenAccount { account_id, currency } => {
                let opened_at = self.accounts.get(account_id).map(|it| it.opened_at);
                let verdict = self.open(Account::open(*account_id, *currency, decided_at), late);
                let replayed = opened_at.is_some() && verdict == Verdict::Done;
                let decided_at = opened_at.filter(|_| replayed).unwrap_or(decided_at);
                Outcome { verdict, replayed, transfer_id: None, decided_at }
            }
            Body::FreezeAccount { account_id, frozen } => {
                let verdict = self.freeze(*account_id, *frozen, late);
                Outcome { verdict, replayed: false, transfer_id: None, decided_at }
            }
        }
    }

    /// The account as it stands, if it exists.
    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// Every account, in order of id.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// What is to be saved.
    #[must_use]
    pub fn into_changes(self) -> Changes {
        let Self { accounts, opened, touched, .. } = self;
        let mut changes = Changes {
            opened: Vec::new(),
            updated: Vec::new(),
            decided: self.decided,
            entries: self.entries,
            head: self.head,
        };
        for (id, account) in accounts {
            if opened.contains(&id) {
                changes.opened.push(account);
            } else if touched.contains(&id) {
                changes.updated.push(account);
            }
        }
        changes
    }

    fn open(&mut self, account: Account, late: bool) -> Verdict {
        let rejection = match self.accounts.get(&account.id) {
            // Asking for what is there is harmless, however late.
            Some(there) if (there.kind, there.currency) == (account.kind, account.currency) => {
                return Verdict::Done;
            }
            _ if late => Rejection::DeadlineExceeded,
            Some(there) if there.kind != account.kind => Rejection::AccountKindMismatch,
            Some(_) => Rejection::CurrencyMismatch,
            None if account.id == AccountId::NOBODY => Rejection::AccountKindMismatch,
            None => {
                self.opened.insert(account.id);
                self.accounts.insert(account.id, account);
                return Verdict::Done;
            }
        };
        Verdict::Rejected(rejection)
    }

    fn freeze(&mut self, account_id: AccountId, frozen: bool, late: bool) -> Verdict {
        if late {
            return Verdict::Rejected(Rejection::DeadlineExceeded);
        }
        let Some(account) = self.accounts.get_mut(&account_id) else {
            return Verdict::Rejected(Rejection::DebitAccountNotFound);
        };
        if account.frozen != frozen {
            account.frozen = frozen;
            self.touched.insert(account_id);
        }
        Verdict::Done
    }

    fn post(&mut self, transfer: &Transfer, late: bool, decided_at: Timestamp) -> Outcome {
        if let Some(earlier) = self.repeat(transfer, decided_at) {
            return earlier;
        }
        let verdict = match self.judge(transfer, late) {
            Ok(sides) => self.write(transfer, sides, decided_at),
            Err(rejection) => Verdict::Rejected(rejection),
        };
        self.remember(transfer, verdict, decided_at);
        Outcome { verdict, replayed: false, transfer_id: Some(transfer.id), decided_at }
    }

    /// The answer to a transfer that was decided before (I3).
    ///
    /// The request key speaks first: it is what the caller was promised. An id that is known under
    /// another key, or a key or id that is known with another digest, is a reuse.
    fn repeat(&self, transfer: &Transfer, now: Timestamp) -> Option<Outcome> {
        let by_key = transfer.request_key.and_then(|key| self.by_request_key.get(&key));
        let earlier = self.decisions.get(by_key.unwrap_or(&transfer.id))?;
        let transfer_id = Some(earlier.transfer_id);
        let same = earlier.request_key == transfer.request_key
            && earlier.request_digest == transfer.request_digest;
        Some(if same {
            let Decision { verdict, decided_at, .. } = *earlier;
            Outcome { verdict, replayed: true, transfer_id, decided_at }
        } else {
            let verdict = Verdict::Rejected(Rejection::IdempotencyKeyReused);
            Outcome { verdict, replayed: false, transfer_id, decided_at: now }
        })
    }

    /// The two accounts as they would be after `transfer`, debit first; or why not.
    fn judge(&self, transfer: &Transfer, late: bool) -> Result<(Account, Account), Rejection> {
        // I4: a refusal for lateness is stored like any other, so that its request key has one
        // answer for ever: whoever still wants the money moved asks under a new key.
        if late {
            return Err(Rejection::DeadlineExceeded);
        }
        if transfer.debit_account_id == transfer.credit_account_id {
            return Err(Rejection::SameAccount);
        }
        let account = |id| self.accounts.get(&id);
        let debit = account(transfer.debit_account_id).ok_or(Rejection::DebitAccountNotFound)?;
        let credit = account(transfer.credit_account_id).ok_or(Rejection::CreditAccountNotFound)?;
        let debited = match transfer.kind {
            TransferKind::Wallet => AccountKind::Wallet,
            TransferKind::Deposit => AccountKind::System(System::PaystackClearing),
        };
        if (debit.kind, credit.kind) != (debited, AccountKind::Wallet) {
            return Err(Rejection::AccountKindMismatch);
        }
        if [debit, credit].iter().any(|it| it.currency != transfer.currency) {
            return Err(Rejection::CurrencyMismatch);
        }
        if debit.frozen {
            return Err(Rejection::DebitAccountFrozen);
        }
        if credit.frozen {
            return Err(Rejection::CreditAccountFrozen);
        }
        Ok((debit.debited(transfer.amount)?, credit.credited(transfer.amount)?))
    }

    /// Moves the money: both entries, both accounts.
    fn write(
        &mut self,
        transfer: &Transfer,
        (debit, credit): (Account, Account),
        decided_at: Timestamp,
    ) -> Verdict {
        let amount_minor = transfer.amount.to_i64();
        let position = self.next_position();
        let debit_balance_after_minor = debit.balance_minor();
        for (account, amount_minor) in
            [(debit, amount_minor.saturating_neg()), (credit, amount_minor)]
        {
            let position = self.next_position();
            self.enter(position, transfer.id, account, amount_minor);
            self.head = Head { position, decided_at };
        }
        Verdict::Posted { position, debit_balance_after_minor }
    }

    fn next_position(&self) -> i64 {
        self.head.position.checked_add(1).expect("fewer than 2^63 entries are ever written")
    }

    /// Writes one entry and what the account is after it.
    fn enter(&mut self, position: i64, transfer_id: TransferId, after: Account, amount_minor: i64) {
        let account_id = after.id;
        let balance_after_minor = after.balance_minor();
        assert!(after.is_sound(), "I2: {account_id} must not hold {balance_after_minor}");
        let before = self.accounts.insert(account_id, after).map(|it| it.balance_minor());
        let balance_before_minor = before.expect("judge has seen the account");
        assert_eq!(
            balance_before_minor.checked_add(amount_minor),
            Some(balance_after_minor),
            "I5: {account_id} changes by its entry and nothing else"
        );
        self.touched.insert(account_id);
        self.entries.push(Entry {
            position,
            transfer_id,
            account_id,
            amount_minor,
            balance_before_minor,
            balance_after_minor,
        });
    }

    fn remember(&mut self, transfer: &Transfer, verdict: Verdict, decided_at: Timestamp) {
        let decision = Decision {
            transfer_id: transfer.id,
            request_key: transfer.request_key,
            request_digest: transfer.request_digest,
            verdict,
            decided_at,
        };
        if let Some(key) = transfer.request_key {
            let earlier = self.by_request_key.insert(key, transfer.id);
            assert!(earlier.is_none(), "I3: a request key is decided once");
        }
        let earlier = self.decisions.insert(transfer.id, decision.clone());
        assert!(earlier.is_none(), "I3: {} is decided once", transfer.id);
        self.decided.push((transfer.clone(), decision));
    }
}
