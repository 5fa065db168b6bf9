//! Random commands over few accounts, keys and ids, so that they collide often.

use ledger_core::{AccountChange, Action, Body, Change, Command, Limits, Move, Transfer};
use primitives::{
    AMOUNT_MINOR_MAX, AccountId, Amount, ChangeId, Currency, RequestKey, System, Timestamp,
    TransferId,
};
use proptest::prelude::*;
use uuid::Uuid;

/// A command and when it is read.
pub(crate) type Read = (Command, Timestamp);

/// Holds have the lowest ids, then what can be moved back, then the rest; so that what is about an
/// earlier transfer often finds one. They overlap a little.
const HOLD_IDS: std::ops::Range<u128> = 1..12;
const MOVE_IDS: std::ops::Range<u128> = 10..70;
const OTHER_IDS: std::ops::Range<u128> = 65..130;
const EASY_IDS: std::ops::Range<u128> = 130..255;

fn account_ids() -> BoxedStrategy<AccountId> {
    prop_oneof![
        40 => (1_u128..5).prop_map(|it| AccountId::from_uuid(Uuid::from_u128(it))),
        2 => Just(AccountId::from_uuid(Uuid::from_u128(5))),
        1 => Just(AccountId::NOBODY),
        2 => Just(AccountId::system(System::PaystackClearing, Currency::NGN)),
        1 => Just(AccountId::system(System::Suspense, Currency::NGN)),
    ]
    .boxed()
}

fn currencies() -> impl Strategy<Value = Currency> {
    prop_oneof![14 => Just(Currency::NGN), 1 => Just(Currency::USD)]
}

fn amounts() -> impl Strategy<Value = Amount> {
    prop_oneof![14 => 1_u64..200, 1 => AMOUNT_MINOR_MAX - 50..=AMOUNT_MINOR_MAX]
        .prop_map(|it| Amount::try_new(it).unwrap())
}

fn small_amounts() -> impl Strategy<Value = Option<Amount>> {
    prop::option::weighted(0.7, (1_u64..120).prop_map(|it| Amount::try_new(it).unwrap()))
}

fn moves() -> BoxedStrategy<Move> {
    (account_ids(), account_ids(), amounts(), currencies())
        .prop_map(|(debit_account_id, credit_account_id, amount, currency)| Move {
            debit_account_id,
            credit_account_id,
            amount,
            currency,
        })
        .boxed()
}

fn ids(range: std::ops::Range<u128>) -> impl Strategy<Value = TransferId> {
    range.prop_map(|it| TransferId::from_uuid(Uuid::from_u128(it)))
}

fn deposit(of: Move) -> Action {
    let debit_account_id = AccountId::system(System::PaystackClearing, of.currency);
    Action::Deposit(Move { debit_account_id, ..of })
}

/// What is asked, and under which id.
fn actions() -> BoxedStrategy<(TransferId, Action)> {
    let expires_at = prop::option::weighted(0.8, 100_i64..200);
    let hold = (moves(), expires_at).prop_map(|(of, expires_at)| Action::Hold {
        of,
        expires_at: expires_at.map(Timestamp::from_seconds),
    });
    let capture = (ids(HOLD_IDS), small_amounts())
        .prop_map(|(hold_id, amount)| Action::Capture { hold_id, amount });
    let reverse = (ids(6..MOVE_IDS.end), small_amounts())
        .prop_map(|(transfer_id, amount)| Action::Reverse { transfer_id, amount });
    let moves = prop_oneof![
        9 => moves().prop_map(Action::Wallet),
        5 => moves().prop_map(deposit),
        2 => moves().prop_map(Action::Internal),
        9 => capture,
    ];
    let others = prop_oneof![
        1 => ids(HOLD_IDS).prop_map(|hold_id| Action::Release { hold_id }),
        4 => ids(HOLD_IDS).prop_map(|hold_id| Action::Expire { hold_id }),
        7 => reverse,
    ];
    prop_oneof![3 => (ids(HOLD_IDS), hold), 7 => (ids(MOVE_IDS), moves), 3 => (ids(OTHER_IDS), others)]
    .boxed()
}

fn transfers() -> BoxedStrategy<Transfer> {
    // Mostly an id has its own key, or none, and the same digest; so that repeats replay more often
    // than they collide.
    let digest = prop_oneof![19 => Just(0_u8), 1 => Just(1)];
    let other_key = prop::option::weighted(0.1, prop::option::of(0_u8..130));
    (actions(), other_key, digest)
        .prop_map(|((id, action), other_key, digest)| {
            let key = other_key.unwrap_or_else(|| own_key(id));
            transfer(id, action, key, digest)
        })
        .boxed()
}

/// Small deposits under ids of their own, which are seldom refused; so that some groups post.
fn small_deposits() -> BoxedStrategy<Transfer> {
    (ids(EASY_IDS), 1_u128..5, 1_u64..20)
        .prop_map(|(id, to, minor)| {
            let to = AccountId::from_uuid(Uuid::from_u128(to));
            let amount = Amount::try_new(minor).unwrap();
            let currency = Currency::NGN;
            let of = Move { debit_account_id: to, credit_account_id: to, amount, currency };
            transfer(id, deposit(of), own_key(id), 0)
        })
        .boxed()
}

fn transfer(id: TransferId, action: Action, key: Option<u8>, digest: u8) -> Transfer {
    Transfer {
        id,
        action,
        note: String::new(),
        reference: String::new(),
        request_key: key.map(|it| RequestKey([it; 32])),
        request_digest: [digest; 32],
        made_by_key_id: None,
    }
}

/// Every other id has a key, which it sometimes shares with another one.
fn own_key(id: TransferId) -> Option<u8> {
    let number = u8::try_from(id.uuid().as_u128()).ok()?;
    let shared = if number % 8 == 6 { number - 2 } else { number };
    (shared % 2 == 0).then_some(shared)
}

fn changes() -> BoxedStrategy<Body> {
    let limits = (-50_i64..100, 100_i64..9_000).prop_map(|(least_minor, greatest_minor)| {
        Change::SetLimits(Limits { least_minor, greatest_minor })
    });
    let change = prop_oneof![
        2 => Just(Change::Freeze),
        5 => Just(Change::Unfreeze),
        2 => Just(Change::Close),
        2 => limits,
    ];
    ((1_u128..25), account_ids(), change)
        .prop_map(|(id, account_id, change)| {
            let id = ChangeId::from_uuid(Uuid::from_u128(id));
            Body::ChangeAccount(AccountChange { id, account_id, change })
        })
        .boxed()
}

fn bodies() -> BoxedStrategy<Body> {
    let one = transfers().prop_map(|it| Body::Post { transfers: vec![it], linked: false });
    let many = (prop::collection::vec(transfers(), 1..6), any::<bool>())
        .prop_map(|(transfers, linked)| Body::Post { transfers, linked });
    let small = prop::collection::vec(small_deposits(), 2..5)
        .prop_map(|transfers| Body::Post { transfers, linked: true });
    prop_oneof![
        1 => (account_ids(), currencies())
            .prop_map(|(account_id, currency)| Body::OpenAccount { account_id, currency }),
        12 => one,
        5 => many,
        2 => small,
        2 => changes(),
    ]
    .boxed()
}

/// Opens four wallets and fills them, so that there is something to move.
fn beginning() -> Vec<Read> {
    let at = Timestamp::from_seconds(1);
    let account_id = |n| AccountId::from_uuid(Uuid::from_u128(n));
    let opened = (1_u128..5)
        .map(|n| Body::OpenAccount { account_id: account_id(n), currency: Currency::NGN });
    let filled = (1_u128..4).map(|n| {
        let of = Move {
            debit_account_id: account_id(n),
            credit_account_id: account_id(n),
            amount: Amount::try_new(400).unwrap(),
            currency: Currency::NGN,
        };
        let transfer =
            transfer(TransferId::from_uuid(Uuid::from_u128(1_000 + n)), deposit(of), None, 0);
        Body::Post { transfers: vec![transfer], linked: false }
    });
    opened.chain(filled).map(|body| (Command { deadline_at: None, body }, at)).collect()
}

/// Commands and when they are read; the clock jumps about a little.
pub(crate) fn histories() -> impl Strategy<Value = Vec<Read>> {
    let command = (bodies(), prop::option::weighted(0.3, -10_i64..60), -15_i64..15);
    prop::collection::vec(command, 0..100).prop_map(|commands| {
        let read = (100..).zip(commands).map(|(at, (body, wait, jump))| {
            let deadline_at = wait.map(|it| Timestamp::from_seconds(at + it));
            (Command { deadline_at, body }, Timestamp::from_seconds(at + jump))
        });
        beginning().into_iter().chain(read).collect()
    })
}
