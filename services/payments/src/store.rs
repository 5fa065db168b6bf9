//! All SQL of the service.
//!
//! Lock order, and nobody takes it the other way: a webhook's row, then a deposit's row, then what
//! hangs on the deposit (attempts, requests, waiters, returns), then the outbox. The reader of commands holds
//! its cursor before all of them. Claims skip what is locked, so they wait for nobody.
//!
//! Functions that write take a connection inside somebody's transaction. What is read back is checked
//! again: a row that the rules could not have written is an error here, not a surprise later.

pub(crate) mod decisions;
pub(crate) mod deposits;
pub(crate) mod reconciliations;
pub(crate) mod requests;
pub(crate) mod returns;
pub(crate) mod rounds;
mod row;
pub(crate) mod timeline;
pub(crate) mod waiters;
pub(crate) mod webhooks;

use primitives::Timestamp;
use time::OffsetDateTime;

/// Something that was tried with the database failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection, or no transaction.
    #[error("failed to begin")]
    Begin(#[source] sqlx::Error),
    /// Whether it is durable is not known.
    #[error("failed to commit")]
    Commit(#[source] sqlx::Error),
    /// A deposit.
    #[error("failed to {what} a deposit")]
    Deposit {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// A refund or a dispute.
    #[error("failed to {what} a return")]
    Return {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// A request key.
    #[error("failed to {what} a request")]
    Request {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// Those who wait for a checkout.
    #[error("failed to {what} waiters")]
    Waiters {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// A webhook.
    #[error("failed to {what} a webhook")]
    Webhook {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// Work that one process does for all.
    #[error("failed to {what} a round")]
    Round {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// A comparison of a day.
    #[error("failed to {what} a reconciliation")]
    Reconciliation {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// An event.
    #[error("failed to announce")]
    Announce(#[source] bus::outbox::Error),
    /// A row holds what no release of this service writes.
    #[error("deposit row has an impossible {0}")]
    Corrupt(&'static str),
}

impl Error {
    /// Whether it comes from what a row or a message says rather than from the weather: trying
    /// again would fail again.
    pub(crate) fn is_poison(&self) -> bool {
        /// SQLSTATE classes: data, constraints, raised by a trigger.
        const POISONOUS: [&str; 3] = ["22", "23", "P0"];
        let source = match self {
            Self::Corrupt(_) => return true,
            Self::Begin(_) => return false,
            Self::Commit(source)
            | Self::Deposit { source, .. }
            | Self::Return { source, .. }
            | Self::Request { source, .. }
            | Self::Waiters { source, .. }
            | Self::Webhook { source, .. }
            | Self::Round { source, .. }
            | Self::Reconciliation { source, .. } => source,
            Self::Announce(_) => return false,
        };
        let code = source.as_database_error().and_then(|it| it.code());
        code.is_some_and(|code| POISONOUS.iter().any(|class| code.starts_with(class)))
    }
}

fn at(moment: OffsetDateTime) -> Timestamp {
    Timestamp::from_datetime(moment)
}

fn datetime(moment: Timestamp) -> OffsetDateTime {
    moment.to_datetime()
}
