//! The second guard of each rule: Postgres refuses what the code would never ask for.

use futures_util::future::join_all;
use primitives::UserId;
use proto_events::keys::v1 as wire;

use crate::harness::{
    Harness, create_any, denial, key_id, refusal, revoke, roll_over, status, under,
};

/// Runs `statement` and names the constraint that refused it.
async fn refused_by(it: &Harness, statement: String) -> String {
    let error = it.sql(statement.clone()).await.expect_err(&statement);
    let database_error = error.as_database_error().unwrap_or_else(|| panic!("{error}"));
    database_error.constraint().unwrap_or_else(|| panic!("{statement}: {error}")).to_owned()
}

/// A statement that inserts a key for `user_id`.
fn insert(user_id: UserId, digest: &str, columns: &str) -> String {
    let values = ["'n'", "'sk_test_abcd'", digest, "1", "now()", "now() + interval '1 hour'"];
    let names = ["name", "prefix", "digest", "permissions", "created_at", "expires_at"];
    let mut values = values.map(str::to_owned);
    for change in columns.split(';').filter(|it| !it.is_empty()) {
        let (name, value) = change.split_once('=').unwrap();
        let place = names.iter().position(|it| *it == name).unwrap();
        values[place] = value.to_owned();
    }
    format!(
        "insert into keys.keys (key_id, user_id, {}) values (gen_random_uuid(), '{}', {});",
        names.join(", "),
        user_id.uuid(),
        values.join(", ")
    )
}

const RANDOM: &str = "sha256(gen_random_uuid()::text::bytea)";

#[tokio::test]
async fn postgres_refuses_a_sixth_active_key_also_at_once() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    it.ask(&create_any(user_id)).await;
    let inserts = (0..12).map(|_| it.sql(insert(user_id, RANDOM, "")));
    let done = join_all(inserts).await;
    assert_eq!(done.iter().filter(|it| it.is_ok()).count(), 4);
    for no in done.iter().filter_map(|it| it.as_ref().err()) {
        let constraint = no.as_database_error().and_then(|it| it.constraint());
        assert_eq!(constraint, Some("keys_five_active_per_user"), "{no}");
    }
    // One that has expired already does not count.
    let past = "created_at=now() - interval '2 hours';expires_at=now() - interval '1 hour'";
    assert_eq!(refused_by(&it, insert(user_id, RANDOM, "")).await, "keys_five_active_per_user");
    it.sql(insert(UserId::generate(), RANDOM, past)).await.expect_err("no such owner");
    it.finish().await;
}

#[tokio::test]
async fn postgres_refuses_a_key_that_is_none() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    it.ask(&create_any(user_id)).await;
    for (columns, constraint) in [
        ("name=''", "keys_name_length"),
        ("name=repeat('é', 101)", "keys_name_length"),
        ("prefix='sk_prod_abcd'", "keys_prefix_shape"),
        ("prefix='sk_test_abcde'", "keys_prefix_shape"),
        ("digest='\\x00'", "keys_digest_length"),
        ("permissions=0", "keys_permissions_one_to_three"),
        ("permissions=8", "keys_permissions_one_to_three"),
        ("expires_at=now() + interval '7 days'", "keys_expiry_one_of_four"),
        ("expires_at=now() - interval '1 hour'", "keys_expiry_one_of_four"),
        ("digest=(select digest from keys.keys limit 1)", "keys_digest_key"),
    ] {
        assert_eq!(refused_by(&it, insert(user_id, RANDOM, columns)).await, constraint);
    }
    it.finish().await;
}

#[tokio::test]
async fn postgres_lets_a_key_only_end_and_only_once() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let made = it.ask(&create_any(user_id)).await;
    let id = key_id(&made).uuid();
    let update = |set: &str| format!("update keys.keys set {set} where key_id = '{id}'");
    for set in [
        "expires_at = expires_at + interval '1 hour'",
        "permissions = 7",
        "user_id = gen_random_uuid()",
        "digest = sha256('x')",
        "name = 'other'",
    ] {
        assert_eq!(refused_by(&it, update(set)).await, "keys_only_end", "{set}");
    }
    let delete = format!("delete from keys.keys where key_id = '{id}'");
    assert_eq!(refused_by(&it, delete).await, "keys_only_end");
    let own = format!("rolled_over_to = '{id}'");
    assert_eq!(refused_by(&it, update(&own)).await, "keys_rolled_over_when_expired");

    it.sql(update("last_used_at = now()")).await.unwrap();
    let earlier = "last_used_at = now() - interval '1 day'";
    assert_eq!(refused_by(&it, update(earlier)).await, "keys_only_end");
    it.sql(update("revoked_at = now()")).await.unwrap();
    for set in ["revoked_at = null", "revoked_at = now() + interval '1 second'"] {
        assert_eq!(refused_by(&it, update(set)).await, "keys_only_end", "{set}");
    }
    it.finish().await;
}

#[tokio::test]
async fn postgres_lets_an_expired_key_be_rolled_over_once() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let expired = it.aged_key(user_id, wire::Expiry::Hour, 1).await;
    let made = it.ask(&roll_over(user_id, key_id(&expired), wire::Expiry::Day)).await;
    assert_eq!(refusal(&made), wire::Refusal::Unspecified);
    let foreign = it.ask(&create_any(UserId::generate())).await;
    let (other_expired, other) =
        (it.aged_key(user_id, wire::Expiry::Day, 25).await, it.ask(&create_any(user_id)).await);
    let set = |key: &wire::Outcome, to: &wire::Outcome| {
        let (id, to) = (key_id(key).uuid(), key_id(to).uuid());
        format!("update keys.keys set rolled_over_to = '{to}' where key_id = '{id}'")
    };
    for (key, to, constraint) in [
        (&expired, &other, "keys_rolled_over_when_expired"),
        (&other, &made, "keys_rolled_over_when_expired"),
        (&other_expired, &foreign, "keys_rolled_over_when_expired"),
        (&other_expired, &made, "keys_rolled_over_once"),
    ] {
        assert_eq!(refused_by(&it, set(key, to)).await, constraint);
    }
    let undo = format!(
        "update keys.keys set rolled_over_to = null where key_id = '{}'",
        key_id(&expired).uuid()
    );
    assert_eq!(refused_by(&it, undo).await, "keys_rolled_over_when_expired");
    it.finish().await;
}

#[tokio::test]
async fn postgres_keeps_how_a_request_ended() {
    let it = Harness::start().await;
    it.ask(&under(create_any(UserId::generate()), 1, 1)).await;
    for statement in [
        "update keys.requests set refusal = 'key_not_found', key_id = null",
        "delete from keys.requests",
        "truncate keys.requests",
    ] {
        assert_eq!(refused_by(&it, statement.to_owned()).await, "requests_append_only");
    }
    for (columns, constraint) in [
        ("sha256('k'), user_id, sha256('d'), null, null, now()", "requests_one_outcome"),
        (
            "sha256('k'), user_id, sha256('d'), key_id, 'key_not_found', now()",
            "requests_one_outcome",
        ),
        ("sha256('k'), user_id, sha256('d'), null, 'no', now()", "requests_refusal_known"),
        ("'k', user_id, sha256('d'), key_id, null, now()", "requests_key_length"),
        ("sha256('k'), user_id, 'd', key_id, null, now()", "requests_digest_length"),
        ("request_key, user_id, sha256('d'), key_id, null, now()", "requests_pkey"),
    ] {
        let insert = format!("insert into keys.requests select {columns} from keys.requests");
        assert_eq!(refused_by(&it, insert).await, constraint, "{columns}");
    }
    it.finish().await;
}

#[tokio::test]
async fn the_runtime_role_can_do_its_work_and_not_change_the_rules() {
    let it = Harness::start_as("keys_runtime").await;
    let user_id = UserId::generate();
    let made = it.ask(&under(create_any(user_id), 1, 1)).await;
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Unspecified);
    let ended = it.ask(&revoke(user_id, key_id(&made))).await;
    assert_eq!(status(&ended.key.unwrap()), wire::KeyStatus::Revoked);

    for statement in [
        "alter table keys.keys disable trigger keys_only_end",
        "drop trigger keys_five_active_per_user on keys.keys",
        "set session_replication_role = replica",
        "create or replace function keys.refuse_other_changes() returns trigger
         language plpgsql as 'begin return new; end'",
        "truncate keys.keys cascade",
        "delete from keys._sqlx_migrations",
        "create table keys.mine ()",
    ] {
        let statements = format!("set role keys_runtime; {statement}");
        let error = it.sql(statements).await.expect_err(statement);
        let code = error.as_database_error().and_then(|it| it.code()).unwrap_or_default();
        assert_eq!(code, "42501", "{statement}: {error}");
    }
    it.finish().await;
}

#[tokio::test]
async fn another_services_role_cannot_read_keys() {
    let it = Harness::start().await;
    testkit::postgres().await.role("keys_stranger").await;
    for statement in
        ["select digest from keys.keys", "insert into keys.owners values (gen_random_uuid())"]
    {
        let statements = format!("set role keys_stranger; {statement}");
        let error = it.sql(statements).await.expect_err(statement);
        let code = error.as_database_error().and_then(|it| it.code()).unwrap_or_default();
        assert_eq!(code, "42501", "{statement}: {error}");
    }
    it.finish().await;
}
