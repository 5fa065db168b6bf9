//! Two ledgers at once, as processes of their own. One is stopped in the middle of a batch for
//! longer than anything waits, and continued when the other one has long taken over: it commits
//! nothing, and stands by.

use std::time::{Duration, Instant};

use bus::ask::Asker;
use primitives::{AccountId, Currency};
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::command::Body;
use proto_events::subjects::ledger as on;
use testkit::{Database, Nats};

use crate::harness::{balanced, count, database, deposit, open, pay};
use crate::process::{Hold, Process, ask, send};

/// What is promised from `kill -9` to the first new commit.
const TAKE_OVER: Duration = Duration::from_secs(2);
/// How long a session may be silent here.
const SILENCE: (&str, &str) = ("LEDGER_SESSION_SILENCE_MAX_MS", "1000");

/// Two ledgers, of which the first leads, and two wallets with money.
struct Pair {
    database: Database,
    nats: Nats,
    asker: Asker,
    first: Process,
    second: Process,
    wallets: [AccountId; 2],
}

impl Pair {
    async fn start(more: &[(&str, &str)]) -> Self {
        let (database, nats) = tokio::join!(database(), testkit::nats());
        let first = Process::start_with(&database, &nats, more);
        first.until_leading(true).await;
        let second = Process::start_with(&database, &nats, more);
        second.until_leading(false).await;
        let asker = Asker::new(nats.client().await);
        let wallets = [AccountId::generate(), AccountId::generate()];
        for account_id in wallets {
            ask(&asker, on::OPEN_ACCOUNT, open(account_id, Currency::NGN)).await;
            let funds = Body::PostTransfer(deposit(account_id, 1_000));
            ask(&asker, on::POST_DEPOSIT, funds).await;
        }
        Self { database, nats, asker, first, second, wallets }
    }

    fn payment(&self) -> wire::PostTransfer {
        let [from, to] = self.wallets;
        pay(from, to, 1)
    }

    async fn pay(&self, payment: &wire::PostTransfer) -> wire::Outcome {
        ask(&self.asker, on::POST_TRANSFER, Body::PostTransfer(payment.clone())).await
    }

    /// The second ledger leads, has posted `held`, and posts more; the first one has come back,
    /// has committed nothing, and takes over again when the second is gone.
    async fn check(self, name: &str, held: &wire::PostTransfer) {
        assert_eq!(self.second.n_posted().await, 1, "{name}: what was held");
        self.first.until_leading(false).await;
        assert!(self.pay(held).await.replayed, "{name}");
        assert!(!self.pay(&self.payment()).await.replayed, "{name}");
        assert_eq!(self.first.n_posted().await, 2, "{name}: the deposits, and nothing since");
        let payment = Body::PostTransfer(self.payment());
        self.second.kill().await;
        let began = Instant::now();
        ask(&self.asker, on::POST_TRANSFER, payment).await;
        println!("{name}: the first one has taken over again after {:?}", began.elapsed());
        assert_eq!(self.first.n_posted().await, 3, "{name}");
        self.first.kill().await;
        balanced(&self.database).await;
        let n_transfers = count(&self.database, "select count(*) from ledger.transfers").await;
        assert_eq!(n_transfers, 5, "{name}: each once");
        assert_eq!(count(&self.database, "select count(*) from bus.parked").await, 0, "{name}");
    }
}

/// Where the first ledger is stopped. What it was doing there is done in Postgres meanwhile.
const STEPS: [(&str, &str); 3] = [
    ("the cursor moved", "trigger step after update on bus.cursors for each statement"),
    ("transfers were copied", "trigger step after insert on ledger.transfers for each statement"),
    ("only the commit is left", "trigger step after insert on ledger.batches for each statement"),
];

#[tokio::test]
async fn a_ledger_that_was_stopped_in_a_batch_commits_nothing_and_stands_by() {
    for (name, step) in STEPS {
        let pair = Pair::start(&[SILENCE]).await;
        let mut hold = Hold::after(&pair.database, step).await;
        let payment = pair.payment();
        send(&pair.nats, on::POST_TRANSFER, Body::PostTransfer(payment.clone())).await;
        let backend = hold.held(&pair.database, name).await;
        pair.first.stop().await;
        hold.let_go().await;
        // Postgres did what it was asked, and then hears nothing more.
        hold.ended(&pair.database, backend).await;
        hold.remove().await;
        assert!(pair.pay(&payment).await.replayed, "{name}: it waited in the stream");
        pair.first.go_on();
        pair.check(name, &payment).await;
    }
}

/// Without any lease: the first ledger keeps its session and its transaction, and only the lock that
/// says who reads is taken from it. What keeps it from writing is the compare-and-set alone.
#[tokio::test]
async fn a_ledger_whose_place_was_moved_is_fenced_by_the_cursor_alone() {
    let name = "before the cursor moved";
    let pair = Pair::start(&[]).await;
    let step = "trigger step before update on bus.cursors for each statement";
    let mut hold = Hold::first_without_its_lead(&pair.database, step).await;
    let payment = pair.payment();
    send(&pair.nats, on::POST_TRANSFER, Body::PostTransfer(payment.clone())).await;
    hold.held(&pair.database, name).await;
    pair.first.stop().await;
    assert!(pair.pay(&payment).await.replayed, "{name}: it waited in the stream");
    hold.let_go().await;
    pair.first.go_on();
    pair.first.until("bus_fence_losses_total", "ledger", |it| it == 1).await;
    hold.remove().await;
    pair.check(name, &payment).await;
}

#[tokio::test]
async fn another_ledger_takes_over_within_two_seconds_of_a_kill() {
    let mut pair = Pair::start(&[]).await;
    for n in 1..=5 {
        let payment = pair.payment();
        let began = Instant::now();
        pair.first.kill().await;
        ask(&pair.asker, on::POST_TRANSFER, Body::PostTransfer(payment)).await;
        let took = began.elapsed();
        println!("take-over {n}: {took:?} from kill -9 to the first new commit's answer");
        assert!(took <= TAKE_OVER, "take-over {n}: {took:?}");
        let third = Process::start(&pair.database, &pair.nats);
        third.until_leading(false).await;
        let Pair { database, nats, asker, second, wallets, .. } = pair;
        pair = Pair { database, nats, asker, first: second, second: third, wallets };
    }
    pair.first.kill().await;
    pair.second.kill().await;
    balanced(&pair.database).await;
}
