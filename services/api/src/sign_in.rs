//! Signing people in: to the OpenID provider and back, then our own session.
//!
//! `begin` and `finish` are the two ends of the walk to the provider, `refresh` and `logout` what
//! follows. The rules are elsewhere and pure (`attempt.rs`, `session.rs`, `google/id_token.rs`);
//! this is their shell: it loads, calls, saves. Nothing is awaited from outside while a transaction
//! is open. A token is handed out only when the person's wallet has an open account in the ledger.

mod config;
mod error;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::ask::Asker;
use primitives::{AccountId, Currency, SessionId, Timestamp, UserId, WalletNumber};
use proto_events::convert::WireId as _;
use proto_events::ledger::v1::{Command, OpenAccount, Outcome, Rejection, command};
use proto_events::subjects;
use sqlx::PgPool;
use tracing::{info, warn};
use url::Url;
use uuid::Uuid;

use crate::attempt::{self, Attempt};
use crate::google::{self, Ask, Binding, Client, Person, Provider};
use crate::liveness::Liveness;
use crate::session::{AccessTokens, RefreshToken};
use crate::store::sessions::{self, EndReason, RefreshRow};
use crate::store::users::{self, Arrival, User, Wallet};

pub use config::Config;
pub use error::{Error, Refusal};

/// Longest wait for the ledger to open an account.
const OPEN_WAIT: Duration = Duration::from_secs(5);
/// Most wallet numbers tried for one person; with a million wallets, two hits in a row are one in
/// a million million.
const NUMBERS_MAX: u32 = 16;
/// Longest address to return to: it travels in the cookie, which browsers cut at 4 KiB.
const RETURN_TO_BYTES_MAX: usize = 1_024;
/// Longest hint; as long as the longest e-mail address.
const LOGIN_HINT_BYTES_MAX: usize = 320;
/// Longest code that is passed on; real ones are under 300.
const CODE_BYTES_MAX: usize = 4_096;
/// Brings a sandbox's own person without any walk, where that is switched on.
const TEST_CODE: &str = "test_code";

/// Where a person goes to sign in, and what the browser keeps meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The provider's page.
    pub url: Url,
    /// The cookie's value.
    pub cookie: String,
}

/// What comes back with the redirect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callback {
    /// To be spent at the token endpoint.
    pub code: Option<String>,
    /// As it was sent.
    pub state: Option<String>,
    /// Instead of a code.
    pub error: Option<String>,
    /// Who answers (RFC 9207).
    pub iss: Option<String>,
}

/// The end of the walk.
#[derive(Debug)]
pub struct Finished {
    /// Tokens; or that the person said no, which only an app that waits at `return_to` is told so.
    pub signed_in: Option<SignedIn>,
    /// Where the person goes now.
    pub return_to: Option<Url>,
}

/// A session, as its person gets it.
#[derive(Debug)]
pub struct SignedIn {
    /// Our own token.
    pub access_token: String,
    /// How long it is good for.
    pub expires_in: Duration,
    /// Good for one refresh.
    pub refresh_token: RefreshToken,
    /// Who.
    pub user: User,
}

/// Signs people in.
pub struct SignIn {
    pool: PgPool,
    asker: Asker,
    provider: Provider,
    tokens: Arc<AccessTokens>,
    liveness: Arc<Liveness>,
    cookie_keys: Vec<[u8; 32]>,
    allowed_origins: Vec<String>,
    refresh_token_lifetime: Duration,
    wallet_currency: Currency,
    allow_test_code: bool,
}

impl SignIn {
    /// As configured; asks nobody anything yet.
    ///
    /// # Errors
    /// Settings that [`Config::check`] would have refused, or no HTTP client.
    pub fn try_new(
        config: &Config,
        public_url: &Url,
        allowed_origins: &[String],
        pool: PgPool,
        asker: Asker,
    ) -> anyhow::Result<Self> {
        config.check().map_err(anyhow::Error::msg)?;
        let keyring = config.keyring().context("failed to read the token keys")?;
        let origin = public_url.as_str().trim_end_matches('/');
        let callback = || Url::parse(&format!("{origin}/auth/google/callback"));
        let client = Client {
            id: config.client_id.clone(),
            secret: config.client_secret.clone(),
            redirect_url: config.redirect_url.clone().map_or_else(callback, Ok)?,
        };
        let provider = Provider::new(config.issuer.clone(), client);
        Ok(Self {
            provider: provider.context("failed to set up the HTTP client")?,
            cookie_keys: keyring.derive(attempt::PURPOSE),
            tokens: Arc::new(AccessTokens::new(keyring, origin, config.access_token_lifetime())),
            liveness: Arc::new(Liveness::new(pool.clone())),
            allowed_origins: allowed_origins.to_vec(),
            refresh_token_lifetime: config.refresh_token_lifetime(),
            wallet_currency: config.wallet_currency,
            allow_test_code: config.allow_test_code,
            pool,
            asker,
        })
    }

    /// What checks the access tokens that are handed out here.
    #[must_use]
    pub fn tokens(&self) -> Arc<AccessTokens> {
        Arc::clone(&self.tokens)
    }

    /// What knows which sessions live.
    #[must_use]
    pub fn liveness(&self) -> Arc<Liveness> {
        Arc::clone(&self.liveness)
    }

    /// Sends a person to the provider.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn begin(
        &self,
        login_hint: Option<&str>,
        return_to: Option<&str>,
        now: Timestamp,
    ) -> Result<Begun, Error> {
        if login_hint.is_some_and(|it| it.len() > LOGIN_HINT_BYTES_MAX) {
            return Err(Error::Refused(Refusal::LoginHint));
        }
        let return_to = return_to.map(|it| self.allowed(it)).transpose()?;
        let attempt = Attempt::from_random(&rand::random(), return_to.map(String::from), now);
        let ask = Ask {
            state: &attempt.state,
            nonce: &attempt.nonce,
            challenge: &attempt.challenge(),
            login_hint,
        };
        let url = self.provider.sign_in_url(ask).await?;
        Ok(Begun { url, cookie: attempt.seal(&self.cookie_keys) })
    }

    /// An address that tokens may be sent to.
    fn allowed(&self, return_to: &str) -> Result<Url, Error> {
        let refused = || Error::Refused(Refusal::ReturnTo);
        if return_to.len() > RETURN_TO_BYTES_MAX {
            return Err(refused());
        }
        let url = Url::parse(return_to).map_err(|_| refused())?;
        let origin = url.origin().ascii_serialization();
        let is_allowed = matches!(url.scheme(), "https" | "http")
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            && self.allowed_origins.iter().any(|it| it.trim_end_matches('/') == origin);
        if is_allowed { Ok(url) } else { Err(refused()) }
    }

    /// Takes a person back from the provider, with the cookie the browser kept.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn finish(
        &self,
        cookie: Option<&str>,
        callback: &Callback,
        now: Timestamp,
    ) -> Result<Finished, Error> {
        let attempt = self.attempt(cookie, callback, now).await?;
        // The signature says that `begin` allowed the address.
        let return_to = attempt.return_to.as_deref().and_then(|it| Url::parse(it).ok());
        if let Some(error) = &callback.error {
            return match (error.as_str(), return_to) {
                ("server_error" | "temporarily_unavailable", _) => {
                    let reason = "it could not sign anybody in";
                    Err(Error::Provider(google::Error::Nonsense { what: "redirect", reason }))
                }
                (_, Some(url)) => Ok(Finished { signed_in: None, return_to: Some(url) }),
                (_, None) => Err(Error::Refused(Refusal::Declined)),
            };
        }
        let code = callback.code.as_deref().filter(|it| it.len() <= CODE_BYTES_MAX);
        let code = code.ok_or(Error::Refused(Refusal::NoCode))?;
        let binding = Binding { verifier: &attempt.verifier, nonce: &attempt.nonce };
        let person = self.provider.person(code, Some(binding), now).await?;
        let signed_in = self.sign_in(&person, Some(&attempt), now).await?;
        Ok(Finished { signed_in: Some(signed_in), return_to })
    }

    /// The attempt that this callback belongs to.
    async fn attempt(
        &self,
        cookie: Option<&str>,
        callback: &Callback,
        now: Timestamp,
    ) -> Result<Attempt, Error> {
        let refused = || Error::Refused(Refusal::State);
        let attempt = cookie.and_then(|it| Attempt::open(it, &self.cookie_keys, now));
        let attempt = attempt.ok_or_else(refused)?;
        if !callback.state.as_deref().is_some_and(|it| attempt.is_state(it)) {
            return Err(refused());
        }
        // Only a look: it spares the provider. Burning happens where it cannot race.
        if sessions::is_burnt(&self.pool, attempt.state_digest()).await? {
            return Err(refused());
        }
        match callback.iss.as_deref() {
            Some(iss) if iss.trim_end_matches('/') != self.provider.issuer() => {
                Err(Error::Refused(Refusal::Issuer))
            }
            _ => Ok(attempt),
        }
    }

    /// Whether this is the quick start that needs no walk, and it is switched on.
    #[must_use]
    pub fn is_test_code(&self, callback: &Callback) -> bool {
        let is_bare = callback.state.is_none() && callback.error.is_none();
        self.allow_test_code && is_bare && callback.code.as_deref() == Some(TEST_CODE)
    }

    /// Signs in whomever the sandbox lets in by [`TEST_CODE`]; only where [`SignIn::is_test_code`].
    ///
    /// # Errors
    /// [`Error`].
    pub async fn finish_test_code(&self, now: Timestamp) -> Result<Finished, Error> {
        assert!(self.allow_test_code, "Config::check allows this only beside a sandbox");
        let person = self.provider.person(TEST_CODE, None, now).await?;
        let signed_in = self.sign_in(&person, None, now).await?;
        Ok(Finished { signed_in: Some(signed_in), return_to: None })
    }

    async fn sign_in(
        &self,
        person: &Person,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Result<SignedIn, Error> {
        let user = self.arrive(person, attempt, now).await?;
        self.open_account(&user, now).await?;
        let (session, refresh_token) = self.begin_session(&user, now).await?;
        info!(user.id = %user.id, "person {} signed in", user.id);
        self.signed_in(user, session, refresh_token, now)
    }

    /// Burns the state and finds or makes the person and the wallet, all or nothing. However many
    /// first sign-ins run at once, the unique constraints leave one person with one wallet.
    async fn arrive(
        &self,
        person: &Person,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Result<User, Error> {
        let mut tx = self.pool.begin().await.map_err(broken("begin"))?;
        if let Some(attempt) = attempt {
            let digest = attempt.state_digest();
            if !sessions::burn(&mut tx, digest, attempt.expires_at()).await? {
                return Err(Error::Refused(Refusal::State));
            }
        }
        let arrival = Arrival {
            issuer: self.provider.issuer(),
            subject: &person.subject,
            email: person.email.as_deref(),
            name: person.name.as_deref(),
        };
        let id = users::arrive(&mut tx, UserId::generate(), arrival, now).await?;
        for _ in 0..NUMBERS_MAX {
            if let Some(user) = users::user(&mut tx, id).await? {
                tx.commit().await.map_err(broken("commit"))?;
                return Ok(user);
            }
            let wallet = Wallet {
                account: AccountId::generate(),
                number: WalletNumber::from_random(rand::random()),
                currency: self.wallet_currency,
            };
            users::give_wallet(&mut tx, id, wallet, now).await?;
        }
        Err(Error::NoNumber)
    }

    /// Has the ledger open the wallet's account, once. If that fails nobody gets a token, and the
    /// next sign-in asks again; asking twice is harmless.
    async fn open_account(&self, user: &User, now: Timestamp) -> Result<(), Error> {
        if user.is_opened {
            return Ok(());
        }
        let open = OpenAccount {
            account_id: user.wallet.account.to_bytes(),
            currency: user.wallet.currency.to_string(),
        };
        let command = Command {
            deadline_at_us: now.plus(OPEN_WAIT).micros(),
            body: Some(command::Body::OpenAccount(open)),
        };
        let asked = self.asker.command(subjects::ledger::OPEN_ACCOUNT, &command, OPEN_WAIT).await;
        let outcome: Outcome = asked.map_err(Error::Ledger)?;
        // Compared as a number: a rejection that this release does not know is one all the same.
        if outcome.rejection != i32::from(Rejection::Unspecified) {
            return Err(Error::Account(outcome.rejection()));
        }
        let mut conn = self.pool.acquire().await.map_err(broken("begin"))?;
        Ok(users::opened(&mut conn, user.wallet.account, now).await?)
    }

    async fn begin_session(
        &self,
        user: &User,
        now: Timestamp,
    ) -> Result<(SessionId, RefreshToken), Error> {
        let (session, token) = (SessionId::generate(), RefreshToken::from_random(rand::random()));
        let mut tx = self.pool.begin().await.map_err(broken("begin"))?;
        sessions::forget(&mut tx, now).await?;
        sessions::begin_session(&mut tx, session, user.id, self.row(&token, now)).await?;
        tx.commit().await.map_err(broken("commit"))?;
        Ok((session, token))
    }

    fn row(&self, token: &RefreshToken, now: Timestamp) -> RefreshRow {
        let expires_at = now.plus(self.refresh_token_lifetime);
        RefreshRow { digest: token.digest(), issued_at: now, expires_at }
    }

    fn signed_in(
        &self,
        user: User,
        session: SessionId,
        refresh_token: RefreshToken,
        now: Timestamp,
    ) -> Result<SignedIn, Error> {
        let access = self.tokens.access(user.id, session, token_id(), now);
        let access_token = self.tokens.mint(&access).map_err(Error::Mint)?;
        Ok(SignedIn { access_token, expires_in: self.tokens.lifetime(), refresh_token, user })
    }

    /// Spends a refresh token for a new pair. A spent one ends the whole session, because somebody
    /// has a copy; so of two refreshes at once one wins, and the session ends all the same.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refresh(&self, token: &str, now: Timestamp) -> Result<SignedIn, Error> {
        let refused = || Error::Refused(Refusal::RefreshToken);
        let spent = RefreshToken::parse(token).ok_or_else(refused)?;
        let next = RefreshToken::from_random(rand::random());
        let mut tx = self.pool.begin().await.map_err(broken("begin"))?;
        let Some((session, user)) = sessions::spend(&mut tx, spent.digest(), now).await? else {
            tx.rollback().await.map_err(broken("roll back"))?;
            return Err(self.why_not_spent(&spent, now).await?);
        };
        sessions::succeed_token(&mut tx, session, self.row(&next, now)).await?;
        let user = users::user(&mut tx, user).await?.ok_or_else(refused)?;
        tx.commit().await.map_err(broken("commit"))?;
        self.signed_in(user, session, next, now)
    }

    /// Ends the session if the token was spent before, and says what the caller is told.
    async fn why_not_spent(&self, token: &RefreshToken, now: Timestamp) -> Result<Error, Error> {
        let mut conn = self.pool.acquire().await.map_err(broken("begin"))?;
        let Some(state) = sessions::token_state(&mut conn, token.digest()).await? else {
            return Ok(Error::Refused(Refusal::RefreshToken));
        };
        if !state.is_spent && !state.is_ended {
            return Ok(Error::Refused(Refusal::RefreshTokenExpired));
        }
        if state.is_spent && !state.is_ended {
            sessions::end_session(&mut conn, state.session, EndReason::RefreshTokenReused, now)
                .await?;
            warn!(session.id = %state.session, "session {} ended: refresh token reused", state.session);
        }
        self.liveness.end(state.session);
        Ok(Error::Refused(Refusal::RefreshToken))
    }

    /// Ends the session that a refresh token belongs to; repeating it is harmless.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn logout(&self, token: &str, now: Timestamp) -> Result<(), Error> {
        let refused = || Error::Refused(Refusal::RefreshToken);
        let token = RefreshToken::parse(token).ok_or_else(refused)?;
        let mut conn = self.pool.acquire().await.map_err(broken("begin"))?;
        let state = sessions::token_state(&mut conn, token.digest()).await?.ok_or_else(refused)?;
        sessions::end_session(&mut conn, state.session, EndReason::Logout, now).await?;
        self.liveness.end(state.session);
        Ok(())
    }

    /// Who a session's person is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn user(&self, id: UserId) -> Result<User, Error> {
        let mut conn = self.pool.acquire().await.map_err(broken("begin"))?;
        users::user(&mut conn, id).await?.ok_or(Error::Refused(Refusal::RefreshToken))
    }
}

fn broken(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Transaction { doing, source }
}

fn token_id() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}
