//! What holds whatever is asked.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod damage;
mod history;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_core::{AccountKind, Body, Limits, Outcome, Record, Rejection, TransferKind, Verdict};
use primitives::{AMOUNT_MINOR_MAX, Currency, TransferId};
use proptest::prelude::*;

use history::{Read, histories};
use world::{Mishap, World, in_one, one_by_one};

fn mishaps() -> impl Strategy<Value = Mishap> {
    prop_oneof![6 => Just(Mishap::None), 1 => Just(Mishap::RolledBack), 1 => Just(Mishap::Crashed)]
}

/// How much each hold or transfer has lost to later ones, by the records alone.
fn used(records: &[Record], kinds: &[TransferKind]) -> BTreeMap<TransferId, i128> {
    let mut used = BTreeMap::new();
    for record in records.iter().filter(|it| it.verdict.is_done()) {
        let action = &record.transfer.action;
        let about = action.hold_id().or_else(|| action.reversed_id());
        if let Some(id) = about.filter(|_| kinds.contains(&action.kind())) {
            *used.entry(id).or_default() += i128::from(record.of.unwrap().amount.minor());
        }
    }
    used
}

/// The first command with two different answers.
fn first_difference<'a>(
    history: &'a [Read],
    left: &'a [Vec<Outcome>],
    right: &'a [Vec<Outcome>],
) -> Option<(&'a Read, &'a [Outcome], &'a [Outcome])> {
    assert_eq!((left.len(), right.len()), (history.len(), history.len()));
    let both = left.iter().zip(right).position(|(left, right)| left != right);
    both.map(|at| (&history[at], left[at].as_slice(), right[at].as_slice()))
}

proptest! {
    /// I1, I5, I6 by the audit, and conservation said once more without it.
    #[test]
    fn money_is_neither_made_nor_lost(history in histories()) {
        let (world, _) = one_by_one(&history);
        prop_assert_eq!(world.kept.violations(), vec![]);
        for currency in [Currency::NGN, Currency::USD] {
            let of_currency = world.kept.accounts.values().filter(|it| it.currency == currency);
            let sum: i128 = of_currency.map(|it| i128::from(it.standing.balance_minor)).sum();
            prop_assert_eq!(sum, 0);
        }
    }

    /// I2 at every moment, not only at the end; what is held is part of what is there.
    #[test]
    fn no_wallet_is_ever_overdrawn(history in histories()) {
        let (world, _) = one_by_one(&history);
        for record in &world.kept.records {
            let Some(of) = record.of else { continue };
            let sides =
                [(of.debit_account_id, record.debit_after), (of.credit_account_id, record.credit_after)];
            for (id, after) in sides {
                let Some(after) = after else { continue };
                prop_assert!(after.held_minor >= 0);
                if world.account(id).kind == AccountKind::Wallet {
                    prop_assert!(after.balance_minor >= after.held_minor);
                    prop_assert!(after.balance_minor.unsigned_abs() <= AMOUNT_MINOR_MAX);
                }
            }
        }
    }

    /// I3: whatever comes later, the answer stays, and repeats change nothing.
    #[test]
    fn replays_change_nothing(history in histories(), later in 0_u64..1_000) {
        let (world, outcomes) = one_by_one(&history);
        let mut again = world.clone();
        for ((command, now), first) in history.iter().zip(&outcomes) {
            // What is not kept is about what was known by then.
            let kept = |it: &Outcome| it.verdict.rejection().is_none_or(Rejection::is_kept);
            if matches!(command.body, Body::OpenAccount { .. }) || !first.iter().all(kept) {
                continue;
            }
            let now = now.plus(Duration::from_secs(later));
            let second = again.run(&[(command.clone(), now)], Mishap::None).remove(0);
            let replayed = first.iter().map(|it| Outcome { replayed: true, ..*it });
            prop_assert!(replayed.eq(second.iter().copied()), "{:?} then {:?}", first, second);
        }
        prop_assert_eq!(again.kept, world.kept);
    }

    /// I4: what was done was in time, and what is captured was not over.
    #[test]
    fn nothing_executes_late(history in histories()) {
        let (world, outcomes) = one_by_one(&history);
        for ((command, now), outcomes) in history.iter().zip(&outcomes) {
            for outcome in outcomes.iter().filter(|it| !it.replayed && it.verdict.is_done()) {
                prop_assert!(command.deadline_at.is_none_or(|it| *now <= it));
                prop_assert!(outcome.decided_at >= *now);
            }
        }
        for record in world.kept.records.iter().filter(|it| it.verdict.is_done()) {
            let hold = record.transfer.action.hold_id().map(|id| world.kept.holds[&id]);
            let expires_at = hold.and_then(|it| it.expires_at);
            let kind = record.transfer.action.kind();
            if kind == TransferKind::Capture {
                prop_assert!(expires_at.is_none_or(|it| it > record.decided_at));
            } else if kind == TransferKind::Expiry {
                prop_assert!(expires_at.is_some_and(|it| it <= record.decided_at));
            }
        }
    }

    /// I7, for any cutting into batches, each of which finds only what it needs, with hardly any
    /// memory, batches that are rolled back, and writers that die.
    #[test]
    fn a_batch_decides_what_one_by_one_would(
        history in histories(),
        cuts in prop::collection::vec((1_usize..40, mishaps()), 1..8),
        accounts_max in 1_usize..4,
    ) {
        let (expected, outcomes) = one_by_one(&history);
        let (whole, in_one) = in_one(&history);
        prop_assert_eq!(first_difference(&history, &in_one, &outcomes), None);
        prop_assert_eq!(&whole, &expected.kept);
        let mut world = World::new(accounts_max);
        let mut found = Vec::new();
        let mut rest = history.as_slice();
        for (size, mishap) in cuts.iter().cycle() {
            let (batch, after) = rest.split_at((*size).min(rest.len()));
            found.extend(world.run(batch, *mishap));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(first_difference(&history, &found, &outcomes), None);
        prop_assert_eq!(world.kept, expected.kept);
    }

    /// The order in which things were found is no part of the result.
    #[test]
    fn the_order_of_finding_does_not_matter(history in histories()) {
        let (mut forwards, mut backwards) = (World::new(3), World::new(3));
        backwards.backwards = true;
        for batch in history.chunks(25) {
            let expected = forwards.run(batch, Mishap::None);
            prop_assert_eq!(backwards.run(batch, Mishap::None), expected);
        }
        prop_assert_eq!(forwards.kept, backwards.kept);
    }

    /// I32: by the records alone, whichever ids and keys were used.
    #[test]
    fn no_more_is_captured_or_moved_back_than_there_is(history in histories()) {
        let (world, _) = one_by_one(&history);
        let kept = &world.kept;
        let taken = used(&kept.records, &[TransferKind::Capture, TransferKind::Release, TransferKind::Expiry]);
        let back = used(&kept.records, &[TransferKind::Reversal]);
        let mut held = BTreeMap::new();
        for record in kept.records.iter().filter(|it| it.verdict.is_done()) {
            let id = record.transfer.id;
            let amount = i128::from(record.of.unwrap().amount.minor());
            let back = back.get(&id).copied().unwrap_or(0);
            prop_assert!(back <= amount);
            let says = kept.reversed.get(&id).map_or(0, |it| it.reversed_minor);
            prop_assert_eq!(i128::from(says), back);
            if record.transfer.action.kind() == TransferKind::Hold {
                let remaining = amount - taken.get(&id).copied().unwrap_or(0);
                prop_assert!(remaining >= 0);
                prop_assert_eq!(i128::from(kept.holds[&id].remaining_minor), remaining);
                *held.entry(record.of.unwrap().debit_account_id).or_default() += remaining;
            }
        }
        for account in kept.accounts.values() {
            let expected: i128 = held.get(&account.id).copied().unwrap_or(0);
            prop_assert_eq!(i128::from(account.standing.held_minor), expected);
        }
    }

    /// I33: of what a linked group decides for the first time, all is done or nothing.
    #[test]
    fn of_a_linked_group_all_post_or_none(history in histories()) {
        let (world, outcomes) = one_by_one(&history);
        for ((command, _), outcomes) in history.iter().zip(&outcomes) {
            if !matches!(command.body, Body::Post { linked: true, .. }) {
                continue;
            }
            let fresh = || outcomes.iter().filter(|it| !it.replayed);
            let n_done = fresh().filter(|it| it.verdict.is_done()).count();
            prop_assert!(n_done == 0 || n_done == fresh().count(), "{:?}", outcomes);
            // At most one of them is refused for a reason of its own.
            let own = fresh().filter(|it| {
                let why = it.verdict.rejection();
                why.is_some_and(|it| it.is_kept() && it != Rejection::GroupRefused)
            });
            prop_assert!(own.count() <= 1, "{:?}", outcomes);
        }
        prop_assert_eq!(world.kept.violations(), vec![]);
    }

    /// Limits hold for whatever moves while they stand, and a closed account is empty.
    #[test]
    fn no_account_leaves_its_limits(history in histories()) {
        let (world, _) = one_by_one(&history);
        for account in world.kept.accounts.values() {
            prop_assert!(account.limits.suit(account.kind));
            prop_assert!(account.limits.allow(account.standing), "{:?}", account);
            prop_assert!(Limits::widest(account.kind).allow(account.standing));
            if account.status == ledger_core::Status::Closed {
                prop_assert_eq!(account.standing, ledger_core::Standing::default());
            }
        }
    }
}

/// The generator must reach the interesting places, or the properties above say little.
#[test]
fn the_generator_reaches_every_verdict() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut seen, mut done) = (BTreeMap::<&str, usize>::new(), BTreeMap::new());
    let (mut n_replayed, mut n_repeats_met, mut n_groups_done) = (0, 0, 0);
    for _ in 0..200 {
        let history = histories().new_tree(&mut runner).unwrap().current();
        let (world, outcomes) = one_by_one(&history);
        n_repeats_met += world.n_repeats_met;
        for ((command, _), outcomes) in history.iter().zip(&outcomes) {
            for outcome in outcomes {
                let code = outcome.verdict.rejection().map_or("yes", Rejection::code);
                *seen.entry(code).or_default() += 1;
                n_replayed += usize::from(outcome.replayed);
            }
            let fresh = outcomes.iter().all(|it| it.verdict.is_done() && !it.replayed);
            let linked = matches!(command.body, Body::Post { linked: true, .. });
            n_groups_done += usize::from(linked && fresh && outcomes.len() > 1);
        }
        for record in &world.kept.records {
            if let Verdict::Done { .. } = record.verdict {
                *done.entry(record.transfer.action.kind()).or_insert(0_usize) += 1;
            }
        }
    }
    // All but `malformed`, which the rules never say.
    assert_eq!(seen.len(), Rejection::ALL.len(), "{seen:?}");
    assert!(TransferKind::ALL.iter().all(|it| done.get(it).is_some_and(|n| *n >= 5)), "{done:?}");
    assert!(n_replayed > 300 && n_repeats_met > 30, "{n_replayed}, {n_repeats_met}");
    assert!(n_groups_done > 20, "{n_groups_done} groups were done");
}
