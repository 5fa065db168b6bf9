//! `POST /wallet/transfer`: money from the caller's wallet to another.
//!
//! The ledger decides; this asks it, and when no outcome came in time says so honestly: 202, and a
//! place to look. Nothing is written here except on that path.

use std::time::Duration;

use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use primitives::{AccountId, Amount, RequestKey, Timestamp, TransferId, WalletNumber};
use primitives::{KeyId, WalletNumberError};
use prometheus::IntCounter;
use prost::Message as _;
use proto_events::convert::WireId as _;
use proto_events::ledger::v1 as wire;
use sqlx::PgPool;

use crate::ask::{self, Failure, Ledger};
use crate::permissions::Permission;
use crate::rest::Tag;
use crate::rest::body::{Body, Fields, Request};
use crate::rest::caller::Caller;
use crate::rest::door::Door;
use crate::rest::idempotency::{self, IdempotencyKey, request_digest};
use crate::rest::problem::{
    AUTHENTICATED, COMMANDS, Code, Problem, Refused, WITH_BODY, from_rejection, refusals,
};
use crate::rest::security::Credentials;
use crate::rest::values::{Minor, Moment, is_unprintable};
use crate::store::{pending, users};

/// Contract, section 4.
const NOTE_CHARS_MAX: usize = 140;

/// Transfers.
pub(crate) struct Transfers {
    pub(crate) door: Door,
    pub(crate) people: PgPool,
    pub(crate) ledger: Ledger,
    /// Longest wait for the ledger's outcome; also how long the command stays valid.
    pub(crate) wait: Duration,
    /// Counts answers of 202.
    pub(crate) pending: IntCounter,
}

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
    fn read(fields: &mut Fields) -> Option<Self> {
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

/// A transfer that was made.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Sent {
    /// Its id.
    transaction_id: String,
    /// Always `success`.
    status: TransferStatus,
    /// How much, in minor units.
    amount: Minor,
    /// ISO 4217.
    currency: String,
    /// Who received it.
    recipient_wallet: String,
    /// When the ledger decided.
    created_at: Moment,
    /// What the sender's wallet holds afterwards; only for callers who may read.
    #[oai(skip_serializing_if_is_none)]
    balance: Option<u64>,
}

impl Example for Sent {
    fn example() -> Self {
        Self {
            transaction_id: "txn_0192f0c1e6b87c3a9d2e4f5061728394".to_owned(),
            status: TransferStatus::Success,
            amount: Minor(example_amount()),
            currency: "NGN".to_owned(),
            recipient_wallet: "4539578763622".to_owned(),
            created_at: Moment(Timestamp::from_seconds(1_768_468_464)),
            balance: Some(380_000),
        }
    }
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

impl Example for Awaited {
    fn example() -> Self {
        Self {
            transaction_id: "txn_0192f0c1e6b87c3a9d2e4f5061728394".to_owned(),
            status: TransferStatus::Pending,
        }
    }
}

/// The answer to a transfer.
#[derive(Debug, ApiResponse)]
pub(crate) enum Transferred {
    /// The money has moved, durably.
    #[oai(status = 200)]
    Sent(
        Json<Sent>,
        /// `true` if an earlier copy of this request made it.
        #[oai(header = "Idempotency-Replayed")]
        Option<bool>,
    ),
    /// Not known in time. It becomes a success or a failure within seconds and never executes late.
    #[oai(status = 202)]
    Awaited(
        Json<Awaited>,
        /// Where to look.
        #[oai(header = "Location")]
        String,
    ),
}

/// ₦1,200.00.
fn example_amount() -> Amount {
    Amount::try_new(120_000).unwrap_or_else(|_| unreachable!("a constant"))
}

refusals! {
    /// Sending money.
    TransferRefusals: AUTHENTICATED, WITH_BODY, COMMANDS, &[
        Code::InvalidAmount,
        Code::MissingPermission,
        Code::WalletNotFound,
        Code::InsufficientFunds,
        Code::SameWallet,
        Code::CurrencyMismatch,
        Code::WalletFrozen,
        Code::LimitExceeded,
    ];
}

/// A request that has been read and understood.
struct Asked {
    transfer: TransferId,
    account: AccountId,
    recipient: String,
    amount: Amount,
    currency: String,
    note: Option<String>,
    made_by: Option<KeyId>,
    request_key: Option<RequestKey>,
    digest: [u8; 32],
    now: Timestamp,
    deadline: Timestamp,
}

#[OpenApi(tag = "Tag::Wallet")]
impl Transfers {
    /// Send money to another wallet
    ///
    /// 200 means that the money has moved, durably. 202 means that this is not known yet: look at
    /// `Location`. Needs the permission `transfer`; the answer shows a balance only to callers who may read.
    #[oai(path = "/wallet/transfer", method = "post", operation_id = "transfer")]
    async fn transfer(
        &self,
        who: Credentials<'_>,
        /// Makes repeating the request safe, for ever: 1–255 visible ASCII characters of your choice.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: IdempotencyKey,
        body: Body<TransferRequest>,
    ) -> Result<Transferred, Refused<TransferRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.may(Permission::Transfer)?;
        let request = body.read()?;
        let request_key = idempotency_key.request_key(caller.wallet.account)?;
        let asked = self.asked(&caller, request, request_key, Timestamp::now());
        idempotency::claim(&self.people, request_key, asked.digest, asked.now).await?;
        let recipient = self.recipient(&asked).await?;
        let command = command(&asked, recipient);
        match self.ledger.post(&command, self.wait).await {
            Ok(outcome) => Ok(sent(&caller, asked, &outcome)?),
            Err(Failure::Unavailable) => Err(Problem::service_unavailable().into()),
            Err(Failure::Unknown) => Ok(self.awaited(asked, &command).await?),
        }
    }
}

impl Transfers {
    fn asked(
        &self,
        caller: &Caller,
        request: TransferRequest,
        request_key: Option<RequestKey>,
        now: Timestamp,
    ) -> Asked {
        let currency = caller.wallet.currency.to_string();
        let digest = request_digest(
            "transfer",
            &[
                Some(&request.recipient_wallet_number),
                Some(&request.amount.0.to_string()),
                Some(&currency),
                request.note.as_deref(),
            ],
        );
        Asked {
            transfer: TransferId::generate(),
            account: caller.wallet.account,
            recipient: request.recipient_wallet_number,
            amount: request.amount.0,
            currency,
            note: request.note,
            made_by: caller.key_id(),
            request_key,
            digest,
            now,
            deadline: now.plus(self.wait),
        }
    }

    /// The account behind the number. A number that nobody has goes to the ledger all the same when
    /// the request has a key, so that the refusal is kept under it.
    async fn recipient(&self, asked: &Asked) -> Result<AccountId, Problem> {
        let number =
            WalletNumber::parse(&asked.recipient).map_err(|_| Problem::wallet_not_found())?;
        match users::account_of(&self.people, &number).await.map_err(ask::broken)? {
            Some(wallet) => Ok(wallet.account),
            None if asked.request_key.is_some() => Ok(AccountId::NOBODY),
            None => Err(Problem::wallet_not_found()),
        }
    }

    /// Remembers the very command before the answer, so that its fate can always be asked for.
    async fn awaited(&self, asked: Asked, command: &wire::Command) -> Result<Transferred, Problem> {
        let request =
            asked.request_key.map(|key| pending::Request { key: key.0, digest: asked.digest });
        let row = pending::Pending {
            transfer: asked.transfer,
            account: asked.account,
            made_by: asked.made_by,
            command: command.encode_to_vec(),
            deadline_at: asked.deadline,
            recipient_number: asked.recipient,
            amount_minor: asked.amount.to_i64(),
            currency: asked.currency,
            note: asked.note,
            created_at: asked.now,
            settled: None,
        };
        let transfer = pending::remember(&self.people, &row, request).await.map_err(ask::broken)?;
        self.pending.inc();
        let awaited =
            Awaited { transaction_id: transfer.to_string(), status: TransferStatus::Pending };
        Ok(Transferred::Awaited(Json(awaited), format!("/wallet/transactions/{transfer}")))
    }
}

fn command(asked: &Asked, recipient: AccountId) -> wire::Command {
    let transfer = wire::PostTransfer {
        transfer_id: asked.transfer.to_bytes(),
        kind: wire::TransferKind::Wallet.into(),
        debit_account_id: asked.account.to_bytes(),
        credit_account_id: recipient.to_bytes(),
        amount_minor: asked.amount.minor(),
        currency: asked.currency.clone(),
        note: asked.note.clone().unwrap_or_default(),
        reference: String::new(),
        request_key: asked.request_key.map(|it| it.0.to_vec().into()).unwrap_or_default(),
        request_digest: asked.digest.to_vec().into(),
        made_by_key_id: asked.made_by.map(|it| it.to_bytes()).unwrap_or_default(),
    };
    wire::Command {
        deadline_at_us: asked.deadline.micros(),
        body: Some(wire::command::Body::PostTransfer(transfer)),
    }
}

fn sent(caller: &Caller, asked: Asked, outcome: &wire::Outcome) -> Result<Transferred, Problem> {
    let rejection = wire::Rejection::try_from(outcome.rejection).map_err(ask::unreadable)?;
    if rejection != wire::Rejection::Unspecified {
        return Err(from_rejection(rejection).replayed(outcome.replayed));
    }
    let transfer =
        TransferId::read("transfer_id", &outcome.transfer_id).map_err(ask::unreadable)?;
    let may_read = caller.may(Permission::Read).is_ok();
    let sent = Sent {
        transaction_id: transfer.to_string(),
        status: TransferStatus::Success,
        amount: Minor(asked.amount),
        currency: asked.currency,
        recipient_wallet: asked.recipient,
        created_at: Moment(Timestamp::from_micros(outcome.decided_at_us)),
        balance: may_read.then_some(outcome.debit_balance_after_minor),
    };
    Ok(Transferred::Sent(Json(sent), outcome.replayed.then_some(true)))
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
