#![doc = include_str!("../README.md")]

mod client;
mod eventually;
mod folder;
mod nats;
mod port;
mod postgres;
mod webhook;

pub use client::{Answer, Call, Client};
pub use eventually::eventually;
pub use nats::{Nats, context, nats};
pub use port::quiet_port;
pub use postgres::{Database, TestPostgres, own_postgres, postgres};
pub use webhook::paystack_signature;

use std::sync::Once;

use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

/// Shows log lines of failing tests; `TEST_LOG` takes directives such as `debug` or `bus=trace`.
///
/// Called by [`postgres()`] and [`nats()`]; a test that needs neither may call it itself.
pub fn logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = EnvFilter::builder()
            .with_env_var("TEST_LOG")
            .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
            .from_env_lossy();
        // Somebody else's subscriber is as good as ours.
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init().ok();
    });
}

/// Runs something beside the test, on the test's own runtime; it ends with it. Loops of a service belong to its context.
#[expect(clippy::disallowed_methods, reason = "a test's tasks end with the test's runtime")]
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}
