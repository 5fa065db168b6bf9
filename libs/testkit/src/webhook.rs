//! What Paystack would sign.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

/// The `x-paystack-signature` of a body: HMAC-SHA512 over its bytes, in hex.
///
/// # Panics
/// Never: HMAC takes a key of any length.
#[must_use]
pub fn paystack_signature(secret_key: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha512>::new_from_slice(secret_key.as_bytes()).expect("any length is good");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_rfc_4231_does() {
        let signature = paystack_signature("Jefe", b"what do ya want for nothing?");
        assert_eq!(
            signature,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
    }
}
