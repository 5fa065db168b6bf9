//! Waiting for what must come: with a bound, and with what was last seen when it does not.

use std::time::{Duration, Instant};

/// The first pause; each is longer than the one before.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Asks `look` until it says `Ok`; fails the test after `bound`, naming `what` and what `look` saw last.
///
/// The only way to wait in a test. For what must *not* come, wait for something that comes after it.
///
/// # Panics
/// When `bound` is over.
pub async fn eventually<T>(
    what: &str,
    bound: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut last_seen = "nothing: the first look did not end".to_owned();
    loop {
        let left = bound.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(seen)) => return seen,
            Ok(Err(seen)) => last_seen = seen,
            Err(_) => {}
        }
        let left = bound.saturating_sub(started.elapsed());
        assert!(
            !left.is_zero(),
            "not within {} ms: {what}; last seen: {last_seen}",
            bound.as_millis()
        );
        tokio::time::sleep(pause.min(left)).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_what_came() {
        let mut n_looks = 0;
        let seen = eventually("a third look", Duration::from_secs(5), async || {
            n_looks += 1;
            if n_looks == 3 { Ok(n_looks) } else { Err(format!("look {n_looks}")) }
        })
        .await;
        assert_eq!(seen, 3);
    }

    #[tokio::test]
    async fn a_failure_shows_what_was_seen_last() {
        let never = tokio::task::LocalSet::new();
        let failed = never
            .run_until(async {
                tokio::task::spawn_local(eventually::<()>(
                    "the impossible",
                    Duration::from_millis(20),
                    async || Err("still nothing".to_owned()),
                ))
                .await
            })
            .await;
        let panic = failed.expect_err("it cannot come").into_panic();
        let text = panic.downcast::<String>().unwrap();
        assert_eq!(*text, "not within 20 ms: the impossible; last seen: still nothing");
    }
}
