//! A running ledger with books of its own, and the words to talk to it.
//!
//! It runs as the runtime role, so every test also shows that this role may do what is needed.
//! [`Ledger::finish`] stops it and audits the books: any test can find any bug of money.

use std::time::Duration;

use bus::ask::Asker;
use bytes::Bytes;
use chassis::Context;
use clap::Parser;
use primitives::{AccountId, ChangeId, Currency, RequestKey, System, TransferId};
use proto_events::convert::WireId;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::command::Body;
use proto_events::subjects::ledger as subjects;
use testkit::{Database, Nats};

/// The role that the running ledger has in every test.
pub(crate) const RUNTIME_ROLE: &str = "ledger_runtime";
/// How long anything may take; far above the usual time.
pub(crate) const WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    config: ledger::Config,
}

pub(crate) fn config(url: &str, more: &[&str]) -> ledger::Config {
    let url = format!("--ledger-database-url={url}");
    let role = format!("--ledger-runtime-role={RUNTIME_ROLE}");
    let args = ["ledger", &url, &role, "--ledger-audit-interval-ms=20"];
    Args::parse_from(args.iter().chain(more)).config
}

/// Migrated books of the test's own.
pub(crate) async fn database() -> Database {
    let postgres = testkit::postgres().await;
    postgres.role(RUNTIME_ROLE).await;
    postgres.database("ledger", async |url| ledger::migrate(config(url, &[])).await).await
}

/// A running ledger.
pub(crate) struct Ledger {
    pub(crate) database: Database,
    pub(crate) nats: Nats,
    pub(crate) context: Context,
    asker: Asker,
    more: Vec<&'static str>,
}

impl Ledger {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A ledger with more settings than the usual.
    pub(crate) async fn start_with(more: &[&'static str]) -> Self {
        let (database, nats) = tokio::join!(database(), testkit::nats());
        Self::start_on(database, nats, more).await
    }

    /// A ledger on books that are there.
    pub(crate) async fn start_on(database: Database, nats: Nats, more: &[&'static str]) -> Self {
        let asker = Asker::new(nats.client().await);
        let context = testkit::context(&nats).await;
        let ledger = Self { database, nats, context, asker, more: more.to_vec() };
        ledger.run().await;
        ledger
    }

    async fn run(&self) {
        let config = config(&self.database.url_as(RUNTIME_ROLE), &self.more);
        ledger::start(config, &self.context).await.unwrap();
    }

    /// Stops the ledger in good order, and starts it again on the same books.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.context = testkit::context(&self.nats).await;
        self.run().await;
    }

    async fn stop(&self) {
        self.context.shutdown().cancel();
        assert_eq!(self.context.drain(WAIT).await, Ok(()));
    }

    /// Stops the ledger and audits its books.
    pub(crate) async fn finish(self) {
        self.stop().await;
        balanced(&self.database).await;
    }

    /// Sends a command and waits for its outcome.
    pub(crate) async fn command(
        &self,
        subject: &'static str,
        deadline_at_us: i64,
        body: Body,
    ) -> wire::Outcome {
        let command = wire::Command { deadline_at_us, body: Some(body) };
        self.asker.command(subject, &command, WAIT).await.unwrap()
    }

    /// Sends a transfer on the subject of its kind.
    pub(crate) async fn post(&self, transfer: wire::PostTransfer) -> wire::Outcome {
        let is_deposit = transfer.kind() == wire::TransferKind::Deposit;
        let subject = if is_deposit { subjects::POST_DEPOSIT } else { subjects::POST_TRANSFER };
        self.command(subject, 0, Body::PostTransfer(transfer)).await
    }

    /// Sends a transfer that must post.
    pub(crate) async fn posted(&self, transfer: wire::PostTransfer) -> wire::Outcome {
        let outcome = self.post(transfer).await;
        assert_eq!(outcome.rejection(), wire::Rejection::Unspecified);
        outcome
    }

    /// Opens a wallet.
    pub(crate) async fn open(&self, currency: Currency) -> AccountId {
        let account_id = AccountId::generate();
        let outcome = self.command(subjects::OPEN_ACCOUNT, 0, open(account_id, currency)).await;
        assert_eq!(outcome.rejection(), wire::Rejection::Unspecified);
        account_id
    }

    /// Opens a naira wallet with money in it.
    pub(crate) async fn funded(&self, minor: u64) -> AccountId {
        let account_id = self.open(Currency::NGN).await;
        if minor > 0 {
            self.posted(deposit(account_id, minor)).await;
        }
        account_id
    }

    /// Sends transfers of any kinds, and waits for the outcome of each.
    pub(crate) async fn post_any(
        &self,
        transfers: Vec<wire::PostTransfer>,
        linked: bool,
    ) -> Vec<wire::Outcome> {
        let body = Body::PostTransfers(wire::PostTransfers { transfers, linked });
        let command = wire::Command { deadline_at_us: 0, body: Some(body) };
        let outcomes: wire::Outcomes =
            self.asker.command(subjects::POST_ANY, &command, WAIT).await.unwrap();
        outcomes.outcomes
    }

    /// Sends one transfer of any kind, and says why not.
    pub(crate) async fn do_any(&self, transfer: wire::PostTransfer) -> wire::Rejection {
        self.post_any(vec![transfer], false).await.first().unwrap().rejection()
    }

    pub(crate) async fn change(
        &self,
        account_id: AccountId,
        change: wire::AccountChange,
    ) -> wire::Rejection {
        self.change_with(wire::ChangeAccount {
            change_id: ChangeId::generate().to_bytes(),
            account_id: account_id.to_bytes(),
            change: change.into(),
            ..wire::ChangeAccount::default()
        })
        .await
        .rejection()
    }

    pub(crate) async fn change_with(&self, change: wire::ChangeAccount) -> wire::Outcome {
        self.command(subjects::CHANGE_ACCOUNT, 0, Body::ChangeAccount(change)).await
    }

    pub(crate) async fn look(&self, account_id: AccountId) -> wire::Balance {
        self.look_at(account_id, 0).await
    }

    /// The account as it was at a moment; as it is at 0.
    pub(crate) async fn look_at(&self, account_id: AccountId, at_us: i64) -> wire::Balance {
        let get = wire::GetBalance { account_id: account_id.to_bytes(), at_us };
        let query = wire::GetBalances { balances: vec![get] };
        let found: wire::Balances =
            self.asker.query(subjects::GET_BALANCES, &query, WAIT).await.unwrap();
        found.balances.into_iter().next().unwrap()
    }

    pub(crate) async fn balance(&self, account_id: AccountId) -> u64 {
        let balance = self.look(account_id).await;
        assert!(balance.found, "{account_id}");
        assert_eq!(balance.available_minor, balance.balance_minor);
        balance.balance_minor
    }

    pub(crate) async fn transfer(
        &self,
        account_id: AccountId,
        transfer_id: &Bytes,
    ) -> Option<wire::Movement> {
        let (account_id, transfer_id) = (account_id.to_bytes(), transfer_id.clone());
        let query = wire::GetTransfer { account_id, transfer_id };
        let found: wire::Transfer =
            self.asker.query(subjects::GET_TRANSFER, &query, WAIT).await.unwrap();
        found.movement
    }

    pub(crate) async fn movements(
        &self,
        query: &wire::ListMovements,
    ) -> Result<wire::Movements, bus::ask::Error> {
        self.asker.query(subjects::LIST_MOVEMENTS, query, WAIT).await
    }

    /// Asks for one number about the books.
    pub(crate) async fn count(&self, statement: &'static str) -> i64 {
        count(&self.database, statement).await
    }
}

/// Nothing in the books contradicts the rules.
pub(crate) async fn balanced(database: &Database) {
    let violations = ledger::audit::violations(&database.pool).await.unwrap();
    assert!(violations.is_empty(), "the books do not balance: {violations:#?}");
}

/// One number out of a database.
pub(crate) async fn count(database: &Database, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(&database.pool).await.unwrap()
}

pub(crate) fn open(account_id: AccountId, currency: Currency) -> Body {
    let (account_id, currency) = (account_id.to_bytes(), currency.to_string());
    Body::OpenAccount(wire::OpenAccount { account_id, currency })
}

/// Naira from one wallet to another, under a new id.
pub(crate) fn pay(from: AccountId, to: AccountId, minor: u64) -> wire::PostTransfer {
    wire::PostTransfer {
        transfer_id: TransferId::generate().to_bytes(),
        kind: wire::TransferKind::Wallet.into(),
        debit_account_id: from.to_bytes(),
        credit_account_id: to.to_bytes(),
        amount_minor: minor,
        currency: Currency::NGN.to_string(),
        note: String::new(),
        reference: String::new(),
        request_key: Bytes::new(),
        request_digest: Bytes::from_static(&[7; 32]),
        made_by_key_id: Bytes::new(),
        of_transfer_id: Bytes::new(),
        expires_at_us: 0,
    }
}

/// A transfer that is about an earlier one: `minor` of it, or all there is if that is 0.
pub(crate) fn about(
    kind: wire::TransferKind,
    earlier: &wire::PostTransfer,
    minor: u64,
) -> wire::PostTransfer {
    wire::PostTransfer {
        transfer_id: TransferId::generate().to_bytes(),
        kind: kind.into(),
        of_transfer_id: earlier.transfer_id.clone(),
        amount_minor: minor,
        request_digest: Bytes::from_static(&[7; 32]),
        ..wire::PostTransfer::default()
    }
}

/// Naira of one account reserved for another, under a new id.
pub(crate) fn hold(from: AccountId, to: AccountId, minor: u64) -> wire::PostTransfer {
    wire::PostTransfer { kind: wire::TransferKind::Hold.into(), ..pay(from, to, minor) }
}

/// Naira from Paystack's clearing account to a wallet, under a new id.
pub(crate) fn deposit(to: AccountId, minor: u64) -> wire::PostTransfer {
    let clearing = AccountId::system(System::PaystackClearing, Currency::NGN);
    wire::PostTransfer {
        kind: wire::TransferKind::Deposit.into(),
        reference: "dep-0123456789abcdef".to_owned(),
        ..pay(clearing, to, minor)
    }
}

/// The same, under a request key.
pub(crate) fn keyed(transfer: wire::PostTransfer, key: RequestKey) -> wire::PostTransfer {
    wire::PostTransfer { request_key: Bytes::copy_from_slice(&key.0), ..transfer }
}
