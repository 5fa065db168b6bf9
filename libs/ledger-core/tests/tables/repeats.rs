//! The same id or request key again: one answer for ever.

use ledger_core::{
    Body, Books, Command, Decision, Found, Head, Outcome, Rejection, Transfer, Verdict,
};
use primitives::{RequestKey, Timestamp};

use crate::world::*;

fn keyed(n: u128, key: u8, digest: u8) -> Transfer {
    let request_key = Some(RequestKey([key; 32]));
    Transfer { request_key, request_digest: [digest; 32], ..transfer(n, pay('a', 'b', 10)) }
}

fn unkeyed(n: u128, digest: u8) -> Transfer {
    Transfer { request_key: None, ..keyed(n, 0, digest) }
}

/// First, second, then: is it the first one's answer again, or a reuse?
fn pairs() -> Vec<(&'static str, Transfer, Transfer, bool)> {
    vec![
        ("same id, no key", unkeyed(1, 0), unkeyed(1, 0), true),
        ("same id, other digest", unkeyed(1, 0), unkeyed(1, 9), false),
        ("same id and key", keyed(1, 1, 0), keyed(1, 1, 0), true),
        ("same id and key, other digest", keyed(1, 1, 0), keyed(1, 1, 9), false),
        ("other id, same key", keyed(1, 1, 0), keyed(2, 1, 0), true),
        ("other id, same key, other digest", keyed(1, 1, 0), keyed(2, 1, 9), false),
        ("same id, other key", keyed(1, 1, 0), keyed(1, 2, 0), false),
        ("same id, key left out", keyed(1, 1, 0), unkeyed(1, 0), false),
        ("same id, key added", unkeyed(1, 0), keyed(1, 1, 0), false),
        (
            "the digest, not the fields, is the request",
            keyed(1, 1, 0),
            Transfer { action: pay('a', 'n', 99), ..keyed(2, 1, 0) },
            true,
        ),
    ]
}

/// Books of the next batch, which found what was decided in the one before.
fn next(books: Books) -> Books {
    let accounts = books.accounts().cloned().collect();
    let changes = books.into_changes();
    let decisions: Vec<Decision> = changes.records.iter().map(|it| it.decision()).collect();
    Books::new(changes.head, Found { accounts, decisions, ..Found::default() })
}

#[test]
fn the_same_request_has_one_answer() {
    for (name, first, second, replays) in pairs() {
        for in_next_batch in [false, true] {
            let mut books = books();
            let one = post(&mut books, first.clone());
            if in_next_batch {
                books = next(books);
            }
            check(name, &mut books, &first, one, second.clone(), replays);
            let n_kept = books.into_changes().records.len();
            assert_eq!(n_kept, usize::from(!in_next_batch), "{name}: kept once");
        }
    }
}

/// In one command, also of a linked group: what is repeated in it counts once.
#[test]
fn the_same_request_in_one_command_has_one_answer() {
    for (name, first, second, replays) in pairs() {
        let mut books = books();
        let outcomes = post_all(&mut books, vec![first.clone(), second.clone()], false);
        let reused = Some(Rejection::IdempotencyKeyReused).filter(|_| !replays);
        assert_eq!(outcomes[1].verdict.rejection(), reused, "{name}");
        assert_eq!((outcomes[1].replayed, outcomes[1].transfer_id), (replays, Some(first.id)));
        assert_eq!(stands(&books, 'a'), (90, 0), "{name}");
        assert_eq!(books.into_changes().records.len(), 1, "{name}");

        let mut books = crate::world::books();
        let outcomes = post_all(&mut books, vec![first.clone(), second], true);
        assert_eq!(outcomes[1].verdict.rejection(), reused, "{name}, linked");
        let refused = Some(Rejection::GroupRefused).filter(|_| !replays);
        assert_eq!(outcomes[0].verdict.rejection(), refused, "{name}, linked");
        assert_eq!(stands(&books, 'a').0, if replays { 90 } else { 100 }, "{name}, linked");
        assert_eq!(books.into_changes().records.len(), 1, "{name}, linked");
    }
}

fn check(
    name: &str,
    books: &mut Books,
    first: &Transfer,
    one: Outcome,
    second: Transfer,
    replays: bool,
) {
    let two = post(books, second);
    assert_eq!(two.transfer_id, Some(first.id), "{name}");
    if replays {
        assert_eq!(two, Outcome { replayed: true, ..one }, "{name}");
    } else {
        let reused = Verdict::Rejected(Rejection::IdempotencyKeyReused);
        assert_eq!((two.verdict, two.replayed), (reused, false), "{name}");
    }
    assert_eq!(stands(books, 'a'), (90, 0), "{name}");
}

#[test]
fn an_earlier_answer_comes_before_the_deadline() {
    let mut books = books();
    let late = |it| {
        let body = Body::Post { transfers: vec![it], linked: false };
        Command { deadline_at: Some(EARLIER), body }
    };
    let posted = post(&mut books, keyed(4, 4, 0));
    let repeated = books.apply(late(keyed(4, 4, 0)), NOW)[0];
    assert_eq!((repeated.verdict, repeated.replayed), (posted.verdict, true));
    // What was refused for lateness stays refused, under its key too.
    let refused = books.apply(late(keyed(2, 2, 0)), NOW)[0];
    let again = post(&mut books, keyed(3, 2, 0));
    assert_eq!(again, Outcome { replayed: true, ..refused });
    assert_eq!(again.transfer_id, Some(txn(2)));
    assert_eq!(stands(&books, 'a'), (90, 0));
}

#[test]
fn a_refusal_is_repeated_even_when_it_would_succeed_by_then() {
    let mut books = books();
    let refused = Transfer { action: pay('n', 'b', 10), ..keyed(1, 1, 0) };
    let first = post(&mut books, refused.clone());
    assert_eq!(first.verdict, Verdict::Rejected(Rejection::InsufficientFunds));
    assert_eq!(ask(&mut books, 2, deposit('C', 'n', 500)), None);
    assert_eq!(post(&mut books, refused), Outcome { replayed: true, ..first });
    assert_eq!(stands(&books, 'n'), (500, 0));
}

#[test]
fn holds_and_reversals_are_repeated_like_payments() {
    let mut books = books();
    for (n, action) in
        [(1, hold('a', 'b', 60)), (2, capture(1, 20)), (3, reverse(2, 5)), (4, release(1))]
    {
        let first = post(&mut books, transfer(n, action));
        assert!(first.verdict.is_done(), "{action:?}");
        let again = post(&mut books, transfer(n, action));
        assert_eq!(again, Outcome { replayed: true, ..first }, "{action:?}");
    }
    assert_eq!((stands(&books, 'a'), stands(&books, 'b')), ((85, 0), (65, 0)));
    assert_eq!(books.into_changes().head, Head { position: 4, decided_at: NOW });
}

#[test]
fn a_reused_id_does_not_use_up_the_key_it_came_under() {
    let mut books = books();
    assert!(post(&mut books, unkeyed(1, 0)).verdict.is_done());
    let reused = post(&mut books, keyed(1, 1, 0));
    assert_eq!(reused.verdict, Verdict::Rejected(Rejection::IdempotencyKeyReused));
    let fresh = post(&mut books, keyed(2, 1, 0));
    assert!(fresh.verdict.is_done() && !fresh.replayed);
}

#[test]
fn what_was_not_due_is_not_kept() {
    let mut books = books();
    assert_eq!(ask(&mut books, 1, hold('a', 'b', 60)), None);
    assert_eq!(ask(&mut books, 2, expire(1)), Some(Rejection::HoldNotDue));
    assert_eq!(ask(&mut books, 2, expire(1)), Some(Rejection::HoldNotDue));
    let body = Body::Post { transfers: vec![transfer(2, expire(1))], linked: false };
    let due = books.apply(Command { deadline_at: None, body }, Timestamp::from_seconds(2_000))[0];
    assert!(due.verdict.is_done() && !due.replayed);
    assert_eq!(stands(&books, 'a'), (100, 0));
}
