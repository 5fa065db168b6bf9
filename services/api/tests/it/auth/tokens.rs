//! Our own tokens over HTTP: refreshed, reused, ended, rotated, forged.

use std::time::Duration;

use api::session::{Access, AccessTokens, Algorithm, Keyring};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use primitives::{SessionId, Timestamp, UserId};
use serde_json::{Value, json};
use testkit::{Answer, Client, eventually};

use super::stage::{FIRST_KEY, PUBLIC_URL, SECOND_KEY, Stage};

async fn refresh(client: &Client, session: &Value) -> Answer {
    let body = json!({"refresh_token": session["refresh_token"]});
    client.post("/auth/refresh").json(&body).send().await
}

async fn logout(client: &Client, session: &Value) -> Answer {
    let body = json!({"refresh_token": session["refresh_token"]});
    client.post("/auth/logout").json(&body).send().await
}

async fn me(client: &Client, session: &Value) -> Answer {
    client.get("/auth/me").bearer(session["access_token"].as_str().unwrap()).send().await
}

#[tokio::test]
async fn a_refresh_spends_the_old_token_for_a_new_pair() {
    let stage = Stage::start(&[]).await;
    let mut session = stage.sign_in("ada").await;
    for _ in 0..3 {
        let next: Value = refresh(stage.client(), &session).await.ok();
        assert_eq!(next["user"], session["user"]);
        assert_ne!(next["refresh_token"], session["refresh_token"]);
        assert_ne!(next["access_token"], session["access_token"]);
        me(stage.client(), &next).await.ok::<Value>();
        me(stage.client(), &session).await.ok::<Value>();
        session = next;
    }
    let kept = "select count(*) from api.refresh_tokens where spent_at is null";
    assert_eq!(stage.count(kept).await, 1);
    stage.end().await;
}

#[tokio::test]
async fn a_spent_refresh_token_ends_the_whole_session() {
    let stage = Stage::start(&[]).await;
    let first = stage.sign_in("ada").await;
    let second: Value = refresh(stage.client(), &first).await.ok();
    let third: Value = refresh(stage.client(), &second).await.ok();
    let other = stage.sign_in("ada").await;

    // Even one that was spent two refreshes ago.
    refresh(stage.client(), &first).await.problem(401, "invalid_token");
    refresh(stage.client(), &third).await.problem(401, "invalid_token");
    for session in [&first, &second, &third] {
        let answer = me(stage.client(), session).await;
        answer.problem(401, "invalid_token");
        assert_eq!(answer.header("www-authenticate"), r#"Bearer error="invalid_token""#);
    }
    me(stage.client(), &other).await.ok::<Value>();
    refresh(stage.client(), &other).await.ok::<Value>();
    let reused = "select count(*) from api.sessions where ended_because = 'refresh_token_reused'";
    assert_eq!(stage.count(reused).await, 1);
    stage.end().await;
}

#[tokio::test]
async fn of_many_refreshes_at_once_one_wins_and_the_session_ends() {
    let stage = Stage::start(&[]).await;
    let session = stage.sign_in("ada").await;
    let answers = join_all((0..10).map(|_| refresh(stage.client(), &session))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.status == 200);
    assert_eq!(won.len(), 1);
    for answer in lost {
        answer.problem(401, "invalid_token");
    }
    let won: Value = won[0].ok();
    refresh(stage.client(), &won).await.problem(401, "invalid_token");
    me(stage.client(), &won).await.problem(401, "invalid_token");
    stage.end().await;
}

#[tokio::test]
async fn a_logout_ends_one_session_at_once() {
    let stage = Stage::start(&[]).await;
    let (session, other) = (stage.sign_in("ada").await, stage.sign_in("ada").await);
    me(stage.client(), &session).await.ok::<Value>();
    assert!(logout(stage.client(), &session).await.expect(204).body.is_empty());
    me(stage.client(), &session).await.problem(401, "invalid_token");
    refresh(stage.client(), &session).await.problem(401, "invalid_token");
    logout(stage.client(), &session).await.expect(204);
    me(stage.client(), &other).await.ok::<Value>();
    let logged_out = "select count(*) from api.sessions where ended_because = 'logout'";
    assert_eq!(stage.count(logged_out).await, 1);
    stage.end().await;
}

#[tokio::test]
async fn a_logout_is_known_to_every_replica_within_seconds() {
    let stage = Stage::start(&[]).await;
    let replica = stage.replica(&[]).await;
    let session = stage.sign_in("ada").await;
    me(&replica.client, &session).await.ok::<Value>();
    logout(stage.client(), &session).await.expect(204);
    eventually("the other replica hears of it", Duration::from_secs(10), async || {
        let answer = me(&replica.client, &session).await;
        if answer.status == 401 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    replica.end().await;
    stage.end().await;
}

#[tokio::test]
async fn keys_rotate_and_nobody_is_signed_out() {
    let stage = Stage::start(&[]).await;
    let session = stage.sign_in("ada").await;
    let both = format!("{SECOND_KEY},{FIRST_KEY}");
    let rotated = stage.replica(&[("--api-token-keys", &both)]).await;
    me(&rotated.client, &session).await.ok::<Value>();
    let next: Value = refresh(&rotated.client, &session).await.ok();
    let header = next["access_token"].as_str().unwrap().split('.').next().unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!((&header["kid"], &header["alg"]), (&json!("k2"), &json!("HS256")));

    // When the last old token has expired, the old key goes.
    let last = stage.replica(&[("--api-token-keys", SECOND_KEY)]).await;
    me(&last.client, &next).await.ok::<Value>();
    me(&last.client, &session).await.problem(401, "invalid_token");

    // A person who was at the provider meanwhile comes back to a rotated replica.
    let walk = stage.begin("").await;
    stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
    let path = format!("/auth/google/callback?code=code&state={}", walk.state);
    rotated.client.get(&path).header("cookie", &walk.cookie).send().await.ok::<Value>();
    rotated.end().await;
    last.end().await;
    stage.end().await;
}

#[tokio::test]
async fn an_access_token_is_believed_only_if_it_is_ours() {
    let stage = Stage::start(&[]).await;
    let session = stage.sign_in("ada").await;
    let good = session["access_token"].as_str().unwrap();
    let user = UserId::parse(session["user"]["id"].as_str().unwrap()).unwrap();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (_, claims) = head.split_once('.').unwrap();
    let claims_text = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let said: Value = serde_json::from_slice(&claims_text).unwrap();
    let id = SessionId::parse(said["sid"].as_str().unwrap()).unwrap();
    let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT","kid":"k1"}"#);

    let mint = |keys: &str, origin: &str, access: &dyn Fn(&AccessTokens) -> Access| {
        let keyring = Keyring::parse(Algorithm::Hs256, keys).unwrap();
        let tokens = AccessTokens::new(keyring, origin, Duration::from_mins(30));
        tokens.mint(&access(&tokens)).unwrap()
    };
    let now = Timestamp::now();
    let own = |tokens: &AccessTokens| tokens.access(user, id, uuid::Uuid::nil(), now);
    let old = |tokens: &AccessTokens| {
        tokens.access(user, id, uuid::Uuid::nil(), now.minus(Duration::from_hours(1)))
    };
    let eve = stage.sign_in("eve").await;
    let eve = UserId::parse(eve["user"]["id"].as_str().unwrap()).unwrap();
    let strange = |tokens: &AccessTokens| tokens.access(eve, id, uuid::Uuid::nil(), now);
    let made_up =
        |tokens: &AccessTokens| tokens.access(user, SessionId::generate(), uuid::Uuid::nil(), now);
    let same_kid = SECOND_KEY.replace("k2", "k1");
    for (what, token, code) in [
        ("another key", mint(&same_kid, PUBLIC_URL, &own), "invalid_token"),
        ("an unknown key", mint(SECOND_KEY, PUBLIC_URL, &own), "invalid_token"),
        ("another origin", mint(FIRST_KEY, "http://elsewhere.test", &own), "invalid_token"),
        ("an expired one", mint(FIRST_KEY, PUBLIC_URL, &old), "expired_token"),
        ("another person's session", mint(FIRST_KEY, PUBLIC_URL, &strange), "invalid_token"),
        ("a session that never was", mint(FIRST_KEY, PUBLIC_URL, &made_up), "invalid_token"),
        ("alg none", format!("{none}.{claims}."), "invalid_token"),
        ("alg none, signed", format!("{none}.{claims}.{signature}"), "invalid_token"),
        ("no signature", format!("{head}."), "invalid_token"),
        ("a refresh token", session["refresh_token"].as_str().unwrap().to_owned(), "invalid_token"),
        ("noise", "a.b.c".to_owned(), "invalid_token"),
    ] {
        let answer = stage.client().get("/auth/me").bearer(&token).send().await;
        assert_eq!(answer.problem(401, code)["code"], code, "{what}");
    }
    stage
        .client()
        .get("/auth/me")
        .bearer(&mint(FIRST_KEY, PUBLIC_URL, &own))
        .send()
        .await
        .ok::<Value>();
    let nobody = stage.client().get("/auth/me").send().await;
    nobody.problem(401, "missing_credentials");
    assert_eq!(nobody.header("www-authenticate"), "Bearer");
    stage.end().await;
}

#[tokio::test]
async fn a_refresh_token_is_read_strictly_and_expires() {
    let stage = Stage::start(&[]).await;
    let session = stage.sign_in("ada").await;
    for path in ["/auth/refresh", "/auth/logout"] {
        let post = |body: Value| stage.client().post(path).json(&body);
        for unknown in [
            json!(format!("rt_{}", "A".repeat(43))),
            json!("rt_"),
            json!("x".repeat(10_000)),
            session["access_token"].clone(),
        ] {
            let answer = post(json!({"refresh_token": unknown})).send().await;
            answer.problem(401, "invalid_token");
        }
        for wrong in [json!({}), json!({"refresh_token": null}), json!({"refresh_token": 5})] {
            post(wrong).send().await.problem(400, "invalid_field");
        }
        let bare = stage.client().post(path).body("application/json", "").send().await;
        bare.problem(400, "malformed_request");
    }
    let aged = "update api.refresh_tokens set expires_at = now() - interval '1 second'";
    stage.meddle(aged).await.unwrap();
    refresh(stage.client(), &session).await.problem(401, "expired_token");
    me(stage.client(), &session).await.ok::<Value>();
    stage.end().await;
}

#[tokio::test]
async fn what_nobody_can_use_any_more_is_forgotten() {
    let stage = Stage::start(&[]).await;
    stage.sign_in("ada").await;
    for aged in [
        "update api.sessions set expires_at = now() - interval '1 second'",
        "update api.burnt_states set expires_at = now() - interval '1 second'",
    ] {
        stage.meddle(aged).await.unwrap();
    }
    stage.sign_in("ada").await;
    for (table, expected) in [
        ("select count(*) from api.sessions", 1),
        ("select count(*) from api.refresh_tokens", 1),
        ("select count(*) from api.burnt_states", 1),
        ("select count(*) from api.users", 1),
    ] {
        assert_eq!(stage.count(table).await, expected, "{table}");
    }
    stage.end().await;
}
