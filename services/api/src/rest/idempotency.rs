//! `Idempotency-Key`: what makes asking twice harmless.
//!
//! The api derives a request key (whose wallet, which key) and a digest of what is asked, and keeps
//! which digest a key was first used with, so that it is one request's whatever the operation. The
//! owner of the thing asked for keeps both for ever beside the outcome, and says what it was.

use poem::RequestBody;
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use primitives::{AccountId, RequestKey};
use sha2::{Digest as _, Sha256};

use crate::claims::{Claims, Unavailable};
use crate::rest::problem::Problem;

const HEADER: &str = "Idempotency-Key";
const KEY_BYTES_MAX: usize = 255;

/// The header as it was sent: absent, once, or (wrongly) more often.
pub struct IdempotencyKey(Vec<Vec<u8>>);

impl IdempotencyKey {
    /// The request key within this wallet; `None` if the caller sent no `Idempotency-Key`. Keys
    /// belong to the wallet, so a person and their API keys share them.
    ///
    /// # Errors
    /// `invalid_field` unless it is one header of 1–255 visible ASCII characters.
    pub fn request_key(&self, account: AccountId) -> Result<Option<RequestKey>, Problem> {
        let key = match self.0.as_slice() {
            [] => return Ok(None),
            [key] => key,
            _ => return Err(Problem::invalid_field(HEADER, "may be sent once")),
        };
        let is_visible = key.iter().all(u8::is_ascii_graphic);
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !is_visible {
            return Err(Problem::invalid_field(
                HEADER,
                "must be 1 to 255 visible ASCII characters",
            ));
        }
        let mut digest = Sha256::new();
        digest.update(account.uuid().as_bytes());
        digest.update([0]);
        digest.update(key);
        Ok(Some(RequestKey(digest.finalize().into())))
    }
}

/// Takes the key for this request. Without a key there is nothing to take.
///
/// `is_durable`: see [`Claims::take`].
///
/// # Errors
/// `idempotency_key_reused` if it belongs to another request, or `service_unavailable`.
pub async fn claim(
    claims: &Claims,
    key: Option<RequestKey>,
    digest: [u8; 32],
    is_durable: bool,
) -> Result<(), Problem> {
    let Some(key) = key else { return Ok(()) };
    match claims.take(key, digest, is_durable).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Problem::idempotency_key_reused()),
        Err(Unavailable) => Err(Problem::service_unavailable()),
    }
}

/// The key, or the digest, of one item of a request that asks for several things.
#[must_use]
pub fn of_item(whole: &[u8; 32], place: usize) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"item");
    digest.update(whole);
    digest.update(u64::try_from(place).unwrap_or(u64::MAX).to_be_bytes());
    digest.finalize().into()
}

/// The digest of what is asked: the operation and each field, each with its length before it, so
/// that no two requests share a digest. An absent field differs from an empty one.
#[must_use]
pub fn request_digest(operation: &str, fields: &[Option<&str>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for field in std::iter::once(&Some(operation)).chain(fields) {
        match field {
            None => digest.update([0]),
            Some(text) => {
                digest.update([1]);
                digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
                digest.update(text.as_bytes());
            }
        }
    }
    digest.finalize().into()
}

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            ty: "string",
            min_length: Some(1),
            max_length: Some(KEY_BYTES_MAX),
            pattern: Some("^[!-~]{1,255}$".to_owned()),
            example: Some("order-8812".into()),
            ..MetaSchema::ANY
        })))
    }

    async fn from_request(
        request: &'a poem::Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let sent = request.headers().get_all(HEADER);
        Ok(Self(sent.iter().map(|it| it.as_bytes().to_vec()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::problem::Code;

    fn key(account: AccountId, sent: &[&[u8]]) -> Result<Option<RequestKey>, Code> {
        let sent = sent.iter().map(|it| it.to_vec()).collect();
        IdempotencyKey(sent).request_key(account).map_err(|it| it.code())
    }

    #[test]
    fn a_key_is_one_header_of_visible_characters() {
        let account = AccountId::generate();
        assert_eq!(key(account, &[]), Ok(None));
        assert!(key(account, &[b"a"]).unwrap().is_some());
        assert!(key(account, &[&[b'~'; 255]]).unwrap().is_some());
        let wrong: [&[&[u8]]; 7] = [
            &[b""],
            &[&[b'a'; 256]],
            &[b"a b"],
            &[b"a\tb"],
            &[b"\xc3\xa9"],
            &[b"\x7f"],
            &[b"a", b"a"],
        ];
        for sent in wrong {
            assert_eq!(key(account, sent), Err(Code::InvalidField), "{sent:?}");
        }
    }

    #[test]
    fn keys_belong_to_a_wallet() {
        let (one, other) = (AccountId::generate(), AccountId::generate());
        assert_eq!(key(one, &[b"a"]), key(one, &[b"a"]));
        assert_ne!(key(one, &[b"a"]), key(other, &[b"a"]));
        assert_ne!(key(one, &[b"a"]), key(one, &[b"b"]));
    }

    #[test]
    fn different_requests_have_different_digests() {
        let all = [
            request_digest("a", &[]),
            request_digest("a", &[None]),
            request_digest("a", &[Some("")]),
            request_digest("a", &[Some("bc")]),
            request_digest("a", &[Some("b"), Some("c")]),
            request_digest("ab", &[Some("c")]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|it| it != one), "{i}");
        }
    }
}
