//! The OpenID provider: the whole code flow, every refusal, and tokens no application may take.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use sandbox::faults::{Fault, Plan};
use sandbox::google::Forgery;
use sandbox::google::model::{Client, Person, challenge_of};
use sandbox::{Config, Sandbox};
use serde_json::{Value, json};

use crate::{browser, header, json, start};

const BACK: &str = "http://127.0.0.1:8000/auth/google/callback";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters_~.";
const ID: &str = "sandbox.apps.googleusercontent.com";
const SECRET: &str = "sandbox-client-secret";

type Fields = BTreeMap<&'static str, String>;

/// What a good application asks; changes replace, an empty text takes away.
fn asking(changes: &[(&'static str, &str)]) -> Fields {
    let challenge = challenge_of(VERIFIER);
    let mut asked: Fields = [
        ("client_id", ID),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("scope", "openid email profile"),
        ("state", "a state/&"),
        ("nonce", "n-0S6"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    change(&mut asked, changes);
    asked
}

fn redeeming(code: &str, changes: &[(&'static str, &str)]) -> Fields {
    let mut form: Fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", BACK),
        ("client_id", ID),
        ("client_secret", SECRET),
        ("code_verifier", VERIFIER),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    change(&mut form, changes);
    form
}

fn change(fields: &mut Fields, changes: &[(&'static str, &str)]) {
    for (name, value) in changes {
        if value.is_empty() {
            fields.remove(name);
        } else {
            fields.insert(name, (*value).to_owned());
        }
    }
}

async fn authorize(sandbox: &Sandbox, asked: &Fields) -> reqwest::Response {
    let url = format!("{}/authorize", sandbox.google_issuer());
    browser().get(url).query(asked).send().await.unwrap()
}

/// The parameters the browser brings back.
fn brought_back(answer: &reqwest::Response) -> BTreeMap<String, String> {
    assert_eq!(answer.status(), 303);
    let url = url::Url::parse(header(answer, "location")).unwrap();
    assert!(url.as_str().starts_with(BACK), "{url}");
    url.query_pairs().into_owned().collect()
}

async fn signed_in(sandbox: &Sandbox, changes: &[(&'static str, &str)]) -> String {
    let mut asked = asking(&[("login_hint", "Ada.Obi@gmail.com")]);
    change(&mut asked, changes);
    brought_back(&authorize(sandbox, &asked).await)["code"].clone()
}

async fn token(sandbox: &Sandbox, form: &Fields) -> (u16, Value) {
    let url = format!("{}/token", sandbox.google_issuer());
    json(browser().post(url).form(form).send().await.unwrap()).await
}

/// What a careful application makes of an id token.
async fn checked(sandbox: &Sandbox, id_token: &str, nonce: Option<&str>) -> Result<Value, String> {
    let url = format!("{}/jwks", sandbox.google_issuer());
    let keys: JwkSet = browser().get(url).send().await.unwrap().json().await.unwrap();
    let kid = decode_header(id_token).map_err(|error| error.to_string())?.kid.unwrap();
    let key = keys.find(&kid).ok_or("unknown kid")?;
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[ID]);
    rules.set_issuer(&[sandbox.google_issuer()]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims = decode::<Value>(id_token, &key, &rules).map_err(|error| error.to_string())?.claims;
    let now = primitives::Timestamp::now().seconds();
    for (wrong, what) in [
        (claims["nonce"].as_str() != nonce, "nonce"),
        (claims["azp"] != ID, "azp"),
        (claims["iat"].as_i64().unwrap() > now + 60, "iat"),
        (claims["email_verified"] != true, "email_verified"),
    ] {
        if wrong {
            return Err(what.to_owned());
        }
    }
    Ok(claims)
}

#[tokio::test]
async fn somebody_signs_in_with_pkce_and_nonce() {
    let sandbox = start(Config::default()).await;
    let issuer = sandbox.google_issuer();
    let url = format!("{issuer}/.well-known/openid-configuration");
    let discovered = browser().get(url).send().await.unwrap();
    assert_eq!(header(&discovered, "cache-control"), "public, max-age=3600");
    let discovered = json(discovered).await.1;
    for (name, path) in [
        ("issuer", ""),
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("jwks_uri", "/jwks"),
        ("userinfo_endpoint", "/userinfo"),
    ] {
        assert_eq!(discovered[name], format!("{issuer}{path}"));
    }
    let asked = asking(&[("login_hint", "Ada.Obi@gmail.com")]);
    let back = brought_back(&authorize(&sandbox, &asked).await);
    assert_eq!((back["state"].as_str(), back["iss"].as_str()), ("a state/&", issuer.as_str()));
    let form = redeeming(&back["code"], &[]);
    let (status, tokens) = token(&sandbox, &form).await;
    assert_eq!(
        (status, &tokens["token_type"], &tokens["expires_in"]),
        (200, &json!("Bearer"), &json!(3599))
    );
    let claims =
        checked(&sandbox, tokens["id_token"].as_str().unwrap(), Some("n-0S6")).await.unwrap();
    for (name, value) in [
        ("email", "ada.obi@gmail.com"),
        ("name", "Ada Obi"),
        ("given_name", "Ada"),
        ("family_name", "Obi"),
        ("aud", ID),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    let sub = claims["sub"].as_str().unwrap();
    assert!(sub.len() == 21 && sub.bytes().all(|b| b.is_ascii_digit()), "{sub}");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);

    let (status, again) = token(&sandbox, &form).await;
    assert_eq!((status, &again["error"]), (400, &json!("invalid_grant")));
    let url = format!("{issuer}/userinfo");
    let access = tokens["access_token"].as_str().unwrap();
    let answer = browser().get(&url).bearer_auth(access).send().await.unwrap();
    assert_eq!(json(answer).await.1["sub"], sub);
    let answer = browser().get(&url).bearer_auth("ya29.guess").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(header(&answer, "www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn an_application_that_asks_badly_is_refused_as_oauth_says() {
    let sandbox = start(Config::default()).await;
    for changes in [
        ("client_id", "other"),
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "https://evil.example/back"),
        ("redirect_uri", "http://127.0.0.1.evil.example/"),
        ("redirect_uri", "javascript:alert(1)"),
        ("redirect_uri", "http://127.0.0.1:8000/back#part"),
    ] {
        let answer = authorize(&sandbox, &asking(&[("login_hint", "a@b.co"), changes])).await;
        assert_eq!(answer.status(), 400, "{changes:?}");
        assert_eq!(header(&answer, "location"), "", "{changes:?}");
    }
    for (changes, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "unsupported_response_type"),
        (("scope", "email"), "invalid_scope"),
        (("scope", ""), "invalid_scope"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
    ] {
        let answer = authorize(&sandbox, &asking(&[("login_hint", "a@b.co"), changes])).await;
        let back = brought_back(&answer);
        assert_eq!(
            (back["error"].as_str(), back["state"].as_str()),
            (error, "a state/&"),
            "{changes:?}"
        );
        assert!(!back.contains_key("code"), "{changes:?}");
    }
    let back = brought_back(&authorize(&sandbox, &asking(&[("prompt", "none")])).await);
    assert_eq!(back["error"], "interaction_required");
    let google = Client {
        id: ID.to_owned(),
        secret: SECRET.to_owned(),
        redirect_uris: vec![BACK.to_owned()],
    };
    let strict = start(Config { google, ..Config::default() }).await;
    signed_in(&strict, &[]).await;
    let other = asking(&[("redirect_uri", "http://127.0.0.1:8000/auth/google/callback/")]);
    assert_eq!(authorize(&strict, &other).await.status(), 400);
}

#[tokio::test]
async fn a_code_is_good_once_for_its_own_application_and_verifier() {
    let sandbox = start(Config::default()).await;
    let other = "another-verifier-of-at-least-forty-three-characters";
    for (changes, status, error) in [
        (("client_secret", "wrong"), 401, "invalid_client"),
        (("client_secret", ""), 401, "invalid_client"),
        (("client_id", "other"), 401, "invalid_client"),
        (("grant_type", "password"), 400, "unsupported_grant_type"),
        (("code", "4/0Aguess"), 400, "invalid_grant"),
        (("code", ""), 400, "invalid_grant"),
        (("redirect_uri", "http://127.0.0.1:8000/"), 400, "redirect_uri_mismatch"),
        (("code_verifier", ""), 400, "invalid_grant"),
        (("code_verifier", other), 400, "invalid_grant"),
        (("code_verifier", "short"), 400, "invalid_grant"),
    ] {
        let code = signed_in(&sandbox, &[]).await;
        let (got, body) = token(&sandbox, &redeeming(&code, &[changes])).await;
        assert_eq!((got, &body["error"]), (status, &json!(error)), "{changes:?}");
    }
    let plain = [("code_challenge", ""), ("code_challenge_method", ""), ("nonce", "")];
    let code = signed_in(&sandbox, &plain).await;
    assert_eq!(token(&sandbox, &redeeming(&code, &[])).await.0, 400, "a verifier nobody asked for");
    let code = signed_in(&sandbox, &plain).await;
    assert_eq!(token(&sandbox, &redeeming(&code, &[("code_verifier", "")])).await.0, 200);

    let code = signed_in(&sandbox, &[]).await;
    sandbox.advance_clock(Duration::from_secs(601));
    assert_eq!(token(&sandbox, &redeeming(&code, &[])).await.1["error"], "invalid_grant");

    let code = signed_in(&sandbox, &[]).await;
    let form = redeeming(&code, &[("client_id", ""), ("client_secret", "")]);
    let url = format!("{}/token", sandbox.google_issuer());
    let answer = browser().post(url).basic_auth(ID, Some(SECRET)).form(&form).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "cache-control")), (200, "no-store"));
}

#[tokio::test]
async fn the_page_offers_people_and_takes_new_ones() {
    let sandbox = start(Config::default()).await;
    let asked = asking(&[]);
    let page = authorize(&sandbox, &asked).await;
    assert!(header(&page, "content-security-policy").contains("default-src 'none'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("ada.obi@gmail.com") && page.contains("Sign in"), "{page}");
    let url = format!("{}/authorize", sandbox.google_issuer());
    let post = async |form: &[(&str, &str)]| {
        browser().post(&url).query(&asked).form(form).send().await.unwrap()
    };
    for (form, name, email) in [
        (&[("known", "bayo.ade@gmail.com")][..], "Bayo Ade", "bayo.ade@gmail.com"),
        (
            &[("email", "Zoë@example.com"), ("name", "Zoë Q. Public")],
            "Zoë Q. Public",
            "zoë@example.com",
        ),
        (
            &[("email", "kofi_mensah@example.com"), ("name", "")],
            "Kofi Mensah",
            "kofi_mensah@example.com",
        ),
    ] {
        let code = brought_back(&post(form).await)["code"].clone();
        let (_, tokens) = token(&sandbox, &redeeming(&code, &[])).await;
        let claims = checked(&sandbox, tokens["id_token"].as_str().unwrap(), Some("n-0S6")).await;
        let claims = claims.unwrap();
        assert_eq!((&claims["name"], &claims["email"]), (&json!(name), &json!(email)));
    }
    assert_eq!(brought_back(&post(&[("refuse", "yes")]).await)["error"], "access_denied");
    assert_eq!(post(&[("email", "nobody")]).await.status(), 400);
    assert_eq!(Person::invent(" Ada@X.io ", None).sub, Person::invent("ada@x.io", Some("A")).sub);
}

#[tokio::test]
async fn the_test_code_signs_the_test_person_in() {
    let sandbox = start(Config::default()).await;
    let bare = [("code_verifier", ""), ("redirect_uri", "")];
    for _ in 0..2 {
        let (status, tokens) = token(&sandbox, &redeeming("test_code", &bare)).await;
        assert_eq!(status, 200);
        let claims = checked(&sandbox, tokens["id_token"].as_str().unwrap(), None).await.unwrap();
        assert_eq!(
            (&claims["name"], &claims["sub"]),
            (&json!("Test User"), &json!(Person::test().sub))
        );
    }
    let wrong = redeeming("test_code", &[("client_secret", "wrong")]);
    assert_eq!(token(&sandbox, &wrong).await.0, 401);
}

#[tokio::test]
async fn a_forged_token_does_not_pass_a_careful_application() {
    let sandbox = start(Config::default()).await;
    let ada = Person::invent("ada@example.com", None);
    let nonce = Some("n-1");
    let good = sandbox.id_token(&ada, nonce, None).unwrap();
    checked(&sandbox, &good, nonce).await.unwrap();
    for (forgery, why) in [
        (Forgery::Issuer, "InvalidIssuer"),
        (Forgery::Audience, "InvalidAudience"),
        (Forgery::AuthorizedParty, "azp"),
        (Forgery::Nonce, "nonce"),
        (Forgery::NonceMissing, "nonce"),
        (Forgery::AlgHmac, "InvalidAlgorithm"),
        (Forgery::UnknownKid, "unknown kid"),
        (Forgery::OtherKey, "InvalidSignature"),
        (Forgery::Expired, "ExpiredSignature"),
        (Forgery::FromTheFuture, "iat"),
        (Forgery::EmailUnverified, "email_verified"),
        (Forgery::EmailMissing, "email_verified"),
        (Forgery::SignatureBroken, "InvalidSignature"),
    ] {
        let forged = sandbox.id_token(&ada, nonce, Some(forgery)).unwrap();
        assert_eq!(checked(&sandbox, &forged, nonce).await, Err(why.to_owned()), "{forgery:?}");
    }
    let forged = sandbox.id_token(&ada, nonce, Some(Forgery::AlgNone)).unwrap();
    assert!(forged.ends_with('.'), "no signature");
    assert!(checked(&sandbox, &forged, nonce).await.is_err());

    sandbox.forge_next_id_token(Forgery::Audience);
    for passes in [false, true] {
        let code = signed_in(&sandbox, &[]).await;
        let (_, tokens) = token(&sandbox, &redeeming(&code, &[])).await;
        let id_token = tokens["id_token"].as_str().unwrap();
        assert_eq!(checked(&sandbox, id_token, Some("n-0S6")).await.is_ok(), passes);
    }
}

#[tokio::test]
async fn keys_rotate_and_the_old_one_stays_for_a_while() {
    let sandbox = start(Config::default()).await;
    let ada = Person::invent("ada@example.com", None);
    let first = sandbox.id_token(&ada, None, None).unwrap();
    sandbox.rotate_google_key().unwrap();
    let second = sandbox.id_token(&ada, None, None).unwrap();
    let kid = |token: &str| decode_header(token).unwrap().kid.unwrap();
    assert_ne!(kid(&first), kid(&second));
    for token in [&first, &second] {
        checked(&sandbox, token, None).await.unwrap();
    }
    sandbox.rotate_google_key().unwrap();
    assert_eq!(checked(&sandbox, &first, None).await, Err("unknown kid".to_owned()));
    checked(&sandbox, &second, None).await.unwrap();
}

#[tokio::test]
async fn the_token_endpoint_goes_wrong_as_asked() {
    let sandbox = start(Config::default()).await;
    let code = signed_in(&sandbox, &[]).await;
    sandbox.inject(Plan::next(Fault::TokenError, 1));
    let (status, body) = token(&sandbox, &redeeming(&code, &[])).await;
    assert_eq!((status, &body["error"]), (503, &json!("temporarily_unavailable")));
    sandbox.inject(Plan::next(Fault::TokenSlow, 1).delayed(300));
    let began = std::time::Instant::now();
    assert_eq!(token(&sandbox, &redeeming(&code, &[])).await.0, 200, "the error used nothing up");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let code = signed_in(&sandbox, &[]).await;
    sandbox.inject(Plan::next(Fault::TokenCutOff, 1));
    let url = format!("{}/token", sandbox.google_issuer());
    let cut = browser().post(url).form(&redeeming(&code, &[])).send().await;
    assert!(match cut {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    });
    assert_eq!(token(&sandbox, &redeeming(&code, &[])).await.0, 400, "the cut-off used it up");
}
