//! `POST /wallet/paystack/webhook`: check the signature, store the bytes, answer 200, think later.
//!
//! Where only some networks may bring webhooks, all others are told that there is nothing here.
//! Nothing is read or stored before the signature over the raw bytes was good. Only 200 counts as
//! delivered at Paystack, so everything that was stored gets 200, however odd it is; what could not be
//! stored gets 503 and comes again.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chassis::Secret;
use chassis::http::Problem;
use chassis::http::peer::{self, Network};
use hmac::{Hmac, KeyInit as _, Mac as _};
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use primitives::Timestamp;
use prometheus::{IntCounterVec, register_int_counter_vec};
use sha2::{Digest as _, Sha256, Sha512};
use sqlx::PgPool;

use crate::desk::{Bells, chain};
use crate::notice;
use crate::store::webhooks::{self, Received, SignedBy};

/// The path, on the platform's one origin.
pub const PATH: &str = "/wallet/paystack/webhook";
/// The largest body.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;

const SIGNATURE: &str = "x-paystack-signature";
const SIGNATURE_BYTES: usize = 64;
/// How long until it may be told again what could not be stored.
const STORE_PAUSE: Duration = Duration::from_secs(5);

static WEBHOOKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "payments_webhooks_total",
        "Webhooks by what became of them at the door, and those that were fetched instead.",
        &["result"]
    )
    .expect("the name is registered here only")
});

/// Counts a webhook by what became of it.
pub(crate) fn count(result: &str) {
    WEBHOOKS.with_label_values(&[result]).inc();
}

/// The keys that a signature may be made with.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// The one in use.
    pub(crate) current: Secret,
    /// The one before the last rotation, and how long it is accepted.
    pub(crate) previous: Option<(Secret, Timestamp)>,
}

impl Keys {
    /// Whose signature it is, if anybody's. Takes as long for a wrong one as for a right one.
    pub(crate) fn signer(&self, body: &[u8], signature: &[u8], now: Timestamp) -> Option<SignedBy> {
        let is_current = is_signed(&self.current, body, signature);
        let is_previous = self
            .previous
            .as_ref()
            .filter(|(_, until)| now < *until)
            .is_some_and(|(key, _)| is_signed(key, body, signature));
        if is_current { Some(SignedBy::Current) } else { is_previous.then_some(SignedBy::Previous) }
    }
}

fn is_signed(key: &Secret, body: &[u8], signature: &[u8]) -> bool {
    Hmac::<Sha512>::new_from_slice(key.expose().as_bytes())
        .is_ok_and(|mac| mac.chain_update(body).verify_slice(signature).is_ok())
}

/// Who may bring a webhook, beside being able to sign it.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// From where it may come; from anywhere if none is named.
    pub(crate) allowed: Vec<Network>,
    /// Whose word about where it comes from is believed.
    pub(crate) proxies: Vec<Network>,
}

impl Sources {
    fn allow(&self, request: &Request) -> bool {
        self.allowed.is_empty()
            || peer::client(request, &self.proxies)
                .is_some_and(|it| self.allowed.iter().any(|network| network.contains(it)))
    }
}

/// The door for webhooks.
pub(crate) struct Intake {
    pub(crate) pool: PgPool,
    pub(crate) sources: Sources,
    pub(crate) keys: Keys,
    pub(crate) bells: Arc<Bells>,
}

impl Endpoint for Intake {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        match self.take(request).await {
            Ok(result) => {
                count(result);
                let body = r#"{"status":true}"#;
                Ok(Response::builder().content_type("application/json").body(body))
            }
            Err((result, problem)) => {
                count(result);
                Ok(problem.into_response())
            }
        }
    }
}

/// What happened at the door, for the metric, and what is answered.
type Turned = (&'static str, Problem);

impl Intake {
    async fn take(&self, mut request: Request) -> Result<&'static str, Turned> {
        if !self.sources.allow(&request) {
            // To all others there is nothing here.
            return Err(("not_allowed", Problem::from_status(StatusCode::NOT_FOUND)));
        }
        let signature = signature(&request).ok_or_else(invalid_signature)?;
        let body = body(&mut request).await?;
        let now = Timestamp::now();
        let signed_by = self.keys.signer(&body, &signature, now).ok_or_else(invalid_signature)?;
        let notice = notice::read(&body);
        let received = Received {
            identity: &notice.identity,
            event: notice.event.as_deref(),
            reference: notice.reference.as_ref().map(|it| it.as_str()),
            body: &body,
            body_sha256: &Sha256::digest(&body),
            signed_by,
        };
        match webhooks::insert(&self.pool, &received, now).await {
            Ok(true) => {
                self.bells.inbox.notify_one();
                Ok("new")
            }
            Ok(false) => Ok("repeated"),
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "a webhook could not be stored; it comes again"
                );
                Err(("not_stored", not_stored()))
            }
        }
    }
}

/// The signature, if it has the shape of one: 128 hex digits.
fn signature(request: &Request) -> Option<[u8; SIGNATURE_BYTES]> {
    let text = request.header(SIGNATURE)?;
    let mut bytes = [0; SIGNATURE_BYTES];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

async fn body(request: &mut Request) -> Result<Vec<u8>, Turned> {
    // Read already, whole, within the door's bounds of size and time.
    let bytes = request.take_body().into_bytes().await.map_err(|error| {
        let error = poem::Error::from(error);
        ("unreadable", Problem::from_status(error.status()))
    })?;
    Ok(bytes.to_vec())
}

fn invalid_signature() -> Turned {
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "invalid_signature",
        "Invalid signature",
        "The body is not signed with our key.",
    )
    .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(SIGNATURE));
    ("invalid_signature", problem)
}

fn not_stored() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "service_unavailable",
        "Service unavailable",
        "The event could not be stored. Send it again.",
    )
    .with_retry_after(STORE_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of Paystack's reference: key, body and signature.
    const KEY: &str = "sk_test_example_key";
    const BODY: &[u8] = br#"{"event":"charge.success","data":{"id":302961,"domain":"test","status":"success","reference":"dep-0001","amount":1000000,"currency":"NGN"}}"#;
    const SIGNED: &str = "0367d1de3660ff356639653330243fb59d07e1bdc69681be53988e252f300d8e836b8a24f60dd38d3f0d31d09465d6deef26c6e615d0079036b757737a0780e4";

    fn signer(keys: &Keys, body: &[u8], at: Timestamp) -> Option<SignedBy> {
        keys.signer(body, &hex::decode(SIGNED).unwrap(), at)
    }

    #[test]
    fn the_signature_is_hmac_sha512_of_the_raw_bytes() {
        let keys = Keys { current: Secret::new(KEY), previous: None };
        let now = Timestamp::from_seconds(1);
        assert_eq!(signer(&keys, BODY, now), Some(SignedBy::Current));
        let mut changed = BODY.to_vec();
        changed.push(b'\n');
        assert_eq!(signer(&keys, &changed, now), None);
        assert_eq!(keys.signer(BODY, &[0; 64], now), None);
        assert_eq!(keys.signer(BODY, &[], now), None);
    }

    #[test]
    fn the_previous_key_is_accepted_until_its_end() {
        let end = Timestamp::from_seconds(100);
        let keys =
            Keys { current: Secret::new("another"), previous: Some((Secret::new(KEY), end)) };
        assert_eq!(signer(&keys, BODY, Timestamp::from_seconds(99)), Some(SignedBy::Previous));
        assert_eq!(signer(&keys, BODY, end), None);
    }
}
