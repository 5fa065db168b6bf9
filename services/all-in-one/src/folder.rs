//! The data folder of `wallet dev`: what is made once and kept between runs.
//!
//! Secrets are files that only their owner can read. One process at a time holds the folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

/// Held from start to end; the lock goes with it, however the process ends.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    /// Makes the folder if need be and takes it for this process.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.exists() && !path.is_dir() {
            bail!("{} is not a folder; set WALLET_DATA to one", path.display());
        }
        fs::create_dir_all(path).with_context(|| {
            format!("the data folder {} cannot be made; set WALLET_DATA", path.display())
        })?;
        let path = path.canonicalize()?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| format!("the data folder {} cannot be written", path.display()))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            bail!(
                "another wallet is already running on the data folder {}; stop it, or set WALLET_DATA to another folder",
                path.display()
            );
        };
        Ok(Self { path, _lock: lock })
    }

    /// A folder inside, to be made by whoever uses it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The secret kept under `name`, made by `make` the first time.
    pub(crate) fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> String,
    ) -> anyhow::Result<String> {
        let folder = self.path.join("secrets");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = folder.join(name);
        match File::open(&path) {
            Ok(mut file) => {
                let mut secret = String::new();
                file.read_to_string(&mut secret)?;
                if secret.is_empty() {
                    bail!("{} is empty; remove it and a new secret is made", path.display());
                }
                Ok(secret)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let secret = make();
                write(&path, &secret)?;
                Ok(secret)
            }
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Keeps a text that only its owner may read under `name`, whatever was there.
    pub(crate) fn keep(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Written beside and renamed, so that a crash leaves no half of it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_added_extension("new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let first = folder.secret("k", || "one".to_owned()).unwrap();
        let again = folder.secret("k", || "two".to_owned()).unwrap();
        assert_eq!((first.as_str(), again.as_str()), ("one", "one"));
        let mode = fs::metadata(folder.join("secrets/k")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_has_one_holder() {
        let temp = tempfile::tempdir().unwrap();
        let held = Folder::open(temp.path()).unwrap();
        let refused = Folder::open(temp.path()).unwrap_err().to_string();
        assert!(refused.contains("already running"), "{refused}");
        drop(held);
        assert!(Folder::open(temp.path()).is_ok());
    }
}
