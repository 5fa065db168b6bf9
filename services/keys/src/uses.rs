//! When keys were last used: remembered here, saved together every few seconds.
//!
//! A use costs a map entry and no write (contract, section 3). What a killed process had not saved
//! is lost, which makes `last_used_at` older than the truth by seconds, never wrong otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use primitives::{KeyId, Timestamp};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store;

/// Between two savings, unless the map fills up earlier.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// Most keys remembered between two savings, about 5 MB; uses of further keys are not noted.
const KEYS_USED_MAX: usize = 50_000;

/// The uses that are not saved yet; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses {
    latest: Arc<Mutex<BTreeMap<KeyId, Timestamp>>>,
    filling: Arc<Notify>,
}

impl Uses {
    /// Notes that a key was used.
    pub(crate) fn touch(&self, key_id: KeyId, now: Timestamp) {
        let n_keys = {
            let mut latest = self.latest();
            note(&mut latest, key_id, now);
            latest.len()
        };
        if n_keys >= KEYS_USED_MAX / 2 {
            self.filling.notify_one();
        }
    }

    /// Saves until `stop`, and once more then.
    pub(crate) async fn flush(self, pool: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(FLUSH_EVERY) => {}
                () = self.filling.notified() => {}
            }
            if let Err(error) = self.save(&pool).await {
                let error = anyhow::Error::new(error);
                warn!("uses of keys are not saved yet: {error:#}");
            }
        }
        Ok(())
    }

    async fn save(&self, pool: &PgPool) -> Result<(), store::Error> {
        let taken = std::mem::take(&mut *self.latest());
        if taken.is_empty() {
            return Ok(());
        }
        let uses: Vec<(KeyId, Timestamp)> = taken.into_iter().collect();
        let saved = match pool.acquire().await {
            Ok(mut conn) => store::flush_uses(&mut conn, &uses).await,
            Err(source) => Err(store::Error::Begin(source)),
        };
        // Rows that somebody else holds are skipped; they wait here for the next time.
        let saved_ids = saved.as_ref().map_or(&[][..], Vec::as_slice);
        let saved_ids: std::collections::BTreeSet<KeyId> = saved_ids.iter().copied().collect();
        let mut latest = self.latest();
        for (key_id, used_at) in uses {
            if !saved_ids.contains(&key_id) {
                note(&mut latest, key_id, used_at);
            }
        }
        saved.map(|_| ())
    }

    /// The map is whole after every step, so a panic elsewhere while it was held changes nothing.
    fn latest(&self) -> MutexGuard<'_, BTreeMap<KeyId, Timestamp>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(latest: &mut BTreeMap<KeyId, Timestamp>, key_id: KeyId, used_at: Timestamp) {
    if let Some(kept) = latest.get_mut(&key_id) {
        *kept = used_at.max(*kept);
    } else if latest.len() < KEYS_USED_MAX {
        latest.insert(key_id, used_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_counts_and_memory_is_bounded() {
        let uses = Uses::default();
        let key_id = KeyId::generate();
        for second in [5, 9, 7] {
            uses.touch(key_id, Timestamp::from_seconds(second));
        }
        assert_eq!(uses.latest().get(&key_id), Some(&Timestamp::from_seconds(9)));

        for _ in 0..KEYS_USED_MAX {
            uses.touch(KeyId::generate(), Timestamp::from_seconds(1));
        }
        uses.touch(key_id, Timestamp::from_seconds(20));
        assert_eq!(uses.latest().len(), KEYS_USED_MAX);
        assert_eq!(uses.latest().get(&key_id), Some(&Timestamp::from_seconds(20)));
    }
}
