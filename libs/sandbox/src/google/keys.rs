//! The provider's signing keys and the id tokens made with them, good ones and forged ones.

use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::encoding::AsDer as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use primitives::Timestamp;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::model::{Person, TOKEN_LIFE};

/// Published at a time: the current key and the one before.
const KEYS_MAX: usize = 2;

/// What is wrong with an id token made for a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Another issuer.
    Issuer,
    /// For another application.
    Audience,
    /// For this application, but authorized to another party.
    AuthorizedParty,
    /// Another sign-in's nonce.
    Nonce,
    /// No nonce, whatever was asked.
    NonceMissing,
    /// `alg: none` and no signature.
    AlgNone,
    /// HS256 with the published key as its secret.
    AlgHmac,
    /// A key id that was never published.
    UnknownKid,
    /// A published key id, but another key.
    OtherKey,
    /// Expired an hour ago.
    Expired,
    /// Issued an hour from now.
    FromTheFuture,
    /// The address was not checked.
    EmailUnverified,
    /// No address at all.
    EmailMissing,
    /// One character of the signature is another.
    SignatureBroken,
}

/// An RSA key.
#[derive(Debug)]
struct Key {
    kid: String,
    jwk: Jwk,
    private: PrivateKey,
}

/// Never printed.
struct PrivateKey(EncodingKey);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Key {
    fn generate() -> anyhow::Result<Self> {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
        let pair = pair.ok().context("failed to generate an RSA key")?;
        let der = pair.as_der().ok().context("failed to encode the RSA key")?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let private = EncodingKey::from_rsa_pem(pem.as_bytes())?;
        let mut jwk = Jwk::from_encoding_key(&private, Algorithm::RS256)?;
        let digest = sha2::Sha256::digest(serde_json::to_vec(&jwk.algorithm)?);
        let kid = hex::encode(digest.get(..20).unwrap_or_default());
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { kid, jwk, private: PrivateKey(private) })
    }
}

/// The published keys, newest first.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

/// What an id token says besides who signed in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) nonce: Option<&'a str>,
    pub(super) access_token: &'a str,
}

impl Keys {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(vec![Key::generate()?]))
    }

    /// A new key signs from here on; the old one stays published.
    pub(super) fn rotate(&mut self) -> anyhow::Result<()> {
        self.0.insert(0, Key::generate()?);
        self.0.truncate(KEYS_MAX);
        Ok(())
    }

    pub(super) fn published(&self) -> Value {
        json!({ "keys": self.0.iter().map(|key| &key.jwk).collect::<Vec<_>>() })
    }

    /// An id token for `person`.
    pub(super) fn sign(
        &self,
        person: &Person,
        ticket: Ticket<'_>,
        forgery: Option<Forgery>,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        let key = self.0.first().context("there is always a key")?;
        let claims = claims(person, ticket, forgery, now);
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(key.kid.clone());
        let token = match forgery {
            Some(Forgery::AlgNone) => {
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let header = json!({ "alg": "none", "typ": "JWT", "kid": key.kid });
                return Ok(format!("{}.{}.", part(&header), part(&claims)));
            }
            Some(Forgery::AlgHmac) => {
                header.alg = Algorithm::HS256;
                let secret = serde_json::to_vec(&key.jwk)?;
                encode(&header, &claims, &EncodingKey::from_secret(&secret))?
            }
            Some(Forgery::UnknownKid) => {
                let unknown = Key::generate()?;
                header.kid = Some(unknown.kid);
                encode(&header, &claims, &unknown.private.0)?
            }
            Some(Forgery::OtherKey) => encode(&header, &claims, &Key::generate()?.private.0)?,
            _ => encode(&header, &claims, &key.private.0)?,
        };
        if forgery == Some(Forgery::SignatureBroken)
            && let Some((signed, signature)) = token.rsplit_once('.')
        {
            let first = if signature.starts_with('A') { 'B' } else { 'A' };
            return Ok(format!("{signed}.{first}{}", signature.get(1..).unwrap_or_default()));
        }
        Ok(token)
    }
}

/// Google's claims, with one of them forged.
fn claims(person: &Person, ticket: Ticket<'_>, forgery: Option<Forgery>, now: Timestamp) -> Value {
    let hour = Duration::from_secs(3_600);
    let issued_at = match forgery {
        Some(Forgery::Expired) => now.minus(TOKEN_LIFE).minus(hour),
        Some(Forgery::FromTheFuture) => now.plus(hour),
        _ => now,
    };
    let forged = |by: Forgery, wrong: &str, right: &str| {
        Value::from(if forgery == Some(by) { wrong } else { right })
    };
    let other = "999.apps.googleusercontent.com";
    let half = sha2::Sha256::digest(ticket.access_token.as_bytes());
    let mut claims = json!({
        "iss": forged(Forgery::Issuer, "https://accounts.example.com", ticket.issuer),
        "azp": forged(Forgery::AuthorizedParty, other, ticket.audience),
        "aud": forged(Forgery::Audience, other, ticket.audience),
        "at_hash": URL_SAFE_NO_PAD.encode(half.get(..16).unwrap_or_default()),
        "iat": issued_at.seconds(),
        "exp": issued_at.plus(TOKEN_LIFE).seconds(),
    });
    if let (Some(claims), Value::Object(mut profile)) = (claims.as_object_mut(), profile(person)) {
        match forgery {
            Some(Forgery::EmailUnverified) => {
                profile.insert("email_verified".to_owned(), false.into());
            }
            Some(Forgery::EmailMissing) => {
                profile.remove("email");
                profile.remove("email_verified");
            }
            _ => {}
        }
        claims.append(&mut profile);
        let nonce = match forgery {
            Some(Forgery::Nonce) => Some("somebody-elses-nonce"),
            Some(Forgery::NonceMissing) => None,
            _ => ticket.nonce,
        };
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), nonce.into());
        }
    }
    claims
}

/// What the provider tells about a person: in the id token, and as userinfo.
pub(super) fn profile(person: &Person) -> Value {
    let (given, family) = person.name.split_once(' ').unwrap_or((&person.name, ""));
    let mut profile = json!({
        "sub": person.sub,
        "email": person.email,
        "email_verified": person.email_verified,
        "name": person.name,
        "given_name": given,
    });
    if let Some(profile) = profile.as_object_mut() {
        if !family.is_empty() {
            profile.insert("family_name".to_owned(), family.into());
        }
        if let Some(hd) = &person.hd {
            profile.insert("hd".to_owned(), hd.as_str().into());
        }
    }
    profile
}
