//! The other services, as this one asks them.
//!
//! A query that fails is a 503 and nothing else happened. A command that fails has one of two
//! [`Failure`]s, and the difference is money: surely not taken, or perhaps taken. Each error is
//! logged here, once.

use std::time::Duration;

use bus::ask::{Asker, Error, Gather, Limits};
use primitives::{AccountId, Timestamp, TransferId, UserId};
use prost::Message;
use proto_events::convert::{self, WireId as _};
use proto_events::ledger::v1::{Outcome, Rejection};
use proto_events::{keys, ledger, payments, subjects};
use tracing::{error, warn};

use crate::rest::problem::Problem;

/// Longest wait for an answer to a query: these read what is committed, at once.
const QUERY_WAIT: Duration = Duration::from_secs(3);

/// As many transfers as the ledger takes in one command. A few commands are enough to keep it busy
/// while it commits; with more of them each would carry less.
const TRANSFERS: Limits = Limits { items_max: 100, in_flight_max: 4, waiting_max: 8_192 };
/// As many balances as the ledger reads with one look, and one look while another is on its way.
const BALANCES: Limits = Limits { items_max: 500, in_flight_max: 2, waiting_max: 8_192 };

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
    asker.query(subject, query, QUERY_WAIT).await.map_err(|error| unanswered(subject, &error))
}

async fn command<R: Message + Default>(
    asker: &Asker,
    subject: &'static str,
    command: &impl Message,
    wait: Duration,
) -> Result<R, Failure> {
    asker.command(subject, command, wait).await.map_err(|error| failure(subject, &error))
}

fn unanswered(subject: &'static str, error: &Error) -> Problem {
    warn!(error = chain(error), "no answer to {subject}");
    Problem::service_unavailable()
}

fn failure(subject: &'static str, error: &Error) -> Failure {
    match error {
        Error::Unavailable { .. } => {
            warn!(error = chain(error), "{subject} was not taken");
            Failure::Unavailable
        }
        Error::Unknown => {
            warn!("{subject} was taken and not answered in time");
            Failure::Unknown
        }
        Error::Undecodable(_) => {
            error!(error = chain(error), "the answer to {subject} cannot be read");
            Failure::Unknown
        }
    }
}

/// The ledger. Cheap to clone; clones gather single transfers and balances into the same messages.
#[derive(Clone)]
pub(crate) struct Ledger {
    asker: Asker,
    transfers: Gather<(ledger::v1::PostTransfer, Timestamp), Outcome>,
    balances: Gather<ledger::v1::GetBalance, ledger::v1::Balance>,
}

impl Ledger {
    pub(crate) fn new(asker: &Asker) -> Self {
        let transfers = Gather::commands(
            asker,
            subjects::ledger::POST_TRANSFERS,
            TRANSFERS,
            together,
            |it: ledger::v1::Outcomes| it.outcomes,
        );
        let balances = Gather::queries(
            asker,
            subjects::ledger::GET_BALANCES,
            BALANCES,
            |balances| ledger::v1::GetBalances { balances },
            |it: ledger::v1::Balances| it.balances,
        );
        Self { asker: asker.clone(), transfers, balances }
    }

    /// Asks for one transfer, which the ledger refuses after `deadline`.
    pub(crate) async fn post_one(
        &self,
        transfer: ledger::v1::PostTransfer,
        deadline: Timestamp,
        wait: Duration,
    ) -> Result<Outcome, Failure> {
        let outcome = self.transfers.ask((transfer, deadline), wait).await;
        outcome.map_err(|error| failure(subjects::ledger::POST_TRANSFERS, &error))
    }

    /// Asks for the transfers of `command`, and waits for the outcome of each, in their order.
    pub(crate) async fn post(
        &self,
        command: &ledger::v1::Command,
        wait: Duration,
    ) -> Result<Vec<Outcome>, Failure> {
        let asked = transfers(command).len();
        let subject = subjects::ledger::POST_TRANSFERS;
        let answered: ledger::v1::Outcomes =
            self::command(&self.asker, subject, command, wait).await?;
        one_each(answered.outcomes, asked)
    }

    /// What `of` holds, or held at a moment.
    pub(crate) async fn balance(
        &self,
        of: AccountId,
        at: Option<Timestamp>,
    ) -> Result<ledger::v1::Balance, Problem> {
        let get = ledger::v1::GetBalance { account_id: of.to_bytes(), at_us: moment_us(at) };
        let found = self.balances.ask(get, QUERY_WAIT).await;
        found.map_err(|error| unanswered(subjects::ledger::GET_BALANCES, &error))
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
            query(&self.asker, subjects::ledger::GET_TRANSFER, &get).await?;
        Ok(found.movement)
    }

    pub(crate) async fn movements(
        &self,
        list: &ledger::v1::ListMovements,
    ) -> Result<ledger::v1::Movements, Problem> {
        query(&self.asker, subjects::ledger::LIST_MOVEMENTS, list).await
    }
}

/// An answer has less in it than was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not complete")]
struct Missing;

/// On the wire 0 is no moment at all, so the one moment that is 0 becomes the one before it: nothing
/// happened in between.
fn moment_us(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |it| if it.micros() == 0 { -1 } else { it.micros() })
}

/// One command for transfers that have nothing to do with each other. None may be done after its own
/// deadline; the earliest is only moments before the latest.
fn together(items: Vec<(ledger::v1::PostTransfer, Timestamp)>) -> ledger::v1::Command {
    let deadline = items.iter().map(|(_, deadline)| deadline.micros()).min().unwrap_or(0);
    let transfers = items.into_iter().map(|(transfer, _)| transfer).collect();
    let together = ledger::v1::PostTransfers { transfers, linked: false };
    ledger::v1::Command {
        deadline_at_us: deadline,
        body: Some(ledger::v1::command::Body::PostTransfers(together)),
    }
}

/// The transfers that a command asks for.
fn transfers(command: &ledger::v1::Command) -> &[ledger::v1::PostTransfer] {
    match &command.body {
        Some(ledger::v1::command::Body::PostTransfers(it)) => &it.transfers,
        Some(_) | None => &[],
    }
}

/// Their ids, in their order.
pub(crate) fn transfer_ids(
    command: &ledger::v1::Command,
) -> Result<Vec<TransferId>, convert::Malformed> {
    let read = |it: &ledger::v1::PostTransfer| TransferId::read("transfer_id", &it.transfer_id);
    transfers(command).iter().map(read).collect()
}

/// Insists on an outcome for each transfer. A command that could not be read has one for all.
fn one_each(outcomes: Vec<Outcome>, asked: usize) -> Result<Vec<Outcome>, Failure> {
    match outcomes.as_slice() {
        all if all.len() == asked => Ok(outcomes),
        [one] if one.rejection() == Rejection::Malformed => Ok(vec![one.clone(); asked]),
        _ => {
            unreadable(Missing);
            Err(Failure::Unknown)
        }
    }
}

/// What the ledger decided about one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decided {
    /// The transfer decided under the same request key: an earlier copy's, if there was one.
    pub(crate) transfer: TransferId,
    /// Why not, if not.
    pub(crate) rejection: Option<Rejection>,
    pub(crate) at: Timestamp,
    pub(crate) is_replayed: bool,
    /// What the sender held right after; means nothing unless money moved.
    pub(crate) balance_after: u64,
}

impl Decided {
    /// Reads the outcome of the transfer `asked`.
    pub(crate) fn read(outcome: &Outcome, asked: TransferId) -> Result<Self, Problem> {
        let rejection = Rejection::try_from(outcome.rejection).map_err(unreadable)?;
        // What could not be read has no name in its outcome.
        let transfer = TransferId::read_optional("transfer_id", &outcome.transfer_id);
        Ok(Self {
            transfer: transfer.map_err(unreadable)?.unwrap_or(asked),
            rejection: (rejection != Rejection::Unspecified).then_some(rejection),
            at: Timestamp::from_micros(outcome.decided_at_us),
            is_replayed: outcome.replayed,
            balance_after: outcome.debit_balance_after_minor,
        })
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

#[cfg(test)]
mod tests {
    use ledger::v1::PostTransfer;

    use super::*;

    #[test]
    fn no_moment_reads_as_none() {
        assert_eq!(moment_us(None), 0);
        for micros in [-5, -1, 0, 1, 1_768_468_464_000_000] {
            let us = moment_us(Some(Timestamp::from_micros(micros)));
            assert!(us == micros || (micros, us) == (0, -1), "{micros} became {us}");
        }
    }

    #[test]
    fn what_goes_together_keeps_every_deadline() {
        let item = |id: u8, deadline| {
            let transfer = PostTransfer { transfer_id: vec![id; 16].into(), ..Default::default() };
            (transfer, Timestamp::from_micros(deadline))
        };
        let command = together(vec![item(1, 30), item(2, 10), item(3, 20)]);
        assert_eq!(command.deadline_at_us, 10);
        let ids = transfer_ids(&command).unwrap();
        assert_eq!(
            ids,
            [1, 2, 3].map(|it| TransferId::from_uuid(uuid::Uuid::from_bytes([it; 16])))
        );
    }

    #[test]
    fn an_outcome_is_each_transfers_own() {
        let outcome = |rejection: Rejection, at| Outcome {
            rejection: rejection.into(),
            decided_at_us: at,
            ..Outcome::default()
        };
        let two = vec![outcome(Rejection::Unspecified, 1), outcome(Rejection::LimitExceeded, 2)];
        assert_eq!(one_each(two.clone(), 2), Ok(two.clone()));
        assert_eq!(one_each(two, 3), Err(Failure::Unknown));
        assert_eq!(one_each(vec![], 1), Err(Failure::Unknown));
        let unreadable = outcome(Rejection::Malformed, 3);
        assert_eq!(one_each(vec![unreadable.clone()], 3), Ok(vec![unreadable; 3]));
    }

    #[test]
    fn what_could_not_be_read_is_named_as_it_was_asked() {
        let asked = TransferId::generate();
        let malformed = Outcome { rejection: Rejection::Malformed.into(), ..Outcome::default() };
        let decided = Decided::read(&malformed, asked).unwrap();
        assert_eq!((decided.transfer, decided.rejection), (asked, Some(Rejection::Malformed)));
        let earlier = TransferId::generate();
        let replayed =
            Outcome { transfer_id: earlier.to_bytes(), replayed: true, ..Outcome::default() };
        let decided = Decided::read(&replayed, asked).unwrap();
        assert_eq!((decided.transfer, decided.rejection), (earlier, None));
        assert!(decided.is_replayed);
    }
}
