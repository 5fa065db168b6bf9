//! `/wallet/transactions`: the wallet's history as the ledger wrote it, and single transactions,
//! those still pending too.

use std::collections::BTreeMap;
use std::time::Duration;

use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object, OpenApi};
use primitives::{AccountId, Amount, KeyId, Timestamp, TransferId, WalletNumber};
use prost::Message as _;
use proto_events::convert::{self, WireId as _};
use proto_events::ledger::v1 as wire;
use sqlx::PgPool;

use crate::ask::{self, Decided, Failure, Ledger};
use crate::directory::Directory;
use crate::permissions::Permission;
use crate::rest::Tag;
use crate::rest::caller::Caller;
use crate::rest::door::Door;
use crate::rest::page::{self, Written, parameter};
use crate::rest::problem::{AUTHENTICATED, Code, Problem, Refused, refusals};
use crate::rest::security::Credentials;
use crate::rest::values::{Maybe, Minor, Moment};
use crate::store::pending::{self, Pending, Settled};

const LIMIT_DEFAULT: u32 = 20;
const LIMIT_MAX: u32 = 100;
/// Wait for the ledger when a transfer whose deadline has passed is asked about.
const SETTLE_WAIT: Duration = Duration::from_secs(3);

/// History.
pub(crate) struct Transactions {
    pub(crate) door: Door,
    pub(crate) people: PgPool,
    pub(crate) directory: Directory,
    pub(crate) ledger: Ledger,
}

/// What kind of movement it is, as this wallet sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Money in through a provider.
    Deposit,
    /// Money from another wallet.
    TransferIn,
    /// Money to another wallet.
    TransferOut,
    /// Money that came back: a transfer of this wallet was reversed.
    ReversalIn,
    /// Money that went back: a transfer to this wallet was reversed.
    ReversalOut,
    /// Money in that the platform put right.
    AdjustmentIn,
    /// Money out that the platform put right.
    AdjustmentOut,
    /// A deposit's money that whoever paid it has again, by a refund or a dispute.
    Refund,
}

/// Whether it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It did, for good.
    Success,
    /// Not known yet.
    Pending,
    /// It did not, for good.
    Failed,
}

/// One line of history.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Transaction {
    /// Its id.
    id: String,
    /// What kind of movement it is.
    #[oai(rename = "type")]
    kind: Kind,
    /// How much, in minor units.
    amount: Minor,
    /// ISO 4217.
    currency: String,
    /// Whether it happened.
    status: Status,
    /// The deposit's reference; `null` for transfers.
    reference: Maybe<String>,
    /// The other wallet; `null` for deposits.
    counterparty_wallet: Maybe<String>,
    /// What this wallet held right after; `null` if nothing moved, or for callers who may not read.
    balance_after: Maybe<u64>,
    /// What the sender wrote.
    note: Maybe<String>,
    /// When it was decided, or, while it is pending, asked for.
    created_at: Moment,
}

impl Example for Transaction {
    fn example() -> Self {
        Self {
            id: example_id(),
            kind: Kind::TransferOut,
            amount: Minor(Amount::try_new(120_000).unwrap_or_else(|_| unreachable!("a constant"))),
            currency: "NGN".to_owned(),
            status: Status::Success,
            reference: Maybe(None),
            counterparty_wallet: Maybe(Some("4539578763622".to_owned())),
            balance_after: Maybe(Some(380_000)),
            note: Maybe(Some("lunch".to_owned())),
            created_at: Moment(Timestamp::from_seconds(1_768_468_464)),
        }
    }
}

fn example_id() -> String {
    "txn_0192f0c1e6b87c3a9d2e4f5061728394".to_owned()
}

/// A page of history.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct History {
    /// Newest first.
    transactions: Vec<Transaction>,
    /// Give it as `cursor` for the next, older page; `null` on the last one.
    next_cursor: Maybe<String>,
}

impl Example for History {
    fn example() -> Self {
        Self { transactions: vec![Transaction::example()], next_cursor: Maybe(None) }
    }
}

parameter! {
    /// How many.
    Limit "limit" MetaSchema {
        ty: "integer",
        format: Some("int32"),
        minimum: Some(1.0),
        maximum: Some(100.0),
        default: Some(LIMIT_DEFAULT.into()),
        ..MetaSchema::ANY
    }
}
parameter! {
    /// Where the page begins.
    Cursor "cursor" MetaSchema::new("string")
}
parameter! {
    /// Only this kind.
    Type "type" MetaSchema {
        ty: "string",
        enum_items: KINDS.iter().map(|(name, ..)| (*name).into()).collect(),
        ..MetaSchema::ANY
    }
}
parameter! {
    /// From this moment on.
    From_ "from" MetaSchema::new_with_format("string", "date-time")
}
parameter! {
    /// Before this moment.
    To "to" MetaSchema::new_with_format("string", "date-time")
}

refusals! {
    /// Reading history.
    HistoryRefusals: AUTHENTICATED, &[Code::InvalidField, Code::MissingPermission];
    /// Reading one transaction.
    TransactionRefusals: AUTHENTICATED, &[Code::MissingPermission, Code::TransactionNotFound];
}

#[OpenApi(tag = "Tag::Wallet")]
impl Transactions {
    /// List transactions
    ///
    /// Newest first. Pages stay where they are while new transactions arrive. Needs the permission `read`.
    #[oai(path = "/wallet/transactions", method = "get", operation_id = "list_transactions")]
    async fn list(
        &self,
        who: Credentials<'_>,
        /// How many, 1 to 100.
        limit: Query<Written<Limit>>,
        /// `next_cursor` of the page before.
        cursor: Query<Written<Cursor>>,
        /// Only this kind.
        r#type: Query<Written<Type>>,
        /// From this moment on (RFC 3339).
        from: Query<Written<From_>>,
        /// Before this moment (RFC 3339).
        to: Query<Written<To>>,
    ) -> Result<Json<History>, Refused<HistoryRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.may(Permission::Read)?;
        let limit = limit.read(limit_of)?.unwrap_or(LIMIT_DEFAULT);
        let before = cursor.read(|it| page::parse_cursor(it).ok_or("is not a cursor of ours"))?;
        let (kind, direction) = r#type.read(kind_of)?.unwrap_or_default();
        let from = from.read(page::moment)?;
        let to = to.read(page::moment)?;
        let list = wire::ListMovements {
            account_id: caller.wallet.account.to_bytes(),
            limit,
            before_position: before.unwrap_or(0),
            kind: kind.into(),
            direction: direction.into(),
            from_us: convert::moment_us(from),
            to_us: convert::moment_us(to),
        };
        let found = self.ledger.movements(&list).await?;
        let next = found.movements.last().filter(|_| found.more).map(|it| it.position);
        let transactions = self.shown(&found.movements).await?;
        Ok(Json(History { transactions, next_cursor: Maybe(next.map(page::print_cursor)) }))
    }

    /// Look at one transaction
    ///
    /// Needs the permission `read`, or the API key that made it.
    #[oai(path = "/wallet/transactions/:id", method = "get", operation_id = "get_transaction")]
    async fn get(
        &self,
        who: Credentials<'_>,
        /// The transaction's id.
        #[oai(example = "example_id")]
        id: Path<String>,
    ) -> Result<Json<Transaction>, Refused<TransactionRefusals>> {
        let caller = self.door.caller(&who).await?;
        let found = match TransferId::parse(&id.0) {
            Ok(transfer) => self.find(&caller, transfer, Timestamp::now()).await?,
            Err(_) => None,
        };
        let may_read = caller.may(Permission::Read);
        match found {
            Some(found) if may_read.is_ok() => Ok(Json(found.transaction)),
            Some(found) if found.made_by.is_some() && found.made_by == caller.key_id() => {
                Ok(Json(Transaction { balance_after: Maybe(None), ..found.transaction }))
            }
            // A key that may not read is told the same of what exists and of what does not.
            Some(_) | None => {
                may_read?;
                Err(Problem::transaction_not_found().into())
            }
        }
    }
}

/// A transaction, and the API key that asked for it.
struct Found {
    transaction: Transaction,
    made_by: Option<KeyId>,
}

impl Transactions {
    /// The ledger knows what is decided; what is not is pending here, until its deadline has passed.
    async fn find(
        &self,
        caller: &Caller,
        transfer: TransferId,
        now: Timestamp,
    ) -> Result<Option<Found>, Problem> {
        let account = caller.wallet.account;
        // While the ledger is away nobody knows: "pending" could take back a success told before.
        if let Some(found) = self.decided(account, transfer).await? {
            return Ok(Some(found));
        }
        let row = pending::find(&self.people, account, transfer).await.map_err(ask::broken)?;
        let Some(row) = row else { return Ok(None) };
        let settled = match row.settled {
            None if now > row.command.deadline_at => self.settle(&row).await?,
            settled => settled,
        };
        match settled {
            // The key belongs to another request, whose transfer this one must not pass for.
            Some(Settled { rejection: Some(wire::Rejection::IdempotencyKeyReused), .. }) => {
                remembered(row, Status::Failed).map(Some)
            }
            // An earlier copy of the same request is what was done.
            Some(settled) => self.decided(account, settled.as_transfer).await,
            None => remembered(row, Status::Pending).map(Some),
        }
    }

    async fn decided(
        &self,
        account: AccountId,
        transfer: TransferId,
    ) -> Result<Option<Found>, Problem> {
        let Some(movement) = self.ledger.movement(account, transfer).await? else {
            return Ok(None);
        };
        let made_by = KeyId::read_optional("made_by_key_id", &movement.made_by_key_id);
        let made_by = made_by.map_err(ask::unreadable)?;
        let shown = self.shown(std::slice::from_ref(&movement)).await?;
        Ok(shown.into_iter().next().map(|transaction| Found { transaction, made_by }))
    }

    /// Asks the ledger with the very same command. Its deadline being over, the ledger repeats what
    /// it decided then, or refuses for good; of every transfer of the command, so all are settled.
    /// No answer: still pending.
    async fn settle(&self, row: &Pending) -> Result<Option<Settled>, Problem> {
        let message = row.command.message.as_slice();
        let command = wire::Command::decode(message).map_err(ask::unreadable)?;
        let outcomes = match self.ledger.post(&command, SETTLE_WAIT).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Unavailable | Failure::Unknown) => return Ok(None),
        };
        let ids = ask::transfer_ids(&command).map_err(ask::unreadable)?;
        let settled = ids.into_iter().zip(&outcomes).map(|(id, outcome)| {
            let decided = Decided::read(outcome, id)?;
            let (as_transfer, rejection) = (decided.transfer, decided.rejection);
            Ok(Settled { as_transfer, rejection, at: decided.at })
        });
        let settled: Vec<Settled> = settled.collect::<Result<_, Problem>>()?;
        let stored = pending::settle(&self.people, row.command_id, &settled).await;
        stored.map_err(ask::broken)?;
        Ok(settled.get(row.place).copied())
    }

    async fn shown(&self, movements: &[wire::Movement]) -> Result<Vec<Transaction>, Problem> {
        let counterparties: Vec<AccountId> = movements
            .iter()
            .filter(|it| it.kind() != wire::TransferKind::Deposit)
            .map(|it| AccountId::read("counterparty_account_id", &it.counterparty_account_id))
            .collect::<Result<_, _>>()
            .map_err(ask::unreadable)?;
        let numbers = self.directory.numbers_of(&counterparties).await.map_err(ask::broken)?;
        movements.iter().map(|it| transaction(it, &numbers)).collect()
    }
}

fn transaction(
    movement: &wire::Movement,
    numbers: &BTreeMap<AccountId, WalletNumber>,
) -> Result<Transaction, Problem> {
    let read = || {
        let id = TransferId::read("transfer_id", &movement.transfer_id)?;
        let amount = convert::amount("amount_minor", movement.amount_minor)?;
        let other = AccountId::read("counterparty_account_id", &movement.counterparty_account_id)?;
        Ok::<_, convert::Malformed>((id, amount, other))
    };
    let (id, amount, other) = read().map_err(ask::unreadable)?;
    let counterparty = numbers.get(&other);
    let kind = kind(movement.kind(), movement.direction(), counterparty.is_some());
    let kind = kind.ok_or_else(|| {
        ask::unreadable(convert::Malformed { field: "kind", expected: "a kind and a direction" })
    })?;
    let is_posted = movement.rejection() == wire::Rejection::Unspecified;
    let status = if is_posted { Status::Success } else { Status::Failed };
    Ok(Transaction {
        id: id.to_string(),
        kind,
        amount: Minor(amount),
        currency: movement.currency.clone(),
        status,
        reference: Maybe(said(&movement.reference)),
        counterparty_wallet: Maybe(counterparty.map(ToString::to_string)),
        balance_after: Maybe(movement.balance_after_minor),
        note: Maybe(said(&movement.note)),
        created_at: Moment(Timestamp::from_micros(movement.created_at_us)),
    })
}

/// What a movement is to this wallet; `None` for what is never listed.
fn kind(
    kind: wire::TransferKind,
    direction: wire::Direction,
    is_with_a_wallet: bool,
) -> Option<Kind> {
    use wire::TransferKind as Wire;

    let (credit, debit) = match kind {
        Wire::Deposit => (Kind::Deposit, Kind::Deposit),
        // What is captured of a hold is what its sender meant to send, unless no wallet has it then.
        Wire::Capture if !is_with_a_wallet => (Kind::AdjustmentIn, Kind::Refund),
        Wire::Wallet | Wire::Capture => (Kind::TransferIn, Kind::TransferOut),
        Wire::Reversal => (Kind::ReversalIn, Kind::ReversalOut),
        Wire::Internal => (Kind::AdjustmentIn, Kind::AdjustmentOut),
        Wire::Unspecified | Wire::Hold | Wire::Release | Wire::Expiry => return None,
    };
    match direction {
        wire::Direction::Credit => Some(credit),
        wire::Direction::Debit => Some(debit),
        wire::Direction::Unspecified => None,
    }
}

/// A transfer that the ledger has not written: it is not decided, or it was refused for its key.
fn remembered(row: Pending, status: Status) -> Result<Found, Problem> {
    let transfer = row.transfer;
    let transaction = Transaction {
        id: transfer.id.to_string(),
        kind: Kind::TransferOut,
        amount: Minor(Amount::from_i64(transfer.amount_minor).map_err(ask::unreadable)?),
        currency: transfer.currency,
        status,
        reference: Maybe(None),
        counterparty_wallet: Maybe(Some(transfer.recipient_number)),
        balance_after: Maybe(None),
        note: Maybe(transfer.note),
        created_at: Moment(row.command.created_at),
    };
    Ok(Found { transaction, made_by: row.command.made_by })
}

fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn limit_of(text: &str) -> Result<u32, &'static str> {
    let is_plain = text.len() <= 3 && text.bytes().all(|it| it.is_ascii_digit());
    let limit = text.parse().ok().filter(|it| is_plain && (1..=LIMIT_MAX).contains(it));
    limit.ok_or("must be a whole number from 1 to 100")
}

/// What `type` may be, and what the ledger is asked for then.
const KINDS: [(&str, wire::TransferKind, wire::Direction); 8] = {
    use wire::Direction::{Credit, Debit, Unspecified};
    use wire::TransferKind::{Capture, Deposit, Internal, Reversal, Wallet};
    [
        ("deposit", Deposit, Unspecified),
        ("transfer_in", Wallet, Credit),
        ("transfer_out", Wallet, Debit),
        ("reversal_in", Reversal, Credit),
        ("reversal_out", Reversal, Debit),
        ("adjustment_in", Internal, Credit),
        ("adjustment_out", Internal, Debit),
        ("refund", Capture, Debit),
    ]
};

fn kind_of(text: &str) -> Result<(wire::TransferKind, wire::Direction), &'static str> {
    let found = KINDS.iter().find(|(name, ..)| *name == text);
    found.map(|(_, kind, direction)| (*kind, *direction)).ok_or(
        "must be deposit, transfer_in, transfer_out, reversal_in, reversal_out, adjustment_in, adjustment_out or refund",
    )
}
