//! Why signing in does not end well: a no, or something broken.

use bus::ask;
use proto_events::ledger::v1::Rejection;
use tracing::warn;

use crate::google::{self, Fault};
use crate::session::SignError;
use crate::store::users;

/// Why somebody is not signed in, when nothing is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The hint is too long.
    LoginHint,
    /// Not an address of an allowed origin.
    ReturnTo,
    /// The browser has not begun this sign-in, or too long ago, or has finished it before.
    State,
    /// The person said no at the provider, or the provider did.
    Declined,
    /// The redirect names another provider.
    Issuer,
    /// The redirect has neither an error nor a code that could be one.
    NoCode,
    /// The provider does not know the code.
    Code,
    /// The ID token belongs to another sign-in.
    Nonce,
    /// The ID token proves nothing.
    IdToken,
    /// The refresh token is none of ours, was used before, or its session has ended.
    RefreshToken,
    /// The refresh token's time is over.
    RefreshTokenExpired,
}

/// Why signing in did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A no.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The provider is away, or broken.
    #[error("failed to ask the OpenID provider")]
    Provider(#[source] google::Error),
    /// The database is.
    #[error("failed to keep the sign-in")]
    Store(#[source] users::Error),
    /// It is, before or after the statements.
    #[error("failed to {doing} a transaction")]
    Transaction {
        /// Begin or commit.
        doing: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The ledger is away.
    #[error("failed to have an account opened")]
    Ledger(#[source] ask::Error),
    /// The ledger does not want the account: too late, or a bug in one of us.
    #[error("the ledger refused to open an account: {0:?}")]
    Account(Rejection),
    /// Sixteen random numbers were all taken, or a person vanished.
    #[error("failed to find a free wallet number")]
    NoNumber,
    /// Cryptography broke.
    #[error("failed to mint an access token")]
    Mint(#[source] SignError),
}

impl From<users::Error> for Error {
    fn from(error: users::Error) -> Self {
        Self::Store(error)
    }
}

impl From<google::Error> for Error {
    fn from(error: google::Error) -> Self {
        match error {
            google::Error::CodeRefused => Self::Refused(Refusal::Code),
            google::Error::IdToken(Fault::Nonce) => Self::Refused(Refusal::Nonce),
            google::Error::IdToken(fault) => {
                warn!("an ID token is refused: {fault}");
                Self::Refused(Refusal::IdToken)
            }
            broken @ (google::Error::Unreachable { .. }
            | google::Error::Answer { .. }
            | google::Error::Nonsense { .. }
            | google::Error::JustFailed { .. }) => Self::Provider(broken),
        }
    }
}
