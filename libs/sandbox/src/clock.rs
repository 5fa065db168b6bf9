//! The sandbox's clock: the real one, which a test may move forward.

use std::time::Duration;

use primitives::Timestamp;
use tokio::sync::watch;

/// Shared by everything in one sandbox.
#[derive(Debug)]
pub(crate) struct Clock {
    ahead: watch::Sender<Duration>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { ahead: watch::Sender::new(Duration::ZERO) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now().plus(*self.ahead.borrow())
    }

    /// Moves the clock forward; whoever waits looks again.
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead = ahead.saturating_add(by));
    }

    /// Waits until the clock shows `at`.
    pub(crate) async fn wait_until(&self, at: Timestamp) {
        let mut moved = self.ahead.subscribe();
        loop {
            moved.mark_unchanged();
            let left = at.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                // The sender is ours, so it cannot be gone; if it were, sleeping is right.
                Ok(()) = moved.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_wakes_when_the_clock_is_moved() {
        let clock = Clock::new();
        let at = clock.now().plus(Duration::from_secs(3600));
        let waits = clock.wait_until(at);
        let moves = async {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(3601));
        };
        let both = async { tokio::join!(waits, moves) };
        tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
        assert!(clock.now() >= at);
    }
}
