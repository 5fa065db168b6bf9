//! Waiting between attempts: longer each time, never forever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(3);

/// The next pause of a loop that keeps trying.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// Something worked: the next trouble is a new one.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// Waits, twice as long as the last time; less when `shutdown` comes.
    pub(crate) async fn wait(&mut self, shutdown: &CancellationToken) {
        let now = self.0;
        self.0 = now.saturating_mul(2).min(LONGEST);
        sleep(now, shutdown).await;
    }
}

/// Waits for `time` or `shutdown`.
pub(crate) async fn sleep(time: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}
