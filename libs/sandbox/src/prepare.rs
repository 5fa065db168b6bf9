//! `sandbox prepare`: checks every SQL statement against the migrations, and keeps what was learned.
//!
//! sqlx's macros ask a database at compile time, or read what an earlier compilation kept. This
//! makes that database (a throw-away Postgres with every migration applied) and has cargo compile
//! against it. It lives here because it must build before any crate with SQL does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, read_dir};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use primitives::Timestamp;
use sandbox::servers::{Options, Postgres};
use sqlx::Connection as _;
use sqlx::migrate::Migrator;

/// Crates with migrations; each one's last name is its schema.
const CRATES: [&str; 5] =
    ["libs/bus", "services/api", "services/ledger", "services/payments", "services/keys"];

/// Runs cargo against a fresh database; the kept files are in `into` afterwards, or with `check`
/// unchanged and compared.
pub(crate) async fn run(into: &Path, check: bool, cargo: &[String]) -> anyhow::Result<()> {
    let scratch = std::env::temp_dir().join(format!("fast-wallet-prepare-{}", std::process::id()));
    let prepared = prepare(&scratch, cargo).await;
    let done = prepared.and_then(|learned| keep(&learned, into, check));
    if scratch.exists() {
        let removed = std::fs::remove_dir_all(&scratch);
        done.and_then(|()| removed.context("failed to remove the throw-away database"))
    } else {
        done
    }
}

async fn prepare(scratch: &Path, cargo: &[String]) -> anyhow::Result<Kept> {
    let options = Options { durable: false, ..Options::default() };
    let postgres = Postgres::start_with(&scratch.join("postgres"), options).await?;
    let url = postgres.admin_url();
    let learned = scratch.join("learned");
    std::fs::create_dir_all(&learned)?;
    let checked = async {
        migrate(&url).await?;
        touch_statements()?;
        let mut command = tokio::process::Command::new("cargo");
        command.args(cargo).env("DATABASE_URL", &url).env("SQLX_OFFLINE", "false");
        let status = command.env("SQLX_OFFLINE_DIR", &learned).status().await;
        if !status.context("failed to run cargo")?.success() {
            bail!("cargo {} failed", cargo.join(" "));
        }
        Kept::read(&learned)
    };
    let checked = checked.await;
    postgres.stop().await?;
    checked
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    let mut conn = sqlx::PgConnection::connect(url).await.context("failed to connect")?;
    for folder in CRATES.map(Path::new) {
        let schema = folder.file_name().and_then(OsStr::to_str).context("a crate has a name")?;
        let failed = || format!("a migration of {} failed", folder.display());
        let mut migrator = Migrator::new(folder.join("migrations")).await.with_context(failed)?;
        migrator.create_schema(schema.to_owned());
        migrator.dangerous_set_table_name(format!("{schema}._sqlx_migrations"));
        migrator.run(&mut conn).await.with_context(failed)?;
    }
    conn.close().await.context("failed to finish the migrations")
}

/// Makes cargo compile every file with a checked statement again, whatever it remembers.
fn touch_statements() -> anyhow::Result<()> {
    let now = SystemTime::from(Timestamp::now().to_datetime());
    let mut folders: Vec<PathBuf> = CRATES.map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for path in sorted(&folder)? {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = path.extension() == Some(OsStr::new("rs"));
            if source && std::fs::read_to_string(&path).is_ok_and(|text| has_statement(&text)) {
                let file = File::options().append(true).open(&path);
                let touched = file.and_then(|file| file.set_modified(now));
                touched.with_context(|| format!("failed to touch {}", path.display()))?;
            }
        }
    }
    Ok(())
}

fn has_statement(text: &str) -> bool {
    let macros = [
        "query!",
        "query_as!",
        "query_scalar!",
        "query_file!",
        "query_file_as!",
        "query_file_scalar!",
        "migrate!",
    ];
    macros.iter().any(|name| text.contains(name))
}

fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let paths = read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
        paths.sort();
        Ok(paths)
    };
    read().with_context(|| format!("failed to list {}", folder.display()))
}

/// The files sqlx keeps, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kept(BTreeMap<String, Vec<u8>>);

impl Kept {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        for path in sorted(folder)? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
            if name.starts_with("query-") {
                files.insert(name, std::fs::read(&path)?);
            }
        }
        Ok(Self(files))
    }
}

/// Puts what was learned in the place of what was kept, or only compares the two.
fn keep(learned: &Kept, into: &Path, check: bool) -> anyhow::Result<()> {
    let shown = into.display();
    let kept = if into.exists() { Kept::read(into)? } else { Kept::default() };
    if kept == *learned {
        return Ok(());
    }
    if check {
        bail!("{shown} is not what the statements and migrations make: run `make prepare`");
    }
    std::fs::create_dir_all(into).with_context(|| format!("failed to make {shown}"))?;
    for name in kept.0.keys().filter(|name| !learned.0.contains_key(*name)) {
        std::fs::remove_file(into.join(name))
            .with_context(|| format!("failed to clear {shown}"))?;
    }
    for (name, text) in &learned.0 {
        std::fs::write(into.join(name), text).with_context(|| format!("failed to fill {shown}"))?;
    }
    tracing::info!("{} statements are kept in {shown}", learned.0.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_becomes_what_was_learned_and_check_only_looks() {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("sqlx");
        let of = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).into()));
            Kept(files.collect())
        };
        let first = of(&[("query-1.json", "a"), ("query-2.json", "b")]);
        assert!(keep(&first, &into, true).unwrap_err().to_string().contains("make prepare"));
        assert!(!into.exists());
        keep(&first, &into, false).unwrap();
        keep(&first, &into, true).unwrap();
        std::fs::write(into.join("README"), "stays").unwrap();
        let second = of(&[("query-2.json", "c"), ("query-3.json", "d")]);
        assert!(keep(&second, &into, true).is_err());
        assert_eq!(Kept::read(&into).unwrap(), first);
        keep(&second, &into, false).unwrap();
        assert_eq!(Kept::read(&into).unwrap(), second);
        assert!(into.join("README").exists());
    }
}
