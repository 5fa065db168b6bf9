//! All books at one moment, decided again.

use std::collections::VecDeque;

use ledger_core::audit::{Line, Replay, Violation};
use ledger_core::{ChangeRecord, Head, Record, Rejection};
use primitives::ChangeId;
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};

use super::{differing, differing_batches, is_named_well, not_kept};
use crate::store;
use crate::store::check::{self, ChangePlace, Unreadable};

/// Rows read at a time: some megabytes.
const PAGE_ROWS: i64 = 20_000;
/// What comparing an account with its histories costs, in transfers read.
const ACCOUNT_COST: i64 = 5;

/// How far a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What is being read.
    pub(crate) reading: &'static str,
    /// How much is done, of what there is altogether; in no unit of its own.
    pub(crate) done: i64,
    pub(crate) total: i64,
}

/// What was read, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) violations: Vec<Violation>,
    pub(crate) n_transfers: i64,
    pub(crate) n_accounts: i64,
}

/// Reads everything in one snapshot, page by page, and tells `progress` now and then.
pub(crate) async fn read(
    pool: &PgPool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Whole, store::Error> {
    let mut tx = check::snapshot(pool).await?;
    let head = store::head(&mut tx).await?;
    let n_accounts = check::n_accounts(&mut tx, i64::MAX).await?;
    let total =
        head.position.saturating_add(n_accounts.saturating_mul(ACCOUNT_COST.saturating_add(1)));
    let mut reading = Reading {
        conn: &mut tx,
        replay: Replay::new(),
        changes: Changes::default(),
        progress,
        at: Progress { reading: "accounts", done: 0, total },
    };
    reading.open().await?;
    reading.at.reading = "transfers";
    reading.lines().await?;
    reading.at.reading = "what is kept";
    reading.accounts().await?;
    reading.sums().await?;
    let mut replay = reading.replay;
    replay.end(head.position);
    let n_transfers = replay.position();
    tx.commit().await.map_err(store::Error::Check)?;
    Ok(Whole { violations: replay.finish(), n_transfers, n_accounts })
}

struct Reading<'a> {
    conn: &'a mut PgConnection,
    replay: Replay,
    changes: Changes,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    at: Progress,
}

/// Changes of accounts that were read and not yet replayed.
#[derive(Default)]
struct Changes {
    waiting: VecDeque<(ChangePlace, Result<ChangeRecord, ChangeId>)>,
    read_to: ChangePlace,
    is_through: bool,
}

impl Reading<'_> {
    fn advance(&mut self, n: usize, cost: i64) {
        let done = i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(cost);
        self.at.done = self.at.done.saturating_add(done).min(self.at.total);
        (self.progress)(self.at);
    }

    /// Which accounts there are.
    async fn open(&mut self) -> Result<(), store::Error> {
        let mut account_id = Uuid::nil();
        loop {
            let page = check::accounts(self.conn, account_id, PAGE_ROWS).await?;
            for account in &page {
                match account {
                    Ok(account) => self.replay.open(account),
                    Err(id) => self.replay.found(Violation::AccountDiffers { account_id: *id }),
                }
            }
            let Some(last) = page.last() else { return Ok(()) };
            account_id = last.as_ref().map_or_else(|id| id.uuid(), |it| it.id.uuid());
            self.advance(page.len(), 1);
        }
    }

    /// Every transfer, and every change of an account where it stands among them.
    async fn lines(&mut self) -> Result<(), store::Error> {
        let mut before = Head::START;
        loop {
            let page = check::lines(self.conn, before.position, PAGE_ROWS).await?;
            let Some(last) = page.last().map(position) else { break };
            let from = before.position.saturating_sub(1);
            let batches = check::batches(self.conn, from, last).await?;
            let records: Vec<&Record> = page.iter().flatten().map(|it| &it.record).collect();
            let done: Vec<&Record> =
                records.iter().copied().filter(|it| it.verdict.is_done()).collect();
            let not_kept = not_kept(self.conn, &done).await?;
            for violation in
                differing_batches(before, &records, &batches).into_iter().chain(not_kept)
            {
                self.replay.found(violation);
            }
            if let Some(newest) = records.last() {
                before.decided_at = newest.decided_at;
            }
            for line in &page {
                self.changes_before(position(line)).await?;
                match line {
                    Ok(line) => self.replay.line(line),
                    Err(Unreadable { position, transfer_id }) => {
                        let (position, transfer_id) = (*position, *transfer_id);
                        self.replay.found(Violation::WrongMove { position, transfer_id });
                    }
                }
            }
            before.position = last;
            self.advance(page.len(), 1);
        }
        self.changes_before(i64::MAX).await
    }

    /// Replays the changes of accounts that were decided before `position`.
    async fn changes_before(&mut self, position: i64) -> Result<(), store::Error> {
        loop {
            let Changes { waiting, read_to, is_through } = &mut self.changes;
            while let Some(((after_position, _), _)) = waiting.front() {
                if *after_position >= position {
                    return Ok(());
                }
                match waiting.pop_front().map(|(_, change)| change) {
                    Some(Ok(change)) => self.replay.change(&change),
                    Some(Err(change_id)) => {
                        let rejection = Rejection::Malformed;
                        self.replay.found(Violation::ChangeNotAllowed { change_id, rejection });
                    }
                    None => {}
                }
            }
            if *is_through {
                return Ok(());
            }
            waiting.extend(check::changes(self.conn, *read_to, PAGE_ROWS).await?);
            match waiting.back() {
                Some((last, _)) => *read_to = *last,
                None => *is_through = true,
            }
        }
    }

    /// What every account is said to be, and what its two histories end with.
    async fn accounts(&mut self) -> Result<(), store::Error> {
        let mut account_id = Uuid::nil();
        loop {
            let page = check::accounts(self.conn, account_id, PAGE_ROWS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            account_id = last.as_ref().map_or_else(|id| id.uuid(), |it| it.id.uuid());
            let ids: Vec<Uuid> = page.iter().flatten().map(|it| it.id.uuid()).collect();
            for account in check::openings(self.conn, &ids, i64::MAX).await? {
                self.replay.account(&account);
                if !is_named_well(&account) {
                    self.replay.found(Violation::AccountDiffers { account_id: account.id });
                }
            }
            self.advance(page.len(), ACCOUNT_COST);
        }
    }

    /// What is kept of holds and reversals. The replay forgets holds of which nothing remains, so
    /// these are compared with what was done about them.
    async fn sums(&mut self) -> Result<(), store::Error> {
        let mut id = Uuid::nil();
        loop {
            let page = check::holds(self.conn, id, PAGE_ROWS).await?;
            let remainders = check::remainders(self.conn, id, PAGE_ROWS).await?;
            let Some(last) = page.last() else { break };
            id = last.id.uuid();
            for hold in page.iter().filter_map(|it| it.hold.as_ref()) {
                self.replay.hold(hold);
            }
            let unreadable = page.iter().filter(|it| it.hold.is_none()).map(|it| it.id);
            let closed = differing(&remainders).filter(|it| it.kept_minor == 0).map(|it| it.id);
            for hold_id in unreadable.chain(closed) {
                let sum = remainders.iter().find(|it| it.id == hold_id);
                self.replay.found(Violation::HoldDiffers {
                    hold_id,
                    expected_minor: sum.and_then(|it| it.expected_minor).unwrap_or(0),
                    found_minor: sum.map(|it| it.kept_minor),
                });
            }
        }
        let mut id = Uuid::nil();
        loop {
            let page = check::reversals(self.conn, id, PAGE_ROWS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            id = last.id.uuid();
            for kept in &page {
                self.replay.reversed(kept.id, kept.kept_minor);
                if kept.expected_minor.is_none() {
                    self.replay.found(Violation::ReversalDiffers {
                        transfer_id: kept.id,
                        expected_minor: 0,
                        found_minor: Some(kept.kept_minor),
                    });
                }
            }
        }
    }
}

fn position(line: &Result<Line, Unreadable>) -> i64 {
    match line {
        Ok(line) => line.record.position,
        Err(unreadable) => unreadable.position,
    }
}
