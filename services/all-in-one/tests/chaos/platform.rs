//! The platform as processes that are killed and started again: api, payments and ledger, each a
//! process of its own, real Postgres and nats-server, and Paystack and Google played by the sandbox.
//!
//! Postgres runs with fsync. A kill of a process loses nothing that the kernel has, so it would
//! survive without, and so does what nats-server has acknowledged and not yet synced.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandbox::Sandbox;
use sandbox::faults::{Fault, Plan, weather};
use sandbox::servers::{Companion, Launch};
use sqlx::PgPool;
use tempfile::TempDir;
use testkit::{Client, Database, Nats, TestPostgres, eventually, quiet_port};
use tokio::net::TcpListener;

use crate::kills::{Blow, Victim};
use crate::people;

const PAYSTACK_KEY: &str = "sk_test_7d1f0c5e9b3a42688c1e5d7f90ab34cd56ef7812";
const TOKEN_KEY: [u8; 32] = *b"k7Qz3vN9xR2mT8wL5pD1sF6hJ4gB0yCe";
/// Each way in which a call or a webhook goes wrong strikes so often.
const FAULTS_RATE: f64 = 0.04;
/// Late, but in time.
const LATE_MS: u64 = 300;
/// Later than anybody waits: a call that hangs, though its effect took place.
const HANGS_MS: u64 = 4_000;
const HANGS_RATE: f64 = 0.02;
const MIGRATED_WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A service that is a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Ledger,
    Payments,
    Api,
}

impl Service {
    const ALL: [Self; 3] = [Self::Ledger, Self::Payments, Self::Api];

    const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Payments => "payments",
            Self::Api => "api",
        }
    }
}

/// All of it. Dropped in this order.
pub(crate) struct Platform {
    running: BTreeMap<Service, Companion>,
    pub(crate) client: Client,
    pub(crate) sandbox: Arc<Sandbox>,
    settings: Vec<(String, String)>,
    admin_ports: BTreeMap<Service, u16>,
    nats: Nats,
    databases: BTreeMap<Service, Database>,
    postgres: TestPostgres,
    killed: BTreeMap<Victim, usize>,
    /// Services that ended although nobody had killed them.
    pub(crate) fallen: BTreeMap<&'static str, usize>,
    folder: Folder,
}

/// Where the processes live, and what they said; kept when the test failed.
struct Folder(Option<TempDir>);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("wallet-chaos-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .unwrap();
        // Called by a service's name, the program is that service.
        for service in Service::ALL {
            symlink(env!("CARGO_BIN_EXE_wallet"), folder.path().join(service.name())).unwrap();
        }
        Self(Some(folder))
    }

    fn path(&self) -> &Path {
        self.0.as_ref().expect("it is there").path()
    }

    fn program(&self, service: Service) -> PathBuf {
        self.path().join(service.name())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.0.take().map(TempDir::keep);
            eprintln!("kept: what the services said, in {kept:?}");
        }
    }
}

impl Platform {
    /// Starts everything.
    pub(crate) async fn start(seed: u64) -> Self {
        let postgres = testkit::own_postgres().await;
        let nats = testkit::nats().await;
        let (api_port, payments_port) = (quiet_port(), quiet_port());
        let origin = format!("http://127.0.0.1:{api_port}");
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sandbox = sandbox::start(outside, imitated(payments_port, seed)).await.unwrap();
        let mut settings = settings(&origin, payments_port, &sandbox);
        settings.push(("NATS_URL".to_owned(), nats.url.clone()));
        let (folder, mut databases) = (Folder::new(), BTreeMap::new());
        for service in Service::ALL {
            let role = format!("{}_runtime", service.name());
            postgres.role(&role).await;
            let migrate = async |url: &str| migrate(&folder, service, &settings, url).await;
            databases.insert(service, postgres.database(service.name(), migrate).await);
        }
        for (service, database) in &databases {
            let url = database.url_as(&format!("{}_runtime", service.name()));
            settings.push((format!("{}_DATABASE_URL", service.name().to_uppercase()), url));
        }
        let mut platform = Self {
            running: BTreeMap::new(),
            client: Client::new(&origin),
            sandbox: Arc::new(sandbox),
            settings,
            admin_ports: Service::ALL.map(|it| (it, quiet_port())).into(),
            nats,
            databases,
            postgres,
            killed: BTreeMap::new(),
            fallen: BTreeMap::new(),
            folder,
        };
        for service in Service::ALL {
            platform.run(service).await;
        }
        platform
    }

    /// Signs a person in; the access token.
    pub(crate) async fn sign_in(&self, email: &str) -> String {
        people::sign_in(&self.client, email).await
    }

    /// Kills, waits and starts again what was killed.
    pub(crate) async fn strike(&mut self, blow: &Blow) {
        for victim in &blow.victims {
            *self.killed.entry(*victim).or_default() += 1;
            match victim {
                Victim::Postgres => self.postgres.kill().await,
                Victim::Nats => self.nats.kill().await,
                Victim::Ledger => self.kill(Service::Ledger).await,
                Victim::Payments => self.kill(Service::Payments).await,
                Victim::Api => self.kill(Service::Api).await,
            }
        }
        tokio::time::sleep(blow.down).await;
        // A service does not start without its servers.
        if blow.victims.contains(&Victim::Postgres) {
            self.postgres.start_again().await;
        }
        if blow.victims.contains(&Victim::Nats) {
            self.nats.start_again().await;
        }
        for service in Service::ALL {
            self.run(service).await;
        }
    }

    pub(crate) fn n_killed(&self, victim: Victim) -> usize {
        self.killed.get(&victim).copied().unwrap_or(0)
    }

    /// Good weather from here on.
    pub(crate) fn calm(&self) {
        self.sandbox.clear_faults();
    }

    /// Whether callers are answered.
    pub(crate) fn is_up(&self) -> bool {
        self.running.len() == Service::ALL.len()
    }

    /// Stops the services in good order.
    pub(crate) async fn stop(&mut self) {
        for service in Service::ALL.into_iter().rev() {
            if let Some(running) = self.running.remove(&service) {
                running.stop().await.unwrap();
            }
        }
    }

    pub(crate) fn payments_pool(&self) -> &PgPool {
        &self.databases[&Service::Payments].pool
    }

    pub(crate) fn ledger_pool(&self) -> &PgPool {
        &self.databases[&Service::Ledger].pool
    }

    /// What the ledger's own audit finds in all books.
    pub(crate) async fn violations(&self) -> Vec<String> {
        let found = ledger::audit::violations(self.ledger_pool()).await.unwrap();
        found.iter().map(|it| format!("{it:?}")).collect()
    }

    /// `ledger fsck`, as a person would call it.
    pub(crate) async fn fsck(&self) -> anyhow::Result<()> {
        let launch = Launch {
            what: "ledger fsck",
            program: self.folder.program(Service::Ledger),
            args: vec!["fsck".to_owned()],
            env: self.settings.clone(),
        };
        let fsck = Companion::start(&self.folder.path().join("fsck"), launch).await?;
        fsck.finished(READY_WITHIN).await
    }

    /// Adds a kobo to the last transfer, past every guard: what no release of the ledger could do.
    pub(crate) async fn tamper(&self) {
        let mut tx = self.ledger_pool().begin().await.unwrap();
        sqlx::raw_sql(
            "set local session_replication_role = replica;
             update ledger.transfers set amount_minor = amount_minor + 1
             where position = (select max(position) from ledger.transfers where rejection = 0)",
        )
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    async fn kill(&mut self, service: Service) {
        if let Some(running) = self.running.remove(&service) {
            running.kill().await.unwrap();
        }
    }

    /// Starts a service that does not run, again if need be, as whoever looks after processes does.
    async fn run(&mut self, service: Service) {
        if self.running.get(&service).is_some_and(Companion::is_running) {
            return;
        }
        if let Some(ended) = self.running.remove(&service) {
            self.has_fallen(service, &ended);
        }
        let admin_port = self.admin_ports[&service];
        let admin = Client::new(format!("http://127.0.0.1:{admin_port}"));
        let mut env = self.settings.clone();
        env.push(("ADMIN_ADDRESS".to_owned(), format!("127.0.0.1:{admin_port}")));
        let launch = Launch {
            what: service.name(),
            program: self.folder.program(service),
            args: vec!["serve".to_owned()],
            env,
        };
        let home = self.folder.path().join(format!("{}-home", service.name()));
        let running = eventually(service.name(), READY_WITHIN, async || {
            let started = Companion::start(&home, launch.clone()).await;
            let started = started.map_err(|error| format!("{error:#}"))?;
            let ready = started.ready(READY_WITHIN, async || is_ready(&admin).await).await;
            ready.map_err(|error| format!("{error:#}"))?;
            Ok(started)
        })
        .await;
        self.running.insert(service, running);
    }

    fn has_fallen(&mut self, service: Service, ended: &Companion) {
        eprintln!("{:#}", ended.complaint("has ended by itself"));
        *self.fallen.entry(service.name()).or_default() += 1;
    }
}

async fn is_ready(admin: &Client) -> Result<(), String> {
    let answer = admin.get("/readyz").try_send().await.map_err(|error| error.to_string())?;
    if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
}

async fn migrate(
    folder: &Folder,
    service: Service,
    settings: &[(String, String)],
    url: &str,
) -> anyhow::Result<()> {
    let upper = service.name().to_uppercase();
    let mut env = settings.to_vec();
    env.push((format!("{upper}_DATABASE_URL"), url.to_owned()));
    env.push((format!("{upper}_RUNTIME_ROLE"), format!("{}_runtime", service.name())));
    let launch = Launch {
        what: service.name(),
        program: folder.program(service),
        args: vec!["migrate".to_owned()],
        env,
    };
    let home = folder.path().join(format!("{}-migrates", service.name()));
    Companion::start(&home, launch).await?.finished(MIGRATED_WITHIN).await
}

fn imitated(payments_port: u16, seed: u64) -> sandbox::Config {
    let hangs = [Fault::InitializeSlow, Fault::VerifySlow, Fault::WebhookLate];
    let hangs = hangs.map(|it| Plan::chance(it, HANGS_RATE).delayed(HANGS_MS));
    let mut faults = weather(FAULTS_RATE, LATE_MS);
    faults.extend(hangs);
    sandbox::Config {
        secret_key: PAYSTACK_KEY.to_owned(),
        webhook_url: Some(format!("http://127.0.0.1:{payments_port}/wallet/paystack/webhook")),
        calls_per_minute: Some(1_000_000),
        seed,
        faults,
        ..sandbox::Config::default()
    }
}

/// Paces are those of a test: what takes minutes by default takes seconds.
fn settings(origin: &str, payments_port: u16, sandbox: &Sandbox) -> Vec<(String, String)> {
    let google = sandbox::Config::default().google;
    let settings = [
        ("API_LISTEN", origin.trim_start_matches("http://").to_owned()),
        ("API_PUBLIC_URL", origin.to_owned()),
        ("API_TOKEN_KEYS", format!("test:{}", STANDARD.encode(TOKEN_KEY))),
        ("API_RATE_PER_SECOND", "100000".to_owned()),
        ("API_RATE_BURST", "100000".to_owned()),
        ("API_ADDRESS_RATE_PER_SECOND", "100000".to_owned()),
        ("API_ADDRESS_RATE_BURST", "100000".to_owned()),
        ("API_CHECKOUT_WAIT_MS", "6000".to_owned()),
        ("OIDC_ISSUER", sandbox.google_issuer()),
        ("GOOGLE_CLIENT_ID", google.id),
        ("GOOGLE_CLIENT_SECRET", google.secret),
        ("PAYMENTS_LISTEN", format!("127.0.0.1:{payments_port}")),
        ("PAYSTACK_SECRET_KEY", PAYSTACK_KEY.to_owned()),
        ("PAYSTACK_BASE_URL", sandbox.paystack_base_url()),
        ("PAYMENTS_PROVIDER_TIMEOUT_MS", "1500".to_owned()),
        ("PAYMENTS_LEDGER_WAIT_MS", "2000".to_owned()),
        ("PAYMENTS_LEASE_MS", "4000".to_owned()),
        ("PAYMENTS_CIRCUIT_PAUSE_MS", "100".to_owned()),
        ("PAYMENTS_POLL_MS", "100".to_owned()),
        ("PAYMENTS_RECONCILE_FIRST_MS", "1000".to_owned()),
        ("PAYMENTS_RECONCILE_LONGEST_MS", "4000".to_owned()),
        ("PAYMENTS_RECONCILE_LATE_MS", "4000".to_owned()),
        ("PAYMENTS_CONFIRM_FIRST_MS", "200".to_owned()),
        ("LEDGER_AUDIT_INTERVAL_MS", "500".to_owned()),
        ("LOG_LEVEL", "warn,async_nats=error".to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).to_vec()
}
