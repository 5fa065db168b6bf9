//! Every refusal of a transfer: each rule alone, and which of two comes first.

use std::collections::BTreeSet;

use ledger_core::{Action, Body, Command, Rejection};
use primitives::{AMOUNT_MINOR_MAX, Timestamp};

use crate::world::*;
use Rejection::*;

const MISSING: u128 = 999;

/// What is asked, and why it is refused.
type Case = (&'static str, Action, Rejection);

fn each_alone() -> Vec<Case> {
    [about_earlier_ones(), about_accounts()].concat()
}

fn about_earlier_ones() -> Vec<Case> {
    vec![
        ("to itself", pay('a', 'a', 1), SameAccount),
        ("a deposit to itself", deposit('C', 'C', 1), SameAccount),
        ("an internal one to itself", internal('S', 'S', 1), SameAccount),
        ("a hold for itself", hold('a', 'a', 1), SameAccount),
        ("a capture of nothing", capture(MISSING, 1), HoldNotFound),
        ("a release of nothing", release(MISSING), HoldNotFound),
        ("an expiry of nothing", expire(MISSING), HoldNotFound),
        ("a capture of a transfer", capture(PAID, 1), HoldNotFound),
        ("a capture of what is spent", capture(SPENT, 1), HoldClosed),
        ("a capture of all of nothing", capture_all(SPENT), HoldClosed),
        ("a release of what is spent", release(SPENT), HoldClosed),
        ("an expiry of what is spent", expire(SPENT), HoldClosed),
        ("an expiry too early", expire(OPEN), HoldNotDue),
        ("a hold that is over when made", hold_until('a', 'b', NOW), HoldExpired),
        ("a hold that was over before", hold_until('a', 'b', EARLIER), HoldExpired),
        ("a capture too late", capture(OVER, 1), HoldExpired),
        ("a capture of all too late", capture_all(OVER), HoldExpired),
        ("nothing moved back", reverse(MISSING, 1), TransferNotFound),
        ("all of nothing moved back", reverse_all(MISSING), TransferNotFound),
        ("a refused one moved back", reverse(REFUSED, 1), TransferNotFound),
        ("a hold moved back", reverse(A_HOLD, 1), NotReversible),
        ("a release moved back", reverse_all(A_RELEASE), NotReversible),
        ("an expiry moved back", reverse(AN_EXPIRY, 1), NotReversible),
        ("a reversal moved back", reverse(A_REVERSAL, 1), NotReversible),
        ("more than is held", capture(OPEN, 41), ExceedsHold),
        ("more than was paid", reverse(PAID, 31), ExceedsTransfer),
        ("more than is left of it", reverse(PARTLY_BACK, 11), ExceedsTransfer),
        ("more when nothing is left", reverse(ALL_BACK, 1), ExceedsTransfer),
        ("all when nothing is left", reverse_all(ALL_BACK), ExceedsTransfer),
    ]
}

fn about_accounts() -> Vec<Case> {
    vec![
        ("from nowhere", pay('x', 'b', 1), DebitAccountNotFound),
        ("a hold of nobody", hold('-', 'b', 1), DebitAccountNotFound),
        ("to nowhere", pay('a', 'x', 1), CreditAccountNotFound),
        ("to nobody", pay('a', '-', 1), CreditAccountNotFound),
        ("a hold for nobody", hold('a', '-', 1), CreditAccountNotFound),
        ("a wallet pays clearing", pay('a', 'C', 1), AccountKindMismatch),
        ("a wallet is paid by clearing", pay('C', 'a', 1), AccountKindMismatch),
        ("a deposit out of suspense", deposit('S', 'a', 1), AccountKindMismatch),
        ("a deposit to suspense", deposit('C', 'S', 1), AccountKindMismatch),
        ("a deposit from a wallet", deposit('a', 'b', 1), AccountKindMismatch),
        ("naira to a dollar wallet", pay('a', 'd', 1), CurrencyMismatch),
        ("naira from a dollar wallet", pay('d', 'a', 1), CurrencyMismatch),
        ("dollars between naira wallets", usd(pay('a', 'b', 1)), CurrencyMismatch),
        ("a hold of dollars", usd(hold('a', 'b', 1)), CurrencyMismatch),
        ("an internal one across currencies", internal('S', 'd', 1), CurrencyMismatch),
        ("from a closed wallet", pay('k', 'b', 1), DebitAccountClosed),
        ("a reversal from a closed wallet", reverse(A_TO_CLOSED, 1), DebitAccountClosed),
        ("to a closed wallet", pay('a', 'k', 1), CreditAccountClosed),
        ("a hold for a closed wallet", hold('a', 'k', 1), CreditAccountClosed),
        ("a capture for a closed wallet", capture(TO_CLOSED, 1), CreditAccountClosed),
        ("a reversal to a closed wallet", reverse(CLOSED_TO_B, 1), CreditAccountClosed),
        ("from a frozen wallet", pay('f', 'b', 1), DebitAccountFrozen),
        ("from frozen clearing", usd(deposit('Z', 'd', 1)), DebitAccountFrozen),
        ("a hold of a frozen wallet", hold('f', 'b', 1), DebitAccountFrozen),
        ("a capture from a frozen wallet", capture(FROM_FROZEN, 1), DebitAccountFrozen),
        ("a reversal from a frozen wallet", reverse(A_TO_FROZEN, 1), DebitAccountFrozen),
        ("to a frozen wallet", pay('a', 'f', 1), CreditAccountFrozen),
        ("a hold for a frozen wallet", hold('a', 'f', 1), CreditAccountFrozen),
        ("a capture for a frozen wallet", capture(TO_FROZEN, 1), CreditAccountFrozen),
        ("a reversal to a frozen wallet", reverse(FROZEN_TO_B, 1), CreditAccountFrozen),
        ("one kobo too much", pay('a', 'b', 101), InsufficientFunds),
        ("from an empty wallet", pay('n', 'b', 1), InsufficientFunds),
        ("what is held for others", pay('h', 'b', 36), InsufficientFunds),
        ("held twice", hold('h', 'b', 36), InsufficientFunds),
        ("what must stay", pay('l', 'b', 81), InsufficientFunds),
        ("a hold of what must stay", hold('l', 'b', 81), InsufficientFunds),
        ("a reversal from who has spent it", reverse(A_TO_EMPTY, 1), InsufficientFunds),
        ("to a wallet that is full", pay('a', 'r', 1), LimitExceeded),
        ("above what it may hold", pay('a', 'l', 11), LimitExceeded),
        ("a capture for a full wallet", capture(TO_FULL, 1), LimitExceeded),
        ("a reversal to a full wallet", reverse(FULL_TO_B, 1), LimitExceeded),
    ]
}

/// What is asked, which reason is the answer, and which other one holds as well.
fn first_of_two() -> Vec<(Action, Rejection, Rejection)> {
    vec![
        (pay('x', 'x', 1), SameAccount, DebitAccountNotFound),
        (pay('C', 'C', 1), SameAccount, AccountKindMismatch),
        (usd(pay('a', 'a', 1)), SameAccount, CurrencyMismatch),
        (pay('k', 'k', 1), SameAccount, DebitAccountClosed),
        (pay('f', 'f', 1), SameAccount, DebitAccountFrozen),
        (pay('n', 'n', 1), SameAccount, InsufficientFunds),
        (pay('r', 'r', 1), SameAccount, LimitExceeded),
        (hold_until('a', 'a', EARLIER), SameAccount, HoldExpired),
        (capture(SPENT, 1), HoldClosed, HoldExpired),
        (capture(SPENT, 9), HoldClosed, ExceedsHold),
        (capture(OVER, 11), HoldExpired, ExceedsHold),
        (hold_until('x', 'b', NOW), HoldExpired, DebitAccountNotFound),
        (hold_until('f', 'b', NOW), HoldExpired, DebitAccountFrozen),
        (hold_until('n', 'b', NOW), HoldExpired, InsufficientFunds),
        (reverse_all(REFUSED), TransferNotFound, NotReversible),
        (reverse(A_REVERSAL, 1), NotReversible, ExceedsTransfer),
        (reverse_all(A_REVERSAL), NotReversible, ExceedsTransfer),
        (capture(FROM_FROZEN, 6), ExceedsHold, DebitAccountFrozen),
        (capture(TO_CLOSED, 6), ExceedsHold, CreditAccountClosed),
        (capture(TO_FULL, 6), ExceedsHold, LimitExceeded),
        (reverse(A_TO_CLOSED, 31), ExceedsTransfer, DebitAccountClosed),
        (reverse(A_TO_FROZEN, 31), ExceedsTransfer, DebitAccountFrozen),
        (reverse(A_TO_EMPTY, 31), ExceedsTransfer, InsufficientFunds),
        (reverse(FULL_TO_B, 31), ExceedsTransfer, LimitExceeded),
        (pay('x', '-', 1), DebitAccountNotFound, CreditAccountNotFound),
        (pay('x', 'C', 1), DebitAccountNotFound, AccountKindMismatch),
        (pay('x', 'd', 1), DebitAccountNotFound, CurrencyMismatch),
        (pay('x', 'k', 1), DebitAccountNotFound, CreditAccountClosed),
        (pay('x', 'f', 1), DebitAccountNotFound, CreditAccountFrozen),
        (pay('x', 'r', 1), DebitAccountNotFound, LimitExceeded),
        (pay('S', 'x', 1), CreditAccountNotFound, AccountKindMismatch),
        (pay('d', 'x', 1), CreditAccountNotFound, CurrencyMismatch),
        (pay('k', 'x', 1), CreditAccountNotFound, DebitAccountClosed),
        (pay('f', 'x', 1), CreditAccountNotFound, DebitAccountFrozen),
        (pay('n', 'x', 1), CreditAccountNotFound, InsufficientFunds),
        (usd(pay('a', 'C', 1)), AccountKindMismatch, CurrencyMismatch),
        (pay('k', 'C', 1), AccountKindMismatch, DebitAccountClosed),
        (pay('C', 'k', 1), AccountKindMismatch, CreditAccountClosed),
        (pay('f', 'C', 1), AccountKindMismatch, DebitAccountFrozen),
        (pay('C', 'f', 1), AccountKindMismatch, CreditAccountFrozen),
        (pay('n', 'C', 1), AccountKindMismatch, InsufficientFunds),
        (pay('C', 'r', 1), AccountKindMismatch, LimitExceeded),
        (usd(pay('k', 'a', 1)), CurrencyMismatch, DebitAccountClosed),
        (usd(pay('a', 'k', 1)), CurrencyMismatch, CreditAccountClosed),
        (usd(pay('f', 'a', 1)), CurrencyMismatch, DebitAccountFrozen),
        (usd(pay('a', 'f', 1)), CurrencyMismatch, CreditAccountFrozen),
        (usd(pay('n', 'a', 1)), CurrencyMismatch, InsufficientFunds),
        (usd(pay('a', 'r', 1)), CurrencyMismatch, LimitExceeded),
        (internal('k', 'f', 1), DebitAccountClosed, CreditAccountFrozen),
        (pay('k', 'b', 1), DebitAccountClosed, InsufficientFunds),
        (pay('k', 'r', 1), DebitAccountClosed, LimitExceeded),
        (capture(FROM_FROZEN_TO_CLOSED, 1), CreditAccountClosed, DebitAccountFrozen),
        (pay('f', 'k', 1), CreditAccountClosed, DebitAccountFrozen),
        (pay('n', 'k', 1), CreditAccountClosed, InsufficientFunds),
        (pay('f', 'b', 999), DebitAccountFrozen, InsufficientFunds),
        (pay('f', 'r', 1), DebitAccountFrozen, LimitExceeded),
        (pay('n', 'f', 1), CreditAccountFrozen, InsufficientFunds),
        (deposit('C', 'f', AMOUNT_MINOR_MAX), CreditAccountFrozen, LimitExceeded),
        (pay('n', 'r', 1), InsufficientFunds, LimitExceeded),
        (reverse(FULL_TO_EMPTY, 1), InsufficientFunds, LimitExceeded),
    ]
}

#[test]
fn each_rule_alone() {
    for (name, action, rejection) in each_alone() {
        refuses(name, action, rejection);
    }
}

#[test]
fn the_first_of_several_reasons_is_the_answer() {
    for (action, first, second) in first_of_two() {
        assert!(first < second, "{first:?} comes before {second:?}");
        refuses(&format!("{first:?} before {second:?}"), action, first);
    }
}

#[test]
fn a_late_command_is_refused_for_good() {
    for (name, action, _) in each_alone() {
        let mut books = books();
        let body = || Body::Post { transfers: vec![transfer(1, action)], linked: false };
        let late = Command { deadline_at: Some(EARLIER), body: body() };
        let refused = books.apply(late, NOW)[0];
        assert_eq!(refused.verdict.rejection(), Some(DeadlineExceeded), "{name}");
        // It is final, with or without a deadline.
        let again = books.apply(Command { deadline_at: None, body: body() }, LATER)[0];
        assert_eq!((again.verdict, again.replayed), (refused.verdict, true), "{name}");
        assert!(moves_nothing(&books.into_changes()), "{name}");
    }
}

#[test]
fn the_deadline_itself_is_in_time() {
    let on_time = |deadline_at, now: Timestamp| {
        let body = Body::Post { transfers: vec![transfer(1, pay('a', 'b', 1))], linked: false };
        books().apply(Command { deadline_at, body }, now)[0].verdict.rejection()
    };
    assert_eq!(on_time(Some(NOW), NOW), None);
    let after = Timestamp::from_micros(NOW.micros() + 1);
    assert_eq!(on_time(Some(NOW), after), Some(DeadlineExceeded));
    assert_eq!(on_time(None, Timestamp::from_seconds(9_999_999_999)), None);
}

/// All that are about transfers have a line above; the others, a table of their own.
#[test]
fn every_rejection_of_a_transfer_has_a_case() {
    let covered: BTreeSet<Rejection> = each_alone().into_iter().map(|it| it.2).collect();
    let elsewhere = [
        // repeats.rs, the deadline above, accounts.rs and groups.rs.
        IdempotencyKeyReused,
        DeadlineExceeded,
        AccountNotFound,
        AccountIsClosed,
        AccountNotEmpty,
        GroupRefused,
        // Never made by the rules.
        Malformed,
    ];
    for rejection in Rejection::ALL {
        assert!(covered.contains(&rejection) != elsewhere.contains(&rejection), "{rejection:?}");
    }
}
