//! The ledger alone: commands wait in JetStream, the ledger starts, decides and commits them.
//!
//! pgbench and all workloads take turns, so that whatever else the machine does meets all alike.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::audit;
use crate::books::{Books, Run};
use crate::pgbench::Pgbench;
use crate::plan::{Part, Plan};
use crate::progress::Progress;
use crate::report::{Report, rounded};
use crate::stage::Stage;
use crate::store;
use crate::workload::Draw;

/// Fewer are over before they can be timed, more do not fit the stream.
const COMMANDS: std::ops::RangeInclusive<u32> = 20_000..=600_000;
/// Publishing, starting and stopping, beside what is timed.
const BESIDE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_secs(4);

/// What takes turns.
pub(crate) struct Contest {
    pgbench: Option<Pgbench>,
    contestants: Vec<Contestant>,
    answered: bool,
}

struct Contestant {
    part: Part,
    name: &'static str,
    key: &'static str,
    draw: Draw,
    books: Books,
    /// Bytes on disk and kobo in the wallets before the first transfer between them, and how many
    /// there have been since.
    bytes_before: u64,
    total_before: u64,
    n_transfers: u32,
}

impl Contest {
    /// Makes pgbench's tables and the books of each workload that is wanted.
    pub(crate) async fn prepare(
        (stage, plan): (&Stage, &Plan),
        parts: &[Part],
        answered: bool,
        progress: &mut Progress,
    ) -> anyhow::Result<Self> {
        let mut pgbench = None;
        if parts.contains(&Part::Pgbench) {
            let prepared = Pgbench::prepare(stage);
            pgbench = Some(progress.step("pgbench: makes its tables", STEP, prepared).await?);
        }
        let mut contestants = Vec::new();
        for (part, name, key, draw) in [
            (Part::Engine, "engine", "engine_tps", Draw::Uniform),
            (Part::Hot, "hot", "engine_hot_tps", Draw::Hot),
            (Part::Grown, "grown", "engine_grown_tps", Draw::Uniform),
        ] {
            if !parts.contains(&part) {
                continue;
            }
            let opened = Books::open(stage, name);
            let label = format!("{name}: new books");
            let books = progress.step(&label, STEP, opened).await?;
            let mut it = Contestant::new(part, name, key, draw, books);
            it.fill((stage, plan), progress).await?;
            contestants.push(it);
        }
        let admin_url = stage.postgres.admin_url();
        let written = store::checkpoint(&admin_url);
        progress.step("writes out what is prepared", STEP, written).await?;
        for it in &mut contestants {
            let label = format!("{}: warms up", it.name);
            progress.step(&label, STEP, it.warm_up((stage, plan), answered)).await?;
        }
        Ok(Self { pgbench, contestants, answered })
    }

    /// Measures each once.
    pub(crate) async fn round(
        &mut self,
        (stage, plan): (&Stage, &Plan),
        round: u32,
        progress: &mut Progress,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        if let Some(pgbench) = &self.pgbench {
            let label = format!("pgbench: run {round} of {}", plan.runs);
            let measured = pgbench.measure(plan.pgbench);
            report.add("pgbench_tps", progress.step(&label, plan.pgbench, measured).await?);
            report.detail("pgbench", json!(pgbench.describe()));
        }
        for it in &mut self.contestants {
            let label = format!("{}: run {round} of {}", it.name, plan.runs);
            let measured = it.measure(stage, plan.engine, self.answered, report);
            progress.step(&label, plan.engine + BESIDE, measured).await?;
        }
        // Nobody always comes after the same one, whose writes the disk may still be busy with.
        if !self.contestants.is_empty() {
            self.contestants.rotate_left(1);
        }
        Ok(())
    }

    /// Weighs the books, has the grown ones touched all over, and audits all of them.
    pub(crate) async fn finish(
        &mut self,
        (stage, plan): (&Stage, &Plan),
        progress: &mut Progress,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        for it in &mut self.contestants {
            let name = it.name;
            if it.part == Part::Engine {
                let weighed = it.weigh(report);
                progress.step(&format!("{name}: is weighed"), STEP, weighed).await?;
            }
            if it.part == Part::Grown {
                let touched = it.touch_all(stage, self.answered, report);
                progress.step(&format!("{name}: touches every account"), BESIDE, touched).await?;
            }
            let summed = it.sum_up(stage);
            progress.step(&format!("{name}: sums up"), STEP, summed).await?;
            if plan.replay {
                let audited = audit::fsck(stage, &it.books.database);
                progress.step(&format!("{name}: is audited"), STEP, audited).await?;
            }
        }
        Ok(())
    }

    /// Where the books can be looked at.
    pub(crate) fn urls(&self) -> Vec<(&'static str, String, String)> {
        let urls = |it: &Contestant| {
            let (postgres, nats) = it.books.urls();
            (it.name, postgres, nats)
        };
        self.contestants.iter().map(urls).collect()
    }
}

impl Contestant {
    const fn new(
        part: Part,
        name: &'static str,
        key: &'static str,
        draw: Draw,
        books: Books,
    ) -> Self {
        let (bytes_before, total_before, n_transfers) = (0, 0, 0);
        Self { part, name, key, draw, books, bytes_before, total_before, n_transfers }
    }

    /// Puts into the books what is to be there before they are measured.
    async fn fill(
        &mut self,
        (stage, plan): (&Stage, &Plan),
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let name = self.name;
        if self.part == Part::Grown {
            let expected = plan.grown.expected();
            let grown = self.books.grow(plan.grown, plan.accounts);
            progress.step(&format!("{name}: grows"), expected, grown).await?;
        } else {
            let filled = self.books.fill(stage, plan.accounts);
            progress.step(&format!("{name}: opens accounts"), STEP, filled).await?;
        }
        store::vacuum(&mut self.books.conn).await?;
        self.bytes_before = store::bytes_of_transfers(&mut self.books.conn).await?;
        self.total_before = audit::total(stage, &self.books).await?;
        Ok(())
    }

    /// An unmeasured run, after which the planner knows what transfers look like: Postgres would see
    /// to that itself, but in the middle of some run.
    async fn warm_up(
        &mut self,
        (stage, plan): (&Stage, &Plan),
        answered: bool,
    ) -> anyhow::Result<()> {
        self.run(stage, plan.warm_up, answered).await?;
        store::analyze(&mut self.books.conn).await
    }

    async fn run(&mut self, stage: &Stage, n: u32, answered: bool) -> anyhow::Result<Run> {
        let run = self.books.run(stage, (self.draw, n), answered).await?;
        self.n_transfers = self.n_transfers.saturating_add(run.n_transfers);
        Ok(run)
    }

    async fn measure(
        &mut self,
        stage: &Stage,
        lasting: Duration,
        answered: bool,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let wanted = whole(self.books.per_second * lasting.as_secs_f64());
        let n = wanted.clamp(*COMMANDS.start(), *COMMANDS.end());
        let run = self.run(stage, n, answered).await?;
        report.add(self.key, run.per_second);
        report.detail(
            &format!("{}_last_run", self.name),
            json!({
                "transfers": n,
                "batch_size_mean": rounded(run.batch_size),
                "batch_ms_mean": rounded(run.batch_ms),
                "resident_mb": run.resident_mb.map(rounded),
            }),
        );
        report.detail("nats_server", json!(self.books.nats_version()));
        Ok(())
    }

    /// Insists that nothing was lost and nothing invented.
    async fn sum_up(&self, stage: &Stage) -> anyhow::Result<()> {
        let (before, after) = (self.total_before, audit::total(stage, &self.books).await?);
        ensure!(before == after, "the wallets held {before} kobo together, and now {after}");
        Ok(())
    }

    /// Bytes that a transfer takes on disk.
    async fn weigh(&mut self, report: &mut Report) -> anyhow::Result<()> {
        store::vacuum(&mut self.books.conn).await?;
        let after = store::bytes_of_transfers(&mut self.books.conn).await?;
        let bytes = u32::try_from(after.saturating_sub(self.bytes_before) / 1024)?;
        report.add("bytes_per_transfer", f64::from(bytes) * 1024.0 / f64::from(self.n_transfers));
        Ok(())
    }

    /// Memory of a ledger that has seen every account.
    async fn touch_all(
        &mut self,
        stage: &Stage,
        answered: bool,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let pairs = u32::try_from(self.books.everybody.len() / 2)?;
        let run = self.books.run(stage, (Draw::Pairs, pairs), answered).await?;
        if let Some(megabytes) = run.resident_mb {
            report.add("ledger_rss_mb", megabytes);
        }
        report.detail("ledger_rss_accounts", json!(self.books.everybody.len()));
        report.detail("ledger_rss_run_tps", json!(rounded(run.per_second)));
        Ok(())
    }
}

/// A number of commands; nothing that is not above zero.
fn whole(n: f64) -> u32 {
    // By text, because the one cast there is would go wrong silently.
    format!("{:.0}", n.clamp(0.0, f64::from(u32::MAX))).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_commands_is_whole() {
        assert_eq!([whole(1.4), whole(1e12), whole(-5.0), whole(f64::NAN)], [1, u32::MAX, 0, 0]);
    }
}
