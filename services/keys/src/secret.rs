//! Where the secret part of a key comes from: random bytes, or the request that asked for it.
//!
//! Contract, section 4: the same `Idempotency-Key` gives the same answer for ever, and the answer to
//! a new key contains the key; yet only a digest of it is stored (section 3). Both hold when the
//! secret of a key that was asked for under a request key is a keyed digest of that request:
//! whoever holds `KEYS_SECRET` can compute it again, and the database alone tells nothing.

use chassis::Secret;
use hmac::{Hmac, KeyInit, Mac};
use primitives::{KeyId, RequestKey};
use sha2::Sha256;

use crate::key::{ApiKey, Digest, Mode, SECRET_BYTES};

/// Says what is computed, so that no other use of the same secret can give the same bytes.
const PURPOSE: &[u8] = b"key secret v1";
/// The shortest `KEYS_SECRET`: as many bytes as a key has.
pub(crate) const KEYS_SECRET_BYTES_MIN: usize = 32;

/// `KEYS_SECRET`, and the one before it while answers made under it may still be asked for again.
#[derive(Debug, Clone)]
pub(crate) struct Derivation {
    pub(crate) current: Secret,
    pub(crate) previous: Option<Secret>,
}

impl Derivation {
    /// The key that is made when `request` asks for `key_id` the first time.
    pub(crate) fn first(&self, mode: Mode, request: &RequestKey, key_id: KeyId) -> ApiKey {
        derive(&self.current, mode, request, key_id)
    }

    /// The same key once more, if a secret that is still known gives the stored `digest`.
    pub(crate) fn again(
        &self,
        mode: Mode,
        request: &RequestKey,
        key_id: KeyId,
        digest: Digest,
    ) -> Option<ApiKey> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|secret| derive(secret, mode, request, key_id))
            .find(|key| key.digest() == digest)
    }
}

/// HMAC-SHA256 over parts of fixed length, so no two requests give the same input.
fn derive(secret: &Secret, mode: Mode, request: &RequestKey, key_id: KeyId) -> ApiKey {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
    mac.update(PURPOSE);
    mac.update(&request.0);
    mac.update(key_id.uuid().as_bytes());
    let bytes: [u8; SECRET_BYTES] = mac.finalize().into_bytes().into();
    ApiKey::from_secret(mode, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derivation(current: &str, previous: Option<&str>) -> Derivation {
        Derivation {
            current: current.parse().unwrap(),
            previous: previous.map(|it| it.parse().unwrap()),
        }
    }

    #[test]
    fn the_same_request_gives_the_same_key_while_its_secret_is_known() {
        let old = "an old secret that is long enough to be one";
        let new = "a new secret that is long enough to be one!";
        let (request, id) = (RequestKey([7; 32]), KeyId::generate());
        let key = derivation(old, None).first(Mode::Test, &request, id);
        let again = |current, previous| {
            derivation(current, previous).again(Mode::Test, &request, id, key.digest())
        };

        assert_eq!(again(old, None), Some(key.clone()));
        assert_eq!(again(new, Some(old)), Some(key.clone()));
        assert_eq!(again(new, None), None);
    }

    #[test]
    fn every_part_of_the_request_counts() {
        let it = derivation("a secret that is long enough to be one.", None);
        let (request, id) = (RequestKey([7; 32]), KeyId::generate());
        let key = it.first(Mode::Test, &request, id);
        assert_ne!(it.first(Mode::Test, &RequestKey([8; 32]), id), key);
        assert_ne!(it.first(Mode::Test, &request, KeyId::generate()), key);
        assert_ne!(it.first(Mode::Live, &request, id), key);
    }
}
