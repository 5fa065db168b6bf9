//! Who signs in, and which code is good for what: the provider's rules, without HTTP and keys.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use primitives::Timestamp;
use sha2::Digest as _;

/// The code that needs no sign-in: the quick start of this product's first version used it.
pub const TEST_CODE: &str = "test_code";
const CODE_LIFE: Duration = Duration::from_secs(600);
/// Life of access and id tokens.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// Somebody who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Stable for one e-mail address, over restarts too: 21 digits.
    pub sub: String,
    /// Address.
    pub email: String,
    /// Whether the provider has checked the address.
    pub email_verified: bool,
    /// Full name.
    pub name: String,
    /// Workspace domain, if the account belongs to one.
    pub hd: Option<String>,
}

impl Person {
    /// Somebody with this address; a name is made from it if none is given.
    #[must_use]
    pub fn invent(email: &str, name: Option<&str>) -> Self {
        let email = email.trim().to_lowercase();
        let digest = sha2::Sha256::digest(email.as_bytes());
        let digits: String =
            digest.iter().take(20).map(|byte| char::from(b'0' + byte % 10)).collect();
        let name = name.map(str::trim).filter(|name| !name.is_empty());
        let name = name.map_or_else(|| name_from(&email), str::to_owned);
        Self { sub: format!("1{digits}"), email, email_verified: true, name, hd: None }
    }

    /// Who is offered on the page.
    #[must_use]
    pub fn known() -> [Self; 3] {
        [
            ("ada.obi@gmail.com", "Ada Obi"),
            ("bayo.ade@gmail.com", "Bayo Ade"),
            ("chi.eze@gmail.com", "Chi Eze"),
        ]
        .map(|(email, name)| Self::invent(email, Some(name)))
    }

    /// Who [`TEST_CODE`] signs in.
    #[must_use]
    pub fn test() -> Self {
        Self::invent("test.user@gmail.com", Some("Test User"))
    }
}

fn name_from(email: &str) -> String {
    let local = email.split('@').next().unwrap_or_default();
    let words = local.split(['.', '_', '-', '+']).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>())
    };
    words.filter_map(capital).collect::<Vec<_>>().join(" ")
}

/// An application that may let people sign in.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Its `client_secret`.
    pub secret: String,
    /// Where it may send people back to; empty: anywhere on the loopback address.
    pub redirect_uris: Vec<String>,
}

impl Client {
    fn may_redirect_to(&self, uri: &str) -> bool {
        if !self.redirect_uris.is_empty() {
            return self.redirect_uris.iter().any(|known| known == uri);
        }
        let Ok(uri) = url::Url::parse(uri) else { return false };
        let loopback = match uri.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        loopback && matches!(uri.scheme(), "http" | "https") && uri.fragment().is_none()
    }
}

/// What an application asks for when it sends somebody to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
    pub(super) challenge: Option<String>,
    pub(super) login_hint: Option<String>,
}

/// Why somebody cannot sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The application is not to be trusted with an answer: only the person is told.
    Tell(&'static str),
    /// The application is told by a redirect.
    Redirect {
        /// Where to.
        redirect_uri: String,
        /// The application's own state, if it sent one.
        state: Option<String>,
        /// OAuth's error code.
        error: &'static str,
    },
}

/// What a code stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who signed in.
    pub person: Person,
    /// To be repeated in the id token.
    pub nonce: Option<String>,
    /// What was asked for.
    pub scope: String,
    redirect_uri: String,
    challenge: Option<String>,
    expires_at: Timestamp,
}

/// OAuth's error of the token endpoint, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenError {
    /// HTTP status.
    pub status: u16,
    /// OAuth's error code.
    pub error: &'static str,
    /// For people.
    pub description: &'static str,
}

const fn refused(error: &'static str, description: &'static str) -> TokenError {
    TokenError { status: 400, error, description }
}

/// Everything the provider remembers.
#[derive(Debug)]
pub struct Provider {
    client: Client,
    codes: BTreeMap<String, Grant>,
    sessions: BTreeMap<String, (Person, Timestamp)>,
}

/// The parameters of a request or a form.
pub type Parameters = BTreeMap<String, String>;

impl Provider {
    /// Nobody has signed in yet.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client, codes: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// Reads what an application asks for.
    ///
    /// # Errors
    /// What OAuth 2 and OpenID Connect say about it.
    pub fn read(&self, asked: &Parameters) -> Result<Wish, Refusal> {
        let given = |name: &str| asked.get(name).filter(|text| !text.is_empty()).cloned();
        if given("client_id").as_ref() != Some(&self.client.id) {
            return Err(Refusal::Tell("invalid_client: no application has this client_id."));
        }
        let redirect_uri = given("redirect_uri").unwrap_or_default();
        if !self.client.may_redirect_to(&redirect_uri) {
            return Err(Refusal::Tell(
                "redirect_uri_mismatch: it is not one of the application's.",
            ));
        }
        let state = given("state");
        let refuse = |error| {
            let (redirect_uri, state) = (redirect_uri.clone(), state.clone());
            Err(Refusal::Redirect { redirect_uri, state, error })
        };
        if given("response_type").as_deref() != Some("code") {
            return refuse("unsupported_response_type");
        }
        let scope = given("scope").unwrap_or_default();
        if !scope.split(' ').any(|word| word == "openid") {
            return refuse("invalid_scope");
        }
        let challenge = given("code_challenge");
        let method = given("code_challenge_method");
        let s256 = method.as_deref() == Some("S256");
        let well_formed = challenge.as_ref().is_none_or(|it| s256 && is_verifier(it));
        if !well_formed || (challenge.is_none() && method.is_some()) {
            return refuse("invalid_request");
        }
        let login_hint = given("login_hint").filter(|hint| hint.contains('@'));
        if given("prompt").as_deref() == Some("none") && login_hint.is_none() {
            return refuse("interaction_required");
        }
        let nonce = given("nonce");
        Ok(Wish { redirect_uri, state, scope, nonce, challenge, login_hint })
    }

    /// Remembers that `person` signed in, under a new `code`.
    pub fn grant(&mut self, wish: &Wish, person: Person, code: String, now: Timestamp) {
        self.codes.retain(|_, grant| grant.expires_at > now);
        let grant = Grant {
            person,
            nonce: wish.nonce.clone(),
            scope: wish.scope.clone(),
            redirect_uri: wish.redirect_uri.clone(),
            challenge: wish.challenge.clone(),
            expires_at: now.plus(CODE_LIFE),
        };
        self.codes.insert(code, grant);
    }

    /// Takes a code, once. `id` and `secret` are the application's credentials.
    ///
    /// # Errors
    /// What OAuth 2 says about it. A code that was shown with the wrong rest is used up, too.
    pub fn redeem(
        &mut self,
        form: &Parameters,
        (id, secret): (&str, &str),
        now: Timestamp,
    ) -> Result<Grant, TokenError> {
        let given = |name: &str| form.get(name).map_or("", String::as_str);
        if id != self.client.id || secret != self.client.secret {
            let description = "The OAuth client was not found, or its secret is wrong.";
            return Err(TokenError { status: 401, error: "invalid_client", description });
        }
        if given("grant_type") != "authorization_code" {
            return Err(refused("unsupported_grant_type", "Invalid grant_type"));
        }
        if given("code") == TEST_CODE {
            return Ok(Grant {
                person: Person::test(),
                nonce: None,
                scope: "openid email profile".to_owned(),
                redirect_uri: String::new(),
                challenge: None,
                expires_at: now,
            });
        }
        let grant = self.codes.remove(given("code")).filter(|grant| grant.expires_at > now);
        let grant = grant.ok_or_else(|| refused("invalid_grant", "Malformed auth code."))?;
        if given("redirect_uri") != grant.redirect_uri {
            return Err(refused("redirect_uri_mismatch", "Bad Request"));
        }
        let verifier = given("code_verifier");
        match &grant.challenge {
            Some(_) if verifier.is_empty() => {
                return Err(refused("invalid_grant", "Missing code verifier."));
            }
            Some(challenge) if !is_verifier(verifier) || *challenge != challenge_of(verifier) => {
                return Err(refused("invalid_grant", "Invalid code verifier."));
            }
            None if !verifier.is_empty() => {
                return Err(refused("invalid_grant", "code_verifier or verifier is not needed."));
            }
            Some(_) | None => {}
        }
        Ok(grant)
    }

    /// Remembers whose an access token is.
    pub fn open_session(&mut self, token: String, person: Person, now: Timestamp) {
        self.sessions.retain(|_, (_, expires_at)| *expires_at > now);
        self.sessions.insert(token, (person, now.plus(TOKEN_LIFE)));
    }

    /// Whose an access token is.
    #[must_use]
    pub fn session(&self, token: &str, now: Timestamp) -> Option<&Person> {
        self.sessions.get(token).filter(|(_, expires_at)| *expires_at > now).map(|it| &it.0)
    }

    /// The application's `client_id`.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client.id
    }

    /// Forgets codes and sessions.
    pub fn reset(&mut self) {
        self.codes.clear();
        self.sessions.clear();
    }
}

/// RFC 7636: 43 to 128 unreserved characters; a challenge looks the same.
fn is_verifier(text: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&text.len()) && text.bytes().all(unreserved)
}

/// PKCE's S256.
#[must_use]
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(verifier.as_bytes()))
}
