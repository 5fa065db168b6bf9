//! The accounts, holds and transfers that every table begins with, and the one `check`.

use ledger_core::{
    Account, Action, Body, Books, Changes, Command, Found, Head, Hold, Limits, Move, Outcome,
    Rejection, Reversible, Standing, Status, Transfer, TransferKind,
};
use primitives::{AMOUNT_MINOR_MAX, AccountId, Amount, Currency, System, Timestamp, TransferId};
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_000);
pub(crate) const EARLIER: Timestamp = Timestamp::from_seconds(999);
pub(crate) const LATER: Timestamp = Timestamp::from_seconds(1_001);

/// Of the hold that is open: 40 of 50 remain, from h to b.
pub(crate) const OPEN: u128 = 101;
/// Its time is up; 10 remain, from h to b.
pub(crate) const OVER: u128 = 102;
/// Nothing remains of it.
pub(crate) const SPENT: u128 = 103;
/// Open holds of 5 from and to accounts that let nothing through.
pub(crate) const FROM_FROZEN: u128 = 104;
pub(crate) const TO_FROZEN: u128 = 105;
pub(crate) const TO_FULL: u128 = 106;
pub(crate) const TO_CLOSED: u128 = 107;
pub(crate) const FROM_FROZEN_TO_CLOSED: u128 = 108;

/// Posted transfers of 30 that nobody has moved back, by what they are.
pub(crate) const PAID: u128 = 201;
pub(crate) const DEPOSITED: u128 = 202;
pub(crate) const MOVED: u128 = 203;
pub(crate) const CAPTURED: u128 = 204;
/// 20 of 30 were moved back.
pub(crate) const PARTLY_BACK: u128 = 205;
/// All of it was.
pub(crate) const ALL_BACK: u128 = 206;
/// It was refused.
pub(crate) const REFUSED: u128 = 207;
/// Kinds that are not moved back.
pub(crate) const A_HOLD: u128 = 208;
pub(crate) const A_RELEASE: u128 = 209;
pub(crate) const AN_EXPIRY: u128 = 210;
pub(crate) const A_REVERSAL: u128 = 211;
/// Between accounts that let nothing through, from the one to the other.
pub(crate) const A_TO_FROZEN: u128 = 212;
pub(crate) const FROZEN_TO_B: u128 = 213;
pub(crate) const A_TO_CLOSED: u128 = 214;
pub(crate) const CLOSED_TO_B: u128 = 215;
pub(crate) const A_TO_EMPTY: u128 = 216;
pub(crate) const FULL_TO_B: u128 = 217;
pub(crate) const FULL_TO_EMPTY: u128 = 218;

/// Wallets by letter: a and b hold naira, d holds dollars, f is frozen, k closed, r full, n empty;
/// of h's hundred most is held, l must keep 20 and hold at most 110; x and NOBODY do not exist; C
/// and S are the clearing and suspense accounts, Z the frozen one of dollars.
pub(crate) fn id(letter: char) -> AccountId {
    match letter {
        'C' => AccountId::system(System::PaystackClearing, Currency::NGN),
        'S' => AccountId::system(System::Suspense, Currency::NGN),
        'Z' => AccountId::system(System::PaystackClearing, Currency::USD),
        '-' => AccountId::NOBODY,
        letter => AccountId::from_uuid(Uuid::from_u128(u128::from(u32::from(letter)))),
    }
}

pub(crate) fn txn(n: u128) -> TransferId {
    TransferId::from_uuid(Uuid::from_u128(n))
}

pub(crate) fn amount(minor: u64) -> Amount {
    Amount::try_new(minor).unwrap()
}

pub(crate) fn of(from: char, to: char, minor: u64) -> Move {
    Move {
        debit_account_id: id(from),
        credit_account_id: id(to),
        amount: amount(minor),
        currency: Currency::NGN,
    }
}

fn wallet(letter: char, balance_minor: i64, held_minor: i64) -> Account {
    let standing = Standing { balance_minor, held_minor };
    Account { standing, ..Account::open(id(letter), Currency::NGN, EARLIER) }
}

fn accounts() -> Vec<Account> {
    let limits = Limits { least_minor: 20, greatest_minor: 110 };
    let usd = Account::system(System::PaystackClearing, Currency::USD, EARLIER);
    vec![
        wallet('a', 100, 0),
        wallet('b', 50, 0),
        Account { currency: Currency::USD, ..wallet('d', 100, 0) },
        Account { status: Status::Frozen, ..wallet('f', 100, 10) },
        wallet('h', 100, 65),
        Account { status: Status::Closed, ..wallet('k', 0, 0) },
        Account { limits, ..wallet('l', 100, 0) },
        wallet('n', 0, 0),
        wallet('r', AMOUNT_MINOR_MAX.cast_signed(), 0),
        Account::system(System::PaystackClearing, Currency::NGN, EARLIER),
        Account::system(System::Suspense, Currency::NGN, EARLIER),
        Account { status: Status::Frozen, ..usd },
    ]
}

fn holds() -> Vec<Hold> {
    let hold = |n, of, remaining_minor, expires_at| Hold {
        id: txn(n),
        of,
        remaining_minor,
        expires_at: Some(expires_at),
    };
    vec![
        hold(OPEN, of('h', 'b', 50), 40, LATER),
        hold(OVER, of('h', 'b', 10), 10, NOW),
        hold(SPENT, of('h', 'b', 5), 0, EARLIER),
        hold(FROM_FROZEN, of('f', 'b', 5), 5, LATER),
        hold(TO_FROZEN, of('h', 'f', 5), 5, LATER),
        hold(TO_FULL, of('h', 'r', 5), 5, LATER),
        hold(TO_CLOSED, of('h', 'k', 5), 5, LATER),
        hold(FROM_FROZEN_TO_CLOSED, of('f', 'k', 5), 5, LATER),
    ]
}

fn reversible() -> Vec<Reversible> {
    use TransferKind::*;
    let posted = |n, kind, from, to| Reversible {
        id: txn(n),
        kind,
        of: Some(of(from, to, 30)),
        reversed_minor: 0,
    };
    vec![
        posted(PAID, Wallet, 'a', 'b'),
        posted(DEPOSITED, Deposit, 'C', 'a'),
        posted(MOVED, Internal, 'S', 'a'),
        posted(CAPTURED, Capture, 'h', 'b'),
        Reversible { reversed_minor: 20, ..posted(PARTLY_BACK, Wallet, 'a', 'b') },
        Reversible { reversed_minor: 30, ..posted(ALL_BACK, Wallet, 'a', 'b') },
        Reversible { of: None, ..posted(REFUSED, Hold, 'a', 'b') },
        posted(A_HOLD, Hold, 'a', 'b'),
        posted(A_RELEASE, Release, 'a', 'b'),
        posted(AN_EXPIRY, Expiry, 'a', 'b'),
        Reversible { reversed_minor: 30, ..posted(A_REVERSAL, Reversal, 'a', 'b') },
        posted(A_TO_FROZEN, Wallet, 'a', 'f'),
        posted(FROZEN_TO_B, Wallet, 'f', 'b'),
        posted(A_TO_CLOSED, Wallet, 'a', 'k'),
        posted(CLOSED_TO_B, Wallet, 'k', 'b'),
        posted(A_TO_EMPTY, Wallet, 'a', 'n'),
        posted(FULL_TO_B, Wallet, 'r', 'b'),
        posted(FULL_TO_EMPTY, Wallet, 'r', 'n'),
    ]
}

pub(crate) fn books() -> Books {
    let found =
        Found { accounts: accounts(), holds: holds(), reversed: reversible(), ..Found::default() };
    Books::new(Head::START, found)
}

pub(crate) fn pay(from: char, to: char, minor: u64) -> Action {
    Action::Wallet(of(from, to, minor))
}

pub(crate) fn deposit(from: char, to: char, minor: u64) -> Action {
    Action::Deposit(of(from, to, minor))
}

pub(crate) fn internal(from: char, to: char, minor: u64) -> Action {
    Action::Internal(of(from, to, minor))
}

/// The same, in dollars; only of what says itself what it moves.
pub(crate) fn usd(mut action: Action) -> Action {
    if let Action::Wallet(of)
    | Action::Deposit(of)
    | Action::Internal(of)
    | Action::Hold { of, .. } = &mut action
    {
        of.currency = Currency::USD;
    }
    action
}

pub(crate) fn hold(from: char, to: char, minor: u64) -> Action {
    Action::Hold { of: of(from, to, minor), expires_at: Some(LATER) }
}

pub(crate) fn hold_until(from: char, to: char, expires_at: Timestamp) -> Action {
    Action::Hold { of: of(from, to, 10), expires_at: Some(expires_at) }
}

pub(crate) fn capture(hold: u128, minor: u64) -> Action {
    Action::Capture { hold_id: txn(hold), amount: Some(amount(minor)) }
}

pub(crate) fn capture_all(hold: u128) -> Action {
    Action::Capture { hold_id: txn(hold), amount: None }
}

pub(crate) fn release(hold: u128) -> Action {
    Action::Release { hold_id: txn(hold) }
}

pub(crate) fn expire(hold: u128) -> Action {
    Action::Expire { hold_id: txn(hold) }
}

pub(crate) fn reverse(transfer: u128, minor: u64) -> Action {
    Action::Reverse { transfer_id: txn(transfer), amount: Some(amount(minor)) }
}

pub(crate) fn reverse_all(transfer: u128) -> Action {
    Action::Reverse { transfer_id: txn(transfer), amount: None }
}

/// A transfer without a request key, with its own digest.
pub(crate) fn transfer(n: u128, action: Action) -> Transfer {
    let mut request_digest = [0; 32];
    request_digest[..16].copy_from_slice(&n.to_be_bytes());
    Transfer {
        id: txn(n),
        action,
        note: String::new(),
        reference: String::new(),
        request_key: None,
        request_digest,
        made_by_key_id: None,
    }
}

pub(crate) fn post_all(books: &mut Books, transfers: Vec<Transfer>, linked: bool) -> Vec<Outcome> {
    let body = Body::Post { transfers, linked };
    books.apply(Command { deadline_at: Some(NOW), body }, NOW)
}

pub(crate) fn post(books: &mut Books, transfer: Transfer) -> Outcome {
    let outcomes = post_all(books, vec![transfer], false);
    assert_eq!(outcomes.len(), 1, "one transfer, one outcome");
    outcomes[0]
}

/// Asks for `action` as transfer `n`, and says why not.
pub(crate) fn ask(books: &mut Books, n: u128, action: Action) -> Option<Rejection> {
    post(books, transfer(n, action)).verdict.rejection()
}

/// Balance and held sum of an account.
pub(crate) fn stands(books: &Books, letter: char) -> (i64, i64) {
    let Standing { balance_minor, held_minor } = books.account(id(letter)).unwrap().standing;
    (balance_minor, held_minor)
}

/// Whether nothing but records was changed.
pub(crate) fn moves_nothing(changes: &Changes) -> bool {
    changes.opened.is_empty()
        && changes.changed.is_empty()
        && changes.moved.is_empty()
        && changes.holds.is_empty()
        && changes.reversed.is_empty()
        && changes.records.iter().all(|it| it.debit_after.is_none() && it.credit_after.is_none())
}

/// Asks fresh books; a refusal must change nothing but its own record.
#[track_caller]
pub(crate) fn refuses(name: &str, action: Action, expected: Rejection) {
    let mut books = books();
    let before: Vec<Account> = books.accounts().cloned().collect();
    let outcome = post(&mut books, transfer(1, action));
    assert_eq!(outcome.verdict.rejection(), Some(expected), "{name}");
    assert_eq!(outcome.transfer_id, Some(txn(1)), "{name}");
    assert!(!outcome.replayed, "{name}");
    assert!(books.accounts().eq(&before), "{name}: a refusal moves nothing");
    let changes = books.into_changes();
    assert!(moves_nothing(&changes), "{name}: {changes:?}");
    assert_eq!(changes.records.len(), usize::from(expected.is_kept()), "{name}: what is kept");
    assert_eq!(changes.head.position, i64::from(expected.is_kept()), "{name}");
}

/// Asks fresh books for what is allowed, and compares what stands on accounts after it: letter,
/// balance, held.
#[track_caller]
pub(crate) fn allows(name: &str, action: Action, expected: &[(char, i64, i64)]) {
    let mut books = books();
    let outcome = post(&mut books, transfer(1, action));
    assert_eq!(outcome.verdict.rejection(), None, "{name}");
    for (letter, balance_minor, held_minor) in expected {
        assert_eq!(stands(&books, *letter), (*balance_minor, *held_minor), "{name}: {letter}");
    }
    let changes = books.into_changes();
    let moved: Vec<_> = changes.moved.iter().map(|it| it.id).collect();
    let mut expected: Vec<_> = expected.iter().map(|it| id(it.0)).collect();
    expected.retain(|it| moved.contains(it));
    assert_eq!(moved.len(), expected.len(), "{name}: no other account moved");
    let record = &changes.records[0];
    assert_eq!(record.position, 1, "{name}");
    assert!(record.debit_after.is_some(), "{name}");
    assert_eq!(record.credit_after.is_some(), action.kind().moves_money(), "{name}");
}
