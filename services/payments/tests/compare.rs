//! The comparison of a day, as a table of one lie at a time and as properties over any day.

use std::collections::BTreeSet;
use std::time::Duration;

use payments::compare::{Class, Difference, Entry, Ours, Rules, Settled, Standing, compare};
use payments::reference::Reference;
use payments::verdict::{Domain, FeesPaidBy, Said};
use primitives::{AccountId, Amount, Currency, DepositId, System, Timestamp};
use proptest::prelude::*;

const NOW: i64 = 1_000_000;
const HOUR: Duration = Duration::from_hours(1);

fn rules(fees_paid_by: FeesPaidBy) -> Rules {
    Rules { now: Timestamp::from_seconds(NOW), grace: HOUR, domain: Domain::Test, fees_paid_by }
}

fn clearing() -> AccountId {
    AccountId::system(System::PaystackClearing, Currency::NGN)
}

/// A payment of 50 naira, paid a day ago, of which all three say the same.
fn agreed(reference: &Reference) -> (Said, Ours) {
    let said = Said {
        provider_id: Some("4099260516".to_owned()),
        status: Some("success".to_owned()),
        reference: Some(reference.as_str().to_owned()),
        amount_minor: Some(5_000),
        requested_amount_minor: Some(5_000),
        currency: Some("NGN".to_owned()),
        domain: Some("test".to_owned()),
        paid_at: Some(Timestamp::from_seconds(NOW - 86_400)),
    };
    let entry = Entry {
        is_posted: true,
        is_credit: true,
        counterparty: Some(clearing()),
        amount_minor: 5_000,
        currency: "NGN".to_owned(),
        reference: reference.as_str().to_owned(),
    };
    let settled = Settled {
        amount: Amount::try_new(5_000).expect("an amount"),
        currency: Currency::NGN,
        from: clearing(),
        entry: Some(entry),
    };
    let standing = Standing::Settled(settled);
    (said, Ours { reference: reference.clone(), standing, has_return: false })
}

fn settled(ours: &mut Ours) -> &mut Settled {
    match &mut ours.standing {
        Standing::Settled(settled) => settled,
        other @ (Standing::Unsettled(_) | Standing::Otherwise(_)) => panic!("it is {other:?}"),
    }
}

fn entry(ours: &mut Ours) -> &mut Entry {
    settled(ours).entry.as_mut().expect("the books know it")
}

type Change = fn(&mut Said, &mut Ours);

/// One thing that is not so, and how it is called.
const LIES: &[(&str, Change, &[Class])] = &[
    ("nothing", |_, _| {}, &[]),
    ("amount", |it, _| it.amount_minor = Some(4_999), &[Class::AmountDiffers]),
    ("no amount", |it, _| it.amount_minor = None, &[Class::AmountDiffers]),
    ("currency", |it, _| it.currency = Some("USD".to_owned()), &[Class::CurrencyDiffers]),
    ("domain", |it, _| it.domain = Some("live".to_owned()), &[Class::DomainDiffers]),
    ("no domain", |it, _| it.domain = None, &[]),
    ("reversed", |it, _| it.status = Some("reversed".to_owned()), &[Class::Reversed]),
    ("reversing", |it, _| it.status = Some("reversal_pending".to_owned()), &[Class::Reversed]),
    (
        "given back by us",
        |it, ours| {
            it.status = Some("reversed".to_owned());
            ours.has_return = true;
        },
        &[],
    ),
    ("failed there", |it, _| it.status = Some("failed".to_owned()), &[Class::UnknownThere]),
    ("no status there", |it, _| it.status = None, &[Class::UnknownThere]),
    ("not in the books", |_, ours| settled(ours).entry = None, &[Class::NotInBooks]),
    ("refused by the ledger", |_, ours| entry(ours).is_posted = false, &[Class::NotInBooks]),
    ("the other way", |_, ours| entry(ours).is_credit = false, &[Class::NotInBooks]),
    (
        "from elsewhere",
        |_, ours| entry(ours).counterparty = Some(AccountId::NOBODY),
        &[Class::NotInBooks],
    ),
    ("more in the books", |_, ours| entry(ours).amount_minor += 1, &[Class::NotInBooks]),
    (
        "dollars in the books",
        |_, ours| entry(ours).currency = "USD".to_owned(),
        &[Class::NotInBooks],
    ),
    (
        "for another in the books",
        |_, ours| entry(ours).reference = "dep-another".to_owned(),
        &[Class::NotInBooks],
    ),
    ("asleep", |_, ours| ours.standing = Standing::Unsettled("pending"), &[Class::NotCredited]),
    (
        "on its way",
        |it, ours| {
            ours.standing = Standing::Unsettled("confirming");
            it.paid_at = Some(Timestamp::from_seconds(NOW - 3_599));
        },
        &[],
    ),
    (
        "too long on its way",
        |it, ours| {
            ours.standing = Standing::Unsettled("crediting");
            it.paid_at = Some(Timestamp::from_seconds(NOW - 3_600));
        },
        &[Class::NotCredited],
    ),
    (
        "asleep, and nobody knows since when",
        |it, ours| {
            ours.standing = Standing::Unsettled("failed");
            it.paid_at = None;
        },
        &[Class::NotCredited],
    ),
    (
        "given back before we saw it",
        |it, ours| {
            ours.standing = Standing::Unsettled("review");
            it.status = Some("reversed".to_owned());
        },
        &[Class::Reversed],
    ),
    (
        "not paid at all",
        |it, ours| {
            ours.standing = Standing::Unsettled("pending");
            it.status = Some("abandoned".to_owned());
        },
        &[],
    ),
    (
        "paid twice",
        |_, ours| {
            ours.standing = Standing::Otherwise(Reference::of(DepositId::generate(), 2));
        },
        &[Class::PaidTwice],
    ),
    (
        "two lies at once",
        |it, ours| {
            it.amount_minor = Some(1);
            settled(ours).entry = None;
        },
        &[Class::AmountDiffers, Class::NotInBooks],
    ),
];

fn classes(differences: &[Difference]) -> Vec<Class> {
    differences.iter().map(|it| it.class).collect()
}

#[test]
fn each_lie_has_its_name_and_the_truth_has_none() {
    for (name, change, expected) in LIES {
        let (mut said, mut ours) = agreed(&Reference::of(DepositId::generate(), 1));
        change(&mut said, &mut ours);
        let found = compare(&rules(FeesPaidBy::Merchant), &[said], &[ours.clone()]);
        assert_eq!(classes(&found), *expected, "{name}: {found:?}");
        assert!(found.iter().all(|it| it.reference == ours.reference.as_str()), "{found:?}");
    }
}

#[test]
fn what_only_one_side_has_is_named_by_its_looks() {
    let merchant = rules(FeesPaidBy::Merchant);
    let (said, ours) = agreed(&Reference::of(DepositId::generate(), 1));
    let there = compare(&merchant, std::slice::from_ref(&said), &[]);
    assert_eq!(classes(&there), [Class::UnknownHere]);
    let here = compare(&merchant, &[], &[ours]);
    assert_eq!(classes(&here), [Class::UnknownThere]);
    for (reference, named) in
        [(Some("order-7"), "order-7"), (Some("DEP-1"), "DEP-1"), (None, "id 4099260516")]
    {
        let foreign = Said { reference: reference.map(str::to_owned), ..said.clone() };
        let [found] = compare(&merchant, &[foreign], &[]).try_into().expect("one");
        assert_eq!((found.class, found.reference.as_str()), (Class::UnknownForeign, named));
    }
    let unpaid = Said { status: Some("abandoned".to_owned()), ..said };
    assert_eq!(compare(&merchant, &[unpaid], &[]), []);
}

#[test]
fn whoever_bears_the_fees_what_was_asked_for_is_ours() {
    let (said, ours) = agreed(&Reference::of(DepositId::generate(), 1));
    let with_fees = Said { amount_minor: Some(5_103), ..said };
    let check = |fees_paid_by, expected: &[Class]| {
        let with_fees = std::slice::from_ref(&with_fees);
        let found = compare(&rules(fees_paid_by), with_fees, std::slice::from_ref(&ours));
        assert_eq!(classes(&found), expected);
    };
    check(FeesPaidBy::Customer, &[]);
    check(FeesPaidBy::Merchant, &[Class::AmountDiffers]);
}

#[test]
fn their_text_is_made_fit_for_a_terminal() {
    let (said, _) = agreed(&Reference::of(DepositId::generate(), 1));
    let evil = format!("dep-\u{1b}[2J\0ünï{}", "x".repeat(10_000));
    let said = Said { reference: Some(evil.clone()), currency: Some(evil), ..said };
    let [found] = compare(&rules(FeesPaidBy::Merchant), &[said], &[]).try_into().expect("one");
    assert_eq!(found.class, Class::UnknownHere);
    assert!(found.reference.starts_with("dep-?[2J??n?x") && found.reference.len() <= 103);
    assert!(found.detail.is_ascii() && found.detail.len() < 500, "{}", found.detail);
}

/// A day: which lie is told of each payment, and which payments one side does not know.
fn any_day() -> impl Strategy<Value = Vec<(usize, bool, bool)>> {
    prop::collection::vec((0..LIES.len(), any::<bool>(), any::<bool>()), 0..40)
}

fn sides(day: &[(usize, bool, bool)]) -> (Vec<Said>, Vec<Ours>) {
    let (mut all_said, mut all_ours) = (Vec::new(), Vec::new());
    for (lie, is_there, is_here) in day {
        let (mut said, mut ours) = agreed(&Reference::of(DepositId::generate(), 1));
        LIES[*lie].1(&mut said, &mut ours);
        all_said.extend(is_there.then_some(said));
        all_ours.extend(is_here.then_some(ours));
    }
    (all_said, all_ours)
}

proptest! {
    #[test]
    fn the_order_of_what_is_compared_does_not_matter(day in any_day(), turn in 0..40_usize) {
        let (mut said, mut ours) = sides(&day);
        let found = compare(&rules(FeesPaidBy::Merchant), &said, &ours);
        said.reverse();
        let n = turn.min(ours.len());
        ours.rotate_left(n);
        prop_assert_eq!(compare(&rules(FeesPaidBy::Merchant), &said, &ours), found);
    }

    #[test]
    fn a_payment_is_judged_alone_and_every_difference_is_named_once(day in any_day()) {
        let merchant = rules(FeesPaidBy::Merchant);
        let (said, ours) = sides(&day);
        let found = compare(&merchant, &said, &ours);
        let names: BTreeSet<_> = found.iter().map(|it| (it.class, it.reference.clone())).collect();
        prop_assert_eq!(names.len(), found.len());
        let mut alone = Vec::new();
        let references: BTreeSet<_> = said.iter().filter_map(|it| it.reference.clone())
            .chain(ours.iter().map(|it| it.reference.as_str().to_owned())).collect();
        for reference in &references {
            let said: Vec<_> =
                said.iter().filter(|it| it.reference.as_ref() == Some(reference)).cloned().collect();
            let ours: Vec<_> =
                ours.iter().filter(|it| it.reference.as_str() == reference).cloned().collect();
            alone.extend(compare(&merchant, &said, &ours));
        }
        alone.sort();
        let mut found = found;
        found.sort();
        prop_assert_eq!(found, alone);
    }

    #[test]
    fn what_all_three_say_is_no_difference(n in 0..40_usize) {
        let day = vec![(0, true, true); n];
        let (said, ours) = sides(&day);
        prop_assert_eq!(compare(&rules(FeesPaidBy::Merchant), &said, &ours), []);
        // A page that came twice changes nothing.
        let twice: Vec<_> = said.iter().chain(&said).cloned().collect();
        prop_assert_eq!(compare(&rules(FeesPaidBy::Merchant), &twice, &ours), []);
    }
}
