//! The rules of our own tokens, as tables.

use super::*;

/// 32 random bytes each, drawn once for these tests.
const FIRST: &str = "Jm1sCqk2uVb0zq3m8yB4cXo7e5T9hWnR6fLdPaGvKxE=";
const SECOND: &str = "4nYw0pZr8sQh2tXv6kMb1jLc9dFg3aUe5iOq7oRyTzA";
/// The example of RFC 8410, section 10.3: known to everybody, so only for tests.
const ED25519: &str = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
const ORIGIN: &str = "https://wallet.test";

fn now() -> Timestamp {
    Timestamp::from_seconds(1_768_468_464)
}

fn tokens(algorithm: Algorithm, keys: &str) -> AccessTokens {
    let keyring = Keyring::parse(algorithm, keys).unwrap();
    AccessTokens::new(keyring, ORIGIN, Duration::from_mins(30))
}

fn access(tokens: &AccessTokens) -> Access {
    tokens.access(UserId::generate(), SessionId::generate(), Uuid::from_u128(7), now())
}

#[test]
fn a_token_is_believed_until_it_expires() {
    for (algorithm, key) in [(Algorithm::Hs256, FIRST), (Algorithm::EdDsa, ED25519)] {
        let tokens = tokens(algorithm, &format!("k1:{key}"));
        let said = access(&tokens);
        let token = tokens.mint(&said).unwrap();
        assert_eq!(tokens.check(&token, now()), Ok(said));
        let last = said.expires_at.minus(Duration::from_micros(1));
        assert_eq!(tokens.check(&token, last), Ok(said));
        assert_eq!(tokens.check(&token, said.expires_at), Err(TokenRefusal::Expired));
        let behind = |seconds| now().minus(Duration::from_secs(seconds));
        assert_eq!(tokens.check(&token, behind(60)), Ok(said), "clocks differ");
        assert_eq!(tokens.check(&token, behind(61)), Err(TokenRefusal::Invalid), "not that much");
    }
}

#[test]
fn keys_rotate_without_signing_anyone_out() {
    let old = tokens(Algorithm::Hs256, &format!("k1:{FIRST}"));
    let said = access(&old);
    let token = old.mint(&said).unwrap();

    let both = tokens(Algorithm::Hs256, &format!("k2:{SECOND},k1:{FIRST}"));
    assert_eq!(both.check(&token, now()), Ok(said), "the old key still verifies");
    let fresh = both.mint(&said).unwrap();
    let new = tokens(Algorithm::Hs256, &format!("k2:{SECOND}"));
    assert_eq!(new.check(&fresh, now()), Ok(said), "the first key signs");
    assert_eq!(new.check(&token, now()), Err(TokenRefusal::Invalid), "a dropped key is dropped");

    // The algorithm rotates the same way.
    let mixed = tokens(Algorithm::EdDsa, &format!("k3:{ED25519},k1:HS256:{FIRST}"));
    assert_eq!(mixed.check(&token, now()), Ok(said));
    let signed = mixed.mint(&said).unwrap();
    assert_eq!(jsonwebtoken::decode_header(&signed).unwrap().alg, jsonwebtoken::Algorithm::EdDSA,);
}

/// A token with any header and claims, signed by `key` as HS256 whatever the header says.
fn forged(header: &serde_json::Value, claims: &serde_json::Value, key: Option<&[u8]>) -> String {
    let part = |it: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(it.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let signature = key.map_or_else(String::new, |key| {
        BASE64_URL_SAFE_NO_PAD.encode(keyed_digest(key, text.as_bytes()))
    });
    format!("{text}.{signature}")
}

fn claims() -> serde_json::Value {
    serde_json::json!({
        "iss": ORIGIN, "aud": ORIGIN, "sub": UserId::generate().to_string(),
        "sid": SessionId::generate().to_string(), "jti": Uuid::from_u128(7).to_string(),
        "iat": now().seconds(), "exp": now().seconds() + 60,
    })
}

#[test]
fn nothing_forged_is_believed() {
    let tokens = tokens(Algorithm::Hs256, &format!("k1:{FIRST},e1:EdDSA:{ED25519}"));
    let secret = read_base64(FIRST).unwrap();
    let header = serde_json::json!({"alg": "HS256", "kid": "k1"});
    let good = forged(&header, &claims(), Some(&secret));
    assert!(tokens.check(&good, now()).is_ok(), "the forger's tool works");

    let (_, (_, public)) = tokens.keyring.verifying.iter().next().unwrap();
    let public = public.try_get_as_bytes().unwrap().to_vec();
    let headers = [
        ("alg none", serde_json::json!({"alg": "none", "kid": "k1"}), None),
        ("alg none, signed", serde_json::json!({"alg": "none", "kid": "k1"}), Some(&secret)),
        ("no kid", serde_json::json!({"alg": "HS256"}), Some(&secret)),
        ("unknown kid", serde_json::json!({"alg": "HS256", "kid": "k9"}), Some(&secret)),
        ("another HMAC", serde_json::json!({"alg": "HS512", "kid": "k1"}), Some(&secret)),
        (
            "the public key as a secret",
            serde_json::json!({"alg": "HS256", "kid": "e1"}),
            Some(&public),
        ),
        (
            "another kid's algorithm",
            serde_json::json!({"alg": "EdDSA", "kid": "k1"}),
            Some(&secret),
        ),
        ("no signature", header.clone(), None),
        ("another key", header.clone(), Some(&vec![1_u8; 32])),
    ];
    for (what, header, key) in headers {
        let token = forged(&header, &claims(), key.map(Vec::as_slice));
        assert_eq!(tokens.check(&token, now()), Err(TokenRefusal::Invalid), "{what}");
    }
    for (field, value) in [
        ("iss", serde_json::json!("https://elsewhere.test")),
        ("aud", serde_json::json!("https://elsewhere.test")),
        ("aud", serde_json::json!([ORIGIN, "https://elsewhere.test"])),
        ("sub", serde_json::json!("key_0192f0c1e6b87c3a9d2e4f5061728394")),
        ("sid", serde_json::json!("")),
        ("exp", serde_json::json!("soon")),
        ("exp", serde_json::json!(null)),
        ("jti", serde_json::json!(null)),
    ] {
        let mut changed = claims();
        changed[field] = value.clone();
        let token = forged(&header, &changed, Some(&secret));
        assert_eq!(tokens.check(&token, now()), Err(TokenRefusal::Invalid), "{field} = {value}");
    }
    for text in ["", ".", "..", "a.b.c", "Bearer x", &"x".repeat(5_000)] {
        assert_eq!(tokens.check(text, now()), Err(TokenRefusal::Invalid), "{text}");
    }
}

#[test]
fn an_expired_forgery_is_invalid_not_expired() {
    let tokens = tokens(Algorithm::Hs256, &format!("k1:{FIRST}"));
    let mut old = claims();
    old["exp"] = serde_json::json!(1);
    let header = serde_json::json!({"alg": "HS256", "kid": "k1"});
    let forged = forged(&header, &old, Some(&[1; 32]));
    assert_eq!(tokens.check(&forged, now()), Err(TokenRefusal::Invalid));
}

#[test]
fn unusable_keys_are_refused_with_a_reason() {
    let kid = || "k1".to_owned();
    let default = BASE64_STANDARD.encode("your-256-bit-secret-your-256-bit-secret");
    let alike = BASE64_STANDARD.encode([b'a'; 40]);
    let short = BASE64_STANDARD.encode(&read_base64(FIRST).unwrap()[..31]);
    for (keys, expected) in [
        (String::new(), KeyringError::Missing),
        (" , ".to_owned(), KeyringError::Missing),
        (FIRST.to_owned(), KeyringError::Shape { number: 1 }),
        (format!("k1:{FIRST},:{SECOND}"), KeyringError::Shape { number: 2 }),
        (format!("k 1:{FIRST}"), KeyringError::Shape { number: 1 }),
        (format!("k1:none:{FIRST}"), KeyringError::Shape { number: 1 }),
        (format!("k1:{FIRST},k1:{SECOND}"), KeyringError::Repeated { kid: kid() }),
        ("k1:ünïcödé, not base64".to_owned(), KeyringError::NotBase64 { kid: kid() }),
        (format!("k1:{short}"), KeyringError::Short { kid: kid() }),
        (format!("k1:{default}"), KeyringError::KnownDefault { kid: kid() }),
        (format!("k1:{alike}"), KeyringError::KnownDefault { kid: kid() }),
        (
            "k1:change-me-in-production-0123456789abcdef".to_owned(),
            KeyringError::KnownDefault { kid: kid() },
        ),
        (format!("k1:EdDSA:{FIRST}"), KeyringError::NotEd25519 { kid: kid() }),
    ] {
        let refused = Keyring::parse(Algorithm::Hs256, &keys).unwrap_err();
        assert_eq!(refused, expected, "{keys}");
        assert!(!refused.to_string().contains(FIRST), "an error never shows a secret");
    }
}

#[test]
fn an_ed25519_key_may_be_pem_with_spelled_line_breaks() {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{ED25519}\n-----END PRIVATE KEY-----\n");
    for text in [pem.clone(), pem.replace('\n', "\\n")] {
        assert!(Keyring::parse(Algorithm::EdDsa, &format!("e1:{text}")).is_ok(), "{text}");
    }
}

#[test]
fn purposes_and_keys_derive_different_secrets() {
    let ring = Keyring::parse(Algorithm::Hs256, &format!("k2:{SECOND},k1:{FIRST}")).unwrap();
    let (a, b) = (ring.derive("a"), ring.derive("b"));
    assert_eq!(a.len(), 2);
    assert!(a[0] != a[1] && a[0] != b[0]);
    let first = Keyring::parse(Algorithm::Hs256, &format!("k1:{FIRST}")).unwrap();
    assert_eq!(first.derive("a")[0], a[1], "what the older key made can still be checked");
}

#[test]
fn a_refresh_token_reads_back_and_hides_itself() {
    let token = RefreshToken::from_random([9; 32]);
    assert_eq!(RefreshToken::parse(&token.expose()), Some(token.clone()));
    assert_eq!(format!("{token:?}"), "RefreshToken(***)");
    assert_ne!(token.digest(), [9; 32]);
    let text = token.expose();
    for bad in ["", "rt_", &text[3..], &text[..text.len() - 1], &format!("{text}A"), "rt_ü"] {
        assert_eq!(RefreshToken::parse(bad), None, "{bad}");
    }
}

#[test]
fn nothing_printed_shows_a_key() {
    let tokens = tokens(Algorithm::Hs256, &format!("k1:{FIRST}"));
    let printed = format!("{tokens:?}");
    assert!(printed.contains("k1") && !printed.contains(FIRST), "{printed}");
}
