//! The `wallet` binary: the whole platform in one process.
//!
//! `wallet dev` brings its own Postgres, nats-server and sandbox; `wallet serve` runs the four
//! services against what it is given; `wallet demo` is a caller that walks the main job.
//!
//! Called by the name of a service (`ln -s wallet ledger`) it is that service alone: one program to
//! install, and a process for each service where that is wanted.

mod children;
mod demo;
mod dev;
mod folder;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chassis::{Config, Logging, Process};
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use wallet::platform::{self, Services};

const NAME: &str = "wallet";

#[derive(Debug, Parser)]
#[command(version, about = "The whole wallet platform in one process")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Everything a laptop needs: Postgres, NATS and a sandbox as well as the four services.
    Dev(dev::Args),
    /// The four services against a given Postgres and NATS.
    Serve(Box<Serve>),
    /// Brings every schema up to this release, and ends.
    Migrate(Box<Migrate>),
    /// Checks the configuration of `serve`, and ends: 0 when it is good, 64 when not.
    CheckConfig(Box<Serve>),
    /// Walks the main job against a running platform and prints each step.
    Demo(demo::Args),
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    process: Config,
    #[command(flatten)]
    services: Services,
    /// Where the public origin listens: every path of every service.
    #[arg(long, env = "WALLET_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    services: Services,
}

fn main() -> ExitCode {
    // The four lines are those of the services' own programs.
    match called().as_deref() {
        Some("api") => chassis::main("api", api::migrate, api::serve),
        Some("keys") => chassis::main("keys", keys::migrate, keys::serve),
        Some("ledger") => {
            chassis::main_with("ledger", ledger::migrate, ledger::serve, ledger::fsck::run)
        }
        Some("payments") => chassis::main_with(
            "payments",
            payments::migrate,
            payments::serve,
            payments::operate::run,
        ),
        Some(_) | None => all_in_one(),
    }
}

/// The name this program was called by.
fn called() -> Option<String> {
    let path = PathBuf::from(std::env::args_os().next()?);
    Some(path.file_name()?.to_str()?.to_owned())
}

fn all_in_one() -> ExitCode {
    let cli: Cli = match chassis::parse(NAME, std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.verb {
        Verb::Dev(args) => dev::main(args),
        Verb::Serve(settings) => match check(&settings) {
            Ok(()) => serve(*settings),
            Err(code) => code,
        },
        Verb::Migrate(settings) => match chassis::check(NAME, settings.services.checks()) {
            Ok(()) => chassis::once(NAME, &settings.logging, platform::migrate(settings.services)),
            Err(code) => code,
        },
        Verb::CheckConfig(settings) => match check(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(code) => code,
        },
        Verb::Demo(args) => chassis::once(NAME, &dev::quiet(), demo::run(args)),
    }
}

fn check(settings: &Serve) -> Result<(), ExitCode> {
    let services = settings.services.checks();
    chassis::check(NAME, std::iter::once(settings.process.check()).chain(services))
}

fn serve(settings: Serve) -> ExitCode {
    let nats_url = settings.process.nats_url.clone();
    chassis::run(NAME, settings.process, move |process| async move {
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("failed to listen on {}", settings.listen))?;
        run(&process, settings.services, nats_url.expose(), listener).await
    })
}

/// Starts the services and serves the origin until shutdown.
async fn run(
    process: &Process,
    services: Services,
    nats_url: &str,
    listener: TcpListener,
) -> anyhow::Result<()> {
    let origin = platform::start(services, process, nats_url).await?;
    chassis::http::serve(listener, origin, process.shutdown(), process.grace()).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
