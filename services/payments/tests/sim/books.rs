//! The ledger: its own rules, without its process.

use ledger_core::{
    Account, AccountChange, Action, Body, Books, Change, Command, Found, Head, Move, Rejection,
    Transfer,
};
use payments::lifecycle::{Credit, Deposit, Source};
use payments::returns::{self, Cover, Return};
use primitives::{AccountId, Amount, ChangeId, Currency, System, Timestamp, TransferId};

/// The currencies that people pay in.
pub(crate) const CURRENCIES: [Currency; 2] = [Currency::NGN, Currency::USD];

/// The books.
pub(crate) struct Ledger(Books);

impl Ledger {
    pub(crate) fn new(now: Timestamp) -> Self {
        let accounts = [System::PaystackClearing, System::Suspense]
            .into_iter()
            .flat_map(|system| CURRENCIES.map(|it| Account::system(system, it, now)));
        let found = Found { accounts: accounts.collect(), ..Found::default() };
        Self(Books::new(Head::START, found))
    }

    fn ask(&mut self, body: Body, now: Timestamp) -> Result<(), Rejection> {
        let outcomes = self.0.apply(Command { deadline_at: None, body }, now);
        // Of a group the last one's no counts, or whichever says why.
        let mut nos = outcomes.iter().rev().filter_map(|it| it.verdict.rejection());
        nos.find(|it| *it != Rejection::GroupRefused).map_or(Ok(()), Err)
    }

    pub(crate) fn open(&mut self, account_id: AccountId, now: Timestamp) {
        let body = Body::OpenAccount { account_id, currency: Currency::NGN };
        self.ask(body, now).expect("a new account");
    }

    pub(crate) fn change(&mut self, account_id: AccountId, change: Change, now: Timestamp) {
        let id = ChangeId::generate();
        let change = Body::ChangeAccount(AccountChange { id, account_id, change });
        self.ask(change, now).expect("a wallet that is open");
    }

    pub(crate) fn balance(&self, account_id: AccountId) -> i64 {
        self.0.account(account_id).map_or(0, |it| it.standing.balance_minor)
    }

    pub(crate) fn system(&self, system: System, currency: Currency) -> i64 {
        self.balance(AccountId::system(system, currency))
    }

    /// As `drive` asks for it.
    pub(crate) fn credit(
        &mut self,
        deposit: &Deposit,
        credit: &Credit,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let clearing = AccountId::system(System::PaystackClearing, deposit.currency);
        let of = |debit_account_id, credit_account_id| Move {
            debit_account_id,
            credit_account_id,
            amount: credit.amount,
            currency: deposit.currency,
        };
        let post = transfer(credit.transfer_id, Action::Deposit(of(clearing, deposit.account_id)));
        let transfers = match credit.source {
            Source::Clearing => vec![post],
            Source::Suspense { back_transfer_id } => {
                let suspense = AccountId::system(System::Suspense, deposit.currency);
                let back = Action::Internal(of(suspense, clearing));
                vec![transfer(back_transfer_id, back), post]
            }
        };
        let linked = transfers.len() > 1;
        self.ask(Body::Post { transfers, linked }, now)
    }

    /// As `drive` asks for it.
    pub(crate) fn suspend(&mut self, deposit: &Deposit, now: Timestamp) -> Result<(), Rejection> {
        let paid = deposit.paid.as_ref().expect("what is owed was paid");
        let action = Action::Internal(Move {
            debit_account_id: AccountId::system(System::PaystackClearing, paid.currency),
            credit_account_id: AccountId::system(System::Suspense, paid.currency),
            amount: paid.amount,
            currency: paid.currency,
        });
        let transfers = vec![transfer(deposit.suspend_transfer_id(), action)];
        self.ask(Body::Post { transfers, linked: false }, now)
    }

    /// As `give_back` asks for it.
    pub(crate) fn hold(&mut self, it: &Return, now: Timestamp) -> Result<(), Rejection> {
        let of = back(it, source(it), it.amount.expect("it is known how much"));
        let transfers =
            vec![transfer(it.hold_transfer_id(), Action::Hold { of, expires_at: None })];
        self.ask(Body::Post { transfers, linked: false }, now)
    }

    /// As `give_back` asks for it.
    pub(crate) fn take(&mut self, it: &Return, now: Timestamp) -> Result<(), Rejection> {
        let (id, taken) = (it.take_transfer_id(), it.taken.expect("it is known how much"));
        let mut transfers = Vec::new();
        if it.cover == Cover::Held {
            let hold_id = it.hold_transfer_id();
            transfers.push(transfer(id, Action::Capture { hold_id, amount: Some(taken) }));
            if it.amount.is_some_and(|all| taken < all) {
                transfers.push(transfer(it.release_transfer_id(), Action::Release { hold_id }));
            }
        } else {
            let suspense = AccountId::system(System::Suspense, it.payment.currency);
            transfers.push(transfer(id, Action::Internal(back(it, suspense, taken))));
        }
        let linked = transfers.len() > 1;
        self.ask(Body::Post { transfers, linked }, now)
    }

    /// As `give_back` asks for it.
    pub(crate) fn release(&mut self, it: &Return, now: Timestamp) -> Result<(), Rejection> {
        let release = Action::Release { hold_id: it.hold_transfer_id() };
        let transfers = vec![transfer(it.release_transfer_id(), release)];
        self.ask(Body::Post { transfers, linked: false }, now)
    }

    /// Somebody pays somebody; whether there was enough.
    pub(crate) fn pay(
        &mut self,
        (from, to): (AccountId, AccountId),
        minor: u64,
        now: Timestamp,
    ) -> bool {
        let of = Move {
            debit_account_id: from,
            credit_account_id: to,
            amount: amount(minor),
            currency: Currency::NGN,
        };
        let transfers = vec![transfer(TransferId::generate(), Action::Wallet(of))];
        self.ask(Body::Post { transfers, linked: false }, now).is_ok()
    }

    pub(crate) fn held(&self, account_id: AccountId) -> i64 {
        self.0.account(account_id).map_or(0, |it| it.standing.held_minor)
    }
}

fn source(it: &Return) -> AccountId {
    match it.payment.source {
        returns::Source::Wallet(account_id) => account_id,
        returns::Source::Suspense => AccountId::system(System::Suspense, it.payment.currency),
    }
}

fn back(it: &Return, debit_account_id: AccountId, amount: Amount) -> Move {
    let currency = it.payment.currency;
    let credit_account_id = AccountId::system(System::PaystackClearing, currency);
    Move { debit_account_id, credit_account_id, amount, currency }
}

fn transfer(id: TransferId, action: Action) -> Transfer {
    Transfer {
        id,
        action,
        note: String::new(),
        reference: String::new(),
        request_key: None,
        request_digest: digest(&action),
        made_by_key_id: None,
    }
}

/// The same for the same, and for nothing else.
fn digest(action: &Action) -> [u8; 32] {
    let mut digest = [0; 32];
    let Some(of) = action.of() else {
        digest[0] = 1;
        return digest;
    };
    digest[..8].copy_from_slice(&of.amount.minor().to_be_bytes());
    digest[8..24].copy_from_slice(of.credit_account_id.uuid().as_bytes());
    digest
}

/// An amount that is one.
pub(crate) fn amount(minor: u64) -> Amount {
    Amount::try_new(minor).expect("an amount")
}
