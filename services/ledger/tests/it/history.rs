//! Pages of a history: complete, newest first, stable while new movements arrive, and filtered.

use primitives::AccountId;
use proto_events::convert::WireId;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::{Direction, TransferKind};

use crate::harness::{Ledger, deposit, pay};

fn of(account_id: AccountId) -> wire::ListMovements {
    wire::ListMovements {
        account_id: account_id.to_bytes(),
        limit: 100,
        before_position: 0,
        kind: 0,
        direction: 0,
        from_us: 0,
        to_us: 0,
    }
}

/// The amounts a query shows, which are all different and say which movement it was.
async fn amounts(ledger: &Ledger, query: &wire::ListMovements) -> Vec<u64> {
    let page = ledger.movements(query).await.unwrap();
    page.movements.iter().map(|it| it.amount_minor).collect()
}

#[tokio::test]
async fn pages_are_complete_and_stable_while_new_movements_arrive() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(10_000).await, ledger.funded(10_000).await);
    for minor in 1..=25 {
        ledger.posted(if minor % 3 == 0 { pay(b, a, minor) } else { pay(a, b, minor) }).await;
    }
    let mut seen = Vec::new();
    let mut query = wire::ListMovements { limit: 4, ..of(a) };
    loop {
        let page = ledger.movements(&query).await.unwrap();
        seen.extend(page.movements.clone());
        // Somebody pays between any two pages.
        ledger.posted(pay(a, b, 1_000 + query.before_position.unsigned_abs())).await;
        let Some(last) = page.movements.last() else { break };
        query.before_position = last.position;
        if !page.more {
            break;
        }
    }
    let found: Vec<u64> = seen.iter().map(|it| it.amount_minor).collect();
    let expected: Vec<u64> = (1..=25).rev().chain([10_000]).collect();
    assert_eq!(found, expected);
    assert!(seen.windows(2).all(|it| it[0].position > it[1].position));
    assert!(seen.windows(2).all(|it| it[0].created_at_us >= it[1].created_at_us));
    // Each balance follows from the one before it.
    for (newer, older) in seen.iter().zip(&seen[1..]) {
        let before = older.balance_after_minor.unwrap();
        let after = match newer.direction() {
            Direction::Debit => before - newer.amount_minor,
            Direction::Credit | Direction::Unspecified => before + newer.amount_minor,
        };
        assert_eq!(newer.balance_after_minor, Some(after));
    }
    ledger.finish().await;
}

#[tokio::test]
async fn a_page_that_ends_just_at_the_end_says_so() {
    let ledger = Ledger::start().await;
    let a = ledger.funded(0).await;
    for minor in 1..=3 {
        ledger.posted(deposit(a, minor)).await;
    }
    for (limit, n_shown, more) in [(2, 2, true), (3, 3, false), (4, 3, false), (100, 3, false)] {
        let page = ledger.movements(&wire::ListMovements { limit, ..of(a) }).await.unwrap();
        assert_eq!((page.movements.len(), page.more), (n_shown, more), "{limit}");
    }
    let empty = ledger.movements(&of(AccountId::generate())).await.unwrap();
    assert_eq!((empty.movements.len(), empty.more), (0, false));
    ledger.finish().await;
}

#[tokio::test]
async fn a_history_is_filtered_by_kind_direction_and_time() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(1_000).await, ledger.funded(2_000).await);
    let mut at = Vec::new();
    for asked in [pay(a, b, 1), pay(b, a, 2), deposit(a, 3), pay(a, b, 4), pay(b, a, 5)] {
        at.push(ledger.posted(asked).await.decided_at_us);
    }
    ledger.post(pay(a, b, 999_999)).await;
    assert!(at.windows(2).all(|it| it[0] < it[1]), "batches of one, each at its own moment");
    let q = of(a);
    let deposits = TransferKind::Deposit.into();
    let wallets = TransferKind::Wallet.into();
    let (debits, credits) = (Direction::Debit.into(), Direction::Credit.into());
    for (name, query, expected) in [
        ("all; a refusal is no movement", q.clone(), vec![5, 4, 3, 2, 1, 1_000]),
        ("deposits", wire::ListMovements { kind: deposits, ..q.clone() }, vec![3, 1_000]),
        ("transfers", wire::ListMovements { kind: wallets, ..q.clone() }, vec![5, 4, 2, 1]),
        ("out", wire::ListMovements { direction: debits, ..q.clone() }, vec![4, 1]),
        ("in", wire::ListMovements { direction: credits, ..q.clone() }, vec![5, 3, 2, 1_000]),
        (
            "transfers in",
            wire::ListMovements { kind: wallets, direction: credits, ..q.clone() },
            vec![5, 2],
        ),
        ("from includes", wire::ListMovements { from_us: at[2], ..q.clone() }, vec![5, 4, 3]),
        ("from a bit later", wire::ListMovements { from_us: at[2] + 1, ..q.clone() }, vec![5, 4]),
        ("to excludes", wire::ListMovements { to_us: at[2], ..q.clone() }, vec![2, 1, 1_000]),
        (
            "to a bit later",
            wire::ListMovements { to_us: at[2] + 1, ..q.clone() },
            vec![3, 2, 1, 1_000],
        ),
        ("between", wire::ListMovements { from_us: at[1], to_us: at[3], ..q.clone() }, vec![3, 2]),
        ("nothing", wire::ListMovements { from_us: at[3], to_us: at[1], ..q.clone() }, vec![]),
        ("in the future", wire::ListMovements { from_us: at[4] + 1, ..q.clone() }, vec![]),
        ("before everything", wire::ListMovements { to_us: 1, ..q.clone() }, vec![]),
        (
            "long ago until far ahead",
            wire::ListMovements { from_us: 1, to_us: i64::MAX / 2_000, ..q.clone() },
            vec![5, 4, 3, 2, 1, 1_000],
        ),
        (
            "all at once",
            wire::ListMovements {
                kind: wallets,
                direction: credits,
                from_us: at[0],
                to_us: at[4],
                limit: 1,
                ..q.clone()
            },
            vec![2],
        ),
    ] {
        assert_eq!(amounts(&ledger, &query).await, expected, "{name}");
    }
    ledger.finish().await;
}

#[tokio::test]
async fn who_asked_is_told_of_the_key_that_asked_and_nobody_else() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let made_by_key_id = primitives::KeyId::generate().to_bytes();
    let by_key = |it| wire::PostTransfer { made_by_key_id: made_by_key_id.clone(), ..it };
    let (paid, credited) = (by_key(pay(a, b, 1)), by_key(deposit(a, 2)));
    ledger.posted(paid.clone()).await;
    ledger.posted(credited.clone()).await;
    let seen = async |account, it: &wire::PostTransfer| {
        ledger.transfer(account, &it.transfer_id).await.unwrap().made_by_key_id
    };
    assert_eq!(seen(a, &paid).await, made_by_key_id);
    assert_eq!(seen(b, &paid).await, "");
    assert_eq!(seen(a, &credited).await, made_by_key_id);
    // A third account has no such transfer at all.
    let stranger = ledger.funded(0).await;
    assert_eq!(ledger.transfer(stranger, &paid.transfer_id).await, None);
    ledger.finish().await;
}

#[tokio::test]
async fn a_query_that_means_nothing_is_refused() {
    let ledger = Ledger::start().await;
    let a = ledger.funded(0).await;
    for query in [
        wire::ListMovements { limit: 0, ..of(a) },
        wire::ListMovements { limit: 101, ..of(a) },
        wire::ListMovements { kind: 9, ..of(a) },
        wire::ListMovements { direction: 9, ..of(a) },
        wire::ListMovements { account_id: bytes::Bytes::from_static(b"short"), ..of(a) },
    ] {
        let refused = ledger.movements(&query).await;
        assert!(matches!(refused, Err(bus::ask::Error::Unavailable { .. })), "{query:?}");
    }
    ledger.finish().await;
}
