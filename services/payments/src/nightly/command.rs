//! `payments reconcile`: compares one day now, and says line by line what does not agree.
//!
//! It needs what the service needs: its database, Paystack, and the ledger over NATS. What it finds
//! is kept like what is found at night, with the name of who asked.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bus::ask::Asker;
use chassis::{Configure as _, Logging, Secret, postgres};
use primitives::Timestamp;

use super::{By, Office, Report, shown};
use crate::day::Day;
use crate::operate::{Signature, signature};
use crate::{Config, ORIGIN};

/// Connections of a command that does one thing.
const CONNECTIONS: u32 = 5;
/// The name it has at Postgres and NATS.
const NAME: &str = "payments-operator";
/// Something does not agree.
const EXIT_DIFFERENCES: u8 = 1;
/// It could not be done, so nothing is known.
const EXIT_FAILED: u8 = 2;

/// What `payments reconcile` takes.
#[derive(Debug, clap::Args)]
pub struct Reconcile {
    /// The day (UTC), such as 2026-11-20; one that is not over yet is compared as far as it came.
    #[arg(long, value_name = "DAY", value_parser = Day::parse)]
    day: Day,
    #[command(flatten)]
    signature: Signature,
    /// The NATS server, with credentials when it wants them.
    #[arg(
        id = "reconcile_nats_url",
        long = "nats-url",
        env = "NATS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    nats_url: Secret,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    config: Config,
}

/// Does it, and says how it ended: 0 if everything agrees, 1 if not, 2 if it could not be done.
pub(crate) fn run(asked: Reconcile) -> ExitCode {
    if let Err(code) = chassis::check(ORIGIN, [asked.logging.check(), asked.config.check()]) {
        return code;
    }
    let logging = asked.logging.clone();
    let ended = chassis::within(ORIGIN, &logging, async {
        match reconcile(asked).await {
            Ok(report) => say(&report),
            Err(error) => {
                tracing::error!("payments reconcile: {error:#}");
                ExitCode::from(EXIT_FAILED)
            }
        }
    });
    ended.unwrap_or_else(|_| ExitCode::from(EXIT_FAILED))
}

async fn reconcile(asked: Reconcile) -> anyhow::Result<Report> {
    let Some((who, why)) = signature(asked.signature.parts()) else {
        bail!("say who asks (at most 200 characters) and why (at most 2,000)");
    };
    ensure!(asked.day.start() <= Timestamp::now(), "{} has not begun", asked.day);
    let config = asked.config;
    let pool = postgres::connect(&config.database_url, NAME, CONNECTIONS).await?;
    postgres::expect_migrated(&pool, &crate::MIGRATIONS).await?;
    let nats = chassis::nats::connect(asked.nats_url.expose(), NAME).await?;
    let office = Office {
        paystack: Arc::new(crate::paystack(&config)?),
        terms: config.pace.nightly(),
        desk: crate::desk(&config, pool)?,
        ledger: Asker::new(nats),
    };
    let by = By::Person(who, why);
    office.reconcile(asked.day, by).await.context("nothing is known of that day")
}

fn say(report: &Report) -> ExitCode {
    let code = if report.differences.is_empty() { 0 } else { EXIT_DIFFERENCES };
    let written = print(report).map_err(std::io::Error::other);
    match written.and_then(|text| std::io::stdout().write_all(text.as_bytes())) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

/// How many there are of each class, and then each.
fn print(report: &Report) -> Result<String, std::fmt::Error> {
    let Report { run_id, day, n_payments, n_deposits, n_woken, differences } = report;
    let mut text =
        format!("{day}: {n_payments} payments at Paystack, {n_deposits} of ours, run {run_id}\n");
    if *n_woken > 0 {
        writeln!(text, "{n_woken} deposits are looked at again")?;
    }
    if differences.is_empty() {
        text.push_str("everything agrees\n");
    }
    for (class, n) in shown::by_class(differences) {
        writeln!(text, "{class} {n}")?;
    }
    for it in differences {
        writeln!(text, "{}  {}  {}", it.class.code(), it.reference, it.detail)?;
    }
    Ok(text)
}
