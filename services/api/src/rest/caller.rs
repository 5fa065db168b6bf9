//! Who asks: an access token or an API key becomes a [`Caller`] with one wallet.
//!
//! Nothing is written here, and on the usual path nothing is asked: sessions and keys are remembered
//! for a moment, wallets for good, because a wallet's facts never change.

use std::sync::Arc;

use poem::Request;
use poem::http::{HeaderMap, HeaderName, header};
use primitives::{KeyId, SessionId, Timestamp, UserId};
use sha2::{Digest as _, Sha256};
use tracing::error;

use crate::directory::Directory;
use crate::key_cache::{self, KeyCache, KeyRefusal};
use crate::liveness::Liveness;
use crate::permissions::{Permission, Permissions};
use crate::rest::problem::Problem;
use crate::session::{AccessTokens, TokenRefusal};
use crate::sign_in::SignIn;
use crate::store::users::{self, Wallet};

/// What 32 bytes are in base64url without padding.
const KEY_BODY_CHARS: usize = 43;

static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Whoever is behind a request, and the one wallet the request is about.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The person, also behind a key.
    pub user: UserId,
    /// The person's wallet.
    pub wallet: Wallet,
    /// With which credentials.
    pub kind: CallerKind,
}

/// With which credentials somebody asks.
#[derive(Debug, Clone, Copy)]
pub enum CallerKind {
    /// The person, by an access token.
    Person {
        /// The sign-in.
        session: SessionId,
    },
    /// A service, by an API key.
    Key {
        /// The key.
        key: KeyId,
        /// What it was given.
        permissions: Permissions,
    },
}

impl Caller {
    /// Whether this may be done: a person may do everything on the own wallet, a key what it was given.
    ///
    /// # Errors
    /// `missing_permission`, naming it.
    pub fn may(&self, permission: Permission) -> Result<(), Problem> {
        match self.kind {
            CallerKind::Person { .. } => Ok(()),
            CallerKind::Key { permissions, .. } if permissions.has(permission) => Ok(()),
            CallerKind::Key { .. } => Err(Problem::missing_permission(permission.as_str())),
        }
    }

    /// The session of a person; keys are turned away.
    ///
    /// # Errors
    /// `user_session_required`.
    pub fn person_only(&self) -> Result<SessionId, Problem> {
        match self.kind {
            CallerKind::Person { session } => Ok(session),
            CallerKind::Key { .. } => Err(Problem::user_session_required()),
        }
    }

    /// The key, if it is one.
    #[must_use]
    pub const fn key_id(&self) -> Option<KeyId> {
        match self.kind {
            CallerKind::Key { key, .. } => Some(key),
            CallerKind::Person { .. } => None,
        }
    }
}

/// What a request shows, before anybody believes it.
#[derive(Debug)]
pub enum Shown<'a> {
    /// What stands where an access token belongs.
    Token(&'a str),
    /// Something written as an API key.
    Key(key_cache::Shown),
}

impl Shown<'_> {
    /// Whether believing or refusing it costs a question, about something anybody could make up.
    #[must_use]
    pub fn is_strange(&self) -> bool {
        match self {
            // Only a token whose signature is good is looked up.
            Self::Token(_) => false,
            Self::Key(key) => !key.was_good(),
        }
    }
}

/// Finds out who asks. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct Authenticator {
    directory: Directory,
    tokens: Arc<AccessTokens>,
    liveness: Arc<Liveness>,
    keys: KeyCache,
}

impl Authenticator {
    /// Believes the tokens of `sign_in` and the keys that `keys` vouches for.
    #[must_use]
    pub fn new(directory: Directory, sign_in: &SignIn, keys: KeyCache) -> Self {
        let (tokens, liveness) = (sign_in.tokens(), sign_in.liveness());
        Self { directory, tokens, liveness, keys }
    }

    /// What the request shows.
    ///
    /// # Errors
    /// The codes of the contract's section 2 for what cannot be credentials.
    pub fn shown<'a>(&self, request: &'a Request) -> Result<Shown<'a>, Problem> {
        match written(request.headers())? {
            Written::Token(token) => Ok(Shown::Token(token)),
            Written::Key(digest) => Ok(Shown::Key(self.keys.recall(digest))),
        }
    }

    /// Who asks.
    ///
    /// # Errors
    /// The 401 codes of the contract's section 2, or `service_unavailable`.
    pub async fn caller(&self, shown: &Shown<'_>) -> Result<Caller, Problem> {
        match shown {
            Shown::Token(token) => self.person(token).await,
            Shown::Key(key) => self.key(key).await,
        }
    }

    /// Turns away whoever shows an API key where only people belong, though no token is needed.
    ///
    /// # Errors
    /// `user_session_required` for a good key, and whatever [`Authenticator::caller`] says of others.
    pub async fn no_key(&self, request: &Request) -> Result<(), Problem> {
        if request.headers().contains_key(&API_KEY) {
            self.caller(&self.shown(request)?).await?.person_only()?;
        }
        Ok(())
    }

    async fn person(&self, token: &str) -> Result<Caller, Problem> {
        let access = self.tokens.check(token, Timestamp::now()).map_err(|it| match it {
            TokenRefusal::Invalid => Problem::invalid_token(),
            TokenRefusal::Expired => Problem::expired_token(),
        })?;
        let living = self.liveness.person_of(access.session).await.map_err(unavailable)?;
        if living != Some(access.user) {
            return Err(Problem::invalid_token());
        }
        let wallet = self.wallet(access.user).await?.ok_or_else(Problem::invalid_token)?;
        let kind = CallerKind::Person { session: access.session };
        Ok(Caller { user: access.user, wallet, kind })
    }

    async fn key(&self, shown: &key_cache::Shown) -> Result<Caller, Problem> {
        let verified = self.keys.verify(shown).await;
        let grant = verified.map_err(|_| Problem::service_unavailable())?;
        let grant = grant.map_err(|it| match it {
            KeyRefusal::Unknown => Problem::invalid_api_key(),
            KeyRefusal::Expired => Problem::expired_api_key(),
            KeyRefusal::Revoked => Problem::revoked_api_key(),
        })?;
        let wallet = self.wallet(grant.user).await?.ok_or_else(Problem::invalid_api_key)?;
        let kind = CallerKind::Key { key: grant.key, permissions: grant.permissions };
        Ok(Caller { user: grant.user, wallet, kind })
    }

    async fn wallet(&self, user: UserId) -> Result<Option<Wallet>, Problem> {
        self.directory.wallet_of(user).await.map_err(unavailable)
    }
}

fn unavailable(broken: users::Error) -> Problem {
    let broken = anyhow::Error::from(broken);
    error!("failed to find out who asks: {broken:#}");
    Problem::service_unavailable()
}

/// Credentials as they are written.
#[derive(Debug, PartialEq, Eq)]
enum Written<'a> {
    Token(&'a str),
    Key([u8; 32]),
}

/// Reads the two headers; never both, and neither twice.
fn written(headers: &HeaderMap) -> Result<Written<'_>, Problem> {
    let has_token = headers.contains_key(header::AUTHORIZATION);
    let has_key = headers.contains_key(&API_KEY);
    match (has_token, has_key) {
        (true, true) => Err(Problem::ambiguous_credentials()),
        (false, false) => Err(Problem::missing_credentials()),
        (true, false) => {
            let token = only(headers, &header::AUTHORIZATION).and_then(bearer);
            token.map(Written::Token).ok_or_else(Problem::invalid_token)
        }
        (false, true) => {
            let key = only(headers, &API_KEY).filter(|it| looks_like_a_key(it));
            let digest = key.map(|it| Sha256::digest(it).into());
            digest.map(Written::Key).ok_or_else(Problem::invalid_api_key)
        }
    }
}

/// The header's value, if there is exactly one and it is text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok() // Bytes that are no text are no credentials.
}

/// The token of `Bearer <token>` (RFC 6750); the scheme's case does not matter.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    let is_whole = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_whole).then_some(token)
}

/// Whether the text is written as our keys are, so that noise costs no look-up.
fn looks_like_a_key(text: &str) -> bool {
    let body = text.strip_prefix("sk_live_").or_else(|| text.strip_prefix("sk_test_"));
    body.is_some_and(|it| {
        it.len() == KEY_BODY_CHARS
            && it.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use primitives::{AccountId, Currency, WalletNumber};

    use super::*;
    use crate::rest::problem::Code;

    fn verdict<'a>(headers: &'a [(&'static str, &'a str)]) -> Result<Option<String>, Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        match written(&map) {
            Ok(Written::Token(token)) => Ok(Some(token.to_owned())),
            Ok(Written::Key(_)) => Ok(None),
            Err(problem) => Err(problem.code()),
        }
    }

    #[test]
    fn credentials_are_shown_once_and_in_one_way() {
        let key = format!("sk_live_{}", "aB3_-".repeat(9).split_at(43).0);
        let long = format!("{key}A");
        for (headers, expected) in [
            (vec![], Err(Code::MissingCredentials)),
            (vec![("authorization", "Bearer a.b.c")], Ok(Some("a.b.c".to_owned()))),
            (vec![("authorization", "bearer  a.b.c ")], Ok(Some("a.b.c".to_owned()))),
            (vec![("x-api-key", key.as_str())], Ok(None)),
            (
                vec![("authorization", "Bearer a.b.c"), ("x-api-key", key.as_str())],
                Err(Code::AmbiguousCredentials),
            ),
            (vec![("authorization", ""), ("x-api-key", "")], Err(Code::AmbiguousCredentials)),
            (
                vec![("authorization", "Bearer a"), ("authorization", "Bearer a")],
                Err(Code::InvalidToken),
            ),
            (vec![("authorization", "Bearer")], Err(Code::InvalidToken)),
            (vec![("authorization", "Bearer ")], Err(Code::InvalidToken)),
            (vec![("authorization", "Bearer a b")], Err(Code::InvalidToken)),
            (vec![("authorization", "Basic YTpi")], Err(Code::InvalidToken)),
            (vec![("authorization", "a.b.c")], Err(Code::InvalidToken)),
            (
                vec![("x-api-key", key.as_str()), ("x-api-key", key.as_str())],
                Err(Code::InvalidApiKey),
            ),
            (vec![("x-api-key", "")], Err(Code::InvalidApiKey)),
            (vec![("x-api-key", "sk_live_")], Err(Code::InvalidApiKey)),
            (vec![("x-api-key", long.as_str())], Err(Code::InvalidApiKey)),
            (vec![("x-api-key", &key[3..])], Err(Code::InvalidApiKey)),
        ] {
            assert_eq!(verdict(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_key_may_do_what_it_was_given_and_a_person_everything() {
        let wallet = Wallet {
            account: AccountId::generate(),
            number: WalletNumber::from_random(1),
            currency: Currency::NGN,
        };
        let caller = |kind| Caller { user: UserId::generate(), wallet, kind };
        let person = caller(CallerKind::Person { session: SessionId::generate() });
        assert!(person.person_only().is_ok() && person.key_id().is_none());
        for given in Permission::ALL {
            let permissions = [*given].into_iter().collect();
            let key = caller(CallerKind::Key { key: KeyId::generate(), permissions });
            assert!(key.key_id().is_some());
            assert_eq!(key.person_only().unwrap_err().code(), Code::UserSessionRequired);
            for asked in Permission::ALL {
                assert!(person.may(*asked).is_ok());
                let expected = (given != asked).then_some(Code::MissingPermission);
                assert_eq!(key.may(*asked).err().map(|it| it.code()), expected);
            }
        }
    }
}
