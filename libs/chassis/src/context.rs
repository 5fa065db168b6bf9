//! What one service gets from the process it runs in.
//!
//! A [`Context`] belongs to one service. A process with four services makes four of them with one
//! shutdown token. Every loop of a service is spawned here, so that a loop that ends is noticed and
//! shutdown can wait for the rest and name what did not finish.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long one readiness check may take.
const CHECK_WAIT: Duration = Duration::from_secs(2);
/// How long the last messages may take to reach the server when draining.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// What a check says: that all is well and perhaps a word more, or why not.
type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// A service's hold on its process: the bus, the shutdown token, readiness, and its own loops.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    nats: async_nats::Client,
    shutdown: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
    checks: Mutex<Vec<(&'static str, Check)>>,
    failure: watch::Sender<Option<Failure>>,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Running {
    spawned: u64,
    names: BTreeMap<u64, &'static str>,
}

/// Why a loop is no longer there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name} {how}")]
struct Failure {
    name: &'static str,
    how: String,
}

/// A poisoned lock guards plain lists that are valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// A context over an open connection; `shutdown` may be shared with others.
    #[must_use]
    pub fn new(nats: async_nats::Client, shutdown: CancellationToken) -> Self {
        let inner = Inner {
            nats,
            shutdown,
            tracker: TaskTracker::new(),
            running: Mutex::default(),
            checks: Mutex::default(),
            failure: watch::Sender::new(None),
            is_closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The connection to NATS; a cheap clone.
    #[must_use]
    pub fn nats(&self) -> async_nats::Client {
        self.inner.nats.clone()
    }

    /// Cancelled when no new work is to be taken.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.inner.shutdown.clone()
    }

    /// Adds a named check to `/readyz`; the error text is shown there and must hold no secret.
    ///
    /// A service without any check counts as still starting, so the first one also says that it started.
    pub fn ready_when<F, Fut>(&self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.ready_saying(name, move || {
            let checked = check();
            async move { checked.await.map(|()| String::new()) }
        });
    }

    /// As [`Context::ready_when`], for a check that has something to say when all is well, too.
    pub fn ready_saying<F, Fut>(&self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, String>> + Send + 'static,
    {
        lock(&self.inner.checks).push((name, Arc::new(move || check().boxed())));
    }

    /// Runs a loop that is meant to last until shutdown.
    ///
    /// When it ends before, fails, or panics, [`Context::failed`] resolves and the process stops with exit code 70.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let number = {
            let mut running = lock(&self.inner.running);
            running.spawned = running.spawned.wrapping_add(1);
            let number = running.spawned;
            running.names.insert(number, name);
            number
        };
        let inner = Arc::clone(&self.inner);
        self.inner.tracker.spawn(async move {
            let how = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if inner.shutdown.is_cancelled() => None,
                Ok(Ok(())) => Some("ended although nobody asked it to".to_owned()),
                Ok(Err(error)) => Some(format!("failed: {error:#}")),
                Err(panic) => Some(format!("panicked: {}", panic_text(panic.as_ref()))),
            };
            lock(&inner.running).names.remove(&number);
            if let Some(how) = how {
                tracing::error!(task.name = name, "{name} {how}");
                inner.failure.send_if_modified(|failure| {
                    let first = failure.is_none();
                    failure.get_or_insert(Failure { name, how });
                    first
                });
            }
        });
    }

    /// Waits until every spawned loop has ended, and the last messages have left.
    ///
    /// Does not ask anybody to stop; cancel the shutdown token first.
    ///
    /// # Errors
    /// The names of the loops that still run when `within` is over.
    pub async fn drain(&self, within: Duration) -> Result<(), Vec<&'static str>> {
        self.inner.tracker.close();
        if self.inner.is_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        if tokio::time::timeout(within, self.inner.tracker.wait()).await.is_err() {
            return Err(self.unfinished());
        }
        match tokio::time::timeout(FLUSH_WAIT.min(within), self.hear_oneself()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the last messages may not have left: {error:#}"),
            Err(_) => tracing::warn!("the last messages may not have left: NATS does not answer"),
        }
        Ok(())
    }

    /// Closes the connection, after which a server that goes away is no news.
    pub(crate) async fn close(&self) {
        if self.inner.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        match tokio::time::timeout(FLUSH_WAIT, self.inner.nats.drain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("the connection was not closed: {error}"),
            Err(_) => tracing::debug!("the connection was not closed in time"),
        }
    }

    /// Sends a message to ourselves: when it is back, the server has all that was sent before it.
    /// A flush only says that the kernel has it, and may throw it away when the process ends.
    async fn hear_oneself(&self) -> anyhow::Result<()> {
        let (client, inbox) = (&self.inner.nats, self.inner.nats.new_inbox());
        let mut echo = client.subscribe(inbox.clone()).await?;
        client.publish(inbox, Vec::new().into()).await?;
        echo.next().await.context("the connection is closed")?;
        Ok(())
    }

    /// Resolves when a spawned loop ended early, failed or panicked; never otherwise.
    pub async fn failed(&self) -> anyhow::Error {
        let mut failures = self.inner.failure.subscribe();
        // The sender lives in `self`, so waiting cannot fail while this runs.
        match failures.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone()) {
            Some(failure) => failure.into(),
            None => std::future::pending().await,
        }
    }

    /// The failure so far, for those who ask and do not wait.
    pub(crate) fn failure(&self) -> Option<String> {
        self.inner.failure.borrow().as_ref().map(ToString::to_string)
    }

    /// The loops that have not ended.
    pub(crate) fn unfinished(&self) -> Vec<&'static str> {
        lock(&self.inner.running).names.values().copied().collect()
    }

    /// Whether there is anything in hand that a stop would have to wait for.
    pub(crate) fn has_started(&self) -> bool {
        !lock(&self.inner.checks).is_empty() || !lock(&self.inner.running).names.is_empty()
    }

    /// Every named check and what it says at this moment; mostly nothing when all is well.
    pub async fn readiness(&self) -> Vec<(&'static str, Result<String, String>)> {
        let nats = match self.inner.nats.connection_state() {
            async_nats::connection::State::Connected => Ok(String::new()),
            async_nats::connection::State::Pending
            | async_nats::connection::State::Disconnected => Err("not connected".to_owned()),
        };
        let loops = self.failure().map_or_else(|| Ok(String::new()), Err);
        let checks = lock(&self.inner.checks).clone();
        let started =
            if checks.is_empty() { Err("still starting".to_owned()) } else { Ok(String::new()) };
        let mut all = vec![("started", started), ("nats", nats), ("loops", loops)];
        all.extend(
            join_all(checks.into_iter().map(|(name, check)| async move {
                let said = tokio::time::timeout(CHECK_WAIT, check()).await;
                (name, said.unwrap_or_else(|_| Err("no answer in time".to_owned())))
            }))
            .await,
        );
        all
    }
}

/// What a panic said, if it said it in text.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
