//! Many askers at once on few accounts.

use futures_util::future::join_all;
use proto_events::ledger::v1::Rejection;

use crate::harness::{Ledger, pay};

#[tokio::test]
async fn two_opposite_transfers_in_loops_lose_nothing() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(1_000).await, ledger.funded(1_000).await);
    let send = async |from, to, minor| {
        for _ in 0..150 {
            ledger.posted(pay(from, to, minor)).await;
        }
    };
    tokio::join!(send(a, b, 3), send(b, a, 2), send(a, b, 1), send(b, a, 2));
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (1_000, 1_000));
    let posted = ledger.count("select count(*) from ledger.transfers where rejection = 0").await;
    assert_eq!(posted, 602);
    ledger.finish().await;
}

#[tokio::test]
async fn a_balance_that_covers_one_of_twenty_pays_exactly_one() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let outcomes = join_all((0..20).map(|_| ledger.post(pay(a, b, 100)))).await;
    let of = |rejection| outcomes.iter().filter(|it| it.rejection() == rejection).count();
    assert_eq!((of(Rejection::Unspecified), of(Rejection::InsufficientFunds)), (1, 19));
    assert_eq!((ledger.balance(a).await, ledger.balance(b).await), (0, 100));
    ledger.finish().await;
}

#[tokio::test]
async fn a_ring_of_payers_goes_round() {
    let ledger = Ledger::start_with(&["--ledger-batch-transfers-max=7"]).await;
    let wallets = join_all((0..5).map(|_| ledger.funded(50))).await;
    let sends = (0..200_usize).map(|n| {
        let (from, to) = (wallets[n % 5], wallets[(n + 1) % 5]);
        ledger.post(pay(from, to, 10))
    });
    join_all(sends).await;
    let held = join_all(wallets.iter().map(|it| ledger.balance(*it))).await;
    assert_eq!(held.iter().sum::<u64>(), 250, "{held:?}");
    ledger.finish().await;
}
