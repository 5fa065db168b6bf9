//! The second guard of each invariant: what Postgres refuses even if our code asked for it.

use super::stage::Stage;

#[tokio::test]
async fn postgres_refuses_what_must_never_be() {
    let stage = Stage::start(&[]).await;
    let session = stage.sign_in("ada").await;
    let body = serde_json::json!({"refresh_token": session["refresh_token"]});
    stage.client().post("/auth/refresh").json(&body).send().await.expect(200);
    stage.client().post("/auth/refresh").json(&body).send().await.expect(401);
    for (what, statement, refusal) in [
        (
            "a second person for one subject",
            "insert into api.users (user_id, issuer, subject, created_at, signed_in_at)
             select gen_random_uuid(), issuer, subject, now(), now() from api.users",
            "users_one_per_subject",
        ),
        (
            "a second wallet for one person",
            "insert into api.wallets (account_id, user_id, wallet_number, currency, created_at)
             select gen_random_uuid(), user_id, '1000000000008', 'NGN', now() from api.users",
            "wallets_one_per_user",
        ),
        (
            "another person's wallet number",
            "with other as (
                 insert into api.users (user_id, issuer, subject, created_at, signed_in_at)
                 values (gen_random_uuid(), 'x', 'y', now(), now()) returning user_id
             )
             insert into api.wallets (account_id, user_id, wallet_number, currency, created_at)
             select gen_random_uuid(), other.user_id, wallet_number, 'NGN', now()
             from other, api.wallets",
            "wallets_number_unique",
        ),
        ("another subject", "update api.users set subject = 'eve'", "never changes"),
        (
            "another number",
            "update api.wallets set wallet_number = '1000000000008'",
            "never changes",
        ),
        ("a wallet closed again", "update api.wallets set opened_at = null", "never changes"),
        ("no wallet any more", "delete from api.wallets", "never changes"),
        (
            "an ended session that lives again",
            "update api.sessions set ended_at = null, ended_because = null",
            "never changes",
        ),
        (
            "a spent token that is good again",
            "update api.refresh_tokens set spent_at = null where spent_at is not null",
            "never changes",
        ),
        (
            "two good refresh tokens in one session",
            "insert into api.refresh_tokens (digest, session_id, issued_at, expires_at)
             select sha256('x'), session_id, now(), now() from api.sessions",
            "refresh_tokens_one_unspent_per_session",
        ),
        (
            "a token itself instead of its digest",
            "insert into api.refresh_tokens (digest, session_id, issued_at, expires_at, spent_at)
             select 'rt_secret', session_id, now(), now(), now() from api.sessions",
            "refresh_tokens_digest_is_sha256",
        ),
    ] {
        let refused = stage.meddle(statement).await.expect_err(what).to_string();
        assert!(refused.contains(refusal), "{what}: {refused}");
    }
    stage.end().await;
}

#[tokio::test]
async fn postgres_keeps_no_token_that_could_be_used() {
    let stage = Stage::start(&[]).await;
    let session = stage.sign_in("ada").await;
    let token = session["refresh_token"].as_str().unwrap();
    let rows: Vec<String> = sqlx::query_scalar("select t::text from api.refresh_tokens t")
        .fetch_all(&stage.database.pool)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    let secret = api::session::RefreshToken::parse(token).unwrap();
    let digest: String = secret.digest().iter().map(|b| format!("{b:02x}")).collect();
    assert!(rows[0].contains(&digest), "{}", rows[0]);
    assert!(!rows[0].contains(&token[3..]), "{}", rows[0]);
    stage.end().await;
}
