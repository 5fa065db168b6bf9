//! A nats-server of the test's own, with the platform's streams; it can be killed and come back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use chassis::Context;
use sandbox::servers::Tools;
use tokio_util::sync::CancellationToken;

use crate::folder;

const SERVED_WAIT: Duration = Duration::from_secs(20);

/// A running nats-server; stops when dropped.
#[derive(Debug)]
pub struct Nats {
    /// Where it is, with its password.
    pub url: String,
    port: u16,
    // Dropped in this order: first the server, then its folder.
    server: Option<sandbox::servers::Nats>,
    folder: Folder,
}

/// Removes itself.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays goes with the binary's folder.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Starts a nats-server and declares the streams.
///
/// # Panics
/// When nats-server cannot be found or started.
pub async fn nats() -> Nats {
    static N_SERVERS: AtomicU64 = AtomicU64::new(0);
    crate::logs();
    let number = N_SERVERS.fetch_add(1, Ordering::Relaxed);
    let path = folder::folder().join(format!("nats-{number}"));
    let server = sandbox::servers::Nats::start(&path)
        .await
        .unwrap_or_else(|error| panic!("tests need nats-server: {error:#}"));
    let (url, port) = (server.url(), server.port());
    let nats = Nats { url, port, server: Some(server), folder: Folder(path) };
    let jetstream = async_nats::jetstream::new(nats.client().await);
    bus::streams::ensure(&jetstream).await.expect("the streams can be declared");
    nats
}

impl Nats {
    /// A new connection.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn client(&self) -> async_nats::Client {
        chassis::nats::connect(&self.url, "test").await.expect("the test's own server answers")
    }

    /// Process id of the server, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref()?.pid()
    }

    /// Waits until somebody serves this query; a service that has just started is a moment away.
    ///
    /// # Panics
    /// When nobody does within some seconds.
    pub async fn served(&self, subject: &'static str) {
        let client = self.client().await;
        crate::eventually(&format!("{subject} is served"), SERVED_WAIT, async || {
            match client.request(subject, Vec::new().into()).await {
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                    Err(error.to_string())
                }
                // Whatever it thinks of an empty query.
                Ok(_) | Err(_) => Ok(()),
            }
        })
        .await;
    }

    /// How many messages a stream has ever taken.
    ///
    /// # Panics
    /// When there is no such stream.
    pub async fn last_sequence(&self, stream: &str) -> u64 {
        let jetstream = async_nats::jetstream::new(self.client().await);
        let stream = jetstream.get_stream(stream).await.expect("the stream is there");
        stream.cached_info().state.last_sequence
    }

    /// Ends the server as a power cut would.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await.expect("the test's own server can be killed");
        }
    }

    /// Starts a killed server again, at the same address and with what its streams held.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        let folder = &self.folder.0;
        let server =
            sandbox::servers::Nats::start_with(folder, Some(self.port), &Tools::from_env()).await;
        self.server = Some(server.unwrap_or_else(|error| panic!("NATS is gone: {error:#}")));
        assert_eq!(self.server.as_ref().map(sandbox::servers::Nats::url), Some(self.url.clone()));
    }

    /// As [`Self::start_again`], on an empty disk: every stream is gone.
    ///
    /// # Panics
    /// When the old disk cannot be emptied, or the server does not start.
    pub async fn start_empty(&mut self) {
        assert!(self.server.is_none(), "kill it first");
        std::fs::remove_dir_all(self.folder.0.join("jetstream")).expect("the streams can go");
        self.start_again().await;
    }
}

/// A context as a service gets it, with a connection and a shutdown token of its own.
///
/// Cancel `context.shutdown()` and await `context.drain(…)` at the end of the test; assert that both went well.
pub async fn context(nats: &Nats) -> Context {
    Context::new(nats.client().await, CancellationToken::new())
}
