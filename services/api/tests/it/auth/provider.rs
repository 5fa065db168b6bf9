//! An OpenID provider that says whatever a test wants: the sandbox is honest, and attackers are not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::web::{Data, Form, Json};
use poem::{EndpointExt as _, Response, Route, Server, get, handler, post};
use primitives::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Barrier;

/// Registered with every provider of these tests.
pub(crate) const CLIENT_ID: &str = "wallet-under-test";
/// Registered with every provider of these tests.
pub(crate) const CLIENT_SECRET: &str = "GOCSPX-only-for-tests";

/// A signing key with its id.
pub(crate) struct SigningKey {
    kid: String,
    pair: RsaKeyPair,
}

impl SigningKey {
    /// A new key.
    pub(crate) fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: RsaKeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    fn public(&self) -> Value {
        let key = self.pair.public_key();
        let print = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
            "n": print(key.modulus().big_endian_without_leading_zero()),
            "e": print(key.exponent().big_endian_without_leading_zero()),
        })
    }

    /// An ID token with these claims, signed by this key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.kid, claims)
    }

    /// The same under another key id.
    pub(crate) fn sign_as(&self, kid: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(kid.to_owned());
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = self.pair.as_der().unwrap();
        // The library wants what is inside of PKCS#8; PEM lets it find that by itself.
        let body = base64::prelude::BASE64_STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }

    /// The public key as bytes everybody can have.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }
}

/// What the token endpoint answers to a code.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This ID token, once, to whoever proves to have begun with `challenge`.
    Token { id_token: String, challenge: String },
    /// Something else altogether.
    Text { status: u16, body: String },
}

#[derive(Default)]
struct Shared {
    published: Mutex<Vec<Value>>,
    answers: Mutex<BTreeMap<String, Answer>>,
    n_discoveries: AtomicU32,
    n_key_fetches: AtomicU32,
    n_redirected: AtomicU32,
    together: Mutex<Option<Arc<Barrier>>>,
    cache_control: Mutex<String>,
    issuer: Mutex<String>,
}

/// The provider.
pub(crate) struct Provider {
    /// Its issuer.
    pub(crate) issuer: String,
    /// What it signs with.
    pub(crate) key: SigningKey,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Provider {
    /// Starts it on a free port.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}/op", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        shared.issuer.lock().unwrap().clone_from(&issuer);
        *shared.cache_control.lock().unwrap() = "public, max-age=3600".to_owned();
        let routes = Route::new()
            .at("/op/.well-known/openid-configuration", get(show_discovery))
            .at("/op/keys", get(show_keys))
            .at("/op/token", post(give_token))
            .at("/op/elsewhere", get(count_redirect))
            .data(Arc::clone(&shared));
        let acceptor = TcpAcceptor::from_tokio(listener).unwrap();

        let server = testkit::spawn(async move {
            Server::new_with_acceptor(acceptor).run(routes).await.unwrap();
        });
        let provider = Self { issuer, key: SigningKey::new("first"), shared, server };
        provider.publish(&[&provider.key]);
        provider
    }

    /// Publishes these keys and no other.
    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        *self.shared.published.lock().unwrap() = keys.iter().map(|it| it.public()).collect();
    }

    /// Answers `code` so.
    pub(crate) fn answer(&self, code: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(code.to_owned(), answer);
    }

    /// Names another issuer in the discovery document.
    pub(crate) fn pretend_to_be(&self, issuer: &str) {
        *self.shared.issuer.lock().unwrap() = issuer.to_owned();
    }

    /// How often the keys were fetched.
    pub(crate) fn n_key_fetches(&self) -> u32 {
        self.shared.n_key_fetches.load(Ordering::SeqCst)
    }

    /// How often the discovery document was fetched.
    pub(crate) fn n_discoveries(&self) -> u32 {
        self.shared.n_discoveries.load(Ordering::SeqCst)
    }

    /// How often a redirect of the token endpoint was followed.
    pub(crate) fn n_redirected(&self) -> u32 {
        self.shared.n_redirected.load(Ordering::SeqCst)
    }

    /// Answers codes only when `n` of them have come.
    pub(crate) fn answer_together(&self, n: usize) {
        *self.shared.together.lock().unwrap() = Some(Arc::new(Barrier::new(n)));
    }

    /// Answers each code when it comes.
    pub(crate) fn answer_at_once(&self) {
        *self.shared.together.lock().unwrap() = None;
    }

    /// The claims of a good ID token for `subject`.
    pub(crate) fn claims(&self, subject: &str, nonce: &str) -> Value {
        let now = Timestamp::now().seconds();
        json!({
            "iss": self.issuer, "aud": CLIENT_ID, "azp": CLIENT_ID, "sub": subject,
            "email": format!("{subject}@example.com"), "email_verified": true,
            "name": format!("Person {subject}"), "nonce": nonce, "iat": now, "exp": now + 3_600,
        })
    }
}

#[handler]
fn show_discovery(Data(shared): Data<&Arc<Shared>>) -> Response {
    shared.n_discoveries.fetch_add(1, Ordering::SeqCst);
    let issuer = shared.issuer.lock().unwrap().clone();
    let body = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    });
    cached(shared, &body)
}

#[handler]
fn show_keys(Data(shared): Data<&Arc<Shared>>) -> Response {
    shared.n_key_fetches.fetch_add(1, Ordering::SeqCst);
    let mut all = shared.published.lock().unwrap().clone();
    // Real sets hold keys of other kinds; they must not spoil the useful ones.
    all.push(json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": "AA", "y": "AA"}));
    all.push(json!({"kty": "of the future"}));
    cached(shared, &json!({ "keys": all }))
}

fn cached(shared: &Shared, body: &Value) -> Response {
    Response::builder()
        .content_type("application/json")
        .header("cache-control", shared.cache_control.lock().unwrap().as_str())
        .body(body.to_string())
}

#[handler]
fn count_redirect(Data(shared): Data<&Arc<Shared>>) {
    shared.n_redirected.fetch_add(1, Ordering::SeqCst);
}

#[handler]
async fn give_token(
    Data(shared): Data<&Arc<Shared>>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let together = shared.together.lock().unwrap().clone();
    if let Some(together) = together {
        together.wait().await;
    }
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let refused = |error: &str| {
        Response::builder()
            .status(StatusCode::BAD_REQUEST)
            .content_type("application/json")
            .body(json!({ "error": error }).to_string())
    };
    if field("client_id") != CLIENT_ID || field("client_secret") != CLIENT_SECRET {
        return refused("invalid_client");
    }
    let is_form = field("grant_type") == "authorization_code"
        && field("redirect_uri").ends_with("/auth/google/callback");
    if !is_form {
        return refused("invalid_request");
    }
    let verifier = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
    match shared.answers.lock().unwrap().remove(field("code")) {
        Some(Answer::Token { id_token, challenge }) if challenge == verifier => {
            let body = json!({
                "access_token": "ya29.x", "id_token": id_token, "expires_in": 3599,
                "scope": "openid email profile", "token_type": "Bearer",
            });
            poem::IntoResponse::into_response(Json(body))
        }
        Some(Answer::Text { status, body }) => Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .header("location", "/op/elsewhere")
            .body(body),
        Some(Answer::Token { .. }) | None => refused("invalid_grant"),
    }
}
