//! What the ledger is asked for on behalf of returns.

use primitives::{AccountId, Amount, System, TransferId};
use prost::Message as _;
use proto_events::convert::WireId as _;
use proto_events::ledger::v1::{Command, PostTransfer, PostTransfers, TransferKind, command::Body};
use proto_events::payments::v1::DepositParked;
use proto_events::subjects;

use super::{command, digested};
use crate::returns::{Cover, Return, Source};

/// The command that has the ledger hold the money; none if it is not known how much.
pub(crate) fn hold(it: &Return) -> Option<(TransferId, Command)> {
    let id = it.hold_transfer_id();
    let transfer = moving(it, (id, TransferKind::Hold), source(it), it.amount?);
    Some((id, several(vec![transfer])))
}

/// The command that has the ledger take what went back: from the hold, whose rest is the wallet's
/// again, or from the suspense account if nothing could be held. None if it is not known how much.
pub(crate) fn take(it: &Return) -> Option<(TransferId, Command)> {
    let (id, taken) = (it.take_transfer_id(), it.taken?);
    if it.cover != Cover::Held {
        let suspense = AccountId::system(System::Suspense, it.payment.currency);
        let transfer = moving(it, (id, TransferKind::Internal), suspense, taken);
        return Some((id, several(vec![transfer])));
    }
    let mut transfers = Vec::new();
    if it.amount.is_some_and(|all| taken < all) {
        transfers.push(of_hold(it, (id, TransferKind::Capture), taken.minor()));
        transfers.push(of_hold(it, (it.release_transfer_id(), TransferKind::Release), 0));
        return Some((it.release_transfer_id(), several(transfers)));
    }
    transfers.push(of_hold(it, (id, TransferKind::Capture), taken.minor()));
    Some((id, several(transfers)))
}

/// The command that has the ledger give back what is held.
pub(crate) fn release(it: &Return) -> (TransferId, Command) {
    let id = it.release_transfer_id();
    (id, several(vec![of_hold(it, (id, TransferKind::Release), 0)]))
}

/// The announcement that a person must look at a return.
pub(crate) fn parked(it: &Return) -> (&'static str, Vec<u8>) {
    let why = it.why();
    let event = DepositParked {
        deposit_id: it.payment.deposit_id.to_bytes(),
        reference: it.payment.reference.to_string(),
        reason: format!("{}:{why}", it.kind.name()),
    };
    (subjects::payments::DEPOSIT_PARKED, event.encode_to_vec())
}

fn source(it: &Return) -> AccountId {
    match it.payment.source {
        Source::Wallet(account_id) => account_id,
        Source::Suspense => AccountId::system(System::Suspense, it.payment.currency),
    }
}

fn several(transfers: Vec<PostTransfer>) -> Command {
    let linked = transfers.len() > 1;
    command(Body::PostTransfers(PostTransfers { transfers, linked }))
}

/// From an account to the clearing account: Paystack owes us that much less.
fn moving(
    it: &Return,
    (id, kind): (TransferId, TransferKind),
    debit: AccountId,
    amount: Amount,
) -> PostTransfer {
    digested(PostTransfer {
        transfer_id: id.to_bytes(),
        kind: kind.into(),
        debit_account_id: debit.to_bytes(),
        credit_account_id: AccountId::system(System::PaystackClearing, it.payment.currency)
            .to_bytes(),
        amount_minor: amount.minor(),
        currency: it.payment.currency.to_string(),
        reference: it.payment.reference.to_string(),
        ..PostTransfer::default()
    })
}

fn of_hold(it: &Return, (id, kind): (TransferId, TransferKind), minor: u64) -> PostTransfer {
    digested(PostTransfer {
        transfer_id: id.to_bytes(),
        kind: kind.into(),
        amount_minor: minor,
        reference: it.payment.reference.to_string(),
        of_transfer_id: it.hold_transfer_id().to_bytes(),
        ..PostTransfer::default()
    })
}
