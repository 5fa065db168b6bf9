//! From a signal to the token that stops the loops.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a program that Ctrl-C ended.
pub const EXIT_SECOND_SIGNAL: i32 = 130;

/// SIGTERM and SIGINT, caught from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both signals over; needs a runtime.
    ///
    /// # Errors
    /// When the process may not.
    pub fn catch() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("failed to catch SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("failed to catch SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next of them and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Turns the first signal into an orderly stop and the second into an immediate one.
///
/// First `draining` is cancelled, which makes `/readyz` say 503; after `delay`, `shutdown`.
pub async fn on_signal(
    mut signals: Signals,
    draining: CancellationToken,
    delay: Duration,
    shutdown: CancellationToken,
) {
    let name = signals.next().await;
    tracing::info!("{name}: finishing what is in hand");
    draining.cancel();
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = shutdown.cancelled() => {}
        name = signals.next() => exit_at_once(name),
    }
    shutdown.cancel();
    let name = signals.next().await;
    exit_at_once(name);
}

fn exit_at_once(name: &'static str) {
    tracing::warn!("{name} again: leaving at once");
    std::process::exit(EXIT_SECOND_SIGNAL);
}
