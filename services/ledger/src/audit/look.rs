//! One look at the running books: a little of everything, in one snapshot.
//!
//! What a look costs is bounded by rows, whatever the books hold: see [`ROWS_MAX`]. The place in
//! the round moves on with every look, through transfers, accounts, holds and reversals, and begins
//! again at the end.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use ledger_core::audit::{Stretch, Violation};
use ledger_core::{Account, Head, Limits, Record, Status};
use primitives::{AccountId, Timestamp};
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};

use super::{differing, differing_batches, is_named_well, not_kept};
use crate::store;
use crate::store::check::{self, Kept, Unreadable};

/// What one look takes of the books beside the newest transfers, in transfers read.
///
/// With the newest that is about 35 ms of one core, Postgres' share included: 1.7 % of it with a
/// look every two seconds. A round over a million transfers between ten thousand accounts then
/// takes four minutes; between a million accounts, most of which must be found, forty.
pub(super) const ROWS_MAX: usize = 8_000;
/// The newest transfers, which every look reads again.
const NEWEST_ROWS: i64 = 500;
/// Rows read at a time.
const PAGE_ROWS: i64 = 500;
/// The most transfers read at a time by a gentle look: two milliseconds of a core, which the
/// writer and whoever waits for it do not notice.
const PAGE_TRANSFERS_MAX: usize = 500;
/// The same of a hurried one: some megabytes.
const PAGE_TRANSFERS_MAX_HURRIED: usize = 20_000;
/// A gentle look rests after a page, this many times as long as the page took.
const REST_FACTOR: u32 = 4;
/// What it costs to find what stands on an account, to compare it with its changes, or to add up
/// what was done about a hold, in transfers read.
const FIND_COST: usize = 4;
/// A transfer with two accounts that are to be found.
const TRANSFER_COST_MAX: usize = 1 + 2 * FIND_COST;
/// Accounts whose standing is remembered from page to page, about 150 bytes each.
const KNOWN_MAX: usize = 50_000;

/// How far a round has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Transfers up to this position are behind.
    Transfers(i64),
    /// Accounts up to this id are, and all transfers.
    Accounts(Uuid),
    /// Holds up to this id are.
    Holds(Uuid),
    /// What was moved back of transfers up to this id is.
    Reversals(Uuid),
}

impl Place {
    /// Where every round begins.
    pub(super) const START: Self = Self::Transfers(0);
}

/// A walk round the books that never ends.
#[derive(Debug)]
pub(super) struct Round {
    place: Place,
    /// When the last transfer behind was decided.
    moment: Timestamp,
    known: Known,
    /// What a transfer cost on the last page: the fewer accounts are known, the dearer.
    transfer_cost: usize,
}

/// What a look saw.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) violations: Vec<Violation>,
    /// Where the round is now.
    pub(super) place: Place,
    /// It has come to the end, and begins again.
    pub(super) is_around: bool,
}

/// Accounts as they stand at the place of a round. They are found anew in every round, so what
/// happens to one behind its back is seen in the next.
type Known = HashMap<AccountId, Account>;

/// What a page showed.
#[derive(Debug, Default)]
struct Page {
    violations: Vec<Violation>,
    /// Where the next one begins; none at the end of this kind of rows.
    next: Option<Place>,
    cost: usize,
}

/// Whether anybody is in the way of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Money moves meanwhile: small pages, and a rest after each.
    Gentle,
    /// Everybody waits for the look.
    Hurried,
}

impl Round {
    pub(super) fn new() -> Self {
        Self {
            place: Place::START,
            moment: Head::START.decided_at,
            known: Known::new(),
            transfer_cost: TRANSFER_COST_MAX,
        }
    }

    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// Looks at the newest transfers, and at about `rows_max` rows from the place on, or to the end.
    pub(super) async fn look(
        &mut self,
        pool: &PgPool,
        rows_max: usize,
        manner: Manner,
    ) -> Result<Look, store::Error> {
        let mut tx = check::snapshot(pool).await?;
        let mut violations = newest(&mut tx).await?;
        // Only a look that succeeds moves the place.
        let (mut place, mut moment) = (self.place, self.moment);
        let (mut left, mut is_around) = (rows_max, false);
        while left > 0 && !is_around {
            let begun_at = Instant::now();
            let mut page = match place {
                Place::Transfers(position) => {
                    let mut head = Head { position, decided_at: moment };
                    let page = self.transfers(&mut tx, &mut head, left, manner).await?;
                    moment = head.decided_at;
                    page
                }
                Place::Accounts(id) => accounts(&mut tx, id).await?,
                Place::Holds(id) => holds(&mut tx, id).await?,
                Place::Reversals(id) => reversals(&mut tx, id).await?,
            };
            violations.append(&mut page.violations);
            left = left.saturating_sub(page.cost.max(1));
            place = page.next.unwrap_or(match place {
                Place::Transfers(_) => Place::Accounts(Uuid::nil()),
                Place::Accounts(_) => Place::Holds(Uuid::nil()),
                Place::Holds(_) => Place::Reversals(Uuid::nil()),
                Place::Reversals(_) => Place::START,
            });
            is_around = place == Place::START;
            if manner == Manner::Gentle && left > 0 {
                tokio::time::sleep(begun_at.elapsed().saturating_mul(REST_FACTOR)).await;
            }
        }
        tx.commit().await.map_err(store::Error::Check)?;
        if is_around {
            self.forget();
            moment = Head::START.decided_at;
        }
        (self.place, self.moment) = (place, moment);
        Ok(Look { violations, place, is_around })
    }

    /// As many transfers as are likely to cost `left`.
    async fn transfers(
        &mut self,
        conn: &mut PgConnection,
        head: &mut Head,
        left: usize,
        manner: Manner,
    ) -> Result<Page, store::Error> {
        let page_max = match manner {
            Manner::Gentle => PAGE_TRANSFERS_MAX,
            Manner::Hurried => PAGE_TRANSFERS_MAX_HURRIED,
        };
        if self.known.len() > KNOWN_MAX {
            self.forget();
        }
        let n_transfers = left.div_euclid(self.transfer_cost).clamp(1, page_max);
        let limit = i64::try_from(n_transfers).unwrap_or(i64::MAX);
        let before = head.position;
        let page = transfers(conn, head, limit, &mut self.known).await?;
        let n_read = usize::try_from(head.position.saturating_sub(before)).unwrap_or(usize::MAX);
        let cost = page.cost.checked_div(n_read).unwrap_or(TRANSFER_COST_MAX);
        self.transfer_cost = cost.clamp(1, TRANSFER_COST_MAX);
        Ok(page)
    }

    fn forget(&mut self) {
        self.known.clear();
        self.transfer_cost = TRANSFER_COST_MAX;
    }
}

/// Checks the newest transfers, and whether the books end where they say.
async fn newest(conn: &mut PgConnection) -> Result<Vec<Violation>, store::Error> {
    let (expected, found) = (store::head(conn).await?.position, check::last_position(conn).await?);
    let from = found.saturating_sub(NEWEST_ROWS).max(0);
    let mut head = check::head_at(conn, from).await?;
    let mut page = transfers(conn, &mut head, NEWEST_ROWS, &mut Known::new()).await?;
    if found != expected {
        page.violations.push(Violation::WrongEnd { expected, found });
    }
    Ok(page.violations)
}

/// Checks at most `limit` transfers after `head`, and moves it on; what stands on accounts there is
/// found where it is not `known`.
async fn transfers(
    conn: &mut PgConnection,
    head: &mut Head,
    limit: i64,
    known: &mut Known,
) -> Result<Page, store::Error> {
    let lines = check::lines(conn, head.position, limit).await?;
    let records: Vec<&Record> = lines.iter().flatten().map(|it| &it.record).collect();
    let done: Vec<&Record> = records.iter().copied().filter(|it| it.verdict.is_done()).collect();
    let moves = done.iter().filter_map(|it| it.of);
    let named: BTreeSet<AccountId> =
        moves.flat_map(|it| [it.debit_account_id, it.credit_account_id]).collect();
    let unknown: Vec<Uuid> =
        named.iter().filter(|it| !known.contains_key(it)).map(|it| it.uuid()).collect();
    for account in check::openings(conn, &unknown, head.position).await? {
        known.insert(account.id, account);
    }
    let openings = named.iter().filter_map(|it| known.get(it)).cloned();
    let mut stretch = Stretch::after(*head, openings);
    let from = head.position.saturating_sub(1);
    let begin = *head;
    for line in &lines {
        match line {
            Ok(line) => {
                stretch.line(&line.record);
                stand(known, &line.record);
                let Record { position, decided_at, .. } = line.record;
                *head = Head { position, decided_at };
            }
            Err(Unreadable { position, transfer_id }) => {
                let (position, transfer_id) = (*position, *transfer_id);
                stretch.found(Violation::WrongMove { position, transfer_id });
                head.position = position;
            }
        }
    }
    let mut violations = stretch.finish();
    let batches = check::batches(conn, from, head.position).await?;
    violations.extend(differing_batches(begin, &records, &batches));
    violations.extend(not_kept(conn, &done).await?);
    let next = (!lines.is_empty()).then_some(Place::Transfers(head.position));
    let cost = unknown.len().saturating_mul(FIND_COST).saturating_add(lines.len());
    Ok(Page { violations, next, cost })
}

/// What stands on both accounts after `record`.
fn stand(known: &mut Known, record: &Record) {
    let Some(of) = record.of else { return };
    let sides =
        [(of.debit_account_id, record.debit_after), (of.credit_account_id, record.credit_after)];
    for (id, after) in sides {
        if let Some((account, standing)) = known.get_mut(&id).zip(after) {
            account.standing = standing;
        }
    }
}

/// Checks a page of accounts against their changes.
async fn accounts(conn: &mut PgConnection, after: Uuid) -> Result<Page, store::Error> {
    let page = check::accounts_with_changes(conn, after, PAGE_ROWS).await?;
    let next = page.last().map(|it| Place::Accounts(it.account.account_id));
    let cost = page.len().saturating_mul(FIND_COST);
    let differing = page.into_iter().filter_map(differing_account);
    let violations = differing.map(|account_id| Violation::AccountDiffers { account_id }).collect();
    Ok(Page { violations, next, cost })
}

/// Whose account it is, if it is not as it was opened and changed since.
fn differing_account(kept: Kept) -> Option<AccountId> {
    let Kept { account, change, limits } = kept;
    let id = AccountId::from_uuid(account.account_id);
    let Ok(account) = account.read() else { return Some(id) };
    let status = match change {
        None | Some(2) => Status::Open,
        Some(1) => Status::Frozen,
        Some(_) => Status::Closed,
    };
    let limits = limits.map_or_else(
        || Limits::widest(account.kind),
        |(least_minor, greatest_minor)| Limits { least_minor, greatest_minor },
    );
    let agrees = is_named_well(&account) && (account.status, account.limits) == (status, limits);
    (!agrees).then_some(id)
}

/// Checks a page of holds against what was done about them.
async fn holds(conn: &mut PgConnection, after: Uuid) -> Result<Page, store::Error> {
    let page = check::remainders(conn, after, PAGE_ROWS).await?;
    let violations = differing(&page).map(|it| Violation::HoldDiffers {
        hold_id: it.id,
        expected_minor: it.expected_minor.unwrap_or(0),
        found_minor: Some(it.kept_minor),
    });
    let next = page.last().map(|it| Place::Holds(it.id.uuid()));
    let cost = page.len().saturating_mul(FIND_COST);
    Ok(Page { violations: violations.collect(), next, cost })
}

/// Checks a page of what was moved back against what did.
async fn reversals(conn: &mut PgConnection, after: Uuid) -> Result<Page, store::Error> {
    let page = check::reversals(conn, after, PAGE_ROWS).await?;
    let violations = differing(&page).map(|it| Violation::ReversalDiffers {
        transfer_id: it.id,
        expected_minor: it.expected_minor.unwrap_or(0),
        found_minor: Some(it.kept_minor),
    });
    let next = page.last().map(|it| Place::Reversals(it.id.uuid()));
    let cost = page.len().saturating_mul(FIND_COST);
    Ok(Page { violations: violations.collect(), next, cost })
}
