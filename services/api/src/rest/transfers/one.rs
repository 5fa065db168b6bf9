//! `POST /wallet/transfer`: money from the caller's wallet to another.

use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Object, OpenApi};
use primitives::{AccountId, RequestKey, Timestamp, TransferId, WalletNumber};
use proto_events::ledger::v1 as wire;

use super::{
    Awaited, Line, Order, Sender, TransferRequest, TransferStatus, example_amount, example_id,
};
use crate::ask::{self, Decided, Failure};
use crate::permissions::Permission;
use crate::rest::Tag;
use crate::rest::body::Body;
use crate::rest::caller::Caller;
use crate::rest::door::Door;
use crate::rest::idempotency::{self, IdempotencyKey, request_digest};
use crate::rest::problem::{
    AUTHENTICATED, COMMANDS, Code, Problem, Refused, WITH_BODY, from_rejection, refusals,
};
use crate::rest::security::Credentials;
use crate::rest::values::{Minor, Moment};

/// Transfers.
pub(crate) struct Transfers {
    pub(crate) door: Door,
    pub(crate) sender: Sender,
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
            transaction_id: example_id(),
            status: TransferStatus::Success,
            amount: Minor(example_amount()),
            currency: "NGN".to_owned(),
            recipient_wallet: "4539578763622".to_owned(),
            created_at: Moment(Timestamp::from_seconds(1_768_468_464)),
            balance: Some(380_000),
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
        let (order, line) = self.asked(&caller, request, request_key, Timestamp::now());
        // The ledger itself keeps one request's transfer under the key, whatever becomes of ours.
        idempotency::claim(&self.sender.claims, request_key, order.digest, false).await?;
        let recipient = self.recipient(&line).await?;
        let transfer = order.transfer(&line, recipient);
        let wait = self.sender.wait;
        match self.sender.ledger.post_one(transfer.clone(), order.deadline, wait).await {
            Ok(outcome) => Ok(sent(&caller, order, line, &outcome)?),
            Err(Failure::Unavailable) => Err(Problem::service_unavailable().into()),
            Err(Failure::Unknown) => {
                let (id, command) = (line.id, order.command(vec![transfer], false));
                let ids = self.sender.remember(order, vec![line], &command).await?;
                Ok(awaited(ids.first().copied().unwrap_or(id)))
            }
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
    ) -> (Order, Line) {
        let digest = request_digest(
            "transfer",
            &[
                Some(&request.recipient_wallet_number),
                Some(&request.amount.0.to_string()),
                Some(caller.wallet.currency.as_str()),
                request.note.as_deref(),
            ],
        );
        let line = Line {
            id: TransferId::generate(),
            recipient: request.recipient_wallet_number,
            amount: request.amount.0,
            note: request.note,
            request_key,
            digest,
        };
        (Order::of(caller, request_key, digest, (now, self.sender.wait)), line)
    }

    /// The account behind the number. A number that nobody has goes to the ledger all the same when
    /// the request has a key, so that the refusal is kept under it.
    async fn recipient(&self, line: &Line) -> Result<AccountId, Problem> {
        let number =
            WalletNumber::parse(&line.recipient).map_err(|_| Problem::wallet_not_found())?;
        match self.sender.directory.wallet(number).await.map_err(ask::broken)? {
            Some(wallet) => Ok(wallet.account),
            None if line.request_key.is_some() => Ok(AccountId::NOBODY),
            None => Err(Problem::wallet_not_found()),
        }
    }
}

fn sent(
    caller: &Caller,
    order: Order,
    line: Line,
    outcome: &wire::Outcome,
) -> Result<Transferred, Problem> {
    let decided = Decided::read(outcome, line.id)?;
    if let Some(rejection) = decided.rejection {
        return Err(from_rejection(rejection).replayed(decided.is_replayed));
    }
    let may_read = caller.may(Permission::Read).is_ok();
    let sent = Sent {
        transaction_id: decided.transfer.to_string(),
        status: TransferStatus::Success,
        amount: Minor(line.amount),
        currency: order.currency,
        recipient_wallet: line.recipient,
        created_at: Moment(decided.at),
        balance: may_read.then_some(decided.balance_after),
    };
    Ok(Transferred::Sent(Json(sent), decided.is_replayed.then_some(true)))
}

fn awaited(transfer: TransferId) -> Transferred {
    Transferred::Awaited(Json(Awaited::of(transfer)), format!("/wallet/transactions/{transfer}"))
}
