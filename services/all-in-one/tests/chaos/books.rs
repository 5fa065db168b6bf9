//! What Paystack says was paid, beside what the deposits and the books say, and every difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use primitives::{AccountId, Currency, System};
use sandbox::paystack::model::{Totals, Transaction};
use sqlx::types::Uuid;

use crate::people::{Asked, Crowd};
use crate::platform::Platform;

/// A deposit as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Deposit {
    deposit_id: Uuid,
    account_id: Uuid,
    amount_minor: i64,
    currency: String,
    credit_transfer_id: Uuid,
    state: String,
    suspense: String,
    /// All it ever had with Paystack.
    references: Vec<String>,
}

/// A transfer that was posted.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Transfer {
    transfer_id: Uuid,
    debit_account_id: Uuid,
    credit_account_id: Uuid,
    amount_minor: i64,
    currency: String,
    reference: Option<String>,
}

/// Everything that is compared.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) asked: Vec<Asked>,
    pub(crate) paystack: BTreeMap<String, Transaction>,
    pub(crate) totals: BTreeMap<String, Totals>,
    pub(crate) deposits: Vec<Deposit>,
    pub(crate) transfers: Vec<Transfer>,
    /// What all wallets hold together, as their owners see it; none when nobody could be asked.
    pub(crate) wallets: Option<u64>,
}

impl Seen {
    /// Looks everywhere.
    pub(crate) async fn look(
        platform: &Platform,
        crowd: &Crowd,
        asked: &[Asked],
    ) -> Result<Self, String> {
        let deposits = sqlx::query_as(
            "select deposit_id, account_id, amount_minor, currency, credit_transfer_id, state,
                    suspense, array(select a.reference from payments.attempts a
                                    where a.deposit_id = d.deposit_id) as references
             from payments.deposits d",
        );
        let transfers = sqlx::query_as(
            "select transfer_id, debit_account_id, credit_account_id, amount_minor, currency,
                    reference
             from ledger.transfers where rejection = 0",
        );
        let failed = |error: sqlx::Error| error.to_string();
        let is_up = platform.is_up();
        Ok(Self {
            asked: asked.to_vec(),
            paystack: platform
                .sandbox
                .transactions()
                .into_iter()
                .map(|it| (it.reference.clone(), it))
                .collect(),
            totals: platform.sandbox.totals(),
            deposits: deposits.fetch_all(platform.payments_pool()).await.map_err(failed)?,
            transfers: transfers.fetch_all(platform.ledger_pool()).await.map_err(failed)?,
            wallets: if is_up { Some(crowd.balances().await?) } else { None },
        })
    }

    fn count(&self, state: &str) -> usize {
        self.deposits.iter().filter(|it| it.state == state).count()
    }

    /// What stands on an account: what came less what went.
    fn standing(&self, account: Uuid) -> i64 {
        let moved = self.transfers.iter().map(|it| {
            let came = if it.credit_account_id == account { it.amount_minor } else { 0 };
            let went = if it.debit_account_id == account { it.amount_minor } else { 0 };
            came - went
        });
        moved.sum()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: BTreeSet<&str> = self.deposits.iter().map(|it| it.state.as_str()).collect();
        let states: Vec<_> =
            states.into_iter().map(|it| format!("{it} {}", self.count(it))).collect();
        writeln!(f, "deposits: {} ({})", self.deposits.len(), states.join(", "))?;
        for (currency, totals) in &self.totals {
            writeln!(
                f,
                "{currency}: collected {}, clearing {}, suspense {}",
                totals.owed,
                self.standing(account(System::PaystackClearing, currency)),
                self.standing(account(System::Suspense, currency)),
            )?;
        }
        let wallets = self.wallets.map_or_else(|| "?".to_owned(), |it| it.to_string());
        write!(f, "wallets: {wallets}; transfers: {}", self.transfers.len())
    }
}

fn account(of: System, currency: &str) -> Uuid {
    AccountId::system(of, Currency::parse(currency).unwrap()).uuid()
}

/// A transfer that must be in the books.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    debit_account_id: Uuid,
    credit_account_id: Uuid,
    amount_minor: i64,
    currency: String,
    reference: Option<String>,
}

/// Everything that is not as Paystack says.
pub(crate) fn differences(seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    answers_differ(seen, &mut found);
    let mut due = Vec::new();
    let mut known = BTreeSet::new();
    for deposit in &seen.deposits {
        known.extend(deposit.references.iter().cloned());
        deposit_differs(seen, deposit, &mut due, &mut found);
    }
    for paid in seen.paystack.values().filter(|it| it.status.is_paid()) {
        if !known.contains(&paid.reference) {
            found.push(format!("{} was paid and is of no deposit", paid.reference));
        }
    }
    transfers_differ(seen, due, &mut found);
    sums_differ(seen, &mut found);
    found
}

/// Every caller has one deposit, of the amount that was asked for.
fn answers_differ(seen: &Seen, found: &mut Vec<String>) {
    let by_reference: BTreeMap<&str, &Deposit> = seen
        .deposits
        .iter()
        .flat_map(|it| it.references.iter().map(move |reference| (reference.as_str(), it)))
        .collect();
    let mut answered = BTreeSet::new();
    for asked in &seen.asked {
        match by_reference.get(asked.reference.as_str()) {
            Some(it) if it.amount_minor == i64::try_from(asked.amount).unwrap() => {
                answered.insert(it.deposit_id);
            }
            other => found.push(format!("{asked:?} is {other:?}")),
        }
    }
    if answered.len() != seen.asked.len() || answered.len() != seen.deposits.len() {
        let (n, all) = (seen.asked.len(), seen.deposits.len());
        found.push(format!("{n} asked, {} answered, {all} deposits", answered.len()));
    }
}

/// A deposit is what Paystack says of its references; notes what must be in the books for it.
fn deposit_differs(seen: &Seen, deposit: &Deposit, due: &mut Vec<Due>, found: &mut Vec<String>) {
    let of_it = deposit.references.iter().filter_map(|it| seen.paystack.get(it));
    let paid: Vec<_> = of_it.filter(|it| it.status.is_paid()).collect();
    let [paid] = paid.as_slice() else {
        const UNPAID: [&str; 4] = ["pending", "failed", "abandoned", "expired"];
        let is_unpaid = paid.is_empty() && UNPAID.contains(&deposit.state.as_str());
        if !is_unpaid || deposit.suspense != "nothing" {
            found.push(format!("paid by {} payments: {deposit:?}", paid.len()));
        }
        return;
    };
    let amount_minor = i64::try_from(paid.amount).unwrap();
    let is_as_asked = (amount_minor, &paid.currency) == (deposit.amount_minor, &deposit.currency);
    let (state, suspense) = if is_as_asked { ("credited", "nothing") } else { ("review", "held") };
    if (deposit.state.as_str(), deposit.suspense.as_str()) != (state, suspense) {
        found.push(format!("not {state}: {deposit:?}, {paid:?}"));
    }
    due.push(Due {
        debit_account_id: account(System::PaystackClearing, &paid.currency),
        credit_account_id: if is_as_asked {
            deposit.account_id
        } else {
            account(System::Suspense, &paid.currency)
        },
        amount_minor,
        currency: paid.currency.clone(),
        reference: Some(paid.reference.clone()),
    });
    let n_credits =
        seen.transfers.iter().filter(|it| it.transfer_id == deposit.credit_transfer_id).count();
    if n_credits != usize::from(is_as_asked) {
        found.push(format!("{n_credits} credits of {deposit:?}"));
    }
}

/// In the books is what must be there, each once, and nothing else.
fn transfers_differ(seen: &Seen, mut due: Vec<Due>, found: &mut Vec<String>) {
    let mut posted: Vec<Due> = seen
        .transfers
        .iter()
        .map(|it| Due {
            debit_account_id: it.debit_account_id,
            credit_account_id: it.credit_account_id,
            amount_minor: it.amount_minor,
            currency: it.currency.clone(),
            reference: it.reference.clone(),
        })
        .collect();
    posted.sort();
    due.sort();
    if posted == due {
        return;
    }
    let missing = due.iter().filter(|it| posted.binary_search(it).is_err());
    found.extend(missing.map(|it| format!("not in the books: {it:?}")));
    let superfluous = posted.iter().filter(|it| due.binary_search(it).is_err());
    found.extend(superfluous.map(|it| format!("nobody paid: {it:?}")));
    let (n_due, n_posted) = (due.len(), posted.len());
    found.push(format!("{n_posted} transfers for {n_due} payments"));
}

/// Clearing, suspense and wallets come to what Paystack collected.
fn sums_differ(seen: &Seen, found: &mut Vec<String>) {
    for (currency, totals) in &seen.totals {
        let clearing = seen.standing(account(System::PaystackClearing, currency));
        if clearing != -totals.owed {
            let owed = totals.owed;
            found.push(format!("{currency}: clearing is {clearing}, Paystack collected {owed}"));
        }
        let parked: i64 = seen
            .deposits
            .iter()
            .filter(|it| it.suspense == "held")
            .flat_map(|it| it.references.iter().filter_map(|it| seen.paystack.get(it)))
            .filter(|it| it.status.is_paid() && it.currency == *currency)
            .map(|it| i64::try_from(it.amount).unwrap())
            .sum();
        let suspense = seen.standing(account(System::Suspense, currency));
        if suspense != parked {
            found.push(format!("{currency}: suspense is {suspense}, {parked} are parked"));
        }
    }
    let credited = seen.deposits.iter().filter(|it| it.state == "credited");
    let credited: i64 = credited.map(|it| it.amount_minor).sum();
    if seen.wallets.is_some_and(|it| i64::try_from(it).unwrap() != credited) {
        found.push(format!("wallets hold {:?}, {credited} were credited", seen.wallets));
    }
}
