//! The writer between batches: what it asks for, what it remembers, when it looks first.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use ledger_core::{
    Account, AccountChange, Action, Body, Change, Command, Found, Head, Hold, Limits, Move, Needs,
    Reversible, Subjects, Transfer, TransferKind, Writer,
};
use primitives::{AccountId, Amount, ChangeId, Currency, RequestKey, Timestamp, TransferId};
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_seconds(1_000);

fn acc(n: u128) -> AccountId {
    AccountId::from_uuid(Uuid::from_u128(n))
}

fn txn(n: u128) -> TransferId {
    TransferId::from_uuid(Uuid::from_u128(n))
}

fn of(from: u128, to: u128) -> Move {
    Move {
        debit_account_id: acc(from),
        credit_account_id: acc(to),
        amount: Amount::try_new(10).unwrap(),
        currency: Currency::NGN,
    }
}

fn asked(n: u128, action: Action) -> Transfer {
    Transfer {
        id: txn(n),
        action,
        note: String::new(),
        reference: String::new(),
        request_key: u8::try_from(n).ok().map(|it| RequestKey([it; 32])),
        request_digest: [0; 32],
        made_by_key_id: None,
    }
}

fn post(transfers: Vec<Transfer>) -> Command {
    Command { deadline_at: None, body: Body::Post { transfers, linked: false } }
}

fn pay(n: u128, from: u128, to: u128) -> Command {
    post(vec![asked(n, Action::Wallet(of(from, to)))])
}

/// A wallet with a thousand on it.
fn account(n: u128) -> Account {
    let mut account = Account::open(acc(n), Currency::NGN, NOW);
    account.standing.balance_minor = 1_000;
    account
}

fn accounts(needs: &Needs) -> Vec<Account> {
    let known = |id: &AccountId| (1..100).find(|n| acc(*n) == *id).map(account);
    needs.accounts.iter().filter_map(known).collect()
}

/// Decides and commits a batch, with everything it needs; says what that was.
fn run(writer: &mut Writer, commands: &[Command]) -> Needs {
    let needs = writer.needs(commands.iter(), &Found::default());
    let head = needs.head.then_some(Head::START);
    let found = Found { head, accounts: accounts(&needs), ..Found::default() };
    let mut books = writer.books(commands.iter(), found);
    for command in commands {
        books.apply(command.clone(), NOW);
    }
    writer.committed(books.into_changes());
    needs
}

fn balance(writer: &mut Writer, n: u128) -> i64 {
    let commands = [pay(200, n, n)];
    let found = Found { head: Some(Head::START), ..Found::default() };
    let books = writer.books(commands.iter(), found);
    books.account(acc(n)).unwrap().standing.balance_minor
}

#[test]
fn what_is_remembered_is_not_asked_for_again() {
    let mut writer = Writer::new(100);
    let first = run(&mut writer, &[pay(1, 1, 2), pay(2, 2, 1), pay(3, 2, 3)]);
    let expected = Needs { head: true, accounts: vec![acc(1), acc(2), acc(3)], ..Needs::default() };
    assert_eq!(first, expected);
    let second = run(&mut writer, &[pay(4, 1, 4), pay(5, 2, 3)]);
    assert_eq!(second, Needs { accounts: vec![acc(4)], ..Needs::default() });
    assert_eq!(run(&mut writer, &[pay(6, 4, 1)]), Needs::default(), "nothing at all");
    // What was committed goes on from what was committed.
    assert_eq!((balance(&mut writer, 1), balance(&mut writer, 4)), (1_000, 1_000));
    assert_eq!((balance(&mut writer, 2), balance(&mut writer, 3)), (980, 1_020));
}

#[test]
fn an_account_that_does_not_exist_is_asked_for_every_time() {
    let mut writer = Writer::new(100);
    for n in 1..4 {
        let needs = run(&mut writer, &[pay(n, 1, 777)]);
        assert!(needs.accounts.contains(&acc(777)));
    }
    // Until it is opened.
    let body = Body::OpenAccount { account_id: acc(777), currency: Currency::NGN };
    run(&mut writer, &[Command { deadline_at: None, body }]);
    assert_eq!(run(&mut writer, &[pay(4, 1, 777)]), Needs::default());
    assert_eq!(balance(&mut writer, 777), 10);
}

#[test]
fn what_was_not_committed_is_not_remembered() {
    let mut writer = Writer::new(100);
    run(&mut writer, &[pay(1, 1, 2)]);
    let commands = [pay(2, 1, 2)];
    let mut books = writer.books(commands.iter(), Found::default());
    assert!(books.apply(commands[0].clone(), NOW)[0].verdict.is_done());
    drop(books);
    assert_eq!((balance(&mut writer, 1), balance(&mut writer, 2)), (990, 1_010));
}

#[test]
fn memory_is_bounded_and_keeps_the_newest_half() {
    let mut writer = Writer::new(10);
    for n in 1..=48 {
        run(&mut writer, &[pay(n, n, n + 1)]);
        assert!(writer.n_accounts() <= 12, "{} accounts", writer.n_accounts());
        let needs = run(&mut writer, &[pay(100 + n, n, n + 1)]);
        assert!(needs.accounts.is_empty(), "what was just used is there");
    }
    assert!(writer.n_accounts() >= 5);
    assert_eq!(run(&mut writer, &[pay(300, 1, 49)]).accounts, [acc(1)]);
}

#[test]
fn a_batch_may_be_larger_than_the_memory() {
    let mut writer = Writer::new(2);
    let commands: Vec<Command> = (1..20).map(|n| pay(n, n, n + 1)).collect();
    let needs = run(&mut writer, &commands);
    assert_eq!(needs.accounts.len(), 20);
    assert!(writer.n_accounts() <= 4);
    assert_eq!(balance(&mut writer, 20), 1_010);
}

#[test]
fn who_has_lost_the_race_forgets_everything() {
    let mut writer = Writer::new(100);
    run(&mut writer, &[pay(1, 1, 2)]);
    writer.forget();
    assert_eq!(writer.n_accounts(), 0);
    let needs = writer.needs([pay(2, 1, 2)].iter(), &Found::default());
    assert!(needs.head);
    assert_eq!(needs.accounts, [acc(1), acc(2)]);
}

#[test]
fn after_a_repeat_earlier_decisions_are_looked_up_for_a_hundred_batches() {
    let mut writer = Writer::new(100);
    run(&mut writer, &[pay(1, 1, 2)]);
    writer.met_a_repeat();
    for n in 0..100 {
        assert!(writer.looks_first());
        let needs = run(&mut writer, &[pay(1_000 + n, 1, 2), pay(7, 1, 2)]);
        assert_eq!(needs.transfers, [txn(1_000 + n), txn(7)]);
        assert_eq!(needs.request_keys, [RequestKey([7; 32])]);
    }
    assert!(!writer.looks_first());
    assert_eq!(run(&mut writer, &[pay(8, 1, 2)]), Needs::default());
    // A batch that is rolled back and decided again counts once, and so does another repeat.
    writer.met_a_repeat();
    drop(writer.books([pay(9, 1, 2)].iter(), Found::default()));
    assert!(writer.looks_first());
}

/// What may be answered without leaving a record does not run into an index, so that is looked up
/// whether or not a repeat was met; and with it everything, for a request key that was not looked
/// up would speak before an id that was.
#[test]
fn what_may_leave_no_record_is_looked_up_at_once() {
    let mut writer = Writer::new(100);
    run(&mut writer, &[pay(1, 1, 2)]);
    let early = post(vec![asked(3, Action::Expire { hold_id: txn(1) })]);
    for batch in [
        vec![pay(2, 1, 2), early],
        vec![pay(2, 1, 2), pay(3, 1, 2), pay(2, 1, 2)],
        vec![
            post(vec![asked(2, Action::Wallet(of(1, 2))), asked(2, Action::Wallet(of(1, 2)))]),
            pay(3, 1, 2),
        ],
    ] {
        let needs = writer.needs(batch.iter(), &Found::default());
        assert!(needs.transfers.contains(&txn(2)) && needs.transfers.contains(&txn(3)));
        assert_eq!(needs.transfers.len(), needs.request_keys.len());
        assert!(!writer.looks_first());
    }
}

#[test]
fn changes_of_accounts_are_always_looked_up() {
    let writer = Writer::new(100);
    let id = ChangeId::from_uuid(Uuid::from_u128(5));
    let asked = AccountChange { id, account_id: acc(1), change: Change::Freeze };
    let command = Command { deadline_at: None, body: Body::ChangeAccount(asked) };
    for _ in 0..2 {
        let needs = writer.needs([command.clone()].iter(), &Found::default());
        assert_eq!(needs.changes, [id]);
        assert_eq!(needs.accounts, [acc(1)]);
    }
}

#[test]
fn what_a_batch_is_about_brings_its_accounts() {
    let commands = [post(vec![
        asked(1, Action::Capture { hold_id: txn(50), amount: None }),
        asked(2, Action::Release { hold_id: txn(51) }),
        asked(3, Action::Reverse { transfer_id: txn(52), amount: None }),
        asked(4, Action::Reverse { transfer_id: txn(53), amount: None }),
    ])];
    let subjects = Writer::subjects(commands.iter());
    let holds = [txn(50), txn(51)].into();
    assert_eq!(subjects, Subjects { holds, reversed: [txn(52), txn(53)].into() });
    let hold = |n, of| Hold { id: txn(n), of, remaining_minor: 10, expires_at: None };
    let reversible =
        |n, of| Reversible { id: txn(n), kind: TransferKind::Wallet, of, reversed_minor: 0 };
    let found = Found {
        holds: vec![hold(50, of(1, 2)), hold(51, of(3, 1))],
        reversed: vec![reversible(52, Some(of(5, 4))), reversible(53, None)],
        ..Found::default()
    };
    let mut writer = Writer::new(100);
    let needs = writer.needs(commands.iter(), &found);
    assert_eq!(needs.accounts, [acc(1), acc(2), acc(3), acc(4), acc(5)]);
    let found = Found { head: Some(Head::START), accounts: accounts(&needs), ..found };
    let books = writer.books(commands.iter(), found);
    assert_eq!(books.accounts().count(), 5);
}

#[test]
fn limits_are_remembered_with_the_account() {
    let mut writer = Writer::new(100);
    run(&mut writer, &[pay(1, 1, 2)]);
    let limits = Limits { least_minor: 900, greatest_minor: 2_000 };
    let id = ChangeId::from_uuid(Uuid::from_u128(5));
    let asked = AccountChange { id, account_id: acc(1), change: Change::SetLimits(limits) };
    run(&mut writer, &[Command { deadline_at: None, body: Body::ChangeAccount(asked) }]);
    let books = writer.books([pay(2, 1, 2)].iter(), Found::default());
    let account = books.account(acc(1)).unwrap();
    assert_eq!((account.limits, account.standing.balance_minor), (limits, 990));
}
