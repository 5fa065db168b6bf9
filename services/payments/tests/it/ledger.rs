//! The other side of the wire: reads `CMD_LEDGER` as the ledger does, decides by the ledger's own
//! rules, keeps what it was asked, and says what it posted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::answer::Failure;
use bus::follow::{Answer, Delivery, Follow, HandleError, Handler, SILENCE_MAX};
use bytes::Bytes;
use ledger_core::{
    Account, AccountChange, Action, Body, Books, Change, Command, Found, Head, Move, Transfer,
};
use primitives::{AccountId, ChangeId, Currency, System, Timestamp, TransferId};
use prost::Message as _;
use proto_events::convert::{self, WireId};
use proto_events::{ledger::v1 as wire, subjects};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

/// The books, and what the stand-in was told to do.
#[derive(Debug)]
pub(crate) struct Desk {
    books: Books,
    /// It decides, and its answers are lost.
    pub(crate) is_silent: bool,
    /// How often it was asked to post.
    pub(crate) n_asked: usize,
    /// Whoever asks is not told of transfers for these references.
    pub(crate) forgotten: Vec<String>,
}

/// A ledger of the test's own.
#[derive(Debug, Clone)]
pub(crate) struct Ledger(Arc<Mutex<Desk>>);

impl Ledger {
    pub(crate) fn new() -> Self {
        let now = Timestamp::now();
        let systems = [System::PaystackClearing, System::Suspense];
        let accounts = systems.into_iter().flat_map(|system| {
            [Currency::NGN, Currency::USD].map(|currency| Account::system(system, currency, now))
        });
        let found = Found { accounts: accounts.collect(), ..Found::default() };
        let books = Books::new(Head::START, found);
        Self(Arc::new(Mutex::new(Desk {
            books,
            is_silent: false,
            n_asked: 0,
            forgotten: Vec::new(),
        })))
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a wallet.
    pub(crate) fn open(&self) -> AccountId {
        let account_id = AccountId::generate();
        self.do_it(Body::OpenAccount { account_id, currency: Currency::NGN });
        account_id
    }

    pub(crate) fn freeze(&self, account_id: AccountId) {
        self.change(account_id, Change::Freeze);
    }

    pub(crate) fn unfreeze(&self, account_id: AccountId) {
        self.change(account_id, Change::Unfreeze);
    }

    fn change(&self, account_id: AccountId, change: Change) {
        let id = ChangeId::generate();
        self.do_it(Body::ChangeAccount(AccountChange { id, account_id, change }));
    }

    fn do_it(&self, body: Body) {
        let command = Command { deadline_at: None, body };
        let outcomes = self.desk().books.apply(command, Timestamp::now());
        assert!(outcomes.iter().all(|it| it.verdict.is_done()));
    }

    /// What an account holds.
    pub(crate) fn balance(&self, account_id: AccountId) -> i64 {
        self.desk().books.account(account_id).map_or(0, |it| it.standing.balance_minor)
    }

    /// What is held of it.
    pub(crate) fn held(&self, account_id: AccountId) -> i64 {
        self.desk().books.account(account_id).map_or(0, |it| it.standing.held_minor)
    }

    /// What a system account of naira holds.
    pub(crate) fn system(&self, system: System) -> i64 {
        self.balance(AccountId::system(system, Currency::NGN))
    }

    /// What was posted in all.
    pub(crate) fn balance_of_all(&self) -> u64 {
        self.posted().iter().filter_map(|it| it.action.of()).map(|it| it.amount.minor()).sum()
    }

    /// The posted transfers, in order.
    pub(crate) fn posted(&self) -> Vec<Transfer> {
        let changes = self.desk().books.clone().into_changes();
        let posted = changes.records.into_iter().filter(|it| it.verdict.is_done());
        posted.map(|it| it.transfer).collect()
    }

    /// What a transfer did to an account, as the ledger tells it.
    fn movement(&self, account_id: AccountId, transfer_id: TransferId) -> Option<wire::Movement> {
        let desk = self.desk();
        let records = desk.books.clone().into_changes().records;
        let record = records.into_iter().find(|it| it.transfer.id == transfer_id)?;
        let transfer = &record.transfer;
        let of = transfer.action.of().expect("it says what it moves");
        let is_debit = of.debit_account_id == account_id;
        let is_of_it = is_debit || of.credit_account_id == account_id;
        if !is_of_it || desk.forgotten.contains(&transfer.reference) {
            return None;
        }
        let direction = if is_debit { wire::Direction::Debit } else { wire::Direction::Credit };
        let other = if is_debit { of.credit_account_id } else { of.debit_account_id };
        Some(wire::Movement {
            transfer_id: transfer_id.to_bytes(),
            direction: direction.into(),
            amount_minor: of.amount.minor(),
            currency: of.currency.to_string(),
            rejection: record.verdict.rejection().map_or(0, |it| i32::from(it.number())),
            counterparty_account_id: other.to_bytes(),
            reference: transfer.reference.clone(),
            ..wire::Movement::default()
        })
    }

    /// Answers what it posted, until `shutdown`.
    pub(crate) async fn answer(
        self,
        nats: async_nats::Client,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let handler = move |query: Bytes| {
            let ledger = self.clone();
            async move {
                let query = wire::GetTransfer::decode(query).map_err(Failure::new)?;
                let of = AccountId::read("account_id", &query.account_id).map_err(Failure::new)?;
                let transfer_id = &query.transfer_id;
                let transfer_id =
                    TransferId::read("transfer_id", transfer_id).map_err(Failure::new)?;
                let movement = ledger.movement(of, transfer_id);
                Ok(wire::Transfer { movement }.encode_to_vec())
            }
        };
        let subject = subjects::ledger::GET_TRANSFER;
        bus::answer::serve(nats, subject, "ledger-stand-in", shutdown, handler).await?;
        Ok(())
    }

    /// How it reads its stream.
    pub(crate) const FOLLOW: Follow = Follow {
        reader: "ledger-stand-in",
        stream: subjects::CMD_LEDGER,
        filter: None,
        batch_max: 100,
        batch_bytes_max: 1024 * 1024,
        silence_max: SILENCE_MAX,
    };
}

impl Handler for Ledger {
    async fn handle(
        &mut self,
        _conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        Ok(batch.iter().map(|delivery| self.post(delivery, now)).collect())
    }
}

impl Ledger {
    fn post(&self, delivery: &Delivery, now: Timestamp) -> Answer {
        // Permissions of the real bus: only payments may publish there, and nowhere else.
        let is_several = match delivery.subject.as_str() {
            subjects::ledger::POST_DEPOSIT => false,
            subjects::ledger::POST_ANY => true,
            other => panic!("payments has nothing to say on {other}"),
        };
        let command = read(&delivery.payload, is_several);
        let mut desk = self.desk();
        desk.n_asked += 1;
        let outcomes = desk.books.apply(command, now).into_iter().map(|outcome| wire::Outcome {
            rejection: outcome.verdict.rejection().map_or(0, |it| i32::from(it.number())),
            replayed: outcome.replayed,
            transfer_id: outcome.transfer_id.map(|it| it.to_bytes()).unwrap_or_default(),
            decided_at_us: outcome.decided_at.micros(),
            debit_balance_after_minor: 0,
        });
        let outcomes: Vec<_> = outcomes.collect();
        let answer = if is_several {
            wire::Outcomes { outcomes }.encode_to_vec()
        } else {
            outcomes.first().expect("one transfer has one outcome").encode_to_vec()
        };
        if desk.is_silent { Answer::Silent } else { Answer::Reply(answer) }
    }
}

fn read(payload: &[u8], is_several: bool) -> Command {
    let command = wire::Command::decode(payload).unwrap();
    assert_eq!(command.deadline_at_us, 0, "a credit is never too late");
    let (transfers, linked) = match command.body {
        Some(wire::command::Body::PostTransfer(it)) if !is_several => (vec![it], false),
        Some(wire::command::Body::PostTransfers(all)) if is_several => (all.transfers, all.linked),
        other => panic!("payments asks for nothing but transfers, not for {other:?}"),
    };
    let transfers = transfers.into_iter().map(transfer).collect();
    Command { deadline_at: None, body: Body::Post { transfers, linked } }
}

fn transfer(it: wire::PostTransfer) -> Transfer {
    use wire::TransferKind::{
        Capture, Deposit, Expiry, Hold, Internal, Release, Reversal, Unspecified, Wallet,
    };
    let of = || Move {
        debit_account_id: WireId::read("debit", &it.debit_account_id).unwrap(),
        credit_account_id: WireId::read("credit", &it.credit_account_id).unwrap(),
        amount: convert::amount("amount", it.amount_minor).unwrap(),
        currency: convert::currency("currency", &it.currency).unwrap(),
    };
    let hold_id = || WireId::read("hold", &it.of_transfer_id).unwrap();
    Transfer {
        id: WireId::read("transfer_id", &it.transfer_id).unwrap(),
        action: match it.kind() {
            Deposit => Action::Deposit(of()),
            Internal => Action::Internal(of()),
            Hold => Action::Hold { of: of(), expires_at: None },
            Capture => {
                let amount = Some(convert::amount("amount", it.amount_minor).unwrap());
                Action::Capture { hold_id: hold_id(), amount }
            }
            Release => Action::Release { hold_id: hold_id() },
            other @ (Unspecified | Wallet | Expiry | Reversal) => {
                panic!("payments does not ask for {other:?}")
            }
        },
        note: it.note,
        reference: it.reference,
        request_key: convert::request_key("key", &it.request_key).unwrap(),
        request_digest: convert::digest("digest", &it.request_digest).unwrap(),
        made_by_key_id: None,
    }
}
