//! A second opinion: what a careful clerk would look for in every committed row, written without a
//! line of the rules it is a check of.
//!
//! The clerk does not know why something was refused. It knows what may never be done, and what
//! must stand on an account when it was.

use std::collections::BTreeMap;

use ledger_core::{
    Account, AccountKind, Action, Change, ChangeRecord, Changes, Hold, Limits, Move, Record,
    Status, Verdict,
};
use primitives::{AccountId, System, Timestamp, TransferId};

use crate::print;
use crate::world::{Violation, insist};

#[derive(Debug)]
pub(crate) struct Clerk {
    accounts: BTreeMap<AccountId, Account>,
    holds: BTreeMap<TransferId, Hold>,
    /// What posted transfers moved, and how much of it came back. Holds and what gives them back
    /// are not here: they have moved nothing.
    moved: BTreeMap<TransferId, (Move, i64)>,
    position: i64,
    decided_at: Timestamp,
}

/// What a transfer should do: to the debited balance, to what is held there, to the credited one.
struct Effect {
    balance: i64,
    held: i64,
    credit: i64,
}

impl Clerk {
    pub(crate) fn new(accounts: Vec<Account>) -> Self {
        Self {
            accounts: accounts.into_iter().map(|it| (it.id, it)).collect(),
            holds: BTreeMap::new(),
            moved: BTreeMap::new(),
            position: 0,
            decided_at: Timestamp::from_micros(0),
        }
    }

    /// Looks through what a batch has written.
    pub(crate) fn read(&mut self, changes: &Changes) -> Result<(), Violation> {
        for account in &changes.opened {
            let fresh = Account::open(account.id, account.currency, account.opened_at);
            let before = self.accounts.insert(account.id, fresh);
            insist(before.is_none(), || format!("{} is opened twice", account.id))?;
        }
        let mut others = changes.change_records.iter().peekable();
        for record in &changes.records {
            while let Some(change) = others.next_if(|it| it.after_position < record.position) {
                self.change(change)?;
            }
            self.record(record).map_err(|Violation(why)| {
                let (position, asked) = (record.position, print::transfer(&record.transfer));
                Violation(format!("record {position}: {why}: {asked}"))
            })?;
        }
        others.try_for_each(|it| self.change(it))?;
        let accounts = changes.opened.iter().chain(&changes.changed).chain(&changes.moved);
        for account in accounts {
            insist(self.accounts.get(&account.id) == Some(account), || {
                let known = self.accounts.get(&account.id);
                format!("it should be {known:?}, what is saved is {account:?}")
            })?;
        }
        for hold in &changes.holds {
            let known = self.holds.get(&hold.id);
            insist(known == Some(hold), || format!("the hold is {known:?}, saved is {hold:?}"))?;
        }
        for it in &changes.reversed {
            let known = self.moved.get(&it.id).map(|known| known.1);
            insist(known == Some(it.reversed_minor), || format!("{known:?} came back: {it:?}"))?;
        }
        Ok(())
    }

    fn change(&mut self, record: &ChangeRecord) -> Result<(), Violation> {
        if !record.verdict.is_done() {
            return Ok(());
        }
        let account = self.accounts.get_mut(&record.asked.account_id);
        let Some(account) = account.filter(|it| it.status != Status::Closed) else {
            return Err(Violation(format!("nobody may change it: {record:?}")));
        };
        match record.asked.change {
            Change::Freeze => account.status = Status::Frozen,
            Change::Unfreeze => account.status = Status::Open,
            Change::Close => {
                let empty = (account.standing.balance_minor, account.standing.held_minor) == (0, 0);
                let wallet = account.kind == AccountKind::Wallet;
                insist(empty && wallet, || format!("{} may not be closed", account.id))?;
                account.status = Status::Closed;
            }
            Change::SetLimits(limits) => account.limits = limits,
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<(), Violation> {
        let say = |holds: bool, why: &'static str| insist(holds, || why.to_owned());
        self.position += 1;
        say(record.position == self.position, "not the next position")?;
        say(record.decided_at >= self.decided_at, "decided before the one before it")?;
        self.decided_at = record.decided_at;
        let Verdict::Done { debit_balance_after_minor } = record.verdict else {
            let still = record.debit_after.is_none() && record.credit_after.is_none();
            return say(still, "refused, and still something moved");
        };
        let Some(of) = record.of else { return Err(Violation("it moves nothing".to_owned())) };
        let effect = self.effect(record, of)?;
        let (Some(mut debit), Some(mut credit)) =
            (self.accounts.get(&of.debit_account_id).cloned(), self.account(of.credit_account_id))
        else {
            return Err(Violation("one of the accounts does not exist".to_owned()));
        };
        let same = debit.currency == of.currency && credit.currency == of.currency;
        say(same && debit.id != credit.id, "not two accounts of one currency")?;
        let gives_back = (effect.balance, effect.credit) == (0, 0) && effect.held < 0;
        let open = debit.status == Status::Open && credit.status == Status::Open;
        say(open || gives_back, "one of the accounts is frozen or closed")?;
        debit.standing.balance_minor += effect.balance;
        debit.standing.held_minor += effect.held;
        credit.standing.balance_minor += effect.credit;
        let available = debit.standing.balance_minor - debit.standing.held_minor;
        let spends = effect.balance - effect.held < 0;
        say(!spends || available >= debit.limits.least_minor, "more is spent than is available")?;
        say(debit.standing.held_minor >= 0, "less than nothing is held")?;
        let bounded = |it: &Account| {
            let Limits { least_minor, greatest_minor } = Limits::widest(it.kind);
            (least_minor..=greatest_minor).contains(&it.standing.balance_minor)
        };
        say(bounded(&debit) && bounded(&credit), "a wallet is overdrawn or overflows")?;
        let greatest = credit.limits.greatest_minor;
        say(effect.credit == 0 || credit.standing.balance_minor <= greatest, "above the limit")?;
        say(record.debit_after == Some(debit.standing), "the debited account stands otherwise")?;
        let credit_after = (effect.credit != 0).then_some(credit.standing);
        say(record.credit_after == credit_after, "the credited account stands otherwise")?;
        let told = debit_balance_after_minor == debit.standing.balance_minor;
        say(told, "the answer names another balance")?;
        for account in [debit, credit] {
            self.accounts.insert(account.id, account);
        }
        Ok(())
    }

    fn account(&self, id: AccountId) -> Option<Account> {
        self.accounts.get(&id).cloned()
    }

    /// What the transfer should do, after a look at what it is about.
    fn effect(&mut self, record: &Record, of: Move) -> Result<Effect, Violation> {
        let (id, action) = (record.transfer.id, &record.transfer.action);
        let say = |holds: bool, why: &'static str| insist(holds, || why.to_owned());
        let amount = of.amount.to_i64();
        let kind = |id| self.accounts.get(&id).map(|it| it.kind);
        let kinds = (kind(of.debit_account_id), kind(of.credit_account_id));
        let (wallet, clearing) =
            (Some(AccountKind::Wallet), Some(AccountKind::System(System::PaystackClearing)));
        let effect = match action {
            Action::Wallet(asked) => {
                say(*asked == of && kinds == (wallet, wallet), "not from wallet to wallet")?;
                Effect { balance: -amount, held: 0, credit: amount }
            }
            Action::Deposit(asked) => {
                say(*asked == of && kinds == (clearing, wallet), "not from clearing to wallet")?;
                Effect { balance: -amount, held: 0, credit: amount }
            }
            Action::Internal(asked) => {
                say(*asked == of, "not what was asked")?;
                Effect { balance: -amount, held: 0, credit: amount }
            }
            Action::Hold { of: asked, expires_at } => {
                say(*asked == of, "not what was asked")?;
                let hold = Hold { id, of, remaining_minor: amount, expires_at: *expires_at };
                say(self.holds.insert(id, hold).is_none(), "the hold is there already")?;
                return Ok(Effect { balance: 0, held: amount, credit: 0 });
            }
            Action::Capture { hold_id, amount: asked } => {
                let before = self.take(*hold_id, of, amount)?;
                let whole = before.remaining_minor;
                say(asked.map_or(whole, |it| it.to_i64()) == amount, "not what was asked")?;
                let due = before.expires_at.is_some_and(|it| it <= record.decided_at);
                say(!due, "the hold's time was up")?;
                Effect { balance: -amount, held: -amount, credit: amount }
            }
            Action::Release { hold_id } | Action::Expire { hold_id } => {
                let before = self.take(*hold_id, of, amount)?;
                say(before.remaining_minor == amount, "not all that remained")?;
                let due = before.expires_at.is_some_and(|it| it <= record.decided_at);
                let early = matches!(action, Action::Expire { .. }) && !due;
                say(!early, "the hold's time was not up")?;
                return Ok(Effect { balance: 0, held: -amount, credit: 0 });
            }
            Action::Reverse { transfer_id, amount: asked } => {
                let original = self.moved.get_mut(transfer_id);
                let Some((moved, back)) = original else {
                    return Err(Violation("nothing was moved that could come back".to_owned()));
                };
                let there = (moved.debit_account_id, moved.credit_account_id);
                let back_there = (of.credit_account_id, of.debit_account_id);
                say(there == back_there, "not back to where it came from")?;
                let whole = moved.amount.to_i64() - *back;
                say(asked.map_or(whole, |it| it.to_i64()) == amount, "not what was asked")?;
                say(amount <= whole, "more comes back than was moved")?;
                *back += amount;
                return Ok(Effect { balance: -amount, held: 0, credit: amount });
            }
        };
        self.moved.insert(id, (of, 0));
        Ok(effect)
    }

    /// Takes `amount` from a hold; says what it was before.
    fn take(&mut self, hold_id: TransferId, of: Move, amount: i64) -> Result<Hold, Violation> {
        let Some(hold) = self.holds.get_mut(&hold_id) else {
            return Err(Violation("there is no such hold".to_owned()));
        };
        let before = *hold;
        insist(Move { amount: hold.of.amount, ..of } == hold.of, || "of another".to_owned())?;
        hold.remaining_minor -= amount;
        insist(hold.remaining_minor >= 0, || "more is taken than was held".to_owned())?;
        Ok(before)
    }

    /// Looks at the books as a whole.
    pub(crate) fn close(&self, accounts: &[Account]) -> Result<(), Violation> {
        let mut sums: BTreeMap<_, i128> = BTreeMap::new();
        for account in accounts {
            let known = self.accounts.get(&account.id);
            insist(known == Some(account), || format!("{known:?} is kept as {account:?}"))?;
            *sums.entry(account.currency).or_default() +=
                i128::from(account.standing.balance_minor);
        }
        insist(sums.values().all(|it| *it == 0), || format!("money was made or lost: {sums:?}"))?;
        insist(self.accounts.len() == accounts.len(), || "accounts are missing".to_owned())
    }
}
