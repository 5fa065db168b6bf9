//! nats-server with JetStream in a folder: `jetstream/` (its streams), `password`, `nats.conf`,
//! `server.log`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;

use super::folder::Folder;
use super::guardian::{Guarded, Program, write_private};
use super::programs::Tools;
use super::{free_port, new_password};

/// Reading long streams back is part of starting.
const READY_WAIT: Duration = Duration::from_secs(60);
/// Somebody else may take the port we chose before nats-server does.
const STARTS_MAX: u32 = 5;

/// A running nats-server. Dropping it stops it, too, and blocks for as long as that takes.
#[derive(Debug)]
pub struct Nats {
    guarded: Guarded,
    port: u16,
    password: String,
}

impl Nats {
    /// Starts nats-server in the folder `data`, which is made if need be; its streams stay there.
    ///
    /// # Errors
    /// One sentence: no program, a folder that is in use, broken or not ours, no port.
    pub async fn start(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(data, None, &Tools::from_env()).await
    }

    /// As [`Self::start`], on a given port and with programs from given places.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(data: &Path, port: Option<u16>, tools: &Tools) -> anyhow::Result<Self> {
        for attempt in 1.. {
            match start_once(data, port, tools).await {
                Ok(running) => return Ok(running),
                Err(error) => {
                    let taken = format!("{error:#}").contains("address already in use");
                    if attempt >= STARTS_MAX || port.is_some() || !taken {
                        return Err(error);
                    }
                }
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// Where clients connect, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://wallet:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the server.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.guarded.pid()
    }

    /// Whether the server still runs; it should until it is stopped.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.guarded.exited(), Ok(None))
    }

    /// Ends all connections and waits for the end.
    ///
    /// # Errors
    /// The server does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.guarded.stop().await
    }

    /// Ends it as a power cut would: nothing in hand is finished, nobody is told.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.guarded.kill().await
    }
}

async fn start_once(data: &Path, port: Option<u16>, tools: &Tools) -> anyhow::Result<Nats> {
    let program = tools.nats()?;
    let folder = Folder::take("nats-server", data, None).await?;
    let port = port.map_or_else(free_port, Ok).context("no port is free")?;
    let password = password(&folder.path)
        .with_context(|| format!("the folder {} cannot be used", folder.path.display()))?;
    // In a file, because everybody on the machine can read the arguments of a process.
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\n\
         jetstream {{ store_dir: \"jetstream\" }}\n\
         authorization {{ user: wallet, password: \"{password}\" }}\n"
    );
    write_private(&folder.path.join("nats.conf"), &config)
        .with_context(|| format!("the folder {} cannot be written", folder.path.display()))?;
    let server = Program {
        what: "nats-server",
        path: program.bin.join("nats-server"),
        args: ["-c", "nats.conf"].map(Into::into).to_vec(),
        env: Vec::new(),
        finish_signal: "TERM",
    };
    let guarded = Guarded::spawn(server, folder)?;
    let running = Nats { guarded, port, password };
    running.guarded.ready(READY_WAIT, async || greeted(port).await).await?;
    let (major, minor) = program.version;
    tracing::info!(port, pid = running.pid(), "nats-server {major}.{minor} runs");
    Ok(running)
}

/// Made once: whoever is connected finds the same server after a restart.
fn password(folder: &Path) -> std::io::Result<String> {
    let file = folder.join("password");
    match std::fs::read_to_string(&file) {
        Ok(password) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let password = new_password();
    write_private(&file, &password)?;
    Ok(password)
}

/// A nats-server speaks first. JetStream is up before the port is open.
async fn greeted(port: u16) -> Result<(), String> {
    let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    let mut greeting = [0; 5];
    let read = tokio::time::timeout(Duration::from_secs(2), stream.read_exact(&mut greeting)).await;
    match read {
        Ok(Ok(_)) if &greeting == b"INFO " => Ok(()),
        Ok(Ok(_)) => Err("something else answers on the port".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no greeting within 2 s".to_owned()),
    }
}
