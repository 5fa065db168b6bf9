//! An api with people and wallets, and a stand-in for the ledger that decides by the amount.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bus::follow::Reply;
use chassis::Context;
use futures_util::StreamExt as _;
use primitives::{KeyId, UserId};
use prost::Message as _;
use proto_events::convert::WireId as _;
use proto_events::keys::v1::{Permission, Verified, VerifyKey, VerifyRefusal};
use proto_events::ledger::v1::{
    Balance, Balances, Command, Direction, GetBalances, GetTransfer, ListMovements, Movement,
    Movements, Outcome, Outcomes, PostTransfer, PostTransfers, Rejection, Transfer, TransferKind,
    command,
};
use proto_events::subjects::{keys, ledger};
use serde_json::{Value, json};
use testkit::{Answer, Call};

use crate::auth::stage::{self, subscribe};

/// A transfer of this and a number is refused with the rejection of that number.
pub(super) const REFUSED: u64 = 1_000_000;
/// When everything is decided here.
pub(super) const DECIDED_AT_US: i64 = 1_768_468_464_000_000;
/// What everybody holds afterwards.
pub(super) const HELD: u64 = 4_200;

/// What the stand-in has heard and decided, and how it behaves.
#[derive(Default)]
pub(super) struct Books {
    /// Hears commands and says nothing.
    pub(super) is_silent: AtomicBool,
    /// Every command of transfers, in order.
    pub(super) commands: Mutex<Vec<Command>>,
    /// Every query for balances.
    pub(super) balances: Mutex<Vec<GetBalances>>,
    /// Every query for a page of history.
    pub(super) pages: Mutex<Vec<ListMovements>>,
    /// The page every such query is answered with.
    pub(super) page: Mutex<Vec<Movement>>,
    /// By request key, or by id where there is none.
    decided: Mutex<BTreeMap<Vec<u8>, (PostTransfer, Outcome)>>,
}

pub(super) fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap()
}

impl Books {
    /// The lists of transfers of every command so far, and whether each was linked.
    pub(super) fn heard(&self) -> Vec<PostTransfers> {
        let body = |it: &Command| match it.body.clone() {
            Some(command::Body::PostTransfers(it)) => it,
            other => panic!("{other:?} is not what the api asks for"),
        };
        lock(&self.commands).iter().map(body).collect()
    }

    /// How many transfers were asked for.
    pub(super) fn n_asked(&self) -> usize {
        self.heard().iter().map(|it| it.transfers.len()).sum()
    }

    fn post(&self, asked: &PostTransfers) -> Outcomes {
        let refusals: Vec<Rejection> = asked.transfers.iter().map(refusal).collect();
        let breaks = asked.linked && refusals.iter().any(|it| *it != Rejection::Unspecified);
        let outcomes = asked.transfers.iter().zip(refusals).map(|(transfer, refusal)| {
            let alone = refusal == Rejection::Unspecified;
            self.decide(transfer, if breaks && alone { Rejection::GroupRefused } else { refusal })
        });
        Outcomes { outcomes: outcomes.collect() }
    }

    /// One answer for ever under an id and under a request key.
    fn decide(&self, asked: &PostTransfer, rejection: Rejection) -> Outcome {
        let mut decided = lock(&self.decided);
        let by_id = asked.transfer_id.to_vec();
        let name = if asked.request_key.is_empty() { by_id } else { asked.request_key.to_vec() };
        if let Some((before, outcome)) = decided.get(&name) {
            let is_same = before.request_digest == asked.request_digest;
            let reused = Rejection::IdempotencyKeyReused.into();
            return match is_same {
                true => Outcome { replayed: true, ..outcome.clone() },
                false => Outcome { rejection: reused, replayed: false, ..outcome.clone() },
            };
        }
        let outcome = Outcome {
            rejection: rejection.into(),
            replayed: false,
            transfer_id: asked.transfer_id.clone(),
            decided_at_us: DECIDED_AT_US,
            debit_balance_after_minor: HELD,
        };
        decided.insert(name, (asked.clone(), outcome.clone()));
        outcome
    }

    fn movement(&self, asked: &GetTransfer) -> Option<Movement> {
        let decided = lock(&self.decided);
        let (transfer, outcome) =
            decided.values().find(|(it, _)| it.transfer_id == asked.transfer_id)?;
        Some(Movement {
            transfer_id: transfer.transfer_id.clone(),
            kind: TransferKind::Wallet.into(),
            direction: Direction::Debit.into(),
            amount_minor: transfer.amount_minor,
            currency: transfer.currency.clone(),
            rejection: outcome.rejection,
            counterparty_account_id: transfer.credit_account_id.clone(),
            balance_after_minor: None,
            note: transfer.note.clone(),
            reference: String::new(),
            created_at_us: outcome.decided_at_us,
            made_by_key_id: transfer.made_by_key_id.clone(),
            position: 1,
        })
    }
}

/// What the ledger would find wrong, were its books as the test has it.
fn refusal(asked: &PostTransfer) -> Rejection {
    if asked.credit_account_id.iter().all(|it| *it == 0) {
        return Rejection::CreditAccountNotFound;
    }
    let number = asked.amount_minor.checked_sub(REFUSED).and_then(|it| i32::try_from(it).ok());
    number.and_then(|it| Rejection::try_from(it).ok()).unwrap_or(Rejection::Unspecified)
}

/// Somebody with a wallet.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) token: String,
    pub(super) number: String,
    pub(super) user: UserId,
}

/// The whole of it.
pub(super) struct Money {
    pub(super) stage: stage::Stage,
    pub(super) books: Arc<Books>,
    pub(super) ada: Person,
    pub(super) bola: Person,
}

impl Money {
    pub(super) async fn start(settings: &[(&str, &str)]) -> Self {
        let stage = stage::Stage::start(settings).await;
        let books = Arc::new(Books::default());
        let context = &stage.replica.context;
        stand_in(context, ledger::POST_TRANSFERS, Arc::clone(&books), transfers).await;
        stand_in(context, ledger::GET_BALANCES, Arc::clone(&books), balances).await;
        stand_in(context, ledger::GET_TRANSFER, Arc::clone(&books), transfer).await;
        stand_in(context, ledger::LIST_MOVEMENTS, Arc::clone(&books), page).await;
        let (ada, bola) = (person(&stage, "ada").await, person(&stage, "bola").await);
        Self { stage, books, ada, bola }
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Call {
        self.stage.client().post(path).bearer(&self.ada.token).json(body)
    }

    pub(super) fn transfer(&self, amount: u64) -> Call {
        let body = json!({ "recipient_wallet_number": self.bola.number, "amount": amount });
        self.post("/wallet/transfer", &body)
    }

    /// To Bola, each of these amounts.
    pub(super) fn amounts(&self, amounts: &[u64], atomic: bool) -> Value {
        let item = |amount: &u64| json!({ "recipient_wallet_number": self.bola.number, "amount": amount, "note": "n" });
        let transfers: Vec<Value> = amounts.iter().map(item).collect();
        json!({ "transfers": transfers, "atomic": atomic })
    }

    pub(super) fn batch(&self, body: &Value) -> Call {
        self.post("/wallet/transfers/batch", body)
    }

    pub(super) async fn look(&self, path: &str) -> Answer {
        self.stage.client().get(path).bearer(&self.ada.token).send().await
    }

    pub(super) fn silence(&self, is_silent: bool) {
        self.books.is_silent.store(is_silent, Ordering::SeqCst);
    }

    pub(super) async fn end(self) {
        self.stage.end().await;
    }
}

async fn person(stage: &stage::Stage, subject: &str) -> Person {
    let session = stage.sign_in(subject).await;
    let token = session["access_token"].as_str().unwrap().to_owned();
    let me: Value = stage.client().get("/auth/me").bearer(&token).send().await.ok();
    let number = me["wallet_number"].as_str().unwrap().to_owned();
    let user = UserId::parse(me["id"].as_str().unwrap()).unwrap();
    Person { token, number, user }
}

/// Answers everything on a subject as `answer` does; to a query's own inbox, or to the one that a
/// command names.
async fn stand_in(
    context: &Context,
    subject: &'static str,
    books: Arc<Books>,
    answer: fn(&Books, &[u8]) -> Vec<u8>,
) {
    let client = context.nats();
    let mut asked = subscribe(&client, subject).await;
    let shutdown = context.shutdown();
    context.spawn(subject, async move {
        while let Some(Some(asked)) = shutdown.run_until_cancelled(asked.next()).await {
            let answer = answer(&books, &asked.payload);
            let named = asked.headers.as_ref().and_then(|it| it.get("Wallet-Reply"));
            match (named.and_then(|it| Reply::from_text(it.as_str())), asked.reply) {
                (Some(_), _) if answer.is_empty() => {}
                (Some(to), _) => bus::reply::send(&client, &to, answer).await,
                (None, Some(to)) => client.publish(to, answer.into()).await?,
                (None, None) => {}
            }
        }
        Ok(())
    });
}

fn transfers(books: &Books, payload: &[u8]) -> Vec<u8> {
    let command = Command::decode(payload).unwrap();
    lock(&books.commands).push(command.clone());
    match command.body {
        // Silence is a ledger that is away: it decides nothing until it is asked again.
        Some(command::Body::PostTransfers(_)) if books.is_silent.load(Ordering::SeqCst) => vec![],
        Some(command::Body::PostTransfers(asked)) => books.post(&asked).encode_to_vec(),
        other => panic!("{other:?} is not what the api asks for"),
    }
}

/// What an account holds is what time it is asked about, in seconds.
fn balances(books: &Books, payload: &[u8]) -> Vec<u8> {
    let asked = GetBalances::decode(payload).unwrap();
    lock(&books.balances).push(asked.clone());
    let balances = asked.balances.iter().map(|it| Balance {
        found: true,
        balance_minor: u64::try_from(it.at_us / 1_000_000).unwrap_or(0),
        available_minor: 1,
        currency: "NGN".to_owned(),
        frozen: false,
        closed: false,
    });
    Balances { balances: balances.collect() }.encode_to_vec()
}

fn transfer(books: &Books, payload: &[u8]) -> Vec<u8> {
    let asked = GetTransfer::decode(payload).unwrap();
    Transfer { movement: books.movement(&asked) }.encode_to_vec()
}

fn page(books: &Books, payload: &[u8]) -> Vec<u8> {
    lock(&books.pages).push(ListMovements::decode(payload).unwrap());
    Movements { movements: lock(&books.page).clone(), more: false }.encode_to_vec()
}

/// A keys service that knows one key, and counts how often it is asked.
pub(super) async fn stand_in_for_keys(
    context: &Context,
    good: &str,
    user: UserId,
    permissions: &[Permission],
) -> Arc<AtomicUsize> {
    use sha2::{Digest as _, Sha256};

    let digest: [u8; 32] = Sha256::digest(good).into();
    let verified = Verified {
        refusal: VerifyRefusal::Unspecified.into(),
        key_id: KeyId::generate().to_bytes(),
        user_id: user.to_bytes(),
        permissions: permissions.iter().map(|it| i32::from(*it)).collect(),
        expires_at_us: i64::MAX,
    };
    let unknown = Verified { refusal: VerifyRefusal::Unknown.into(), ..Verified::default() };
    let (client, n_asked) = (context.nats(), Arc::new(AtomicUsize::new(0)));
    let mut questions = subscribe(&client, keys::VERIFY_KEY).await;
    let (shutdown, counted) = (context.shutdown(), Arc::clone(&n_asked));
    context.spawn("keys stand-in", async move {
        while let Some(Some(question)) = shutdown.run_until_cancelled(questions.next()).await {
            counted.fetch_add(1, Ordering::SeqCst);
            let asked = VerifyKey::decode(question.payload).unwrap();
            let known = asked.digest == digest.as_slice();
            let answer = if known { &verified } else { &unknown };
            client.publish(question.reply.unwrap(), answer.encode_to_vec().into()).await?;
        }
        Ok(())
    });
    n_asked
}

/// Far above what anything here takes.
pub(super) const WAIT: Duration = stage::BOUND;
