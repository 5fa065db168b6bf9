//! The folder a server lives in: who owns it, whether somebody uses it, and its log.
//!
//! The log file is the lock. Guardian and server inherit its open description as their output,
//! so the lock is held exactly as long as one of them lives, whatever became of the parent.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::kill;
use nix::unistd::{Pid, User, geteuid};

use super::LOOK;

/// A server whose parent was killed gets this long to finish before its folder is given up.
const HANDOVER_WAIT: Duration = Duration::from_secs(25);
/// A log longer than this is begun anew at the next start.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How much of the log an error message shows.
const LOG_LINES_SHOWN: usize = 8;
/// Where a server lives that runs as another user and may not enter the wanted folder.
const ELSEWHERE: &str = "/var/lib/fast-wallet";

/// Whom a server runs as, when that is not us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunAs {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl RunAs {
    /// Postgres refuses to run as root: then whoever owns the cluster already, else `postgres`,
    /// else `nobody`.
    pub(super) fn for_postgres(cluster: &Path) -> anyhow::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        if let Ok(there) = cluster.metadata()
            && there.uid() != 0
        {
            return Ok(Some(Self { uid: there.uid(), gid: there.gid() }));
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("failed to look up users")? {
                return Ok(Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
            }
        }
        bail!("Postgres refuses to run as root, and there is no user `postgres` or `nobody`")
    }

    /// Makes `command` run as this user.
    pub(super) fn apply(run_as: Option<Self>, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt as _;
        if let Some(Self { uid, gid }) = run_as {
            command.uid(uid).gid(gid);
        }
    }
}

/// A server's folder, ours alone for as long as this or the server lives.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) run_as: Option<RunAs>,
    log: File,
    log_begins_at: u64,
}

impl Folder {
    /// Makes the folder if need be, and takes it.
    pub(super) async fn take(
        what: &'static str,
        wanted: &Path,
        run_as: Option<RunAs>,
    ) -> anyhow::Result<Self> {
        let path = make(wanted, run_as)?;
        let shown = path.display();
        let mut log = OpenOptions::new();
        let log = log.create(true).append(true).read(true).open(path.join("server.log"));
        let log = log.with_context(|| format!("the folder {shown} cannot be written"))?;
        lock(what, &path, &log).await?;
        if log.metadata()?.len() > LOG_BYTES_MAX {
            log.set_len(0)?;
        }
        let owner = std::process::id().to_string();
        std::fs::write(path.join("owner.pid"), owner)
            .with_context(|| format!("the folder {shown} cannot be written"))?;
        let log_begins_at = log.metadata()?.len();
        Ok(Self { path, run_as, log, log_begins_at })
    }

    /// An output for the server that is also the lock on this folder.
    pub(super) fn output(&self) -> std::io::Result<File> {
        self.log.try_clone()
    }

    /// Hands a file or folder inside to the user the server runs as.
    pub(super) fn give(&self, path: &Path) -> std::io::Result<()> {
        match self.run_as {
            Some(RunAs { uid, gid }) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Everything logged since this start.
    pub(super) fn log(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.path.join("server.log"))?;
            file.seek(SeekFrom::Start(self.log_begins_at))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
    }

    /// The last lines logged since this start, for an error message.
    pub(super) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
        match lines.get(shown..) {
            Some([]) | None => "(it logged nothing)".to_owned(),
            Some(last) => last.join("\n"),
        }
    }
}

/// Waits for the lock while a previous server finishes; says who holds it when that is hopeless.
async fn lock(what: &str, path: &Path, log: &File) -> anyhow::Result<()> {
    let shown = path.display();
    let give_up_at = tokio::time::Instant::now() + HANDOVER_WAIT;
    loop {
        match log.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("the folder {shown} cannot be locked"));
            }
        }
        if let Some(owner) = pid_in(&path.join("owner.pid")).filter(|pid| is_alive(*pid)) {
            bail!("{what} is already running in {shown}, started by process {owner}");
        }
        if tokio::time::Instant::now() >= give_up_at {
            let server = pid_in(&path.join("server.pid"));
            let server = server.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            bail!(
                "{what} (process {server}) still runs in {shown} although its starter is gone; \
                 end that process and try again"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether no process, of ours or of a server, holds the folder any more.
pub(super) fn is_given_up(path: &Path) -> bool {
    File::open(path.join("server.log")).is_ok_and(|log| log.try_lock().is_ok())
}

/// The process id a file holds in its first line.
pub(super) fn pid_in(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok()
}

/// Whether there is such a process; one we may not signal is there, too.
fn is_alive(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    !matches!(kill(Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
}

/// Makes the folder, private to the user the server runs as; elsewhere if that user may not
/// enter it. A file in the wanted folder then tells where, so that deleting the wanted folder is
/// a fresh start all the same.
fn make(wanted: &Path, run_as: Option<RunAs>) -> anyhow::Result<PathBuf> {
    let wanted = std::path::absolute(wanted).context("the data folder has no name")?;
    make_private(&wanted, run_as)?;
    let Some(user) = run_as else { return Ok(wanted) };
    if may_enter(&wanted, user) {
        return Ok(wanted);
    }
    let signpost = wanted.join("elsewhere");
    let elsewhere = match std::fs::read_to_string(&signpost) {
        Ok(path) => PathBuf::from(path.trim()),
        Err(_) => Path::new(ELSEWHERE).join(hex::encode(rand::random::<[u8; 8]>())),
    };
    make_private(&elsewhere, run_as)?;
    std::fs::write(&signpost, format!("{}\n", elsewhere.display()))
        .with_context(|| format!("the folder {} cannot be written", wanted.display()))?;
    let (shown, there) = (wanted.display(), elsewhere.display());
    tracing::info!("user {} may not enter {shown}, so the data is in {there}", user.uid);
    Ok(elsewhere)
}

fn make_private(path: &Path, run_as: Option<RunAs>) -> anyhow::Result<()> {
    let make = || -> std::io::Result<()> {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        match run_as {
            Some(RunAs { uid, gid }) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    };
    make().with_context(|| format!("the folder {} cannot be made or is not ours", path.display()))
}

/// Tried, not computed: modes are not the only thing that keeps a user out.
fn may_enter(path: &Path, user: RunAs) -> bool {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "cd \"$1\" && : >.reach", "sh"]).arg(path);
    command.current_dir("/").stderr(std::process::Stdio::null());
    RunAs::apply(Some(user), &mut command);
    let entered = command.status().is_ok_and(|status| status.success());
    entered && std::fs::remove_file(path.join(".reach")).is_ok()
}

/// A copy of an installed Python package that another user can run, made once for each release of
/// it: the package, the libraries beside it, and the folder that names the release.
pub(super) fn copy_for_others(package: &Path) -> anyhow::Result<PathBuf> {
    use sha2::Digest as _;
    let name = package.file_name().context("a package has a name")?;
    let beside = package.parent().context("a package is somewhere")?;
    let belongs = |path: &Path| {
        let theirs = path.file_name().map(std::ffi::OsStr::as_encoded_bytes);
        theirs.is_some_and(|theirs| theirs.starts_with(name.as_encoded_bytes()))
    };
    let parts = std::fs::read_dir(beside)?.map(|entry| entry.map(|entry| entry.path()));
    let mut parts: Vec<PathBuf> = parts.collect::<Result<_, _>>()?;
    parts.retain(|path| belongs(path));
    parts.sort();
    let mut digest = sha2::Sha256::new();
    for part in &parts {
        digest.update(part.as_os_str().as_encoded_bytes());
    }
    let digest = hex::encode(digest.finalize());
    let to = Path::new(ELSEWHERE).join(digest.get(..16).unwrap_or(&digest));
    if !to.exists() {
        let half_done = to.with_extension(format!("new-{}", std::process::id()));
        std::fs::create_dir_all(&half_done)?;
        for path in [Path::new(ELSEWHERE), &half_done] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
        let script = "PATH=$PATH:/usr/bin:/bin; cp -R \"$@\"";
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).args(&parts).arg(&half_done);
        if !command.status()?.success() {
            bail!("failed to copy {} to {}", package.display(), half_done.display());
        }
        if std::fs::rename(&half_done, &to).is_err() && !to.exists() {
            bail!("failed to place {}", to.display());
        }
        tracing::info!("{} is private, so its copy in {} is used", package.display(), to.display());
    }
    Ok(to.join(name))
}
