//! `POST /wallet/transfers/batch`: many transfers with one request, each with its own outcome.
//!
//! Every item goes to the ledger, those to a number that nobody has too: so each has an id, a place
//! in the order of decision and an outcome that is kept, and all of it holds together when the
//! request is atomic.

use std::borrow::Cow;

use poem_openapi::payload::Json;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{Example, ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use primitives::{AccountId, RequestKey, Timestamp, TransferId, WalletNumber};
use proto_events::ledger::v1::{Outcome, Rejection};

use super::{Awaited, Line, Order, Sender, TransferRequest, example_amount, example_id};
use crate::ask::{self, Decided, Failure};
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
use crate::rest::values::{Minor, Moment};

/// As many as the ledger takes in one command.
const TRANSFERS_MAX: usize = 100;

/// Batches of transfers.
pub(crate) struct Batches {
    pub(crate) door: Door,
    pub(crate) sender: Sender,
}

/// What to send, and to whom, many times.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct BatchRequest {
    /// 1 to 100 transfers, decided in this order.
    #[oai(validator(min_items = 1, max_items = 100))]
    transfers: Vec<TransferRequest>,
    /// Whether all of them are made or none; `false` unless said otherwise.
    atomic: Option<bool>,
}

impl Example for BatchRequest {
    fn example() -> Self {
        Self { transfers: vec![TransferRequest::example()], atomic: Some(false) }
    }
}

impl Request for BatchRequest {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let transfers = fields.list("transfers", TRANSFERS_MAX);
        let atomic = fields.flag("atomic");
        Some(Self { transfers: transfers?, atomic: Some(atomic?) })
    }
}

/// What became of one transfer of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum ItemStatus {
    /// The money has moved, for good.
    Success,
    /// It has not, for good; `error` says why.
    Failed,
}

/// Why a transfer of a batch was not made; one of the platform's error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemCode(Code);

impl ItemCode {
    /// Every code an item can have.
    const ALL: [Code; 11] = [
        Code::WalletNotFound,
        Code::InsufficientFunds,
        Code::SameWallet,
        Code::CurrencyMismatch,
        Code::WalletFrozen,
        Code::LimitExceeded,
        Code::GroupRefused,
        Code::DeadlineExceeded,
        Code::IdempotencyKeyReused,
        Code::InternalError,
        Code::ServiceUnavailable,
    ];
}

impl Type for ItemCode {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "item_code".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let enum_items = Self::ALL.iter().map(|it| it.as_str().into()).collect();
        let schema = MetaSchema { ty: "string", enum_items, ..MetaSchema::ANY };
        MetaSchemaRef::Inline(Box::new(schema))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ToJSON for ItemCode {
    fn to_json(&self) -> Option<serde_json::Value> {
        Some(self.0.as_str().into())
    }
}

impl ParseFromJSON for ItemCode {
    fn parse_from_json(value: Option<serde_json::Value>) -> ParseResult<Self> {
        let name = value.as_ref().and_then(serde_json::Value::as_str);
        let code = Self::ALL.into_iter().find(|it| Some(it.as_str()) == name);
        code.map(Self).ok_or_else(ParseError::expected_input)
    }
}

/// Why a transfer of a batch was not made.
#[derive(Debug, Object)]
pub(crate) struct ItemError {
    /// The stable code to match on. `group_refused`: nothing was wrong with this transfer but its
    /// company.
    code: ItemCode,
    /// What happened, for people.
    detail: String,
}

/// One transfer of a batch.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Item {
    /// What became of it.
    status: ItemStatus,
    /// Its id, also when it failed.
    transaction_id: String,
    /// How much, in minor units.
    amount: Minor,
    /// ISO 4217.
    currency: String,
    /// Who received it, or would have.
    recipient_wallet: String,
    /// When the ledger decided.
    created_at: Moment,
    /// What the sender's wallet held right after this transfer; only if it was made, and for callers
    /// who may read.
    #[oai(skip_serializing_if_is_none)]
    balance: Option<u64>,
    /// Why it failed.
    #[oai(skip_serializing_if_is_none)]
    error: Option<ItemError>,
}

impl Example for Item {
    fn example() -> Self {
        Self {
            status: ItemStatus::Success,
            transaction_id: example_id(),
            amount: Minor(example_amount()),
            currency: "NGN".to_owned(),
            recipient_wallet: "4539578763622".to_owned(),
            created_at: Moment(Timestamp::from_seconds(1_768_468_464)),
            balance: Some(380_000),
            error: None,
        }
    }
}

/// A batch that was decided.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Decisions {
    /// One for each transfer of the request, in its order.
    transfers: Vec<Item>,
}

impl Example for Decisions {
    fn example() -> Self {
        Self { transfers: vec![Item::example()] }
    }
}

/// A batch whose outcome is not known yet.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct AwaitedBatch {
    /// One for each transfer of the request, in its order.
    transfers: Vec<Awaited>,
}

impl Example for AwaitedBatch {
    fn example() -> Self {
        Self { transfers: vec![Awaited::example()] }
    }
}

/// The answer to a batch.
#[derive(Debug, ApiResponse)]
pub(crate) enum Answered {
    /// Every transfer is decided, durably: look at each `status`.
    #[oai(status = 200)]
    Decided(
        Json<Decisions>,
        /// `true` if an earlier copy of this request decided all of it.
        #[oai(header = "Idempotency-Replayed")]
        Option<bool>,
    ),
    /// Not known in time. Each becomes a success or a failure within seconds and never executes late.
    #[oai(status = 202)]
    Awaited(Json<AwaitedBatch>),
}

refusals! {
    /// Sending money many times.
    BatchRefusals: AUTHENTICATED, WITH_BODY, COMMANDS, &[
        Code::InvalidAmount,
        Code::MissingPermission,
    ];
}

#[OpenApi(tag = "Tag::Wallet")]
impl Batches {
    /// Send money to many wallets
    ///
    /// Up to 100 transfers, decided in their order, each with its own outcome. 200 means that each is
    /// decided, not that each was made: look at every `status`. With `atomic` all of them are made or
    /// none: if one is refused, it has its own error code and the others have `group_refused`.
    ///
    /// A field that is wrong refuses the whole request with 400 before anything is done; `errors`
    /// names it by its place, such as `transfers[3].amount`. 202 means that the outcome is not known
    /// yet: look at `/wallet/transactions/{id}` for each id. An `Idempotency-Key` belongs to the whole
    /// request: a repeat answers every transfer as before, and one with any other content is refused.
    ///
    /// Needs the permission `transfer`; balances are shown only to callers who may read.
    #[oai(path = "/wallet/transfers/batch", method = "post", operation_id = "transfer_batch")]
    async fn transfer(
        &self,
        who: Credentials<'_>,
        /// Makes repeating the request safe, for ever: 1–255 visible ASCII characters of your choice.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: IdempotencyKey,
        body: Body<BatchRequest>,
    ) -> Result<Answered, Refused<BatchRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.may(Permission::Transfer)?;
        let request = body.read()?;
        let linked = request.atomic.unwrap_or(false);
        let request_key = idempotency_key.request_key(caller.wallet.account)?;
        let (order, lines) = self.asked(&caller, request, request_key, Timestamp::now());
        // Durable: the ledger knows the items of a request, and not that there were no more of them.
        idempotency::claim(&self.sender.claims, request_key, order.digest, true).await?;
        let recipients = self.recipients(&lines).await?;
        let transfers = lines.iter().zip(recipients).map(|(line, to)| order.transfer(line, to));
        let command = order.command(transfers.collect(), linked);
        match self.sender.ledger.post(&command, self.sender.wait).await {
            Ok(outcomes) => Ok(answered(&caller, &order, lines, &outcomes)?),
            Err(Failure::Unavailable) => Err(Problem::service_unavailable().into()),
            Err(Failure::Unknown) => {
                let ids = self.sender.remember(order, lines, &command).await?;
                let transfers = ids.into_iter().map(Awaited::of).collect();
                Ok(Answered::Awaited(Json(AwaitedBatch { transfers })))
            }
        }
    }
}

impl Batches {
    /// Each item has a key and a digest of its own, made of the whole request's and its place: so a
    /// repeat finds every item, and no item can be taken for another request's.
    fn asked(
        &self,
        caller: &Caller,
        request: BatchRequest,
        request_key: Option<RequestKey>,
        now: Timestamp,
    ) -> (Order, Vec<Line>) {
        let digest = digest(&request, caller.wallet.currency.as_str());
        let line = |(place, it): (usize, TransferRequest)| Line {
            id: TransferId::generate(),
            recipient: it.recipient_wallet_number,
            amount: it.amount.0,
            note: it.note,
            request_key: request_key.map(|it| RequestKey(idempotency::of_item(&it.0, place))),
            digest: idempotency::of_item(&digest, place),
        };
        let lines = request.transfers.into_iter().enumerate().map(line).collect();
        (Order::of(caller, request_key, digest, (now, self.sender.wait)), lines)
    }

    /// The accounts behind the numbers; for a number that nobody has, the account of nobody.
    async fn recipients(&self, lines: &[Line]) -> Result<Vec<AccountId>, Problem> {
        let numbers: Vec<Option<WalletNumber>> =
            lines.iter().map(|it| WalletNumber::parse(&it.recipient).ok()).collect();
        let asked: Vec<WalletNumber> = numbers.iter().flatten().copied().collect();
        let found = self.sender.directory.wallets(&asked).await.map_err(ask::broken)?;
        let account = |number: Option<WalletNumber>| {
            number.and_then(|it| found.get(&it)).map_or(AccountId::NOBODY, |it| it.account)
        };
        Ok(numbers.into_iter().map(account).collect())
    }
}

/// The digest of the whole request.
fn digest(request: &BatchRequest, currency: &str) -> [u8; 32] {
    let amounts: Vec<String> = request.transfers.iter().map(|it| it.amount.0.to_string()).collect();
    let atomic = if request.atomic == Some(true) { "atomic" } else { "each" };
    let mut fields = vec![Some(atomic), Some(currency)];
    for (it, amount) in request.transfers.iter().zip(&amounts) {
        fields.extend([Some(it.recipient_wallet_number.as_str()), Some(amount.as_str())]);
        fields.push(it.note.as_deref());
    }
    request_digest("transfer_batch", &fields)
}

fn answered(
    caller: &Caller,
    order: &Order,
    lines: Vec<Line>,
    outcomes: &[Outcome],
) -> Result<Answered, Problem> {
    let decided = lines.iter().zip(outcomes).map(|(line, it)| Decided::read(it, line.id));
    let decided: Vec<Decided> = decided.collect::<Result<_, _>>()?;
    if let Some(rejection) = of_all(&decided) {
        return Err(from_rejection(rejection));
    }
    let is_replayed = decided.iter().all(|it| it.is_replayed);
    let may_read = caller.may(Permission::Read).is_ok();
    let items = lines.into_iter().zip(decided).map(|(line, it)| Item {
        status: if it.rejection.is_none() { ItemStatus::Success } else { ItemStatus::Failed },
        transaction_id: it.transfer.to_string(),
        amount: Minor(line.amount),
        currency: order.currency.clone(),
        recipient_wallet: line.recipient,
        created_at: Moment(it.at),
        balance: (may_read && it.rejection.is_none()).then_some(it.balance_after),
        error: it.rejection.map(error),
    });
    let decisions = Decisions { transfers: items.collect() };
    Ok(Answered::Decided(Json(decisions), is_replayed.then_some(true)))
}

/// What was refused of all of them because of the request and not of any item: the request's refusal.
fn of_all(decided: &[Decided]) -> Option<Rejection> {
    let first = decided.first()?.rejection?;
    let is_of_request = matches!(
        first,
        Rejection::IdempotencyKeyReused | Rejection::DebitAccountNotFound | Rejection::Malformed
    );
    (is_of_request && decided.iter().all(|it| it.rejection == Some(first))).then_some(first)
}

fn error(rejection: Rejection) -> ItemError {
    let problem = from_rejection(rejection);
    ItemError { code: ItemCode(problem.code()), detail: problem.into_detail() }
}

#[cfg(test)]
mod tests {
    use primitives::Amount;
    use proptest::prelude::*;

    use super::*;

    fn request(items: &[(&str, u64, Option<&str>)], atomic: Option<bool>) -> BatchRequest {
        let item = |(number, amount, note): &(&str, u64, Option<&str>)| TransferRequest {
            recipient_wallet_number: (*number).to_owned(),
            amount: Minor(Amount::try_new(*amount).unwrap()),
            note: note.map(str::to_owned),
        };
        BatchRequest { transfers: items.iter().map(item).collect(), atomic }
    }

    #[test]
    fn every_difference_makes_another_digest() {
        let (a, b) = ("4539578763622", "4539578763621");
        let requests = [
            request(&[(a, 1, None)], None),
            request(&[(a, 1, None)], Some(true)),
            request(&[(a, 2, None)], None),
            request(&[(b, 1, None)], None),
            request(&[(a, 1, Some("1"))], None),
            request(&[(a, 1, None), (a, 1, None)], None),
            request(&[(a, 1, None), (b, 1, None)], None),
            request(&[(b, 1, None), (a, 1, None)], None),
        ];
        for (i, one) in requests.iter().enumerate() {
            for other in requests.iter().skip(i + 1) {
                assert_ne!(digest(one, "NGN"), digest(other, "NGN"), "{one:?} {other:?}");
            }
            assert_ne!(digest(one, "NGN"), digest(one, "GHS"));
        }
        let said = request(&[(a, 1, None)], Some(false));
        assert_eq!(digest(&requests[0], "NGN"), digest(&said, "NGN"), "false is the usual");
    }

    proptest! {
        #[test]
        fn items_have_keys_of_their_own(whole: [u8; 32], i in 0_usize..100, j in 0_usize..100) {
            let (one, other) = (idempotency::of_item(&whole, i), idempotency::of_item(&whole, j));
            prop_assert_eq!(one == other, i == j);
            prop_assert_ne!(one, whole);
        }
    }

    #[test]
    fn every_code_of_an_item_is_documented() {
        for number in 1..100 {
            if let Ok(rejection) = Rejection::try_from(number) {
                let ItemCode(code) = error(rejection).code;
                assert!(ItemCode::ALL.contains(&code), "{rejection:?} is {code:?}");
            }
        }
    }
}
