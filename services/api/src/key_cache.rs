//! What this process remembers of API keys for a moment, so that a request costs no message.
//!
//! Revoking works everywhere within one second, by two means that do not need each other: the event
//! `KeyRevoked` empties the memory at once, and nothing is remembered longer than [`REMEMBERED`],
//! counted from before the question was asked. An answer that was on its way while a revocation
//! arrived is used once and not remembered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use async_nats::Client;
use bus::ask::Asker;
use futures_util::StreamExt as _;
use primitives::{KeyId, Timestamp, UserId};
use prometheus::{IntCounter, register_int_counter};
use prost::Message as _;
use proto_events::common::v1::Envelope;
use proto_events::convert::{self, WireId as _};
use proto_events::keys::v1::{KeyRevoked, Verified, VerifyRefusal};
use proto_events::subjects;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::ask::Keys;
use crate::permissions::Permissions;

/// Longest time an answer is used. Contract: a revoked key is refused everywhere within one second.
const REMEMBERED: Duration = Duration::from_millis(800);
/// Most keys remembered; the least used are forgotten first.
const KEYS_MAX: u64 = 100_000;
/// Pause before listening again after the subscription ended.
const LISTEN_PAUSE: Duration = Duration::from_millis(200);

/// What a good key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The key.
    pub key: KeyId,
    /// Whose wallet it acts on.
    pub user: UserId,
    /// What it may do there.
    pub permissions: Permissions,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Why a key is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefusal {
    /// There is no such key.
    Unknown,
    /// Its time is over.
    Expired,
    /// Its person revoked it.
    Revoked,
}

static HITS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("api_key_cache_hits_total", "API keys found in memory")
        .expect("the name is registered here only")
});
static MISSES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("api_key_cache_misses_total", "API keys the keys service was asked about")
        .expect("the name is registered here only")
});

/// The keys service does not answer, or not sensibly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keys service does not answer")]
pub struct Unavailable;

type Verdict = Result<Grant, KeyRefusal>;

/// One key's place in the memory. Callers that miss at once share one question.
#[derive(Debug, Default)]
struct Place {
    known: RwLock<Option<Known>>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    verdict: Verdict,
    /// Taken before the question was asked; `None` once it is forgotten.
    asked_at: Option<Instant>,
}

/// A key that somebody shows, with whatever is remembered of it.
#[derive(Debug, Clone)]
pub struct Shown {
    digest: [u8; 32],
    place: Arc<Place>,
}

impl Shown {
    /// Whether the keys service called it good when it was last asked, however long ago. Of others
    /// there can be any number, and each costs a question.
    #[must_use]
    pub fn was_good(&self) -> bool {
        self.place.known().is_some_and(|it| it.verdict.is_ok())
    }
}

/// The memory. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct KeyCache {
    keys: Keys,
    places: moka::sync::Cache<[u8; 32], Arc<Place>>,
    /// Counts revocations heard of.
    epoch: Arc<AtomicU64>,
}

impl KeyCache {
    /// An empty memory in front of the keys service.
    #[must_use]
    pub fn new(asker: Asker) -> Self {
        // Both are shown from the beginning, not from the first time that they count.
        LazyLock::force(&HITS);
        LazyLock::force(&MISSES);
        Self {
            keys: Keys::new(asker),
            places: moka::sync::Cache::new(KEYS_MAX),
            epoch: Arc::default(),
        }
    }

    /// What is remembered of the key with this digest.
    #[must_use]
    pub fn recall(&self, digest: [u8; 32]) -> Shown {
        Shown { digest, place: self.places.get_with(digest, Arc::default) }
    }

    /// Whether the key is good, and what for.
    ///
    /// # Errors
    /// [`Unavailable`] if that is not remembered and the keys service does not answer.
    pub async fn verify(&self, shown: &Shown) -> Result<Verdict, Unavailable> {
        let Shown { digest, place } = shown;
        if let Some(verdict) = place.fresh() {
            HITS.inc();
            return Ok(unexpired(verdict, Timestamp::now()));
        }
        let _alone = place.asking.lock().await;
        if let Some(verdict) = place.fresh() {
            HITS.inc();
            return Ok(unexpired(verdict, Timestamp::now()));
        }
        MISSES.inc();
        let epoch = self.epoch.load(Ordering::SeqCst);
        let asked_at = Instant::now();
        let verified = self.keys.verify(*digest).await.map_err(|_| Unavailable)?;
        let verdict = read(&verified)?;
        place.remember(Known { verdict, asked_at: Some(asked_at) });
        if self.epoch.load(Ordering::SeqCst) != epoch {
            place.forget();
        }
        Ok(unexpired(verdict, Timestamp::now()))
    }

    /// Forgets everything.
    pub fn empty(&self) {
        // Before the places are emptied: an answer on its way compares the count after it was written down.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for (_, place) in &self.places {
            place.forget();
        }
    }

    /// Forgets one key: it was revoked. Callers that hold its place see it empty.
    pub fn forget(&self, digest: &[u8; 32]) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if let Some(place) = self.places.get(digest) {
            place.forget();
        }
    }

    /// Listens for revocations until shutdown. What was missed while nobody listened does no harm
    /// for longer than [`REMEMBERED`].
    ///
    /// # Errors
    /// Never; it listens again when the subscription ends.
    pub async fn listen(self, client: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
        while !shutdown.is_cancelled() {
            let mut revoked = match client.subscribe(subjects::keys::KEY_REVOKED).await {
                Ok(it) => it,
                Err(error) => {
                    warn!("cannot listen for revocations: {error}");
                    tokio::time::sleep(LISTEN_PAUSE).await;
                    continue;
                }
            };
            self.empty();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    message = revoked.next() => match message {
                        Some(message) => self.hear(&message.payload),
                        None => break,
                    },
                }
            }
            tokio::time::sleep(LISTEN_PAUSE).await;
        }
        Ok(())
    }

    fn hear(&self, payload: &[u8]) {
        let read = || {
            let envelope = Envelope::decode(payload).ok()?;
            let event = KeyRevoked::decode(envelope.payload).ok()?;
            Some((
                KeyId::read("key_id", &event.key_id).ok()?,
                <[u8; 32]>::try_from(&*event.digest).ok()?,
            ))
        };
        match read() {
            Some((key, digest)) => {
                self.forget(&digest);
                info!(key.id = %key, "key {key} was revoked");
            }
            None => {
                warn!("a revocation cannot be read; every key is forgotten");
                self.empty();
            }
        }
    }
}

impl Place {
    fn known(&self) -> Option<Known> {
        *self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Verdict> {
        let is_fresh = |it: &Known| it.asked_at.is_some_and(|it| it.elapsed() < REMEMBERED);
        self.known().filter(is_fresh).map(|it| it.verdict)
    }

    fn remember(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// Nothing is answered from it any more; that the key was good once stays known.
    fn forget(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = known.map(|it| Known { asked_at: None, ..it });
    }
}

/// A key can run out while it is remembered.
fn unexpired(verdict: Verdict, now: Timestamp) -> Verdict {
    match verdict {
        Ok(grant) if grant.expires_at <= now => Err(KeyRefusal::Expired),
        Ok(_) | Err(_) => verdict,
    }
}

fn read(verified: &Verified) -> Result<Verdict, Unavailable> {
    let grant = || -> Result<Grant, convert::Malformed> {
        Ok(Grant {
            key: KeyId::read("key_id", &verified.key_id)?,
            user: UserId::read("user_id", &verified.user_id)?,
            permissions: Permissions::from_wire(&verified.permissions),
            expires_at: Timestamp::from_micros(verified.expires_at_us),
        })
    };
    match VerifyRefusal::try_from(verified.refusal) {
        Ok(VerifyRefusal::Unspecified) => grant().map(Ok).map_err(|error| {
            crate::ask::unreadable(error);
            Unavailable
        }),
        Ok(VerifyRefusal::Unknown) => Ok(Err(KeyRefusal::Unknown)),
        Ok(VerifyRefusal::Expired) => Ok(Err(KeyRefusal::Expired)),
        Ok(VerifyRefusal::Revoked) => Ok(Err(KeyRefusal::Revoked)),
        Err(error) => {
            crate::ask::unreadable(error);
            Err(Unavailable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_good_key_is_known_to_have_been_good_when_nothing_else_is() {
        let place = Arc::new(Place::default());
        let shown = Shown { digest: [0; 32], place: Arc::clone(&place) };
        assert!(!shown.was_good() && place.fresh().is_none(), "nobody knows it");
        let refused = Known { verdict: Err(KeyRefusal::Unknown), asked_at: Some(Instant::now()) };
        place.remember(refused);
        assert!(!shown.was_good() && place.fresh() == Some(refused.verdict));
        let grant = Grant {
            key: KeyId::generate(),
            user: UserId::generate(),
            permissions: Permissions::default(),
            expires_at: Timestamp::from_seconds(1),
        };
        place.remember(Known { verdict: Ok(grant), asked_at: Some(Instant::now()) });
        assert!(shown.was_good() && place.fresh() == Some(Ok(grant)));
        place.forget();
        assert!(shown.was_good() && place.fresh().is_none(), "forgotten, so asked about again");
        place.remember(Known { verdict: Ok(grant), asked_at: Some(Instant::now()) });
        tokio::time::advance(REMEMBERED).await;
        assert!(shown.was_good() && place.fresh().is_none(), "too long ago");
    }
}
