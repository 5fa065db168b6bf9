//! The books check themselves.
//!
//! [`violations`] reads all there is and lets every decision be taken again; so does `ledger fsck`,
//! and every test ends with it. `Watch` runs beside the writer and looks at a little every few
//! seconds: at the newest transfers, and at as much of the rest as `look::ROWS_MAX` allows, round
//! and round. What it has found turns readiness off and stops the writer, until a whole round has
//! found nothing.
//!
//! The judges are `ledger_core::audit`; here is only what they are shown.

mod look;
mod watch;
pub(crate) mod whole;

use ledger_core::audit::Violation;
use ledger_core::{Account, AccountKind, Action, Head, Record};
use primitives::{AccountId, TransferId};
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch::{Receiver, Sender};

use crate::store;
use crate::store::check::{self, Sum};
pub(crate) use watch::Watch;

/// The books could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to audit the books")]
pub struct Error(#[source] store::Error);

/// Reads all books and says everything in them that the rules could not have written, up to
/// [`ledger_core::audit::VIOLATIONS_MAX`] things.
///
/// # Errors
/// When Postgres fails.
///
/// Limit: memory grows with accounts, about 150 bytes each, and with open holds.
pub async fn violations(pool: &PgPool) -> Result<Vec<Violation>, Error> {
    Ok(whole::read(pool, &mut |_| {}).await.map_err(Error)?.violations)
}

/// What the audit thinks of the books: for readiness, and for the writer.
#[derive(Debug, Clone)]
pub struct Health(Receiver<Option<usize>>);

impl Health {
    /// Health of books that nobody looks at, for who drives a writer without a service.
    #[must_use]
    pub fn unwatched() -> Self {
        Self(Sender::new(Some(0)).subscribe())
    }

    /// Whether the books balance as far as has been looked, and have been looked at.
    pub(crate) fn check(&self) -> Result<(), String> {
        match *self.0.borrow() {
            Some(_) => self.expect_balanced(),
            None => Err("the books have not been looked at yet".to_owned()),
        }
    }

    /// Whether nothing was found that contradicts the rules.
    pub(crate) fn expect_balanced(&self) -> Result<(), String> {
        match *self.0.borrow() {
            None | Some(0) => Ok(()),
            Some(n) => Err(format!("{n} violations: the books do not balance")),
        }
    }
}

/// Compares where batches end with the records after `head`, `batches` being all from `head` on:
/// all records of a batch have its moment, so between two moments one must end.
fn differing_batches(head: Head, records: &[&Record], batches: &[Head]) -> Vec<Violation> {
    let begin = Head { position: head.position, decided_at: head.decided_at };
    let heads = records.iter().map(|it| Head { position: it.position, decided_at: it.decided_at });
    let heads: Vec<Head> = std::iter::once(begin).chain(heads).collect();
    let find = |among: &[Head], position: i64| {
        let place = among.binary_search_by_key(&position, |it| it.position).ok();
        place.and_then(|it| among.get(it)).map(|it| it.decided_at)
    };
    let ends = heads.iter().zip(heads.iter().skip(1));
    let missing = ends
        .filter(|(it, next)| it.decided_at != next.decided_at && it.position > 0)
        .filter(|(it, _)| find(batches, it.position).is_none())
        .map(|(it, _)| it.position);
    let wrong = batches
        .iter()
        .filter(|it| find(&heads, it.position).is_some_and(|found| found != it.decided_at))
        .map(|it| it.position);
    missing.chain(wrong).map(|position| Violation::BatchDiffers { position }).collect()
}

/// Checks that a row is kept of every hold that was made, and of every transfer of which something
/// was moved back. What that row says is seen when the round comes to it.
async fn not_kept(
    conn: &mut PgConnection,
    done: &[&Record],
) -> Result<Vec<Violation>, store::Error> {
    let mut made = Vec::new();
    let mut reversed = Vec::new();
    for record in done {
        let amount_minor = record.of.map_or(0, |it| it.amount.to_i64());
        match record.transfer.action {
            Action::Hold { .. } => made.push((record.transfer.id, amount_minor)),
            Action::Reverse { transfer_id, .. } => reversed.push((transfer_id, amount_minor)),
            Action::Wallet(_)
            | Action::Deposit(_)
            | Action::Internal(_)
            | Action::Capture { .. }
            | Action::Release { .. }
            | Action::Expire { .. } => {}
        }
    }
    let ids = |of: &[(TransferId, i64)]| of.iter().map(|(id, _)| id.uuid()).collect::<Vec<Uuid>>();
    let no_holds = check::holds_not_kept(conn, &ids(&made)).await?;
    let no_reversals = check::reversals_not_kept(conn, &ids(&reversed)).await?;
    let among = |ids: Vec<Uuid>, of: Vec<(TransferId, i64)>| {
        of.into_iter().filter(move |(id, _)| ids.contains(&id.uuid()))
    };
    let holds = among(no_holds, made).map(|(hold_id, expected_minor)| Violation::HoldDiffers {
        hold_id,
        expected_minor,
        found_minor: None,
    });
    let reversals = among(no_reversals, reversed).map(|(transfer_id, expected_minor)| {
        Violation::ReversalDiffers { transfer_id, expected_minor, found_minor: None }
    });
    Ok(holds.chain(reversals).collect())
}

/// Whether one of the ledger's own accounts has the id that spells what it is.
fn is_named_well(account: &Account) -> bool {
    match account.kind {
        AccountKind::Wallet => true,
        AccountKind::System(kind) => AccountId::system(kind, account.currency) == account.id,
    }
}

/// The sums that are not what the transfers say.
fn differing(sums: &[Sum]) -> impl Iterator<Item = &Sum> {
    sums.iter().filter(|it| it.expected_minor != Some(it.kept_minor))
}
