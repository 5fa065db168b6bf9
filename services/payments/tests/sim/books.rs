//! The ledger: its own rules, without its process.

use ledger_core::{
    Account, AccountChange, Action, Body, Books, Change, Command, Found, Head, Move, Rejection,
    Transfer,
};
use payments::lifecycle::{Credit, Deposit, Source};
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
    let of = action.of().expect("it says what it moves");
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&of.amount.minor().to_be_bytes());
    digest[8..24].copy_from_slice(of.credit_account_id.uuid().as_bytes());
    digest
}

/// An amount that is one.
pub(crate) fn amount(minor: u64) -> Amount {
    Amount::try_new(minor).expect("an amount")
}
