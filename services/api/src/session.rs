//! Our own tokens, as values: what is signed, what is believed, what is kept of a refresh token.
//!
//! Pure: time, ids and random bytes are arguments, and nothing is looked up. Whether the session
//! behind a good access token still lives is asked elsewhere (`rest/caller.rs`).
//!
//! The algorithm of a token is the one configured for the key its `kid` names; the header's own
//! word on it only has to agree. So neither `none` nor a public key used as a secret gets through.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use primitives::{SessionId, Timestamp, UserId};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Fewest bytes of an HS256 secret: as many as its digest has (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Fewest different bytes in a secret: 32 random bytes have fewer once in about 10^27 draws.
const SECRET_DISTINCT_BYTES_MIN: usize = 16;
/// Longest access token that is looked at; ours are a third of it.
const ACCESS_TOKEN_BYTES_MAX: usize = 2_048;
/// How far another replica's clock may be ahead of ours.
const ISSUED_AHEAD_MAX: Duration = Duration::from_mins(1);
/// What secrets from tutorials and templates contain, in lower case.
const KNOWN_DEFAULTS: &[&str] =
    &["secret", "change", "password", "default", "example", "insecure", "replace", "1234567890"];

/// How access tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    Hs256,
    /// Ed25519: a private key signs.
    EdDsa,
}

impl Algorithm {
    const fn jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "HS256" => Ok(Self::Hs256),
            "EdDSA" => Ok(Self::EdDsa),
            _ => Err("the algorithm is HS256 or EdDSA".to_owned()),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
        })
    }
}

/// Why a list of signing keys cannot be used. Names the key, never its material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Nothing was given.
    #[error("no signing key is set")]
    Missing,
    /// Not `kid:material` or `kid:algorithm:material`.
    #[error(
        "signing key number {number} is not written as kid:material, \
         with 1 to 32 letters, digits, '.', '_' or '-' as its kid"
    )]
    Shape {
        /// Its place in the list, from 1.
        number: usize,
    },
    /// Two keys under one name.
    #[error("signing key {kid} is given twice")]
    Repeated {
        /// Its name.
        kid: String,
    },
    /// The material is not base64.
    #[error("the secret of signing key {kid} is not base64")]
    NotBase64 {
        /// Its name.
        kid: String,
    },
    /// Too few bytes.
    #[error("the secret of signing key {kid} is shorter than {SECRET_BYTES_MIN} bytes")]
    Short {
        /// Its name.
        kid: String,
    },
    /// Somebody's default, or not random at all.
    #[error("the secret of signing key {kid} is a known default or not random")]
    KnownDefault {
        /// Its name.
        kid: String,
    },
    /// Not an Ed25519 private key.
    #[error("signing key {kid} is not an Ed25519 private key (PKCS#8, as PEM or base64)")]
    NotEd25519 {
        /// Its name.
        kid: String,
    },
}

/// The keys that sign access tokens: the first signs, all of them verify.
///
/// So a key is rotated by putting a new one in front, and dropped when the last token it signed has
/// expired; nobody is signed out.
pub struct Keyring {
    signing: (String, Algorithm, EncodingKey),
    verifying: BTreeMap<String, (Algorithm, DecodingKey)>,
    /// Key material in order, for [`Keyring::derive`].
    material: Vec<Vec<u8>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("kids", &self.verifying.keys()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads `kid:material,kid:material,…`; `kid:EdDSA:material` overrides `algorithm` for one key,
    /// so that the algorithm itself can be rotated.
    ///
    /// # Errors
    /// [`KeyringError`] says which key is wrong, and how.
    pub fn parse(algorithm: Algorithm, text: &str) -> Result<Self, KeyringError> {
        let mut signing = None;
        let mut verifying = BTreeMap::new();
        let mut material = Vec::new();
        let entries = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        for (place, entry) in entries.enumerate() {
            let shape = KeyringError::Shape { number: place.saturating_add(1) };
            let (kid, algorithm, text) = split_entry(entry, algorithm).ok_or(shape)?;
            let (bytes, sign, verify) = match algorithm {
                Algorithm::Hs256 => read_secret(kid, text)?,
                Algorithm::EdDsa => read_ed25519(kid, text)?,
            };
            if verifying.insert(kid.to_owned(), (algorithm, verify)).is_some() {
                return Err(KeyringError::Repeated { kid: kid.to_owned() });
            }
            signing.get_or_insert_with(|| (kid.to_owned(), algorithm, sign));
            material.push(bytes);
        }
        let signing = signing.ok_or(KeyringError::Missing)?;
        Ok(Self { signing, verifying, material })
    }

    /// One secret per signing key for another `purpose`, in the same order: the first is for
    /// making, all are for checking.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Vec<[u8; 32]> {
        self.material.iter().map(|it| keyed_digest(it, purpose.as_bytes())).collect()
    }
}

/// HMAC-SHA256.
#[must_use]
pub fn keyed_digest(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC takes keys of every length, so the empty-key fallback is never reached.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any key"));
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn split_entry(entry: &str, default: Algorithm) -> Option<(&str, Algorithm, &str)> {
    let (kid, rest) = entry.split_once(':')?;
    let sane = (1..=32).contains(&kid.len())
        && kid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let (algorithm, text) = match rest.split_once(':') {
        Some((name, text)) => (name.parse().ok()?, text),
        None => (default, rest),
    };
    (sane && !text.is_empty()).then_some((kid, algorithm, text))
}

type KeyMaterial = (Vec<u8>, EncodingKey, DecodingKey);

fn read_secret(kid: &str, text: &str) -> Result<KeyMaterial, KeyringError> {
    let kid = || kid.to_owned();
    if looks_like_a_default(text.as_bytes()) {
        return Err(KeyringError::KnownDefault { kid: kid() });
    }
    let bytes = read_base64(text).ok_or_else(|| KeyringError::NotBase64 { kid: kid() })?;
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(KeyringError::Short { kid: kid() });
    }
    let distinct: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
    if distinct.len() < SECRET_DISTINCT_BYTES_MIN || looks_like_a_default(&bytes) {
        return Err(KeyringError::KnownDefault { kid: kid() });
    }
    let keys = (EncodingKey::from_secret(&bytes), DecodingKey::from_secret(&bytes));
    Ok((bytes, keys.0, keys.1))
}

fn read_ed25519(kid: &str, text: &str) -> Result<KeyMaterial, KeyringError> {
    let wrong = || KeyringError::NotEd25519 { kid: kid.to_owned() };
    let sign = if text.starts_with("-----BEGIN") {
        // Environment files often spell line breaks as a backslash and an n.
        EncodingKey::from_ed_pem(text.replace("\\n", "\n").as_bytes()).map_err(|_| wrong())?
    } else {
        EncodingKey::from_ed_der(&read_base64(text).ok_or_else(wrong)?)
    };
    let public = Jwk::from_encoding_key(&sign, Algorithm::EdDsa.jwt()).map_err(|_| wrong())?;
    let verify = DecodingKey::from_jwk(&public).map_err(|_| wrong())?;
    Ok((sign.as_bytes().to_vec(), sign, verify))
}

fn read_base64(text: &str) -> Option<Vec<u8>> {
    let unpadded = text.trim_end_matches('=');
    BASE64_STANDARD
        .decode(text)
        .or_else(|_| BASE64_STANDARD_NO_PAD.decode(unpadded))
        .or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(unpadded))
        .ok() // Which of the three spellings came closest helps nobody.
}

fn looks_like_a_default(bytes: &[u8]) -> bool {
    let lower = bytes.to_ascii_lowercase();
    KNOWN_DEFAULTS.iter().any(|it| lower.windows(it.len()).any(|part| part == it.as_bytes()))
}

/// What an access token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Who.
    pub user: UserId,
    /// By which sign-in.
    pub session: SessionId,
    /// The token's own id.
    pub token_id: Uuid,
    /// Since when; whole seconds, as JWTs count.
    pub issued_at: Timestamp,
    /// Until when; whole seconds.
    pub expires_at: Timestamp,
}

/// Why an access token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefusal {
    /// Not ours, changed on the way, or meant for somebody else.
    Invalid,
    /// Ours and whole, but its time is over.
    Expired,
}

/// Signing broke, which a key that was read cannot cause.
#[derive(Debug, thiserror::Error)]
#[error("failed to sign an access token")]
pub struct SignError(#[source] jsonwebtoken::errors::Error);

#[derive(serde::Serialize, serde::Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    exp: i64,
    iat: i64,
    jti: String,
    sid: String,
}

/// Mints and checks access tokens of one issuer for one audience.
#[derive(Debug)]
pub struct AccessTokens {
    keyring: Keyring,
    /// Both `iss` and `aud`: this platform's tokens are for this platform.
    origin: String,
    lifetime: Duration,
}

impl AccessTokens {
    /// Tokens signed by `keyring` for `origin`, each good for `lifetime`.
    #[must_use]
    pub fn new(keyring: Keyring, origin: &str, lifetime: Duration) -> Self {
        Self { keyring, origin: origin.trim_end_matches('/').to_owned(), lifetime }
    }

    /// How long a token is good for.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// What a token minted at `now` will say.
    #[must_use]
    pub fn access(
        &self,
        user: UserId,
        session: SessionId,
        token_id: Uuid,
        now: Timestamp,
    ) -> Access {
        let issued_at = Timestamp::from_seconds(now.seconds());
        Access { user, session, token_id, issued_at, expires_at: issued_at.plus(self.lifetime) }
    }

    /// Signs with the first key.
    ///
    /// # Errors
    /// [`SignError`] if the cryptography itself breaks.
    pub fn mint(&self, access: &Access) -> Result<String, SignError> {
        let (kid, algorithm, key) = &self.keyring.signing;
        let mut header = Header::new(algorithm.jwt());
        header.kid = Some(kid.clone());
        let claims = Claims {
            iss: self.origin.clone(),
            aud: self.origin.clone(),
            sub: access.user.to_string(),
            exp: access.expires_at.seconds(),
            iat: access.issued_at.seconds(),
            jti: access.token_id.to_string(),
            sid: access.session.to_string(),
        };
        jsonwebtoken::encode(&header, &claims, key).map_err(SignError)
    }

    /// Believes a token, or says why not. An expired token is told apart only once its signature
    /// is good, so that nobody learns anything from one that was made up.
    ///
    /// # Errors
    /// [`TokenRefusal`].
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Access, TokenRefusal> {
        let claims = self.verified(token).ok_or(TokenRefusal::Invalid)?;
        let access = Access {
            user: UserId::parse(&claims.sub).map_err(|_| TokenRefusal::Invalid)?,
            session: SessionId::parse(&claims.sid).map_err(|_| TokenRefusal::Invalid)?,
            token_id: Uuid::try_parse(&claims.jti).map_err(|_| TokenRefusal::Invalid)?,
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
        };
        if access.issued_at > now.plus(ISSUED_AHEAD_MAX) {
            return Err(TokenRefusal::Invalid);
        }
        if now < access.expires_at { Ok(access) } else { Err(TokenRefusal::Expired) }
    }

    fn verified(&self, token: &str) -> Option<Claims> {
        if token.len() > ACCESS_TOKEN_BYTES_MAX {
            return None;
        }
        let kid = jsonwebtoken::decode_header(token).ok()?.kid?; // Unreadable is simply not ours.
        let (algorithm, key) = self.keyring.verifying.get(&kid)?;
        let mut validation = Validation::new(algorithm.jwt());
        // The library reads the clock for `exp`; here time is an argument, so `check` compares.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).ok()?.claims;
        (claims.iss == self.origin && claims.aud == self.origin).then_some(claims)
    }
}

/// A refresh token: 32 random bytes. Only their digest is ever stored.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken([u8; 32]);

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(***)")
    }
}

impl RefreshToken {
    /// What a printed token begins with, so that people and scanners know what they found.
    const PREFIX: &'static str = "rt_";

    /// A token of these random bytes.
    #[must_use]
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads what [`RefreshToken::expose`] prints; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(Self::PREFIX)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(body).ok()?; // Not base64: not a token of ours.
        bytes.try_into().map(Self).ok()
    }

    /// The token as its person gets it, once.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}{}", Self::PREFIX, BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }

    /// What is stored.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

#[cfg(test)]
mod tests;
