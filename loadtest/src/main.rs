//! `loadtest bench`: how fast the platform is on this machine, beside what its own Postgres does.
//! `loadtest webhooks`: how fast webhooks are taken while the ledger is away.
//!
//! Everything is real: Postgres with `fsync`, nats-server, the release programs as child
//! processes, and a caller that speaks HTTP. Afterwards the books must balance.

mod audit;
mod bench;
mod books;
mod engine;
mod figures;
mod folder;
mod http;
mod intake;
mod machine;
mod metrics;
mod pace;
mod pgbench;
mod plan;
mod platform;
mod progress;
mod publish;
mod report;
mod stage;
mod store;
mod tpcb;
mod webhooks;
mod workload;

use std::io::Write as _;
use std::process::ExitCode;

use chassis::shutdown::Signals;
use clap::{Parser, Subcommand};

const NAME: &str = "loadtest";
/// As shells report an end by Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;
/// Everything worked and balanced, but with `--strict` a figure is below its target.
const EXIT_BELOW_TARGET: u8 = 2;

#[derive(Debug, Parser)]
#[command(version, about = "Load on the wallet platform, and what it makes of it")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measures engine and edge against pgbench, with servers of its own; cleans up after itself.
    Bench(bench::Args),
    /// Measures how webhooks are taken while the ledger is stopped, with servers of its own; cleans
    /// up after itself.
    Webhooks(webhooks::Args),
}

fn main() -> ExitCode {
    let cli: Cli = match chassis::parse(NAME, std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = runtime.block_on(run(cli.verb));
    // A load that was interrupted has a thread of its own; nobody waits for it.
    runtime.shutdown_background();
    code
}

async fn run(verb: Verb) -> ExitCode {
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let measured = async {
        match verb {
            Verb::Bench(args) => bench::run(args).await,
            Verb::Webhooks(args) => webhooks::run(args).await,
        }
    };
    // Dropping what measures stops its servers and removes its folder.
    let ended = tokio::select! {
        ended = measured => ended,
        name = signals.next() => {
            // If standard error is closed, nobody wants to know.
            writeln!(std::io::stderr(), "\n{NAME}: {name}: stops, and leaves nothing behind").ok();
            return ExitCode::from(EXIT_INTERRUPTED);
        }
    };
    match ended {
        Ok(bench::End::Good) => ExitCode::SUCCESS,
        Ok(bench::End::BelowTarget) => ExitCode::from(EXIT_BELOW_TARGET),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // If standard error is closed, nobody wants to know.
    writeln!(std::io::stderr(), "\n{NAME}: {error:#}").ok();
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
