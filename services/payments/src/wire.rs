//! The wire to what the rules know, and back.

pub(crate) mod returns;

use primitives::{
    AccountId, Amount, Currency, DepositId, RequestKey, System, Timestamp, TransferId,
};
use prost::Message as _;
use proto_events::convert::{self, Malformed, WireId as _};
use proto_events::ledger::v1::{PostTransfer, PostTransfers};
use proto_events::payments::v1::{
    DepositCredited, DepositParked, DepositRefusal, DepositStarted, DepositStatus, StartDeposit,
};
use proto_events::{ledger, payments, subjects};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::config::is_web_address;
use crate::lifecycle::{Answer, Credit, Deposit, Reason, Shown, State};
use crate::reference::Reference;

/// The longest address that is handed to Paystack: the longest that mail can have.
const EMAIL_CHARS_MAX: usize = 254;
/// The longest place to come back to.
const CALLBACK_CHARS_MAX: usize = 2_048;

/// A [`StartDeposit`] that means something.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) deposit_id: DepositId,
    pub(crate) account_id: AccountId,
    pub(crate) email: String,
    pub(crate) amount: Amount,
    pub(crate) currency: Currency,
    pub(crate) callback_url: Option<String>,
    pub(crate) request_key: Option<RequestKey>,
    pub(crate) request_digest: [u8; 32],
    pub(crate) deadline_at: Option<Timestamp>,
}

/// Reads a command.
pub(crate) fn start(payload: &[u8]) -> Result<Start, Malformed> {
    let wire = StartDeposit::decode(payload)
        .map_err(|_| Malformed { field: "payload", expected: "a StartDeposit" })?;
    // Neither Postgres nor Paystack takes a NUL, and an address has no blanks.
    let is_address = (3..=EMAIL_CHARS_MAX).contains(&wire.email.len())
        && wire.email.contains('@')
        && !wire.email.contains(|c: char| c.is_whitespace() || c.is_control());
    if !is_address {
        return Err(Malformed { field: "email", expected: "an address" });
    }
    Ok(Start {
        deposit_id: DepositId::read("deposit_id", &wire.deposit_id)?,
        account_id: AccountId::read("account_id", &wire.account_id)?,
        amount: convert::amount("amount_minor", wire.amount_minor)?,
        currency: convert::currency("currency", &wire.currency)?,
        callback_url: callback(wire.callback_url)?,
        request_key: convert::request_key("request_key", &wire.request_key)?,
        request_digest: convert::digest("request_digest", &wire.request_digest)?,
        deadline_at: convert::moment(wire.deadline_at_us),
        email: wire.email,
    })
}

fn callback(text: String) -> Result<Option<String>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_good = text.len() <= CALLBACK_CHARS_MAX
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && Url::parse(&text).is_ok_and(|url| is_web_address(&url));
    if is_good {
        Ok(Some(text))
    } else {
        Err(Malformed { field: "callback_url", expected: "a URL" })
    }
}

/// What somebody who waits for a checkout is told.
pub(crate) fn started(answer: &Answer, is_replay: bool) -> Vec<u8> {
    match answer {
        Answer::Checkout(reference, checkout) => DepositStarted {
            refusal: DepositRefusal::Unspecified.into(),
            replayed: is_replay,
            reference: reference.to_string(),
            authorization_url: checkout.authorization_url.clone(),
            access_code: checkout.access_code.clone(),
        }
        .encode_to_vec(),
        Answer::Unavailable => refused(DepositRefusal::ProviderUnavailable.into(), false),
    }
}

/// A no.
pub(crate) fn refused(refusal: i32, is_replay: bool) -> Vec<u8> {
    DepositStarted { refusal, replayed: is_replay, ..DepositStarted::default() }.encode_to_vec()
}

/// What a deposit looks like to its owner, under the reference that was asked for.
pub(crate) fn shown(deposit: &Deposit, reference: &Reference) -> Vec<u8> {
    let status = match deposit.shown() {
        Shown::Pending => DepositStatus::Pending,
        Shown::Success => DepositStatus::Success,
        Shown::Failed => DepositStatus::Failed,
        Shown::Abandoned => DepositStatus::Abandoned,
        Shown::Review => DepositStatus::Review,
    };
    payments::v1::Deposit {
        found: true,
        reference: reference.to_string(),
        status: status.into(),
        amount_minor: shown_amount(deposit).minor(),
        currency: deposit.currency.to_string(),
        created_at_us: deposit.created_at.micros(),
        paid_at_us: convert::moment_us(shown_paid_at(deposit)),
    }
    .encode_to_vec()
}

/// What was credited, once it is; until then what was asked for.
fn shown_amount(deposit: &Deposit) -> Amount {
    match (&deposit.state, deposit.credit()) {
        (State::Credited, Some(credit)) => credit.amount,
        _ => deposit.amount,
    }
}

/// When it was paid, if what was paid is credited or about to be.
fn shown_paid_at(deposit: &Deposit) -> Option<Timestamp> {
    match deposit.state {
        State::Paid | State::Crediting | State::Credited => {
            deposit.paid.as_ref().map(|it| it.paid_at)
        }
        State::Initiated
        | State::Pending
        | State::Confirming { .. }
        | State::Failed
        | State::Abandoned
        | State::Expired
        | State::Review(_)
        | State::Rejected(_) => None,
    }
}

/// Nothing of that name, or nobody's business.
pub(crate) fn not_found() -> Vec<u8> {
    payments::v1::Deposit::default().encode_to_vec()
}

/// The command that credits a paid deposit. Asking it again asks for the same transfer.
pub(crate) fn credit(deposit: &Deposit, credit: &Credit) -> ledger::v1::Command {
    command(ledger::v1::command::Body::PostTransfer(credit_transfer(deposit, credit)))
}

/// The command that credits what is on the suspense account: back to where it came from and on to
/// the wallet, or neither.
pub(crate) fn credit_from_suspense(
    deposit: &Deposit,
    credit: &Credit,
    back_transfer_id: TransferId,
) -> ledger::v1::Command {
    let transfers = vec![
        internal(
            back_transfer_id,
            (System::Suspense, System::PaystackClearing),
            (credit.amount, deposit.currency),
            &credit.reference,
        ),
        credit_transfer(deposit, credit),
    ];
    command(ledger::v1::command::Body::PostTransfers(PostTransfers { transfers, linked: true }))
}

/// The command that puts what was paid on the suspense account; none if nothing was.
pub(crate) fn suspend(deposit: &Deposit) -> Option<ledger::v1::Command> {
    let paid = deposit.paid.as_ref()?;
    let transfer = internal(
        deposit.suspend_transfer_id(),
        (System::PaystackClearing, System::Suspense),
        (paid.amount, paid.currency),
        &paid.reference,
    );
    let transfers = PostTransfers { transfers: vec![transfer], linked: false };
    Some(command(ledger::v1::command::Body::PostTransfers(transfers)))
}

fn command(body: ledger::v1::command::Body) -> ledger::v1::Command {
    // Never too late: the money is there.
    ledger::v1::Command { deadline_at_us: 0, body: Some(body) }
}

fn credit_transfer(deposit: &Deposit, credit: &Credit) -> PostTransfer {
    let debit = AccountId::system(System::PaystackClearing, deposit.currency);
    digested(PostTransfer {
        transfer_id: credit.transfer_id.to_bytes(),
        kind: ledger::v1::TransferKind::Deposit.into(),
        debit_account_id: debit.to_bytes(),
        credit_account_id: deposit.account_id.to_bytes(),
        amount_minor: credit.amount.minor(),
        currency: deposit.currency.to_string(),
        reference: credit.reference.to_string(),
        ..PostTransfer::default()
    })
}

fn internal(
    id: TransferId,
    (debit, credit): (System, System),
    (amount, currency): (Amount, Currency),
    reference: &Reference,
) -> PostTransfer {
    digested(PostTransfer {
        transfer_id: id.to_bytes(),
        kind: ledger::v1::TransferKind::Internal.into(),
        debit_account_id: AccountId::system(debit, currency).to_bytes(),
        credit_account_id: AccountId::system(credit, currency).to_bytes(),
        amount_minor: amount.minor(),
        currency: currency.to_string(),
        reference: reference.to_string(),
        ..PostTransfer::default()
    })
}

fn digested(mut transfer: PostTransfer) -> PostTransfer {
    transfer.request_digest = content_digest(&transfer).to_vec().into();
    transfer
}

/// SHA-256 of what moves, from where to where and why; every field of known or said length.
fn content_digest(transfer: &PostTransfer) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"deposit");
    hash.update(&transfer.debit_account_id);
    hash.update(&transfer.credit_account_id);
    hash.update(transfer.amount_minor.to_be_bytes());
    for text in [&transfer.currency, &transfer.reference] {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    if !transfer.of_transfer_id.is_empty() {
        hash.update(transfer.kind.to_be_bytes());
        hash.update(&transfer.of_transfer_id);
    }
    hash.finalize().into()
}

/// The announcement that a wallet was credited.
pub(crate) fn credited(deposit: &Deposit) -> (&'static str, Vec<u8>) {
    let credit = deposit.credit();
    let transfer_id = credit.as_ref().map_or(deposit.credit_transfer_id, |it| it.transfer_id);
    let event = DepositCredited {
        deposit_id: deposit.deposit_id.to_bytes(),
        account_id: deposit.account_id.to_bytes(),
        transfer_id: transfer_id.to_bytes(),
        amount_minor: credit.map_or(deposit.amount, |it| it.amount).minor(),
        currency: deposit.currency.to_string(),
        reference: paid_reference(deposit).to_string(),
    };
    (subjects::payments::DEPOSIT_CREDITED, event.encode_to_vec())
}

/// The announcement that a person must look.
pub(crate) fn parked(deposit: &Deposit) -> (&'static str, Vec<u8>) {
    let reason = deposit.state.reason().map(Reason::code).unwrap_or_default();
    let event = DepositParked {
        deposit_id: deposit.deposit_id.to_bytes(),
        reference: paid_reference(deposit).to_string(),
        reason,
    };
    (subjects::payments::DEPOSIT_PARKED, event.encode_to_vec())
}

/// The reference that was paid, or else the one under way.
pub(crate) fn paid_reference(deposit: &Deposit) -> &Reference {
    deposit.paid.as_ref().map_or(&deposit.attempt.reference, |it| &it.reference)
}
