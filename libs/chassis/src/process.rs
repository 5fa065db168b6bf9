//! The life of a process: telemetry, admin pages, signals, the body, the drain, the exit code.
//!
//! [`run`] knows nothing of services. `chassis::main` gives it one; `wallet` gives it four, and
//! the servers they need.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{lock, panic_text};
use crate::shutdown::{self, Signals};
use crate::{Config, Context, Logging, admin, telemetry};

/// Something failed, and the log says what.
pub const EXIT_FAILURE: u8 = 1;
/// The configuration is missing something or holds something impossible (`EX_USAGE`).
pub const EXIT_CONFIG: u8 = 64;
/// A loop ended, failed or panicked: a bug in us, or a dependency gone for good (`EX_SOFTWARE`).
pub const EXIT_LOOP: u8 = 70;

/// How long the runtime waits for blocking work when everything else is done.
const RUNTIME_WAIT: Duration = Duration::from_secs(1);

/// The running process, for the body that [`run`] runs; a cheap clone.
#[derive(Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

struct Inner {
    shutdown: CancellationToken,
    draining: CancellationToken,
    stopping_since: OnceLock<Instant>,
    grace: Duration,
    members: admin::Members,
    early: Mutex<Vec<(&'static str, Context)>>,
    late: Mutex<Vec<(&'static str, Context)>>,
    late_shutdown: CancellationToken,
    own: TaskTracker,
}

impl Process {
    fn new(config: &Config) -> Self {
        let inner = Inner {
            shutdown: CancellationToken::new(),
            draining: CancellationToken::new(),
            stopping_since: OnceLock::new(),
            grace: config.grace(),
            members: admin::Members::default(),
            early: Mutex::default(),
            late: Mutex::default(),
            late_shutdown: CancellationToken::new(),
            own: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Cancelled by the first signal, by a loop that failed, or by whoever wants the process to stop.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.inner.shutdown.clone()
    }

    /// How long work in hand may take to finish.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.inner.grace
    }

    /// A context for one service of this process: watched, drained at the end, shown by `/readyz`.
    #[must_use]
    pub fn context(&self, name: &'static str, nats: async_nats::Client) -> Context {
        let context = Context::new(nats, self.shutdown());
        lock(&self.inner.early).push((name, context.clone()));
        self.add(name, context)
    }

    /// A context for a service that the others ask: its shutdown begins when they, and the body of
    /// [`run`], have finished what they had in hand.
    #[must_use]
    pub fn late_context(&self, name: &'static str, nats: async_nats::Client) -> Context {
        let context = Context::new(nats, self.inner.late_shutdown.clone());
        lock(&self.inner.late).push((name, context.clone()));
        self.add(name, context)
    }

    fn add(&self, name: &'static str, context: Context) -> Context {
        self.inner.members.add(name, context.clone());
        let (watched, inner) = (context.clone(), Arc::clone(&self.inner));
        self.inner.own.spawn(async move {
            watched.failed().await;
            inner.draining.cancel();
            inner.shutdown.cancel();
        });
        context
    }

    /// Stops every service, waits for its loops for what is left of the grace period, and closes
    /// its connection. [`run`] does it when the body has ended; a body that owns servers does it
    /// before it stops them. Repeating it is harmless.
    ///
    /// # Errors
    /// The names of the loops that still run when the grace period is over.
    pub async fn drain(&self) -> Result<(), Vec<String>> {
        let since = *self.inner.stopping_since.get_or_init(Instant::now);
        self.inner.draining.cancel();
        let mut left = Vec::new();
        for (shutdown, members) in [
            (&self.inner.shutdown, &self.inner.early),
            (&self.inner.late_shutdown, &self.inner.late),
        ] {
            shutdown.cancel();
            let within = self.inner.grace.saturating_sub(since.elapsed());
            let members = lock(members).clone();
            let all = members.iter().map(|(name, context)| async move {
                let left = context.drain(within).await.err().unwrap_or_default();
                context.close().await;
                left.into_iter().map(move |task| format!("{name}.{task}")).collect::<Vec<_>>()
            });
            left.extend(join_all(all).await.concat());
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    }

    fn unfinished(&self) -> Vec<String> {
        let names = |(name, context): (&'static str, Context)| {
            context
                .unfinished()
                .into_iter()
                .map(move |task| format!("{name}.{task}"))
                .collect::<Vec<_>>()
        };
        self.inner.members.list().into_iter().flat_map(names).collect()
    }

    fn has_started(&self) -> bool {
        self.inner.members.list().iter().any(|(_, context)| context.has_started())
    }

    fn failure(&self) -> Option<String> {
        self.inner.members.list().iter().find_map(|(_, context)| context.failure())
    }

    /// Resolves when waiting any longer for the body would be wrong: at once if nothing is in hand.
    async fn patience_ends(&self) {
        self.inner.shutdown.cancelled().await;
        let since = self.inner.stopping_since.get_or_init(Instant::now);
        if self.has_started() {
            tokio::time::sleep_until((*since + self.inner.grace).into()).await;
        }
    }
}

/// How the body came to its end.
enum End {
    Done(anyhow::Result<()>, Result<(), Vec<String>>),
    Panicked(String),
    Abandoned { started: bool },
}

/// Runs `body` as this process: logs, traces, admin pages and signals around it, an exit code after it.
///
/// The configuration has been checked before. When `body` returns, the process drains and ends.
pub fn run<F, Fut>(name: &'static str, config: Config, body: F) -> ExitCode
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let logging = config.logging.clone();
    with_runtime(name, &logging, async move {
        match live(name, &config, body).await {
            Ok(code) => code,
            Err(error) => fail(name, &error),
        }
    })
}

/// Runs something that ends by itself, such as a migration: logs and traces around it, an exit code after it.
pub fn once(
    name: &'static str,
    logging: &Logging,
    work: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    with_runtime(name, logging, async {
        match work.await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(name, &error),
        }
    })
}

/// Runs something that ends by itself and says how: logs and traces around it.
///
/// # Errors
/// When it could not even begin.
pub fn within<T>(
    name: &'static str,
    logging: &Logging,
    work: impl Future<Output = T>,
) -> anyhow::Result<T> {
    let telemetry = telemetry::init(name, logging)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map(|runtime| {
        let done = runtime.block_on(work);
        runtime.shutdown_timeout(RUNTIME_WAIT);
        done
    });
    telemetry.finish();
    done.context("failed to start the runtime")
}

/// Sets up logging and a runtime, and runs `work` to its end.
fn with_runtime(
    name: &'static str,
    logging: &Logging,
    work: impl Future<Output = ExitCode>,
) -> ExitCode {
    within(name, logging, work).unwrap_or_else(|error| fail(name, &error))
}

/// One line that says what went wrong and why, and the code for it.
fn fail(name: &'static str, error: &anyhow::Error) -> ExitCode {
    tracing::error!("{name}: {error:#}");
    ExitCode::from(EXIT_FAILURE)
}

async fn live<F, Fut>(name: &'static str, config: &Config, body: F) -> anyhow::Result<ExitCode>
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let process = Process::new(config);
    let admin_stop = CancellationToken::new();
    let listener = TcpListener::bind(config.admin_address).await.with_context(|| {
        format!("failed to listen on the admin address {}", config.admin_address)
    })?;
    let address = listener.local_addr().context("failed to look at the admin listener")?;
    let (shutdown, draining) = (process.shutdown(), process.inner.draining.clone());
    let own = &process.inner.own;
    let pages =
        admin::serve(listener, process.inner.members.clone(), draining.clone(), admin_stop.clone());
    let admin = own.spawn(pages);
    own.spawn(shutdown::on_signal(Signals::catch()?, draining.clone(), config.delay(), shutdown));
    tracing::info!("{name} starts; admin pages on {address}");

    let end = to_its_end(&process, body).await;
    let code = judge(name, &process, end);
    draining.cancel();
    admin_stop.cancel();
    admin.await.context("the admin pages panicked")??;
    Ok(code)
}

async fn to_its_end<F, Fut>(process: &Process, body: F) -> End
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let body = AssertUnwindSafe(async { body(process.clone()).await }).catch_unwind();
    let said = tokio::select! {
        biased;
        said = body => Some(said),
        () = process.patience_ends() => None,
    };
    match said {
        Some(Ok(result)) => End::Done(result, process.drain().await),
        Some(Err(panic)) => End::Panicked(panic_text(panic.as_ref()).to_owned()),
        None => End::Abandoned { started: process.has_started() },
    }
}

fn judge(name: &'static str, process: &Process, end: End) -> ExitCode {
    if let Some(failure) = process.failure() {
        // The loop's own line was written when it failed; what the body says may be why.
        if let End::Done(Err(error), _) = &end {
            tracing::error!("{name}: {error:#}");
        }
        tracing::error!("{name} stopped because {failure}");
        return ExitCode::from(EXIT_LOOP);
    }
    match end {
        End::Done(Err(error), _) => fail(name, &error),
        End::Panicked(text) => {
            tracing::error!("{name} stopped because of a panic: {text}");
            ExitCode::from(EXIT_LOOP)
        }
        End::Done(Ok(()), Err(left)) => {
            tracing::error!("{name} stopped, and these did not finish: {}", left.join(", "));
            ExitCode::from(EXIT_FAILURE)
        }
        End::Abandoned { started: true } => {
            let left = process.unfinished();
            tracing::error!("{name} stopped, and these did not finish: {}", left.join(", "));
            ExitCode::from(EXIT_FAILURE)
        }
        End::Abandoned { started: false } => {
            tracing::info!("{name} stopped before it had started");
            ExitCode::SUCCESS
        }
        End::Done(Ok(()), Ok(())) => {
            tracing::info!("{name} stopped; everything in hand is finished");
            ExitCode::SUCCESS
        }
    }
}
