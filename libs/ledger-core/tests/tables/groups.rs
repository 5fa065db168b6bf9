//! Several transfers in one command: each for itself, or all or none.

use ledger_core::{Action, Body, Books, Command, Found, Outcome, Rejection, Transfer};

use crate::world::*;
use Rejection::*;

fn numbered(actions: &[Action]) -> Vec<Transfer> {
    (1..).zip(actions).map(|(n, it)| transfer(n, *it)).collect()
}

fn why(outcomes: &[Outcome]) -> Vec<Option<Rejection>> {
    outcomes.iter().map(|it| it.verdict.rejection()).collect()
}

#[test]
fn unlinked_transfers_are_decided_each_for_itself_in_order() {
    let mut books = books();
    let asked = [pay('a', 'b', 60), pay('a', 'b', 60), pay('b', 'n', 110), pay('n', 'a', 110)];
    let outcomes = post_all(&mut books, numbered(&asked), false);
    assert_eq!(why(&outcomes), [None, Some(InsufficientFunds), None, None]);
    assert_eq!((stands(&books, 'a'), stands(&books, 'b')), ((150, 0), (0, 0)));
    assert_eq!(books.into_changes().head.position, 4);
}

#[test]
fn a_linked_group_posts_whole_and_each_on_top_of_the_one_before() {
    for asked in [
        vec![pay('a', 'b', 100), pay('b', 'n', 150), pay('n', 'a', 150)],
        vec![pay('a', 'b', 30), hold('a', 'b', 70), capture(2, 50), release(2)],
        vec![pay('a', 'b', 30), reverse(1, 10), reverse_all(1)],
        vec![capture(OPEN, 10), capture_all(OPEN), reverse_all(2)],
        vec![pay('a', 'b', 1)],
    ] {
        let mut books = books();
        let outcomes = post_all(&mut books, numbered(&asked), true);
        assert!(outcomes.iter().all(|it| it.verdict.is_done() && !it.replayed), "{asked:?}");
        let changes = books.into_changes();
        assert_eq!(changes.records.len(), asked.len(), "{asked:?}");
    }
}

/// Groups that are refused: which member is the reason, and why.
fn refused() -> Vec<(Vec<Action>, usize, Rejection)> {
    let (yes, no) = (pay('a', 'b', 10), pay('n', 'b', 1));
    vec![
        (vec![no, yes], 0, InsufficientFunds),
        (vec![yes, no], 1, InsufficientFunds),
        (vec![yes, no, yes], 1, InsufficientFunds),
        (vec![no, no], 0, InsufficientFunds),
        (vec![no], 0, InsufficientFunds),
        (vec![yes, no, pay('a', 'a', 1)], 1, InsufficientFunds),
        (vec![hold('a', 'b', 50), capture(1, 20), capture(1, 31)], 2, ExceedsHold),
        (vec![yes, reverse(1, 4), reverse(1, 7)], 2, ExceedsTransfer),
        (vec![capture(OPEN, 10), release(OPEN), release(OPEN)], 2, HoldClosed),
        (vec![reverse_all(PAID), reverse(PAID, 1)], 1, ExceedsTransfer),
        (vec![pay('a', 'b', 60), pay('a', 'n', 60)], 1, InsufficientFunds),
    ]
}

#[test]
fn a_linked_group_is_refused_whole_and_leaves_no_trace_but_its_refusals() {
    for (asked, culprit, rejection) in refused() {
        let mut books = books();
        assert_eq!(ask(&mut books, 50, pay('a', 'b', 5)), None);
        assert_eq!(ask(&mut books, 51, capture(OPEN, 5)), None);
        assert_eq!(ask(&mut books, 52, reverse(PAID, 5)), None);
        let before = books.clone();
        let outcomes = post_all(&mut books, numbered(&asked), true);
        for (i, outcome) in outcomes.iter().enumerate() {
            let expected = if i == culprit { rejection } else { GroupRefused };
            assert_eq!(outcome.verdict.rejection(), Some(expected), "{asked:?}, {i}");
            assert_eq!(outcome.transfer_id, Some(numbered(&asked)[i].id));
        }
        let again = post_all(&mut books, numbered(&asked), true);
        let replayed = outcomes.iter().map(|it| Outcome { replayed: true, ..*it });
        assert!(replayed.eq(again), "{asked:?}: one answer for ever");
        let (before, after) = (before.into_changes(), books.into_changes());
        assert_eq!(after.moved, before.moved, "{asked:?}");
        assert_eq!(after.holds, before.holds, "{asked:?}");
        assert_eq!(after.reversed, before.reversed, "{asked:?}");
        let positions: Vec<i64> = after.records.iter().map(|it| it.position).collect();
        let n_asked = i64::try_from(asked.len()).unwrap();
        assert!(positions.iter().copied().eq(1..=3 + n_asked), "{asked:?}: {positions:?}");
    }
}

#[test]
fn what_a_refused_group_undoes_was_there_before_it() {
    let mut books = books();
    let asked = [hold('a', 'b', 50), pay('h', 'a', 5), capture_all(OPEN), pay('n', 'b', 1)];
    let outcomes = post_all(&mut books, numbered(&asked), true);
    let group = Some(GroupRefused);
    assert_eq!(why(&outcomes), [group, group, group, Some(InsufficientFunds)]);
    assert_eq!(ask(&mut books, 9, capture(1, 1)), Some(HoldNotFound), "the hold is gone");
    assert_eq!(ask(&mut books, 10, reverse_all(2)), Some(TransferNotFound), "it was refused");
    assert_eq!(ask(&mut books, 11, capture(OPEN, 40)), None, "40 remain as before");
    assert_eq!((stands(&books, 'h'), stands(&books, 'a')), ((60, 25), (100, 0)));
}

#[test]
fn a_late_group_is_refused() {
    let mut books = books();
    let body =
        Body::Post { transfers: numbered(&[pay('a', 'b', 1), pay('a', 'b', 2)]), linked: true };
    let outcomes = books.apply(Command { deadline_at: Some(EARLIER), body }, NOW);
    assert_eq!(why(&outcomes), [Some(DeadlineExceeded), Some(GroupRefused)]);
    assert!(moves_nothing(&books.into_changes()));
}

/// Some of the group is known: what is known keeps its answer, what is new is refused for good.
#[test]
fn a_group_of_which_some_is_known_is_not_done() {
    let group = || numbered(&[pay('a', 'b', 1), pay('a', 'b', 2), pay('a', 'b', 3)]);
    for in_next_batch in [false, true] {
        let mut books = books();
        let first = post(&mut books, group()[1].clone());
        if in_next_batch {
            let accounts = books.accounts().cloned().collect();
            let changes = books.into_changes();
            let decisions = changes.records.iter().map(|it| it.decision()).collect();
            books = Books::new(changes.head, Found { accounts, decisions, ..Found::default() });
        }
        let outcomes = post_all(&mut books, group(), true);
        assert_eq!(why(&outcomes), [Some(GroupRefused), None, Some(GroupRefused)]);
        assert_eq!(outcomes[1], Outcome { replayed: true, ..first });
        assert!(!outcomes[0].replayed && !outcomes[2].replayed);
        assert_eq!(stands(&books, 'a'), (98, 0));
        let again = post_all(&mut books, group(), true);
        assert_eq!(why(&again), why(&outcomes));
        assert!(again.iter().all(|it| it.replayed));
    }
}

#[test]
fn a_group_with_an_id_that_stands_for_something_else_is_not_done() {
    let mut books = books();
    assert_eq!(ask(&mut books, 2, pay('a', 'b', 5)), None);
    let mut group = numbered(&[pay('a', 'b', 1), pay('a', 'b', 2)]);
    group[1].request_digest = [9; 32];
    let outcomes = post_all(&mut books, group, true);
    assert_eq!(why(&outcomes), [Some(GroupRefused), Some(IdempotencyKeyReused)]);
    assert_eq!(stands(&books, 'a'), (95, 0));
}

#[test]
fn a_group_with_an_expiry_that_is_not_due_is_not_done() {
    let mut books = books();
    let group = || numbered(&[pay('a', 'b', 1), expire(OPEN)]);
    let outcomes = post_all(&mut books, group(), true);
    assert_eq!(why(&outcomes), [Some(GroupRefused), Some(HoldNotDue)]);
    // Only the first is kept; so the group is one of which some is known.
    let again = post_all(&mut books, group(), true);
    assert_eq!(why(&again), [Some(GroupRefused), Some(GroupRefused)]);
    let changes = books.into_changes();
    assert!(moves_nothing(&changes));
    assert_eq!(changes.records.len(), 2);
}
