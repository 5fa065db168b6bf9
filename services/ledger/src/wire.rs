//! Protobuf to the rules' values and back.
//!
//! The subject a command came on is part of its meaning: who may publish on it may ask for just
//! that. A body that does not belong to its subject is malformed, whatever it says.

use bytes::Bytes;
use ledger_core::{Body, Command, Decision, Outcome, Rejection, Transfer, TransferKind, Verdict};
use primitives::{AccountId, KeyId, Timestamp, TransferId};
use prost::Message;
use proto_events::convert::{self, Malformed, WireId};
use proto_events::ledger::v1 as wire;
use proto_events::subjects::ledger as subjects;
use wire::command::Body as WireBody;

use crate::store::read::Movement;

/// The longest note, in characters.
const NOTE_CHARS_MAX: usize = 140;
/// The longest reference of a provider, in bytes: the event of a full batch carries as many as the
/// batch has transfers, and must not be larger than an event can be.
const REFERENCE_BYTES_MAX: usize = 100;

/// A command that nobody can act on, and the transfer it seems to be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// For the person who looks at what was parked.
    pub(crate) reason: String,
    /// As it was sent; empty if it could not be found.
    pub(crate) transfer_id: Bytes,
}

impl From<Malformed> for Unreadable {
    fn from(malformed: Malformed) -> Self {
        Self { reason: malformed.to_string(), transfer_id: Bytes::new() }
    }
}

fn unreadable(reason: &str) -> Unreadable {
    Unreadable { reason: reason.to_owned(), transfer_id: Bytes::new() }
}

/// Reads a command that came on `subject`.
pub(crate) fn read_command(subject: &str, payload: &[u8]) -> Result<Command, Unreadable> {
    let command = wire::Command::decode(payload)
        .map_err(|error| unreadable(&format!("not a command: {error}")))?;
    let deadline_at = convert::moment(command.deadline_at_us);
    let Some(body) = command.body else { return Err(unreadable("the command has no body")) };
    let transfer_id = match &body {
        WireBody::PostTransfer(it) => it.transfer_id.clone(),
        WireBody::OpenAccount(_) | WireBody::FreezeAccount(_) => Bytes::new(),
    };
    let body = read_body(body)
        .map_err(|error| Unreadable { transfer_id: transfer_id.clone(), ..error.into() })?;
    let belongs = match &body {
        Body::OpenAccount { .. } => subjects::OPEN_ACCOUNT,
        Body::FreezeAccount { .. } => subjects::FREEZE_ACCOUNT,
        Body::PostTransfer(it) => match it.kind {
            TransferKind::Wallet => subjects::POST_TRANSFER,
            TransferKind::Deposit => subjects::POST_DEPOSIT,
        },
    };
    // A freeze has no id under which a repeat could be known. A stream that was set back may
    // deliver it again; by then its deadline has passed.
    if matches!(body, Body::FreezeAccount { .. }) && deadline_at.is_none() {
        return Err(unreadable("a command to freeze has no deadline"));
    }
    if belongs != subject {
        let reason = format!("a command for {belongs} came on {subject}");
        return Err(Unreadable { reason, transfer_id });
    }
    Ok(Command { deadline_at, body })
}

fn read_body(body: WireBody) -> Result<Body, Malformed> {
    Ok(match body {
        WireBody::OpenAccount(it) => Body::OpenAccount {
            account_id: WireId::read("account_id", &it.account_id)?,
            currency: convert::currency("currency", &it.currency)?,
        },
        WireBody::FreezeAccount(it) => Body::FreezeAccount {
            account_id: WireId::read("account_id", &it.account_id)?,
            frozen: it.frozen,
        },
        WireBody::PostTransfer(it) => Body::PostTransfer(Transfer {
            kind: read_kind(it.kind)?
                .ok_or(Malformed { field: "kind", expected: "a kind of transfer" })?,
            id: WireId::read("transfer_id", &it.transfer_id)?,
            debit_account_id: WireId::read("debit_account_id", &it.debit_account_id)?,
            credit_account_id: WireId::read("credit_account_id", &it.credit_account_id)?,
            amount: convert::amount("amount_minor", it.amount_minor)?,
            currency: convert::currency("currency", &it.currency)?,
            request_key: convert::request_key("request_key", &it.request_key)?,
            request_digest: convert::digest("request_digest", &it.request_digest)?,
            made_by_key_id: KeyId::read_optional("made_by_key_id", &it.made_by_key_id)?,
            note: read_text("note", it.note, |it| it.chars().count() <= NOTE_CHARS_MAX)?,
            reference: read_text("reference", it.reference, |it| it.len() <= REFERENCE_BYTES_MAX)?,
        }),
    })
}

/// Reads a kind; none for `UNSPECIFIED`.
pub(crate) fn read_kind(kind: i32) -> Result<Option<TransferKind>, Malformed> {
    match wire::TransferKind::try_from(kind) {
        Ok(wire::TransferKind::Unspecified) => Ok(None),
        Ok(wire::TransferKind::Wallet) => Ok(Some(TransferKind::Wallet)),
        Ok(wire::TransferKind::Deposit) => Ok(Some(TransferKind::Deposit)),
        Err(_) => Err(Malformed { field: "kind", expected: "a kind of transfer" }),
    }
}

/// Reads a text that Postgres can keep: it has no place for U+0000.
fn read_text(
    field: &'static str,
    text: String,
    is_short: impl Fn(&str) -> bool,
) -> Result<String, Malformed> {
    if text.contains('\0') || !is_short(&text) {
        return Err(Malformed { field, expected: "short text without U+0000" });
    }
    Ok(text)
}

/// Prints the answer to a command.
pub(crate) fn outcome(outcome: &Outcome) -> wire::Outcome {
    let debit_balance_after_minor = match outcome.verdict {
        // Clearing accounts are overdrawn as a rule; what they hold is nobody's answer.
        Verdict::Posted { debit_balance_after_minor: balance, .. } => {
            u64::try_from(balance).unwrap_or(0)
        }
        Verdict::Done | Verdict::Rejected(_) => 0,
    };
    wire::Outcome {
        rejection: rejection(outcome.verdict.rejection()).into(),
        replayed: outcome.replayed,
        transfer_id: outcome.transfer_id.map_or_else(Bytes::new, WireId::to_bytes),
        decided_at_us: outcome.decided_at.micros(),
        debit_balance_after_minor,
    }
}

/// Prints the answer to a command that could not be read.
pub(crate) fn malformed(unreadable: &Unreadable, now: Timestamp) -> wire::Outcome {
    wire::Outcome {
        rejection: wire::Rejection::Malformed.into(),
        replayed: false,
        transfer_id: unreadable.transfer_id.clone(),
        decided_at_us: now.micros(),
        debit_balance_after_minor: 0,
    }
}

/// Prints the transfers that posted, in order.
pub(crate) fn transfers_posted(decided: &[(Transfer, Decision)]) -> wire::TransfersPosted {
    let posted = |(it, decision): &(Transfer, Decision)| match decision.verdict {
        Verdict::Posted { .. } => Some(wire::TransferPosted {
            transfer_id: it.id.to_bytes(),
            kind: kind(it.kind).into(),
            debit_account_id: it.debit_account_id.to_bytes(),
            credit_account_id: it.credit_account_id.to_bytes(),
            amount_minor: it.amount.minor(),
            currency: it.currency.to_string(),
            reference: it.reference.clone(),
        }),
        Verdict::Done | Verdict::Rejected(_) => None,
    };
    wire::TransfersPosted { transfers: decided.iter().filter_map(posted).collect() }
}

/// A kind as it is sent; Postgres keeps the same numbers.
pub(crate) const fn kind(kind: TransferKind) -> wire::TransferKind {
    match kind {
        TransferKind::Wallet => wire::TransferKind::Wallet,
        TransferKind::Deposit => wire::TransferKind::Deposit,
    }
}

/// A rejection as it is sent.
pub(crate) const fn rejection(rejection: Option<Rejection>) -> wire::Rejection {
    let Some(rejection) = rejection else { return wire::Rejection::Unspecified };
    match rejection {
        Rejection::IdempotencyKeyReused => wire::Rejection::IdempotencyKeyReused,
        Rejection::DeadlineExceeded => wire::Rejection::DeadlineExceeded,
        Rejection::SameAccount => wire::Rejection::SameAccount,
        Rejection::DebitAccountNotFound => wire::Rejection::DebitAccountNotFound,
        Rejection::CreditAccountNotFound => wire::Rejection::CreditAccountNotFound,
        Rejection::AccountKindMismatch => wire::Rejection::AccountKindMismatch,
        Rejection::CurrencyMismatch => wire::Rejection::CurrencyMismatch,
        Rejection::DebitAccountFrozen => wire::Rejection::DebitAccountFrozen,
        Rejection::CreditAccountFrozen => wire::Rejection::CreditAccountFrozen,
        Rejection::InsufficientFunds => wire::Rejection::InsufficientFunds,
        Rejection::LimitExceeded => wire::Rejection::LimitExceeded,
        Rejection::Malformed => wire::Rejection::Malformed,
    }
}

/// Prints a transfer as `account_id` sees it.
pub(crate) fn print_movement(account_id: AccountId, it: Movement) -> wire::Movement {
    let is_debit = it.debit_account_id == account_id.uuid();
    let direction = if is_debit { wire::Direction::Debit } else { wire::Direction::Credit };
    let counterparty = if is_debit { it.credit_account_id } else { it.debit_account_id };
    let kind = i32::from(it.kind);
    // Who pays asks for a transfer, who is paid for a deposit: only they learn of their key.
    let asked = (kind == i32::from(wire::TransferKind::Wallet)) == is_debit;
    let made_by = it.made_by_key_id.filter(|_| asked).map(KeyId::from_uuid);
    wire::Movement {
        transfer_id: TransferId::from_uuid(it.transfer_id).to_bytes(),
        kind,
        direction: direction.into(),
        amount_minor: u64::try_from(it.amount_minor).unwrap_or(0),
        currency: it.currency,
        rejection: i32::from(it.rejection),
        counterparty_account_id: AccountId::from_uuid(counterparty).to_bytes(),
        balance_after_minor: it.balance_after_minor.and_then(|it| u64::try_from(it).ok()),
        note: it.note.unwrap_or_default(),
        reference: it.reference.unwrap_or_default(),
        created_at_us: Timestamp::from_datetime(it.decided_at).micros(),
        made_by_key_id: made_by.map_or_else(Bytes::new, WireId::to_bytes),
        position: it.position.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer() -> wire::PostTransfer {
        wire::PostTransfer {
            transfer_id: Bytes::from_static(&[1; 16]),
            kind: wire::TransferKind::Wallet.into(),
            debit_account_id: Bytes::from_static(&[2; 16]),
            credit_account_id: Bytes::from_static(&[0; 16]),
            amount_minor: 5,
            currency: "NGN".to_owned(),
            note: "ç".repeat(NOTE_CHARS_MAX),
            reference: String::new(),
            request_key: Bytes::new(),
            request_digest: Bytes::from_static(&[4; 32]),
            made_by_key_id: Bytes::new(),
        }
    }

    fn read(subject: &str, it: wire::PostTransfer) -> Result<Command, Unreadable> {
        let body = Some(WireBody::PostTransfer(it));
        read_command(subject, &wire::Command { deadline_at_us: 0, body }.encode_to_vec())
    }

    #[test]
    fn numbers_and_codes_are_those_of_the_wire() {
        for it in Rejection::ALL {
            let sent = rejection(Some(it));
            assert_eq!(i32::from(sent), i32::from(it.number()));
            let name = format!("REJECTION_{}", it.code().to_uppercase());
            assert_eq!(sent.as_str_name(), name);
        }
        let unknown = i32::from(Rejection::ALL[11].number()) + 1;
        assert!(wire::Rejection::try_from(unknown).is_err(), "the wire has one more rejection");
        for it in [TransferKind::Wallet, TransferKind::Deposit] {
            assert_eq!(i32::from(kind(it)), i32::from(crate::store::print_transfer_kind(it)));
        }
    }

    #[test]
    fn what_is_well_formed_is_read() {
        let command = read(subjects::POST_TRANSFER, transfer()).unwrap();
        assert_eq!(command.transfer().unwrap().request_key, None);
        assert_eq!(command.deadline_at, None);
    }

    #[test]
    fn what_means_nothing_is_refused_and_says_where() {
        type Damage = fn(&mut wire::PostTransfer);
        let damages: [(&str, Damage); 14] = [
            ("transfer_id", |it| it.transfer_id = Bytes::new()),
            ("debit_account_id", |it| it.debit_account_id = Bytes::from_static(&[1; 15])),
            ("credit_account_id", |it| it.credit_account_id = Bytes::new()),
            ("amount_minor", |it| it.amount_minor = 0),
            ("amount_minor", |it| it.amount_minor = u64::MAX),
            ("currency", |it| it.currency = "ngn".to_owned()),
            ("request_key", |it| it.request_key = Bytes::from_static(&[1; 31])),
            ("request_digest", |it| it.request_digest = Bytes::new()),
            ("made_by_key_id", |it| it.made_by_key_id = Bytes::from_static(&[1; 3])),
            ("kind", |it| it.kind = 0),
            ("kind", |it| it.kind = 99),
            ("note", |it| it.note.push('x')),
            ("note", |it| it.note = "a\0b".to_owned()),
            ("reference", |it| it.reference = "x".repeat(REFERENCE_BYTES_MAX + 1)),
        ];
        for (field, damage) in damages {
            let mut damaged = transfer();
            damage(&mut damaged);
            let id = damaged.transfer_id.clone();
            let no = read(subjects::POST_TRANSFER, damaged).unwrap_err();
            assert!(no.reason.starts_with(&format!("field {field} ")), "{field}: {}", no.reason);
            assert_eq!(no.transfer_id, id, "{field}");
        }
        assert!(read_command(subjects::POST_TRANSFER, &[0xff, 0xff]).is_err());
        assert!(read_command(subjects::POST_TRANSFER, &[]).is_err());
    }

    #[test]
    fn the_event_of_a_full_batch_is_not_too_large() {
        const BATCH_TRANSFERS_MAX: usize = 4_000;
        let largest = wire::TransferPosted {
            transfer_id: Bytes::from_static(&[1; 16]),
            kind: wire::TransferKind::Deposit.into(),
            debit_account_id: Bytes::from_static(&[2; 16]),
            credit_account_id: Bytes::from_static(&[3; 16]),
            amount_minor: primitives::AMOUNT_MINOR_MAX,
            currency: "NGN".to_owned(),
            reference: "x".repeat(REFERENCE_BYTES_MAX),
        };
        let event = wire::TransfersPosted { transfers: vec![largest; BATCH_TRANSFERS_MAX] };
        assert!(event.encoded_len() <= bus::outbox::EVENT_BYTES_MAX, "{}", event.encoded_len());
    }

    #[test]
    fn a_freeze_needs_a_deadline() {
        let freeze = wire::FreezeAccount { account_id: Bytes::from_static(&[2; 16]), frozen: true };
        let read = |deadline_at_us| {
            let body = Some(WireBody::FreezeAccount(freeze.clone()));
            let payload = wire::Command { deadline_at_us, body }.encode_to_vec();
            read_command(subjects::FREEZE_ACCOUNT, &payload).is_ok()
        };
        assert_eq!((read(0), read(1)), (false, true));
    }

    #[test]
    fn a_subject_allows_one_kind_of_command() {
        let deposit = wire::PostTransfer { kind: wire::TransferKind::Deposit.into(), ..transfer() };
        let freeze = wire::FreezeAccount { account_id: Bytes::from_static(&[2; 16]), frozen: true };
        let open = wire::OpenAccount {
            account_id: Bytes::from_static(&[2; 16]),
            currency: "NGN".to_owned(),
        };
        let of = [
            (subjects::POST_TRANSFER, WireBody::PostTransfer(transfer())),
            (subjects::POST_DEPOSIT, WireBody::PostTransfer(deposit)),
            (subjects::FREEZE_ACCOUNT, WireBody::FreezeAccount(freeze)),
            (subjects::OPEN_ACCOUNT, WireBody::OpenAccount(open)),
            ("cmd.ledger.v1.0.unheard_of", WireBody::PostTransfer(transfer())),
        ];
        for (i, (_, body)) in of.iter().take(4).enumerate() {
            let body = Some(body.clone());
            let payload = wire::Command { deadline_at_us: 1, body }.encode_to_vec();
            for (j, (subject, _)) in of.iter().enumerate() {
                assert_eq!(read_command(subject, &payload).is_ok(), i == j, "{i} on {subject}");
            }
        }
    }
}
