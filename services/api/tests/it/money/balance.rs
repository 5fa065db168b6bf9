//! `GET /wallet/balance`, now and then, and what kinds of movement history knows.

use futures_util::future::join_all;
use primitives::{AccountId, Timestamp, TransferId};
use proto_events::convert::WireId as _;
use proto_events::ledger::v1::{Direction, Movement, TransferKind};
use serde_json::{Value, json};

use super::stage::{Money, lock};

#[tokio::test]
async fn a_balance_is_read_as_it_is_or_as_it_was() {
    let money = Money::start(&[]).await;
    let now: Value = money.look("/wallet/balance").await.ok();
    assert_eq!((&now["balance"], now.get("at")), (&json!(0), None), "{now}");
    for (at, shown, us) in [
        ("2026-01-15T09:14:24Z", "2026-01-15T09:14:24Z", 1_768_468_464_000_000),
        ("2026-01-15T10:14:24.5%2B01:00", "2026-01-15T09:14:24.5Z", 1_768_468_464_500_000),
        // 0 would mean the present to the ledger.
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", -1),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z", -1_000_000),
    ] {
        let then: Value = money.look(&format!("/wallet/balance?at={at}")).await.ok();
        assert_eq!(then["at"], shown);
        let asked = lock(&money.books.balances).pop().unwrap();
        assert_eq!(asked.balances[0].at_us, us, "{at}");
        assert_eq!(then["balance"], u64::try_from(us / 1_000_000).unwrap_or(0), "{then}");
        assert_eq!(then["available"], 1);
    }
    let future = Timestamp::now().plus(std::time::Duration::from_hours(1));
    for wrong in ["", "yesterday", "2026-01-15", "1768468464", &future.to_string()] {
        let answer = money.look(&format!("/wallet/balance?at={wrong}")).await;
        let problem = answer.problem(400, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], "at", "{wrong}");
    }
    let twice = "/wallet/balance?at=2026-01-15T09:14:24Z&at=2026-01-15T09:14:24Z";
    money.look(twice).await.problem(400, "invalid_field");
    money.end().await;
}

#[tokio::test]
async fn balances_asked_for_at_once_are_read_together() {
    let money = Money::start(&[]).await;
    let at = |i: i64| Timestamp::from_seconds(1_700_000_000 + i).to_string();
    let paths: Vec<String> = (0..200).map(|i| format!("/wallet/balance?at={}", at(i))).collect();
    let answers = join_all(paths.iter().map(|path| money.look(path))).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.ok::<Value>()["balance"], 1_700_000_000 + i, "each its own");
    }
    let n_queries = lock(&money.books.balances).len();
    assert!(n_queries < 200, "{n_queries} queries for 200 balances");
    money.end().await;
}

#[tokio::test]
async fn history_names_every_kind_that_is_listed() {
    let money = Money::start(&[]).await;
    let kinds = [
        (TransferKind::Deposit, Direction::Credit, "deposit", true),
        (TransferKind::Wallet, Direction::Credit, "transfer_in", true),
        (TransferKind::Wallet, Direction::Debit, "transfer_out", true),
        (TransferKind::Capture, Direction::Credit, "adjustment_in", false),
        (TransferKind::Capture, Direction::Debit, "refund", true),
        (TransferKind::Reversal, Direction::Credit, "reversal_in", true),
        (TransferKind::Reversal, Direction::Debit, "reversal_out", true),
        (TransferKind::Internal, Direction::Credit, "adjustment_in", true),
        (TransferKind::Internal, Direction::Debit, "adjustment_out", true),
    ];
    let movement = |kind: TransferKind, direction: Direction| Movement {
        transfer_id: TransferId::generate().to_bytes(),
        kind: kind.into(),
        direction: direction.into(),
        amount_minor: 1,
        currency: "NGN".to_owned(),
        counterparty_account_id: AccountId::NOBODY.to_bytes(),
        ..Movement::default()
    };
    *lock(&money.books.page) =
        kinds.iter().map(|(kind, side, ..)| movement(*kind, *side)).collect();
    let page: Value = money.look("/wallet/transactions").await.ok();
    let shown: Vec<&str> = page["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    assert_eq!(shown, kinds.map(|(_, _, name, _)| name));
    for (kind, side, name, _) in kinds.iter().filter(|(.., is_filter)| *is_filter) {
        money.look(&format!("/wallet/transactions?type={name}")).await.expect(200);
        let asked = lock(&money.books.pages).pop().unwrap();
        let sides = [*side, Direction::Unspecified];
        assert!(asked.kind() == *kind && sides.contains(&asked.direction()), "{name}: {asked:?}");
    }
    money.look("/wallet/transactions?type=hold").await.problem(400, "invalid_field");
    for never in [TransferKind::Hold, TransferKind::Release, TransferKind::Expiry] {
        *lock(&money.books.page) = vec![movement(never, Direction::Debit)];
        money.look("/wallet/transactions").await.problem(500, "internal_error");
    }
    money.end().await;
}
