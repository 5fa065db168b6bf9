//! Protobuf to the rules' values and back.
//!
//! The subject a command came on is part of its meaning: who may publish on it may ask for just
//! that. A body that does not belong to its subject is malformed, whatever it says.

use bytes::Bytes;
use ledger_core::{
    AccountChange, Action, Body, Change, Command, Limits, Move, Outcome, Rejection, TRANSFERS_MAX,
    Transfer, TransferKind, Verdict,
};
use primitives::{AccountId, KeyId, Timestamp, TransferId};
use prost::Message;
use proto_events::convert::{self, Malformed, WireId};
use proto_events::ledger::v1 as wire;
use proto_events::subjects::ledger as subjects;
use wire::command::Body as WireBody;

use crate::store::read::Movement;

/// The longest note, in characters.
const NOTE_CHARS_MAX: usize = 140;
/// The longest reference of a provider, in bytes.
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
        WireBody::OpenAccount(_) | WireBody::PostTransfers(_) | WireBody::ChangeAccount(_) => {
            Bytes::new()
        }
    };
    let of = |error: Malformed| Unreadable { transfer_id: transfer_id.clone(), ..error.into() };
    let is_single = matches!(body, WireBody::PostTransfer(_));
    let body = read_body(body).map_err(of)?;
    if !belongs(subject, &body, is_single) {
        let reason = format!("the command does not belong on {subject}");
        return Err(Unreadable { reason, transfer_id });
    }
    Ok(Command { deadline_at, body })
}

/// Whether who may publish on `subject` may ask for this.
fn belongs(subject: &str, body: &Body, is_single: bool) -> bool {
    let all = |kind| {
        matches!(body, Body::Post { transfers, .. }
            if transfers.iter().all(|it| it.action.kind() == kind))
    };
    match subject {
        subjects::OPEN_ACCOUNT => matches!(body, Body::OpenAccount { .. }),
        subjects::CHANGE_ACCOUNT => matches!(body, Body::ChangeAccount(_)),
        subjects::POST_TRANSFER => is_single && all(TransferKind::Wallet),
        subjects::POST_DEPOSIT => is_single && all(TransferKind::Deposit),
        subjects::EXPIRE_HOLD => is_single && all(TransferKind::Expiry),
        subjects::POST_TRANSFERS => !is_single && all(TransferKind::Wallet),
        subjects::POST_ANY => {
            !is_single
                && matches!(body, Body::Post { transfers, .. }
                    if transfers.iter().all(|it| it.action.kind() != TransferKind::Expiry))
        }
        _ => false,
    }
}

fn read_body(body: WireBody) -> Result<Body, Malformed> {
    Ok(match body {
        WireBody::OpenAccount(it) => Body::OpenAccount {
            account_id: WireId::read("account_id", &it.account_id)?,
            currency: convert::currency("currency", &it.currency)?,
        },
        WireBody::ChangeAccount(it) => Body::ChangeAccount(AccountChange {
            id: WireId::read("change_id", &it.change_id)?,
            account_id: WireId::read("account_id", &it.account_id)?,
            change: read_change(&it)?,
        }),
        WireBody::PostTransfer(it) => {
            Body::Post { transfers: vec![read_transfer(it)?], linked: false }
        }
        WireBody::PostTransfers(it) => {
            if !(1..=TRANSFERS_MAX).contains(&it.transfers.len()) {
                return Err(Malformed { field: "transfers", expected: "1 to 100 transfers" });
            }
            let transfers: Result<_, _> = it.transfers.into_iter().map(read_transfer).collect();
            Body::Post { transfers: transfers?, linked: it.linked }
        }
    })
}

fn read_change(it: &wire::ChangeAccount) -> Result<Change, Malformed> {
    use wire::AccountChange as Wire;
    match Wire::try_from(it.change) {
        Ok(Wire::Freeze) => Ok(Change::Freeze),
        Ok(Wire::Unfreeze) => Ok(Change::Unfreeze),
        Ok(Wire::Close) => Ok(Change::Close),
        Ok(Wire::SetLimits) => Ok(Change::SetLimits(Limits {
            least_minor: it.least_minor,
            greatest_minor: it.greatest_minor,
        })),
        Ok(Wire::Unspecified) | Err(_) => {
            Err(Malformed { field: "change", expected: "a change of an account" })
        }
    }
}

fn read_transfer(it: wire::PostTransfer) -> Result<Transfer, Malformed> {
    Ok(Transfer {
        action: read_action(&it)?,
        id: WireId::read("transfer_id", &it.transfer_id)?,
        request_key: convert::request_key("request_key", &it.request_key)?,
        request_digest: convert::digest("request_digest", &it.request_digest)?,
        made_by_key_id: KeyId::read_optional("made_by_key_id", &it.made_by_key_id)?,
        note: read_text("note", it.note, |it| it.chars().count() <= NOTE_CHARS_MAX)?,
        reference: read_text("reference", it.reference, |it| it.len() <= REFERENCE_BYTES_MAX)?,
    })
}

fn read_action(it: &wire::PostTransfer) -> Result<Action, Malformed> {
    let of = || {
        Ok(Move {
            debit_account_id: WireId::read("debit_account_id", &it.debit_account_id)?,
            credit_account_id: WireId::read("credit_account_id", &it.credit_account_id)?,
            amount: convert::amount("amount_minor", it.amount_minor)?,
            currency: convert::currency("currency", &it.currency)?,
        })
    };
    let earlier = || TransferId::read("of_transfer_id", &it.of_transfer_id);
    let amount = || {
        let minor = Some(it.amount_minor).filter(|it| *it != 0);
        minor.map(|it| convert::amount("amount_minor", it)).transpose()
    };
    let kind = read_kind(it.kind)?;
    Ok(match kind.ok_or(Malformed { field: "kind", expected: "a kind of transfer" })? {
        TransferKind::Wallet => Action::Wallet(of()?),
        TransferKind::Deposit => Action::Deposit(of()?),
        TransferKind::Internal => Action::Internal(of()?),
        TransferKind::Hold => {
            Action::Hold { of: of()?, expires_at: convert::moment(it.expires_at_us) }
        }
        TransferKind::Capture => Action::Capture { hold_id: earlier()?, amount: amount()? },
        TransferKind::Release => Action::Release { hold_id: earlier()? },
        TransferKind::Expiry => Action::Expire { hold_id: earlier()? },
        TransferKind::Reversal => Action::Reverse { transfer_id: earlier()?, amount: amount()? },
    })
}

/// Reads a kind; none for `UNSPECIFIED`. The numbers are those of the rules.
pub(crate) fn read_kind(kind: i32) -> Result<Option<TransferKind>, Malformed> {
    if kind == 0 {
        return Ok(None);
    }
    let found = i16::try_from(kind).ok().and_then(TransferKind::from_number);
    found.map(Some).ok_or(Malformed { field: "kind", expected: "a kind of transfer" })
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

/// Prints the answer to a command: one outcome, or one for each of several transfers.
pub(crate) fn answer(outcomes: &[Outcome], is_several: bool) -> Vec<u8> {
    let mut printed = outcomes.iter().map(outcome);
    if is_several {
        return wire::Outcomes { outcomes: printed.collect() }.encode_to_vec();
    }
    printed.next().unwrap_or_default().encode_to_vec()
}

/// Whether the command on `subject` is answered by [`wire::Outcomes`].
pub(crate) fn is_several(subject: &str) -> bool {
    matches!(subject, subjects::POST_TRANSFERS | subjects::POST_ANY)
}

fn outcome(outcome: &Outcome) -> wire::Outcome {
    let debit_balance_after_minor = match outcome.verdict {
        // Clearing accounts are overdrawn as a rule; what they hold is nobody's answer.
        Verdict::Done { debit_balance_after_minor: balance } => u64::try_from(balance).unwrap_or(0),
        Verdict::Rejected(_) => 0,
    };
    wire::Outcome {
        rejection: rejection(outcome.verdict.rejection()),
        replayed: outcome.replayed,
        transfer_id: outcome.transfer_id.map_or_else(Bytes::new, WireId::to_bytes),
        decided_at_us: outcome.decided_at.micros(),
        debit_balance_after_minor,
    }
}

/// Prints the answer to a command that could not be read: one outcome, whatever it was.
pub(crate) fn malformed(unreadable: &Unreadable, is_several: bool, now: Timestamp) -> Vec<u8> {
    let outcome = wire::Outcome {
        rejection: wire::Rejection::Malformed.into(),
        replayed: false,
        transfer_id: unreadable.transfer_id.clone(),
        decided_at_us: now.micros(),
        debit_balance_after_minor: 0,
    };
    if is_several {
        return wire::Outcomes { outcomes: vec![outcome] }.encode_to_vec();
    }
    outcome.encode_to_vec()
}

/// A rejection as it is sent; the numbers are those of the rules, 0 is none.
fn rejection(rejection: Option<Rejection>) -> i32 {
    rejection.map_or(0, |it| i32::from(it.number()))
}

/// Prints a transfer as `account_id` sees it.
pub(crate) fn print_movement(account_id: AccountId, it: Movement) -> wire::Movement {
    let is_debit = it.debit_account_id == account_id.uuid();
    let direction = if is_debit { wire::Direction::Debit } else { wire::Direction::Credit };
    let counterparty = if is_debit { it.credit_account_id } else { it.debit_account_id };
    let kind = i32::from(it.kind);
    // Who pays asks for a transfer, who is paid for a deposit: only they learn of their key.
    let asked = (kind != i32::from(wire::TransferKind::Deposit)) == is_debit;
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
        position: it.position,
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
            of_transfer_id: Bytes::new(),
            expires_at_us: 0,
        }
    }

    /// A transfer of this kind, about an earlier one if its kind is.
    fn of_kind(kind: wire::TransferKind) -> wire::PostTransfer {
        let of_transfer_id = Bytes::from_static(&[3; 16]);
        wire::PostTransfer { kind: kind.into(), of_transfer_id, ..transfer() }
    }

    fn change() -> wire::ChangeAccount {
        wire::ChangeAccount {
            change_id: Bytes::from_static(&[7; 16]),
            account_id: Bytes::from_static(&[2; 16]),
            change: wire::AccountChange::Freeze.into(),
            least_minor: 0,
            greatest_minor: 0,
        }
    }

    fn read_as(subject: &str, body: WireBody) -> Result<Command, Unreadable> {
        let command = wire::Command { deadline_at_us: 0, body: Some(body) };
        read_command(subject, &command.encode_to_vec())
    }

    fn read(subject: &str, it: wire::PostTransfer) -> Result<Command, Unreadable> {
        read_as(subject, WireBody::PostTransfer(it))
    }

    fn several(transfers: Vec<wire::PostTransfer>) -> WireBody {
        WireBody::PostTransfers(wire::PostTransfers { transfers, linked: true })
    }

    #[test]
    fn numbers_and_codes_are_those_of_the_wire() {
        for it in Rejection::ALL {
            let sent = wire::Rejection::try_from(rejection(Some(it))).unwrap();
            let name = format!("REJECTION_{}", it.code().to_uppercase());
            assert_eq!(sent.as_str_name(), name);
        }
        let unknown = i32::try_from(Rejection::ALL.len()).unwrap() + 1;
        assert!(wire::Rejection::try_from(unknown).is_err(), "the wire has one more rejection");
        for it in TransferKind::ALL {
            let sent = wire::TransferKind::try_from(i32::from(it.number())).unwrap();
            let name = format!("TRANSFER_KIND_{it:?}").to_uppercase();
            assert_eq!(sent.as_str_name(), name);
        }
        assert!(wire::TransferKind::try_from(9).is_err(), "the wire has one more kind");
    }

    #[test]
    fn what_is_well_formed_is_read() {
        let command = read(subjects::POST_TRANSFER, transfer()).unwrap();
        assert_eq!(command.transfers().first().unwrap().request_key, None);
        assert_eq!(command.deadline_at, None);
        for kind in [wire::TransferKind::Capture, wire::TransferKind::Reversal] {
            let all = wire::PostTransfer { amount_minor: 0, ..of_kind(kind) };
            assert!(read_as(subjects::POST_ANY, several(vec![all])).is_ok(), "{kind:?}: all of it");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_and_says_where() {
        type Damage = fn(&mut wire::PostTransfer);
        let damages: [(&str, Damage); 15] = [
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
            ("of_transfer_id", |it| it.kind = wire::TransferKind::Capture.into()),
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
        for n in [0, TRANSFERS_MAX + 1] {
            let no = read_as(subjects::POST_TRANSFERS, several(vec![transfer(); n])).unwrap_err();
            assert!(no.reason.starts_with("field transfers "), "{n}: {}", no.reason);
        }
        for unknown in [0, 5] {
            let unknown = wire::ChangeAccount { change: unknown, ..change() };
            let no = read_as(subjects::CHANGE_ACCOUNT, WireBody::ChangeAccount(unknown));
            assert!(no.unwrap_err().reason.starts_with("field change "));
        }
        assert!(read_command(subjects::POST_TRANSFER, &[0xff, 0xff]).is_err());
        assert!(read_command(subjects::POST_TRANSFER, &[]).is_err());
    }

    #[test]
    fn a_subject_allows_just_what_its_publishers_may_ask_for() {
        use wire::TransferKind as Kind;
        let open = wire::OpenAccount {
            account_id: Bytes::from_static(&[2; 16]),
            currency: "NGN".to_owned(),
        };
        let one = |kind| WireBody::PostTransfer(of_kind(kind));
        let mixed = several(vec![of_kind(Kind::Wallet), of_kind(Kind::Hold)]);
        let expiry_hidden = several(vec![of_kind(Kind::Wallet), of_kind(Kind::Expiry)]);
        let all = [
            (one(Kind::Wallet), vec![subjects::POST_TRANSFER]),
            (one(Kind::Deposit), vec![subjects::POST_DEPOSIT]),
            (one(Kind::Expiry), vec![subjects::EXPIRE_HOLD]),
            (one(Kind::Internal), vec![]),
            (one(Kind::Reversal), vec![]),
            (several(vec![transfer()]), vec![subjects::POST_TRANSFERS, subjects::POST_ANY]),
            (mixed, vec![subjects::POST_ANY]),
            (expiry_hidden, vec![]),
            (WireBody::ChangeAccount(change()), vec![subjects::CHANGE_ACCOUNT]),
            (WireBody::OpenAccount(open), vec![subjects::OPEN_ACCOUNT]),
        ];
        let on = [
            subjects::POST_TRANSFER,
            subjects::POST_DEPOSIT,
            subjects::EXPIRE_HOLD,
            subjects::POST_TRANSFERS,
            subjects::POST_ANY,
            subjects::CHANGE_ACCOUNT,
            subjects::OPEN_ACCOUNT,
            "cmd.ledger.v1.0.unheard_of",
        ];
        for (n, (body, allowed)) in all.into_iter().enumerate() {
            for subject in on {
                let is_read = read_as(subject, body.clone()).is_ok();
                assert_eq!(is_read, allowed.contains(&subject), "{n} on {subject}");
            }
        }
    }
}
