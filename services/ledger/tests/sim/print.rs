//! Commands and outcomes in a few words, for the trace of a run.

use ledger_core::{Action, Body, Change, Command, Move, Outcome, Transfer, Verdict};
use primitives::{AccountId, TransferId};

use crate::requests::number;

/// What is asked, such as `t12 a3→a4 50`.
pub(crate) fn command(command: &Command) -> String {
    match &command.body {
        Body::OpenAccount { account_id, currency } => {
            format!("open {} in {currency}", account(*account_id))
        }
        Body::ChangeAccount(asked) => {
            let what = match asked.change {
                Change::Freeze => "freeze".to_owned(),
                Change::Unfreeze => "unfreeze".to_owned(),
                Change::Close => "close".to_owned(),
                Change::SetLimits(it) => format!("limit {}…{}", it.least_minor, it.greatest_minor),
            };
            format!("c{} {what} {}", number(asked.id.uuid()), account(asked.account_id))
        }
        Body::Post { transfers, linked } => {
            let transfers: Vec<String> = transfers.iter().map(transfer).collect();
            format!("{}{}", if *linked { "linked: " } else { "" }, transfers.join(", "))
        }
    }
}

/// One transfer, as [`command`] prints it.
pub(crate) fn transfer(transfer: &Transfer) -> String {
    let id = id(transfer.id);
    let part = |it: Option<primitives::Amount>| {
        it.map_or_else(|| "the rest".to_owned(), |amount| amount.to_string())
    };
    match &transfer.action {
        Action::Wallet(of) | Action::Internal(of) => format!("{id} {}", moves(of)),
        Action::Deposit(of) => format!("{id} deposit {}", moves(of)),
        Action::Hold { of, expires_at: None } => format!("{id} hold {}", moves(of)),
        Action::Hold { of, .. } => format!("{id} hold for a time {}", moves(of)),
        Action::Capture { hold_id, amount } => {
            format!("{id} capture {} of {}", part(*amount), self::id(*hold_id))
        }
        Action::Release { hold_id } => format!("{id} release {}", self::id(*hold_id)),
        Action::Expire { hold_id } => format!("{id} expire {}", self::id(*hold_id)),
        Action::Reverse { transfer_id, amount } => {
            format!("{id} reverse {} of {}", part(*amount), self::id(*transfer_id))
        }
    }
}

fn id(id: TransferId) -> String {
    format!("t{}", number(id.uuid()))
}

fn moves(of: &Move) -> String {
    format!("{}→{} {}", account(of.debit_account_id), account(of.credit_account_id), of.amount)
}

fn account(id: AccountId) -> String {
    match id.uuid().as_u64_pair() {
        (0, 0) => "nobody".to_owned(),
        (1, n) => format!("a{n}"),
        _ => "own".to_owned(),
    }
}

/// What was answered, such as `done, 70 left`.
pub(crate) fn outcomes(outcomes: &[Outcome]) -> String {
    let print = |it: &Outcome| {
        let again = if it.replayed { "again " } else { "" };
        match it.verdict {
            Verdict::Done { debit_balance_after_minor: left } => {
                format!("{again}done, {left} left")
            }
            Verdict::Rejected(rejection) => format!("{again}{}", rejection.code()),
        }
    };
    outcomes.iter().map(print).collect::<Vec<_>>().join("; ")
}
