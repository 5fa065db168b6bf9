//! Credentials that were good once, or never.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::world::{Person, TOKEN_KEY, World, text};

/// A well-formed key that nobody ever made.
pub(crate) const UNKNOWN_KEY: &str = "sk_test_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

/// An API key and its id.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// A key with a name and permissions of the test's choice.
pub(crate) async fn key(world: &World, person: &Person, permissions: &[&str]) -> Key {
    let call = world.client.post("/keys/create").bearer(&person.token);
    let body = json!({ "name": permissions.join(" "), "permissions": permissions, "expiry": "1H" });
    let made: Value = call.json(&body).send().await.ok();
    Key { id: text(&made, "id"), secret: text(&made, "api_key") }
}

/// A key whose time is over.
pub(crate) async fn expired_key(world: &World, person: &Person) -> Key {
    let key = key(world, person, &["read", "deposit", "transfer"]).await;
    world.age_key(&key.id).await;
    key
}

/// A key that its person revoked.
pub(crate) async fn revoked_key(world: &World, person: &Person) -> Key {
    let key = key(world, person, &["read", "deposit", "transfer"]).await;
    let call = world.client.post(&format!("/keys/{}/revoke", key.id)).bearer(&person.token);
    call.send().await.expect(200);
    key
}

/// What a token says.
pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The same token, minted so long ago that its time is over.
pub(crate) fn expired(token: &str) -> String {
    let mut claims = claims(token);
    for name in ["iat", "exp"] {
        claims[name] = json!(claims[name].as_i64().unwrap() - 3_600);
    }
    let header = Header { kid: Some("test".to_owned()), ..Header::default() };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&TOKEN_KEY)).unwrap()
}

/// The same token with one bit of its signature turned.
pub(crate) fn broken(token: &str) -> String {
    let (head, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    signature[0] ^= 1;
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(signature))
}
