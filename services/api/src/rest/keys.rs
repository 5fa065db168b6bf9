//! `/keys`: a person's API keys. For people only; an API key is turned away whatever it may do.

use std::time::Duration;

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use primitives::{KeyId, RequestKey, Timestamp};
use proto_events::convert::{self, WireId as _};
use proto_events::keys::v1 as wire;
use proto_events::keys::v1::command::Body as Asked;

use crate::ask::{self, Failure};
use crate::claims::Claims;
use crate::permissions::Permission;
use crate::rest::Tag;
use crate::rest::body::{Body, Fields, Request};
use crate::rest::caller::Caller;
use crate::rest::door::Door;
use crate::rest::idempotency::{self, IdempotencyKey, request_digest};
use crate::rest::problem::{
    AUTHENTICATED, COMMANDS, Code, Problem, Refused, WITH_BODY, from_key_refusal, refusals,
};
use crate::rest::security::PersonCredentials;
use crate::rest::values::{Maybe, Moment, is_unprintable};

/// Contract, section 3.
const NAME_CHARS_MAX: usize = 100;

/// API keys.
pub(crate) struct Keys {
    pub(crate) door: Door,
    pub(crate) keys: ask::Keys,
    pub(crate) claims: Claims,
    /// Longest wait for an outcome.
    pub(crate) wait: Duration,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum)]
#[oai(rename = "Permission", rename_all = "snake_case")]
pub(crate) enum Allowed {
    /// Balance, history, one transaction, deposit status.
    Read,
    /// Starting a deposit.
    Deposit,
    /// Sending money.
    Transfer,
}

impl From<Permission> for Allowed {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::Read => Self::Read,
            Permission::Deposit => Self::Deposit,
            Permission::Transfer => Self::Transfer,
        }
    }
}

impl From<Allowed> for Permission {
    fn from(allowed: Allowed) -> Self {
        match allowed {
            Allowed::Read => Self::Read,
            Allowed::Deposit => Self::Deposit,
            Allowed::Transfer => Self::Transfer,
        }
    }
}

/// How long a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum Expiry {
    /// An hour.
    #[oai(rename = "1H")]
    Hour,
    /// A day.
    #[oai(rename = "1D")]
    Day,
    /// 30 days.
    #[oai(rename = "1M")]
    Month,
    /// 365 days.
    #[oai(rename = "1Y")]
    Year,
}

impl Expiry {
    fn parse(text: String) -> Result<Self, &'static str> {
        match text.as_str() {
            "1H" => Ok(Self::Hour),
            "1D" => Ok(Self::Day),
            "1M" => Ok(Self::Month),
            "1Y" => Ok(Self::Year),
            _ => Err("must be 1H, 1D, 1M or 1Y"),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1H",
            Self::Day => "1D",
            Self::Month => "1M",
            Self::Year => "1Y",
        }
    }

    fn to_wire(self) -> i32 {
        match self {
            Self::Hour => wire::Expiry::Hour,
            Self::Day => wire::Expiry::Day,
            Self::Month => wire::Expiry::Month,
            Self::Year => wire::Expiry::Year,
        }
        .into()
    }
}

/// A key to make.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct CreateRequest {
    /// What its person calls it; 1 to 100 characters.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// What it may do; 1 to 3, none twice.
    #[oai(validator(min_items = 1, max_items = 3, unique_items))]
    permissions: Vec<Allowed>,
    /// How long it lives.
    expiry: Expiry,
}

impl Example for CreateRequest {
    fn example() -> Self {
        Self { name: "reporting".to_owned(), permissions: vec![Allowed::Read], expiry: Expiry::Day }
    }
}

impl Request for CreateRequest {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.text("name", name);
        let permissions = fields.texts("permissions", permissions);
        let expiry = fields.text("expiry", Expiry::parse);
        Some(Self { name: name?, permissions: permissions?, expiry: expiry? })
    }
}

fn name(text: String) -> Result<String, &'static str> {
    let n_chars = text.chars().count();
    if n_chars == 0 || n_chars > NAME_CHARS_MAX || text.trim().is_empty() {
        return Err("must be 1 to 100 characters");
    }
    if text.chars().any(is_unprintable) {
        return Err("must have no control characters");
    }
    Ok(text)
}

fn permissions(texts: Vec<String>) -> Result<Vec<Allowed>, &'static str> {
    const EXPECTED: &str = "must be 1 to 3 of read, deposit and transfer, none twice";
    let mut permissions = Vec::new();
    for text in texts {
        let permission = Permission::parse(&text).map(Allowed::from).ok_or(EXPECTED)?;
        if permissions.contains(&permission) {
            return Err(EXPECTED);
        }
        permissions.push(permission);
    }
    if permissions.is_empty() { Err(EXPECTED) } else { Ok(permissions) }
}

/// A key to roll over.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct RolloverRequest {
    /// The key that has expired.
    expired_key_id: String,
    /// How long the new one lives.
    expiry: Expiry,
}

impl Example for RolloverRequest {
    fn example() -> Self {
        Self { expired_key_id: example_id(), expiry: Expiry::Month }
    }
}

impl Request for RolloverRequest {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let expired_key_id = fields.text("expired_key_id", Ok);
        let expiry = fields.text("expiry", Expiry::parse);
        Some(Self { expired_key_id: expired_key_id?, expiry: expiry? })
    }
}

/// A key that was just made.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Created {
    /// Its id.
    id: String,
    /// The key itself. Shown this once.
    api_key: String,
    /// What its person calls it.
    name: String,
    /// What it may do.
    permissions: Vec<Allowed>,
    /// Until when.
    expires_at: Moment,
}

impl Example for Created {
    fn example() -> Self {
        Self {
            id: example_id(),
            api_key: "sk_test_ExampleExampleExampleExampleExampleExamplE".to_owned(),
            name: "reporting".to_owned(),
            permissions: vec![Allowed::Read],
            expires_at: Moment(Timestamp::from_seconds(1_768_554_864)),
        }
    }
}

/// The answer to a new key.
#[derive(Debug, ApiResponse)]
pub(crate) enum Made {
    /// The key, shown this once.
    #[oai(status = 200)]
    Key(
        Json<Created>,
        /// `true` if an earlier copy of this request made it.
        #[oai(header = "Idempotency-Replayed")]
        Option<bool>,
    ),
}

/// Whether a key is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum KeyStatus {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// Its person revoked it.
    Revoked,
    /// It expired and another took its place.
    RolledOver,
}

/// A key, as its person sees it.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Key {
    /// Its id.
    id: String,
    /// What its person calls it.
    name: String,
    /// How it begins, to tell it from others.
    prefix: String,
    /// What it may do.
    permissions: Vec<Allowed>,
    /// Whether it is good.
    status: KeyStatus,
    /// When it was made.
    created_at: Moment,
    /// Until when it is good.
    expires_at: Moment,
    /// When it was last used, to within seconds; `null` for never.
    last_used_at: Maybe<Moment>,
}

impl Example for Key {
    fn example() -> Self {
        Self {
            id: example_id(),
            name: "reporting".to_owned(),
            prefix: "sk_test_Exam".to_owned(),
            permissions: vec![Allowed::Read],
            status: KeyStatus::Active,
            created_at: Moment(Timestamp::from_seconds(1_768_468_464)),
            expires_at: Moment(Timestamp::from_seconds(1_768_554_864)),
            last_used_at: Maybe(None),
        }
    }
}

/// A person's keys.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct KeyList {
    /// Newest first.
    keys: Vec<Key>,
}

impl Example for KeyList {
    fn example() -> Self {
        Self { keys: vec![Key::example()] }
    }
}

fn example_id() -> String {
    "key_0192f0c1e6b87c3a9d2e4f5061728394".to_owned()
}

refusals! {
    /// Making a key.
    CreateRefusals: AUTHENTICATED, WITH_BODY, COMMANDS, &[
        Code::UserSessionRequired,
        Code::KeyLimitReached,
    ] => late Code::ServiceUnavailable;
    /// Rolling a key over.
    RolloverRefusals: AUTHENTICATED, WITH_BODY, COMMANDS, &[
        Code::UserSessionRequired,
        Code::KeyNotFound,
        Code::KeyLimitReached,
        Code::KeyNotExpired,
        Code::KeyAlreadyRolledOver,
        Code::KeyRevoked,
    ] => late Code::ServiceUnavailable;
    /// Listing keys.
    ListRefusals: AUTHENTICATED, &[Code::UserSessionRequired];
    /// Revoking a key.
    RevokeRefusals: AUTHENTICATED, &[
        Code::UserSessionRequired,
        Code::KeyNotFound,
        Code::DeadlineExceeded,
    ] => late Code::ServiceUnavailable;
}

#[OpenApi(tag = "Tag::Keys")]
impl Keys {
    /// Make an API key
    ///
    /// The key is shown this once; only a digest of it is kept. At most 5 active keys a person.
    #[oai(path = "/keys/create", method = "post", operation_id = "create_key")]
    async fn create(
        &self,
        who: PersonCredentials<'_>,
        /// Makes repeating the request safe, for ever: 1–255 visible ASCII characters of your choice.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: IdempotencyKey,
        body: Body<CreateRequest>,
    ) -> Result<Made, Refused<CreateRefusals>> {
        let caller = self.person(&who).await?;
        let asked = body.read()?;
        let request_key = idempotency_key.request_key(caller.wallet.account)?;
        let permissions: Vec<Permission> =
            asked.permissions.iter().copied().map(Permission::from).collect();
        let mut names: Vec<&str> = permissions.iter().map(|it| it.as_str()).collect();
        // A set: the order in which they are written is no difference.
        names.sort_unstable();
        let digest = request_digest(
            "create_key",
            &[Some(&asked.name), Some(&names.join(" ")), Some(asked.expiry.as_str())],
        );
        idempotency::claim(&self.claims, request_key, digest, true).await?;
        let create = wire::CreateKey {
            key_id: KeyId::generate().to_bytes(),
            name: asked.name,
            permissions: permissions.iter().map(|it| it.to_wire().into()).collect(),
            expiry: asked.expiry.to_wire(),
        };
        let outcome = self.ask(&caller, request_key, &digest, Asked::CreateKey(create)).await?;
        Ok(made(outcome)?)
    }

    /// Replace an API key that has expired
    ///
    /// Makes a new key with the name and the permissions of one that has expired; once per key.
    #[oai(path = "/keys/rollover", method = "post", operation_id = "roll_over_key")]
    async fn roll_over(
        &self,
        who: PersonCredentials<'_>,
        /// Makes repeating the request safe, for ever: 1–255 visible ASCII characters of your choice.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: IdempotencyKey,
        body: Body<RolloverRequest>,
    ) -> Result<Made, Refused<RolloverRefusals>> {
        let caller = self.person(&who).await?;
        let asked = body.read()?;
        let request_key = idempotency_key.request_key(caller.wallet.account)?;
        let digest = request_digest(
            "roll_over_key",
            &[Some(&asked.expired_key_id), Some(asked.expiry.as_str())],
        );
        idempotency::claim(&self.claims, request_key, digest, true).await?;
        let expired = KeyId::parse(&asked.expired_key_id).map_err(|_| Problem::key_not_found())?;
        let roll_over = wire::RollOverKey {
            key_id: KeyId::generate().to_bytes(),
            expired_key_id: expired.to_bytes(),
            expiry: asked.expiry.to_wire(),
        };
        let outcome =
            self.ask(&caller, request_key, &digest, Asked::RollOverKey(roll_over)).await?;
        Ok(made(outcome)?)
    }

    /// List API keys
    #[oai(path = "/keys/list", method = "get", operation_id = "list_keys")]
    async fn list(
        &self,
        who: PersonCredentials<'_>,
    ) -> Result<Json<KeyList>, Refused<ListRefusals>> {
        let caller = self.person(&who).await?;
        let found = self.keys.list(caller.user).await?;
        let keys = found.keys.into_iter().map(key).collect::<Result<_, _>>()?;
        Ok(Json(KeyList { keys }))
    }

    /// Revoke an API key
    ///
    /// Takes effect everywhere within one second. Repeating it is harmless.
    #[oai(path = "/keys/:id/revoke", method = "post", operation_id = "revoke_key")]
    async fn revoke(
        &self,
        who: PersonCredentials<'_>,
        /// The key's id.
        #[oai(example = "example_id")]
        id: Path<String>,
    ) -> Result<Json<Key>, Refused<RevokeRefusals>> {
        let caller = self.person(&who).await?;
        let key_id = KeyId::parse(&id.0).map_err(|_| Problem::key_not_found())?;
        let revoke = wire::RevokeKey { key_id: key_id.to_bytes() };
        let outcome = self.ask(&caller, None, &[], Asked::RevokeKey(revoke)).await?;
        let revoked = outcome.key.ok_or_else(|| missing("key"))?;
        Ok(Json(key(revoked)?))
    }
}

impl Keys {
    async fn person(&self, who: &poem::Request) -> Result<Caller, Problem> {
        let caller = self.door.caller(who).await?;
        caller.person_only()?;
        Ok(caller)
    }

    /// Sends a command; an outcome that is a no becomes a problem.
    async fn ask(
        &self,
        caller: &Caller,
        request_key: Option<RequestKey>,
        digest: &[u8],
        asked: Asked,
    ) -> Result<wire::Outcome, Problem> {
        let command = wire::Command {
            deadline_at_us: Timestamp::now().plus(self.wait).micros(),
            user_id: caller.user.to_bytes(),
            request_key: request_key.map(|it| it.0.to_vec().into()).unwrap_or_default(),
            request_digest: digest.to_vec().into(),
            body: Some(asked),
        };
        let outcome = self.keys.ask(&command, self.wait).await.map_err(|it| match it {
            Failure::Unavailable => Problem::service_unavailable(),
            Failure::Unknown => Problem::service_unavailable().late(),
        })?;
        let refusal = wire::Refusal::try_from(outcome.refusal).map_err(ask::unreadable)?;
        if refusal == wire::Refusal::Unspecified {
            Ok(outcome)
        } else {
            Err(from_key_refusal(refusal).replayed(outcome.replayed))
        }
    }
}

fn made(outcome: wire::Outcome) -> Result<Made, Problem> {
    let made = key(outcome.key.ok_or_else(|| missing("key"))?)?;
    let created = Created {
        id: made.id,
        api_key: outcome.api_key,
        name: made.name,
        permissions: made.permissions,
        expires_at: made.expires_at,
    };
    Ok(Made::Key(Json(created), outcome.replayed.then_some(true)))
}

fn key(key: wire::Key) -> Result<Key, Problem> {
    let id = KeyId::read("key_id", &key.key_id).map_err(ask::unreadable)?;
    let status = match key.status() {
        wire::KeyStatus::Active => KeyStatus::Active,
        wire::KeyStatus::Expired => KeyStatus::Expired,
        wire::KeyStatus::Revoked => KeyStatus::Revoked,
        wire::KeyStatus::RolledOver => KeyStatus::RolledOver,
        wire::KeyStatus::Unspecified => return Err(missing("status")),
    };
    let permissions =
        key.permissions.iter().filter_map(|it| Permission::from_wire(*it)).map(Allowed::from);
    Ok(Key {
        id: id.to_string(),
        permissions: permissions.collect(),
        status,
        created_at: Moment(Timestamp::from_micros(key.created_at_us)),
        expires_at: Moment(Timestamp::from_micros(key.expires_at_us)),
        last_used_at: Maybe(convert::moment(key.last_used_at_us).map(Moment)),
        name: key.name,
        prefix: key.prefix,
    })
}

fn missing(field: &'static str) -> Problem {
    ask::unreadable(convert::Malformed { field, expected: "there" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_one_of_four() {
        for good in ["1H", "1D", "1M", "1Y"] {
            assert_eq!(Expiry::parse(good.to_owned()).map(Expiry::as_str), Ok(good));
        }
        for wrong in ["", "0H", "-1D", "7D", "1h", "9999Y", "1 H", "1H "] {
            assert!(Expiry::parse(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn permissions_are_a_set_that_is_not_empty() {
        let read = |texts: &[&str]| permissions(texts.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(read(&["transfer", "read"]), Ok(vec![Allowed::Transfer, Allowed::Read]));
        for wrong in [&[][..], &["read", "read"], &["write"], &["Read"], &["read", ""]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_is_a_hundred_characters_at_most() {
        assert!(name("₦".repeat(100)).is_ok());
        for wrong in [String::new(), " ".to_owned(), "a".repeat(101), "a\u{0}".to_owned()] {
            assert!(name(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
