//! An OpenID provider that signs in anybody: discovery, keys, sign-in page, tokens, userinfo.
//!
//! Protocol and claims are Google's; the people are invented, and nobody has a password.

mod keys;
pub mod model;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use poem::http::{Method, StatusCode};
use poem::{Request, Response};
use serde_json::{Value, json};

pub use keys::Forgery;

use crate::Shared;
use crate::faults::Fault;
use crate::page::{escape, page, says, see_other, with_query};
use crate::paystack::cut_off;
use keys::{Keys, Ticket};
use model::{Client, Grant, Parameters, Person, Provider, Refusal, TokenError, Wish};

const FORM_BYTES_MAX: usize = 64 * 1024;
const ON_TOKEN: [Fault; 3] = [Fault::TokenError, Fault::TokenSlow, Fault::TokenCutOff];

/// The provider and its keys.
#[derive(Debug)]
pub(crate) struct State {
    issuer: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    provider: Provider,
    keys: Keys,
    forgeries: VecDeque<Forgery>,
}

impl State {
    pub(crate) fn new(public_url: &str, client: Client) -> anyhow::Result<Self> {
        let provider = Provider::new(client);
        let inner = Inner { provider, keys: Keys::new()?, forgeries: VecDeque::new() };
        Ok(Self { issuer: format!("{public_url}/google"), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn rotate(&self) -> anyhow::Result<()> {
        self.lock().keys.rotate()
    }

    pub(crate) fn reset(&self) {
        let mut inner = self.lock();
        inner.provider.reset();
        inner.forgeries.clear();
    }

    pub(crate) fn forge_next(&self, forgery: Forgery) {
        self.lock().forgeries.push_back(forgery);
    }

    /// An id token without any sign-in.
    pub(crate) fn id_token(
        &self,
        shared: &Shared,
        person: &Person,
        nonce: Option<&str>,
        forgery: Option<Forgery>,
    ) -> anyhow::Result<String> {
        let inner = self.lock();
        let audience = inner.provider.client_id();
        let ticket = Ticket { issuer: &self.issuer, audience, nonce, access_token: "" };
        inner.keys.sign(person, ticket, forgery, shared.clock.now())
    }
}

/// Answers everything below `/google`.
pub(crate) async fn provider(shared: &Shared, request: Request, path: &[String]) -> Response {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (request.method().clone(), path.as_slice()) {
        (Method::GET, [".well-known", "openid-configuration"]) => {
            json_answer(200, &discovery(&shared.google.issuer), Some("public, max-age=3600"))
        }
        (Method::GET, ["jwks"]) => {
            let published = shared.google.lock().keys.published();
            json_answer(200, &published, Some("public, max-age=3600"))
        }
        (Method::GET | Method::POST, ["authorize"]) => authorize(shared, request).await,
        (Method::POST, ["token"]) => token(shared, request).await,
        (Method::GET | Method::POST, ["userinfo"]) => userinfo(shared, &request),
        _ => StatusCode::NOT_FOUND.into(),
    }
}

fn discovery(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "email", "profile"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "claims_supported": [
            "aud", "email", "email_verified", "exp", "family_name", "given_name", "iat", "iss",
            "name", "sub",
        ],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    })
}

fn json_answer(status: u16, body: &Value, cache: Option<&str>) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .content_type("application/json; charset=utf-8")
        .header("cache-control", cache.unwrap_or("no-store"))
        .body(body.to_string())
}

fn parse(text: &[u8]) -> Parameters {
    url::form_urlencoded::parse(text).into_owned().collect()
}

async fn form(request: &mut Request) -> Parameters {
    let body = request.take_body().into_bytes_limit(FORM_BYTES_MAX).await;
    // A form that cannot be read has no fields.
    body.map(|body| parse(&body)).unwrap_or_default()
}

/// The sign-in page. `login_hint` signs in at once; a form chooses or invents somebody.
async fn authorize(shared: &Shared, mut request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let asked = parse(query.as_bytes());
    let wish = match shared.google.lock().provider.read(&asked) {
        Ok(wish) => wish,
        Err(refusal) => return refuse(shared, refusal),
    };
    if let Some(hint) = &wish.login_hint {
        return sign_in(shared, &wish, Person::invent(hint, None));
    }
    if request.method() != Method::POST {
        return choose(&format!("{}?{query}", request.original_uri().path()));
    }
    let form = form(&mut request).await;
    if form.contains_key("refuse") {
        let (redirect_uri, state) = (wish.redirect_uri, wish.state);
        return refuse(shared, Refusal::Redirect { redirect_uri, state, error: "access_denied" });
    }
    let field = |name: &str| form.get(name).filter(|text| !text.trim().is_empty());
    match field("known").or_else(|| field("email")).filter(|email| email.contains('@')) {
        Some(email) => {
            sign_in(shared, &wish, Person::invent(email, field("name").map(String::as_str)))
        }
        None => says(
            StatusCode::BAD_REQUEST,
            "No address",
            "Choose somebody or give an e-mail address.",
        ),
    }
}

fn refuse(shared: &Shared, refusal: Refusal) -> Response {
    match refusal {
        Refusal::Tell(why) => says(StatusCode::BAD_REQUEST, "Access blocked", why),
        Refusal::Redirect { redirect_uri, state, error } => {
            let parameters = [("error", error), ("iss", &shared.google.issuer)];
            back(&redirect_uri, state.as_deref(), &parameters)
        }
    }
}

/// Sends the browser back to the application.
fn back(redirect_uri: &str, state: Option<&str>, parameters: &[(&str, &str)]) -> Response {
    let mut all: Vec<(&str, &str)> = state.map(|state| ("state", state)).into_iter().collect();
    all.extend_from_slice(parameters);
    match with_query(redirect_uri, &all) {
        Some(location) => see_other(&location),
        None => says(StatusCode::BAD_REQUEST, "Access blocked", "The redirect_uri is no URL."),
    }
}

fn sign_in(shared: &Shared, wish: &Wish, person: Person) -> Response {
    // Google's codes have a slash, too: a client that pastes them into a URL is found out.
    let code = format!("4/0A{}", hex::encode(rand::random::<[u8; 24]>()));
    shared.google.lock().provider.grant(wish, person, code.clone(), shared.clock.now());
    let parameters =
        [("iss", shared.google.issuer.as_str()), ("code", &code), ("scope", &wish.scope)];
    back(&wish.redirect_uri, wish.state.as_deref(), &parameters)
}

fn choose(path: &str) -> Response {
    let path = escape(path);
    let mut main = format!("<h1>Who signs in?</h1>\n<form method=\"post\" action=\"{path}\">\n");
    for person in Person::known() {
        let (email, name) = (escape(&person.email), escape(&person.name));
        main.push_str(&format!(
            "<button name=\"known\" value=\"{email}\">{name}<br>\
             <span class=\"quiet\">{email}</span></button>\n"
        ));
    }
    main.push_str(&format!(
        "</form>\n<form method=\"post\" action=\"{path}\">\n\
         <label for=\"email\">Or somebody new</label>\n\
         <input id=\"email\" name=\"email\" type=\"email\" placeholder=\"e-mail\" required>\n\
         <label for=\"name\">Name (may be left out)</label>\n<input id=\"name\" name=\"name\">\n\
         <button class=\"main\">Sign in</button>\n</form>\n\
         <form method=\"post\" action=\"{path}\">\n\
         <button name=\"refuse\" value=\"yes\">Refuse</button>\n</form>"
    ));
    page(StatusCode::OK, "Sign in", &main)
}

async fn token(shared: &Shared, mut request: Request) -> Response {
    let struck = shared.draw(&ON_TOKEN);
    if struck.has(Fault::TokenError) {
        let body = json!({ "error": "temporarily_unavailable" });
        return json_answer(503, &body, None);
    }
    let form = form(&mut request).await;
    let answer = redeem(shared, &form, request.header("authorization"));
    if let Some(delay) = struck.delay(Fault::TokenSlow) {
        tokio::time::sleep(delay).await;
    }
    if struck.has(Fault::TokenCutOff) {
        return cut_off();
    }
    match answer {
        Ok(Ok(body)) => json_answer(200, &body, None),
        Ok(Err(TokenError { status, error, description })) => {
            let body = json!({ "error": error, "error_description": description });
            json_answer(status, &body, None)
        }
        Err(error) => {
            tracing::error!("failed to sign an id token: {error:#}");
            json_answer(500, &json!({ "error": "server_error" }), None)
        }
    }
}

fn redeem(
    shared: &Shared,
    form: &Parameters,
    authorization: Option<&str>,
) -> anyhow::Result<Result<Value, TokenError>> {
    let given = |name: &str| form.get(name).cloned().unwrap_or_default();
    let (id, secret) = authorization
        .and_then(basic)
        .unwrap_or_else(|| (given("client_id"), given("client_secret")));
    let now = shared.clock.now();
    let inner = &mut *shared.google.lock();
    let grant = match inner.provider.redeem(form, (&id, &secret), now) {
        Ok(grant) => grant,
        Err(error) => return Ok(Err(error)),
    };
    let Grant { person, nonce, scope, .. } = grant;
    let access_token = format!("ya29.{}", hex::encode(rand::random::<[u8; 32]>()));
    let ticket = Ticket {
        issuer: &shared.google.issuer,
        audience: &id,
        nonce: nonce.as_deref(),
        access_token: &access_token,
    };
    let id_token = inner.keys.sign(&person, ticket, inner.forgeries.pop_front(), now)?;
    inner.provider.open_session(access_token.clone(), person, now);
    Ok(Ok(json!({
        "access_token": access_token,
        "expires_in": 3599,
        "scope": scope,
        "token_type": "Bearer",
        "id_token": id_token,
    })))
}

/// Credentials of HTTP's basic scheme, form-encoded as OAuth wants them.
fn basic(header: &str) -> Option<(String, String)> {
    let encoded = header.strip_prefix("Basic ")?.trim();
    let text = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |part: &str| {
        let pair = format!("it={part}");
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, decode(secret)?))
}

fn userinfo(shared: &Shared, request: &Request) -> Response {
    let token = request.header("authorization").and_then(|it| it.strip_prefix("Bearer "));
    let inner = shared.google.lock();
    let person = token.and_then(|token| inner.provider.session(token, shared.clock.now()));
    match person {
        Some(person) => json_answer(200, &keys::profile(person), None),
        None => {
            let mut refusal = json_answer(401, &json!({ "error": "invalid_token" }), None);
            let challenge = poem::http::HeaderValue::from_static("Bearer error=\"invalid_token\"");
            refusal.headers_mut().insert("www-authenticate", challenge);
            refusal
        }
    }
}
