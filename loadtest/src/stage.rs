//! The folder, the Postgres and the programs everything is measured on; all of it gone afterwards.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use sandbox::servers::{
    Companion, Launch, Nats, Options, Postgres, Tools, Urls, Wanted, ensure_role_and_database,
};

use crate::folder::Folder;
use crate::machine::Machine;
use crate::store;

/// What makes Postgres fit for a benchmark, for pgbench and for us alike: no checkpoint falls into
/// one run and not into another, segments of the write-ahead log are used again as on a server that
/// has run for an hour, instead of being made and filled with zeros, and the server's own log is not
/// what is measured.
const SETTINGS: &[(&str, &str)] = &[
    ("min_wal_size", "8GB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "30min"),
    ("log_checkpoints", "off"),
    ("log_min_messages", "error"),
];
/// Connections: pgbench's, four services', ours.
const CONNECTIONS_MAX: u16 = 100;
/// Where Postgres is in the folder.
pub(crate) const POSTGRES: &str = "postgres";
/// Passwords of roles on a server that lives for minutes on this machine alone.
const PASSWORD_BYTES: usize = 16;

/// Fields are dropped in this order: servers before the folder they live in.
pub(crate) struct Stage {
    pub(crate) postgres: Postgres,
    folder: Folder,
    programs: PathBuf,
}

impl Stage {
    /// Starts Postgres in a folder of its own on the disk of the build, which is the one that a
    /// developer works on.
    pub(crate) async fn start(
        machine: &Machine,
        programs: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("this program has no path")?;
        let here = this.parent().context("this program is in no folder")?;
        // Programs run in folders of their own, where a relative path leads nowhere.
        let programs = std::path::absolute(programs.unwrap_or_else(|| here.to_owned()))?;
        // target/release → target
        let folder = Folder::make(here.parent().unwrap_or(here))?;
        let mut settings = vec![("shared_buffers".to_owned(), machine.shared_buffers())];
        settings.extend(SETTINGS.iter().map(|(it, to)| ((*it).to_owned(), (*to).to_owned())));
        let options = Options {
            connections_max: CONNECTIONS_MAX,
            settings,
            tools: Tools::from_env(),
            ..Options::default()
        };
        let postgres = Postgres::start_with(&folder.path().join(POSTGRES), options).await?;
        let stage = Self { postgres, folder, programs };
        stage.expect_durable().await?;
        Ok(stage)
    }

    /// Whatever the figures are, they are of commits that survive a power cut.
    async fn expect_durable(&self) -> anyhow::Result<()> {
        let settings = store::settings(&self.postgres.admin_url()).await?;
        for (name, value) in settings.iter().filter(|(name, _)| store::DURABLE.contains(name)) {
            ensure!(value == "on", "{name} of Postgres is {value}, so nothing would be durable");
        }
        Ok(())
    }

    /// A folder of that name, to be made by whoever uses it.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A nats-server of that name.
    pub(crate) async fn nats(&self, name: &str) -> anyhow::Result<Nats> {
        Nats::start(&self.folder(name)).await
    }

    /// A database of that name with an owner and a runtime role, as in production.
    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<Database> {
        let (owner, runtime) = (format!("{name}_owner"), format!("{name}_runtime"));
        let password = hex::encode(rand::random::<[u8; PASSWORD_BYTES]>());
        let wanted = Wanted {
            database: name,
            owner: &owner,
            owner_password: &password,
            runtime: &runtime,
            runtime_password: &password,
        };
        let urls = ensure_role_and_database(&self.postgres.admin_url(), &wanted).await?;
        let mut admin_url = self.postgres.admin_url();
        admin_url.truncate(admin_url.rfind('/').map_or(0, |at| at.saturating_add(1)));
        admin_url.push_str(name);
        Ok(Database { urls, runtime, admin_url })
    }

    /// Starts one of our own programs.
    pub(crate) async fn program(
        &self,
        what: &'static str,
        args: &[&str],
        env: Vec<(String, String)>,
    ) -> anyhow::Result<Companion> {
        let program = self.programs.join(what);
        let shown = program.display();
        ensure!(program.is_file(), "{shown} is not there: cargo build --release -p {what}");
        let launch =
            Launch { what, program, args: args.iter().map(|it| (*it).to_owned()).collect(), env };
        // What runs at the same time needs a folder of its own.
        let folder = tempfile::Builder::new()
            .prefix(what)
            .tempdir_in(self.folder.path())
            .context("no folder for a program can be made")?;
        Companion::start(&folder.keep(), launch).await
    }

    /// Where all of it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A database and who may do what there.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) urls: Urls,
    /// Name of the runtime role.
    pub(crate) runtime: String,
    /// As the superuser, for looking.
    pub(crate) admin_url: String,
}
