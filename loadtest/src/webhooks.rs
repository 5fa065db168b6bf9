//! Webhooks at a fixed rate while the ledger is away: each must be stored and answered at once, and
//! when the ledger is back all of their money must arrive.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use primitives::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::bench::End;
use crate::figures::Latencies;
use crate::http::Connection;
use crate::intake::{Intake, Webhook};
use crate::machine::{self, Machine};
use crate::pace::{OPEN_CONNECTIONS, OPEN_QUEUE, alone, arrive};
use crate::progress::Progress;
use crate::report::rounded;
use crate::stage::Stage;
use crate::{audit, store};

/// What is promised of an answer.
const P99_MS_MAX: f64 = 50.0;
const PATH: &str = "/wallet/paystack/webhook";
/// About so many deposits a second are begun, and credited.
const BEGUN_PER_SECOND: u64 = 300;
const STEP: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(100);
/// From the ledger's start to the last credit.
const CREDITED_WITHIN: Duration = Duration::from_secs(600);

/// How it is run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// How long webhooks come.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How many come a second.
    #[arg(long, value_name = "RATE", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=5_000))]
    rate: u32,
    /// Where the figures are written as JSON.
    #[arg(long, value_name = "FILE", default_value = "loadtest/out/webhooks.json")]
    out: PathBuf,
    /// Ends with 2 when an answer takes longer than promised.
    #[arg(long)]
    strict: bool,
    /// Folder of `ledger` and `payments`; this program's own unless given.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// What the load saw.
#[derive(Debug, Clone)]
struct Seen {
    latencies: Latencies,
    by_status: BTreeMap<u16, u64>,
}

/// Runs it, prints the figures and writes the file.
///
/// # Errors
/// A webhook is not answered with 200, or money is missing afterwards.
pub(crate) async fn run(args: Args) -> anyhow::Result<End> {
    let n = args.seconds.saturating_mul(args.rate);
    let lasting = Duration::from_secs(u64::from(args.seconds));
    let by_ones = Duration::from_secs(u64::from(n) / BEGUN_PER_SECOND);
    let machine = Machine::look();
    let mut progress = Progress::new(STEP * 5 + by_ones * 2 + lasting);
    progress.say(&machine.describe());
    let stage = Stage::start(&machine, args.programs.clone());
    let stage = progress.step("starts Postgres", STEP, stage).await?;
    let intake = Intake::start(&stage);
    let mut intake = progress.step("starts ledger and payments", STEP, intake).await?;
    let began = Instant::now();
    let label = format!("begins {n} deposits");
    let references = progress.step(&label, by_ones, intake.begin(n)).await?;
    let begun_s = began.elapsed().as_secs_f64();
    let webhooks = intake.pay(&references)?;
    let admin_url = stage.postgres.admin_url();
    let written = store::checkpoint(&admin_url);
    progress.step("writes out what is prepared", STEP, written).await?;
    progress.step("kills the ledger", STEP, intake.kill_ledger()).await?;
    machine::write_out().await?;
    let label = format!("{} webhooks a second", args.rate);
    let load = send(intake.address, webhooks, args.rate, lasting);
    let seen = progress.step(&label, lasting, load).await?;
    let at_the_end = store::deposits(&mut intake.deposits).await?;
    let n_stored: i64 = store::webhooks(&mut intake.deposits).await?.values().sum();
    ensure!(n_stored == i64::from(n), "of {n} webhooks {n_stored} are stored");
    let began = Instant::now();
    let credited = async {
        intake.start_ledger(&stage).await?;
        wait_for_credits(&mut intake, i64::from(n)).await
    };
    progress.step("starts the ledger, which credits", by_ones, credited).await?;
    let credited_s = began.elapsed().as_secs_f64();
    let collected = intake.expect_cleared().await?;
    intake.expect_running()?;
    let nats_version = intake.nats_version.clone();
    let books = progress.step("stops", STEP, intake.stop()).await?;
    progress.step("is audited", STEP, audit::fsck(&stage, &books)).await?;
    progress.clear();
    let figures = [
        ("webhooks", json!(n)),
        ("per_second", json!(args.rate)),
        ("answers_by_status", json!(seen.by_status)),
        ("p50_ms", json!(rounded(seen.latencies.quantile_ms(0.5)))),
        ("p99_ms", json!(rounded(seen.latencies.quantile_ms(0.99)))),
        ("p999_ms", json!(rounded(seen.latencies.quantile_ms(0.999)))),
        ("max_ms", json!(rounded(seen.latencies.quantile_ms(1.0)))),
        ("deposits_begun_s", json!(rounded(begun_s))),
        ("deposits_when_the_ledger_starts", json!(at_the_end)),
        ("all_credited_s", json!(rounded(credited_s))),
        ("collected_minor", json!(collected)),
    ];
    let mut about = about(&stage, &machine, nats_version).await?;
    finish(&args.out, &figures, &mut about)?;
    let is_good = seen.latencies.quantile_ms(0.99) <= P99_MS_MAX;
    Ok(if args.strict && !is_good { End::BelowTarget } else { End::Good })
}

/// Sends each webhook at its moment, whether earlier ones were answered or not; an answer's time
/// counts from that moment.
async fn send(
    address: SocketAddr,
    webhooks: Vec<Webhook>,
    per_second: u32,
    lasting: Duration,
) -> anyhow::Result<Seen> {
    let requests: Vec<Vec<u8>> = webhooks.iter().map(written).collect();
    let seen =
        Arc::new(Mutex::new(Seen { latencies: Latencies::new(), by_status: BTreeMap::new() }));
    let counted = Arc::clone(&seen);
    let (sender, arrivals) = mpsc::channel(OPEN_QUEUE);
    alone(async move {
        let opened = (0..OPEN_CONNECTIONS).map(|_| Connection::open(address));
        let mut connections = futures_util::future::try_join_all(opened).await?;
        let clock = std::thread::spawn(move || arrive(&sender, per_second, lasting));
        let load = Load { requests, next: AtomicUsize::new(0), seen };
        let arrivals = tokio::sync::Mutex::new(arrivals);
        let loops = connections.iter_mut().map(|it| load.as_they_come(it, &arrivals));
        futures_util::future::try_join_all(loops).await?;
        ensure!(clock.join().unwrap_or(false), "too many webhooks waited: payments is down");
        Ok(())
    })
    .await?;
    let seen = counted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_good = seen.by_status.keys().all(|status| *status == 200);
    ensure!(is_good, "not every webhook was answered with 200: {:?}", seen.by_status);
    Ok(seen)
}

struct Load {
    requests: Vec<Vec<u8>>,
    next: AtomicUsize,
    seen: Arc<Mutex<Seen>>,
}

impl Load {
    async fn as_they_come(
        &self,
        connection: &mut Connection,
        arrivals: &tokio::sync::Mutex<mpsc::Receiver<Instant>>,
    ) -> anyhow::Result<()> {
        loop {
            // One free connection waits for the next arrival, the others for their turn.
            let Some(due) = arrivals.lock().await.recv().await else { return Ok(()) };
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = self.requests.get(n) else { return Ok(()) };
            let status = connection.ask(request).await?.status;
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.latencies.add(due.elapsed());
            let n_answers = seen.by_status.entry(status).or_default();
            *n_answers = n_answers.saturating_add(1);
        }
    }
}

/// As Paystack sends it.
fn written(webhook: &Webhook) -> Vec<u8> {
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: bench\r\nuser-agent: Paystack/2.0\r\n\
         content-type: application/json\r\nx-paystack-signature: {}\r\ncontent-length: {}\r\n\r\n",
        webhook.signature,
        webhook.body.len()
    );
    [head.as_bytes(), &webhook.body].concat()
}

async fn wait_for_credits(intake: &mut Intake, n: i64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let states = store::deposits(&mut intake.deposits).await?;
        if states.get("credited") == Some(&n) {
            return Ok(());
        }
        intake.expect_running()?;
        if began.elapsed() > CREDITED_WITHIN {
            bail!("not all are credited: {states:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// When and on what.
async fn about(
    stage: &Stage,
    machine: &Machine,
    nats_version: String,
) -> anyhow::Result<Map<String, Value>> {
    let settings = store::settings(&stage.postgres.admin_url()).await?;
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
    let about = [
        ("date", json!(Timestamp::now().to_string())),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("machine", machine.json()),
        ("postgres", Value::Object(settings.collect())),
        ("nats", json!(nats_version)),
    ];
    Ok(about.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

fn finish(
    out: &Path,
    figures: &[(&str, Value)],
    file: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    for (name, value) in figures {
        writeln!(stdout, "  {name:<32} {value}")?;
        file.insert((*name).to_owned(), value.clone());
    }
    let shown = out.display();
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{shown} cannot be written"))?;
    }
    let json = serde_json::to_string_pretty(file)?;
    std::fs::write(out, json + "\n").with_context(|| format!("{shown} cannot be written"))?;
    writeln!(stdout, "  Every webhook was answered, every deposit credited. Written to {shown}.")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_written_as_it_was_signed() {
        let webhook = Webhook { body: b"{\"a\":1}".to_vec(), signature: "ab".to_owned() };
        let request = String::from_utf8(written(&webhook)).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /wallet/paystack/webhook HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("x-paystack-signature: ab\r\n"), "{head}");
        assert!(head.ends_with("content-length: 7"), "{head}");
        assert_eq!(body, "{\"a\":1}");
    }
}
