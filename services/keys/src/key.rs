//! The rules of API keys, as values: what a key looks like, how long it lives, whether it is good,
//! and when it may be made or replaced.
//!
//! Nothing here reads a clock, a random number or a database: `now`, secrets and counts are
//! arguments. Keys in plain text exist only as [`ApiKey`], which never prints more than its prefix.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use primitives::{KeyId, Timestamp, UserId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// Most keys of one person that are good at the same time (contract, section 3).
pub const KEYS_ACTIVE_MAX: u32 = 5;
/// Most characters of a key's name.
pub const NAME_CHARACTERS_MAX: usize = 100;
/// Random bytes in a key.
pub const SECRET_BYTES: usize = 32;
/// What 32 bytes are in base64url without padding.
const SECRET_CHARACTERS: usize = 43;
/// How much of the secret part may be shown: enough to tell one's keys apart, too little to guess.
const SHOWN_CHARACTERS: usize = 4;

/// Which world a key belongs to; it is the first thing anybody sees of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// `sk_test_`: no real money.
    Test,
    /// `sk_live_`.
    Live,
}

impl Mode {
    /// What the keys of this mode begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Test => "sk_test_",
            Self::Live => "sk_live_",
        }
    }

    /// The mode of a key, or of the prefix shown of it.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        [Self::Test, Self::Live].into_iter().find(|mode| text.starts_with(mode.prefix()))
    }
}

/// A key in plain text: shown to its person once, kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The text is no key, whatever the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key")]
pub struct NotAnApiKey;

impl ApiKey {
    /// Prints 32 secret bytes as a key.
    #[must_use]
    pub fn from_secret(mode: Mode, secret: &[u8; SECRET_BYTES]) -> Self {
        Self(format!("{}{}", mode.prefix(), URL_SAFE_NO_PAD.encode(secret)))
    }

    /// Reads what [`ApiKey::from_secret`] prints, so that anything else costs no look-up.
    ///
    /// # Errors
    /// [`NotAnApiKey`] for another prefix, length or alphabet, padding, or unused bits that are set.
    pub fn parse(text: &str) -> Result<Self, NotAnApiKey> {
        let mode = Mode::of(text).ok_or(NotAnApiKey)?;
        let secret = text.strip_prefix(mode.prefix()).ok_or(NotAnApiKey)?;
        if secret.len() != SECRET_CHARACTERS {
            return Err(NotAnApiKey);
        }
        let bytes = URL_SAFE_NO_PAD.decode(secret).map_err(|_| NotAnApiKey)?;
        let bytes: [u8; SECRET_BYTES] = bytes.try_into().map_err(|_| NotAnApiKey)?;
        Ok(Self::from_secret(mode, &bytes))
    }

    /// What is stored instead of the key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.0.as_bytes()).into())
    }

    /// The part that lists and logs may show.
    #[must_use]
    pub fn prefix(&self) -> &str {
        let end = Mode::Test.prefix().len().saturating_add(SHOWN_CHARACTERS);
        self.0.get(..end).unwrap_or_default()
    }

    /// The key itself, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.prefix())
    }
}

/// SHA-256 of a whole key: all that is stored of it, and all that travels when it is checked.
///
/// Equality takes the same time wherever two digests differ.
#[derive(Debug, Clone, Copy, Eq)]
pub struct Digest(pub [u8; 32]);

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Balance, history, one transaction, deposit status.
    Read,
    /// Starting a deposit.
    Deposit,
    /// Sending money.
    Transfer,
}

impl Permission {
    /// All there are, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Read, Self::Deposit, Self::Transfer];

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 0b001,
            Self::Deposit => 0b010,
            Self::Transfer => 0b100,
        }
    }
}

/// One to three different permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u8);

/// No permission at all, or one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has one to three different permissions")]
pub struct PermissionsError;

impl Permissions {
    /// Checks a list.
    ///
    /// # Errors
    /// [`PermissionsError`] for an empty list or a repeat.
    pub fn try_new(list: &[Permission]) -> Result<Self, PermissionsError> {
        let mut bits = 0;
        for permission in list {
            if bits & permission.bit() != 0 {
                return Err(PermissionsError);
            }
            bits |= permission.bit();
        }
        Self::from_bits(i16::from(bits))
    }

    /// From what [`Permissions::bits`] gives.
    ///
    /// # Errors
    /// [`PermissionsError`] outside 1 … 7.
    pub fn from_bits(bits: i16) -> Result<Self, PermissionsError> {
        match u8::try_from(bits) {
            Ok(bits @ 1..=7) => Ok(Self(bits)),
            _ => Err(PermissionsError),
        }
    }

    /// As Postgres keeps them: read 1, deposit 2, transfer 4.
    #[must_use]
    pub const fn bits(self) -> i16 {
        // From u8, so it always fits; `i16::from` is not const.
        i16::from_le_bytes([self.0, 0])
    }

    /// Whether `permission` is among them.
    #[must_use]
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Those that are given, in the order of [`Permission::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |it| self.has(*it))
    }
}

/// What a person calls a key: 1–100 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// The text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to {NAME_CHARACTERS_MAX} characters, none of them a control character")]
pub struct NameError;

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, too long, or contains a control character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let n_characters = text.chars().count();
        let fits = (1..=NAME_CHARACTERS_MAX).contains(&n_characters);
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How long a key lives; exactly these four (contract, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// `1H`
    Hour,
    /// `1D`
    Day,
    /// `1M`, which is 30 days.
    Month,
    /// `1Y`, which is 365 days.
    Year,
}

impl Expiry {
    /// From creation to the end.
    #[must_use]
    pub const fn duration(self) -> Duration {
        match self {
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
            Self::Month => Duration::from_hours(24 * 30),
            Self::Year => Duration::from_hours(24 * 365),
        }
    }
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name in lists and in commands.
    pub id: KeyId,
    /// Whose wallet it acts on.
    pub user_id: UserId,
    /// What its person calls it.
    pub name: Name,
    /// The part of the key that may be shown.
    pub prefix: String,
    /// What is kept of the key itself.
    pub digest: Digest,
    /// What it may do.
    pub permissions: Permissions,
    /// Since when it is good.
    pub created_at: Timestamp,
    /// From when it is not good any more.
    pub expires_at: Timestamp,
    /// When its person ended it early.
    pub revoked_at: Option<Timestamp>,
    /// The key that took its place.
    pub rolled_over_to: Option<KeyId>,
    /// About when it was last found good; late by seconds, since it costs no write per use.
    pub last_used_at: Option<Timestamp>,
}

/// What a key is at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Good.
    Active,
    /// Its time is over.
    Expired,
    /// Its person ended it.
    Revoked,
    /// Its time is over and another key took its place.
    RolledOver,
}

/// What a good key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The key.
    pub key_id: KeyId,
    /// Whose wallet.
    pub user_id: UserId,
    /// Within which permissions.
    pub permissions: Permissions,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Why a key opens nothing, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// There is no such key.
    Unknown,
    /// Its person ended it.
    Revoked,
    /// Its time is over.
    Expired,
}

/// Why a command about keys is refused, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another request was made under the same request key.
    IdempotencyKeyReused,
    /// Nobody waits for it any more.
    DeadlineExceeded,
    /// There is no such key, or it is another person's.
    KeyNotFound,
    /// It was revoked, so nothing takes its place.
    KeyRevoked,
    /// Another key has taken its place already.
    KeyAlreadyRolledOver,
    /// It is still good.
    KeyNotExpired,
    /// The person has [`KEYS_ACTIVE_MAX`] good keys.
    KeyLimitReached,
    /// The key was made by an earlier copy of the command and its secret cannot be given again.
    KeyCannotBeShown,
}

impl Refusal {
    /// All there are, in order of precedence.
    pub const ALL: [Self; 8] = [
        Self::IdempotencyKeyReused,
        Self::DeadlineExceeded,
        Self::KeyNotFound,
        Self::KeyRevoked,
        Self::KeyAlreadyRolledOver,
        Self::KeyNotExpired,
        Self::KeyLimitReached,
        Self::KeyCannotBeShown,
    ];

    /// As it is kept and counted; never changed.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::KeyNotFound => "key_not_found",
            Self::KeyRevoked => "key_revoked",
            Self::KeyAlreadyRolledOver => "key_already_rolled_over",
            Self::KeyNotExpired => "key_not_expired",
            Self::KeyLimitReached => "key_limit_reached",
            Self::KeyCannotBeShown => "key_cannot_be_shown",
        }
    }

    /// Reads what [`Refusal::code`] gives.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }
}

impl Key {
    /// What the key is at `now`. Revoked hides everything else, so that nobody wonders whether a
    /// key that was rolled over still needs revoking.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        if self.revoked_at.is_some() {
            Status::Revoked
        } else if self.rolled_over_to.is_some() {
            Status::RolledOver
        } else if self.expires_at <= now {
            Status::Expired
        } else {
            Status::Active
        }
    }
}

/// Decides whether the key that was found under a digest opens anything.
///
/// # Errors
/// A [`Denial`], when it does not.
pub fn check(found: Option<&Key>, presented: Digest, now: Timestamp) -> Result<Grant, Denial> {
    let key = found.filter(|key| key.digest == presented).ok_or(Denial::Unknown)?;
    match key.status(now) {
        Status::Active => Ok(Grant {
            key_id: key.id,
            user_id: key.user_id,
            permissions: key.permissions,
            expires_at: key.expires_at,
        }),
        Status::Revoked => Err(Denial::Revoked),
        Status::Expired | Status::RolledOver => Err(Denial::Expired),
    }
}

/// Decides whether a person with `n_active` good keys gets one more.
///
/// # Errors
/// [`Refusal::KeyLimitReached`].
pub const fn may_create(n_active: u32) -> Result<(), Refusal> {
    if n_active < KEYS_ACTIVE_MAX { Ok(()) } else { Err(Refusal::KeyLimitReached) }
}

/// Decides whether a new key may take the place of `old`: only of one that has expired, was not
/// revoked, and has no successor yet.
///
/// # Errors
/// The first [`Refusal`] in order of precedence.
pub fn may_roll_over(old: &Key, n_active: u32, now: Timestamp) -> Result<(), Refusal> {
    match old.status(now) {
        Status::Revoked => Err(Refusal::KeyRevoked),
        Status::RolledOver => Err(Refusal::KeyAlreadyRolledOver),
        Status::Active => Err(Refusal::KeyNotExpired),
        Status::Expired => may_create(n_active),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_prints_its_prefix_and_nothing_more() {
        let key = ApiKey::from_secret(Mode::Test, &[0xA5; 32]);
        assert_eq!(key.expose().len(), 51);
        assert_eq!(key.prefix(), "sk_test_paWl");
        assert_eq!(format!("{key:?}"), "sk_test_paWl…");
        // printf %s "$key" | sha256sum
        assert_eq!(key.digest(), Digest(Sha256::digest(key.expose()).into()));
    }

    #[test]
    fn bits_are_what_postgres_keeps() {
        assert_eq!(Permissions::try_new(&[Permission::Read]).unwrap().bits(), 1);
        assert_eq!(Permissions::try_new(&[Permission::Deposit]).unwrap().bits(), 2);
        assert_eq!(Permissions::try_new(&Permission::ALL).unwrap().bits(), 7);
        for bad in [-1, 0, 8, 256, i16::MAX] {
            assert_eq!(Permissions::from_bits(bad), Err(PermissionsError), "{bad}");
        }
    }

    #[test]
    fn codes_are_read_back() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
        }
        assert_eq!(Refusal::from_code("no"), None);
    }
}
