//! Postgres in a folder: `cluster/` (its data), `password`, `server.log`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use super::folder::{Folder, RunAs};
use super::guardian::{Guarded, Program, write_private};
use super::programs::{Found, Tools};
use super::{free_port, new_password};

/// Recovery after a crash is part of starting.
const READY_WAIT: Duration = Duration::from_secs(120);
/// Somebody else may take the port we chose before Postgres does; or a killed server's last
/// processes may still be leaving.
const STARTS_MAX: u32 = 5;

/// How Postgres is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port to listen on; a free one by default.
    pub port: Option<u16>,
    /// Whether what was committed survives a power cut. Only tests may say no: it is faster.
    pub durable: bool,
    /// Most connections at once.
    pub connections_max: u16,
    /// More server settings, as `postgres -c name=value` takes them; they win over the usual ones.
    pub settings: Vec<(String, String)>,
    /// Where the program is looked for.
    pub tools: Tools,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: None,
            durable: true,
            connections_max: 300,
            settings: Vec::new(),
            tools: Tools::from_env(),
        }
    }
}

/// A running Postgres. Dropping it stops it, too, and blocks for as long as that takes.
#[derive(Debug)]
pub struct Postgres {
    guarded: Guarded,
    port: u16,
    password: String,
    programs: PathBuf,
}

impl Postgres {
    /// Starts Postgres in the folder `data`, which is made if need be; its data stays there.
    ///
    /// # Errors
    /// One sentence: no program, a folder that is in use, broken or not ours, no port.
    pub async fn start(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(data, Options::default()).await
    }

    /// As [`Self::start`], with other options.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(data: &Path, options: Options) -> anyhow::Result<Self> {
        let mut pause = Duration::from_millis(100);
        for attempt in 1.. {
            let error = match start_once(data, &options).await {
                Ok(running) => return Ok(running),
                Err(error) => error,
            };
            let text = format!("{error:#}");
            let taken = text.contains("Address already in use") && options.port.is_none();
            let leaving = text.contains("pre-existing shared memory block");
            if attempt >= STARTS_MAX || !(taken || leaving) {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// Where the superuser connects: database `postgres`, with the password.
    #[must_use]
    pub fn admin_url(&self) -> String {
        admin_url(self.port, &self.password)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the server (the postmaster).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.guarded.pid()
    }

    /// Whether the server still runs; it should until it is stopped.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.guarded.exited(), Ok(None))
    }

    /// The folder that holds the data: the one given, unless its user may not enter that one.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.guarded.folder().path
    }

    /// The folder of this release's programs: `initdb`, and usually `psql` and `pgbench`.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Ends all sessions, writes what is to be written and waits for the end.
    ///
    /// # Errors
    /// The server does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.guarded.stop().await
    }

    /// Ends it as a power cut would: sessions break, nothing is written any more.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.guarded.kill().await
    }
}

fn admin_url(port: u16, password: &str) -> String {
    format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres")
}

async fn start_once(data: &Path, options: &Options) -> anyhow::Result<Postgres> {
    let run_as = RunAs::for_postgres(&data.join("cluster"))?;
    let folder = Folder::take("Postgres", data, run_as).await?;
    let cluster = folder.path.join("cluster");
    let password_file = folder.path.join("password");
    let program = if cluster.exists() {
        let major = std::fs::read_to_string(cluster.join("PG_VERSION"));
        let major = major.ok().and_then(|text| text.trim().parse().ok());
        let Some(major) = major else {
            bail!("{} is no Postgres cluster: it has no PG_VERSION", cluster.display());
        };
        options.tools.postgres(run_as, Some(major))?
    } else {
        let program = options.tools.postgres(run_as, None)?;
        make_cluster(&program, &folder, &password_file, options.durable)?;
        program
    };
    let password = std::fs::read_to_string(&password_file)
        .with_context(|| format!("the password in {} is missing", password_file.display()))?
        .trim()
        .to_owned();
    forget_dead_postmaster(&cluster).await?;
    let port = options.port.map_or_else(free_port, Ok).context("no port is free")?;
    let server = Program {
        what: "Postgres",
        path: program.bin.join("postgres"),
        args: server_args(port, options).into_iter().map(Into::into).collect(),
        env: Vec::new(),
        finish_signal: "INT",
    };
    let guarded = Guarded::spawn(server, folder)?;
    let running = Postgres { guarded, port, password, programs: program.bin };
    let connect: sqlx::postgres::PgConnectOptions = running.admin_url().parse()?;
    let connect = connect.disable_statement_logging();
    running
        .guarded
        .ready(READY_WAIT, async || match PgConnection::connect_with(&connect).await {
            Ok(conn) => conn.close().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        })
        .await?;
    tracing::info!(port, pid = running.pid(), "Postgres {} runs", program.version.0);
    Ok(running)
}

/// Only TCP on the loopback address: a socket's path may be too long, and somebody else's.
fn server_args(port: u16, options: &Options) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        format!("max_connections={}", options.connections_max),
    ];
    if !options.durable {
        settings.extend(
            ["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(Into::into),
        );
    }
    let more = options.settings.iter().map(|(name, value)| format!("{name}={value}"));
    settings.extend(more);
    let mut args = vec!["-D".to_owned(), "cluster".to_owned(), "-p".to_owned(), port.to_string()];
    args.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
    args
}

/// Makes the cluster beside its place and moves it there, so that a half-made one is never used.
fn make_cluster(
    program: &Found,
    folder: &Folder,
    password_file: &Path,
    durable: bool,
) -> anyhow::Result<()> {
    let half_made = folder.path.join("cluster.new");
    if half_made.exists() {
        std::fs::remove_dir_all(&half_made).context("failed to remove a half-made cluster")?;
    }
    write_private(password_file, &new_password()).context("failed to write the password")?;
    folder.give(password_file).context("failed to hand over the password")?;
    let mut command = Command::new(program.bin.join("initdb"));
    command.args(["-D", "cluster.new", "-U", "postgres", "-E", "UTF8", "--locale=C"]);
    command.args(["--auth=scram-sha-256", "--pwfile=password"]);
    if !durable {
        command.arg("--no-sync");
    }
    command.current_dir(&folder.path).env("LC_ALL", "C").stdin(std::process::Stdio::null());
    RunAs::apply(folder.run_as, &mut command);
    // Its output is the lock on the folder, too: nobody else begins while it still runs.
    command.stdout(folder.output()?).stderr(folder.output()?);
    let status = command.status().context("failed to run initdb")?;
    if !status.success() {
        let (shown, said) = (folder.path.display(), folder.last_words());
        bail!("Postgres's initdb failed in {shown}; its last words:\n{said}");
    }
    std::fs::rename(&half_made, folder.path.join("cluster")).context("failed to place the cluster")
}

/// Removes the mark of a server that was killed, when its process id now belongs to another
/// program. We hold the folder's lock and nobody listens where the mark says: nobody is there.
async fn forget_dead_postmaster(cluster: &Path) -> anyhow::Result<()> {
    let mark = cluster.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&mark) else { return Ok(()) };
    if let Some(port) = text.lines().nth(3).and_then(|line| line.trim().parse::<u16>().ok())
        && tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    {
        // Perhaps another program has that port by now; Postgres itself decides.
        return Ok(());
    }
    std::fs::remove_file(&mark).with_context(|| format!("failed to remove {}", mark.display()))
}
