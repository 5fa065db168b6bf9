//! Answers questions about accounts and transfers from what Postgres has committed.

use bus::answer::Failure;
use bytes::Bytes;
use chassis::Context;
use chassis::postgres::Kept;
use ledger_core::{Account, Status};
use primitives::{AccountId, TransferId};
use prost::Message;
use proto_events::convert::{self, Malformed, WireId};
use proto_events::ledger::v1 as wire;
use proto_events::subjects::ledger as subjects;
use sqlx::PgPool;
use sqlx::pool::PoolConnection;

use crate::store::read::{self, Of, Page};
use crate::wire::{print_movement, read_kind};
use crate::{NAME, store};

/// The most balances in one query.
const BALANCES_MAX: usize = 1_000;
/// The most queries of balances that are answered with one look.
const QUERIES_MAX: usize = 64;
/// Connections for balances: as many as are asked for at a time (`bus::answer::serve_batches`).
const KEPT: usize = 2;
/// The most movements on one page.
const MOVEMENTS_MAX: u32 = 100;

/// Spawns one loop a question; replicas share the questions.
pub(crate) fn spawn(context: &Context, pool: &PgPool) {
    /// One loop: its name, its subject, and what answers.
    macro_rules! spawn {
        ($name:literal, $subject:expr, $answer:ident) => {{
            let pool = pool.clone();
            let handler = move |payload| {
                let pool = pool.clone();
                async move { $answer(&pool, payload).await }
            };
            let serving =
                bus::answer::serve(context.nats(), $subject, NAME, context.shutdown(), handler);
            context.spawn($name, async move { Ok(serving.await?) });
        }};
    }
    let balancing = bus::answer::serve_batches(
        context.nats(),
        subjects::GET_BALANCES,
        NAME,
        context.shutdown(),
        QUERIES_MAX,
        {
            let conns = Kept::of(pool, KEPT);
            move |queries| {
                let conns = conns.clone();
                async move { balances(&conns, queries).await }
            }
        },
    );
    context.spawn("ledger balances", async move { Ok(balancing.await?) });
    spawn!("ledger transfers", subjects::GET_TRANSFER, transfer);
    spawn!("ledger movements", subjects::LIST_MOVEMENTS, movements);
}

/// Answers many queries with one look at the books, in the order they came.
async fn balances(conns: &Kept, queries: Vec<Bytes>) -> Vec<Result<Vec<u8>, Failure>> {
    let asked: Vec<Result<Vec<Of>, Failure>> = queries.into_iter().map(read_balances).collect();
    let all: Vec<Of> = asked.iter().flatten().flatten().copied().collect();
    let mut found = match look(conns, &all).await {
        Ok(accounts) => accounts.into_iter(),
        Err(failure) => {
            let others = || Err(Failure::new("it was asked together with one that failed"));
            let all = std::iter::once(Err(failure)).chain(std::iter::repeat_with(others));
            return all.take(asked.len()).collect();
        }
    };
    let mut print = |of: Vec<Of>| {
        let balances = found.by_ref().take(of.len()).map(print_balance).collect();
        wire::Balances { balances }.encode_to_vec()
    };
    asked.into_iter().map(|it| it.map(&mut print)).collect()
}

async fn look(conns: &Kept, asked: &[Of]) -> Result<Vec<Option<Account>>, Failure> {
    let mut conn = conns.take().await.map_err(unreachable)?;
    let accounts = read::balances(&mut conn, asked).await.map_err(Failure::new)?;
    conns.keep(conn);
    Ok(accounts)
}

fn read_balances(payload: Bytes) -> Result<Vec<Of>, Failure> {
    let query = wire::GetBalances::decode(payload).map_err(Failure::new)?;
    if query.balances.len() > BALANCES_MAX {
        return Err(Failure::new(Malformed { field: "balances", expected: "at most 1000" }));
    }
    let asked: Result<Vec<Of>, Malformed> = query.balances.iter().map(read_of).collect();
    asked.map_err(Failure::new)
}

fn read_of(query: &wire::GetBalance) -> Result<Of, Malformed> {
    let account_id = AccountId::read("account_id", &query.account_id)?;
    Ok(Of { account_id, at: convert::moment(query.at_us) })
}

fn print_balance(account: Option<Account>) -> wire::Balance {
    let Some(it) = account else { return wire::Balance::default() };
    // Below zero only for the ledger's own accounts, which nobody can spend from.
    let whole = |minor: Option<i64>| minor.and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
    wire::Balance {
        found: true,
        balance_minor: whole(Some(it.standing.balance_minor)),
        available_minor: whole(it.standing.available_minor()),
        currency: it.currency.to_string(),
        frozen: it.status == Status::Frozen,
        closed: it.status == Status::Closed,
    }
}

async fn transfer(pool: &PgPool, payload: Bytes) -> Result<Vec<u8>, Failure> {
    let query = wire::GetTransfer::decode(payload).map_err(Failure::new)?;
    let account_id = AccountId::read("account_id", &query.account_id).map_err(Failure::new)?;
    let transfer_id = TransferId::read("transfer_id", &query.transfer_id).map_err(Failure::new)?;
    let mut conn = acquire(pool).await?;
    let found = read::movement(&mut conn, account_id, transfer_id).await.map_err(Failure::new)?;
    let movement = found.map(|it| print_movement(account_id, it));
    Ok(wire::Transfer { movement }.encode_to_vec())
}

async fn movements(pool: &PgPool, payload: Bytes) -> Result<Vec<u8>, Failure> {
    let query = wire::ListMovements::decode(payload).map_err(Failure::new)?;
    let page = read_page(&query).map_err(Failure::new)?;
    let mut conn = acquire(pool).await?;
    let mut found = read::movements(&mut conn, &page).await.map_err(Failure::new)?;
    // One more was asked for than is shown: whether it exists says whether there are older ones.
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let movements = found.into_iter().map(|it| print_movement(page.account_id, it)).collect();
    Ok(wire::Movements { movements, more }.encode_to_vec())
}

fn read_page(query: &wire::ListMovements) -> Result<Page, Malformed> {
    if !(1..=MOVEMENTS_MAX).contains(&query.limit) {
        return Err(Malformed { field: "limit", expected: "1 to 100" });
    }
    let is_debit = match wire::Direction::try_from(query.direction) {
        Ok(wire::Direction::Unspecified) => None,
        Ok(wire::Direction::Debit) => Some(true),
        Ok(wire::Direction::Credit) => Some(false),
        Err(_) => return Err(Malformed { field: "direction", expected: "a direction" }),
    };
    Ok(Page {
        account_id: AccountId::read("account_id", &query.account_id)?,
        limit: i64::from(query.limit).saturating_add(1),
        before_position: (query.before_position != 0).then_some(query.before_position),
        kind: read_kind(query.kind)?,
        is_debit,
        from: convert::moment(query.from_us),
        to: convert::moment(query.to_us),
    })
}

async fn acquire(pool: &PgPool) -> Result<PoolConnection<sqlx::Postgres>, Failure> {
    pool.acquire().await.map_err(unreachable)
}

fn unreachable(source: sqlx::Error) -> Failure {
    Failure::new(store::Error::Connect(source))
}
