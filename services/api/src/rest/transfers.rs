//! Money from the caller's wallet to others: one transfer a request ([`one`]), or many ([`batch`]).
//!
//! The ledger decides; this asks it, and when no outcome came in time says so honestly: 202, and a
//! place to look. Apart from whose an `Idempotency-Key` is, nothing is written here except on that
//! path.

mod batch;
mod one;

use std::time::Duration;

use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};
use primitives::{
    AccountId, Amount, KeyId, RequestKey, Timestamp, TransferId, WalletNumber, WalletNumberError,
};
use prometheus::IntCounter;
use prost::Message as _;
use proto_events::convert::WireId as _;
use proto_events::ledger::v1 as wire;
use sqlx::PgPool;

use crate::ask::{self, Ledger};
use crate::claims::Claims;
use crate::directory::Directory;
use crate::rest::body::{Fields, Request};
use crate::rest::caller::Caller;
use crate::rest::problem::Problem;
use crate::rest::values::{Minor, is_unprintable};
use crate::store::pending;

pub(crate) use batch::Batches;
pub(crate) use one::Transfers;

/// Contract, section 4.
const NOTE_CHARS_MAX: usize = 140;

/// What to send, and to whom.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct TransferRequest {
    /// The number of the wallet that receives: 13 digits.
    #[oai(validator(pattern = "^[0-9]{13}$"))]
    recipient_wallet_number: String,
    /// How much, in minor units.
    amount: Minor,
    /// For both people to read; at most 140 characters.
    #[oai(validator(max_length = 140))]
    note: Option<String>,
}

impl Example for TransferRequest {
    fn example() -> Self {
        Self {
            recipient_wallet_number: "4539578763622".to_owned(),
            amount: Minor(example_amount()),
            note: Some("lunch".to_owned()),
        }
    }
}

impl Request for TransferRequest {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let number = fields.text("recipient_wallet_number", shaped);
        let amount = fields.amount("amount");
        let note = fields.optional_text("note", note);
        Some(Self {
            recipient_wallet_number: number?,
            amount: Minor(amount?),
            // Nothing to say is nothing said.
            note: note?.filter(|it| !it.is_empty()),
        })
    }
}

/// Thirteen digits. A wrong check digit among them names a wallet that does not exist.
fn shaped(text: String) -> Result<String, &'static str> {
    match WalletNumber::parse(&text) {
        Ok(_) | Err(WalletNumberError::CheckDigit) => Ok(text),
        Err(WalletNumberError::Shape) => Err("must be 13 digits"),
    }
}

fn note(text: String) -> Result<String, &'static str> {
    if text.chars().count() > NOTE_CHARS_MAX {
        return Err("must be at most 140 characters");
    }
    if text.chars().any(is_unprintable) {
        return Err("must have no control characters");
    }
    Ok(text)
}

/// Whether the money has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum TransferStatus {
    /// It has, for good.
    Success,
    /// Not known yet. Look again in a few seconds.
    Pending,
}

/// A transfer whose outcome is not known yet.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Awaited {
    /// Its id.
    transaction_id: String,
    /// Always `pending`.
    status: TransferStatus,
}

impl Awaited {
    fn of(transfer: TransferId) -> Self {
        Self { transaction_id: transfer.to_string(), status: TransferStatus::Pending }
    }
}

impl Example for Awaited {
    fn example() -> Self {
        Self { transaction_id: example_id(), status: TransferStatus::Pending }
    }
}

fn example_id() -> String {
    "txn_0192f0c1e6b87c3a9d2e4f5061728394".to_owned()
}

/// ₦1,200.00.
fn example_amount() -> Amount {
    Amount::try_new(120_000).unwrap_or_else(|_| unreachable!("a constant"))
}

/// A request that has been read and understood: one wallet's money, to one or many.
struct Order {
    account: AccountId,
    currency: String,
    made_by: Option<KeyId>,
    request_key: Option<RequestKey>,
    digest: [u8; 32],
    now: Timestamp,
    deadline: Timestamp,
}

/// One transfer of it.
struct Line {
    id: TransferId,
    recipient: String,
    amount: Amount,
    note: Option<String>,
    request_key: Option<RequestKey>,
    digest: [u8; 32],
}

impl Order {
    fn of(
        caller: &Caller,
        request_key: Option<RequestKey>,
        digest: [u8; 32],
        (now, wait): (Timestamp, Duration),
    ) -> Self {
        Self {
            account: caller.wallet.account,
            currency: caller.wallet.currency.to_string(),
            made_by: caller.key_id(),
            request_key,
            digest,
            now,
            deadline: now.plus(wait),
        }
    }

    fn transfer(&self, line: &Line, to: AccountId) -> wire::PostTransfer {
        wire::PostTransfer {
            transfer_id: line.id.to_bytes(),
            kind: wire::TransferKind::Wallet.into(),
            debit_account_id: self.account.to_bytes(),
            credit_account_id: to.to_bytes(),
            amount_minor: line.amount.minor(),
            currency: self.currency.clone(),
            note: line.note.clone().unwrap_or_default(),
            request_key: line.request_key.map(|it| it.0.to_vec().into()).unwrap_or_default(),
            request_digest: line.digest.to_vec().into(),
            made_by_key_id: self.made_by.map(|it| it.to_bytes()).unwrap_or_default(),
            ..wire::PostTransfer::default()
        }
    }

    fn command(&self, transfers: Vec<wire::PostTransfer>, linked: bool) -> wire::Command {
        let transfers = wire::PostTransfers { transfers, linked };
        wire::Command {
            deadline_at_us: self.deadline.micros(),
            body: Some(wire::command::Body::PostTransfers(transfers)),
        }
    }
}

/// What it takes to send money, however many transfers there are. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) people: PgPool,
    pub(crate) directory: Directory,
    pub(crate) claims: Claims,
    pub(crate) ledger: Ledger,
    /// Longest wait for the ledger's outcome; also how long a command stays valid.
    pub(crate) wait: Duration,
    /// Counts transfers answered with 202.
    pub(crate) pending: IntCounter,
}

impl Sender {
    /// Remembers the very command before the answer, so that its fate can always be asked for. The
    /// ids are those to answer with: an earlier copy's, if one is remembered.
    async fn remember(
        &self,
        order: Order,
        lines: Vec<Line>,
        command: &wire::Command,
    ) -> Result<Vec<TransferId>, Problem> {
        let digest = order.digest;
        let command = pending::Command {
            account: order.account,
            made_by: order.made_by,
            request: order.request_key.map(|key| pending::Request { key: key.0, digest }),
            message: command.encode_to_vec(),
            deadline_at: order.deadline,
            created_at: order.now,
        };
        let transfers: Vec<pending::Transfer> = lines
            .into_iter()
            .map(|line| pending::Transfer {
                id: line.id,
                recipient_number: line.recipient,
                amount_minor: line.amount.to_i64(),
                currency: order.currency.clone(),
                note: line.note,
            })
            .collect();
        let ids = pending::remember(&self.people, &command, &transfers).await;
        let ids = ids.map_err(ask::broken)?;
        self.pending.inc_by(u64::try_from(ids.len()).unwrap_or(u64::MAX));
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_counted_in_characters() {
        assert!(note("₦".repeat(140)).is_ok());
        assert!(note("₦".repeat(141)).is_err());
        for wrong in ["a\nb", "\u{0}", "a\u{7f}", "a\u{202e}b", "a\u{2028}b"] {
            assert!(note(wrong.to_owned()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_number_is_thirteen_digits_whatever_the_last() {
        assert!(shaped("4539578763621".to_owned()).is_ok());
        for wrong in ["", "453957876362", "45395787636211", "4539578763 21", "४५३९५७८७६३६२१"]
        {
            assert!(shaped(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
