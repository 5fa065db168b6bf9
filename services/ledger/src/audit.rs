//! The books check themselves: everything once at the start, then bit by bit for ever.
//!
//! [`violations`] reads all there is; tests end with it. `Watch` looks at the newest entries and
//! at a bounded stretch of the old ones every few seconds, and goes round when it has seen them
//! all, so damage anywhere is found within a round, which is one look for small books. What it
//! found stays counted until a whole round found nothing: readiness is off as long.
//!
//! The judge is `ledger_core::audit`; here is only what it is shown.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger_core::audit::{Audit, Violation};
use primitives::{AccountId, TransferId};
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::store::{self, check};

/// Rows read at a time; also what one look takes of the old entries, and of the accounts.
const PAGE_ROWS: i64 = 5_000;
/// The most pages of new entries one look takes before it turns to the old ones.
const NEW_PAGES_MAX: usize = 10;

/// The books could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to audit the books")]
pub struct Error(#[source] store::Error);

/// Reads all books and says everything in them that the rules could not have written.
///
/// # Errors
/// When Postgres fails, or holds what cannot even be read.
///
/// Limit: memory grows with the number of accounts, about 100 bytes each.
pub async fn violations(pool: &PgPool) -> Result<Vec<Violation>, Error> {
    full(pool).await.map_err(Error)
}

async fn full(pool: &PgPool) -> Result<Vec<Violation>, store::Error> {
    let mut audit = Audit::new();
    // Nearly everything is read page by page, so that no snapshot is held for long.
    let mut conn = pool.acquire().await.map_err(store::Error::Connect)?;
    read_on(&mut conn, &mut audit).await?;
    let mut transfer_id = Uuid::nil();
    loop {
        let page = check::transfers(&mut conn, transfer_id, PAGE_ROWS).await?;
        for (id, _) in page.iter().filter(|(_, is_bare)| *is_bare) {
            let transfer_id = TransferId::from_uuid(*id);
            audit.found(Violation::TransferWithoutEntries { transfer_id });
        }
        let Some((last, _)) = page.last() else { break };
        transfer_id = *last;
    }
    drop(conn);
    // What came meanwhile, and the accounts as they were at just that moment.
    let mut tx = check::snapshot(pool).await?;
    read_on(&mut tx, &mut audit).await?;
    audit.end(store::head(&mut tx).await?.position);
    let mut account_id = Uuid::nil();
    loop {
        let page = check::accounts(&mut tx, account_id, PAGE_ROWS).await?;
        page.iter().for_each(|it| audit.account(it));
        let Some(last) = page.last() else { break };
        account_id = last.id.uuid();
    }
    tx.commit().await.map_err(store::Error::Check)?;
    audit.sums();
    Ok(audit.finish())
}

/// Reads entries until there are no more.
async fn read_on(conn: &mut PgConnection, audit: &mut Audit) -> Result<(), store::Error> {
    loop {
        let page = check::lines(conn, audit.position(), PAGE_ROWS).await?;
        if page.is_empty() {
            return Ok(());
        }
        page.iter().for_each(|it| audit.line(it));
    }
}

/// The loop that keeps looking.
#[derive(Debug)]
pub(crate) struct Watch {
    every: Duration,
    health: watch::Sender<Option<usize>>,
    /// The newest position that was looked at; what is older when the loop starts is for the
    /// rounds and the full reading.
    newest: Option<i64>,
    /// How far the round has come among entries and accounts; none when it is through.
    entries: Option<i64>,
    accounts: Option<Uuid>,
    /// What this round found, and what the one before it did.
    found: BTreeSet<Violation>,
    before: BTreeSet<Violation>,
}

/// What the audit thinks of the books, for readiness.
#[derive(Debug, Clone)]
pub(crate) struct Health(watch::Receiver<Option<usize>>);

impl Health {
    /// Whether the books balance as far as has been looked.
    pub(crate) fn check(&self) -> Result<(), String> {
        match *self.0.borrow() {
            Some(0) => Ok(()),
            Some(n_violations) => {
                Err(format!("{n_violations} violations: the books do not balance"))
            }
            None => Err("the books have not been looked at yet".to_owned()),
        }
    }
}

impl Watch {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            health: watch::Sender::new(None),
            newest: None,
            entries: Some(0),
            accounts: Some(Uuid::nil()),
            found: BTreeSet::new(),
            before: BTreeSet::new(),
        }
    }

    pub(crate) fn health(&self) -> Health {
        Health(self.health.subscribe())
    }

    /// Looks until shutdown. A look that fails is tried again: that Postgres is away is for others
    /// to say.
    pub(crate) async fn run(
        mut self,
        pool: PgPool,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut n_looks = 0_u64;
        while !shutdown.is_cancelled() {
            // The first look is short, so that a start is not kept waiting by the full reading.
            let looked = tokio::select! {
                () = shutdown.cancelled() => break,
                looked = self.look(&pool, n_looks == 1) => looked,
            };
            match looked {
                Ok(()) => n_looks = n_looks.saturating_add(1),
                Err(error) => {
                    let error = anyhow::Error::new(error);
                    tracing::warn!("the audit looks again later: {error:#}");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
        Ok(())
    }

    async fn look(&mut self, pool: &PgPool, is_full: bool) -> Result<(), store::Error> {
        let found = if is_full { full(pool).await? } else { self.glance(pool).await? };
        for violation in found {
            if !self.before.contains(&violation) && !self.found.contains(&violation) {
                tracing::error!("the books do not balance: {violation}");
            }
            self.found.insert(violation);
        }
        let n_violations = self.found.union(&self.before).count();
        if self.entries.is_none() && self.accounts.is_none() {
            self.before = std::mem::take(&mut self.found);
            self.entries = Some(0);
            self.accounts = Some(Uuid::nil());
        }
        metrics::AUDIT_VIOLATIONS.set(i64::try_from(n_violations).unwrap_or(i64::MAX));
        self.health.send_replace(Some(n_violations));
        Ok(())
    }

    /// The newest entries, a stretch of the old ones, and some accounts.
    async fn glance(&mut self, pool: &PgPool) -> Result<Vec<Violation>, store::Error> {
        let mut tx = check::snapshot(pool).await?;
        let last_position = check::last_position(&mut tx).await?;
        let (mut newest, mut found) = (self.newest.unwrap_or(last_position), Vec::new());
        for _ in 0..NEW_PAGES_MAX {
            let (after, mut violations) = stretch(&mut tx, newest).await?;
            found.append(&mut violations);
            let Some(after) = after else { break };
            newest = after;
        }
        let mut entries = self.entries;
        if let Some(position) = entries {
            let mut violations;
            (entries, violations) = stretch(&mut tx, position).await?;
            found.append(&mut violations);
        }
        let mut end = Audit::after(last_position, []);
        end.end(store::head(&mut tx).await?.position);
        found.extend(end.finish());
        let mut accounts = self.accounts;
        if let Some(account_id) = accounts {
            let mut violations;
            (accounts, violations) = some_accounts(&mut tx, account_id).await?;
            found.append(&mut violations);
        }
        tx.commit().await.map_err(store::Error::Check)?;
        (self.newest, self.entries, self.accounts) = (Some(newest), entries, accounts);
        Ok(found)
    }
}

/// Checks a page of entries after `position`, and says where it ended; none at the end of the books.
async fn stretch(
    conn: &mut PgConnection,
    position: i64,
) -> Result<(Option<i64>, Vec<Violation>), store::Error> {
    let lines = check::lines(conn, position, PAGE_ROWS).await?;
    let accounts: BTreeSet<Uuid> = lines.iter().map(|it| it.entry.account_id.uuid()).collect();
    let accounts: Vec<Uuid> = accounts.into_iter().collect();
    let openings = check::openings(conn, &accounts, position).await?;
    let mut audit = Audit::after(position, openings);
    lines.iter().for_each(|it| audit.line(it));
    Ok((lines.last().map(|it| it.entry.position), audit.finish()))
}

/// Compares a page of accounts after `account_id` with their last entries, and says where it ended;
/// none after the last account.
async fn some_accounts(
    conn: &mut PgConnection,
    account_id: Uuid,
) -> Result<(Option<Uuid>, Vec<Violation>), store::Error> {
    let accounts = check::accounts(conn, account_id, PAGE_ROWS).await?;
    let ids: Vec<Uuid> = accounts.iter().map(|it| it.id.uuid()).collect();
    let last = check::openings(conn, &ids, i64::MAX).await?;
    let last: std::collections::BTreeMap<AccountId, i64> = last.into_iter().collect();
    let mut audit = Audit::new();
    for account in &accounts {
        let held_minor = last.get(&account.id).copied().unwrap_or(0);
        audit.account_against_last_entry(account, held_minor);
    }
    Ok((ids.last().copied(), audit.finish()))
}
