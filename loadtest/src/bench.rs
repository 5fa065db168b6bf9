//! The bench from beginning to end.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use primitives::Timestamp;
use serde_json::{Map, Value, json};

use crate::engine::Contest;
use crate::machine::Machine;
use crate::pace::{Ask, Load, Measured};
use crate::plan::{
    CONNECTIONS, CONNECTIONS_BALANCE, CONNECTIONS_BULK, OPEN_PER_SECOND, Part, Plan,
};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::report::{Report, rounded};
use crate::stage::Stage;
use crate::{audit, figures, machine, store};

/// Steps whose length is not planned take about so long.
const STEP: Duration = Duration::from_secs(4);

/// How it is run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Runs everything once and short: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Measures these parts only.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Wanted>,
    /// Where the figures are written as JSON: loadtest/out/bench.json unless given, and for the quick
    /// bench, whose figures are not to take the place of measured ones, quick.json beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compares with this instead of running pgbench.
    #[arg(long, value_name = "TPS")]
    pgbench_tps: Option<f64>,
    /// How often each figure is measured.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: Option<u32>,
    /// Gives each command of the engine's workloads a caller who waits for its answer.
    #[arg(long)]
    answered: bool,
    /// Leaves out `ledger fsck`, for a loop of tuning; what the wallets hold is summed up anyway.
    #[arg(long)]
    no_fsck: bool,
    /// Ends with 2 when a figure is below its target.
    #[arg(long)]
    strict: bool,
    /// Leaves the servers running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Folder of `ledger` and `wallet`; this program's own unless given.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Parts as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wanted {
    /// What Postgres does with its own benchmark.
    Pgbench,
    /// The ledger alone.
    Engine,
    /// The ledger alone, one hot account.
    Hot,
    /// The ledger alone, on grown books.
    Grown,
    /// Everything over HTTP.
    Http,
    /// Transfers over HTTP.
    Transfer,
    /// Balances over HTTP.
    Balance,
    /// Bulks over HTTP.
    Bulk,
    /// Transfers over HTTP at a fixed rate.
    Paced,
}

impl Wanted {
    const fn parts(self) -> &'static [Part] {
        match self {
            Self::Pgbench => &[Part::Pgbench],
            Self::Engine => &[Part::Engine],
            Self::Hot => &[Part::Hot],
            Self::Grown => &[Part::Grown],
            Self::Http => &Part::HTTP,
            Self::Transfer => &[Part::Transfer],
            Self::Balance => &[Part::Balance],
            Self::Bulk => &[Part::Bulk],
            Self::Paced => &[Part::Paced],
        }
    }
}

/// How it ended, when everything worked and all books balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Well.
    Good,
    /// A figure is below its target, and that was to matter.
    BelowTarget,
}

impl Args {
    fn out(&self) -> PathBuf {
        let name = if self.quick { "quick.json" } else { "bench.json" };
        self.out.clone().unwrap_or_else(|| Path::new("loadtest/out").join(name))
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = if self.only.is_empty() {
            Part::ALL.to_vec()
        } else {
            self.only.iter().flat_map(|it| it.parts()).copied().collect()
        };
        parts.retain(|it| *it != Part::Pgbench || self.pgbench_tps.is_none());
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    fn plan(&self) -> Plan {
        let mut plan = if self.quick { Plan::quick() } else { Plan::full() };
        plan.runs = self.runs.unwrap_or(plan.runs);
        plan.replay = !self.no_fsck;
        plan
    }
}

/// Runs it, prints the table and writes the file.
///
/// # Errors
/// Something does not work, or books do not balance.
pub(crate) async fn run(args: Args) -> anyhow::Result<End> {
    let (parts, plan) = (args.parts(), args.plan());
    let machine = Machine::look();
    let mut progress = Progress::new(plan.expected(&parts));
    let mut report = Report::default();
    if let Some(tps) = args.pgbench_tps {
        report.add("pgbench_tps", tps);
    }
    progress.say(&machine.describe());
    let started = Stage::start(&machine, args.programs.clone());
    let stage = progress.step("starts Postgres", STEP, started).await?;
    let about = about(&stage, &machine, &args).await?;
    let setting = (&stage, &plan);
    let mut contest = Contest::prepare(setting, &parts, args.answered, &mut progress).await?;
    let mut edge = Edge::prepare(setting, &parts, &mut progress).await?;
    for round in 1..=plan.runs {
        contest.round(setting, round, &mut progress, &mut report).await?;
        if let Some(edge) = &mut edge {
            edge.round(round, &mut progress, &mut report).await?;
        }
    }
    contest.finish(setting, &mut progress, &mut report).await?;
    if let Some(edge) = edge {
        edge.finish(&stage, &mut progress, &mut report).await?;
    }
    progress.clear();
    finish(&args, &report, about)?;
    if args.keep {
        keep(&stage, &contest).await?;
    }
    Ok(if args.strict && !report.is_good() { End::BelowTarget } else { End::Good })
}

/// The whole platform under its loads. Between its turns it stands idle.
struct Edge<'a> {
    platform: Platform,
    parts: Vec<Part>,
    plan: &'a Plan,
    n_loads: u64,
    /// Kobo in all wallets before the first load.
    total_before: u64,
    /// Runs of the closed loops of transfers, by connections.
    transfers: BTreeMap<usize, Vec<Measured>>,
}

impl<'a> Edge<'a> {
    /// Starts the platform and lets people arrive, if anything is measured over HTTP.
    async fn prepare(
        (stage, plan): (&Stage, &'a Plan),
        parts: &[Part],
        progress: &mut Progress,
    ) -> anyhow::Result<Option<Self>> {
        let parts: Vec<Part> = parts.iter().copied().filter(|it| Part::HTTP.contains(it)).collect();
        if parts.is_empty() {
            return Ok(None);
        }
        let started = Platform::start(stage);
        let mut platform = progress.step("http: starts the platform", STEP, started).await?;
        let settled = platform.settle(plan.people);
        progress.step("http: people arrive", STEP, settled).await?;
        let total_before = platform.total().await?;
        let transfers = BTreeMap::new();
        Ok(Some(Self { platform, parts, plan, n_loads: 0, total_before, transfers }))
    }

    /// Every load once.
    async fn round(
        &mut self,
        round: u32,
        progress: &mut Progress,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let of = format!("run {round} of {}", self.plan.runs);
        let closed = self.plan.settle + self.plan.closed;
        if self.parts.contains(&Part::Transfer) {
            for n in CONNECTIONS {
                let label = format!("http: transfers on {n} connections, {of}");
                let ran = self.closed(Ask::Transfer, n);
                let measured = progress.step(&label, closed, ran).await?;
                self.transfers.entry(n).or_default().push(measured);
            }
        }
        if self.parts.contains(&Part::Balance) {
            let ran = self.closed(Ask::Balance, CONNECTIONS_BALANCE);
            let measured = progress.step(&format!("http: balances, {of}"), closed, ran).await?;
            report.add("http_balance_tps", measured.per_second);
            report.detail("balance_last_run", latencies(&measured));
        }
        if self.parts.contains(&Part::Bulk) {
            let ran = self.closed(Ask::Bulk, CONNECTIONS_BULK);
            let measured = progress.step(&format!("http: bulks, {of}"), closed, ran).await?;
            report.add("http_bulk_tps", measured.per_second);
            report.detail("bulk_last_run", latencies(&measured));
        }
        if self.parts.contains(&Part::Paced) {
            let lasting = self.plan.open;
            machine::write_out().await?;
            let ran = self.load(Ask::Transfer).open(OPEN_PER_SECOND, lasting);
            let label = format!("http: {OPEN_PER_SECOND} transfers a second, {of}");
            let measured = progress.step(&label, lasting, ran).await?;
            for (key, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
                report.add(key, measured.latencies.quantile_ms(share));
            }
        }
        self.platform.expect_running()
    }

    /// Insists that no kobo was lost on the way, and stops the platform.
    async fn finish(
        self,
        stage: &Stage,
        progress: &mut Progress,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        best(&self.transfers, report);
        let (before, after) = (self.total_before, self.platform.total().await?);
        ensure!(before == after, "the wallets held {before} kobo together, and now {after}");
        report.detail("platform_rss_mb", json!(self.platform.resident_mb()));
        let ledger = progress.step("http: stops", STEP, self.platform.stop()).await?;
        if self.plan.replay {
            progress.step("http: is audited", STEP, audit::fsck(stage, &ledger)).await?;
        }
        Ok(())
    }

    fn closed(
        &mut self,
        ask: Ask,
        n_connections: usize,
    ) -> impl Future<Output = anyhow::Result<Measured>> + use<> {
        let (settle, lasting) = (self.plan.settle, self.plan.closed);
        self.load(ask).closed(n_connections, settle, lasting)
    }

    fn load(&mut self, ask: Ask) -> Load {
        self.n_loads = self.n_loads.wrapping_add(1);
        let callers = self.platform.callers.clone();
        Load { address: self.platform.address, callers, ask, number: self.n_loads }
    }
}

/// The figure is that of the number of connections that did best.
fn best(transfers: &BTreeMap<usize, Vec<Measured>>, report: &mut Report) {
    let mut best: Option<(f64, Vec<f64>)> = None;
    for (n, runs) in transfers {
        let per_second: Vec<f64> = runs.iter().map(|it| it.per_second).collect();
        let median = figures::median(&per_second).unwrap_or(0.0);
        if let Some(last) = runs.last() {
            let mut detail = latencies(last);
            detail["per_second_median"] = json!(rounded(median));
            report.detail(&format!("transfer_on_{n}_connections"), detail);
        }
        if best.as_ref().is_none_or(|(other, _)| median > *other) {
            best = Some((median, per_second));
        }
    }
    if let Some((_, runs)) = best {
        report.replace("http_transfer_tps", runs);
    }
}

fn latencies(measured: &Measured) -> Value {
    let quantile = |share| rounded(measured.latencies.quantile_ms(share));
    json!({
        "per_second": rounded(measured.per_second),
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "p999_ms": quantile(0.999),
    })
}

/// Where, when and on what.
async fn about(
    stage: &Stage,
    machine: &Machine,
    args: &Args,
) -> anyhow::Result<Map<String, Value>> {
    let settings = store::settings(&stage.postgres.admin_url()).await?;
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
    let about = [
        ("date", json!(Timestamp::now().to_string())),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("quick", json!(args.quick)),
        ("machine", machine.json()),
        ("postgres", Value::Object(settings.collect())),
    ];
    Ok(about.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

fn finish(args: &Args, report: &Report, about: Map<String, Value>) -> anyhow::Result<()> {
    let out = args.out();
    let shown = out.display();
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{shown} cannot be written"))?;
    }
    let json = serde_json::to_string_pretty(&report.json(about))?;
    std::fs::write(&out, json + "\n").with_context(|| format!("{shown} cannot be written"))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", report.table())?;
    if args.quick {
        writeln!(
            stdout,
            "  This was the quick bench: it shows that everything works, not how fast."
        )?;
    }
    let audited = if args.no_fsck { "no kobo is missing" } else { "all books balance" };
    writeln!(stdout, "  Everything was answered and {audited}. Written to {shown}.")?;
    Ok(())
}

/// Says where everything is, and waits; whoever has seen enough presses Ctrl-C.
async fn keep(stage: &Stage, contest: &Contest) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "\n  Kept until Ctrl-C: {}", stage.path().display())?;
    writeln!(out, "  postgres  {}", stage.postgres.admin_url())?;
    for (name, postgres, nats) in contest.urls() {
        writeln!(out, "  {name:<9} {postgres}  {nats}")?;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(more: &[&str]) -> Args {
        Line::parse_from(["bench"].iter().chain(more)).args
    }

    #[test]
    fn everything_is_measured_unless_somebody_chooses() {
        assert_eq!(args(&[]).parts(), Part::ALL);
        assert_eq!(args(&["--only", "http"]).parts(), Part::HTTP);
        let chosen = args(&["--only", "bulk,engine", "--only", "engine"]).parts();
        assert_eq!(chosen, [Part::Engine, Part::Bulk]);
    }

    #[test]
    fn a_given_tps_saves_a_run_of_pgbench() {
        assert!(!args(&["--pgbench-tps", "6700"]).parts().contains(&Part::Pgbench));
    }

    #[test]
    fn quick_is_short_and_runs_can_be_chosen() {
        assert_eq!(args(&["--quick"]).plan().runs, 1);
        assert_eq!(args(&["--quick", "--runs", "3"]).plan().runs, 3);
        assert_eq!(args(&[]).plan().runs, 5);
    }

    #[test]
    fn the_best_number_of_connections_counts() {
        let measured = |per_second| Measured { per_second, latencies: figures::Latencies::new() };
        let runs = |tps: [f64; 3]| tps.map(measured).to_vec();
        let transfers = BTreeMap::from([
            (32, runs([1.0, 9.0, 2.0])),
            (128, runs([5.0, 4.0, 6.0])),
            (256, runs([3.0, 3.0, 3.0])),
        ]);
        let mut report = Report::default();
        best(&transfers, &mut report);
        assert_eq!(report.value("http_transfer_tps"), Some(5.0));
    }
}
