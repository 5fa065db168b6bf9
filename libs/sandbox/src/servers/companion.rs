//! A program of our own beside the servers: guarded as they are, so that it too ends with us.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::Folder;
use super::guardian::{Guarded, Program};

/// What is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// For messages: `the ledger`.
    pub what: &'static str,
    /// The program; it must take SIGTERM for a wish to finish.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables, added to our own.
    pub env: Vec<(String, String)>,
}

/// A running program. Dropping it stops it, too, and blocks for as long as that takes.
#[derive(Debug)]
pub struct Companion(Guarded);

impl Companion {
    /// Starts a program in a folder, which is made if need be; `server.log` there is its output.
    ///
    /// # Errors
    /// One sentence: a folder that is in use, or a program that cannot be run.
    pub async fn start(folder: &Path, launch: Launch) -> anyhow::Result<Self> {
        let folder = Folder::take(launch.what, folder, None).await?;
        let program = Program {
            what: launch.what,
            path: launch.program,
            args: launch.args.into_iter().map(Into::into).collect(),
            env: launch.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            finish_signal: "TERM",
        };
        Guarded::spawn(program, folder).map(Self)
    }

    /// Waits until `is_ready` says so.
    ///
    /// # Errors
    /// The program ended, or `bound` has passed; with the last words of its log.
    pub async fn ready<F>(&self, bound: Duration, is_ready: F) -> anyhow::Result<()>
    where
        F: AsyncFn() -> Result<(), String>,
    {
        self.0.ready(bound, is_ready).await
    }

    /// Its process id, once it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.0.exited(), Ok(None))
    }

    /// An error that begins with what it is and where, and shows what it said last.
    #[must_use]
    pub fn complaint(&self, sentence: &str) -> anyhow::Error {
        self.0.complaint(sentence)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It failed, or did not end within `bound`; with the last words of its log.
    pub async fn finished(self, bound: Duration) -> anyhow::Result<()> {
        let give_up_at = tokio::time::Instant::now() + bound;
        loop {
            match self.0.exited()? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => return Err(self.0.complaint("failed")),
                None if tokio::time::Instant::now() >= give_up_at => {
                    return Err(self.0.complaint("took too long"));
                }
                None => tokio::time::sleep(super::LOOK).await,
            }
        }
    }

    /// Asks it to finish and waits for its end.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.0.stop().await
    }

    /// Ends it as a power cut would: nothing in hand is finished, nobody is told.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.0.kill().await
    }
}
