//! What is allowed, and what stands after it: payments, holds, reversals.

use ledger_core::{Account, Action, Rejection, Standing, TransferKind, Verdict};
use primitives::{AMOUNT_MINOR_MAX, Currency, System, Timestamp};

use crate::world::*;
use Rejection::*;

#[test]
fn what_is_allowed_posts() {
    let most = AMOUNT_MINOR_MAX.cast_signed();
    allows("a wallet pays another", pay('a', 'b', 30), &[('a', 70, 0), ('b', 80, 0)]);
    allows("to the last kobo", pay('a', 'b', 100), &[('a', 0, 0), ('b', 150, 0)]);
    allows("all that is not held", pay('h', 'b', 35), &[('h', 65, 65), ('b', 85, 0)]);
    allows("down to what must stay", pay('l', 'b', 80), &[('l', 20, 0), ('b', 130, 0)]);
    allows("up to what it may hold", pay('a', 'l', 10), &[('a', 90, 0), ('l', 110, 0)]);
    allows("a deposit overdraws clearing", deposit('C', 'n', 3), &[('C', -3, 0), ('n', 3, 0)]);
    allows("a full wallet pays", pay('r', 'n', AMOUNT_MINOR_MAX), &[('r', 0, 0), ('n', most, 0)]);
    let fill = deposit('C', 'n', AMOUNT_MINOR_MAX);
    allows("a deposit may fill a wallet", fill, &[('C', -most, 0), ('n', most, 0)]);
    allows("suspense pays a wallet", internal('S', 'a', 5), &[('S', -5, 0), ('a', 105, 0)]);
    allows("a wallet pays suspense", internal('a', 'S', 5), &[('a', 95, 0), ('S', 5, 0)]);
    allows("clearing pays suspense", internal('C', 'S', 5), &[('C', -5, 0), ('S', 5, 0)]);
    allows("wallets, by ourselves", internal('a', 'b', 5), &[('a', 95, 0), ('b', 55, 0)]);
}

#[test]
fn holds_reserve_and_give_back() {
    allows("a hold", hold('a', 'b', 60), &[('a', 100, 60), ('b', 50, 0)]);
    allows("a hold of everything", hold('a', 'b', 100), &[('a', 100, 100)]);
    allows("a hold of what must not stay", hold('l', 'b', 80), &[('l', 100, 80)]);
    allows("a hold for a full wallet", hold('a', 'r', 1), &[('a', 100, 1)]);
    allows("a hold of a system account", hold('S', 'a', 7), &[('S', 0, 7)]);
    allows(
        "a hold for ever",
        Action::Hold { of: of('a', 'b', 1), expires_at: None },
        &[('a', 100, 1)],
    );
    allows("a capture of some", capture(OPEN, 15), &[('h', 85, 50), ('b', 65, 0)]);
    allows("a capture of what remains", capture(OPEN, 40), &[('h', 60, 25), ('b', 90, 0)]);
    allows("a capture of all", capture_all(OPEN), &[('h', 60, 25), ('b', 90, 0)]);
    allows("a release", release(OPEN), &[('h', 100, 25)]);
    allows("a release of what is over", release(OVER), &[('h', 100, 55)]);
    allows("an expiry", expire(OVER), &[('h', 100, 55)]);
    allows("a release on a frozen wallet", release(FROM_FROZEN), &[('f', 100, 5)]);
    allows("a release to a closed wallet", release(TO_CLOSED), &[('h', 100, 60)]);
}

#[test]
fn a_hold_is_captured_in_pieces_until_nothing_remains() {
    let mut books = books();
    assert_eq!(ask(&mut books, 1, hold('a', 'b', 60)), None);
    assert_eq!(ask(&mut books, 2, pay('a', 'b', 41)), Some(InsufficientFunds));
    assert_eq!(ask(&mut books, 3, capture(1, 25)), None);
    assert_eq!((stands(&books, 'a'), stands(&books, 'b')), ((75, 35), (75, 0)));
    assert_eq!(ask(&mut books, 4, capture(1, 36)), Some(ExceedsHold));
    assert_eq!(ask(&mut books, 5, capture(1, 15)), None);
    assert_eq!(ask(&mut books, 6, pay('a', 'b', 40)), None, "what was never held is free");
    assert_eq!(ask(&mut books, 7, capture_all(1)), None);
    assert_eq!(ask(&mut books, 8, capture(1, 1)), Some(HoldClosed));
    assert_eq!(ask(&mut books, 9, release(1)), Some(HoldClosed));
    assert_eq!((stands(&books, 'a'), stands(&books, 'b')), ((0, 0), (150, 0)));
    let changes = books.into_changes();
    assert_eq!(changes.holds.len(), 1);
    assert_eq!((changes.holds[0].id, changes.holds[0].remaining_minor), (txn(1), 0));
    // What each record says was moved.
    let moved = |at: usize| changes.records[at].of;
    assert_eq!(moved(0), Some(of('a', 'b', 60)));
    assert_eq!(moved(2), Some(of('a', 'b', 25)));
    assert_eq!(moved(3), Some(of('a', 'b', 36)), "a refusal says what was asked");
    assert_eq!(moved(6), Some(of('a', 'b', 20)), "all is what remained");
    assert_eq!(moved(7), None, "nothing is known of what is spent");
}

#[test]
fn what_a_release_gives_back_is_what_remained() {
    for back in [release(1), expire(1)] {
        let mut books = books();
        assert_eq!(ask(&mut books, 1, hold('a', 'b', 60)), None);
        assert_eq!(ask(&mut books, 2, capture(1, 25)), None);
        // The hold's time is up for the expiry.
        let asked = transfer(3, back);
        let body = ledger_core::Body::Post { transfers: vec![asked], linked: false };
        let outcome = books.apply(ledger_core::Command { deadline_at: None, body }, LATER)[0];
        assert_eq!(outcome.verdict, Verdict::Done { debit_balance_after_minor: 75 });
        assert_eq!(stands(&books, 'a'), (75, 0));
        let changes = books.into_changes();
        assert_eq!(changes.records[2].of, Some(of('a', 'b', 35)));
        assert_eq!(changes.records[2].credit_after, None);
    }
}

#[test]
fn reversals_move_back() {
    allows("all of a payment", reverse_all(PAID), &[('b', 20, 0), ('a', 130, 0)]);
    allows("some of a payment", reverse(PAID, 10), &[('b', 40, 0), ('a', 110, 0)]);
    allows("what is left of it", reverse_all(PARTLY_BACK), &[('b', 40, 0), ('a', 110, 0)]);
    allows("exactly what is left", reverse(PARTLY_BACK, 10), &[('b', 40, 0), ('a', 110, 0)]);
    allows("a deposit", reverse_all(DEPOSITED), &[('a', 70, 0), ('C', 30, 0)]);
    allows("an internal one", reverse(MOVED, 30), &[('a', 70, 0), ('S', 30, 0)]);
    allows(
        "a capture: it is not held again",
        reverse_all(CAPTURED),
        &[('b', 20, 0), ('h', 130, 65)],
    );
}

#[test]
fn a_transfer_is_moved_back_at_most_once_whichever_keys_are_used() {
    let mut books = books();
    assert_eq!(ask(&mut books, 1, pay('a', 'b', 60)), None);
    assert_eq!(ask(&mut books, 2, reverse(1, 25)), None);
    assert_eq!(ask(&mut books, 3, reverse(1, 36)), Some(ExceedsTransfer));
    assert_eq!(ask(&mut books, 4, reverse_all(1)), None);
    assert_eq!(ask(&mut books, 5, reverse(1, 1)), Some(ExceedsTransfer));
    assert_eq!(ask(&mut books, 6, reverse_all(1)), Some(ExceedsTransfer));
    assert_eq!(ask(&mut books, 7, reverse_all(4)), Some(NotReversible));
    assert_eq!(ask(&mut books, 8, reverse_all(3)), Some(TransferNotFound), "it was refused");
    assert_eq!((stands(&books, 'a'), stands(&books, 'b')), ((100, 0), (50, 0)));
    let changes = books.into_changes();
    assert_eq!(changes.reversed.len(), 1);
    let reversed = changes.reversed[0];
    assert_eq!((reversed.id, reversed.reversed_minor), (txn(1), 60));
    assert_eq!((reversed.kind, reversed.of), (TransferKind::Wallet, Some(of('a', 'b', 60))));
    assert_eq!(changes.records[3].of, Some(of('b', 'a', 35)), "all is what was left");
    assert_eq!(changes.records[5].of, None, "nothing is left");
}

#[test]
fn a_capture_can_be_moved_back_but_not_into_the_hold() {
    let mut books = books();
    assert_eq!(ask(&mut books, 1, hold('a', 'b', 60)), None);
    assert_eq!(ask(&mut books, 2, capture(1, 20)), None);
    assert_eq!(ask(&mut books, 3, reverse_all(2)), None);
    assert_eq!(stands(&books, 'a'), (100, 40));
    assert_eq!(ask(&mut books, 4, capture(1, 41)), Some(ExceedsHold));
    assert_eq!(ask(&mut books, 5, reverse_all(1)), Some(NotReversible));
}

#[test]
fn a_hold_ends_by_the_time_of_decision_also_when_the_clock_is_set_back() {
    let mut books = books();
    let mut decide = |n, seconds, action| {
        let body = ledger_core::Body::Post { transfers: vec![transfer(n, action)], linked: false };
        let command = ledger_core::Command { deadline_at: None, body };
        books.apply(command, Timestamp::from_seconds(seconds))[0].verdict.rejection()
    };
    assert_eq!(decide(1, 1_000, hold('a', 'b', 10)), None);
    assert_eq!(decide(2, 1_000, expire(1)), Some(HoldNotDue));
    assert_eq!(decide(3, 1_001, pay('a', 'b', 1)), None);
    assert_eq!(decide(4, 500, capture(1, 1)), Some(HoldExpired));
    assert_eq!(decide(2, 500, expire(1)), None, "what was not due may be asked again");
}

#[test]
fn time_of_decision_never_runs_backwards() {
    let mut books = books();
    let at = |seconds| Timestamp::from_seconds(seconds);
    let mut decide = |n, seconds, deadline| {
        let transfers = vec![transfer(n, pay('a', 'b', 1))];
        let body = ledger_core::Body::Post { transfers, linked: false };
        let deadline_at = Some(at(deadline));
        let outcome = books.apply(ledger_core::Command { deadline_at, body }, at(seconds))[0];
        (outcome.verdict.rejection(), outcome.decided_at.seconds())
    };
    assert_eq!(decide(1, 5_000, 5_000), (None, 5_000));
    // The clock was set back. What counts for the deadline is the clock; for history, the order.
    assert_eq!(decide(2, 2_000, 2_001), (None, 5_000));
    assert_eq!(decide(3, 2_002, 2_001), (Some(DeadlineExceeded), 5_000));
    assert_eq!(decide(4, 6_000, 6_000), (None, 6_000));
}

#[test]
fn sums_stop_at_what_postgres_can_keep() {
    let suspense = |balance_minor, held_minor| Account {
        standing: Standing { balance_minor, held_minor },
        ..Account::system(System::Suspense, Currency::NGN, NOW)
    };
    let ten = amount(10);
    let most = i64::MAX;
    assert_eq!(suspense(-most + 10, 0).debited(ten).map(|it| it.balance_minor), Ok(-most));
    assert_eq!(suspense(-most + 9, 0).debited(ten), Err(InsufficientFunds));
    assert_eq!(suspense(-most, 0).debited(ten), Err(InsufficientFunds));
    assert_eq!(suspense(-most + 15, 6).debited(ten), Err(InsufficientFunds));
    assert_eq!(suspense(-most + 15, 6).held(ten), Err(InsufficientFunds));
    assert_eq!(suspense(-most + 16, 6).held(ten).map(|it| it.held_minor), Ok(16));
    assert_eq!(suspense(0, most).held(ten), Err(InsufficientFunds));
    assert_eq!(suspense(most - 10, 0).credited(ten).map(|it| it.balance_minor), Ok(most));
    assert_eq!(suspense(most - 9, 0).credited(ten), Err(LimitExceeded));
    assert_eq!(suspense(0, 9).released(ten), Err(InsufficientFunds));
    assert_eq!(suspense(0, 9).captured(ten), Err(InsufficientFunds));
    assert_eq!(suspense(i64::MIN + 5, 10).captured(ten), Err(InsufficientFunds));
    assert!(suspense(-most, 0).is_sound() && !suspense(-most, 1).is_sound());
    assert!(!suspense(0, -1).is_sound() && !suspense(i64::MIN, 0).is_sound());
}
