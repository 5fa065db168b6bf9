//! Postgres agrees with the rules: random commands go through the service's own handler in batches,
//! and through books that are nothing but values; every outcome and every balance must be equal.
//!
//! `SEED=…` repeats one run.

use bus::follow::{Answer, Delivery, Handler};
use bus::outbox::Wake;
use bytes::Bytes;
use ledger::post::Post;
use ledger_core::{Account, Body, Books, Command, Head, Outcome, Transfer, TransferKind, Verdict};
use primitives::{
    AMOUNT_MINOR_MAX, AccountId, Amount, Currency, KeyId, RequestKey, System, Timestamp, TransferId,
};
use prost::Message;
use proto_events::convert::{WireId, moment_us};
use proto_events::ledger::v1 as wire;
use proto_events::subjects::ledger as on;
use sqlx::Connection;
use sqlx::types::Uuid;

use crate::harness::{balanced, database};

const SEEDS: [u64; 6] = [1, 2, 3, 20_260_101, 77, 0xdead_beef];
const COMMANDS: usize = 600;

/// SplitMix64: enough to choose what to try.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn account_id(&mut self) -> AccountId {
        match self.below(20) {
            0 => AccountId::NOBODY,
            1 => AccountId::system(System::Suspense, Currency::NGN),
            2 => AccountId::system(System::PaystackClearing, self.currency()),
            n => AccountId::from_uuid(Uuid::from_u128(u128::from(n % 6 + 1))),
        }
    }

    fn currency(&mut self) -> Currency {
        if self.percent(90) { Currency::NGN } else { Currency::USD }
    }

    fn transfer(&mut self) -> Transfer {
        let currency = self.currency();
        let is_deposit = self.percent(40);
        let clearing = AccountId::system(System::PaystackClearing, currency);
        let minor =
            if self.percent(97) { 1 + self.below(300) } else { AMOUNT_MINOR_MAX - self.below(100) };
        Transfer {
            id: TransferId::from_uuid(Uuid::from_u128(u128::from(self.below(450)) << 64 | 1)),
            kind: if is_deposit { TransferKind::Deposit } else { TransferKind::Wallet },
            debit_account_id: if is_deposit { clearing } else { self.account_id() },
            credit_account_id: self.account_id(),
            amount: Amount::try_new(minor).unwrap(),
            currency,
            note: if self.percent(20) { "a note ₦".to_owned() } else { String::new() },
            reference: if is_deposit { "dep-x".to_owned() } else { String::new() },
            request_key: self.percent(50).then(|| {
                let mut key = [0; 32];
                key[0] = u8::try_from(self.below(200)).unwrap();
                RequestKey(key)
            }),
            request_digest: [u8::from(self.percent(5)); 32],
            made_by_key_id: self.percent(10).then(|| KeyId::from_uuid(Uuid::from_u128(5))),
        }
    }

    fn command(&mut self, now: Timestamp) -> Command {
        let body = match self.below(20) {
            0 | 1 => Body::OpenAccount { account_id: self.account_id(), currency: self.currency() },
            2 => Body::FreezeAccount { account_id: self.account_id(), frozen: self.percent(30) },
            _ => Body::PostTransfer(self.transfer()),
        };
        let late = Timestamp::from_micros(now.micros() - 1);
        let is_freeze = matches!(body, Body::FreezeAccount { .. });
        let deadline_at = match self.below(10) {
            0 => Some(late),
            1..4 => Some(now),
            _ if is_freeze => Some(now),
            _ => None,
        };
        Command { deadline_at, body }
    }
}

fn delivery(sequence: u64, command: &Command, now: Timestamp) -> Delivery {
    let (subject, body) = match &command.body {
        Body::OpenAccount { account_id, currency } => {
            (on::OPEN_ACCOUNT, crate::harness::open(*account_id, *currency))
        }
        Body::FreezeAccount { account_id, frozen } => {
            let (account_id, frozen) = (account_id.to_bytes(), *frozen);
            let freeze = wire::FreezeAccount { account_id, frozen };
            (on::FREEZE_ACCOUNT, wire::command::Body::FreezeAccount(freeze))
        }
        Body::PostTransfer(it) => {
            let (subject, kind) = match it.kind {
                TransferKind::Wallet => (on::POST_TRANSFER, wire::TransferKind::Wallet),
                TransferKind::Deposit => (on::POST_DEPOSIT, wire::TransferKind::Deposit),
            };
            let post = wire::PostTransfer {
                transfer_id: it.id.to_bytes(),
                kind: kind.into(),
                debit_account_id: it.debit_account_id.to_bytes(),
                credit_account_id: it.credit_account_id.to_bytes(),
                amount_minor: it.amount.minor(),
                currency: it.currency.to_string(),
                note: it.note.clone(),
                reference: it.reference.clone(),
                request_key: it
                    .request_key
                    .map_or_else(Bytes::new, |it| Bytes::copy_from_slice(&it.0)),
                request_digest: Bytes::copy_from_slice(&it.request_digest),
                made_by_key_id: it.made_by_key_id.map_or_else(Bytes::new, WireId::to_bytes),
            };
            (subject, wire::command::Body::PostTransfer(post))
        }
    };
    let command =
        wire::Command { deadline_at_us: moment_us(command.deadline_at), body: Some(body) };
    Delivery {
        sequence,
        subject: subject.to_owned(),
        payload: Bytes::from(command.encode_to_vec()),
        published_at: now,
        reply: None,
        traceparent: None,
    }
}

/// What the asker must be told about an outcome of the pure books.
fn told(outcome: &Outcome) -> wire::Outcome {
    let balance = match outcome.verdict {
        Verdict::Posted { debit_balance_after_minor: balance, .. } => balance.max(0).unsigned_abs(),
        Verdict::Done | Verdict::Rejected(_) => 0,
    };
    wire::Outcome {
        rejection: outcome.verdict.rejection().map_or(0, |it| i32::from(it.number())),
        replayed: outcome.replayed,
        transfer_id: outcome.transfer_id.map_or_else(Bytes::new, WireId::to_bytes),
        decided_at_us: outcome.decided_at.micros(),
        debit_balance_after_minor: balance,
    }
}

type AccountRow = (Uuid, i64, i64, bool);

async fn run(seed: u64) {
    let database = database().await;
    let opened: Vec<(String, String)> =
        sqlx::query_as("select kind, currency from ledger.accounts order by account_id")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    let system = opened.iter().map(|(kind, currency)| {
        let kind = match kind.as_str() {
            "suspense" => System::Suspense,
            _ => System::PaystackClearing,
        };
        Account::system(kind, Currency::parse(currency).unwrap(), Timestamp::from_seconds(0))
    });
    let mut books = Books::new(Head::START, system, []);
    let mut post = Post::new(Wake::default());
    let mut conn = database.pool.acquire().await.unwrap();
    let mut dice = Dice(seed);
    let (mut n, mut now) = (0, Timestamp::from_seconds(1_000_000));
    while n < COMMANDS {
        // Mostly forwards, sometimes a clock that was set back.
        let step = i64::try_from(dice.below(1_000)).unwrap() - 100;
        now = Timestamp::from_micros(now.micros() + step);
        let size = 1 + usize::try_from(dice.below(40)).unwrap();
        let batch: Vec<Command> = (0..size).map(|_| dice.command(now)).collect();
        let deliveries: Vec<Delivery> = batch.iter().map(|it| delivery(1, it, now)).collect();
        let expected: Vec<Answer> = batch
            .iter()
            .map(|it| Answer::Reply(told(&books.apply(it, now)).encode_to_vec()))
            .collect();
        let mut tx = conn.begin().await.unwrap();
        // A batch that was rolled back, as after a lost connection, must leave no trace.
        if dice.percent(10) {
            post.handle(&mut tx, &deliveries, now).await.unwrap();
            tx.rollback().await.unwrap();
            post.rolled_back();
            tx = conn.begin().await.unwrap();
        }
        let answers = post.handle(&mut tx, &deliveries, now).await.unwrap();
        tx.commit().await.unwrap();
        post.committed();
        for ((found, expected), command) in answers.iter().zip(&expected).zip(&batch) {
            assert_eq!(found, expected, "SEED={seed}: {command:?}");
        }
        n += size;
    }
    drop(conn);
    let kept: Vec<AccountRow> = sqlx::query_as(
        "select account_id, debits_minor, credits_minor, frozen
         from ledger.accounts
         order by account_id",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let sum = |it| i64::try_from(it).unwrap();
    let expected: Vec<AccountRow> = books
        .accounts()
        .map(|it| (it.id.uuid(), sum(it.debits_minor), sum(it.credits_minor), it.frozen))
        .collect();
    assert_eq!(kept, expected, "SEED={seed}");
    assert!(!books.into_changes().entries.is_empty(), "SEED={seed}: nothing ever posted");
    balanced(&database).await;
}

#[tokio::test]
async fn postgres_and_the_pure_books_agree_in_every_outcome_and_balance() {
    #[expect(clippy::disallowed_methods, reason = "a test takes its seed from who runs it")]
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        run(seed).await;
    }
}
