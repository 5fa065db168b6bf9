//! A shell that stops a server when its parent is gone.
//!
//! The guardian reads a pipe whose other end only we hold. However we end, by return, panic or
//! `kill -9`, the kernel closes that end; the guardian reads the end of file and asks the server
//! to finish. There is no other way of stopping: [`Guarded::stop`] closes the pipe, too.
//! Guardian and server have a process group of their own, so a terminal's Ctrl-C is ours alone.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::LOOK;
use super::folder::{Folder, RunAs, is_given_up, pid_in};

/// Longer than the guardian waits before it kills.
const STOP_WAIT: Duration = Duration::from_secs(25);

/// `$1` signal that asks to finish, `$2` file for the server's process id, then the program.
/// The watcher is a subshell and its last resort a `sleep`; neither outlives the server.
const SCRIPT: &str = r#"
signal=$1; pid_file=$2; shift 2
PATH=$PATH:/usr/bin:/bin
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
echo "$server" >"$pid_file"
(
  read -r never <&3
  timer=
  trap 'kill "$timer"; exit' TERM
  kill -s "$signal" "$server"
  sleep 20 &
  timer=$!
  wait "$timer"
  kill -s KILL "$server"
) >/dev/null 2>&1 &
watcher=$!
exec 3<&- </dev/null
wait "$server"
code=$?
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
exit "$code"
"#;

/// A server program and how it is asked to finish.
pub(super) struct Program {
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
    /// Added to our own environment.
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) finish_signal: &'static str,
}

/// A running server under its guardian. Dropping it stops the server, too, and waits for that.
#[derive(Debug)]
pub(super) struct Guarded {
    what: &'static str,
    guardian: Mutex<Child>,
    folder: Folder,
}

impl Guarded {
    /// Starts `program` in `folder`.
    pub(super) fn spawn(program: Program, folder: Folder) -> anyhow::Result<Self> {
        let pid_file = folder.path.join("server.pid");
        let output = folder.output().context("failed to share the log")?;
        let errors = folder.output().context("failed to share the log")?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "guardian", program.finish_signal]).arg(&pid_file);
        command.arg(&program.path).args(&program.args);
        command.current_dir(&folder.path).env("LC_ALL", "C").envs(program.env).process_group(0);
        command.stdin(Stdio::piped()).stdout(output).stderr(errors);
        RunAs::apply(folder.run_as, &mut command);
        let guardian = command.spawn();
        let guardian =
            guardian.with_context(|| format!("failed to start {}", program.path.display()))?;
        Ok(Self { what: program.what, guardian: Mutex::new(guardian), folder })
    }

    /// The folder the server lives in.
    pub(super) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The server's own process id, once it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        pid_in(&self.folder.path.join("server.pid"))
    }

    /// How the server ended, if it has.
    pub(super) fn exited(&self) -> std::io::Result<Option<ExitStatus>> {
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner).try_wait()
    }

    /// An error that shows what the server said last.
    pub(super) fn complaint(&self, sentence: &str) -> anyhow::Error {
        let (what, shown) = (self.what, self.folder.path.display());
        let last_words = self.folder.last_words();
        anyhow::anyhow!("{what} in {shown} {sentence}; its last words:\n{last_words}")
    }

    /// Waits until `is_ready` says so, the server ends, or `bound` has passed.
    pub(super) async fn ready<F>(&self, bound: Duration, is_ready: F) -> anyhow::Result<()>
    where
        F: AsyncFn() -> Result<(), String>,
    {
        let give_up_at = Instant::now() + bound;
        loop {
            if self.exited()?.is_some() {
                return Err(self.complaint("did not start"));
            }
            let Err(why) = is_ready().await else { return Ok(()) };
            if Instant::now() >= give_up_at {
                let bound = bound.as_secs();
                return Err(self.complaint(&format!("was not ready after {bound} s ({why})")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ask_to_finish(&self) {
        let mut guardian = self.guardian.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guardian.stdin.take());
    }

    /// Stops the server gracefully and waits for its end.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.ask_to_finish();
        let give_up_at = Instant::now() + STOP_WAIT;
        while self.exited()?.is_none() {
            if Instant::now() >= give_up_at {
                bail!("{} did not stop within {} s", self.what, STOP_WAIT.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends the server as a power cut would, and waits until the last of its processes is gone.
    pub(super) async fn kill(self) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.with_context(|| format!("{} has no process id", self.what))?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .with_context(|| format!("failed to kill {}", self.what))?;
        let (what, path) = (self.what, self.folder.path.clone());
        self.stop().await?;
        let give_up_at = Instant::now() + STOP_WAIT;
        while !is_given_up(&path) {
            if Instant::now() >= give_up_at {
                bail!("processes of {what} were left in {}", path.display());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.ask_to_finish();
        let looks = STOP_WAIT.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if !matches!(self.exited(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        tracing::warn!("{} did not stop within {} s", self.what, STOP_WAIT.as_secs());
    }
}

/// Writes a file that only its owner may read.
pub(super) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}
