//! Client of one OpenID provider: Google, or any other issuer by configuration.
//!
//! Discovery and signing keys are fetched when first needed and kept as long as the provider's
//! `Cache-Control` says; a key id that is not known fetches the keys again, at most once in
//! [`REFETCH_PAUSE`], and callers that wait for the same fetch share it. Nothing is retried here:
//! the person presses the button again. What an ID token must say is decided in `id_token.rs`.

mod id_token;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use primitives::Timestamp;
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use url::{Host, Url};

pub use id_token::{Fault, Person};

/// Longest wait for any one answer of the provider.
const ANSWER_WAIT: Duration = Duration::from_secs(8);
/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long an answer without `Cache-Control` is kept.
const FRESH_DEFAULT: Duration = Duration::from_mins(5);
/// Longest that anything is kept.
const FRESH_MAX: Duration = Duration::from_hours(24);
/// Shortest pause between two fetches of the keys for the sake of an unknown key id.
const REFETCH_PAUSE: Duration = Duration::from_secs(3);
/// Google signs tokens with either; the discovery document has the first.
const GOOGLE: &str = "https://accounts.google.com";

/// Why nobody can be told who this is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider did not answer, or not in time.
    #[error("failed to reach the OpenID provider for its {what}")]
    Unreachable {
        /// What was asked for.
        what: &'static str,
        /// The cause, without its address.
        #[source]
        source: reqwest::Error,
    },
    /// The provider answered with an error of its own, or refuses this client.
    #[error("the OpenID provider answered {status} ({error}) when asked for its {what}")]
    Answer {
        /// What was asked for.
        what: &'static str,
        /// HTTP status.
        status: StatusCode,
        /// The OAuth error code, if there was one.
        error: String,
    },
    /// The answer is too large or not what the protocol says.
    #[error("the OpenID provider's {what} cannot be used: {reason}")]
    Nonsense {
        /// What was asked for.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A caller that waited for the same fetch shares its failure.
    #[error("the OpenID provider's {what} could not be fetched a moment ago")]
    JustFailed {
        /// What was asked for.
        what: &'static str,
    },
    /// The provider does not know the code: used, expired, or made for somebody else.
    #[error("the OpenID provider refused the code")]
    CodeRefused,
    /// The ID token does not prove anything.
    #[error("the ID token is refused")]
    IdToken(#[source] Fault),
}

/// Who we are to the provider.
#[derive(Clone)]
pub struct Client {
    /// Registered client id.
    pub id: String,
    /// Its secret: web clients need it as well as PKCE.
    pub secret: chassis::Secret,
    /// Where the provider sends people back to; exactly as registered.
    pub redirect_url: Url,
}

/// One OpenID provider.
pub struct Provider {
    issuer: Url,
    client: Client,
    http: reqwest::Client,
    discovery: Kept<Discovery>,
    keys: Kept<BTreeMap<String, DecodingKey>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
}

/// What goes into the address of the provider's sign-in page.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Comes back in the redirect.
    pub state: &'a str,
    /// Comes back in the ID token.
    pub nonce: &'a str,
    /// PKCE, S256.
    pub challenge: &'a str,
    /// Whom the person probably wants to be.
    pub login_hint: Option<&'a str>,
}

/// What binds a code to the browser that brings it.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// PKCE: hashed, it was in the address of the sign-in page.
    pub verifier: &'a str,
    /// As it was in that address.
    pub nonce: &'a str,
}

impl Provider {
    /// A client of `issuer`; asks it nothing yet.
    ///
    /// # Errors
    /// The HTTP client could not be set up.
    pub fn new(issuer: Url, client: Client) -> Result<Self, reqwest::Error> {
        let mut http = reqwest::Client::builder()
            // A redirect could point a request with our secret anywhere.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WAIT)
            .connect_timeout(CONNECT_WAIT)
            .https_only(issuer.scheme() == "https")
            .user_agent("wallet-api");
        if is_loopback(&issuer) {
            http = http.no_proxy();
        }
        let (discovery, keys) = (Kept::new("discovery document"), Kept::new("signing keys"));
        Ok(Self { issuer, client, http: http.build()?, discovery, keys })
    }

    /// The issuer as accounts are keyed by it: without a slash at its end.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.issuer.as_str().trim_end_matches('/')
    }

    /// The address to send a person to.
    ///
    /// # Errors
    /// [`Error`] if the discovery document cannot be had.
    pub async fn sign_in_url(&self, ask: Ask<'_>) -> Result<Url, Error> {
        let mut url = self.discovery().await?.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("client_id", &self.client.id)
            .append_pair("redirect_uri", self.client.redirect_url.as_str())
            .append_pair("response_type", "code")
            .append_pair("scope", "openid email profile")
            .append_pair("state", ask.state)
            .append_pair("nonce", ask.nonce)
            .append_pair("code_challenge", ask.challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(hint) = ask.login_hint {
            url.query_pairs_mut().append_pair("login_hint", hint);
        }
        Ok(url)
    }

    /// Spends a code and says who brought it. Only the code of a sandbox comes without a binding.
    ///
    /// # Errors
    /// [`Error`]; only [`Error::CodeRefused`] and [`Error::IdToken`] are about this sign-in.
    pub async fn person(
        &self,
        code: &str,
        binding: Option<Binding<'_>>,
        now: Timestamp,
    ) -> Result<Person, Error> {
        let token = self.exchange(code, binding.map(|it| it.verifier)).await?;
        let kid = id_token::key_id(&token).map_err(Error::IdToken)?;
        let key = self.key(&kid).await?.ok_or(Error::IdToken(Fault::UnknownKey))?;
        let expected = id_token::Expected {
            issuers: &self.issuers(),
            client_id: &self.client.id,
            nonce: binding.map(|it| it.nonce),
        };
        id_token::check(&token, &key, &expected, now).map_err(Error::IdToken)
    }

    /// Every spelling of the issuer's name. Only Google may leave the scheme out.
    fn issuers(&self) -> Vec<&str> {
        let google = (self.issuer() == GOOGLE).then_some("accounts.google.com");
        // Some issuers end in a slash, and it is part of their name.
        [self.issuer(), self.issuer.as_str()].into_iter().chain(google).collect()
    }

    async fn discovery(&self) -> Result<Arc<Discovery>, Error> {
        self.discovery.get(|_, _| true, || self.fetch_discovery()).await
    }

    async fn fetch_discovery(&self) -> Result<(Discovery, Duration), Error> {
        const WHAT: &str = "discovery document";
        let url = format!("{}/.well-known/openid-configuration", self.issuer());
        let (found, fresh) = self.fetch::<Discovery>(WHAT, &url).await?;
        if found.issuer.trim_end_matches('/') != self.issuer() {
            return Err(Error::Nonsense { what: WHAT, reason: "it names another issuer" });
        }
        let endpoints = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
        if endpoints.iter().any(|it| it.scheme() != "https" && it.scheme() != self.issuer.scheme())
        {
            return Err(Error::Nonsense { what: WHAT, reason: "an endpoint is not https" });
        }
        Ok((found, fresh))
    }

    /// The signing key of this id, looked for again if it is not known.
    async fn key(&self, kid: &str) -> Result<Option<DecodingKey>, Error> {
        let discovery = self.discovery().await?;
        let url = discovery.jwks_uri.as_str();
        let known = |keys: &BTreeMap<_, _>, age| keys.contains_key(kid) || age < REFETCH_PAUSE;
        let keys = self.keys.get(known, || self.fetch_keys(url)).await?;
        Ok(keys.get(kid).cloned())
    }

    async fn fetch_keys(
        &self,
        url: &str,
    ) -> Result<(BTreeMap<String, DecodingKey>, Duration), Error> {
        #[derive(Deserialize)]
        struct KeySet {
            keys: Vec<serde_json::Value>,
        }
        let (set, fresh) = self.fetch::<KeySet>("signing keys", url).await?;
        Ok((set.keys.into_iter().filter_map(id_token::usable_key).collect(), fresh))
    }

    async fn exchange(&self, code: &str, verifier: Option<&str>) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
        }
        const WHAT: &str = "token";
        let discovery = self.discovery().await?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.client.redirect_url.as_str()),
            ("client_id", &self.client.id),
            ("client_secret", self.client.secret.expose()),
        ];
        let form: Vec<_> =
            form.into_iter().chain(verifier.map(|it| ("code_verifier", it))).collect();
        let answer = self.http.post(discovery.token_endpoint.clone()).form(&form).send().await;
        let answer = answer.map_err(|source| unreachable_for(WHAT, source))?;
        match read_json::<Tokens>(WHAT, answer).await {
            Ok(tokens) => Ok(tokens.id_token),
            Err(Error::Answer { status, error, .. })
                if status.is_client_error() && error == "invalid_grant" =>
            {
                Err(Error::CodeRefused)
            }
            Err(error) => Err(error),
        }
    }

    async fn fetch<T: DeserializeOwned>(
        &self,
        what: &'static str,
        url: &str,
    ) -> Result<(T, Duration), Error> {
        let answer = self.http.get(url).send().await;
        let answer = answer.map_err(|source| unreachable_for(what, source))?;
        let cache_control = answer.headers().get(header::CACHE_CONTROL);
        let fresh = fresh_for(cache_control.and_then(|it| it.to_str().ok())); // Unreadable: none.
        Ok((read_json(what, answer).await?, fresh))
    }
}

/// Whether an address is this machine's own.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn unreachable_for(what: &'static str, source: reqwest::Error) -> Error {
    Error::Unreachable { what, source: source.without_url() }
}

/// Reads at most [`ANSWER_BYTES_MAX`] of a good answer, or the OAuth error of a bad one.
async fn read_json<T: DeserializeOwned>(
    what: &'static str,
    mut answer: Response,
) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|it| unreachable_for(what, it))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(Error::Nonsense { what, reason: "it is too large" });
        }
    }
    if status != StatusCode::OK {
        let error = serde_json::from_slice::<Refused>(&body).map_or_else(
            |_| "no error code".to_owned(),
            |it| it.error.chars().filter(char::is_ascii_graphic).take(64).collect(),
        );
        return Err(Error::Answer { what, status, error });
    }
    serde_json::from_slice(&body)
        .map_err(|_| Error::Nonsense { what, reason: "it is not the JSON the protocol says" })
}

/// How long `Cache-Control` lets an answer be kept.
fn fresh_for(cache_control: Option<&str>) -> Duration {
    let Some(text) = cache_control else { return FRESH_DEFAULT };
    let mut fresh = FRESH_DEFAULT;
    for directive in text.split(',').map(|it| it.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            None if directive == "no-store" || directive == "no-cache" => return Duration::ZERO,
            Some(("max-age", seconds)) => {
                let seconds = seconds.trim_matches('"').parse().unwrap_or(0);
                fresh = Duration::from_secs(seconds).min(FRESH_MAX);
            }
            _ => {}
        }
    }
    fresh
}

/// Something fetched and kept for a while, by one fetch at a time.
struct Kept<T> {
    what: &'static str,
    slot: Mutex<Slot<T>>,
}

struct Slot<T> {
    value: Option<(Arc<T>, Timestamp, Duration)>,
    failed_at: Option<Timestamp>,
}

impl<T> Kept<T> {
    fn new(what: &'static str) -> Self {
        Self { what, slot: Mutex::new(Slot { value: None, failed_at: None }) }
    }

    /// What is kept, if it is fresh and `serves` (given it and its age); else what `fetch` brings.
    async fn get<F>(
        &self,
        serves: impl Fn(&T, Duration) -> bool,
        fetch: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let asked_at = Timestamp::now();
        // Held while fetching: whoever asks meanwhile waits here and then shares the result.
        let mut slot = self.slot.lock().await;
        if let Some((value, fetched_at, fresh)) = &slot.value {
            let age = Timestamp::now().since(*fetched_at);
            let shared = asked_at <= *fetched_at;
            if shared || (age < *fresh && serves(value, age)) {
                return Ok(Arc::clone(value));
            }
        }
        if slot.failed_at.is_some_and(|failed_at| asked_at <= failed_at) {
            return Err(Error::JustFailed { what: self.what });
        }
        match fetch().await {
            Ok((value, fresh)) => {
                let value = Arc::new(value);
                slot.value = Some((Arc::clone(&value), Timestamp::now(), fresh));
                Ok(value)
            }
            Err(error) => {
                slot.failed_at = Some(Timestamp::now());
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn cache_control_is_obeyed_within_bounds() {
        for (text, seconds) in [
            (None, 300),
            (Some("public, max-age=19807, must-revalidate"), 19_807),
            (Some("MAX-AGE=60"), 60),
            (Some("max-age=99999999"), 86_400),
            (Some("max-age=soon"), 0),
            (Some("no-store"), 0),
            (Some("max-age=60, no-cache"), 0),
            (Some("private"), 300),
        ] {
            assert_eq!(fresh_for(text), Duration::from_secs(seconds), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_recognised_in_every_spelling() {
        for (url, expected) in [
            ("http://127.0.0.1:8090/google", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:8090", true),
            ("http://localhost:8090", true),
            ("http://sandbox.localhost", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("http://sandbox:8090", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn callers_that_wait_for_one_fetch_share_it() {
        let kept = Kept::new("thing");
        let n_fetches = AtomicU32::new(0);
        let fetch = || async {
            n_fetches.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok((7, Duration::ZERO))
        };
        let all = futures_util::future::join_all((0..10).map(|_| kept.get(|_, _| false, fetch)));
        for value in all.await {
            assert_eq!(*value.unwrap(), 7);
        }
        assert_eq!(n_fetches.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn callers_that_wait_for_one_failure_share_it_and_the_next_one_tries_again() {
        let kept = Kept::<u8>::new("thing");
        let n_fetches = AtomicU32::new(0);
        let fetch = || async {
            n_fetches.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err(Error::Nonsense { what: "thing", reason: "broken" })
        };
        let all = futures_util::future::join_all((0..10).map(|_| kept.get(|_, _| true, fetch)));
        assert!(all.await.iter().all(Result::is_err));
        assert_eq!(n_fetches.load(Ordering::SeqCst), 1);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(kept.get(|_, _| true, || async { Ok((8, Duration::ZERO)) }).await.is_ok());
    }
}
