//! Damage of every sort: the audit is not silent about any of it.

use ledger_core::audit::{Kept, Violation};
use ledger_core::{Limits, Standing, Status, TransferKind, Verdict};
use primitives::{Amount, Timestamp};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::history::histories;
use crate::world::one_by_one;

/// Places in `kept.records` of those that were done.
fn done(kept: &Kept) -> Vec<usize> {
    let done = kept.records.iter().enumerate().filter(|(_, it)| it.verdict.is_done());
    done.map(|(at, _)| at).collect()
}

fn balance(standing: &mut Standing, by: i64) {
    standing.balance_minor += by;
}

fn held(standing: &mut Standing, by: i64) {
    standing.held_minor += by;
}

/// Damages what a page of records shows, and says whether it did.
fn damage_records(kept: &mut Kept, what: u8, pick: &Index, by: i64) -> bool {
    let done = done(kept);
    if done.is_empty() {
        return false;
    }
    let at = done[pick.index(done.len())];
    let record = &mut kept.records[at];
    match what {
        0 => record.debit_after.iter_mut().for_each(|it| balance(it, by)),
        1 => record.debit_after.iter_mut().for_each(|it| held(it, by)),
        2 if record.credit_after.is_some() => {
            record.credit_after.iter_mut().for_each(|it| balance(it, -by));
        }
        3 if record.credit_after.is_some() => {
            record.credit_after.iter_mut().for_each(|it| held(it, by));
        }
        4 => record.debit_after = None,
        5 => record.position += by,
        6 => record.of = None,
        7 => record.verdict = Verdict::Done { debit_balance_after_minor: by + i64::from(i32::MAX) },
        8 => record.verdict = Verdict::Rejected(ledger_core::Rejection::LimitExceeded),
        9 => drop(kept.records.remove(at)),
        10 => kept.head.position += by,
        11 => {
            record.decided_at = Timestamp::from_micros(-by);
        }
        12 => {
            let of = record.of.as_mut().unwrap();
            let Ok(more) = Amount::from_i64(of.amount.to_i64() + by) else { return false };
            of.amount = more;
        }
        13 => {
            let Some(refused) = kept.records.iter_mut().find(|it| !it.verdict.is_done()) else {
                return false;
            };
            refused.credit_after = Some(Standing { balance_minor: by, held_minor: 0 });
        }
        _ => return false,
    }
    true
}

/// Damages what only the replay of whole books can see, and says whether it did.
fn damage_rest(kept: &mut Kept, what: u8, pick: &Index, by: i64) -> bool {
    let ids: Vec<_> = kept.accounts.keys().copied().collect();
    let id = ids[pick.index(ids.len())];
    let account = kept.accounts.get_mut(&id).unwrap();
    let open = |kept: &Kept| kept.holds.values().find(|it| it.remaining_minor > 0).copied();
    match what {
        0 => balance(&mut account.standing, by),
        1 => held(&mut account.standing, by),
        2 => {
            account.status =
                if account.status == Status::Frozen { Status::Open } else { Status::Frozen }
        }
        3 => {
            account.limits =
                Limits { least_minor: account.limits.least_minor + by, ..account.limits }
        }
        4..=6 => {
            let Some(hold) = open(kept) else { return false };
            match what {
                4 => kept.holds.get_mut(&hold.id).unwrap().remaining_minor -= 1,
                5 => drop(kept.holds.remove(&hold.id)),
                _ => {
                    kept.holds.get_mut(&hold.id).unwrap().expires_at =
                        Some(Timestamp::from_seconds(7))
                }
            }
        }
        7 => {
            let Some(hold) = kept.holds.values_mut().find(|it| it.remaining_minor == 0) else {
                return false;
            };
            hold.remaining_minor = by;
        }
        8 => {
            let Some(reversed) = kept.reversed.values_mut().next() else { return false };
            reversed.reversed_minor += by;
        }
        9 => return kept.reversed.pop_first().is_some(),
        10 => {
            // A whole kind that nobody asked for: a payment that becomes a deposit.
            let paid = |it: &&mut ledger_core::Record| {
                it.verdict.is_done() && it.transfer.action.kind() == TransferKind::Wallet
            };
            let Some(record) = kept.records.iter_mut().find(paid) else { return false };
            record.transfer.action = ledger_core::Action::Deposit(record.of.unwrap());
        }
        11 => {
            let Some(change) = kept.changes.iter_mut().find(|it| it.verdict.is_done()) else {
                return false;
            };
            change.after_position += by + i64::from(i32::MAX);
        }
        _ => return false,
    }
    true
}

proptest! {
    // Not every history has something of every sort to damage.
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    /// Anything about a record is noticed by the replay of whole books and by the light check of a
    /// page, which says it in the terms of that page.
    #[test]
    fn one_damaged_record_is_always_noticed(
        history in histories(), pick: Index, by in 1_i64..50, what in 0_u8..14,
    ) {
        let (mut world, _) = one_by_one(&history);
        prop_assume!(damage_records(&mut world.kept, what, &pick, by));
        prop_assert!(!world.kept.replay().is_empty(), "replay, damage {}", what);
        prop_assert!(!world.kept.stretch().is_empty(), "stretch, damage {}", what);
    }

    /// Anything else that is kept is noticed by the replay.
    #[test]
    fn one_damaged_row_is_always_noticed(
        history in histories(), pick: Index, by in 1_i64..50, what in 0_u8..12,
    ) {
        let (mut world, _) = one_by_one(&history);
        prop_assume!(damage_rest(&mut world.kept, what, &pick, by));
        prop_assert!(!world.kept.replay().is_empty(), "damage {}", what);
    }

    /// One damaged balance is said about where it is and where it is next contradicted, and nowhere
    /// else.
    #[test]
    fn damage_does_not_cascade(history in histories(), pick: Index) {
        let (mut world, _) = one_by_one(&history);
        let done = done(&world.kept);
        prop_assume!(!done.is_empty());
        let record = &mut world.kept.records[done[pick.index(done.len())]];
        let position = record.position;
        balance(record.debit_after.as_mut().unwrap(), 1);
        let chain = |it: &Violation| {
            if let Violation::BrokenChain { position, .. } = it { Some(*position) } else { None }
        };
        let chains: Vec<i64> = world.kept.stretch().iter().filter_map(chain).collect();
        prop_assert!(chains.first() == Some(&position) && chains.len() <= 2, "{:?}", chains);
    }
}
