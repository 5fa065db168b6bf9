//! The smallest service: what a `main.rs` looks like, and the process that chassis' own tests run.
//!
//! `--sample-ending` says how it ends, so that a test can watch each exit code from outside.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chassis::{Configure, Context, Secret};
use tracing::Instrument;

/// How the sample ends.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Ending {
    /// When it is asked to, after finishing what is in hand.
    Asked,
    /// Never: its loop does not heed the shutdown.
    Never,
    /// `serve` fails.
    Fails,
    /// `serve` returns although nobody asked.
    Returns,
    /// A loop panics.
    LoopPanics,
    /// A loop fails.
    LoopFails,
    /// A loop ends although nobody asked.
    LoopEnds,
}

/// What the sample takes.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "sample")]
struct Config {
    /// A key that is checked and never shown.
    #[arg(id = "sample_key", long = "sample-key", env = "SAMPLE_KEY", value_name = "KEY")]
    key: Secret,
    /// How long the work in hand takes.
    #[arg(
        id = "sample_work_ms",
        long = "sample-work-ms",
        env = "SAMPLE_WORK_MS",
        default_value_t = 0,
        value_name = "MS"
    )]
    work_ms: u64,
    /// How it ends.
    #[arg(id = "sample_ending", long = "sample-ending", value_enum, default_value_t = Ending::Asked, value_name = "ENDING")]
    ending: Ending,
}

impl Configure for Config {
    fn check(&self) -> Result<(), String> {
        if self.key.expose().len() < 16 {
            return Err("SAMPLE_KEY must have at least 16 characters".to_owned());
        }
        Ok(())
    }
}

async fn migrate(config: Config) -> anyhow::Result<()> {
    if matches!(config.ending, Ending::Fails) {
        bail!("the sample has no schema");
    }
    Ok(())
}

async fn serve(config: Config, context: Context) -> anyhow::Result<()> {
    let shutdown = context.shutdown();
    let work = Duration::from_millis(config.work_ms);
    match config.ending {
        Ending::Fails => {
            Err(anyhow::anyhow!("the inner reason")).context("failed to serve the sample")
        }
        Ending::Returns => Ok(()),
        Ending::Asked
        | Ending::Never
        | Ending::LoopPanics
        | Ending::LoopFails
        | Ending::LoopEnds => {
            context.ready_when("sample", || async { Ok(()) });
            let token = shutdown.clone();
            context.spawn("work", async move {
                match config.ending {
                    Ending::LoopPanics => panic!("the sample panics"),
                    Ending::LoopFails => bail!("the sample fails"),
                    Ending::LoopEnds => return Ok(()),
                    Ending::Never => std::future::pending().await,
                    Ending::Asked | Ending::Fails | Ending::Returns => token.cancelled().await,
                }
                let finishing = tracing::info_span!("finish", elapsed_ms = config.work_ms);
                tokio::time::sleep(work).instrument(finishing).await;
                tracing::info!("the work in hand is done");
                Ok(())
            });
            shutdown.cancelled().await;
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    chassis::main("sample", migrate, serve)
}
