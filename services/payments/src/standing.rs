//! What our record says became of a payment, and what the ledger's books say of that.

use std::time::Duration;

use bus::ask::{self, Asker};
use primitives::{AccountId, Amount, Currency, System, TransferId};
use proto_events::convert::{Malformed, WireId as _};
use proto_events::ledger::v1::{Direction, GetTransfer, Movement, Transfer};
use proto_events::subjects;

use crate::compare::{Entry, Settled, Standing};
use crate::lifecycle::{Deposit, State, Suspense};
use crate::reference::Reference;

/// What our record made of a payment, and where that must be in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing yet.
    Unsettled(&'static str),
    /// The deposit was paid under another of its references.
    Otherwise(Reference),
    /// This transfer.
    Posted {
        /// Its id.
        transfer_id: TransferId,
        /// From where.
        from: AccountId,
        /// To where.
        to: AccountId,
        /// How much.
        amount: Amount,
        /// In which currency.
        currency: Currency,
    },
}

impl Place {
    /// What a deposit says of one of its references.
    pub(crate) fn of(deposit: &Deposit, reference: &Reference) -> Self {
        let unsettled = Self::Unsettled(deposit.state.name());
        let (Some(paid), Some(credit)) = (&deposit.paid, deposit.credit()) else {
            return unsettled;
        };
        if paid.reference != *reference {
            return Self::Otherwise(paid.reference.clone());
        }
        let posted = |transfer_id, to, amount, currency| Self::Posted {
            transfer_id,
            from: AccountId::system(System::PaystackClearing, currency),
            to,
            amount,
            currency,
        };
        match (&deposit.state, deposit.suspense) {
            (State::Credited, _) => {
                posted(credit.transfer_id, deposit.account_id, credit.amount, deposit.currency)
            }
            (_, Suspense::Held | Suspense::Left) => {
                let to = AccountId::system(System::Suspense, paid.currency);
                posted(deposit.suspend_transfer_id(), to, paid.amount, paid.currency)
            }
            (_, Suspense::Nothing | Suspense::Owed) => unsettled,
        }
    }
}

/// The books could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// No answer.
    #[error("the ledger did not answer")]
    Unanswered(#[from] ask::Error),
    /// Another answer than was asked for.
    #[error("the ledger's answer is not understood")]
    Strange(#[from] Malformed),
}

/// Asks the ledger for what must be in its books.
pub(crate) async fn with_books(
    place: Place,
    ledger: &Asker,
    wait: Duration,
) -> Result<Standing, Unread> {
    let (transfer_id, from, to, amount, currency) = match place {
        Place::Unsettled(state) => return Ok(Standing::Unsettled(state)),
        Place::Otherwise(reference) => return Ok(Standing::Otherwise(reference)),
        Place::Posted { transfer_id, from, to, amount, currency } => {
            (transfer_id, from, to, amount, currency)
        }
    };
    let query = GetTransfer { account_id: to.to_bytes(), transfer_id: transfer_id.to_bytes() };
    let found: Transfer = ledger.query(subjects::ledger::GET_TRANSFER, &query, wait).await?;
    let entry = match found.movement {
        Some(movement) => Some(entry(&movement, transfer_id)?),
        None => None,
    };
    Ok(Standing::Settled(Settled { amount, currency, from, entry }))
}

fn entry(movement: &Movement, transfer_id: TransferId) -> Result<Entry, Malformed> {
    if TransferId::read("transfer_id", &movement.transfer_id)? != transfer_id {
        return Err(Malformed { field: "transfer_id", expected: "the one that was asked for" });
    }
    let counterparty =
        AccountId::read("counterparty_account_id", &movement.counterparty_account_id)?;
    Ok(Entry {
        is_posted: movement.rejection == 0,
        is_credit: movement.direction() == Direction::Credit,
        counterparty: Some(counterparty),
        amount_minor: movement.amount_minor,
        currency: movement.currency.clone(),
        reference: movement.reference.clone(),
    })
}
