//! One folder for the servers of a test binary, and the removal of those that were left behind.
//!
//! A process cannot remove its folder when it is over: its servers live to the very end. So each
//! binary removes what earlier ones left, unless a failed test asked to keep it.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

const PREFIX: &str = "fast-wallet-test-";
/// Locked by its process as long as it lives.
const ALIVE: &str = "alive";
/// Made when a database in it is kept.
const KEPT: &str = "kept";
/// How long a kept folder is kept.
const KEPT_FOR: Duration = Duration::from_hours(24);
/// How many are kept at most; one is some hundred megabytes.
const N_KEPT_MAX: usize = 5;

/// The folder of this process. Others may enter it, for Postgres may have to run as another user.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, _lock) = FOLDER.get_or_init(|| {
        sweep();
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .expect("a temporary folder can be made");
        let alive = File::create(folder.path().join(ALIVE)).expect("a file can be made in it");
        alive.lock().expect("a file of our own can be locked");
        (folder.keep(), alive)
    });
    path
}

/// Keeps the folder for a day after the process is over.
pub(crate) fn keep() {
    // Called while a test fails: a second failure must not hide the first.
    File::create(folder().join(KEPT)).ok();
}

fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    let mut kept = Vec::new();
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_ours || !is_abandoned(&entry.path()) {
            continue;
        }
        match kept_at(&entry.path()) {
            Some(at) => kept.push((at, entry.path())),
            None => remove(&entry.path()),
        }
    }
    kept.sort();
    let n_superfluous = kept.len().saturating_sub(N_KEPT_MAX);
    for (place, (at, path)) in kept.iter().enumerate() {
        // A clock that went back keeps the folder.
        if place < n_superfluous || at.elapsed().is_ok_and(|age| age > KEPT_FOR) {
            remove(path);
        }
    }
}

/// Its process is gone. One without the file is being made at this moment.
fn is_abandoned(folder: &Path) -> bool {
    File::open(folder.join(ALIVE)).is_ok_and(|alive| alive.try_lock().is_ok())
}

fn kept_at(folder: &Path) -> Option<SystemTime> {
    folder.join(KEPT).metadata().ok()?.modified().ok()
}

fn remove(folder: &Path) {
    // Another binary may be sweeping too, or it is another user's.
    std::fs::remove_dir_all(folder).ok();
}
