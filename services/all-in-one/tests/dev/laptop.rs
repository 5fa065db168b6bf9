//! A laptop with a data folder and free ports, on which `wallet` is run as a child process.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Client, eventually, quiet_port};

/// A first start makes a Postgres cluster and four schemas, on whatever machine this is.
const START_WAIT: Duration = Duration::from_secs(120);
/// "Within seconds".
pub(crate) const END_WAIT: Duration = Duration::from_secs(15);

/// Where `wallet dev` is told to listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) origin: u16,
    pub(crate) sandbox: u16,
    pub(crate) admin: u16,
}

impl Ports {
    /// Three that are free at this moment.
    pub(crate) fn free() -> Self {
        Self { origin: quiet_port(), sandbox: quiet_port(), admin: quiet_port() }
    }
}

/// A folder, ports, and settings of the environment.
pub(crate) struct Laptop {
    home: TempDir,
    pub(crate) ports: Ports,
    settings: Vec<(&'static str, OsString)>,
}

impl Laptop {
    pub(crate) fn new() -> Self {
        // Postgres may have to run as another user, who must be able to pass through.
        let home = tempfile::Builder::new()
            .prefix("wallet-dev-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .unwrap();
        Self { home, ports: Ports::free(), settings: Vec::new() }
    }

    /// The same folder with other ports.
    pub(crate) fn on(&self, ports: Ports) -> Command {
        self.command(&self.data(), ports)
    }

    /// With one more setting.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.ports.origin))
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.ports.admin))
    }

    /// `wallet`, with nothing in its environment but what this laptop says.
    fn command(&self, data: &Path, ports: Ports) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wallet"));
        command.env_clear().current_dir(self.home.path()).stdin(Stdio::null());
        for (name, value) in [
            ("PORT", OsString::from(ports.origin.to_string())),
            ("SANDBOX_PORT", ports.sandbox.to_string().into()),
            ("ADMIN_PORT", ports.admin.to_string().into()),
            ("WALLET_DATA", data.into()),
            ("HOME", self.home.path().into()),
        ] {
            command.env(name, value);
        }
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let Some(tools) = tools() {
            command.env("WALLET_TOOLS", tools);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn run(&self, verb: &str) -> Output {
        run(self.on(self.ports).arg(verb))
    }

    /// Starts `wallet dev` and waits until it is ready and says so.
    pub(crate) async fn start(&self) -> Running {
        let log = self.home.path().join("log");
        let (out, err) = (File::create(self.home.path().join("out")), File::create(&log));
        let mut command = self.on(self.ports);
        let child = command.arg("dev").stdout(out.unwrap()).stderr(err.unwrap()).spawn().unwrap();
        let mut running = Running { child, out: self.home.path().join("out"), log };
        let admin = self.admin();
        eventually("wallet dev is ready", START_WAIT, async || {
            running.insist_on_life();
            let ready = admin.get("/readyz").try_send().await.map_err(|it| it.to_string())?;
            if ready.status != 200 {
                return Err(ready.text());
            }
            // The origin is the last to open, right after the line that names it.
            let said = fs::read_to_string(&running.out).unwrap();
            if said.contains("is running") { Ok(()) } else { Err(said) }
        })
        .await;
        running
    }

    /// The processes that live in the data folder: Postgres, its sessions, nats-server, guardians.
    pub(crate) fn children(&self) -> Vec<(u32, PathBuf)> {
        let data = self.data();
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = processes.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid: u32| {
            let place = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            place.starts_with(&data).then_some((pid, place))
        })
        .collect()
    }

    /// The server that runs in this folder of the data, by its own account.
    pub(crate) fn server(&self, name: &str) -> u32 {
        let file = self.data().join(name).join("server.pid");
        fs::read_to_string(&file).unwrap().trim().parse().unwrap()
    }

    /// Waits until no child is left; the last one may need a moment after its parent has ended.
    pub(crate) fn nobody_is_left(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(self.is_deserted(&[]));
    }

    /// Waits until neither server nor any other child is left.
    pub(crate) async fn is_deserted(&self, servers: &[u32]) {
        eventually("no child is left", END_WAIT, async || {
            let alive: Vec<u32> = servers.iter().copied().filter(|pid| is_alive(*pid)).collect();
            let children = self.children();
            if alive.is_empty() && children.is_empty() {
                return Ok(());
            }
            Err(format!("{alive:?}, {children:?}"))
        })
        .await;
    }
}

/// Where the tests' own servers come from, unless they are on the PATH.
fn tools() -> Option<OsString> {
    if let Some(tools) = std::env::var_os("WALLET_TOOLS") {
        return Some(tools);
    }
    let data = std::env::var_os("WALLET_DATA").unwrap_or_else(|| ".wallet".into());
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.map(|it| it.join(&data).join("tools")).find(|it| it.is_dir());
    found.map(PathBuf::into_os_string)
}

fn is_alive(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    kill(pid, None) != Err(Errno::ESRCH)
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// A running `wallet dev`. Killed when dropped, if it has not ended; its children end with it.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Running {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn insist_on_life(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("wallet dev has ended, {status}: {}", self.log());
        }
    }

    /// Waits for its end.
    pub(crate) async fn ends(&mut self, within: Duration) -> ExitStatus {
        eventually("wallet dev ends", within, async || {
            self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("wallet dev said:\n{}", self.log());
        }
        // It has ended before, unless the test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A person who signed in at a laptop.
pub(crate) struct Person {
    pub(crate) token: String,
    pub(crate) wallet_number: String,
}

/// Signs in as a browser does.
pub(crate) async fn sign_in(client: &Client, email: &str) -> Person {
    let begun = client.get(&format!("/auth/google?login_hint={email}")).send().await;
    begun.expect(302);
    let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
    let agreed = Client::new("").get(begun.header("location")).send().await;
    let back = agreed.header("location").strip_prefix(client.origin()).unwrap().to_owned();
    let session: Value = client.get(&back).header("cookie", &cookie).send().await.ok();
    let token = session["access_token"].as_str().unwrap().to_owned();
    let me: Value = client.get("/auth/me").bearer(&token).send().await.ok();
    Person { wallet_number: me["wallet_number"].as_str().unwrap().to_owned(), token }
}

pub(crate) async fn balance(client: &Client, person: &Person) -> u64 {
    let call = client.get("/wallet/balance").bearer(&person.token);
    call.send().await.ok::<Value>()["balance"].as_u64().unwrap()
}
