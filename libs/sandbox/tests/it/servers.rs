//! The servers against their promises: start, stop, restart, and an end however the parent ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::servers::{
    Companion, Launch, Nats, Options, Postgres, Tools, Wanted, ensure_role_and_database,
};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

fn throwaway() -> Options {
    Options { durable: false, ..Options::default() }
}

/// A folder another user may enter: as root, Postgres runs as another one.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(0o711);
    tempfile::Builder::new().permissions(permissions).tempdir().unwrap()
}

async fn run(url: &str, sql: &'static str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
}

async fn number(url: &str, sql: &'static str) -> i32 {
    let mut conn = PgConnection::connect(url).await.unwrap();
    let row = sqlx::Executor::fetch_one(&mut conn, sqlx::raw_sql(sql)).await.unwrap();
    row.get(0)
}

fn alive(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
}

fn wait_until(what: &str, bound: Duration, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn postgres_keeps_its_data_over_a_restart_and_a_kill() {
    let dir = folder();
    let data = dir.path().join("pg");
    let postgres = Postgres::start_with(&data, throwaway()).await.unwrap();
    let pid = postgres.pid().unwrap();
    assert!(alive(pid) && postgres.is_running());
    run(&postgres.admin_url(), "create table kept (n int); insert into kept values (7)").await;
    postgres.stop().await.unwrap();
    assert!(!alive(pid));

    let postgres = Postgres::start_with(&data, throwaway()).await.unwrap();
    assert_eq!(number(&postgres.admin_url(), "select n from kept").await, 7);
    kill(Pid::from_raw(postgres.pid().unwrap().cast_signed()), Signal::SIGKILL).unwrap();
    wait_until("the guardian ends with its server", Duration::from_secs(10), || {
        !postgres.is_running()
    });
    drop(postgres);

    // Its mark names a live process that is no Postgres, as after a reboot.
    let mark = data.join("cluster/postmaster.pid");
    let stale = std::fs::read_to_string(&mark).unwrap();
    let (_, rest) = stale.split_once('\n').unwrap();
    std::fs::write(&mark, format!("{}\n{rest}", std::process::id())).unwrap();
    let postgres = Postgres::start_with(&data, throwaway()).await.unwrap();
    assert_eq!(number(&postgres.admin_url(), "select n from kept").await, 7);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_has_one_server_at_most() {
    let dir = folder();
    let data = dir.path().join("pg");
    let postgres = Postgres::start_with(&data, throwaway()).await.unwrap();
    let second = Postgres::start_with(&data, throwaway()).await.unwrap_err().to_string();
    let me = std::process::id();
    let said =
        format!("Postgres is already running in {}, started by process {me}", data.display());
    assert_eq!(second, said);
    postgres.stop().await.unwrap();

    let data = dir.path().join("nats");
    let nats = Nats::start(&data).await.unwrap();
    let second = Nats::start(&data).await.unwrap_err().to_string();
    assert!(second.starts_with("nats-server is already running in "), "{second}");
    nats.stop().await.unwrap();
    Nats::start(&data).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_broken_folder_is_told_with_the_servers_last_words() {
    let dir = folder();
    let data = dir.path().join("pg");
    Postgres::start_with(&data, throwaway()).await.unwrap().stop().await.unwrap();
    std::fs::remove_file(data.join("cluster/global/pg_control")).unwrap();
    let error = Postgres::start_with(&data, throwaway()).await.unwrap_err().to_string();
    assert!(error.contains("did not start; its last words:"), "{error}");
    assert!(error.contains("could not find the database system"), "{error}");

    std::fs::remove_file(data.join("cluster/PG_VERSION")).unwrap();
    let error = Postgres::start_with(&data, throwaway()).await.unwrap_err().to_string();
    assert!(error.ends_with("is no Postgres cluster: it has no PG_VERSION"), "{error}");

    let data = dir.path().join("nats");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("jetstream"), "not a folder").unwrap();
    let error = Nats::start(&data).await.unwrap_err().to_string();
    assert!(error.contains("did not start; its last words:"), "{error}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Postgres::start_with(&file, throwaway()).await.unwrap_err().to_string();
    assert!(error.contains("cannot be made or is not ours"), "{error}");
}

#[tokio::test]
async fn only_the_two_roles_and_the_password_open_a_database() {
    let dir = folder();
    let postgres = Postgres::start_with(&dir.path().join("pg"), throwaway()).await.unwrap();
    let admin = postgres.admin_url();
    let of = |database: &'static str| Wanted {
        database,
        owner: if database == "books" { "books_owner" } else { "other_owner" },
        owner_password: "first-password",
        runtime: if database == "books" { "books" } else { "other" },
        runtime_password: "second_password",
    };
    let wanted = of("books");
    let (once, again) = tokio::join!(
        ensure_role_and_database(&admin, &wanted),
        ensure_role_and_database(&admin, &wanted),
    );
    let urls = once.unwrap();
    assert_eq!(urls, again.unwrap());
    let others = ensure_role_and_database(&admin, &of("others")).await.unwrap();

    run(&urls.owner, "create schema s; create table s.t (n int); insert into s.t values (3)").await;
    assert_eq!(number(&urls.owner, "select n from s.t").await, 3);
    assert_eq!(number(&urls.runtime, "select 1").await, 1);

    let trespasser = others.runtime.replace("/others", "/books");
    let error = PgConnection::connect(&trespasser).await.unwrap_err().to_string();
    assert!(error.contains("permission denied for database"), "{error}");
    let guesser = urls.owner.replace("first-password", "guess");
    let error = PgConnection::connect(&guesser).await.unwrap_err().to_string();
    assert!(error.contains("password authentication failed"), "{error}");

    for bad in ["", "1a", "Books", "a b", "a\"b", "a'b", "a;b"] {
        let wanted = Wanted { database: bad, ..of("books") };
        assert!(ensure_role_and_database(&admin, &wanted).await.is_err(), "{bad}");
    }
    let wanted = Wanted { owner_password: "a'b", ..of("books") };
    let error = ensure_role_and_database(&admin, &wanted).await.unwrap_err().to_string();
    assert!(!error.contains("a'b"), "{error}");
    postgres.stop().await.unwrap();
}

/// The `sandbox servers` program with its two servers.
struct Program {
    child: Child,
    pids: Vec<u32>,
}

impl Drop for Program {
    /// A test that fails in its middle leaves nothing running.
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn spawn(data: &Path) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.args(["servers", "--data"]).arg(data).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let pid = |of: &str| u32::try_from(said[of]["pid"].as_u64().unwrap()).unwrap();
    let mut pids = vec![pid("postgres"), pid("nats")];
    pids.extend(children_of(child.id()));
    Program { child, pids }
}

/// The guardians: they have no other name to be found by.
fn children_of(pid: u32) -> Vec<u32> {
    let listed = Command::new("ps").args(["-A", "-o", "ppid=,pid="]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let pairs = listed.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    pairs.filter(|(parent, _)| *parent == pid).map(|(_, child)| child).collect()
}

#[test]
fn no_child_is_left_when_the_parent_is_killed_or_told_to_stop() {
    let dir = folder();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let mut program = spawn(dir.path());
        assert!(program.pids.len() >= 4, "two servers, two guardians: {:?}", program.pids);
        assert!(program.pids.iter().all(|pid| alive(*pid)));
        // A terminal sends Ctrl-C to a whole process group; ours must not be theirs.
        let group = |pid: u32| nix::unistd::getpgid(Some(Pid::from_raw(pid.cast_signed())));
        let ours = group(program.child.id()).unwrap();
        assert!(program.pids.iter().all(|pid| group(*pid).unwrap() != ours));
        let watchers: Vec<u32> = program.pids.iter().flat_map(|pid| children_of(*pid)).collect();
        kill(Pid::from_raw(program.child.id().cast_signed()), signal).unwrap();
        let status = program.child.wait().unwrap();
        assert_eq!(status.success(), signal != Signal::SIGKILL);
        // The next start may come at once: it waits for the folder.
        if signal == Signal::SIGKILL {
            continue;
        }
        wait_until("every child has ended", Duration::from_secs(20), || {
            program.pids.iter().chain(&watchers).all(|pid| !alive(*pid))
        });
    }
    let mut program = spawn(dir.path());
    let everybody: Vec<u32> = program
        .pids
        .iter()
        .copied()
        .chain(program.pids.iter().flat_map(|pid| children_of(*pid)))
        .collect();
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    wait_until("every child has ended", Duration::from_secs(20), || {
        everybody.iter().all(|pid| !alive(*pid))
    });
}

#[tokio::test]
async fn a_killed_nats_server_is_the_same_one_when_it_is_back() {
    let dir = folder();
    let nats = Nats::start(dir.path()).await.unwrap();
    let (url, port, pid) = (nats.url(), nats.port(), nats.pid().unwrap());
    nats.kill().await.unwrap();
    assert!(!alive(pid));
    let nats = Nats::start_with(dir.path(), Some(port), &Tools::from_env()).await.unwrap();
    assert_eq!(nats.url(), url, "clients that are connected find it again");
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_postgres_leaves_nobody_in_its_folder() {
    let dir = folder();
    let data = dir.path().join("pg");
    let postgres = Postgres::start_with(&data, throwaway()).await.unwrap();
    let pid = postgres.pid().unwrap();
    postgres.kill().await.unwrap();
    assert!(!alive(pid));
    // At once: nobody holds the folder.
    Postgres::start_with(&data, throwaway()).await.unwrap().stop().await.unwrap();
}

fn script(text: &str) -> Launch {
    Launch {
        what: "the script",
        program: "/bin/sh".into(),
        args: ["-c", text].map(str::to_owned).to_vec(),
        env: vec![("WORD".to_owned(), "hello".to_owned())],
    }
}

#[tokio::test]
async fn a_companion_runs_until_it_is_stopped() {
    let dir = folder();
    let companion =
        Companion::start(dir.path(), script("echo $WORD; exec sleep 600")).await.unwrap();
    let said = async || {
        let log = std::fs::read_to_string(dir.path().join("server.log")).unwrap();
        // Its number is written down by the guardian, which may be slower than the program.
        if log.contains("hello") && companion.pid().is_some() { Ok(()) } else { Err(log) }
    };
    companion.ready(Duration::from_secs(10), said).await.unwrap();
    let pid = companion.pid().unwrap();
    assert!(companion.is_running() && alive(pid));
    companion.stop().await.unwrap();
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_companion_that_fails_is_quoted() {
    let dir = folder();
    let bound = Duration::from_secs(10);
    let good = Companion::start(dir.path(), script("exit 0")).await.unwrap();
    good.finished(bound).await.unwrap();
    let bad = Companion::start(dir.path(), script("echo no money; exit 3")).await.unwrap();
    let complaint = bad.finished(bound).await.unwrap_err().to_string();
    assert!(complaint.contains("failed") && complaint.contains("no money"), "{complaint}");
}
