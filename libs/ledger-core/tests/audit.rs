//! Each thing the audit can say: one damage, and the sentence with its ids.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;

use ledger_core::audit::{Kept, Stretch, VIOLATIONS_MAX, Violation};
use ledger_core::{
    Account, AccountChange, Action, Body, Books, Change, Command, Found, Head, Limits, Move,
    Rejection, Standing, Status, Transfer, Verdict,
};
use primitives::{AccountId, Amount, ChangeId, Currency, System, Timestamp, TransferId};
use uuid::Uuid;

fn acc(n: u128) -> AccountId {
    AccountId::from_uuid(Uuid::from_u128(n))
}

fn txn(n: u128) -> TransferId {
    TransferId::from_uuid(Uuid::from_u128(n))
}

fn at(n: u128) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(n).unwrap())
}

fn of(from: AccountId, to: AccountId, minor: u64) -> Move {
    Move {
        debit_account_id: from,
        credit_account_id: to,
        amount: Amount::try_new(minor).unwrap(),
        currency: Currency::NGN,
    }
}

fn transfer(n: u128, action: Action) -> Command {
    let transfer = Transfer {
        id: txn(n),
        action,
        note: String::new(),
        reference: String::new(),
        request_key: None,
        request_digest: [0; 32],
        made_by_key_id: None,
    };
    Command { deadline_at: None, body: Body::Post { transfers: vec![transfer], linked: false } }
}

fn change(n: u128, change: Change) -> Command {
    let id = ChangeId::from_uuid(Uuid::from_u128(n));
    let body = Body::ChangeAccount(AccountChange { id, account_id: acc(2), change });
    Command { deadline_at: None, body }
}

/// Sound books: record n is transfer n, decided at second n.
///
/// 1: wallet 1 gets 100. 2: it pays wallet 2 30. 3: it holds 50 for wallet 2. 4: 20 of it are
/// captured. 5: 10 of the payment are moved back. 6: refused. 7: 5 more go to wallet 2, which has
/// its limits set before. Then wallet 2 is frozen.
fn kept() -> Kept {
    let clearing = Account::system(System::PaystackClearing, Currency::NGN, at(0));
    let accounts = [clearing.clone(), open(1), open(2)];
    let some = |minor| Some(Amount::try_new(minor).unwrap());
    let hold = Action::Hold { of: of(acc(1), acc(2), 50), expires_at: None };
    let commands = [
        (1, transfer(1, Action::Deposit(of(clearing.id, acc(1), 100)))),
        (2, transfer(2, Action::Wallet(of(acc(1), acc(2), 30)))),
        (3, transfer(3, hold)),
        (4, transfer(4, Action::Capture { hold_id: txn(3), amount: some(20) })),
        (5, transfer(5, Action::Reverse { transfer_id: txn(2), amount: some(10) })),
        (6, transfer(6, Action::Wallet(of(acc(1), acc(2), 999)))),
        (6, change(1, Change::SetLimits(Limits { least_minor: 0, greatest_minor: 60 }))),
        (7, transfer(7, Action::Internal(of(acc(1), acc(2), 5)))),
        (8, change(2, Change::Freeze)),
    ];
    let mut kept = Kept::new(accounts.clone());
    let found = Found { accounts: accounts.to_vec(), ..Found::default() };
    let mut books = Books::new(Head::START, found);
    for (n, command) in commands {
        books.apply(command, at(n));
    }
    kept.save(&books.into_changes());
    assert_eq!(kept.violations(), []);
    kept
}

fn open(n: u128) -> Account {
    Account::open(acc(n), Currency::NGN, at(0))
}

/// Its name, what it does, and everything that is said about it.
type Damage = (&'static str, fn(&mut Kept), &'static [&'static str]);

/// What is damaged, and everything the replay says about it. `acc_1` stands for its printed id.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn damages() -> Vec<Damage> {
    vec![
        (
            "a missing record",
            |it| drop(it.records.remove(5)),
            &[
                "the change chg_1 says it comes after 6, it came after 5",
                "record 6 is missing: the next is 7",
            ],
        ),
        (
            "a missing end",
            |it| drop(it.records.pop()),
            &[
                "the change chg_2 says it comes after 7, it came after 6",
                "acc_1 has 55 with 30 held on it, its records say 60 with 30 held",
                "acc_2 has 45 on it, its records say 40",
                "the last record is 6, it should be 7",
            ],
        ),
        (
            "a clock that ran backwards",
            |it| it.records[5].decided_at = at(1),
            &["record 6: decided before the one before it"],
        ),
        (
            "a balance",
            |it| it.records[1].debit_after.as_mut().unwrap().balance_minor += 1,
            &[
                "record 2: txn_2 was answered with another balance than it left",
                "record 2: says 71 of acc_1, it should be 70",
                "record 3: says 70 with 50 held of acc_1, it should be 71 with 50 held",
            ],
        ),
        (
            "a held sum",
            |it| it.records[3].debit_after.as_mut().unwrap().held_minor = 0,
            &[
                "record 4: says 50 of acc_1, it should be 50 with 30 held",
                "record 5: says 60 with 30 held of acc_1, it should be 60",
            ],
        ),
        (
            "a balance that should not have changed",
            |it| {
                it.records[2].credit_after = Some(Standing { balance_minor: 30, held_minor: 0 });
            },
            &["record 3: says 30 of acc_2, it should be nothing new"],
        ),
        (
            "more than can be held",
            |it| {
                it.records[6].credit_after.as_mut().unwrap().balance_minor = -1;
            },
            &[
                "record 7: says -1 of acc_2, it should be 45",
                "acc_2 has -1 on it, which no such account may",
                "acc_2 has 45 on it, its records say -1",
            ],
        ),
        (
            "a refusal that was none",
            |it| {
                it.records[5].verdict = Verdict::Done { debit_balance_after_minor: 60 };
                it.records[5].debit_after = Some(Standing { balance_minor: 60, held_minor: 30 });
                it.records[5].credit_after = Some(Standing { balance_minor: 40, held_minor: 0 });
            },
            &["record 6: txn_6 was done, the rules say insufficient_funds"],
        ),
        (
            "a refusal that moved something",
            |it| {
                it.records[5].debit_after = Some(Standing::default());
            },
            &["record 6: txn_6 was refused, and still moved something"],
        ),
        (
            "a capture from elsewhere",
            |it| {
                it.records[3].of.as_mut().unwrap().credit_account_id = acc(9);
            },
            &[
                "record 4: txn_4 moved something else than it was about",
                "record 5: says 40 of acc_2, it should be 20",
            ],
        ),
        (
            "an answer",
            |it| {
                it.records[6].verdict = Verdict::Done { debit_balance_after_minor: 1 };
            },
            &["record 7: txn_7 was answered with another balance than it left"],
        ),
        (
            "an account's kept balance",
            |it| {
                it.accounts.get_mut(&acc(1)).unwrap().standing.balance_minor = 54;
            },
            &[
                "acc_1 has 54 with 30 held on it, its records say 55 with 30 held",
                "all balances of NGN sum to -1 instead of zero",
            ],
        ),
        (
            "an account's status",
            |it| {
                it.accounts.get_mut(&acc(1)).unwrap().status = Status::Frozen;
            },
            &["acc_1 is not as it was opened and changed since"],
        ),
        (
            "a change that is not allowed",
            |it| it.changes[1].asked.change = Change::Close,
            &[
                "the change chg_2 was done, the rules say account_not_empty",
                "acc_2 is not as it was opened and changed since",
            ],
        ),
        (
            "limits that were not kept to",
            |it| {
                let limits = Limits { least_minor: 0, greatest_minor: 44 };
                it.changes[0].asked.change = Change::SetLimits(limits);
                it.accounts.get_mut(&acc(2)).unwrap().limits = limits;
            },
            &["record 7: txn_7 was done, the rules say limit_exceeded"],
        ),
        (
            "what remains of a hold",
            |it| {
                it.holds.get_mut(&txn(3)).unwrap().remaining_minor = 31;
            },
            &["the hold txn_3 is kept with 31, 30 remain of it"],
        ),
        (
            "a hold",
            |it| it.holds.clear(),
            &["the hold txn_3 is kept with nothing, 30 remain of it"],
        ),
        (
            "what was moved back",
            |it| {
                it.reversed.get_mut(&txn(2)).unwrap().reversed_minor = 9;
            },
            &["txn_2 is kept with 9 moved back, it was 10"],
        ),
        (
            "that it was moved back",
            |it| it.reversed.clear(),
            &["txn_2 is kept with nothing moved back, it was 10"],
        ),
    ]
}

/// Ids of tests are small numbers; so are their names here.
fn said(violations: &[Violation]) -> Vec<String> {
    let short = |it: &Violation| {
        let mut text = it.to_string();
        for (prefix, n) in
            ["acc", "txn", "chg"].into_iter().flat_map(|it| (0..10).map(move |n| (it, n)))
        {
            text = text.replace(&format!("{prefix}_{n:032x}"), &format!("{prefix}_{n}"));
        }
        text
    };
    violations.iter().map(short).collect()
}

#[test]
fn every_damage_is_said_where_it_is() {
    let mut differ = Vec::new();
    for (name, damage, expected) in damages() {
        let mut kept = kept();
        damage(&mut kept);
        let said = said(&kept.replay());
        if said != expected {
            differ.push((name, said));
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn a_page_says_an_account_it_does_not_know() {
    let mut kept = kept();
    kept.accounts.remove(&acc(2));
    let unknown = |n| format!("record {n}: acc_2 is unknown or of another currency");
    assert_eq!(said(&kept.stretch()), [2, 3, 4, 5, 7].map(unknown));
    let accounts = kept.replay();
    let not_found = Rejection::CreditAccountNotFound;
    let position = 2;
    let expected = Violation::NotAllowed { position, transfer_id: txn(2), rejection: not_found };
    assert_eq!(accounts.first(), Some(&expected));
}

/// A page from anywhere needs only what stood on its accounts before it.
#[test]
fn a_page_can_begin_anywhere() {
    let kept = kept();
    for first in 0..kept.records.len() {
        let mut openings = kept.clone();
        for account in openings.accounts.values_mut() {
            account.standing = Standing::default();
        }
        for record in &kept.records[..first] {
            let of = record.of.unwrap();
            for (id, after) in [
                (of.debit_account_id, record.debit_after),
                (of.credit_account_id, record.credit_after),
            ] {
                let account = openings.accounts.get_mut(&id).unwrap();
                account.standing = after.unwrap_or(account.standing);
            }
        }
        let head = first.checked_sub(1).map_or(Head::START, |it| {
            let record = &kept.records[it];
            Head { position: record.position, decided_at: record.decided_at }
        });
        let mut stretch = Stretch::after(head, openings.accounts.clone().into_values());
        kept.records[first..].iter().for_each(|it| stretch.line(it));
        assert_eq!(stretch.position(), 7);
        stretch.end(7);
        assert_eq!(stretch.finish(), []);
        // Without the page's first record something is said.
        if first + 1 < kept.records.len() {
            let mut stretch = Stretch::after(head, openings.accounts.into_values());
            kept.records[first + 1..].iter().for_each(|it| stretch.line(it));
            let (expected, found) = (head.position + 1, head.position + 2);
            assert_eq!(stretch.finish().first(), Some(&Violation::PositionGap { expected, found }));
        }
    }
}

#[test]
fn every_violation_is_different_and_they_are_bounded() {
    let mut stretch = Stretch::after(Head::START, []);
    for _ in 0..VIOLATIONS_MAX + 5 {
        stretch.end(1);
    }
    assert_eq!(stretch.finish().len(), VIOLATIONS_MAX);
    let all: BTreeSet<String> =
        damages().iter().flat_map(|it| it.2).map(ToString::to_string).collect();
    assert!(all.len() > 25);
}
