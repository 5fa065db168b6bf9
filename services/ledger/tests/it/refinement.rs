//! Postgres agrees with the rules: random commands go through the service's own handler in batches,
//! and through books that are nothing but values; every outcome and every balance must be equal.
//!
//! `SEED=…` repeats one run.

use std::collections::BTreeSet;

use bus::follow::{Answer, Delivery, HandleError, Handler, Reply};
use bytes::Bytes;
use ledger::audit::Health;
use ledger::post::Post;
use ledger_core::{
    Account, AccountChange, Action, Body, Books, Change, Command, Found, Head, Limits, Move,
    Outcome, Transfer, TransferKind, Verdict,
};
use primitives::{
    AMOUNT_MINOR_MAX, AccountId, Amount, ChangeId, Currency, KeyId, RequestKey, System, Timestamp,
    TransferId,
};
use prost::Message;
use proto_events::convert::{WireId, moment_us};
use proto_events::ledger::v1 as wire;
use proto_events::subjects::ledger as on;
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection};

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

    fn transfer_id(&mut self) -> TransferId {
        TransferId::from_uuid(Uuid::from_u128((u128::from(self.below(450)) << 64) | 1))
    }

    /// Of few holds, so that captures, releases and expiries meet some.
    fn hold_id(&mut self) -> TransferId {
        TransferId::from_uuid(Uuid::from_u128((u128::from(1_000 + self.below(30)) << 64) | 1))
    }

    fn amount(&mut self) -> Amount {
        let minor =
            if self.percent(97) { 1 + self.below(300) } else { AMOUNT_MINOR_MAX - self.below(100) };
        Amount::try_new(minor).unwrap()
    }

    fn part(&mut self) -> Option<Amount> {
        self.percent(70).then(|| Amount::try_new(1 + self.below(80)).unwrap())
    }

    fn action(&mut self, now: Timestamp) -> Action {
        let currency = self.currency();
        let clearing = AccountId::system(System::PaystackClearing, currency);
        let (debit_account_id, credit_account_id) = (self.account_id(), self.account_id());
        let amount = self.amount();
        let of = Move { debit_account_id, credit_account_id, amount, currency };
        let soon = Timestamp::from_micros(now.micros() + i64::try_from(self.below(9_000)).unwrap());
        match self.below(20) {
            0..6 => Action::Deposit(Move { debit_account_id: clearing, ..of }),
            6..11 => Action::Wallet(of),
            11 => Action::Internal(of),
            12 | 13 => Action::Hold { of, expires_at: self.percent(50).then_some(soon) },
            14 | 15 => Action::Capture { hold_id: self.hold_id(), amount: self.part() },
            16 => Action::Release { hold_id: self.hold_id() },
            17 => Action::Expire { hold_id: self.hold_id() },
            _ => Action::Reverse { transfer_id: self.transfer_id(), amount: self.part() },
        }
    }

    fn transfer(&mut self, now: Timestamp) -> Transfer {
        let action = self.action(now);
        let is_hold = matches!(action, Action::Hold { .. });
        Transfer {
            id: if is_hold { self.hold_id() } else { self.transfer_id() },
            reference: if action.hold_id().is_none() { "dep-x".to_owned() } else { String::new() },
            action,
            note: if self.percent(20) { "a note ₦".to_owned() } else { String::new() },
            request_key: self.percent(50).then(|| {
                let mut key = [0; 32];
                key[0] = u8::try_from(self.below(200)).unwrap();
                RequestKey(key)
            }),
            request_digest: [u8::from(self.percent(5)); 32],
            made_by_key_id: self.percent(10).then(|| KeyId::from_uuid(Uuid::from_u128(5))),
        }
    }

    fn change(&mut self) -> AccountChange {
        let limits = Limits { least_minor: 0, greatest_minor: 900 };
        AccountChange {
            id: ChangeId::from_uuid(Uuid::from_u128(u128::from(self.below(60)))),
            account_id: self.account_id(),
            change: match self.below(10) {
                0..2 => Change::Freeze,
                2..8 => Change::Unfreeze,
                8 => Change::Close,
                _ => Change::SetLimits(limits),
            },
        }
    }

    fn command(&mut self, now: Timestamp) -> Command {
        let body = match self.below(20) {
            0 | 1 => Body::OpenAccount { account_id: self.account_id(), currency: self.currency() },
            2 => Body::ChangeAccount(self.change()),
            3..6 => {
                let n = 1 + self.below(6);
                let transfers = (0..n).map(|_| self.transfer(now)).collect();
                Body::Post { transfers, linked: self.percent(50) }
            }
            _ => Body::Post { transfers: vec![self.transfer(now)], linked: false },
        };
        let late = Timestamp::from_micros(now.micros() - 1);
        let deadline_at = match self.below(10) {
            0 => Some(late),
            1..4 => Some(now),
            _ => None,
        };
        Command { deadline_at, body }
    }
}

fn post_transfer(it: &Transfer) -> wire::PostTransfer {
    let id = |id: Option<TransferId>| id.map_or_else(Bytes::new, WireId::to_bytes);
    let mut printed = wire::PostTransfer {
        transfer_id: it.id.to_bytes(),
        kind: i32::from(it.action.kind().number()),
        note: it.note.clone(),
        reference: it.reference.clone(),
        request_key: it.request_key.map_or_else(Bytes::new, |it| Bytes::copy_from_slice(&it.0)),
        request_digest: Bytes::copy_from_slice(&it.request_digest),
        made_by_key_id: it.made_by_key_id.map_or_else(Bytes::new, WireId::to_bytes),
        of_transfer_id: id(it.action.hold_id().or_else(|| it.action.reversed_id())),
        ..wire::PostTransfer::default()
    };
    if let Some(of) = it.action.of() {
        printed.debit_account_id = of.debit_account_id.to_bytes();
        printed.credit_account_id = of.credit_account_id.to_bytes();
        printed.amount_minor = of.amount.minor();
        printed.currency = of.currency.to_string();
    }
    match it.action {
        Action::Hold { expires_at, .. } => printed.expires_at_us = moment_us(expires_at),
        Action::Capture { amount, .. } | Action::Reverse { amount, .. } => {
            printed.amount_minor = amount.map_or(0, Amount::minor);
        }
        Action::Wallet(_)
        | Action::Deposit(_)
        | Action::Internal(_)
        | Action::Release { .. }
        | Action::Expire { .. } => {}
    }
    printed
}

/// A command as it comes from the stream: transfers go on the subject for any of them, but for an
/// expiry, which only goes alone.
fn delivery(sequence: u64, command: &Command, now: Timestamp) -> Delivery {
    let (subject, body) = match &command.body {
        Body::OpenAccount { account_id, currency } => {
            (on::OPEN_ACCOUNT, crate::harness::open(*account_id, *currency))
        }
        Body::ChangeAccount(it) => {
            let limits = match it.change {
                Change::SetLimits(limits) => limits,
                Change::Freeze | Change::Unfreeze | Change::Close => {
                    Limits { least_minor: 0, greatest_minor: 0 }
                }
            };
            let change = wire::ChangeAccount {
                change_id: it.id.to_bytes(),
                account_id: it.account_id.to_bytes(),
                change: match it.change {
                    Change::Freeze => wire::AccountChange::Freeze.into(),
                    Change::Unfreeze => wire::AccountChange::Unfreeze.into(),
                    Change::Close => wire::AccountChange::Close.into(),
                    Change::SetLimits(_) => wire::AccountChange::SetLimits.into(),
                },
                least_minor: limits.least_minor,
                greatest_minor: limits.greatest_minor,
            };
            (on::CHANGE_ACCOUNT, wire::command::Body::ChangeAccount(change))
        }
        Body::Post { transfers, linked } => match transfers.as_slice() {
            [one] if matches!(one.action, Action::Expire { .. }) => {
                (on::EXPIRE_HOLD, wire::command::Body::PostTransfer(post_transfer(one)))
            }
            all => {
                let transfers = all.iter().map(post_transfer).collect();
                let several = wire::PostTransfers { transfers, linked: *linked };
                (on::POST_ANY, wire::command::Body::PostTransfers(several))
            }
        },
    };
    let command =
        wire::Command { deadline_at_us: moment_us(command.deadline_at), body: Some(body) };
    Delivery {
        sequence,
        subject: subject.into(),
        payload: Bytes::from(command.encode_to_vec()),
        published_at: now,
        reply: Reply::from_text("_INBOX.test"),
        traceparent: None,
    }
}

/// What the asker must be told about outcomes of the pure books.
fn told(outcomes: &[Outcome], subject: &str) -> Answer {
    let print = |outcome: &Outcome| {
        let balance = match outcome.verdict {
            Verdict::Done { debit_balance_after_minor: balance } => balance.max(0).unsigned_abs(),
            Verdict::Rejected(_) => 0,
        };
        wire::Outcome {
            rejection: outcome.verdict.rejection().map_or(0, |it| i32::from(it.number())),
            replayed: outcome.replayed,
            transfer_id: outcome.transfer_id.map_or_else(Bytes::new, WireId::to_bytes),
            decided_at_us: outcome.decided_at.micros(),
            debit_balance_after_minor: balance,
        }
    };
    Answer::Reply(if subject == on::POST_ANY {
        wire::Outcomes { outcomes: outcomes.iter().map(print).collect() }.encode_to_vec()
    } else {
        print(outcomes.first().unwrap()).encode_to_vec()
    })
}

/// As `follow` does it: in one transaction, and once more if a repeat was met.
async fn handle(
    post: &mut Post,
    conn: &mut PgConnection,
    deliveries: &[Delivery],
    now: Timestamp,
    is_kept: bool,
) -> Vec<Answer> {
    for _ in 0..2 {
        let mut tx = conn.begin().await.unwrap();
        match post.handle(&mut tx, deliveries, now).await {
            Ok(answers) if is_kept => {
                tx.commit().await.unwrap();
                post.committed();
                return answers;
            }
            Ok(answers) => {
                tx.rollback().await.unwrap();
                post.rolled_back();
                return answers;
            }
            Err(HandleError::Again) => tx.rollback().await.unwrap(),
            Err(broken) => panic!("{broken:?}"),
        }
    }
    panic!("a batch that was decided again met a repeat again")
}

type AccountRow = (Uuid, String, i64, i64, i64);

/// What stands on every account, as its newest transfer says.
const STANDINGS: &str = "
  select a.account_id, a.status, a.greatest_minor,
    coalesce(n.balance_minor, 0), coalesce(n.held_minor, 0)
  from ledger.accounts a
  left join lateral (
    select s.*
    from ledger.transfers t,
    lateral (
      values (t.debit_account_id, t.debit_balance_after_minor, t.debit_held_after_minor),
        (t.credit_account_id, t.credit_balance_after_minor, t.credit_held_after_minor)
    ) s (account_id, balance_minor, held_minor)
    where s.account_id = a.account_id and s.balance_minor is not null
    order by t.position desc
    limit 1
  ) n on true
  order by a.account_id";

/// Runs one seed, and says which kinds of transfers were done in it.
async fn run(seed: u64) -> BTreeSet<TransferKind> {
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
    let found = Found { accounts: system.collect(), ..Found::default() };
    let mut books = Books::new(Head::START, found);
    let mut dice = Dice(seed);
    // Few accounts in memory, so that some are forgotten and found again.
    let accounts_max = [4, 10, 1_000][usize::try_from(seed % 3).unwrap()];
    let mut post = Post::new(accounts_max, Health::unwatched());
    let mut conn = database.pool.acquire().await.unwrap();
    let (mut n, mut now) = (0, Timestamp::from_seconds(1_000_000));
    while n < COMMANDS {
        // Mostly forwards, sometimes a clock that was set back.
        let step = i64::try_from(dice.below(1_000)).unwrap() - 100;
        now = Timestamp::from_micros(now.micros() + step);
        let size = 1 + usize::try_from(dice.below(40)).unwrap();
        let batch: Vec<Command> = (0..size).map(|_| dice.command(now)).collect();
        let batch: Vec<Command> = batch.into_iter().filter(is_sendable).collect();
        let deliveries: Vec<Delivery> = batch.iter().map(|it| delivery(1, it, now)).collect();
        let told_by_books = batch
            .iter()
            .zip(&deliveries)
            .map(|(it, delivery)| told(&books.apply(it.clone(), now), &delivery.subject));
        let expected: Vec<Answer> = told_by_books.collect();
        // A batch that was rolled back, as after a lost connection, must leave no trace.
        if dice.percent(10) {
            handle(&mut post, &mut conn, &deliveries, now, false).await;
        }
        let answers = handle(&mut post, &mut conn, &deliveries, now, true).await;
        for ((found, expected), command) in answers.iter().zip(&expected).zip(&batch) {
            assert_eq!(found, expected, "SEED={seed}: {command:?}");
        }
        n += size;
    }
    drop(conn);
    let kept: Vec<AccountRow> = sqlx::query_as(STANDINGS).fetch_all(&database.pool).await.unwrap();
    let mut expected: Vec<AccountRow> = books
        .accounts()
        .map(|it| {
            let status = format!("{:?}", it.status).to_lowercase();
            let stands = it.standing;
            let limit = it.limits.greatest_minor;
            (it.id.uuid(), status, limit, stands.balance_minor, stands.held_minor)
        })
        .collect();
    expected.sort();
    assert_eq!(kept, expected, "SEED={seed}");
    balanced(&database).await;
    let records = books.into_changes().records.into_iter();
    records.filter(|it| it.verdict.is_done()).map(|it| it.transfer.action.kind()).collect()
}

/// An expiry goes alone, or nobody may send it.
fn is_sendable(command: &Command) -> bool {
    let transfers = command.transfers();
    let is_linked = matches!(command.body, Body::Post { linked: true, .. });
    let is_expiry = |it: &Transfer| matches!(it.action, Action::Expire { .. });
    !transfers.iter().any(is_expiry) || (transfers.len() == 1 && !is_linked)
}

#[tokio::test]
async fn postgres_and_the_pure_books_agree_in_every_outcome_and_balance() {
    #[expect(clippy::disallowed_methods, reason = "a test takes its seed from who runs it")]
    let seed = std::env::var("SEED").ok().map(|it| it.parse().unwrap());
    if let Some(seed) = seed {
        run(seed).await;
        return;
    }
    let mut done = BTreeSet::new();
    for seed in SEEDS {
        done.extend(run(seed).await);
    }
    assert_eq!(done, TransferKind::ALL.into_iter().collect(), "each kind was done in some run");
}
