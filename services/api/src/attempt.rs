//! What the browser keeps between leaving for the OpenID provider and coming back: one signed cookie.
//!
//! Pure: time and random bytes are arguments. The cookie binds `state`, `nonce` and the PKCE
//! verifier to the browser that began, so that a `state` alone, stolen or sent by somebody else,
//! opens nothing. That it works only once is the database's part (`api.burnt_states`).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use primitives::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::session::keyed_digest;

/// How long a person may take at the provider.
pub const ATTEMPT_LIFETIME: Duration = Duration::from_mins(10);
/// What [`crate::session::Keyring::derive`] is asked for.
pub const PURPOSE: &str = "sign-in attempt cookie v1";

/// One sign-in on its way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attempt {
    /// Comes back in the redirect.
    pub state: String,
    /// Comes back inside the ID token.
    pub nonce: String,
    /// Proves to the token endpoint that the code is ours (RFC 7636); 43 characters.
    pub verifier: String,
    /// Where the person goes afterwards; an address of an allowed origin.
    pub return_to: Option<String>,
    /// Microseconds since 1970.
    expires_at_us: i64,
}

impl Attempt {
    /// An attempt made of 96 random bytes.
    #[must_use]
    pub fn from_random(bytes: &[[u8; 32]; 3], return_to: Option<String>, now: Timestamp) -> Self {
        let [state, nonce, verifier] = bytes.map(|it| BASE64_URL_SAFE_NO_PAD.encode(it));
        let expires_at_us = now.plus(ATTEMPT_LIFETIME).micros();
        Self { state, nonce, verifier, return_to, expires_at_us }
    }

    /// When the attempt is over.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros(self.expires_at_us)
    }

    /// The PKCE challenge (S256) of the verifier.
    #[must_use]
    pub fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }

    /// What is remembered of the state once it was used.
    #[must_use]
    pub fn state_digest(&self) -> [u8; 32] {
        Sha256::digest(self.state.as_bytes()).into()
    }

    /// Whether this is the state the browser left with; in constant time.
    #[must_use]
    pub fn is_state(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// The cookie's value, signed by the first of `keys`.
    #[must_use]
    pub fn seal(&self, keys: &[[u8; 32]]) -> String {
        // A struct of strings and numbers always has a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_else(|_| unreachable!("plain fields"));
        let body = BASE64_URL_SAFE_NO_PAD.encode(json);
        let key = keys.first().unwrap_or_else(|| unreachable!("a keyring is never empty"));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(keyed_digest(key, body.as_bytes()));
        format!("{body}.{signature}")
    }

    /// Reads a cookie's value that one of `keys` signed and that is not over; `None` otherwise.
    #[must_use]
    pub fn open(value: &str, keys: &[[u8; 32]], now: Timestamp) -> Option<Self> {
        let (body, signature) = value.split_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?; // Not ours, whatever it is.
        let ours = |key: &[u8; 32]| -> bool {
            keyed_digest(key, body.as_bytes()).ct_eq(signature.as_slice()).into()
        };
        if !keys.iter().any(ours) {
            return None;
        }
        let json = BASE64_URL_SAFE_NO_PAD.decode(body).ok()?; // Signed, so this cannot fail.
        let attempt: Self = serde_json::from_slice(&json).ok()?; // Nor this, within one release.
        (now < attempt.expires_at()).then_some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [[u8; 32]; 2] = [[7; 32], [8; 32]];

    fn attempt() -> Attempt {
        Attempt::from_random(&[[1; 32], [2; 32], [3; 32]], None, Timestamp::from_seconds(1_000))
    }

    #[test]
    fn a_cookie_opens_with_every_key_of_the_ring_until_it_is_over() {
        let now = Timestamp::from_seconds(1_000);
        let sealed = attempt().seal(&KEYS[1..]);
        assert_eq!(Attempt::open(&sealed, &KEYS, now), Some(attempt()));
        assert_eq!(Attempt::open(&sealed, &KEYS[..1], now), None, "another key");
        assert_eq!(Attempt::open(&sealed, &KEYS, now.plus(ATTEMPT_LIFETIME)), None, "too late");
    }

    #[test]
    fn a_changed_cookie_does_not_open() {
        let now = Timestamp::from_seconds(1_000);
        let sealed = attempt().seal(&KEYS);
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of an unpadded body carries bits that mean nothing; the decoder
            // refuses them, so even that change is noticed.
            assert_eq!(Attempt::open(&changed, &KEYS, now), None, "byte {at}");
        }
        for bad in ["", ".", "a.b", "e30"] {
            assert_eq!(Attempt::open(bad, &KEYS, now), None, "{bad}");
        }
    }

    #[test]
    fn the_challenge_is_the_one_of_rfc_7636() {
        let mut attempt = attempt();
        attempt.verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        assert_eq!(attempt.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_state_is_compared_whole() {
        let attempt = attempt();
        assert!(attempt.is_state(&attempt.state.clone()));
        assert!(!attempt.is_state(&attempt.state[1..]));
        assert!(!attempt.is_state(""));
    }
}
