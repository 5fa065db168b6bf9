//! Signing in over HTTP: the walk to the OpenID provider and back, refresh, logout, and who one is.
//!
//! Reading and answering only; what happens is in `sign_in.rs`. Tokens travel in bodies and in the
//! fragment of an allowed address, never in a query, and every answer here says `no-store`.

mod answers;
mod callback;
mod cookie;

use std::sync::Arc;

use poem::Request as HttpRequest;
use poem_openapi::OpenApi;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use primitives::Timestamp;
use tracing::{error, warn};
use url::form_urlencoded;

use crate::rest::Tag;
use crate::rest::auth::answers::{
    LoggedOut, Me, RefreshRequest, Refreshed, Sent, Session, Welcome,
};
use crate::rest::auth::callback::CallbackBody;
use crate::rest::auth::cookie::Cookie;
use crate::rest::body::Body;
use crate::rest::caller::Authenticator;
use crate::rest::door::Door;
use crate::rest::problem::{AUTHENTICATED, Code, Problem, Refused, WITH_BODY, refusals};
use crate::rest::security::PersonCredentials;
use crate::sign_in::{Callback, Error, Finished, Refusal, SignIn};

const NO_STORE: &str = "no-store";

refusals! {
    /// `GET /auth/google`.
    BeginRefusals: ANYBODY, &[Code::InvalidField, Code::ProviderUnavailable];
    /// `/auth/google/callback`.
    FinishRefusals: ANYBODY, FINISH;
    /// `POST /auth/google/callback`.
    FinishByPostRefusals: ANYBODY, FINISH, WITH_BODY;
    /// `POST /auth/refresh` and `POST /auth/logout`.
    RefreshRefusals: ANYBODY, WITH_BODY;
    /// `GET /auth/me`.
    MeRefusals: AUTHENTICATED, &[Code::UserSessionRequired];
}

/// Nobody has to say who they are here, but who shows an API key is turned away.
const ANYBODY: &[Code] = &[
    Code::AmbiguousCredentials,
    Code::InvalidToken,
    Code::ExpiredToken,
    Code::InvalidApiKey,
    Code::ExpiredApiKey,
    Code::RevokedApiKey,
    Code::UserSessionRequired,
    Code::RateLimited,
    Code::InternalError,
    Code::ServiceUnavailable,
];
const FINISH: &[Code] = &[Code::InvalidField, Code::InvalidState, Code::ProviderUnavailable];

/// Signing in.
pub struct Auth {
    sign_in: Arc<SignIn>,
    authenticator: Authenticator,
    door: Door,
    cookie: Cookie,
}

impl Auth {
    /// The resource; `is_https` says whether browsers reach it by TLS.
    #[must_use]
    pub fn new(
        sign_in: Arc<SignIn>,
        authenticator: Authenticator,
        door: Door,
        is_https: bool,
    ) -> Self {
        Self { sign_in, authenticator, door, cookie: Cookie { is_https } }
    }

    async fn welcome(&self, req: &HttpRequest, callback: Callback) -> Result<Welcome, Problem> {
        let cookie = self.cookie.read(req.headers());
        let finished = self.sign_in.finish(cookie, &callback, Timestamp::now()).await;
        Ok(self.answer(finished.map_err(problem)?))
    }

    fn answer(&self, finished: Finished) -> Welcome {
        let (cleared, no_store) = (self.cookie.cleared(), NO_STORE.to_owned());
        match (finished.signed_in.map(Session::from), finished.return_to) {
            (Some(session), None) => Welcome::Session(Json(session), cleared, no_store),
            (session, Some(mut url)) => {
                url.set_fragment(Some(&fragment(session.as_ref())));
                Welcome::ReturnTo(url.into(), cleared, no_store)
            }
            (None, None) => unreachable!("a no without an app to tell is a refusal"),
        }
    }
}

#[OpenApi(tag = "Tag::SignIn")]
impl Auth {
    /// Begin signing in
    ///
    /// Open this in the person's browser. It leads to the OpenID provider, and from there to
    /// `/auth/google/callback` in the same browser.
    #[oai(path = "/auth/google", method = "get", operation_id = "begin_sign_in")]
    async fn begin(
        &self,
        req: &HttpRequest,
        /// Whom the person probably wants to sign in as, such as an e-mail address.
        #[oai(example = "example_hint")]
        Query(login_hint): Query<Option<String>>,
        /// Where the browser goes afterwards: an address of an allowed origin, without a fragment.
        #[oai(example = "example_address")]
        Query(return_to): Query<Option<String>>,
    ) -> Result<Sent, Refused<BeginRefusals>> {
        self.authenticator.no_key(req).await?;
        let hint = login_hint.as_deref().filter(|it| !it.is_empty());
        let begun = self.sign_in.begin(hint, return_to.as_deref(), Timestamp::now()).await;
        let begun = begun.map_err(problem)?;
        let cookie = self.cookie.set(&begun.cookie);
        Ok(Sent::ToProvider(begun.url.into(), cookie, NO_STORE.to_owned()))
    }

    /// Finish signing in
    ///
    /// The provider sends the browser here. The first sign-in makes the person and the wallet.
    #[oai(path = "/auth/google/callback", method = "get", operation_id = "finish_sign_in")]
    async fn finish(
        &self,
        req: &HttpRequest,
        /// From the provider.
        Query(code): Query<Option<String>>,
        /// From the provider, as it was sent there.
        Query(state): Query<Option<String>>,
        /// From the provider, instead of a code.
        Query(error): Query<Option<String>>,
        /// From the provider: who it is (RFC 9207).
        Query(iss): Query<Option<String>>,
    ) -> Result<Welcome, Refused<FinishRefusals>> {
        self.authenticator.no_key(req).await?;
        let callback = Callback { code, state, error, iss };
        if self.sign_in.is_test_code(&callback) {
            let finished = self.sign_in.finish_test_code(Timestamp::now()).await;
            return Ok(self.answer(finished.map_err(problem)?));
        }
        Ok(self.welcome(req, callback).await?)
    }

    /// Finish signing in, by POST
    ///
    /// The same for apps that catch the redirect themselves, and for providers that post a form.
    #[oai(path = "/auth/google/callback", method = "post", operation_id = "finish_sign_in_by_post")]
    async fn finish_by_post(
        &self,
        req: &HttpRequest,
        body: CallbackBody,
    ) -> Result<Welcome, Refused<FinishByPostRefusals>> {
        self.authenticator.no_key(req).await?;
        Ok(self.welcome(req, body.read()?).await?)
    }

    /// Refresh a session
    ///
    /// Spends the refresh token for a new pair. Using a spent one ends the whole session, because
    /// somebody has a copy of it: do not refresh twice at once, and sign in anew when the answer
    /// was lost.
    #[oai(path = "/auth/refresh", method = "post", operation_id = "refresh_session")]
    async fn refresh(
        &self,
        req: &HttpRequest,
        body: Body<RefreshRequest>,
    ) -> Result<Refreshed, Refused<RefreshRefusals>> {
        self.authenticator.no_key(req).await?;
        let asked = body.read()?;
        let session = self.sign_in.refresh(&asked.refresh_token, Timestamp::now()).await;
        let session = session.map_err(problem)?;
        Ok(Refreshed::Session(Json(session.into()), NO_STORE.to_owned()))
    }

    /// End a session
    ///
    /// Its refresh token is spent, and its access tokens are refused within seconds.
    #[oai(path = "/auth/logout", method = "post", operation_id = "end_session")]
    async fn logout(
        &self,
        req: &HttpRequest,
        body: Body<RefreshRequest>,
    ) -> Result<LoggedOut, Refused<RefreshRefusals>> {
        self.authenticator.no_key(req).await?;
        let asked = body.read()?;
        self.sign_in.logout(&asked.refresh_token, Timestamp::now()).await.map_err(problem)?;
        Ok(LoggedOut::Ended)
    }

    /// Who am I
    #[oai(path = "/auth/me", method = "get", operation_id = "get_me")]
    async fn me(&self, who: PersonCredentials<'_>) -> Result<Me, Refused<MeRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.person_only()?;
        let user = self.sign_in.user(caller.user).await.map_err(problem)?;
        Ok(Me::Profile(Json(user.into()), NO_STORE.to_owned()))
    }
}

fn example_hint() -> Option<String> {
    Some("ada@gmail.com".to_owned())
}

fn example_address() -> Option<String> {
    Some("https://app.example.com/signed-in".to_owned())
}

/// The one match from a sign-in that did not end well to what its caller is told.
fn problem(error: Error) -> Problem {
    let refusal = match error {
        Error::Refused(refusal) => refusal,
        Error::Provider(_) => {
            let broken = anyhow::Error::from(error);
            warn!("nobody can sign in: {broken:#}");
            return Problem::provider_unavailable();
        }
        Error::Store(_)
        | Error::Transaction { .. }
        | Error::Ledger(_)
        | Error::Account(_)
        | Error::NoNumber => {
            let broken = anyhow::Error::from(error);
            error!("a sign-in failed: {broken:#}");
            return Problem::service_unavailable();
        }
        Error::Mint(_) => {
            let broken = anyhow::Error::from(error);
            error!("a sign-in failed: {broken:#}");
            return Problem::internal_error();
        }
    };
    match refusal {
        Refusal::LoginHint => Problem::invalid_field("login_hint", "must be at most 320 bytes long"),
        Refusal::ReturnTo => Problem::invalid_field(
            "return_to",
            "must be an address of an allowed origin, at most 1024 bytes, without a fragment",
        ),
        Refusal::State => Problem::invalid_state(),
        Refusal::Declined => Problem::invalid_state()
            .detail("The sign-in was turned down at the provider. Begin again to sign in."),
        Refusal::Issuer => Problem::invalid_state()
            .detail("The redirect comes from another provider than the sign-in went to."),
        Refusal::NoCode => Problem::invalid_field("code", "is required, at most 4096 bytes long"),
        Refusal::Code => Problem::invalid_state()
            .detail("The provider does not accept this code: used before, or too old. Begin again."),
        Refusal::Nonce => Problem::invalid_state()
            .detail("The provider's answer belongs to another sign-in. Begin again."),
        Refusal::IdToken => Problem::invalid_token()
            .detail("The provider's word on who this is could not be verified. Begin again."),
        Refusal::RefreshToken => Problem::invalid_token()
            .detail("The refresh token is not one of ours, was used before, or its session has ended. Sign in again."),
        Refusal::RefreshTokenExpired => Problem::expired_token()
            .detail("The refresh token has expired. Sign in again."),
    }
}

/// What an app finds behind the `#` of its address.
fn fragment(session: Option<&Session>) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    match session {
        Some(session) => pairs
            .append_pair("access_token", &session.access_token)
            .append_pair("token_type", &session.token_type)
            .append_pair("expires_in", &session.expires_in.to_string())
            .append_pair("refresh_token", &session.refresh_token),
        None => pairs.append_pair("error", "access_denied"),
    };
    pairs.finish()
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::Example as _;

    use super::*;

    #[test]
    fn a_fragment_carries_the_session_or_the_no() {
        assert_eq!(fragment(None), "error=access_denied");
        let text = fragment(Some(&Session::example()));
        assert!(
            text.starts_with("access_token=eyJ") && text.contains("&expires_in=1800&"),
            "{text}"
        );
    }
}
