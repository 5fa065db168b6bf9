//! `wallet dev`: the whole platform on one machine, with nothing but what the project fetched.
//!
//! Postgres and nats-server run as children, Google and Paystack are played by the sandbox, every
//! secret is made once and kept in the data folder. Whatever the environment already says wins.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Listener};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use chassis::{LogFormat, Logging, Process, Secret};
use tokio::net::TcpListener;
use wallet::platform::{self, Services};

use crate::NAME;
use crate::children::{Children, Wanted};
use crate::folder::Folder;
use crate::settings::{Role, Settings};

/// Where the services' own commands are told how to find this platform.
const OPERATOR: &str = "operator.env";

/// What a laptop may want to choose.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Port of the public origin.
    #[arg(long, env = "PORT", default_value_t = 8000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Port of the sandbox: Paystack's API and checkout, and the OpenID provider.
    #[arg(long, env = "SANDBOX_PORT", default_value_t = 8090, value_parser = clap::value_parser!(u16).range(1..))]
    sandbox_port: u16,
    /// Port of /livez, /readyz and /metrics.
    #[arg(long, env = "ADMIN_PORT", default_value_t = 9000, value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: u16,
    /// Folder for everything that stays between runs.
    #[arg(long, env = "WALLET_DATA", default_value = ".wallet", value_name = "FOLDER")]
    data: PathBuf,
    /// A Postgres to use instead of a child: one database for all services.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Secret>,
    /// A NATS to use instead of a child.
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_name = "URL")]
    nats_url: Option<Secret>,
    /// Which log lines are written.
    #[arg(
        long,
        env = "LOG_LEVEL",
        default_value = "warn,wallet=info,sqlx=error",
        value_name = "DIRECTIVES"
    )]
    log_level: String,
}

/// Logging of the commands that talk to a person.
pub(crate) fn quiet() -> Logging {
    logging("warn".to_owned())
}

fn logging(log_level: String) -> Logging {
    Logging { log_level, log_format: LogFormat::Pretty, otlp_endpoint: None }
}

/// Runs the platform until Ctrl-C or SIGTERM.
pub(crate) fn main(args: Args) -> ExitCode {
    let prepared = Folder::open(&args.data).and_then(|folder| {
        let settings = Settings::gather(&folder, args.port, args.sandbox_port)?;
        Ok((folder, settings))
    });
    let (folder, settings) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return refused(&error),
    };
    // A bad setting or a taken port is said before anything starts.
    if let Err(code) = settings.services(Role::Runtime) {
        return code;
    }
    let doors = match Doors::open(&args) {
        Ok(doors) => doors,
        Err(error) => return refused(&error),
    };
    let config = chassis::Config {
        logging: logging(args.log_level.clone()),
        admin_address: local(args.admin_port),
        nats_url: args.nats_url.clone().unwrap_or_else(|| Secret::new(String::new())),
        shutdown_delay_seconds: 0,
        shutdown_grace_seconds: 10,
    };
    chassis::run(NAME, config, async |process| run(process, args, settings, &folder, doors).await)
}

/// Says why nothing was started, as a sentence and not as a line of a log.
fn refused(error: &anyhow::Error) -> ExitCode {
    // If standard error is closed, nobody wants to know.
    writeln!(std::io::stderr(), "{NAME}: {error:#}").ok();
    ExitCode::FAILURE
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Where the world comes in; open, but nobody is let in yet.
struct Doors {
    origin: Listener,
    outside: Listener,
}

impl Doors {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let origin = bind("PORT", args.port)?;
        let outside = bind("SANDBOX_PORT", args.sandbox_port)?;
        // The process opens this one itself; here it is only tried, for the sake of the sentence.
        bind("ADMIN_PORT", args.admin_port)?;
        Ok(Self { origin, outside })
    }
}

fn bind(setting: &str, port: u16) -> anyhow::Result<Listener> {
    let listener = match Listener::bind(local(port)) {
        Ok(listener) => listener,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("port {port} is taken; set {setting} to one that is free")
        }
        Err(error) => {
            return Err(error)
                .context(format!("port {port} cannot be used; set {setting} to another one"));
        }
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn run(
    process: Process,
    args: Args,
    settings: Settings,
    folder: &Folder,
    doors: Doors,
) -> anyhow::Result<()> {
    let wanted = Wanted { postgres: args.database_url.is_none(), nats: args.nats_url.is_none() };
    let children = Children::start(folder, wanted).await?;
    let settings = match (&children.postgres, &args.database_url) {
        (Some(postgres), _) => settings.with_databases(folder, postgres).await,
        (None, Some(url)) => Ok(settings.with_database_url(url.expose())),
        (None, None) => Ok(settings),
    };
    let ran = match settings {
        Ok(settings) => tokio::select! {
            ran = serve(&process, &args, (settings, folder), &children, doors) => ran,
            gone = children.ended() => Err(gone),
        },
        Err(error) => Err(error),
    };
    // The services finish while their servers are still there.
    process.shutdown().cancel();
    let drained = process.drain().await;
    let stopped = children.stop().await;
    ran?;
    stopped?;
    drained.map_err(unfinished)
}

fn unfinished(left: Vec<String>) -> anyhow::Error {
    anyhow!("these did not finish: {}", left.join(", "))
}

async fn serve(
    process: &Process,
    args: &Args,
    (settings, folder): (Settings, &Folder),
    children: &Children,
    doors: Doors,
) -> anyhow::Result<()> {
    let refused = |_| anyhow!("a setting cannot work; see the line above");
    let services = settings.services(Role::Runtime).map_err(refused)?;
    platform::migrate(settings.services(Role::Owner).map_err(refused)?).await?;
    let outside = TcpListener::from_std(doors.outside)?;
    let mut sandbox = sandbox::start(outside, imitated(args, &services, folder)).await?;
    let nats_url = match (&children.nats, &args.nats_url) {
        (Some(nats), _) => nats.url(),
        (None, Some(url)) => url.expose().to_owned(),
        (None, None) => String::new(),
    };
    folder.keep(OPERATOR, &settings.for_a_shell(&nats_url))?;
    let origin = platform::start(services, process, &nats_url).await?;
    let listener = TcpListener::from_std(doors.origin)?;
    banner(args)?;
    let served = tokio::select! {
        served = chassis::http::serve(listener, origin, process.shutdown(), process.grace()) => served,
        error = sandbox.failed() => Err(error),
    };
    // What is in hand may still have to ask Paystack.
    process.shutdown().cancel();
    let drained = process.drain().await;
    sandbox.stop().await;
    served?;
    drained.map_err(unfinished)
}

/// The outside world, as the services are told to find it.
fn imitated(args: &Args, services: &Services, folder: &Folder) -> sandbox::Config {
    let Args { port, sandbox_port, .. } = args;
    let origin = format!("http://127.0.0.1:{port}");
    sandbox::Config {
        public_url: Some(format!("http://127.0.0.1:{sandbox_port}")),
        secret_key: services.payments.secret_key.expose().to_owned(),
        webhook_url: Some(format!("{origin}/wallet/paystack/webhook")),
        google: sandbox::google::model::Client {
            id: services.api.sign_in.client_id.clone(),
            secret: services.api.sign_in.client_secret.expose().to_owned(),
            redirect_uris: Vec::new(),
        },
        journal: Some(folder.join("paystack.jsonl")),
        ..sandbox::Config::default()
    }
}

fn banner(args: &Args) -> anyhow::Result<()> {
    let Args { port, sandbox_port, admin_port, .. } = args;
    let data = args.data.display();
    writeln!(
        std::io::stdout(),
        "
  Fast Wallet is running.

    origin     http://127.0.0.1:{port}
    docs       http://127.0.0.1:{port}/docs   (Swagger UI), /redoc, /openapi.json
    sign in    http://127.0.0.1:{port}/auth/google
    sandbox    http://127.0.0.1:{sandbox_port}   (plays Paystack and Google)
    admin      http://127.0.0.1:{admin_port}/readyz   (/livez, /metrics)
    data       {data}
    operator   . {data}/{OPERATOR}; cargo run --bin payments -- review list

  Next, in a second terminal:  make demo
  Ctrl-C stops everything; the data stays.
",
    )?;
    Ok(())
}
