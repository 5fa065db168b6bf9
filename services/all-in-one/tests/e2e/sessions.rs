//! Sessions, as browsers and apps live them: signing in, refreshing, leaving, and what a thief gets.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use primitives::WalletNumber;
use reqwest::Url;
use serde_json::{Value, json};
use testkit::{Answer, Call, Client, eventually};

use crate::stale;
use crate::world::{Person, Service, WAIT, World, text};

const APP: &str = "https://app.example";

fn refresh(world: &World, token: &str) -> Call {
    world.client.post("/auth/refresh").json(&json!({ "refresh_token": token }))
}

fn logout(world: &World, token: &str) -> Call {
    world.client.post("/auth/logout").json(&json!({ "refresh_token": token }))
}

fn me(world: &World, token: &str) -> Call {
    world.client.get("/auth/me").bearer(token)
}

/// Every pair of tokens that a session ever had is worthless, within seconds.
async fn insist_on_the_end(world: &World, access_tokens: &[&str], refresh_tokens: &[&str]) {
    for token in access_tokens {
        eventually("the access token is refused", WAIT, async || {
            let answer = me(world, token).send().await;
            if answer.status == 401 { Ok(answer) } else { Err(answer.text()) }
        })
        .await
        .problem(401, "invalid_token");
    }
    for token in refresh_tokens {
        refresh(world, token).send().await.problem(401, "invalid_token");
    }
}

#[tokio::test]
async fn refreshing_gives_new_tokens_and_a_spent_one_ends_the_session() {
    let world = World::start().await;
    let ada = world.person("ada@example.com").await;
    let elsewhere = world.person("ada@example.com").await;
    let answer = refresh(&world, &ada.refresh_token).send().await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let second: Value = answer.ok();
    assert_eq!((&second["token_type"], &second["expires_in"]), (&json!("bearer"), &json!(1_800)));
    assert_eq!(second["user"]["wallet_number"], ada.wallet_number.as_str());
    let (access, spare) = (text(&second, "access_token"), text(&second, "refresh_token"));
    assert!(access != ada.token && spare != ada.refresh_token, "both are new");
    let (old, new) = (stale::claims(&ada.token), stale::claims(&access));
    assert_eq!((&old["sub"], &old["sid"]), (&new["sub"], &new["sid"]), "the same session");
    assert_ne!(old["jti"], new["jti"]);
    me(&world, &access).send().await.expect(200);
    me(&world, &ada.token).send().await.expect(200);

    // A copy of the first refresh token turns up: whoever has the second one is signed out as well.
    refresh(&world, &ada.refresh_token).send().await.problem(401, "invalid_token");
    let spent = [ada.refresh_token.as_str(), &spare];
    insist_on_the_end(&world, &[&ada.token, &access], &spent).await;
    me(&world, &elsewhere.token).send().await.expect(200);
    refresh(&world, &elsewhere.refresh_token).send().await.expect(200);
    world.finish().await;
}

#[tokio::test]
async fn of_refreshes_at_once_one_wins_and_the_session_ends() {
    let world = World::start().await;
    let ada = world.person("ada@example.com").await;
    let answers = join_all((0..8).map(|_| refresh(&world, &ada.refresh_token).send())).await;
    let won: Vec<Value> = answers.iter().filter(|it| it.status == 200).map(Answer::ok).collect();
    assert_eq!(won.len(), 1, "two chains of tokens would hide a thief");
    for lost in answers.iter().filter(|it| it.status != 200) {
        lost.problem(401, "invalid_token");
    }
    let (access, spare) = (text(&won[0], "access_token"), text(&won[0], "refresh_token"));
    insist_on_the_end(&world, &[&ada.token, &access], &[&spare]).await;
    world.finish().await;
}

#[tokio::test]
async fn leaving_ends_the_session_and_no_other() {
    let world = World::start().await;
    let ada = world.person("ada@example.com").await;
    let elsewhere = world.person("ada@example.com").await;
    let answer = logout(&world, &ada.refresh_token).send().await;
    assert!(answer.expect(204).body.is_empty());
    insist_on_the_end(&world, &[&ada.token], &[&ada.refresh_token]).await;
    logout(&world, &ada.refresh_token).send().await.expect(204);
    logout(&world, "rt_nonsense").send().await.problem(401, "invalid_token");
    me(&world, &elsewhere.token).send().await.expect(200);
    world.finish().await;
}

#[tokio::test]
async fn ten_first_sign_ins_at_once_make_one_person_with_one_wallet() {
    let world = World::start().await;
    let (email, mut calls) = ("ada@example.com", Vec::new());
    for _ in 0..10 {
        calls.push(world.callback(&world.client, email).await);
    }
    let answers = join_all(calls.into_iter().map(Call::send)).await;
    let sessions: Vec<Value> = answers.iter().map(Answer::ok).collect();
    let distinct = |name: &str| {
        let values = sessions.iter().map(|it| it.pointer(name).unwrap().to_string());
        values.collect::<BTreeSet<_>>().len()
    };
    assert_eq!((distinct("/user/id"), distinct("/user/wallet_number")), (1, 1));
    assert_eq!((distinct("/access_token"), distinct("/refresh_token")), (10, 10));
    for session in &sessions {
        let call = world.client.get("/wallet/balance").bearer(&text(session, "access_token"));
        let balance: Value = call.send().await.ok();
        assert_eq!(balance["balance"], 0, "a wallet that works at once");
        assert_eq!(balance["wallet_number"], session["user"]["wallet_number"]);
    }
    let counted: (i64, i64) = sqlx::query_as(
        "select (select count(*) from api.users), (select count(*) from api.wallets)",
    )
    .fetch_one(world.database(Service::Api))
    .await
    .unwrap();
    assert_eq!(counted, (1, 1));

    // The very same redirect ten times at once is one sign-in.
    let (cookie, query) = world.come_back(&world.client, email).await;
    let path = format!("/auth/google/callback?{query}");
    let calls = (0..10).map(|_| world.client.get(&path).header("cookie", &cookie).send());
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|it| it.status == 200).count(), 1);
    for refused in answers.iter().filter(|it| it.status != 200) {
        refused.problem(400, "invalid_state");
    }
    world.finish().await;
}

/// Whatever a thief, or a link somebody was lured to, lacks: it is refused, and the person whose
/// sign-in it was goes on unharmed.
#[tokio::test]
async fn a_stolen_or_foreign_state_signs_nobody_in() {
    let world = World::start().await;
    let (own_cookie, own) = world.come_back(&world.client, "ada@example.com").await;
    let (foreign_cookie, foreign) = world.come_back(&world.client, "mallory@example.com").await;
    let part = |query: &str, name: &str| {
        let (_, after) = query.split_once(&format!("{name}=")).unwrap();
        after.split('&').next().unwrap().to_owned()
    };
    let (name, value) = own_cookie.split_once('=').unwrap();
    let (head, tail) = value.split_at(value.len() / 2);
    let turned = if tail.starts_with('A') { "B" } else { "A" };
    let broken_cookie = format!("{name}={head}{turned}{}", &tail[1..]);
    let swapped = own.replace(&part(&own, "state"), &part(&foreign, "state"));
    let stateless = format!("code={}", part(&own, "code"));
    for (what, cookie, query) in [
        ("no cookie", "", &own),
        ("another browser's cookie", foreign_cookie.as_str(), &own),
        ("a cookie of one's own making", "wallet_sign_in=e30.AAAA", &own),
        ("a changed cookie", &broken_cookie, &own),
        ("a login forced on somebody", &own_cookie, &foreign),
        ("another state", &own_cookie, &swapped),
        ("no state", &own_cookie, &stateless),
    ] {
        let call = world.client.get(&format!("/auth/google/callback?{query}"));
        let call = if cookie.is_empty() { call } else { call.header("cookie", cookie) };
        let problem = call.send().await.problem(400, "invalid_state");
        assert!(!problem.to_string().contains("rt_"), "{what}: {problem}");
    }
    let call = world.client.get(&format!("/auth/google/callback?{own}"));
    let session: Value = call.header("cookie", &own_cookie).send().await.ok();
    assert_eq!(session["user"]["email"], "ada@example.com");
    // Once used, it is used.
    let call = world.client.get(&format!("/auth/google/callback?{own}"));
    call.header("cookie", &own_cookie).send().await.problem(400, "invalid_state");
    world.finish().await;
}

#[tokio::test]
async fn the_way_to_the_provider_is_bound_to_the_browser() {
    let world = World::start().await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let begun = world.client.get("/auth/google?login_hint=ada%40example.com").send().await;
        begun.expect(302);
        assert_eq!(begun.header("cache-control"), "no-store");
        let to = Url::parse(begun.header("location")).unwrap();
        assert!(to.as_str().starts_with(&world.sandbox.google_issuer()), "{to}");
        let asked: BTreeMap<String, String> = to.query_pairs().into_owned().collect();
        for (name, value) in [
            ("response_type", "code"),
            ("code_challenge_method", "S256"),
            ("login_hint", "ada@example.com"),
            ("redirect_uri", &format!("{}/auth/google/callback", world.origin())),
            ("client_id", &sandbox::Config::default().google.id),
        ] {
            assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name} of {to}");
        }
        let scopes: BTreeSet<&str> = asked["scope"].split(' ').collect();
        assert_eq!(scopes, BTreeSet::from(["email", "openid", "profile"]));
        // 32 bytes of SHA-256 are 43 characters of base64url; states and nonces have 128 bits or more.
        assert_eq!(asked["code_challenge"].len(), 43, "{to}");
        for name in ["state", "nonce", "code_challenge"] {
            assert!(asked[name].len() >= 22, "{name} of {to}");
            assert!(seen.insert(asked[name].clone()), "{name} was used before: {to}");
        }
        let cookie = begun.header("set-cookie").to_owned();
        let attributes: BTreeSet<&str> = cookie.split("; ").skip(1).collect();
        let expected = BTreeSet::from(["HttpOnly", "Max-Age=600", "Path=/", "SameSite=Lax"]);
        assert_eq!(attributes, expected, "{cookie}");
        let value = cookie.split(';').next().unwrap();
        assert!(value.contains('.'), "it is signed: {value}");
        assert!(seen.insert(value.to_owned()), "{value} was used before");
    }

    // The cookie goes when it has done its work.
    let answer = world.callback(&world.client, "ada@example.com").await.send().await;
    let cleared = answer.expect(200).header("set-cookie");
    assert!(cleared.contains("=;") && cleared.contains("Max-Age=0"), "{cleared}");
    world.finish().await;
}

#[tokio::test]
async fn tokens_are_sent_to_allowed_origins_only() {
    let world = World::start_with(&[&format!("--api-allowed-origins={APP}")]).await;
    for refused in [
        "https://evil.example/",
        "https://app.example.evil.example/",
        "https://app.example@evil.example/",
        "https://evil.example/https://app.example",
        "http://app.example/",
        "https://app.example:8443/",
        "https://sub.app.example/",
        "https://app.example/#fragment",
        "//app.example/",
        "/signed-in",
        "javascript:alert(1)",
        "",
        &format!("{APP}/{}", "a".repeat(1_100)),
    ] {
        let problem = begin(&world, refused, None).await.problem(400, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], "return_to", "{refused}: {problem}");
    }

    let place = format!("{APP}/signed-in?from=wallet");
    let answer = walk(&world, &place, None).await;
    assert!(answer.expect(303).body.is_empty());
    let (address, fragment) = answer.header("location").split_once('#').unwrap();
    assert_eq!(address, place, "no token is in the query");
    let told: BTreeMap<&str, &str> =
        fragment.split('&').map(|it| it.split_once('=').unwrap()).collect();
    assert_eq!((told["token_type"], told["expires_in"]), ("bearer", "1800"));
    me(&world, told["access_token"]).send().await.expect(200);
    refresh(&world, told["refresh_token"]).send().await.expect(200);

    // Who says no at the provider gets no session, and the app is told.
    let answer = walk(&world, &place, Some("access_denied")).await;
    assert_eq!(answer.expect(303).header("location"), format!("{place}#error=access_denied"));
    world.finish().await;
}

async fn begin(world: &World, return_to: &str, hint: Option<&str>) -> Answer {
    let mut url = Url::parse(&format!("{}/auth/google", world.origin())).unwrap();
    url.query_pairs_mut().append_pair("return_to", return_to);
    if let Some(hint) = hint {
        url.query_pairs_mut().append_pair("login_hint", hint);
    }
    Client::new("").get(url.as_str()).send().await
}

/// There and back, with a code or with an error instead.
async fn walk(world: &World, return_to: &str, error: Option<&str>) -> Answer {
    let begun = begin(world, return_to, Some("ada@example.com")).await;
    let cookie = begun.expect(302).header("set-cookie").split(';').next().unwrap();
    let there = Url::parse(begun.header("location")).unwrap();
    let back = match error {
        None => Client::new("").get(there.as_str()).send().await.header("location").to_owned(),
        Some(error) => {
            let (_, state) = there.query_pairs().find(|(name, _)| name == "state").unwrap();
            format!("{}/auth/google/callback?error={error}&state={state}", world.origin())
        }
    };
    Client::new("").get(&back).header("cookie", cookie).send().await
}

#[tokio::test]
async fn a_wallet_number_has_thirteen_digits_and_a_check_digit() {
    let world = World::start().await;
    let mut numbers = BTreeSet::new();
    for n in 0..6 {
        let Person { token, wallet_number, .. } = world.person(&format!("p{n}@example.com")).await;
        assert!(WalletNumber::parse(&wallet_number).is_ok(), "{wallet_number}");
        assert_eq!(luhn(&wallet_number), 0, "{wallet_number}");
        let again: Value = me(&world, &token).send().await.ok();
        assert_eq!(again["wallet_number"], wallet_number.as_str());
        assert!(numbers.insert(wallet_number), "two people share a wallet number");
    }
    let same = world.person("p0@example.com").await;
    assert!(numbers.contains(&same.wallet_number), "a wallet number never changes");
    world.finish().await;
}

/// The sum that the check digit brings to a multiple of ten, reckoned digit by digit.
fn luhn(number: &str) -> u32 {
    let digits = number.chars().rev().map(|it| it.to_digit(10).unwrap());
    let sum: u32 = digits
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    sum % 10
}
