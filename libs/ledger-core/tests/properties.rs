//! What holds whatever is asked: random commands over few accounts, keys and ids, so that they
//! collide often.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use ledger_core::audit::{Line, Posted, Violation, audit};
use ledger_core::{
    Account, AccountKind, Body, Books, Command, Decision, Entry, Head, Outcome, Rejection,
    Transfer, TransferKind, Verdict,
};
use primitives::{
    AMOUNT_MINOR_MAX, AccountId, Amount, Currency, RequestKey, System, Timestamp, TransferId,
};
use proptest::prelude::*;
use uuid::Uuid;

/// What a database keeps: whole books, of which a batch loads what it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    head: Option<Head>,
    accounts: BTreeMap<AccountId, Account>,
    transfers: BTreeMap<TransferId, (Transfer, Decision)>,
    entries: Vec<Entry>,
}

impl Kept {
    fn start() -> Self {
        let system = |kind, currency| Account::system(kind, currency, Timestamp::from_seconds(0));
        let accounts = [
            system(System::PaystackClearing, Currency::NGN),
            system(System::PaystackClearing, Currency::USD),
            system(System::Suspense, Currency::NGN),
        ];
        let accounts = accounts.into_iter().map(|it| (it.id, it)).collect();
        Self { accounts, ..Self::default() }
    }

    /// Loads only what the batch names, as the service does; in the order given.
    fn load(&self, batch: &[(Command, Timestamp)], backwards: bool) -> Books {
        let mut accounts: Vec<Account> = batch
            .iter()
            .flat_map(|(command, _)| command.account_ids())
            .filter_map(|id| self.accounts.get(&id).cloned())
            .collect();
        let mut decisions: Vec<Decision> = self
            .transfers
            .values()
            .map(|(_, decision)| decision)
            .filter(|it| {
                batch.iter().filter_map(|(command, _)| command.transfer()).any(|asked| {
                    asked.id == it.transfer_id
                        || asked.request_key.is_some() && asked.request_key == it.request_key
                })
            })
            .cloned()
            .collect();
        if backwards {
            accounts.reverse();
            decisions.reverse();
        }
        Books::new(self.head.unwrap_or(Head::START), accounts, decisions)
    }

    fn run(&mut self, batch: &[(Command, Timestamp)], backwards: bool) -> Vec<Outcome> {
        let mut books = self.load(batch, backwards);
        let outcomes = batch.iter().map(|(command, now)| books.apply(command, *now)).collect();
        let changes = books.into_changes();
        for account in changes.opened.into_iter().chain(changes.updated) {
            self.accounts.insert(account.id, account);
        }
        for (transfer, decision) in changes.decided {
            assert!(self.transfers.insert(transfer.id, (transfer, decision)).is_none());
        }
        self.entries.extend(changes.entries);
        self.head = Some(changes.head);
        outcomes
    }

    fn lines(&self) -> Vec<Line> {
        let posted = |entry: &Entry| {
            let (transfer, decision) = self.transfers.get(&entry.transfer_id)?;
            let Verdict::Posted { position, .. } = decision.verdict else {
                return None;
            };
            Some(Posted {
                position,
                debit_account_id: transfer.debit_account_id,
                credit_account_id: transfer.credit_account_id,
                amount_minor: transfer.amount.to_i64(),
                currency: transfer.currency,
            })
        };
        let account =
            |entry: &Entry| self.accounts.get(&entry.account_id).map(|it| (it.kind, it.currency));
        let line = |entry: &Entry| Line {
            entry: entry.clone(),
            transfer: posted(entry),
            account: account(entry),
        };
        self.entries.iter().map(line).collect()
    }

    fn violations(&self) -> Vec<Violation> {
        audit(&self.lines(), self.accounts.values())
    }
}

fn account_ids() -> impl Strategy<Value = AccountId> {
    prop_oneof![
        12 => (1_u128..6).prop_map(|it| AccountId::from_uuid(Uuid::from_u128(it))),
        1 => Just(AccountId::NOBODY),
        2 => Just(AccountId::system(System::PaystackClearing, Currency::NGN)),
        1 => Just(AccountId::system(System::Suspense, Currency::NGN)),
    ]
}

fn currencies() -> impl Strategy<Value = Currency> {
    prop_oneof![9 => Just(Currency::NGN), 1 => Just(Currency::USD)]
}

fn amounts() -> impl Strategy<Value = Amount> {
    prop_oneof![9 => 1_u64..200, 1 => AMOUNT_MINOR_MAX - 50..=AMOUNT_MINOR_MAX]
        .prop_map(|it| Amount::try_new(it).unwrap())
}

fn transfers() -> impl Strategy<Value = Transfer> {
    let is_deposit = prop::bool::weighted(0.4);
    let ids = (1_u128..60, prop::option::weighted(0.5, 0_u8..40), 0_u8..2);
    (is_deposit, account_ids(), account_ids(), amounts(), currencies(), ids).prop_map(
        |(is_deposit, from, to, amount, currency, (id, key, digest))| Transfer {
            id: TransferId::from_uuid(Uuid::from_u128(id)),
            kind: if is_deposit { TransferKind::Deposit } else { TransferKind::Wallet },
            debit_account_id: if is_deposit {
                AccountId::system(System::PaystackClearing, currency)
            } else {
                from
            },
            credit_account_id: to,
            amount,
            currency,
            note: String::new(),
            reference: String::new(),
            request_key: key.map(|it| RequestKey([it; 32])),
            // Mostly the same digest, so that repeats replay more often than they collide.
            request_digest: [digest / 2; 32],
            made_by_key_id: None,
        },
    )
}

fn bodies() -> impl Strategy<Value = Body> {
    prop_oneof![
        2 => (account_ids(), currencies())
            .prop_map(|(account_id, currency)| Body::OpenAccount { account_id, currency }),
        8 => transfers().prop_map(Body::PostTransfer),
        1 => (account_ids(), prop::bool::weighted(0.3))
            .prop_map(|(account_id, frozen)| Body::FreezeAccount { account_id, frozen }),
    ]
}

/// Commands and when they are read; the clock jumps about a little.
fn histories() -> impl Strategy<Value = Vec<(Command, Timestamp)>> {
    let command = (bodies(), prop::option::weighted(0.3, 100_i64..300), 90_i64..250).prop_map(
        |(body, deadline, now)| {
            let deadline_at = deadline.map(Timestamp::from_seconds);
            (Command { deadline_at, body }, Timestamp::from_seconds(now))
        },
    );
    let opened = (1_u128..5).map(|it| {
        let account_id = AccountId::from_uuid(Uuid::from_u128(it));
        let body = Body::OpenAccount { account_id, currency: Currency::NGN };
        (Command { deadline_at: None, body }, Timestamp::from_seconds(1))
    });
    let opened: Vec<_> = opened.collect();
    prop::collection::vec(command, 0..120)
        .prop_map(move |it| opened.iter().cloned().chain(it).collect())
}

fn one_by_one(history: &[(Command, Timestamp)]) -> (Kept, Vec<Outcome>) {
    let mut kept = Kept::start();
    let outcomes = history.chunks(1).flat_map(|it| kept.run(it, false)).collect();
    (kept, outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// I1, I5, I6 by the audit, and conservation said once more without it.
    #[test]
    fn money_is_neither_made_nor_lost(history in histories()) {
        let (kept, _) = one_by_one(&history);
        prop_assert_eq!(kept.violations(), vec![]);
        for currency in [Currency::NGN, Currency::USD] {
            let of_currency = kept.accounts.values().filter(|it| it.currency == currency);
            let held: i128 = of_currency.map(|it| i128::from(it.balance_minor())).sum();
            prop_assert_eq!(held, 0);
        }
    }

    /// I2 at every moment, not only at the end.
    #[test]
    fn no_wallet_is_ever_overdrawn(history in histories()) {
        let (kept, _) = one_by_one(&history);
        for entry in &kept.entries {
            if kept.accounts[&entry.account_id].kind == AccountKind::Wallet {
                prop_assert!(entry.balance_after_minor >= 0);
                prop_assert!(entry.balance_after_minor.unsigned_abs() <= AMOUNT_MINOR_MAX);
            }
        }
    }

    /// I3: whatever comes later, the answer stays, and repeats change nothing.
    #[test]
    fn replays_change_nothing(history in histories(), later in 0_u64..1_000) {
        let (kept, outcomes) = one_by_one(&history);
        let mut again = kept.clone();
        for ((command, now), first) in history.iter().zip(&outcomes) {
            // A reuse is the one answer that is not kept: it is about what is known by then.
            let reused = first.verdict == Verdict::Rejected(Rejection::IdempotencyKeyReused);
            if command.transfer().is_some() && !reused {
                let now = now.plus(std::time::Duration::from_secs(later));
                let second = &again.run(&[(command.clone(), now)], false)[0];
                prop_assert_eq!(second, &Outcome { replayed: true, ..first.clone() });
            }
        }
        prop_assert_eq!(again, kept);
    }

    /// I4: what posted was in time.
    #[test]
    fn nothing_executes_late(history in histories()) {
        let (_, outcomes) = one_by_one(&history);
        for ((command, now), outcome) in history.iter().zip(&outcomes) {
            if !outcome.replayed && matches!(outcome.verdict, Verdict::Posted { .. }) {
                prop_assert!(command.deadline_at.is_none_or(|it| *now <= it));
            }
        }
    }

    /// I7, for any cutting into batches, each of which loads only what it names.
    #[test]
    fn a_batch_decides_what_one_by_one_would(history in histories(), sizes in prop::collection::vec(1_usize..40, 1..8)) {
        let (expected, outcomes) = one_by_one(&history);
        let mut kept = Kept::start();
        let mut found = Vec::new();
        let mut rest = history.as_slice();
        for size in sizes.iter().cycle() {
            let (batch, after) = rest.split_at((*size).min(rest.len()));
            found.extend(kept.run(batch, false));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, outcomes);
        prop_assert_eq!(kept, expected);
    }

    /// The order in which accounts and decisions were loaded is no part of the result.
    #[test]
    fn the_order_of_loading_does_not_matter(history in histories()) {
        let (mut forwards, mut backwards) = (Kept::start(), Kept::start());
        for batch in history.chunks(25) {
            prop_assert_eq!(forwards.run(batch, false), backwards.run(batch, true));
        }
        prop_assert_eq!(forwards, backwards);
    }

    /// The audit is not silent about any single change to an entry, an account or a row.
    #[test]
    fn one_damaged_number_is_always_noticed(history in histories(), pick: prop::sample::Index, by in 1_i64..50, what in 0..6) {
        let (mut kept, _) = one_by_one(&history);
        prop_assume!(!kept.entries.is_empty());
        let at = pick.index(kept.entries.len());
        match what {
            0 => kept.entries[at].amount_minor += by,
            1 => kept.entries[at].balance_before_minor += by,
            2 => kept.entries[at].balance_after_minor -= by,
            3 => drop(kept.entries.remove(at)),
            4 => kept.entries[at].position += by,
            _ => {
                let id = kept.entries[at].account_id;
                kept.accounts.get_mut(&id).unwrap().credits_minor += by.unsigned_abs();
            }
        }
        prop_assert!(!kept.violations().is_empty());
    }
}

/// The generator must reach the interesting places, or the properties above say little.
#[test]
fn the_generator_reaches_every_verdict() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut seen, mut n_replayed) = (BTreeMap::<&str, usize>::new(), 0);
    for _ in 0..200 {
        let history = histories().new_tree(&mut runner).unwrap().current();
        for outcome in one_by_one(&history).1 {
            let code = outcome.verdict.rejection().map_or("yes", Rejection::code);
            *seen.entry(code).or_default() += 1;
            n_replayed += usize::from(outcome.replayed);
        }
    }
    // All but `malformed`, which the rules never say.
    assert_eq!(seen.len(), Rejection::ALL.len(), "{seen:?}");
    assert!(n_replayed > 100, "{n_replayed} replays, {seen:?}");
}
