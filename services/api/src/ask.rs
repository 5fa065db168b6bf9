//! The other services, as this one asks them.
//!
//! A query that fails is a 503 and nothing else happened. A command that fails has one of two
//! [`Failure`]s, and the difference is money: surely not taken, or perhaps taken. Each error is
//! logged here, once.

use std::time::Duration;

use bus::ask::{Asker, Error};
use primitives::{AccountId, TransferId, UserId};
use prost::Message;
use proto_events::convert::WireId as _;
use proto_events::{keys, ledger, payments, subjects};
use tracing::{error, warn};

use crate::rest::problem::Problem;

/// Longest wait for an answer to a query: these read what is committed, at once.
const QUERY_WAIT: Duration = Duration::from_secs(3);

/// Why a command has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was surely not taken.
    Unavailable,
    /// It may have been taken, and may still be done before its deadline.
    Unknown,
}

async fn query<R: Message + Default>(
    asker: &Asker,
    subject: &'static str,
    query: &impl Message,
) -> Result<R, Problem> {
    asker.query(subject, query, QUERY_WAIT).await.map_err(|error| {
        warn!(error = chain(&error), "no answer to {subject}");
        Problem::service_unavailable()
    })
}

async fn command<R: Message + Default>(
    asker: &Asker,
    subject: &'static str,
    command: &impl Message,
    wait: Duration,
) -> Result<R, Failure> {
    asker.command(subject, command, wait).await.map_err(|error| match error {
        Error::Unavailable { .. } => {
            warn!(error = chain(&error), "{subject} was not taken");
            Failure::Unavailable
        }
        Error::Unknown => {
            warn!("{subject} was taken and not answered in time");
            Failure::Unknown
        }
        Error::Undecodable(_) => {
            error!(error = chain(&error), "the answer to {subject} cannot be read");
            Failure::Unknown
        }
    })
}

/// The ledger.
#[derive(Clone)]
pub(crate) struct Ledger(Asker);

impl Ledger {
    pub(crate) fn new(asker: Asker) -> Self {
        Self(asker)
    }

    pub(crate) async fn post(
        &self,
        transfer: &ledger::v1::Command,
        wait: Duration,
    ) -> Result<ledger::v1::Outcome, Failure> {
        command(&self.0, subjects::ledger::POST_TRANSFER, transfer, wait).await
    }

    pub(crate) async fn balance(&self, of: AccountId) -> Result<ledger::v1::Balance, Problem> {
        let get = ledger::v1::GetBalance { account_id: of.to_bytes() };
        query(&self.0, subjects::ledger::GET_BALANCE, &get).await
    }

    /// One transfer as `account` sees it; `None` if it sees none.
    pub(crate) async fn movement(
        &self,
        account: AccountId,
        transfer: TransferId,
    ) -> Result<Option<ledger::v1::Movement>, Problem> {
        let get = ledger::v1::GetTransfer {
            account_id: account.to_bytes(),
            transfer_id: transfer.to_bytes(),
        };
        let found: ledger::v1::Transfer =
            query(&self.0, subjects::ledger::GET_TRANSFER, &get).await?;
        Ok(found.movement)
    }

    pub(crate) async fn movements(
        &self,
        list: &ledger::v1::ListMovements,
    ) -> Result<ledger::v1::Movements, Problem> {
        query(&self.0, subjects::ledger::LIST_MOVEMENTS, list).await
    }
}

/// The payments service.
#[derive(Clone)]
pub(crate) struct Payments(Asker);

impl Payments {
    pub(crate) fn new(asker: Asker) -> Self {
        Self(asker)
    }

    pub(crate) async fn start(
        &self,
        deposit: &payments::v1::StartDeposit,
        wait: Duration,
    ) -> Result<payments::v1::DepositStarted, Failure> {
        command(&self.0, subjects::payments::START_DEPOSIT, deposit, wait).await
    }

    pub(crate) async fn deposit(
        &self,
        account: AccountId,
        reference: String,
    ) -> Result<payments::v1::Deposit, Problem> {
        let get = payments::v1::GetDeposit { account_id: account.to_bytes(), reference };
        query(&self.0, subjects::payments::GET_DEPOSIT, &get).await
    }
}

/// The keys service.
#[derive(Clone)]
pub(crate) struct Keys(Asker);

impl Keys {
    pub(crate) fn new(asker: Asker) -> Self {
        Self(asker)
    }

    /// Asks for `asked`, whose subject follows from its body.
    pub(crate) async fn ask(
        &self,
        asked: &keys::v1::Command,
        wait: Duration,
    ) -> Result<keys::v1::Outcome, Failure> {
        use keys::v1::command::Body;

        let subject = match asked.body {
            Some(Body::CreateKey(_)) => subjects::keys::CREATE_KEY,
            Some(Body::RollOverKey(_)) => subjects::keys::ROLL_OVER_KEY,
            Some(Body::RevokeKey(_)) => subjects::keys::REVOKE_KEY,
            None => unreachable!("every command is made with a body"),
        };
        command(&self.0, subject, asked, wait).await
    }

    pub(crate) async fn list(&self, user: UserId) -> Result<keys::v1::Keys, Problem> {
        let list = keys::v1::ListKeys { user_id: user.to_bytes() };
        query(&self.0, subjects::keys::LIST_KEYS, &list).await
    }

    pub(crate) async fn verify(&self, digest: [u8; 32]) -> Result<keys::v1::Verified, Problem> {
        let verify = keys::v1::VerifyKey { digest: digest.to_vec().into() };
        query(&self.0, subjects::keys::VERIFY_KEY, &verify).await
    }
}

/// An error as a log line takes it, with its causes.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    error
}

/// Says that another service answered something that means nothing: a bug, in it or in us.
pub(crate) fn unreadable(error: impl std::error::Error + 'static) -> Problem {
    error!(error = chain(&error), "an answer of another service means nothing");
    Problem::internal_error()
}

/// Says that our own database failed.
pub(crate) fn broken(error: impl std::error::Error + 'static) -> Problem {
    error!(error = chain(&error), "the database failed");
    Problem::service_unavailable()
}
