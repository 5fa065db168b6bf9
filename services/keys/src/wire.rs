//! Wire to rules and back. Reading refuses what means nothing, and says which field.

use bytes::Bytes;
use primitives::{KeyId, RequestKey, Timestamp, UserId};
use proto_events::convert::{self, Malformed, WireId};
use proto_events::keys::v1 as wire;
use proto_events::keys::v1::command::Body as WireBody;
use proto_events::subjects;

use crate::key::{ApiKey, Refusal, Status};
use crate::key::{Denial, Digest, Expiry, Grant, Key, Name, Permission, Permissions};

/// A command that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) deadline_at: Timestamp,
    pub(crate) user_id: UserId,
    pub(crate) request: Option<Request>,
    pub(crate) body: Body,
}

/// What makes a command repeatable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) key: RequestKey,
    /// 32 bytes, or none when revoking.
    pub(crate) digest: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Create { key_id: KeyId, name: Name, permissions: Permissions, expiry: Expiry },
    RollOver { key_id: KeyId, expired_key_id: KeyId, expiry: Expiry },
    Revoke { key_id: KeyId },
}

/// What cannot be read as a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("not a command: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Reads a command as it arrived on `subject`, which must be the one of its body: permissions on
/// the bus are given by subject.
pub(crate) fn read_command(subject: &str, payload: &[u8]) -> Result<Command, Unreadable> {
    let command: wire::Command = prost::Message::decode(payload)?;
    let deadline_at = convert::moment(command.deadline_at_us)
        .ok_or(Malformed { field: "deadline_at_us", expected: "a moment" })?;
    let user_id = UserId::read("user_id", &command.user_id)?;
    let body = command.body.ok_or(Malformed { field: "body", expected: "given" })?;
    let (meant_for, body) = read_body(body)?;
    if subject != meant_for {
        return Err(Malformed { field: "body", expected: "what the subject says" }.into());
    }
    let request_key = convert::request_key("request_key", &command.request_key)?;
    let request = match request_key {
        None => None,
        Some(key) => {
            let revokes = matches!(body, Body::Revoke { .. });
            if !(revokes && command.request_digest.is_empty()) {
                convert::digest("request_digest", &command.request_digest)?;
            }
            Some(Request { key, digest: command.request_digest.to_vec() })
        }
    };
    Ok(Command { deadline_at, user_id, request, body })
}

fn read_body(body: WireBody) -> Result<(&'static str, Body), Malformed> {
    Ok(match body {
        WireBody::CreateKey(it) => {
            let body = Body::Create {
                key_id: KeyId::read("key_id", &it.key_id)?,
                name: Name::parse(&it.name)
                    .map_err(|_| Malformed { field: "name", expected: "a name" })?,
                permissions: read_permissions(&it.permissions)?,
                expiry: read_expiry(it.expiry)?,
            };
            (subjects::keys::CREATE_KEY, body)
        }
        WireBody::RollOverKey(it) => {
            let body = Body::RollOver {
                key_id: KeyId::read("key_id", &it.key_id)?,
                expired_key_id: KeyId::read("expired_key_id", &it.expired_key_id)?,
                expiry: read_expiry(it.expiry)?,
            };
            (subjects::keys::ROLL_OVER_KEY, body)
        }
        WireBody::RevokeKey(it) => {
            let body = Body::Revoke { key_id: KeyId::read("key_id", &it.key_id)? };
            (subjects::keys::REVOKE_KEY, body)
        }
    })
}

fn read_permissions(list: &[i32]) -> Result<Permissions, Malformed> {
    let malformed = Malformed { field: "permissions", expected: "1 to 3 different permissions" };
    let list: Option<Vec<Permission>> = list.iter().map(|it| read_permission(*it)).collect();
    list.and_then(|it| Permissions::try_new(&it).ok()).ok_or(malformed)
}

fn read_permission(number: i32) -> Option<Permission> {
    match wire::Permission::try_from(number).ok()? {
        wire::Permission::Unspecified => None,
        wire::Permission::Read => Some(Permission::Read),
        wire::Permission::Deposit => Some(Permission::Deposit),
        wire::Permission::Transfer => Some(Permission::Transfer),
    }
}

fn read_expiry(number: i32) -> Result<Expiry, Malformed> {
    match wire::Expiry::try_from(number) {
        Ok(wire::Expiry::Hour) => Ok(Expiry::Hour),
        Ok(wire::Expiry::Day) => Ok(Expiry::Day),
        Ok(wire::Expiry::Month) => Ok(Expiry::Month),
        Ok(wire::Expiry::Year) => Ok(Expiry::Year),
        Ok(wire::Expiry::Unspecified) | Err(_) => {
            Err(Malformed { field: "expiry", expected: "one of four" })
        }
    }
}

/// The answer to a command that was refused.
pub(crate) fn refused(refusal: Refusal, replayed: bool) -> wire::Outcome {
    wire::Outcome { refusal: print_refusal(refusal).into(), replayed, ..Default::default() }
}

/// The answer to a command that was carried out.
pub(crate) fn done(
    key: &Key,
    api_key: Option<&ApiKey>,
    replayed: bool,
    now: Timestamp,
) -> wire::Outcome {
    wire::Outcome {
        refusal: wire::Refusal::Unspecified.into(),
        replayed,
        api_key: api_key.map(|it| it.expose().to_owned()).unwrap_or_default(),
        key: Some(print_key(key, now)),
    }
}

/// The answer to what is no command.
pub(crate) fn malformed() -> wire::Outcome {
    wire::Outcome { refusal: wire::Refusal::Malformed.into(), ..Default::default() }
}

fn print_refusal(refusal: Refusal) -> wire::Refusal {
    match refusal {
        Refusal::IdempotencyKeyReused => wire::Refusal::IdempotencyKeyReused,
        Refusal::DeadlineExceeded => wire::Refusal::DeadlineExceeded,
        Refusal::KeyNotFound => wire::Refusal::KeyNotFound,
        Refusal::KeyRevoked => wire::Refusal::KeyRevoked,
        Refusal::KeyAlreadyRolledOver => wire::Refusal::KeyAlreadyRolledOver,
        Refusal::KeyNotExpired => wire::Refusal::KeyNotExpired,
        Refusal::KeyLimitReached => wire::Refusal::KeyLimitReached,
        Refusal::KeyCannotBeShown => wire::Refusal::KeyCannotBeShown,
    }
}

/// A key as its person sees it.
pub(crate) fn print_key(key: &Key, now: Timestamp) -> wire::Key {
    let status = match key.status(now) {
        Status::Active => wire::KeyStatus::Active,
        Status::Expired => wire::KeyStatus::Expired,
        Status::Revoked => wire::KeyStatus::Revoked,
        Status::RolledOver => wire::KeyStatus::RolledOver,
    };
    wire::Key {
        key_id: key.id.to_bytes(),
        name: key.name.as_str().to_owned(),
        prefix: key.prefix.clone(),
        permissions: print_permissions(key.permissions),
        status: status.into(),
        created_at_us: key.created_at.micros(),
        expires_at_us: key.expires_at.micros(),
        last_used_at_us: convert::moment_us(key.last_used_at),
    }
}

fn print_permissions(permissions: Permissions) -> Vec<i32> {
    let print = |it| match it {
        Permission::Read => wire::Permission::Read,
        Permission::Deposit => wire::Permission::Deposit,
        Permission::Transfer => wire::Permission::Transfer,
    };
    permissions.iter().map(|it| print(it).into()).collect()
}

/// The answer to whether a key is good.
pub(crate) fn verified(decided: Result<Grant, Denial>) -> wire::Verified {
    let denied = |refusal: wire::VerifyRefusal| wire::Verified {
        refusal: refusal.into(),
        ..Default::default()
    };
    match decided {
        Ok(grant) => wire::Verified {
            refusal: wire::VerifyRefusal::Unspecified.into(),
            key_id: grant.key_id.to_bytes(),
            user_id: grant.user_id.to_bytes(),
            permissions: print_permissions(grant.permissions),
            expires_at_us: grant.expires_at.micros(),
        },
        Err(Denial::Unknown) => denied(wire::VerifyRefusal::Unknown),
        Err(Denial::Revoked) => denied(wire::VerifyRefusal::Revoked),
        Err(Denial::Expired) => denied(wire::VerifyRefusal::Expired),
    }
}

/// The news that a key opens nothing any more.
pub(crate) fn revoked(key: &Key) -> wire::KeyRevoked {
    let digest: Digest = key.digest;
    wire::KeyRevoked { key_id: key.id.to_bytes(), digest: Bytes::copy_from_slice(&digest.0) }
}
