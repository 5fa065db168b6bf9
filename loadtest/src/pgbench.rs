//! What the same Postgres does with its own benchmark: the unit of every other speed.
//!
//! TPC-B-like, prepared statements, 16 clients on two threads, scale 20.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::stage::Stage;
use crate::{machine, tpcb};

pub(crate) const SCALE: i32 = 20;
pub(crate) const CLIENTS: u32 = 16;
const THREADS: u32 = 2;
const DATABASE: &str = "pgbench";

/// A database with pgbench's tables.
pub(crate) struct Pgbench {
    /// None if the machine has none.
    program: Option<PathBuf>,
    url: String,
}

impl Pgbench {
    /// Makes and fills the tables.
    pub(crate) async fn prepare(stage: &Stage) -> anyhow::Result<Self> {
        let url = stage.database(DATABASE).await?.urls.owner;
        let program = stage.postgres.programs().join("pgbench");
        let program = program.is_file().then_some(program);
        let prepared = Self { program, url };
        if prepared.program.is_some() {
            prepared.run(&["--initialize", "--quiet", "--scale", &SCALE.to_string()]).await?;
        } else {
            tpcb::prepare(&prepared.url).await?;
        }
        Ok(prepared)
    }

    /// Transactions a second.
    pub(crate) async fn measure(&self, lasting: Duration) -> anyhow::Result<f64> {
        machine::write_out().await?;
        if self.program.is_none() {
            return tpcb::measure(&self.url, lasting).await;
        }
        let (clients, threads) = (CLIENTS.to_string(), THREADS.to_string());
        let seconds = lasting.as_secs().max(1).to_string();
        let args = ["-M", "prepared", "-c", &clients, "-j", &threads, "-T", &seconds];
        let said = self.run(&args).await?;
        tps(&said).with_context(|| format!("pgbench said no tps: {said}"))
    }

    /// Which program it was.
    pub(crate) fn describe(&self) -> &'static str {
        match self.program {
            Some(_) => "pgbench",
            None => "pgbench's transaction by our own client, for there is no pgbench here",
        }
    }

    async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let program = self.program.as_ref().context("there is no pgbench")?;
        let mut command = Command::new(program);
        // The URL holds a password, but of a role that lives for minutes.
        command.args(args).arg(&self.url).current_dir("/").kill_on_drop(true);
        let output =
            command.stdin(Stdio::null()).output().await.context("failed to run pgbench")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pgbench failed: {}", errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The number in `tps = 6700.123 (without initial connection time)`.
fn tps(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tps_is_read_as_pgbench_prints_it() {
        let said = "scaling factor: 20\ninitial connection time = 31.2 ms\n\
                    tps = 6700.123456 (without initial connection time)\n";
        assert_eq!(tps(said), Some(6_700.123_456));
        assert_eq!(tps("nothing"), None);
    }
}
