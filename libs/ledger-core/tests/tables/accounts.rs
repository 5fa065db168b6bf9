//! Accounts: opened once, changed in order with the money, closed for good.

use ledger_core::{
    AccountChange, Body, Books, Change, ChangeRecord, Command, Found, Head, Limits, Outcome,
    Rejection, Status, Verdict,
};
use primitives::{AMOUNT_MINOR_MAX, ChangeId, Currency, Timestamp};
use uuid::Uuid;

use crate::world::*;
use Rejection::*;

fn asked(n: u128, letter: char, change: Change) -> AccountChange {
    AccountChange { id: ChangeId::from_uuid(Uuid::from_u128(n)), account_id: id(letter), change }
}

fn apply(books: &mut Books, asked: AccountChange, deadline_at: Option<Timestamp>) -> Outcome {
    let outcomes = books.apply(Command { deadline_at, body: Body::ChangeAccount(asked) }, NOW);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].transfer_id, None);
    outcomes[0]
}

fn change(books: &mut Books, n: u128, letter: char, change: Change) -> Option<Rejection> {
    apply(books, asked(n, letter, change), Some(NOW)).verdict.rejection()
}

fn limits(least_minor: i64, greatest_minor: i64) -> Change {
    Change::SetLimits(Limits { least_minor, greatest_minor })
}

#[test]
fn accounts_open_once_and_only_as_wallets() {
    let mut books = books();
    let mut open = |letter, currency, deadline_at| {
        let body = Body::OpenAccount { account_id: id(letter), currency };
        let outcomes = books.apply(Command { deadline_at, body }, NOW);
        assert_eq!((outcomes.len(), outcomes[0].transfer_id), (1, None));
        let Outcome { verdict, replayed, decided_at, .. } = outcomes[0];
        (verdict.rejection(), replayed, decided_at)
    };
    let (ngn, usd) = (Currency::NGN, Currency::USD);
    assert_eq!(open('x', ngn, Some(NOW)), (None, false, NOW), "new");
    assert_eq!(open('x', ngn, Some(NOW)), (None, true, NOW), "again");
    assert_eq!(open('a', ngn, Some(EARLIER)), (None, true, EARLIER), "again, and late");
    assert_eq!(open('k', ngn, None), (None, true, EARLIER), "a closed one is there");
    assert_eq!(open('y', ngn, Some(EARLIER)), (Some(DeadlineExceeded), false, NOW), "new, late");
    assert_eq!(open('a', usd, Some(EARLIER)), (Some(DeadlineExceeded), false, NOW), "late first");
    assert_eq!(open('a', usd, None), (Some(CurrencyMismatch), false, NOW), "other currency");
    assert_eq!(open('C', ngn, None), (Some(AccountKindMismatch), false, NOW), "a system account");
    assert_eq!(open('C', usd, None), (Some(AccountKindMismatch), false, NOW), "kind first");
    assert_eq!(open('-', ngn, None), (Some(AccountKindMismatch), false, NOW), "nobody");
    let changes = books.into_changes();
    let opened: Vec<_> = changes.opened.iter().map(|it| it.id).collect();
    assert_eq!(opened, [id('x')]);
    assert!(changes.records.is_empty() && changes.changed.is_empty() && changes.moved.is_empty());
    assert_eq!(changes.head, Head::START, "an opening is no transfer");
}

/// Whose account, what is asked, and the answer.
#[test]
fn each_change_of_an_account() {
    let most = AMOUNT_MINOR_MAX.cast_signed();
    for (letter, asked, expected) in [
        ('a', Change::Freeze, None),
        ('f', Change::Freeze, None),
        ('a', Change::Unfreeze, None),
        ('f', Change::Unfreeze, None),
        ('C', Change::Freeze, None),
        ('Z', Change::Unfreeze, None),
        ('n', Change::Close, None),
        ('x', Change::Freeze, Some(AccountNotFound)),
        ('-', Change::Close, Some(AccountNotFound)),
        ('x', limits(9, 1), Some(AccountNotFound)),
        ('C', Change::Close, Some(AccountKindMismatch)),
        ('k', Change::Freeze, Some(AccountIsClosed)),
        ('k', Change::Unfreeze, Some(AccountIsClosed)),
        ('k', Change::Close, Some(AccountIsClosed)),
        ('k', limits(0, 1), Some(AccountIsClosed)),
        ('k', limits(9, 1), Some(AccountIsClosed)),
        ('a', Change::Close, Some(AccountNotEmpty)),
        ('f', Change::Close, Some(AccountNotEmpty)),
        ('a', limits(0, most), None),
        ('a', limits(100, 100), None),
        ('n', limits(0, 0), None),
        ('h', limits(35, 100), None),
        ('C', limits(-1_000, 0), None),
        ('S', limits(0, i64::MAX), None),
        ('f', limits(0, 200), None),
        ('a', limits(101, 200), Some(LimitExceeded)),
        ('a', limits(0, 99), Some(LimitExceeded)),
        ('h', limits(36, 100), Some(LimitExceeded)),
        ('a', limits(-1, 200), Some(LimitExceeded)),
        ('a', limits(0, most + 1), Some(LimitExceeded)),
        ('a', limits(100, 99), Some(LimitExceeded)),
        ('C', limits(i64::MIN, 0), Some(LimitExceeded)),
        ('C', limits(1, 0), Some(LimitExceeded)),
    ] {
        let mut books = books();
        let before = books.account(id(letter)).cloned();
        let outcome = change(&mut books, 1, letter, asked);
        assert_eq!(outcome, expected, "{asked:?} of {letter}");
        let after = books.account(id(letter)).cloned();
        let changes = books.into_changes();
        assert_eq!(changes.changed.len(), usize::from(before != after), "{asked:?} of {letter}");
        assert!(expected.is_none() || before == after, "{asked:?} of {letter}");
        assert_eq!(changes.change_records.len(), 1, "kept, also if refused");
        assert!(changes.moved.is_empty() && changes.records.is_empty());
    }
}

#[test]
fn changes_are_ordered_with_the_money() {
    let mut books = books();
    assert_eq!(ask(&mut books, 1, pay('a', 'b', 10)), None);
    assert_eq!(change(&mut books, 1, 'a', Change::Freeze), None);
    assert_eq!(ask(&mut books, 2, pay('a', 'b', 10)), Some(DebitAccountFrozen));
    assert_eq!(change(&mut books, 2, 'a', Change::Unfreeze), None);
    assert_eq!(ask(&mut books, 3, pay('a', 'b', 10)), None);
    assert_eq!(change(&mut books, 3, 'a', limits(50, 80)), None);
    assert_eq!(ask(&mut books, 4, pay('a', 'b', 31)), Some(InsufficientFunds));
    assert_eq!(ask(&mut books, 5, pay('b', 'a', 1)), Some(LimitExceeded));
    assert_eq!(ask(&mut books, 6, pay('a', 'b', 30)), None);
    let changes = books.into_changes();
    let after: Vec<i64> = changes.change_records.iter().map(|it| it.after_position).collect();
    assert_eq!(after, [1, 2, 3]);
    let account = &changes.changed[0];
    assert_eq!((account.id, account.status), (id('a'), Status::Open));
}

#[test]
fn a_closed_account_is_closed_for_good() {
    let mut books = books();
    assert_eq!(change(&mut books, 1, 'a', Change::Close), Some(AccountNotEmpty));
    assert_eq!(ask(&mut books, 1, pay('a', 'b', 100)), None);
    assert_eq!(change(&mut books, 2, 'a', Change::Close), None);
    assert_eq!(ask(&mut books, 2, pay('b', 'a', 1)), Some(CreditAccountClosed));
    assert_eq!(ask(&mut books, 3, deposit('C', 'a', 1)), Some(CreditAccountClosed));
    assert_eq!(change(&mut books, 3, 'a', Change::Unfreeze), Some(AccountIsClosed));
    assert_eq!(ask(&mut books, 4, reverse_all(1)), Some(CreditAccountClosed));
}

#[test]
fn a_frozen_account_can_be_closed_when_it_is_empty() {
    let mut books = books();
    assert_eq!(change(&mut books, 1, 'n', Change::Freeze), None);
    assert_eq!(change(&mut books, 2, 'n', Change::Close), None);
    assert_eq!(books.account(id('n')).unwrap().status, Status::Closed);
}

#[test]
fn what_is_held_keeps_an_account_open() {
    let mut books = books();
    assert_eq!(ask(&mut books, 1, hold('S', 'n', 5)), None);
    assert_eq!(ask(&mut books, 2, deposit('C', 'n', 5)), None);
    assert_eq!(ask(&mut books, 3, hold('n', 'a', 5)), None);
    assert_eq!(ask(&mut books, 4, internal('n', 'b', 5)), Some(InsufficientFunds));
    assert_eq!(change(&mut books, 1, 'n', Change::Close), Some(AccountNotEmpty));
    assert_eq!(ask(&mut books, 5, capture_all(3)), None);
    assert_eq!(change(&mut books, 2, 'n', Change::Close), None);
    assert_eq!(ask(&mut books, 6, capture_all(1)), Some(CreditAccountClosed));
    assert_eq!(ask(&mut books, 7, release(1)), None, "it is given back all the same");
}

#[test]
fn a_change_has_one_answer_for_ever() {
    let mut books = books();
    let freeze = asked(1, 'a', Change::Freeze);
    let first = apply(&mut books, freeze, Some(NOW));
    assert_eq!((first.verdict.is_done(), first.replayed), (true, false));
    assert_eq!(change(&mut books, 2, 'a', Change::Unfreeze), None);
    // The repeat changes nothing, however late it comes and whatever was changed since.
    let again = apply(&mut books, freeze, Some(EARLIER));
    assert_eq!(again, Outcome { replayed: true, ..first });
    assert_eq!(books.account(id('a')).unwrap().status, Status::Open);
    for other in [asked(1, 'b', Change::Freeze), asked(1, 'a', Change::Unfreeze)] {
        let reused = apply(&mut books, other, Some(NOW));
        assert_eq!(reused.verdict, Verdict::Rejected(IdempotencyKeyReused));
        assert!(!reused.replayed);
    }
    // A refusal for lateness is one, too.
    let late = apply(&mut books, asked(3, 'a', Change::Freeze), Some(EARLIER));
    assert_eq!(late.verdict, Verdict::Rejected(DeadlineExceeded));
    let again = apply(&mut books, asked(3, 'a', Change::Freeze), None);
    assert_eq!(again, Outcome { replayed: true, ..late });
    assert_eq!(books.into_changes().change_records.len(), 3);
}

#[test]
fn a_change_that_was_found_is_repeated() {
    let asked = asked(1, 'x', Change::Freeze);
    let verdict = Verdict::Rejected(AccountNotFound);
    let earlier = ChangeRecord { asked, verdict, after_position: 7, decided_at: EARLIER };
    let found = Found { changes: vec![earlier], ..Found::default() };
    let mut books = Books::new(Head::START, found);
    let again = apply(&mut books, asked, None);
    assert_eq!((again.verdict, again.replayed, again.decided_at), (verdict, true, EARLIER));
    assert!(books.into_changes().change_records.is_empty());
}

#[test]
fn an_account_opened_and_used_in_one_batch_is_saved_once_as_it_is_after_it() {
    let mut books = books();
    let body = Body::OpenAccount { account_id: id('x'), currency: Currency::NGN };
    assert!(books.apply(Command { deadline_at: None, body }, NOW)[0].verdict.is_done());
    assert_eq!(ask(&mut books, 1, pay('a', 'x', 10)), None);
    assert_eq!(change(&mut books, 1, 'x', Change::Freeze), None);
    let changes = books.into_changes();
    assert_eq!(changes.opened.len(), 1);
    assert_eq!(changes.opened[0].status, Status::Frozen);
    assert_eq!(changes.opened[0].standing.balance_minor, 10);
    assert!(changes.changed.is_empty());
    assert_eq!(changes.moved.len(), 2);
}
