//! The one folder that everything is in, and its end: also of those that a killed bench left.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::stage::POSTGRES;

const PREFIX: &str = "bench-";
/// Locked by its process for as long as that lives.
const ALIVE: &str = "alive";
/// In Postgres's folder: where its data is instead, when its user may not enter ours.
const ELSEWHERE: &str = "elsewhere";

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _alive: File,
}

impl Folder {
    /// Makes one inside `parent`, and removes those there whose process is gone. Another user may
    /// enter it, for Postgres may have to run as one.
    pub(crate) fn make(parent: &Path) -> anyhow::Result<Self> {
        sweep(parent);
        let path = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o711))
            .tempdir_in(parent)
            .with_context(|| format!("no folder can be made in {}", parent.display()))?
            .keep();
        let alive = File::create(path.join(ALIVE)).context("no file can be made in our folder")?;
        alive.lock().context("a file of our own cannot be locked")?;
        Ok(Self { path, _alive: alive })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // One without the file is being made at this moment.
        let alive = File::open(entry.path().join(ALIVE));
        if is_ours && alive.is_ok_and(|it| it.try_lock().is_ok()) {
            remove(&entry.path());
        }
    }
}

/// What cannot be removed does no harm but take room.
fn remove(folder: &Path) {
    if let Ok(elsewhere) = std::fs::read_to_string(folder.join(POSTGRES).join(ELSEWHERE)) {
        std::fs::remove_dir_all(elsewhere.trim()).ok();
    }
    std::fs::remove_dir_all(folder).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_bench_left_is_removed_and_what_a_living_one_uses_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = Folder::make(parent.path()).unwrap();
        let (left, elsewhere) = (parent.path().join("bench-left"), parent.path().join("other"));
        std::fs::create_dir_all(left.join(POSTGRES)).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(left.join(POSTGRES).join(ELSEWHERE), elsewhere.display().to_string())
            .unwrap();
        std::fs::write(left.join(ALIVE), "").unwrap();
        let new = Folder::make(parent.path()).unwrap();
        assert!(living.path().exists() && new.path().exists());
        assert!(!left.exists() && !elsewhere.exists());
        let gone = new.path().to_owned();
        drop(new);
        assert!(!gone.exists());
    }
}
