//! The same walk with the sandbox's provider, which imitates Google and is what a laptop runs.

use sandbox::Sandbox;
use sandbox::google::Forgery;
use serde_json::{Value, json};
use testkit::{Answer, Client, eventually};
use tokio::net::TcpListener;
use url::Url;

use super::provider::{CLIENT_ID, CLIENT_SECRET};
use super::stage::{PUBLIC_URL, Replica, Stage};

async fn start_sandbox() -> Sandbox {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let google = sandbox::google::model::Client {
        id: CLIENT_ID.to_owned(),
        secret: CLIENT_SECRET.to_owned(),
        redirect_uris: vec![format!("{PUBLIC_URL}/auth/google/callback")],
    };
    let config = sandbox::Config { google, ..sandbox::Config::default() };
    sandbox::start(listener, config).await.unwrap()
}

/// As a browser does it: to the provider, and back with the cookie.
async fn walk(replica: &Replica, email: &str) -> Answer {
    let hint: String = url::form_urlencoded::byte_serialize(email.as_bytes()).collect();
    let begun = replica.client.get(&format!("/auth/google?login_hint={hint}")).send().await;
    let page = Url::parse(begun.expect(302).header("location")).unwrap();
    let provider = Client::new(page.origin().ascii_serialization());
    let path = format!("{}?{}", page.path(), page.query().unwrap());
    let sent_back = provider.get(&path).send().await;
    assert!(sent_back.status.is_redirection(), "{}", sent_back.text());
    let back = Url::parse(sent_back.header("location")).unwrap();
    assert_eq!(back.origin().ascii_serialization(), PUBLIC_URL);
    let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
    let path = format!("{}?{}", back.path(), back.query().unwrap());
    replica.client.get(&path).header("cookie", &cookie).send().await
}

#[tokio::test]
async fn people_of_the_sandbox_sign_in() {
    let (stage, sandbox) = (Stage::start(&[]).await, start_sandbox().await);
    let issuer = sandbox.google_issuer();
    let settings = [("--oidc-issuer", issuer.as_str()), ("--api-allow-test-code", "true")];
    let replica = stage.replica(&settings).await;

    let ada: Value = walk(&replica, "ada.obi@gmail.com").await.ok();
    assert_eq!(ada["user"]["email"], "ada.obi@gmail.com");
    let eve: Value = walk(&replica, "eve@example.com").await.ok();
    assert_ne!(ada["user"]["id"], eve["user"]["id"]);
    let again: Value = walk(&replica, "ada.obi@gmail.com").await.ok();
    assert_eq!(again["user"], ada["user"]);
    let quick = replica.client.get("/auth/google/callback?code=test_code").send().await;
    assert_ne!(quick.ok::<Value>()["user"]["id"], ada["user"]["id"]);

    sandbox.rotate_google_key().unwrap();
    eventually("the new key is believed", super::stage::BOUND, async || {
        let answer = walk(&replica, "ada.obi@gmail.com").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    replica.end().await;
    stage.end().await;
    sandbox.stop().await;
}

#[tokio::test]
async fn forged_id_tokens_of_the_sandbox_let_nobody_in() {
    let (stage, sandbox) = (Stage::start(&[]).await, start_sandbox().await);
    let issuer = sandbox.google_issuer();
    let replica = stage.replica(&[("--oidc-issuer", issuer.as_str())]).await;
    for (forgery, status, code) in [
        (Forgery::Issuer, 401, "invalid_token"),
        (Forgery::Audience, 401, "invalid_token"),
        (Forgery::AuthorizedParty, 401, "invalid_token"),
        (Forgery::Nonce, 400, "invalid_state"),
        (Forgery::NonceMissing, 400, "invalid_state"),
        (Forgery::AlgNone, 401, "invalid_token"),
        (Forgery::AlgHmac, 401, "invalid_token"),
        (Forgery::UnknownKid, 401, "invalid_token"),
        (Forgery::OtherKey, 401, "invalid_token"),
        (Forgery::Expired, 401, "invalid_token"),
        (Forgery::FromTheFuture, 401, "invalid_token"),
        (Forgery::SignatureBroken, 401, "invalid_token"),
    ] {
        sandbox.forge_next_id_token(forgery);
        walk(&replica, "ada.obi@gmail.com").await.problem(status, code);
    }
    assert_eq!(stage.count("select count(*) from api.users").await, 0);
    for forgery in [Forgery::EmailUnverified, Forgery::EmailMissing] {
        sandbox.forge_next_id_token(forgery);
        let session: Value = walk(&replica, "ada.obi@gmail.com").await.ok();
        assert_eq!(session["user"]["email"], json!(null), "{forgery:?}");
    }
    replica.end().await;
    stage.end().await;
    sandbox.stop().await;
}
