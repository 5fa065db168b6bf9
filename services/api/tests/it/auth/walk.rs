//! To the provider and back: who gets in, who does not, and that it happens once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use primitives::{Timestamp, UserId, WalletNumber};
use serde_json::{Value, json};
use sha2::Digest as _;
use testkit::eventually;
use url::Url;

use super::provider::{Answer, CLIENT_ID, SigningKey};
use super::stage::{Stage, stand_in_for_keys};

#[tokio::test]
async fn a_first_sign_in_makes_a_person_with_a_wallet() {
    let stage = Stage::start(&[]).await;
    let walk = stage.begin("?login_hint=ada%40example.com").await;
    let asked: std::collections::BTreeMap<_, _> = walk.url.query_pairs().into_owned().collect();
    for (name, expected) in [
        ("client_id", CLIENT_ID),
        ("redirect_uri", "http://wallet.test/auth/google/callback"),
        ("response_type", "code"),
        ("scope", "openid email profile"),
        ("code_challenge_method", "S256"),
        ("login_hint", "ada@example.com"),
    ] {
        assert_eq!(asked[name], expected, "{name}");
    }
    for (what, value) in [("state", &walk.state), ("nonce", &walk.nonce), ("PKCE", &walk.challenge)]
    {
        assert_eq!(value.len(), 43, "{what}: {value}");
    }
    let cookie = walk.answer.header("set-cookie");
    assert!(cookie.contains("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(walk.answer.header("cache-control"), "no-store");

    stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
    let answer = stage.finish(&walk, "code").await;
    assert!(answer.header("set-cookie").contains("Max-Age=0"), "the cookie is taken away");
    assert_eq!(answer.header("cache-control"), "no-store");
    let session: Value = answer.ok();
    assert_eq!(session["token_type"], "bearer");
    assert_eq!(session["expires_in"], 1_800);
    assert_eq!(session["user"]["email"], "ada@example.com");
    assert_eq!(session["user"]["name"], "Person ada");
    assert!(UserId::parse(session["user"]["id"].as_str().unwrap()).is_ok());
    assert!(WalletNumber::parse(session["user"]["wallet_number"].as_str().unwrap()).is_ok());
    assert!(Timestamp::parse(session["user"]["created_at"].as_str().unwrap()).is_ok());

    let me = stage.client().get("/auth/me").bearer(session["access_token"].as_str().unwrap());
    assert_eq!(me.send().await.ok::<Value>(), session["user"]);

    let again = stage.sign_in("ada").await;
    assert_eq!(again["user"], session["user"], "the same person");
    assert_eq!(stage.ledger.n_opened.load(Ordering::SeqCst), 1, "the ledger is asked once");
    assert_eq!(stage.provider.n_discoveries(), 1, "discovery is kept");
    assert_eq!(stage.provider.n_key_fetches(), 1, "keys are kept");
    stage.end().await;
}

#[tokio::test]
async fn ten_first_callbacks_at_once_make_one_person_with_one_wallet() {
    let stage = Stage::start(&[]).await;
    let mut walks = Vec::new();
    for n in 0..10 {
        let walk = stage.begin("").await;
        stage.vouch(&walk, &format!("code-{n}"), &stage.provider.claims("ada", &walk.nonce));
        walks.push((walk, format!("code-{n}")));
    }
    // Nobody is written down before all ten have spent their codes.
    stage.provider.answer_together(10);
    let answers = join_all(walks.iter().map(|(walk, code)| stage.finish(walk, code))).await;
    let sessions: Vec<Value> = answers.iter().map(testkit::Answer::ok).collect();
    for session in &sessions {
        assert_eq!(session["user"], sessions[0]["user"]);
        let me = stage.client().get("/auth/me").bearer(session["access_token"].as_str().unwrap());
        assert_eq!(me.send().await.ok::<Value>(), session["user"], "everybody got a token");
    }
    for (table, expected) in [
        ("select count(*) from api.users", 1),
        ("select count(*) from api.wallets where opened_at is not null", 1),
        ("select count(*) from api.sessions", 10),
    ] {
        assert_eq!(stage.count(table).await, expected, "{table}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_state_opens_nothing_in_another_browser() {
    let stage = Stage::start(&[]).await;
    let (walk, other) = (stage.begin("").await, stage.begin("").await);
    stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
    let path = format!("/auth/google/callback?code=code&state={}", walk.state);
    let garbled = format!("{}x", walk.cookie);
    let doctored = walk.cookie.replace('=', "=e30.");
    for (what, path, cookie) in [
        ("no cookie", path.as_str(), ""),
        ("another browser's cookie", &path, other.cookie.as_str()),
        ("a garbled cookie", &path, &garbled),
        ("a doctored cookie", &path, &doctored),
        ("another state", "/auth/google/callback?code=code&state=x", &walk.cookie),
        ("no state", "/auth/google/callback?code=code", &walk.cookie),
        ("a test code", "/auth/google/callback?code=test_code", &walk.cookie),
        ("nothing", "/auth/google/callback", ""),
    ] {
        let answer = stage.client().get(path).header("cookie", cookie).send().await;
        answer.problem(400, "invalid_state");
        assert_eq!(answer.header("set-cookie"), "", "{what}: no cookie for a stranger");
    }
    assert_eq!(stage.count("select count(*) from api.users").await, 0);
    // The provider was never asked, so the right browser still gets in.
    stage.finish(&walk, "code").await.ok::<Value>();
    stage.end().await;
}

#[tokio::test]
async fn a_state_works_once() {
    let stage = Stage::start(&[]).await;
    let walk = stage.begin("").await;
    for n in 0..8 {
        stage.vouch(&walk, &format!("code-{n}"), &stage.provider.claims("ada", &walk.nonce));
    }
    // Eight good codes for one state, all spent before the state is: it still works once.
    stage.provider.answer_together(8);
    let codes: Vec<String> = (0..8).map(|n| format!("code-{n}")).collect();
    let answers = join_all(codes.iter().map(|code| stage.finish(&walk, code))).await;
    let n_good = answers.iter().filter(|it| it.status == 200).count();
    assert_eq!(n_good, 1);
    for answer in answers.iter().filter(|it| it.status != 200) {
        answer.problem(400, "invalid_state");
    }
    stage.provider.answer_at_once();
    stage.vouch(&walk, "late", &stage.provider.claims("ada", &walk.nonce));
    stage.finish(&walk, "late").await.problem(400, "invalid_state");
    assert_eq!(stage.count("select count(*) from api.sessions").await, 1);
    stage.end().await;
}

#[tokio::test]
async fn an_id_token_that_proves_nothing_lets_nobody_in() {
    let stage = Stage::start(&[]).await;
    let now = Timestamp::now().seconds();
    for (changes, code) in [
        (json!({"iss": "https://accounts.google.com"}), "invalid_token"),
        (json!({"iss": "accounts.google.com"}), "invalid_token"),
        (json!({"aud": "another-client"}), "invalid_token"),
        (json!({"aud": [CLIENT_ID, "another-client"]}), "invalid_token"),
        (json!({"azp": "another-client"}), "invalid_token"),
        (json!({"exp": now - 120}), "invalid_token"),
        (json!({"iat": now + 3_600}), "invalid_token"),
        (json!({"sub": ""}), "invalid_token"),
        (json!({"sub": "x".repeat(256)}), "invalid_token"),
        (json!({"nonce": "another"}), "invalid_state"),
        (json!({"nonce": null}), "invalid_state"),
    ] {
        let answer = stage.walk("ada", &changes).await;
        answer.problem(if code == "invalid_state" { 400 } else { 401 }, code);
    }
    assert_eq!(stage.count("select count(*) from api.users").await, 0);
    stage.end().await;
}

#[tokio::test]
async fn an_id_token_signed_in_any_other_way_lets_nobody_in() {
    let stage = Stage::start(&[]).await;
    let impostor = SigningKey::new("first");
    let unknown = SigningKey::new("unknown");
    let part = |it: Value| BASE64_URL_SAFE_NO_PAD.encode(it.to_string());
    for what in ["none", "HS256", "impostor", "unknown kid", "stripped", "no token"] {
        let walk = stage.begin("").await;
        let claims = stage.provider.claims("ada", &walk.nonce);
        let good = stage.provider.key.sign(&claims);
        let forged = match what {
            "none" => {
                let header = part(json!({"alg": "none", "kid": "first"}));
                format!("{header}.{}.", part(claims))
            }
            "HS256" => {
                let header = part(json!({"alg": "HS256", "kid": "first"}));
                let text = format!("{header}.{}", part(claims));
                let key = stage.provider.key.public_bytes();
                let signature = api::session::keyed_digest(&key, text.as_bytes());
                format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
            }
            "impostor" => impostor.sign(&claims),
            "unknown kid" => unknown.sign(&claims),
            "stripped" => good.rsplit_once('.').unwrap().0.to_owned() + ".",
            _ => "nothing like a token".to_owned(),
        };
        stage.answer(&walk, what, forged);
        let path =
            format!("/auth/google/callback?state={}&code={}", walk.state, what.replace(' ', "+"),);
        let answer = stage.client().get(&path).header("cookie", &walk.cookie).send().await;
        answer.problem(401, "invalid_token");
    }
    assert_eq!(stage.count("select count(*) from api.users").await, 0);
    for n in 0..20 {
        let walk = stage.begin("").await;
        let claims = stage.provider.claims("ada", &walk.nonce);
        stage.answer(&walk, "code", stage.provider.key.sign_as(&format!("unknown-{n}"), &claims));
        stage.finish(&walk, "code").await.problem(401, "invalid_token");
    }
    let n_fetches = stage.provider.n_key_fetches();
    assert!(n_fetches < 10, "unknown key ids do not hammer the provider: {n_fetches} fetches");
    stage.end().await;
}

#[tokio::test]
async fn the_provider_may_change_its_key() {
    let stage = Stage::start(&[]).await;
    stage.sign_in("ada").await;
    let second = SigningKey::new("second");
    stage.provider.publish(&[&second]);
    eventually("the new key is believed", Duration::from_secs(20), async || {
        let walk = stage.begin("").await;
        let claims = stage.provider.claims("ada", &walk.nonce);
        stage.answer(&walk, "code", second.sign(&claims));
        let answer = stage.finish(&walk, "code").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(stage.provider.n_key_fetches(), 2, "fetched again once, whatever came meanwhile");
    stage.end().await;
}

#[tokio::test]
async fn a_broken_provider_is_a_502_and_the_state_survives_it() {
    let stage = Stage::start(&[]).await;
    let walk = stage.begin("").await;
    // Good, but for its size.
    let id_token = stage.provider.key.sign(&stage.provider.claims("ada", &walk.nonce));
    let large = json!({"id_token": id_token, "more": "x".repeat(300 * 1024)}).to_string();
    for (status, body) in [
        (500, "oops"),
        (503, ""),
        (429, "{}"),
        (302, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"error": "invalid_grant"}"#),
        (401, r#"{"error": "invalid_client"}"#),
        (200, &large),
    ] {
        stage.provider.answer("code", Answer::Text { status, body: body.to_owned() });
        let answer = stage.finish(&walk, "code").await;
        answer.problem(502, "provider_unavailable");
        assert_ne!(answer.header("retry-after"), "", "{status}");
        assert!(!answer.text().contains("invalid_client"), "no inner message");
    }
    assert_eq!(stage.provider.n_redirected(), 0, "the secret goes nowhere else");
    stage.finish(&walk, "unknown").await.problem(400, "invalid_state");
    let stolen = Answer::Token { id_token: String::new(), challenge: "another".to_owned() };
    stage.provider.answer("stolen", stolen);
    stage.finish(&walk, "stolen").await.problem(400, "invalid_state");
    stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
    stage.finish(&walk, "code").await.ok::<Value>();
    stage.end().await;
}

#[tokio::test]
async fn a_provider_that_is_another_or_away_is_a_502() {
    let mut stage = Stage::start(&[]).await;
    stage.provider.pretend_to_be("https://accounts.google.com");
    stage.client().get("/auth/google").send().await.problem(502, "provider_unavailable");
    let issuer = stage.provider.issuer.clone();
    stage.provider.pretend_to_be(&issuer);
    stage.begin("").await;

    let away = stage.replica(&[("--oidc-issuer", "http://127.0.0.1:9/op")]).await;
    away.client.get("/auth/google").send().await.problem(502, "provider_unavailable");
    std::mem::replace(&mut stage.replica, away).end().await;
    stage.end().await;
}

#[tokio::test]
async fn a_person_may_say_no() {
    let stage = Stage::start(&[]).await;
    let no = |walk: &super::stage::Walk, error: &str| {
        let path = format!("/auth/google/callback?error={error}&state={}", walk.state);
        stage.client().get(&path).header("cookie", &walk.cookie)
    };
    let walk = stage.begin("").await;
    no(&walk, "access_denied").send().await.problem(400, "invalid_state");
    no(&walk, "server_error").send().await.problem(502, "provider_unavailable");
    // An app that waits is told so; and the person may change their mind.
    let walk = stage.begin("?return_to=https%3A%2F%2Fapp.test%2Fdone").await;
    let answer = no(&walk, "access_denied").send().await;
    assert_eq!(answer.expect(303).header("location"), "https://app.test/done#error=access_denied");
    stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
    stage.finish(&walk, "code").await.expect(303);
    stage.end().await;
}

#[tokio::test]
async fn tokens_return_only_to_allowed_origins() {
    let stage = Stage::start(&[]).await;
    for refused in [
        "https://evil.test/",
        "https://app.test.evil.test/",
        "https://app.test@evil.test/",
        "https://user@app.test/",
        "http://app.test/",
        "https://app.test:8443/",
        "//app.test/",
        "/done",
        "javascript:alert(1)//https://app.test",
        "https://app.test/#fragment",
        "",
    ] {
        let query: String = url::form_urlencoded::byte_serialize(refused.as_bytes()).collect();
        let answer = stage.client().get(&format!("/auth/google?return_to={query}")).send().await;
        let problem = answer.problem(400, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], "return_to", "{refused}");
    }
    let long = format!("/auth/google?return_to=https://app.test/{}", "x".repeat(1_024));
    stage.client().get(&long).send().await.problem(400, "invalid_field");
    let hint = format!("/auth/google?login_hint={}", "x".repeat(321));
    stage.client().get(&hint).send().await.problem(400, "invalid_field");

    let walk = stage.begin("?return_to=https%3A%2F%2Fapp.test%2Fdone%3Fa%3Db").await;
    stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
    let answer = stage.finish(&walk, "code").await;
    let url = Url::parse(answer.expect(303).header("location")).unwrap();
    assert_eq!(url.as_str().split_once('#').unwrap().0, "https://app.test/done?a=b");
    let fragment: std::collections::BTreeMap<_, _> =
        url::form_urlencoded::parse(url.fragment().unwrap().as_bytes()).into_owned().collect();
    assert_eq!(fragment["expires_in"], "1800");
    let me = stage.client().get("/auth/me").bearer(&fragment["access_token"]).send().await;
    assert_eq!(me.ok::<Value>()["name"], "Person ada");
    let body = json!({"refresh_token": fragment["refresh_token"]});
    stage.client().post("/auth/refresh").json(&body).send().await.ok::<Value>();
    stage.end().await;
}

#[tokio::test]
async fn the_callback_may_be_posted_as_json_or_as_a_form() {
    let stage = Stage::start(&[]).await;
    for form in [false, true] {
        let walk = stage.begin("").await;
        stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
        let call = stage.client().post("/auth/google/callback").header("cookie", &walk.cookie);
        let call = if form {
            call.form(&[("code", "code"), ("state", &walk.state), ("scope", "openid email")])
        } else {
            call.json(&json!({"code": "code", "state": walk.state}))
        };
        assert_eq!(call.send().await.ok::<Value>()["user"]["name"], "Person ada");
    }
    let post = || stage.client().post("/auth/google/callback");
    post().json(&json!({"code": "test_code"})).send().await.problem(400, "invalid_state");
    post().json(&json!({"code": 5})).send().await.problem(400, "invalid_field");
    post().body("application/json", "{").send().await.problem(400, "malformed_request");
    post().body("text/plain", "code=a").send().await.problem(415, "unsupported_media_type");
    let walk = stage.begin("").await;
    let call = post().header("cookie", &walk.cookie).json(&json!({"state": walk.state}));
    assert_eq!(call.send().await.problem(400, "invalid_field")["errors"][0]["field"], "code");
    stage.end().await;
}

#[tokio::test]
async fn a_redirect_from_another_provider_is_refused() {
    let stage = Stage::start(&[]).await;
    let walk = stage.begin("").await;
    stage.vouch(&walk, "code", &stage.provider.claims("ada", &walk.nonce));
    let back = |iss: &str| {
        let path = format!("/auth/google/callback?code=code&state={}&iss={iss}", walk.state);
        stage.client().get(&path).header("cookie", &walk.cookie)
    };
    back("https://evil.test").send().await.problem(400, "invalid_state");
    back(&stage.provider.issuer).send().await.ok::<Value>();
    stage.end().await;
}

#[tokio::test]
async fn the_subject_is_the_person_and_the_email_only_what_was_last_said() {
    let stage = Stage::start(&[]).await;
    let first: Value = stage.walk("ada", &json!({"email": "ada@old.test"})).await.ok();
    for (changes, email, name) in [
        (
            json!({"email": "ada@new.test", "name": "Ada Obi"}),
            json!("ada@new.test"),
            json!("Ada Obi"),
        ),
        (json!({"email_verified": false}), json!(null), json!("Person ada")),
        (json!({"email": null, "name": null}), json!(null), json!(null)),
        (json!({"name": "A\u{0}da"}), json!("ada@example.com"), json!("Ada")),
    ] {
        let session: Value = stage.walk("ada", &changes).await.ok();
        assert_eq!(session["user"]["email"], email, "{changes}");
        assert_eq!(session["user"]["name"], name, "{changes}");
        for same in ["id", "wallet_number", "created_at"] {
            assert_eq!(session["user"][same], first["user"][same], "{changes}");
        }
    }
    // An e-mail address is no key: another subject with the same one is another person.
    let other: Value = stage.walk("eve", &json!({"email": "ada@example.com"})).await.ok();
    assert_ne!(other["user"]["id"], first["user"]["id"]);
    assert_ne!(other["user"]["wallet_number"], first["user"]["wallet_number"]);
    stage.end().await;
}

#[tokio::test]
async fn nobody_gets_a_token_before_the_account_is_open() {
    let stage = Stage::start(&[]).await;
    stage.ledger.is_away.store(true, Ordering::SeqCst);
    let answer = stage.walk("ada", &json!({})).await;
    answer.problem(503, "service_unavailable");
    assert_ne!(answer.header("retry-after"), "");
    assert_eq!(stage.count("select count(*) from api.sessions").await, 0);
    stage.ledger.is_away.store(false, Ordering::SeqCst);
    stage.sign_in("ada").await;
    assert_eq!(stage.count("select count(*) from api.wallets").await, 1);
    assert_eq!(stage.ledger.n_opened.load(Ordering::SeqCst), 2, "asked again, and then no more");
    stage.end().await;
}

#[tokio::test]
async fn the_test_code_signs_in_only_where_it_is_switched_on() {
    let stage = Stage::start(&[("--api-allow-test-code", "true")]).await;
    let quick = "/auth/google/callback?code=test_code";
    // Without a walk there is neither nonce nor PKCE.
    let vouch = |subject: &str| {
        let mut claims = stage.provider.claims(subject, "");
        claims["nonce"] = json!(null);
        let id_token = stage.provider.key.sign(&claims);
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(""));
        stage.provider.answer("test_code", Answer::Token { id_token, challenge });
    };
    vouch("ada");
    let first: Value = stage.client().get(quick).send().await.ok();
    stage.client().get(quick).send().await.problem(400, "invalid_state");
    vouch("ada");
    let again: Value = stage.client().get(quick).send().await.ok();
    assert_eq!(first["user"], again["user"]);
    let with_state = format!("{quick}&state=x");
    stage.client().get(&with_state).send().await.problem(400, "invalid_state");
    let posted = stage.client().post("/auth/google/callback").json(&json!({"code": "test_code"}));
    posted.send().await.problem(400, "invalid_state");
    stage.end().await;
}

#[tokio::test]
async fn sign_in_is_for_people() {
    let stage = Stage::start(&[]).await;
    let session = stage.sign_in("ada").await;
    let user = UserId::parse(session["user"]["id"].as_str().unwrap()).unwrap();
    let context = testkit::context(&stage.nats).await;
    stand_in_for_keys(&context, user).await;
    let key = format!("sk_test_{}", "A".repeat(43));
    let refresh = json!({"refresh_token": session["refresh_token"]});
    for call in [
        stage.client().get("/auth/me"),
        stage.client().get("/auth/google"),
        stage.client().get("/auth/google/callback?code=a&state=b"),
        stage.client().post("/auth/google/callback").json(&json!({"code": "a"})),
        stage.client().post("/auth/refresh").json(&refresh),
        stage.client().post("/auth/logout").json(&refresh),
    ] {
        call.api_key(&key).send().await.problem(403, "user_session_required");
    }
    let token = session["access_token"].as_str().unwrap();
    let both = stage.client().get("/auth/me").bearer(token).api_key(&key);
    both.send().await.problem(400, "ambiguous_credentials");
    let wrong = stage.client().get("/auth/me").api_key("sk_test_wrong");
    wrong.send().await.problem(401, "invalid_api_key");
    stage.client().get("/auth/me").bearer(token).send().await.ok::<Value>();
    context.shutdown().cancel();
    assert_eq!(context.drain(Duration::from_secs(10)).await, Ok(()));
    stage.end().await;
}
