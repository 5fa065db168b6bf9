//! The `sandbox` binary: the stand-ins of the library as a program.

mod prepare;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sandbox::faults::{self, Plan};
use sandbox::google::model::Client;
use sandbox::servers::{Nats, Postgres};
use tokio::signal::unix::{SignalKind, signal};

/// Stand-ins for what a wallet needs from the outside world.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Imitates Paystack and Google sign-in until told to stop.
    Serve(Box<Serve>),
    /// Has every SQL statement of the workspace checked against its migrations, and keeps what was
    /// learned, so that builds need no database.
    Prepare {
        /// Where it is kept.
        #[arg(long, default_value = ".sqlx")]
        into: PathBuf,
        /// Change nothing; fail if what is kept is not what would be.
        #[arg(long)]
        check: bool,
        /// What cargo is told.
        #[arg(last = true, default_values = ["check", "--workspace", "--all-targets"])]
        cargo: Vec<String>,
    },
    /// Runs Postgres and nats-server in a folder until told to stop; prints one line of JSON.
    Servers {
        /// Folder for their data.
        #[arg(long, env = "WALLET_DATA", default_value = ".wallet")]
        data: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Address to listen on.
    #[arg(long, env = "SANDBOX_HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "SANDBOX_PORT", default_value_t = 8090)]
    port: u16,
    /// The merchant's secret key: opens the API and signs webhooks.
    #[arg(long, env = "PAYSTACK_SECRET_KEY", hide_env_values = true)]
    secret_key: String,
    /// The only place webhooks are sent to; none are sent without it.
    #[arg(long, env = "SANDBOX_WEBHOOK_URL")]
    webhook_url: Option<String>,
    /// Where a browser reaches the sandbox; by default the address it listens on.
    #[arg(long, env = "SANDBOX_PUBLIC_URL")]
    public_url: Option<String>,
    /// Where a browser goes after payment if the transaction names no place.
    #[arg(long, env = "SANDBOX_CALLBACK_URL")]
    callback_url: Option<String>,
    /// The application that may let people sign in.
    #[arg(long, env = "GOOGLE_CLIENT_ID")]
    google_client_id: Option<String>,
    /// Its secret.
    #[arg(long, env = "GOOGLE_CLIENT_SECRET", hide_env_values = true)]
    google_client_secret: Option<String>,
    /// Where it may send people back to, comma-separated; by default anywhere on this machine.
    #[arg(long, env = "SANDBOX_REDIRECT_URIS", value_delimiter = ',')]
    redirect_uris: Vec<String>,
    /// Calls a minute for every scope; by default Paystack's limits for live keys.
    #[arg(long, env = "SANDBOX_CALLS_PER_MINUTE")]
    calls_per_minute: Option<u32>,
    /// A test key has a test key's limit: 100 calls a minute for everything together.
    #[arg(long, env = "SANDBOX_STRICT_LIMITS")]
    strict_limits: bool,
    /// Adds Paystack's fees to what the customer pays.
    #[arg(long, env = "SANDBOX_FEES_ON_CUSTOMER")]
    fees_on_customer: bool,
    /// Refuses refunds that the balance does not cover.
    #[arg(long, env = "SANDBOX_REFUNDS_NEED_BALANCE")]
    refunds_need_balance: bool,
    /// Has no list of webhooks, as some accounts do.
    #[arg(long, env = "SANDBOX_NO_WEBHOOK_LIST")]
    no_webhook_list: bool,
    /// How long a refund is `pending`.
    #[arg(long, env = "SANDBOX_REFUND_PENDING_MS", default_value_t = 500)]
    refund_pending_ms: u64,
    /// How long a refund is `processing`.
    #[arg(long, env = "SANDBOX_REFUND_PROCESSING_MS", default_value_t = 1_000)]
    refund_processing_ms: u64,
    /// File that keeps transactions over a restart.
    #[arg(long, env = "SANDBOX_JOURNAL")]
    journal: Option<PathBuf>,
    /// What made-up codes are drawn from, and faults.
    #[arg(long, env = "SEED", default_value_t = 0)]
    seed: u64,
    /// What faults are drawn from instead.
    #[arg(long, env = "SANDBOX_FAULTS_SEED")]
    faults_seed: Option<u64>,
    /// Bad weather: each call and each webhook goes wrong in each of its ways with this chance.
    #[arg(long, env = "SANDBOX_FAULTS_RATE", default_value_t = 0.0)]
    faults_rate: f64,
    /// How long slow calls and late webhooks take in bad weather.
    #[arg(long, env = "SANDBOX_FAULTS_DELAY_MS", default_value_t = 5_000)]
    faults_delay_ms: u64,
    /// File with a list of faults, as `/control/faults` takes them; they count from the start.
    #[arg(long, env = "SANDBOX_FAULTS_PLAN")]
    faults_plan: Option<PathBuf>,
}

impl Serve {
    fn faults(&self) -> anyhow::Result<Vec<Plan>> {
        let mut plans = Vec::new();
        if self.faults_rate != 0.0 {
            plans = faults::weather(self.faults_rate, self.faults_delay_ms);
        }
        if let Some(path) = &self.faults_plan {
            let text = std::fs::read(path);
            let text = text.with_context(|| format!("failed to read {}", path.display()))?;
            let more: Vec<Plan> = serde_json::from_slice(&text)
                .with_context(|| format!("{} is no list of faults", path.display()))?;
            plans.extend(more);
        }
        anyhow::ensure!(plans.iter().all(Plan::is_sane), "a chance is from 0 to 1");
        Ok(plans)
    }

    fn config(self, faults: Vec<Plan>) -> sandbox::Config {
        let default = sandbox::Config::default();
        let google = Client {
            id: self.google_client_id.unwrap_or(default.google.id),
            secret: self.google_client_secret.unwrap_or(default.google.secret),
            redirect_uris: self.redirect_uris,
        };
        sandbox::Config {
            secret_key: self.secret_key,
            webhook_url: self.webhook_url,
            public_url: self.public_url,
            callback_url: self.callback_url,
            google,
            calls_per_minute: self.calls_per_minute,
            strict_limits: self.strict_limits,
            fees_on_customer: self.fees_on_customer,
            refunds_need_balance: self.refunds_need_balance,
            lists_webhooks: !self.no_webhook_list,
            refund_pending: Duration::from_millis(self.refund_pending_ms),
            refund_processing: Duration::from_millis(self.refund_processing_ms),
            journal: self.journal,
            seed: self.seed,
            faults_seed: self.faults_seed,
            faults,
            merchant: default.merchant,
            currencies: default.currencies,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("SANDBOX_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,poem=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let run = async {
        match args.command {
            Command::Serve(serve) => self::serve(*serve).await,
            Command::Prepare { into, check, cargo } => prepare::run(&into, check, &cargo).await,
            Command::Servers { data } => servers(data).await,
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Serve) -> anyhow::Result<()> {
    let address = (args.host.clone(), args.port);
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener =
        listener.with_context(|| format!("{}:{} cannot be listened on", args.host, args.port))?;
    let faults = args.faults()?;
    let mut sandbox = sandbox::start(listener, args.config(faults)).await?;
    let (paystack, google) = (sandbox.paystack_base_url(), sandbox.google_issuer());
    writeln!(std::io::stdout(), "PAYSTACK_BASE_URL={paystack}\nGOOGLE_ISSUER={google}")?;
    tokio::select! {
        told = told_to_stop() => told?,
        error = sandbox.failed() => return Err(error),
    }
    sandbox.stop().await;
    Ok(())
}

async fn servers(data: PathBuf) -> anyhow::Result<()> {
    let postgres = Postgres::start(&data.join("postgres")).await?;
    let nats = Nats::start(&data.join("nats")).await?;
    let line = serde_json::json!({
        "postgres": { "url": postgres.admin_url(), "pid": postgres.pid() },
        "nats": { "url": nats.url(), "pid": nats.pid() },
    });
    writeln!(std::io::stdout(), "{line}")?;
    told_to_stop().await?;
    nats.stop().await?;
    postgres.stop().await
}

/// Waits for SIGINT or SIGTERM.
async fn told_to_stop() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn faults_come_from_a_rate_and_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.json");
        std::fs::write(&file, r#"[{"fault":"webhook_lost","count":2}]"#).unwrap();
        let read = |args: &[&str]| {
            let args = ["sandbox", "serve", "--secret-key", "k"].iter().chain(args);
            match Args::parse_from(args).command {
                Command::Serve(serve) => serve.faults().map(|plans| plans.len()),
                Command::Prepare { .. } | Command::Servers { .. } => Ok(0),
            }
        };
        let file = file.to_str().unwrap();
        assert_eq!(read(&[]).unwrap(), 0);
        assert_eq!(read(&["--faults-plan", file]).unwrap(), 1);
        assert_eq!(
            read(&["--faults-rate", "0.1", "--faults-plan", file]).unwrap(),
            1 + faults::weather(0.1, 0).len()
        );
        for bad in [["--faults-rate", "1.5"], ["--faults-plan", "/nowhere"]] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
