//! `wallet dev`: the whole platform on one machine, with nothing but what the project fetched.
//!
//! Postgres and nats-server run as children, Google and Paystack are played by the sandbox, every
//! secret is made once and kept in the data folder. Whatever the environment already says wins.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use chassis::{LogFormat, Logging, Process, Secret};
use sandbox::servers::{Nats, Postgres};
use tokio::net::TcpListener;
use wallet::platform::{self, Services};

use crate::NAME;
use crate::folder::Folder;
use crate::settings::{Role, Settings};

/// What a laptop may want to choose.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Port of the public origin.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,
    /// Port of the sandbox: Paystack's API and checkout, and the OpenID provider.
    #[arg(long, env = "SANDBOX_PORT", default_value_t = 8090)]
    sandbox_port: u16,
    /// Port of /livez, /readyz and /metrics.
    #[arg(long, env = "ADMIN_PORT", default_value_t = 9000)]
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
    #[arg(long, env = "LOG_LEVEL", default_value = "warn,wallet=info", value_name = "DIRECTIVES")]
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
    let prepared = Folder::open(&args.data)
        .and_then(|folder| Ok((Settings::gather(&folder, args.port, args.sandbox_port)?, folder)));
    let (settings, folder) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return chassis::once(NAME, &quiet(), async { Err(error) }),
    };
    // A bad setting is said before anything starts.
    if let Err(code) = settings.services(Role::Runtime) {
        return code;
    }
    let config = chassis::Config {
        logging: logging(args.log_level.clone()),
        admin_address: local(args.admin_port),
        nats_url: args.nats_url.clone().unwrap_or_else(|| Secret::new(String::new())),
        shutdown_delay_seconds: 0,
        shutdown_grace_seconds: 10,
    };
    chassis::run(NAME, config, async |process| run(process, args, settings, &folder).await)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn run(
    process: Process,
    args: Args,
    settings: Settings,
    folder: &Folder,
) -> anyhow::Result<()> {
    let origin = bind("PORT", args.port).await?;
    let outside = bind("SANDBOX_PORT", args.sandbox_port).await?;
    let servers = Servers::start(folder, &args).await?;
    let settings = match (&servers.postgres, &args.database_url) {
        (Some(postgres), _) => settings.with_databases(folder, postgres).await,
        (None, Some(url)) => Ok(settings.with_database_url(url.expose())),
        (None, None) => Ok(settings),
    };
    let ran =
        async { serve(&process, &args, (settings?, folder), &servers, origin, outside).await }
            .await;
    // The services finish while their servers are still there.
    process.shutdown().cancel();
    let drained = process.drain().await;
    servers.stop().await?;
    ran?;
    drained.map_err(|left| anyhow!("these did not finish: {}", left.join(", ")))
}

async fn bind(setting: &str, port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind(local(port))
        .await
        .with_context(|| format!("port {port} cannot be used; set {setting} to one that is free"))
}

/// The children; none where the environment names a server.
struct Servers {
    postgres: Option<Postgres>,
    nats: Option<Nats>,
}

impl Servers {
    async fn start(folder: &Folder, args: &Args) -> anyhow::Result<Self> {
        let postgres = async {
            match args.database_url {
                Some(_) => anyhow::Ok(None),
                None => Ok(Some(Postgres::start(&folder.join("postgres")).await?)),
            }
        };
        let nats = async {
            match args.nats_url {
                Some(_) => anyhow::Ok(None),
                None => Ok(Some(Nats::start(&folder.join("nats")).await?)),
            }
        };
        let (postgres, nats) = tokio::try_join!(postgres, nats)?;
        Ok(Self { postgres, nats })
    }

    async fn stop(self) -> anyhow::Result<()> {
        if let Some(nats) = self.nats {
            nats.stop().await?;
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await?;
        }
        Ok(())
    }
}

async fn serve(
    process: &Process,
    args: &Args,
    (settings, folder): (Settings, &Folder),
    servers: &Servers,
    listener: TcpListener,
    outside: TcpListener,
) -> anyhow::Result<()> {
    let refused = |_| anyhow!("a setting cannot work; see the line above");
    let services = settings.services(Role::Runtime).map_err(refused)?;
    platform::migrate(settings.services(Role::Owner).map_err(refused)?).await?;
    let sandbox = sandbox::start(outside, imitated(args, &services, folder)).await?;
    let nats_url = match (&servers.nats, &args.nats_url) {
        (Some(nats), _) => nats.url(),
        (None, Some(url)) => url.expose().to_owned(),
        (None, None) => String::new(),
    };
    let origin = platform::start(services, async |name| {
        Ok(process.context(name, chassis::nats::connect(&nats_url, name).await?))
    })
    .await?;
    banner(args)?;
    let served = chassis::http::serve(listener, origin, process.shutdown(), process.grace()).await;
    sandbox.stop().await;
    served
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
    let Args { port, sandbox_port, admin_port, data, .. } = args;
    writeln!(
        std::io::stdout(),
        "
  Fast Wallet is running.

    origin     http://127.0.0.1:{port}
    docs       http://127.0.0.1:{port}/docs   (Swagger UI), /redoc, /openapi.json
    sign in    http://127.0.0.1:{port}/auth/google
    sandbox    http://127.0.0.1:{sandbox_port}   (plays Paystack and Google)
    admin      http://127.0.0.1:{admin_port}/readyz   (/livez, /metrics)
    data       {}

  Next, in a second terminal:  make demo
  Ctrl-C stops everything; the data stays.
",
        data.display()
    )?;
    Ok(())
}
