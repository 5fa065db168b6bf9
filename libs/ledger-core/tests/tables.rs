//! The rules as tables: one line per case, every rejection and every precedence.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use ledger_core::{
    Account, AccountKind, Body, Books, Command, Head, Outcome, Rejection, Transfer, TransferKind,
    Verdict,
};
use primitives::{
    AMOUNT_MINOR_MAX, AccountId, Amount, Currency, RequestKey, System, Timestamp, TransferId,
};
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_seconds(1_000);
const EARLIER: Timestamp = Timestamp::from_seconds(999);

/// Wallets by letter: a and b hold naira, d holds dollars, f is frozen, r is full, n has nothing;
/// x and NOBODY do not exist; C and S are the clearing and suspense accounts, Z the frozen one.
fn id(letter: char) -> AccountId {
    match letter {
        'C' => AccountId::system(System::PaystackClearing, Currency::NGN),
        'S' => AccountId::system(System::Suspense, Currency::NGN),
        'Z' => AccountId::system(System::PaystackClearing, Currency::USD),
        '-' => AccountId::NOBODY,
        letter => AccountId::from_uuid(Uuid::from_u128(u128::from(u32::from(letter)))),
    }
}

fn wallet(letter: char, credits_minor: u64, currency: Currency) -> Account {
    Account { credits_minor, ..Account::open(id(letter), currency, EARLIER) }
}

fn books() -> Books {
    let clearing = Account::system(System::PaystackClearing, Currency::USD, EARLIER);
    let accounts = [
        wallet('a', 100, Currency::NGN),
        wallet('b', 50, Currency::NGN),
        wallet('d', 100, Currency::USD),
        Account { frozen: true, ..wallet('f', 100, Currency::NGN) },
        wallet('n', 0, Currency::NGN),
        wallet('r', AMOUNT_MINOR_MAX, Currency::NGN),
        Account::system(System::PaystackClearing, Currency::NGN, EARLIER),
        Account { frozen: true, ..clearing },
        Account::system(System::Suspense, Currency::NGN, EARLIER),
    ];
    Books::new(Head::START, accounts, [])
}

fn transfer(n: u128, from: char, to: char, minor: u64) -> Transfer {
    Transfer {
        id: TransferId::from_uuid(Uuid::from_u128(n)),
        kind: if matches!(from, 'C' | 'S' | 'Z') {
            TransferKind::Deposit
        } else {
            TransferKind::Wallet
        },
        debit_account_id: id(from),
        credit_account_id: id(to),
        amount: Amount::try_new(minor).unwrap(),
        currency: Currency::NGN,
        note: String::new(),
        reference: String::new(),
        request_key: None,
        request_digest: [0; 32],
        made_by_key_id: None,
    }
}

fn keyed(n: u128, key: u8, digest: u8) -> Transfer {
    Transfer {
        request_key: Some(RequestKey([key; 32])),
        request_digest: [digest; 32],
        ..transfer(n, 'a', 'b', 10)
    }
}

fn post(books: &mut Books, transfer: Transfer) -> Outcome {
    let command = Command { deadline_at: Some(NOW), body: Body::PostTransfer(transfer) };
    books.apply(&command, NOW)
}

fn balance(books: &Books, letter: char) -> i64 {
    books.account(id(letter)).unwrap().balance_minor()
}

/// Applies one transfer to fresh books; a refusal must change nothing but its own record.
#[track_caller]
fn check(name: &str, transfer: Transfer, expected: Result<(i64, i64), Rejection>) {
    let mut books = books();
    let before: Vec<Account> = books.accounts().cloned().collect();
    let (from, to) = (transfer.debit_account_id, transfer.credit_account_id);
    let outcome = post(&mut books, transfer.clone());
    assert_eq!(outcome.transfer_id, Some(transfer.id), "{name}");
    assert!(!outcome.replayed, "{name}");
    match expected {
        Ok((debit, credit)) => {
            let debit_balance_after_minor = debit;
            let posted = Verdict::Posted { position: 1, debit_balance_after_minor };
            assert_eq!(outcome.verdict, posted, "{name}");
            assert_eq!(books.account(from).unwrap().balance_minor(), debit, "{name}");
            assert_eq!(books.account(to).unwrap().balance_minor(), credit, "{name}");
        }
        Err(rejection) => {
            assert_eq!(outcome.verdict, Verdict::Rejected(rejection), "{name}");
            assert!(books.accounts().eq(&before), "{name}: a refusal moves nothing");
            let changes = books.into_changes();
            assert!(changes.entries.is_empty() && changes.updated.is_empty(), "{name}");
            assert_eq!(changes.decided.len(), 1, "{name}: a refusal is kept");
        }
    }
}

/// A refused transfer of naira between two accounts.
#[track_caller]
fn no(name: &str, from: char, to: char, minor: u64, rejection: Rejection) {
    check(name, transfer(1, from, to, minor), Err(rejection));
}

/// A refused transfer of one dollar cent between two accounts.
#[track_caller]
fn no_usd(name: &str, from: char, to: char, rejection: Rejection) {
    let currency = Currency::USD;
    let cent = Transfer { currency, ..transfer(1, from, to, 1) };
    check(name, cent, Err(rejection));
}

/// A refused transfer of one kobo that says it is of `kind`.
#[track_caller]
fn no_as(kind: TransferKind, from: char, to: char) {
    let kobo = Transfer { kind, ..transfer(1, from, to, 1) };
    let name = format!("{from} pays {to} as {kind:?}");
    check(&name, kobo, Err(Rejection::AccountKindMismatch));
}

/// A transfer of naira that posts, and what the two accounts hold after it.
#[track_caller]
fn yes(name: &str, from: char, to: char, minor: u64, debit: i64, credit: i64) {
    check(name, transfer(1, from, to, minor), Ok((debit, credit)));
}

#[test]
fn what_is_allowed_posts() {
    let most = i64::try_from(AMOUNT_MINOR_MAX).unwrap();
    yes("a wallet pays another", 'a', 'b', 30, 70, 80);
    yes("to the last kobo", 'a', 'b', 100, 0, 150);
    yes("a deposit overdraws clearing", 'C', 'n', 30, -30, 30);
    yes("a full wallet pays", 'r', 'n', AMOUNT_MINOR_MAX, 0, most);
    yes("a deposit may fill a wallet", 'C', 'n', AMOUNT_MINOR_MAX, -most, most);
}

#[test]
fn each_rule_alone() {
    use Rejection::*;
    no("to itself", 'a', 'a', 1, SameAccount);
    no("from nowhere", 'x', 'b', 1, DebitAccountNotFound);
    no("to nowhere", 'a', 'x', 1, CreditAccountNotFound);
    no("to nobody", 'a', '-', 1, CreditAccountNotFound);
    no("a wallet pays clearing", 'a', 'C', 1, AccountKindMismatch);
    no("a deposit out of suspense", 'S', 'a', 1, AccountKindMismatch);
    no("a deposit to suspense", 'C', 'S', 1, AccountKindMismatch);
    no_as(TransferKind::Wallet, 'C', 'a');
    no_as(TransferKind::Wallet, 'a', 'S');
    no_as(TransferKind::Deposit, 'a', 'b');
    no("naira to a dollar wallet", 'a', 'd', 1, CurrencyMismatch);
    no("naira from a dollar wallet", 'd', 'a', 1, CurrencyMismatch);
    no_usd("dollars between naira wallets", 'a', 'b', CurrencyMismatch);
    no("from a frozen wallet", 'f', 'b', 1, DebitAccountFrozen);
    no_usd("from frozen clearing", 'Z', 'd', DebitAccountFrozen);
    no("to a frozen wallet", 'a', 'f', 1, CreditAccountFrozen);
    no("one kobo too much", 'a', 'b', 101, InsufficientFunds);
    no("from an empty wallet", 'n', 'b', 1, InsufficientFunds);
    no("to a wallet that is full", 'a', 'r', 1, LimitExceeded);
}

#[test]
fn the_first_of_several_reasons_is_the_answer() {
    use Rejection::*;
    no("itself before unknown", 'x', 'x', 1, SameAccount);
    no("itself before frozen and funds", 'f', 'f', 999, SameAccount);
    no("debit before credit", 'x', '-', 1, DebitAccountNotFound);
    no("unknown before kinds", 'S', 'x', 1, CreditAccountNotFound);
    no("unknown before frozen", 'f', 'x', 1, CreditAccountNotFound);
    no_usd("kinds before currency", 'a', 'C', AccountKindMismatch);
    no("kinds before frozen", 'f', 'C', 1, AccountKindMismatch);
    no_usd("currency before frozen", 'f', 'a', CurrencyMismatch);
    no("debit frozen before funds", 'f', 'r', 999, DebitAccountFrozen);
    no("credit frozen before funds", 'n', 'f', 1, CreditAccountFrozen);
    no("funds before limit", 'n', 'r', 1, InsufficientFunds);
}

#[test]
fn a_deadline_comes_before_everything_but_an_earlier_answer() {
    let late = |it| Command { deadline_at: Some(EARLIER), body: Body::PostTransfer(it) };
    let mut books = books();
    let rejected = Verdict::Rejected(Rejection::DeadlineExceeded);
    assert_eq!(books.apply(&late(transfer(1, 'x', 'x', 1)), NOW).verdict, rejected);
    assert_eq!(books.apply(&late(keyed(2, 2, 0)), NOW).verdict, rejected);
    // It is final, under its id and under its key, with or without a deadline.
    let again = post(&mut books, keyed(3, 2, 0));
    assert_eq!((again.verdict, again.replayed), (rejected, true));
    assert_eq!(again.transfer_id, Some(keyed(2, 2, 0).id));
    assert_eq!(balance(&books, 'a'), 100);
    // What posted in time stays posted when the question comes again, late.
    let posted = post(&mut books, keyed(4, 4, 0));
    let repeated = books.apply(&late(keyed(4, 4, 0)), NOW);
    assert_eq!((repeated.verdict, repeated.replayed), (posted.verdict, true));
    assert_eq!(balance(&books, 'a'), 90);
}

#[test]
fn the_deadline_itself_is_in_time() {
    let on_time = Command { deadline_at: Some(NOW), body: Body::PostTransfer(keyed(1, 1, 0)) };
    assert_eq!(books().apply(&on_time, NOW).verdict.rejection(), None);
    let after = Timestamp::from_micros(NOW.micros() + 1);
    let rejection = books().apply(&on_time, after).verdict.rejection();
    assert_eq!(rejection, Some(Rejection::DeadlineExceeded));
    let never = Command { deadline_at: None, ..on_time };
    assert_eq!(
        books().apply(&never, Timestamp::from_seconds(9_999_999_999)).verdict.rejection(),
        None
    );
}

#[test]
fn the_same_request_has_one_answer() {
    // First, second, then: is it the first one's answer again, or a reuse?
    let unkeyed =
        |n, digest| Transfer { request_digest: [digest; 32], ..transfer(n, 'a', 'b', 10) };
    for (name, first, second, replays) in [
        ("same id, no key", unkeyed(1, 0), unkeyed(1, 0), true),
        ("same id, other digest", unkeyed(1, 0), unkeyed(1, 9), false),
        ("same id and key", keyed(1, 1, 0), keyed(1, 1, 0), true),
        ("same id and key, other digest", keyed(1, 1, 0), keyed(1, 1, 9), false),
        ("other id, same key", keyed(1, 1, 0), keyed(2, 1, 0), true),
        ("other id, same key, other digest", keyed(1, 1, 0), keyed(2, 1, 9), false),
        ("same id, other key", keyed(1, 1, 0), keyed(1, 2, 0), false),
        ("same id, key left out", keyed(1, 1, 0), unkeyed(1, 0), false),
        ("same id, key added", unkeyed(1, 0), keyed(1, 1, 0), false),
        (
            "the digest, not the fields, is the request",
            keyed(1, 1, 0),
            Transfer { credit_account_id: id('n'), ..keyed(2, 1, 0) },
            true,
        ),
    ] {
        let mut books = books();
        let one = post(&mut books, first.clone());
        let two = post(&mut books, second);
        assert_eq!(two.transfer_id, Some(first.id), "{name}");
        if replays {
            assert_eq!(two, Outcome { replayed: true, ..one }, "{name}");
        } else {
            let reused = Verdict::Rejected(Rejection::IdempotencyKeyReused);
            assert_eq!((two.verdict, two.replayed), (reused, false), "{name}");
        }
        assert_eq!(balance(&books, 'a'), 90, "{name}");
        assert_eq!(books.into_changes().decided.len(), 1, "{name}: kept once");
    }
}

#[test]
fn a_refusal_is_repeated_even_when_it_would_succeed_by_then() {
    let mut books = books();
    let refused = Transfer { debit_account_id: id('n'), ..keyed(1, 1, 0) };
    let first = post(&mut books, refused.clone());
    assert_eq!(first.verdict, Verdict::Rejected(Rejection::InsufficientFunds));
    assert_eq!(post(&mut books, transfer(2, 'C', 'n', 500)).verdict.rejection(), None);
    let second = post(&mut books, refused);
    assert_eq!(second, Outcome { replayed: true, ..first });
    assert_eq!(balance(&books, 'n'), 500);
}

#[test]
fn sums_stop_at_what_postgres_can_keep() {
    let most = u64::try_from(i64::MAX).unwrap();
    let full = |debits_minor, credits_minor| Account {
        debits_minor,
        credits_minor,
        ..wallet('a', 0, Currency::NGN)
    };
    let amount = Amount::try_new(10).unwrap();
    // A wallet with much behind it: holds 20, has moved nearly everything that can be counted.
    let busy = full(most - 29, most - 9);
    assert_eq!(busy.debited(amount).map(|it| it.balance_minor()), Ok(10));
    assert_eq!(busy.credited(amount), Err(Rejection::LimitExceeded));
    assert_eq!(full(most - 30, most - 10).credited(amount).map(|it| it.balance_minor()), Ok(30));
    let clearing = Account { kind: AccountKind::System(System::PaystackClearing), ..full(most, 0) };
    assert_eq!(clearing.balance_minor(), -i64::MAX);
    assert_eq!(clearing.debited(amount), Err(Rejection::LimitExceeded));
    assert_eq!(full(most, most).debited(amount), Err(Rejection::InsufficientFunds));
}

#[test]
fn accounts_open_once_and_only_as_wallets() {
    use Rejection::*;
    let mut books = books();
    let mut open = |letter, currency, deadline_at| {
        let body = Body::OpenAccount { account_id: id(letter), currency };
        let outcome = books.apply(&Command { deadline_at, body }, NOW);
        assert_eq!(outcome.transfer_id, None);
        (outcome.verdict.rejection(), outcome.replayed, outcome.decided_at)
    };
    let (ngn, usd) = (Currency::NGN, Currency::USD);
    assert_eq!(open('x', ngn, Some(NOW)), (None, false, NOW), "new");
    assert_eq!(open('x', ngn, Some(NOW)), (None, true, NOW), "again");
    assert_eq!(open('a', ngn, Some(EARLIER)), (None, true, EARLIER), "again, and late");
    assert_eq!(open('y', ngn, Some(EARLIER)), (Some(DeadlineExceeded), false, NOW), "new, late");
    assert_eq!(open('a', usd, Some(EARLIER)), (Some(DeadlineExceeded), false, NOW), "late first");
    assert_eq!(open('a', usd, None), (Some(CurrencyMismatch), false, NOW), "other currency");
    assert_eq!(open('C', ngn, None), (Some(AccountKindMismatch), false, NOW), "a system account");
    assert_eq!(open('C', usd, None), (Some(AccountKindMismatch), false, NOW), "kind first");
    assert_eq!(open('-', ngn, None), (Some(AccountKindMismatch), false, NOW), "nobody");
    let changes = books.into_changes();
    let opened: Vec<_> = changes.opened.iter().map(|it| it.id).collect();
    assert_eq!(opened, [id('x')]);
    assert!(changes.decided.is_empty() && changes.updated.is_empty());
}

#[test]
fn freezing_is_ordered_with_the_money() {
    let mut books = books();
    let freeze = |books: &mut Books, letter, frozen, deadline_at| {
        let body = Body::FreezeAccount { account_id: id(letter), frozen };
        books.apply(&Command { deadline_at, body }, NOW).verdict.rejection()
    };
    assert_eq!(post(&mut books, transfer(1, 'a', 'b', 10)).verdict.rejection(), None);
    assert_eq!(freeze(&mut books, 'a', true, None), None);
    let frozen = post(&mut books, transfer(2, 'a', 'b', 10)).verdict.rejection();
    assert_eq!(frozen, Some(Rejection::DebitAccountFrozen));
    let unfrozen_late = freeze(&mut books, 'a', false, Some(EARLIER));
    assert_eq!(unfrozen_late, Some(Rejection::DeadlineExceeded));
    assert_eq!(freeze(&mut books, 'a', false, Some(NOW)), None);
    assert_eq!(post(&mut books, transfer(3, 'a', 'b', 10)).verdict.rejection(), None);
    assert_eq!(freeze(&mut books, 'x', true, None), Some(Rejection::DebitAccountNotFound));
    assert_eq!(balance(&books, 'a'), 80);
}

#[test]
fn time_of_decision_never_runs_backwards() {
    let mut books = books();
    let at = |seconds| Timestamp::from_seconds(seconds);
    let mut decide = |n, seconds, deadline| {
        let deadline_at = Some(at(deadline));
        let body = Body::PostTransfer(transfer(n, 'a', 'b', 1));
        let outcome = books.apply(&Command { deadline_at, body }, at(seconds));
        (outcome.verdict.rejection(), outcome.decided_at.seconds())
    };
    assert_eq!(decide(1, 5_000, 5_000), (None, 5_000));
    // The clock was set back. What counts for the deadline is the clock; for history, the order.
    assert_eq!(decide(2, 2_000, 2_001), (None, 5_000));
    assert_eq!(decide(3, 2_002, 2_001), (Some(Rejection::DeadlineExceeded), 5_000));
    assert_eq!(decide(4, 6_000, 6_000), (None, 6_000));
}

#[test]
fn every_rejection_has_its_number_and_code() {
    for (rejection, number, code, is_transient) in [
        (Rejection::IdempotencyKeyReused, 1, "idempotency_key_reused", false),
        (Rejection::DeadlineExceeded, 2, "deadline_exceeded", true),
        (Rejection::SameAccount, 3, "same_account", false),
        (Rejection::DebitAccountNotFound, 4, "debit_account_not_found", true),
        (Rejection::CreditAccountNotFound, 5, "credit_account_not_found", true),
        (Rejection::AccountKindMismatch, 6, "account_kind_mismatch", false),
        (Rejection::CurrencyMismatch, 7, "currency_mismatch", false),
        (Rejection::DebitAccountFrozen, 8, "debit_account_frozen", true),
        (Rejection::CreditAccountFrozen, 9, "credit_account_frozen", true),
        (Rejection::InsufficientFunds, 10, "insufficient_funds", true),
        (Rejection::LimitExceeded, 11, "limit_exceeded", true),
        (Rejection::Malformed, 12, "malformed", false),
    ] {
        assert_eq!(rejection.number(), number);
        assert_eq!(rejection.code(), code);
        assert_eq!(rejection.is_transient(), is_transient, "{code}");
        assert_eq!(Rejection::from_number(number), Some(rejection));
        assert_eq!(usize::try_from(number).map(|it| Rejection::ALL[it - 1]), Ok(rejection));
    }
    assert_eq!(Rejection::from_number(0), None);
    assert_eq!(Rejection::from_number(13), None);
    assert!(Rejection::ALL.is_sorted(), "order is precedence");
}
