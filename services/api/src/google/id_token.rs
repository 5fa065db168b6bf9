//! What an ID token must say before anybody is believed (OpenID Connect Core 1.0, section 3.1.3.7).
//!
//! Pure: the key, the expectations and the time are arguments. RS256 is pinned here; the token's
//! header only has to agree.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use primitives::Timestamp;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

/// How far the provider's clock may be from ours.
const LEEWAY: Duration = Duration::from_mins(1);
/// Longest ID token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest subject (OpenID Connect Core 1.0, section 2).
const SUBJECT_CHARS_MAX: usize = 255;
/// Longest e-mail address that is kept (RFC 5321).
const EMAIL_CHARS_MAX: usize = 320;
/// Longest name that is kept; longer ones are cut.
const NAME_CHARS_MAX: usize = 200;

/// What is wrong with an ID token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a JWT with the claims every ID token has.
    #[error("it is not an ID token")]
    Shape,
    /// Signed in another way than RS256, or not at all.
    #[error("it is not signed with RS256")]
    Algorithm,
    /// Signed with a key that the provider does not publish.
    #[error("its key is unknown")]
    UnknownKey,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// By somebody else.
    #[error("its issuer is another one")]
    Issuer,
    /// For somebody else.
    #[error("its audience is another one")]
    Audience,
    /// Its time is over, or has not come.
    #[error("it is expired or from the future")]
    Time,
    /// Of another sign-in.
    #[error("its nonce is another one")]
    Nonce,
    /// No usable subject.
    #[error("its subject is not 1 to 255 ASCII characters")]
    Subject,
}

/// What the provider says about a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Never changes and never belongs to somebody else; with the issuer, the key of the account.
    pub subject: String,
    /// Only if the provider verified it. Not a key of anything.
    pub email: Option<String>,
    /// As the person likes to be called.
    pub name: Option<String>,
}

/// What the token is compared with.
pub(super) struct Expected<'a> {
    /// Any of these.
    pub(super) issuers: &'a [&'a str],
    /// Our client id.
    pub(super) client_id: &'a str,
    /// Of this browser's attempt, if there was one.
    pub(super) nonce: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// The standard has `true`; some providers say `"true"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Truth {
    Plain(bool),
    Spelled(String),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    email: Option<String>,
    email_verified: Option<Truth>,
    name: Option<String>,
}

/// A key of the provider's set that can verify RS256, with its id; others are passed over.
pub(super) fn usable_key(key: serde_json::Value) -> Option<(String, DecodingKey)> {
    #[derive(Deserialize)]
    struct Key {
        kty: String,
        kid: String,
        #[serde(rename = "use")]
        used_for: Option<String>,
        alg: Option<String>,
        n: String,
        e: String,
    }
    let key: Key = serde_json::from_value(key).ok()?; // Of another kind, so of no use here.
    let usable = key.kty == "RSA"
        && key.used_for.is_none_or(|it| it == "sig")
        && key.alg.is_none_or(|it| it == "RS256");
    let read = DecodingKey::from_rsa_components(&key.n, &key.e).ok()?; // Unreadable: no use either.
    usable.then_some((key.kid, read))
}

/// The id of the key that a token names.
pub(super) fn key_id(token: &str) -> Result<String, Fault> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Fault::Shape);
    }
    // `none` is no algorithm that the library can even read, so it ends here as well.
    let header = jsonwebtoken::decode_header(token).map_err(|_| Fault::Shape)?;
    if header.alg != Algorithm::RS256 {
        return Err(Fault::Algorithm);
    }
    header.kid.ok_or(Fault::UnknownKey)
}

/// Checks a token with the key its header names.
pub(super) fn check(
    token: &str,
    key: &DecodingKey,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Person, Fault> {
    let mut validation = Validation::new(Algorithm::RS256);
    // The library reads the clock and knows no nonce; all claims are compared below.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<serde_json::Value>(token, key, &validation);
    let claims = decoded.map_err(|_| Fault::Signature)?.claims;
    check_claims(serde_json::from_value(claims).map_err(|_| Fault::Shape)?, expected, now)
}

fn check_claims(claims: Claims, expected: &Expected<'_>, now: Timestamp) -> Result<Person, Fault> {
    if !expected.issuers.contains(&claims.iss.as_str()) {
        return Err(Fault::Issuer);
    }
    let for_us = match &claims.aud {
        OneOrMany::One(audience) => audience == expected.client_id,
        OneOrMany::Many(all) => matches!(&all[..], [audience] if audience == expected.client_id),
    };
    if !for_us || claims.azp.is_some_and(|it| it != expected.client_id) {
        return Err(Fault::Audience);
    }
    let at = Timestamp::from_seconds;
    let begun = at(claims.iat.max(claims.nbf.unwrap_or(i64::MIN)));
    if now.minus(LEEWAY) >= at(claims.exp) || begun > now.plus(LEEWAY) {
        return Err(Fault::Time);
    }
    let nonce = claims.nonce.unwrap_or_default();
    if expected.nonce.is_some_and(|it| !bool::from(nonce.as_bytes().ct_eq(it.as_bytes()))) {
        return Err(Fault::Nonce);
    }
    let sane = |it: &str| it.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !(1..=SUBJECT_CHARS_MAX).contains(&claims.sub.len()) || !sane(&claims.sub) {
        return Err(Fault::Subject);
    }
    let verified = match claims.email_verified {
        Some(Truth::Plain(it)) => it,
        Some(Truth::Spelled(it)) => it == "true",
        None => false,
    };
    let email = claims.email.filter(|it| {
        verified && it.contains('@') && it.len() <= EMAIL_CHARS_MAX && !has_control(it)
    });
    let name = claims.name.map(|it| clean(&it)).filter(|it| !it.is_empty());
    Ok(Person { subject: claims.sub, email, name })
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A name as it can be stored and shown: without control characters (Postgres refuses NUL).
fn clean(name: &str) -> String {
    let kept = name.chars().filter(|it| !it.is_control()).take(NAME_CHARS_MAX);
    kept.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected<'_> =
        Expected { issuers: &["https://op.test"], client_id: "us", nonce: Some("n-0S6") };

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_768_468_464)
    }

    fn verdict(changes: serde_json::Value) -> Result<Person, Fault> {
        let mut claims = serde_json::json!({
            "iss": "https://op.test", "aud": "us", "azp": "us", "sub": "110169484474386276334",
            "email": "ada@gmail.com", "email_verified": true, "nonce": "n-0S6",
            "name": "Ada Obi", "iat": now().seconds(), "exp": now().seconds() + 3_600,
        });
        for (field, value) in changes.as_object().unwrap() {
            claims[field] = value.clone();
        }
        let claims = serde_json::from_value(claims).map_err(|_| Fault::Shape)?;
        check_claims(claims, &EXPECTED, now())
    }

    #[test]
    fn every_claim_is_checked() {
        use serde_json::json;
        let s = now().seconds();
        for (changes, expected) in [
            (json!({}), None),
            (json!({"aud": ["us"]}), None),
            (json!({"azp": null}), None),
            (json!({"exp": s - 59}), None),
            (json!({"iat": s + 59}), None),
            (json!({"iss": "https://op.test/"}), Some(Fault::Issuer)),
            (json!({"iss": "accounts.google.com"}), Some(Fault::Issuer)),
            (json!({"iss": null}), Some(Fault::Shape)),
            (json!({"aud": "them"}), Some(Fault::Audience)),
            (json!({"aud": []}), Some(Fault::Audience)),
            (json!({"aud": ["us", "them"]}), Some(Fault::Audience)),
            (json!({"aud": null}), Some(Fault::Shape)),
            (json!({"azp": "them"}), Some(Fault::Audience)),
            (json!({"exp": s - 60}), Some(Fault::Time)),
            (json!({"exp": null}), Some(Fault::Shape)),
            (json!({"iat": s + 61}), Some(Fault::Time)),
            (json!({"nbf": s + 61}), Some(Fault::Time)),
            (json!({"iat": null}), Some(Fault::Shape)),
            (json!({"nonce": "n-0S7"}), Some(Fault::Nonce)),
            (json!({"nonce": null}), Some(Fault::Nonce)),
            (json!({"sub": ""}), Some(Fault::Subject)),
            (json!({"sub": "x".repeat(255)}), None),
            (json!({"sub": "x".repeat(256)}), Some(Fault::Subject)),
            (json!({"sub": "a\u{0}b"}), Some(Fault::Subject)),
            (json!({"sub": 7}), Some(Fault::Shape)),
        ] {
            assert_eq!(verdict(changes.clone()).err(), expected, "{changes}");
        }
    }

    #[test]
    fn an_email_counts_only_if_it_was_verified() {
        use serde_json::json;
        for (changes, expected) in [
            (json!({}), Some("ada@gmail.com")),
            (json!({"email_verified": "true"}), Some("ada@gmail.com")),
            (json!({"email_verified": false}), None),
            (json!({"email_verified": "false"}), None),
            (json!({"email_verified": null}), None),
            (json!({"email": null}), None),
            (json!({"email": "no address"}), None),
            (json!({"email": "a\u{0}@b"}), None),
            (json!({"email": format!("{}@b", "a".repeat(320))}), None),
        ] {
            let person = verdict(changes.clone()).unwrap();
            assert_eq!(person.email.as_deref(), expected, "{changes}");
        }
    }

    #[test]
    fn a_name_is_cleaned() {
        use serde_json::json;
        for (name, expected) in [
            (json!("Ada\u{0} Obi\n"), Some("Ada Obi".to_owned())),
            (json!("  "), None),
            (json!(null), None),
            (json!("é".repeat(300)), Some("é".repeat(200))),
        ] {
            assert_eq!(verdict(json!({"name": name})).unwrap().name, expected);
        }
    }

    #[test]
    fn only_rsa_signing_keys_are_used() {
        use serde_json::json;
        // 2048 bits are not needed to be read, only to verify.
        let rsa = json!({"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": "AQAB", "e": "AQAB"});
        assert!(usable_key(rsa.clone()).is_some());
        for (field, value) in [
            ("kty", json!("oct")),
            ("use", json!("enc")),
            ("alg", json!("HS256")),
            ("kid", json!(null)),
            ("n", json!("*")),
        ] {
            let mut key = rsa.clone();
            key[field] = value;
            assert!(usable_key(key).is_none(), "{field}");
        }
    }

    #[test]
    fn the_algorithm_is_ours_to_choose() {
        use base64::Engine as _;
        use base64::prelude::BASE64_URL_SAFE_NO_PAD;
        for (header, expected) in [
            (r#"{"alg":"RS256","kid":"1"}"#, Ok("1".to_owned())),
            (r#"{"alg":"RS256"}"#, Err(Fault::UnknownKey)),
            (r#"{"alg":"HS256","kid":"1"}"#, Err(Fault::Algorithm)),
            (r#"{"alg":"RS512","kid":"1"}"#, Err(Fault::Algorithm)),
            (r#"{"alg":"none","kid":"1"}"#, Err(Fault::Shape)),
            ("{}", Err(Fault::Shape)),
        ] {
            let token = format!("{}.e30.", BASE64_URL_SAFE_NO_PAD.encode(header));
            assert_eq!(key_id(&token), expected, "{header}");
        }
        assert_eq!(key_id("no token"), Err(Fault::Shape));
        assert_eq!(key_id(&"x".repeat(20_000)), Err(Fault::Shape));
    }
}
