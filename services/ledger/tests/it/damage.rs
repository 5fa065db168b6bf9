//! Postgres refuses what the rules would never write, even from its superuser.

use primitives::RequestKey;
use proto_events::ledger::v1::{AccountChange, Rejection, TransferKind};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{Ledger, about, hold, keyed, pay};

/// The constraint or trigger that refuses `statement`; none if nothing does.
async fn refused_by(conn: &mut PgConnection, statement: &str) -> Option<String> {
    let mut tx = conn.begin().await.unwrap();
    let statement = format!("{statement}; set constraints all immediate");
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await;
    tx.rollback().await.unwrap();
    let error = done.err()?;
    let error = error.as_database_error().unwrap();
    Some(error.constraint().unwrap_or_else(|| panic!("{error}")).to_owned())
}

async fn check(ledger: &Ledger, cases: &[(&str, String, &str)]) {
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    for (name, statement, constraint) in cases {
        let by = refused_by(&mut conn, statement).await;
        assert_eq!(by.as_deref(), Some(*constraint), "{name}");
    }
    conn.close().await.unwrap();
}

/// A copy of the payment at position 3 as the next one, with these columns different.
fn next(set: &str) -> String {
    format!(
        "create temp table it as select * from ledger.transfers where position = 3;
         update it set position = 4, transfer_id = gen_random_uuid(), request_key = null, request_key_rest = null;
         update it set {set};
         insert into ledger.transfers select * from it"
    )
}

/// Books of three transfers: a holds 90, b holds 60.
async fn books() -> Ledger {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(50).await);
    ledger.posted(keyed(pay(a, b, 10), RequestKey([1; 32]))).await;
    ledger
}

/// What differs from a good payment, and what refuses it.
const DIFFERENT: [(&str, &str, &str); 24] = [
    ("one side only", "credit_balance_after_minor = null", STANDS),
    ("the other side only", "debit_balance_after_minor = null", STANDS),
    ("a refusal that moves", "rejection = 10", STANDS),
    ("from nobody", "debit_account_id = null", STANDS),
    ("of no currency", "currency = null", STANDS),
    ("to itself", "credit_account_id = debit_account_id", "transfers_two_accounts"),
    ("overdrawn", "debit_balance_after_minor = -1", "transfers_no_overdraft"),
    ("more held than is there", "debit_held_after_minor = 91", "transfers_no_overdraft"),
    ("nothing held", "debit_held_after_minor = 0", "transfers_holds_positive"),
    (
        "more than JSON can say",
        "credit_balance_after_minor = 9007199254740992",
        "transfers_balance_exact_in_json",
    ),
    ("nothing", "amount_minor = 0", "transfers_amount_in_bounds"),
    ("less than nothing", "amount_minor = -1", "transfers_amount_in_bounds"),
    ("an unknown kind", "kind = 0", "transfers_kind_known"),
    ("a refusal never kept", "rejection = 12", "transfers_rejection_known"),
    ("about another", "of_transfer_id = transfer_id", "transfers_about_an_earlier_one"),
    ("about none", "kind = 8", "transfers_about_an_earlier_one"),
    ("no hold expires", "expires_at = now()", "transfers_expire_if_holds"),
    ("a short digest", "request_digest = 'abc'", "transfers_digest_length"),
    ("half a key", "request_key = gen_random_uuid()", "transfers_request_key_whole"),
    ("a gap", "position = 5", "transfers_without_gap"),
    ("before the beginning", "position = 0", "transfers_position_positive"),
    ("a place twice", "position = 3", "transfers_pkey"),
    (
        "an id twice",
        "transfer_id = (select t.transfer_id from ledger.transfers t where t.position = 3)",
        "transfers_transfer_id_once",
    ),
    (
        "a key twice",
        "request_key = (select t.request_key from ledger.transfers t where t.position = 3),
           request_key_rest = gen_random_uuid()",
        "transfers_request_key_once",
    ),
];
const STANDS: &str = "transfers_say_what_stands";

#[tokio::test]
async fn raw_sql_that_unbalances_the_books_is_refused() {
    let ledger = books().await;
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    let by = refused_by(&mut conn, &next("note = null")).await;
    assert_eq!(by, None, "all others differ from this in one thing");
    conn.close().await.unwrap();
    let yesterday = "insert into ledger.batches values (4, now() - interval '1 day')";
    let batches = [
        ("a batch that ends nowhere", "insert into ledger.batches values (99, now())".to_owned()),
        ("a batch before the last one", format!("{}; {yesterday}", next("note = null"))),
    ];
    let batches = batches.map(|(name, statement)| (name, statement, "batches_move_forward"));
    check(&ledger, &batches).await;
    check(&ledger, &DIFFERENT.map(|(name, set, by)| (name, next(set), by))).await;
    ledger.finish().await;
}

#[tokio::test]
async fn what_is_kept_beside_the_transfers_is_held_to_its_constraints() {
    let ledger = books().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let (held, paid) = (hold(a, b, 30), pay(a, b, 10));
    for it in [held.clone(), paid.clone(), about(TransferKind::Reversal, &paid, 4)] {
        assert_eq!(ledger.do_any(it).await, Rejection::Unspecified);
    }
    let c = ledger.funded(0).await;
    assert_eq!(ledger.change(c, AccountChange::Close).await, Rejection::Unspecified);
    let account = |set: &str| format!("update ledger.accounts set {set} where kind = 'wallet'");
    let own = |set: &str| format!("update ledger.accounts set {set} where kind = 'suspense'");
    let change = |set: &str| {
        format!(
            "create temp table it as select * from ledger.account_changes;
             update it set change_id = gen_random_uuid();
             update it set {set};
             insert into ledger.account_changes overriding system value select * from it"
        )
    };
    let hold = |set: &str| format!("update ledger.holds set {set}");
    let reversal = |set: &str| format!("update ledger.reversals set {set}");
    check(
        &ledger,
        &[
            ("below zero", account("least_minor = -1"), "accounts_limits_suit"),
            ("too much", account("greatest_minor = 9007199254740992"), "accounts_limits_suit"),
            ("no room", own("least_minor = 1, greatest_minor = 0"), "accounts_limits_suit"),
            ("an unknown status", own("status = 'gone'"), "accounts_status_known"),
            ("our own is closed", own("status = 'closed'"), "accounts_only_wallets_close"),
            ("opened again", account("status = 'open'"), "accounts_stay_closed"),
            ("an unknown change", change("change = 5"), "account_changes_known"),
            ("limits of none", change("change = 4"), "account_changes_limits_given"),
            (
                "a change twice",
                change("change_id = (select c.change_id from ledger.account_changes c)"),
                "account_changes_pkey",
            ),
            (
                "a place twice",
                change("change_no = (select c.change_no from ledger.account_changes c)"),
                "account_changes_in_order",
            ),
            ("a hold that grows", hold("remaining_minor = 31"), "holds_only_shrink"),
            ("less than nothing", hold("remaining_minor = -1"), HOLDS),
            ("another hold", hold("amount_minor = 29"), "holds_stay_what_they_are"),
            ("moved forth again", reversal("reversed_minor = 3"), "reversals_only_grow"),
            ("moved back twice", reversal("reversed_minor = 11"), REVERSALS),
            ("another amount", reversal("amount_minor = 11"), "reversals_only_grow"),
        ],
    )
    .await;
    ledger.finish().await;
}

const HOLDS: &str = "holds_capture_at_most_what_was_held";
const REVERSALS: &str = "reversals_at_most_what_was_moved";

#[tokio::test]
async fn the_books_are_only_ever_added_to() {
    let ledger = books().await;
    let cases = [
        ("update ledger.transfers set note = 'x'", "transfers_append_only"),
        ("delete from ledger.transfers", "transfers_append_only"),
        ("truncate ledger.transfers", "transfers_append_only"),
        ("update ledger.batches set decided_at = decided_at", "batches_append_only"),
        ("delete from ledger.batches", "batches_append_only"),
        ("truncate ledger.batches", "batches_append_only"),
        ("update ledger.account_changes set change = change", "account_changes_append_only"),
        ("delete from ledger.account_changes", "account_changes_append_only"),
        ("truncate ledger.account_changes", "account_changes_append_only"),
        ("delete from ledger.accounts", "accounts_never_go"),
        ("truncate ledger.accounts", "accounts_never_go"),
        ("update ledger.accounts set kind = kind", "accounts_stay_what_they_are"),
        ("update ledger.accounts set currency = currency", "accounts_stay_what_they_are"),
        ("delete from ledger.holds", "holds_never_go"),
        ("truncate ledger.holds", "holds_never_go"),
        ("delete from ledger.reversals", "reversals_never_go"),
        ("truncate ledger.reversals", "reversals_never_go"),
    ];
    let cases = cases.map(|(statement, by)| (statement, statement.to_owned(), by));
    check(&ledger, &cases).await;
    ledger.finish().await;
}
