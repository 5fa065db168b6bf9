//! What is asked and answered when people sign in, as the specification shows it.

use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Object};
use primitives::Timestamp;

use crate::rest::body::{Fields, Request};
use crate::rest::values::{Maybe, Moment};
use crate::sign_in::SignedIn;
use crate::store::users::User;

/// A person, as the person sees it.
#[derive(Debug, Object)]
#[oai(example)]
pub(super) struct Profile {
    /// Never changes.
    id: String,
    /// Verified by the provider at the last sign-in; `null` if it vouches for none.
    email: Maybe<String>,
    /// `null` if the provider knows none.
    name: Maybe<String>,
    /// Thirteen digits that others send money to.
    wallet_number: String,
    /// First sign-in.
    created_at: Moment,
}

impl Example for Profile {
    fn example() -> Self {
        Self {
            id: "usr_0192f0c1e6b87c3a9d2e4f5061728394".to_owned(),
            email: Maybe(Some("ada@gmail.com".to_owned())),
            name: Maybe(Some("Ada Obi".to_owned())),
            wallet_number: "4566678954356".to_owned(),
            created_at: Moment(Timestamp::from_micros(1_768_468_502_123_456)),
        }
    }
}

impl From<User> for Profile {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            email: Maybe(user.email),
            name: Maybe(user.name),
            wallet_number: user.wallet.number.to_string(),
            created_at: Moment(user.created_at),
        }
    }
}

/// A session: two tokens, and whose they are.
#[derive(Debug, Object)]
#[oai(example)]
pub(super) struct Session {
    /// Goes into `Authorization: Bearer …`.
    pub(super) access_token: String,
    /// Always `bearer`.
    pub(super) token_type: String,
    /// Seconds for which the access token is good.
    pub(super) expires_in: u64,
    /// Good for one refresh. Keep it secret; using it a second time ends the session.
    pub(super) refresh_token: String,
    /// Who signed in.
    user: Profile,
}

impl Example for Session {
    fn example() -> Self {
        Self {
            access_token: "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOiJ1c3JfMDE5MiJ9.0f8K2w"
                .to_owned(),
            token_type: "bearer".to_owned(),
            expires_in: 1_800,
            refresh_token: "rt_Q2hhbmdlcyBhdCBldmVyeSByZWZyZXNoLCBhbHdheXM".to_owned(),
            user: Profile::example(),
        }
    }
}

impl From<SignedIn> for Session {
    fn from(it: SignedIn) -> Self {
        Self {
            access_token: it.access_token,
            token_type: "bearer".to_owned(),
            expires_in: it.expires_in.as_secs(),
            refresh_token: it.refresh_token.expose(),
            user: it.user.into(),
        }
    }
}

/// What refreshing and logging out ask for.
#[derive(Debug, Object)]
#[oai(example)]
pub(super) struct RefreshRequest {
    /// The youngest refresh token of the session.
    pub(super) refresh_token: String,
}

impl Example for RefreshRequest {
    fn example() -> Self {
        Self { refresh_token: Session::example().refresh_token }
    }
}

impl Request for RefreshRequest {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let refresh_token = fields.text("refresh_token", |it| match it.as_str() {
            "" => Err("must not be empty"),
            _ => Ok(it),
        });
        Some(Self { refresh_token: refresh_token? })
    }
}

#[derive(ApiResponse)]
pub(super) enum Sent {
    /// To the provider's sign-in page. The cookie binds the answer to this browser for 10 minutes.
    #[oai(status = 302)]
    ToProvider(
        /// The provider's page.
        #[oai(header = "Location")]
        String,
        /// Signed, HttpOnly, SameSite=Lax.
        #[oai(header = "Set-Cookie")]
        String,
        #[oai(header = "Cache-Control")] String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Welcome {
    /// Signed in.
    #[oai(status = 200)]
    Session(
        Json<Session>,
        /// Takes the cookie of the sign-in away.
        #[oai(header = "Set-Cookie")]
        String,
        #[oai(header = "Cache-Control")] String,
    ),
    /// Back to `return_to`, with `access_token`, `token_type`, `expires_in` and `refresh_token` in
    /// the fragment, or `error=access_denied` if the person said no.
    #[oai(status = 303)]
    ReturnTo(
        /// The address with its fragment.
        #[oai(header = "Location")]
        String,
        /// Takes the cookie of the sign-in away.
        #[oai(header = "Set-Cookie")]
        String,
        #[oai(header = "Cache-Control")] String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Refreshed {
    /// A new pair of tokens; the old refresh token is spent.
    #[oai(status = 200)]
    Session(Json<Session>, #[oai(header = "Cache-Control")] String),
}

#[derive(ApiResponse)]
pub(super) enum LoggedOut {
    /// The session has ended.
    #[oai(status = 204)]
    Ended,
}

#[derive(ApiResponse)]
pub(super) enum Me {
    /// The signed-in person.
    #[oai(status = 200)]
    Profile(Json<Profile>, #[oai(header = "Cache-Control")] String),
}
