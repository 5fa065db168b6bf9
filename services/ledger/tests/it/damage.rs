//! Postgres refuses what the rules would never write, even from its superuser.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{Ledger, pay};

/// The constraint that refuses `statement`; none if nothing does.
async fn refused_by(conn: &mut PgConnection, statement: &str) -> Option<String> {
    let mut tx = conn.begin().await.unwrap();
    let statement = format!("{statement}; set constraints all immediate");
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await;
    tx.rollback().await.unwrap();
    let error = done.err()?;
    let error = error.as_database_error().unwrap();
    Some(error.constraint().unwrap_or_else(|| panic!("{error}")).to_owned())
}

/// Inserts transfers and entries by one statement, as the ledger does.
fn write(accounts: &str, transfers: &str, entries: &str) -> String {
    let accounts = if accounts.is_empty() { String::new() } else { format!("{accounts};") };
    format!(
        "{accounts}
         with t as (
           insert into ledger.transfers (transfer_id, debit_account_id, credit_account_id,
             amount_minor, position, decided_at, kind, rejection, currency, request_digest)
           select id::uuid, debit::uuid, credit::uuid, amount, position, now(), 1, 0, 'NGN',
             sha256('x')
           from (values {transfers}) as it (id, debit, credit, amount, position)
         )
         insert into ledger.entries
         select position, id::uuid, account::uuid, amount, before, after
         from (values {entries}) as it (position, id, account, amount, before, after)"
    )
}

#[tokio::test]
async fn raw_sql_that_unbalances_the_books_is_refused() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(50).await);
    ledger.posted(pay(a, b, 10)).await;
    // The books now end at position 6: a holds 90, b holds 60.
    let (a, b) = (a.uuid(), b.uuid());
    let id = "019a0000-0000-7000-8000-000000000001";
    let moved = format!(
        "update ledger.accounts set debits_minor = debits_minor + 5 where account_id = '{a}';
         update ledger.accounts set credits_minor = credits_minor + 5 where account_id = '{b}'"
    );
    let transfer = format!("('{id}', '{a}', '{b}', 5, 7)");
    let debit = format!("(7, '{id}', '{a}', -5, 90, 85)");
    let credit = format!("(8, '{id}', '{b}', 5, 60, 65)");
    let both = format!("{debit}, {credit}");
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    let good = write(&moved, &transfer, &both);
    assert_eq!(refused_by(&mut conn, &good).await, None, "the rest differs from this in one thing");
    let greedy = format!("{debit}, (8, '{id}', '{b}', 6, 60, 66)");
    let beyond = format!("(8, '{id}', '{a}', -5, 90, 85), (9, '{id}', '{b}', 5, 60, 65)");
    let third = format!("{both}, (9, '{id}', '{b}', 5, 65, 70)");
    let late = format!("('{id}', '{a}', '{b}', 5, 8)");
    let stranger = "019a0000-0000-7000-8000-00000000ffff";
    let to_stranger = format!("('{id}', '{a}', '{stranger}', 5, 7)");
    let strange = format!("{debit}, (8, '{id}', '{stranger}', 5, 0, 5)");
    let chain = format!("{debit}, (8, '{id}', '{b}', 5, 61, 66)");
    for (name, statement, constraint) in [
        ("more arrives than leaves", write(&moved, &transfer, &greedy), SIDES),
        ("one side only", write(&moved, &transfer, &debit), BOTH),
        ("a third entry", write(&moved, &transfer, &third), SIDES),
        ("a gap", write(&moved, &late, &beyond), "entries_without_gap"),
        ("an account nobody opened", write(&moved, &to_stranger, &strange), AGREE),
        ("balances stay as they were", write("", &transfer, &both), AGREE),
        ("a chain that breaks", write(&moved, &transfer, &chain), "entries_continue_accounts"),
        ("before and after", write(&moved, &transfer, &both.replace("85", "84")), FOLLOWS),
        (
            "an entry of nothing",
            write(&moved, &transfer, &both.replace("-5", "0")),
            "entries_amount_not_zero",
        ),
        (
            "a transfer of nothing",
            write(&moved, &transfer.replace("5, 7", "0, 7"), &both),
            "transfers_amount_positive",
        ),
    ] {
        let by = refused_by(&mut conn, &statement).await;
        assert_eq!(by.as_deref(), Some(constraint), "{name}");
    }
    conn.close().await.unwrap();
    ledger.finish().await;
}

const SIDES: &str = "entries_are_sides_of_transfers";
const BOTH: &str = "transfers_have_both_entries";
const AGREE: &str = "entries_agree_with_accounts";
const FOLLOWS: &str = "entries_balance_follows";

#[tokio::test]
async fn a_single_row_is_held_to_its_constraints() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    let key = primitives::RequestKey([1; 32]);
    ledger.posted(crate::harness::keyed(pay(a, b, 10), key)).await;
    let a = a.uuid();
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    let account = |set: &str| format!("update ledger.accounts set {set} where account_id = '{a}'");
    let refused = |set: &str| {
        format!(
            "insert into ledger.transfers (transfer_id, debit_account_id, credit_account_id,
               amount_minor, decided_at, kind, rejection, currency, request_digest, request_key)
             select gen_random_uuid(), debit_account_id, credit_account_id, amount_minor,
               decided_at, {set} from ledger.transfers where request_key is not null"
        )
    };
    for (name, statement, constraint) in [
        ("overdrawn", account("debits_minor = 101"), "accounts_not_overdrawn"),
        ("negative", account("debits_minor = -1"), "accounts_sums_not_negative"),
        (
            "more than JSON can say",
            account("credits_minor = 9007199254741002"),
            "accounts_balance_exact_in_json",
        ),
        (
            "a key twice",
            refused("kind, 3::smallint, currency, request_digest, request_key"),
            "transfers_request_key_once",
        ),
        (
            "posted without a place",
            refused("kind, 0::smallint, currency, request_digest, null"),
            "transfers_written_if_posted",
        ),
        (
            "an unknown rejection",
            refused("kind, 12::smallint, currency, request_digest, null"),
            "transfers_rejection_known",
        ),
        (
            "an unknown kind",
            refused("7::smallint, 3::smallint, currency, request_digest, null"),
            "transfers_kind_known",
        ),
        (
            "a short digest",
            refused("kind, 3::smallint, currency, 'abc'::bytea, null"),
            "transfers_digest_length",
        ),
        (
            "a batch that ends nowhere",
            "insert into ledger.batches values (99, now())".to_owned(),
            "batches_move_forward",
        ),
    ] {
        let by = refused_by(&mut conn, &statement).await;
        assert_eq!(by.as_deref(), Some(constraint), "{name}");
    }
    conn.close().await.unwrap();
    ledger.finish().await;
}

#[tokio::test]
async fn the_books_are_only_ever_added_to() {
    let ledger = Ledger::start().await;
    let (a, b) = (ledger.funded(100).await, ledger.funded(0).await);
    ledger.posted(pay(a, b, 10)).await;
    let mut conn = PgConnection::connect(&ledger.database.url).await.unwrap();
    for (statement, by) in [
        ("update ledger.transfers set note = 'x'", "transfers_append_only"),
        ("delete from ledger.transfers", "transfers_append_only"),
        ("truncate ledger.transfers", "transfers_append_only"),
        ("update ledger.entries set amount_minor = amount_minor", "entries_append_only"),
        ("delete from ledger.entries", "entries_append_only"),
        ("truncate ledger.entries", "entries_append_only"),
        ("update ledger.batches set decided_at = decided_at", "batches_append_only"),
        ("delete from ledger.batches", "batches_append_only"),
        ("truncate ledger.batches", "batches_append_only"),
        ("delete from ledger.accounts", "accounts_never_go"),
        ("truncate ledger.accounts", "accounts_never_go"),
        ("update ledger.accounts set kind = kind", "accounts_stay_what_they_are"),
        ("update ledger.accounts set currency = currency", "accounts_stay_what_they_are"),
    ] {
        assert_eq!(refused_by(&mut conn, statement).await.as_deref(), Some(by), "{statement}");
    }
    conn.close().await.unwrap();
    ledger.finish().await;
}
