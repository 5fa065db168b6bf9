//! Books of their own for a workload: a database, a nats-server, and a ledger that runs now and
//! then.
//!
//! Each has a stream to itself, so that no ledger reads what another one was meant to.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::Client;
use primitives::{AccountId, Timestamp};
use proto_events::subjects;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sandbox::servers::{Companion, Nats, free_port};
use sqlx::postgres::PgConnection;

use crate::metrics::Metrics;
use crate::plan::Grown;
use crate::stage::{Database, Stage};
use crate::workload::{self, Draw, Sent, TOGETHER, Transfers, Wallet};
use crate::{machine, publish, store};

/// How often the ledger's place is looked at: often enough for a run of seconds, and too seldom
/// to cost anything.
const LOOK: Duration = Duration::from_millis(10);
/// A ledger that does nothing for so long is stuck.
const PROGRESS_WITHIN: Duration = Duration::from_secs(30);
const MIGRATED_WITHIN: Duration = Duration::from_secs(60);
/// Commands are good for longer than any bench takes.
const DEADLINE: Duration = Duration::from_hours(2);
/// Commands published before the ledger is waited for: they must fit the stream, which holds 256 MB.
const CHUNK: u32 = 200_000;

/// Untimed transfers for each wallet at the beginning of a run: with three, of a thousand wallets
/// two or three take part in none.
const DRAWS_EACH: u32 = 3;

/// The books of one workload.
pub(crate) struct Books {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) conn: PgConnection,
    /// Who pays whom while it is measured.
    pub(crate) wallets: Vec<Wallet>,
    /// Everybody; more than [`Self::wallets`] in books that have grown.
    pub(crate) everybody: Vec<Wallet>,
    /// The best so far, for the size of the next run: one that was held up must not make it short.
    pub(crate) per_second: f64,
    nats: Nats,
    /// So that no two runs have a transfer in common.
    n_runs: u64,
}

/// A ledger that runs.
pub(crate) struct Ledger {
    companion: Companion,
    admin_port: u16,
}

/// What a run did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) per_second: f64,
    pub(crate) n_transfers: u32,
    pub(crate) resident_mb: Option<f64>,
    pub(crate) batch_size: f64,
    pub(crate) batch_ms: f64,
}

impl Books {
    /// Empty books, without a single account.
    pub(crate) async fn open(stage: &Stage, name: &'static str) -> anyhow::Result<Self> {
        let database = stage.database(name).await?;
        let migrate = stage.program("ledger", &["migrate"], migration(&database)).await?;
        migrate.finished(MIGRATED_WITHIN).await?;
        let nats = stage.nats(&format!("nats-{name}")).await?;
        let client = chassis::nats::connect(&nats.url(), "loadtest").await?;
        let jetstream = async_nats::jetstream::new(client.clone());
        bus::streams::ensure(&jetstream).await.context("failed to make the streams")?;
        let conn = store::connect(&database.admin_url).await?;
        let (wallets, everybody) = (Vec::new(), Vec::new());
        Ok(Self { client, database, conn, wallets, everybody, per_second: 0.0, nats, n_runs: 0 })
    }

    /// The release of nats-server.
    pub(crate) fn nats_version(&self) -> String {
        self.client.server_info().version
    }

    /// Where whoever wants to look connects: Postgres, and NATS.
    pub(crate) fn urls(&self) -> (String, String) {
        (self.database.admin_url.clone(), self.nats.url())
    }

    /// Opens this many wallets and puts money into each, through the ledger.
    pub(crate) async fn fill(&mut self, stage: &Stage, n_wallets: u32) -> anyhow::Result<()> {
        self.everybody = (0..n_wallets).map(|_| Wallet::generate()).collect();
        self.wallets.clone_from(&self.everybody);
        let everybody = self.everybody.clone();
        let deadline = Timestamp::now().plus(DEADLINE);
        let mut rng = StdRng::seed_from_u64(0);
        let opened = everybody.iter().map(|it| workload::open(*it, deadline));
        let funded = everybody.iter().map(|it| workload::fund(*it, deadline, &mut rng));
        let ledger = self.start(stage).await?;
        let began = Instant::now();
        self.carry(&ledger, opened.chain(funded)).await?;
        self.per_second = f64::from(n_wallets) * 2.0 / began.elapsed().as_secs_f64();
        ledger.stop().await
    }

    /// Gives the books a long past, written as the ledger would have written it. Those who will pay
    /// each other are spread evenly over all accounts.
    pub(crate) async fn grow(&mut self, grown: Grown, n_wallets: u32) -> anyhow::Result<()> {
        self.everybody = (0..grown.accounts).map(|_| Wallet::generate()).collect();
        let every = usize::try_from(grown.accounts / n_wallets.max(1))?.max(1);
        self.wallets = self.everybody.iter().copied().step_by(every).collect();
        let accounts: Vec<AccountId> = self.everybody.iter().map(|it| it.account).collect();
        let pool = store::pool(&self.database.urls.owner).await?;
        ledger::seed::grow(&pool, &accounts, grown.transfers.into(), |_| ()).await?;
        pool.close().await;
        Ok(())
    }

    /// Publishes commands while the ledger works on those before.
    async fn carry(
        &mut self,
        ledger: &Ledger,
        commands: impl Iterator<Item = Sent>,
    ) -> anyhow::Result<()> {
        let mut commands = commands.peekable();
        let mut before = 0;
        while commands.peek().is_some() {
            let chunk = commands.by_ref().take(usize::try_from(CHUNK)?);
            let last = publish::fill(&self.client, chunk, false).await?;
            self.wait(ledger, (0, before)).await?;
            self.purge(before).await?;
            before = last;
        }
        self.wait(ledger, (0, before)).await?;
        self.purge(before).await
    }

    /// Takes what was applied out of the stream, as the ledger does when it runs for longer; the
    /// last message stays, by which the ledger knows the stream again.
    async fn purge(&self, applied: u64) -> anyhow::Result<()> {
        // To JetStream, purging up to 0 means everything.
        if applied == 0 {
            return Ok(());
        }
        let jetstream = async_nats::jetstream::new(self.client.clone());
        let stream = jetstream.get_stream(subjects::CMD_LEDGER.name).await;
        let stream = stream.context("the stream is not there")?;
        stream.purge().sequence(applied).await.context("the stream cannot be purged")?;
        Ok(())
    }

    /// The next transfers, none of which was made before.
    fn transfers<'a>(&mut self, wallets: &'a [Wallet], draw: Draw) -> Transfers<'a> {
        self.n_runs = self.n_runs.wrapping_add(1);
        Transfers::new(wallets, draw, Timestamp::now().plus(DEADLINE), self.n_runs)
    }

    /// One measure: fills the stream, then starts the ledger and times `n_transfers` up to its last
    /// commit. Every transfer must post.
    ///
    /// Those before them, which fill the ledger's memory, are not timed: it meets every account that
    /// moves money once after it starts, and looks it up then.
    pub(crate) async fn run(
        &mut self,
        stage: &Stage,
        (draw, n_transfers): (Draw, u32),
        answered: bool,
    ) -> anyhow::Result<Run> {
        let wallets = match draw {
            Draw::Uniform | Draw::Hot => self.wallets.clone(),
            Draw::Pairs => self.everybody.clone(),
        };
        let n_before = match draw {
            Draw::Uniform | Draw::Hot => u32::try_from(wallets.len())?.saturating_mul(DRAWS_EACH),
            Draw::Pairs => 0,
        };
        // In whole commands.
        let n_commands = n_transfers.div_ceil(TOGETHER);
        let n_all_commands = n_before.div_ceil(TOGETHER).saturating_add(n_commands);
        let n_all = n_all_commands.saturating_mul(TOGETHER);
        let transfers = self.transfers(&wallets, draw).take(usize::try_from(n_all_commands)?);
        let last = publish::fill(&self.client, transfers, answered).await?;
        machine::write_out().await?;
        let ledger = self.start(stage).await?;
        let timed_from = last.saturating_sub(n_commands.into());
        let commands_per_second = self.wait(&ledger, (timed_from, last)).await?;
        let per_second = commands_per_second * f64::from(TOGETHER);
        let metrics = Metrics::of(ledger.admin_port).await?;
        let posted = metrics.get("ledger_transfers_total{outcome=\"posted\"}");
        ensure!(
            posted >= f64::from(n_all),
            "of {n_all} transfers {posted} were posted; the others were refused"
        );
        let resident_mb = ledger.companion.pid().and_then(machine::resident_mb);
        ledger.stop().await?;
        self.purge(last).await?;
        self.per_second = self.per_second.max(per_second);
        Ok(Run {
            n_transfers: n_all,
            per_second,
            resident_mb,
            batch_size: metrics.mean("ledger_batch_size"),
            batch_ms: metrics.mean("ledger_batch_seconds") * 1_000.0,
        })
    }

    /// Waits until the ledger has committed up to `last`, and says how many commands it did a
    /// second between the first commit seen from `timed_from` on and the last; 0 if that was one.
    async fn wait(
        &mut self,
        ledger: &Ledger,
        (timed_from, last): (u64, u64),
    ) -> anyhow::Result<f64> {
        let before = store::applied(&mut self.conn).await?.unwrap_or(0);
        let (mut first, mut newest) = (None, (before, Instant::now()));
        loop {
            let sequence = store::applied(&mut self.conn).await?.unwrap_or(0);
            let now = Instant::now();
            if sequence > newest.0 {
                newest = (sequence, now);
                if sequence >= timed_from {
                    first.get_or_insert(newest);
                }
            }
            if sequence >= last {
                break;
            }
            if !ledger.companion.is_running() || newest.1.elapsed() > PROGRESS_WITHIN {
                let sentence = format!("has come to command {sequence} of {last} and no further");
                return Err(ledger.companion.complaint(&sentence));
            }
            tokio::time::sleep(LOOK).await;
        }
        let Some((begun, at)) = first else { return Ok(0.0) };
        let n_commands = u32::try_from(newest.0.saturating_sub(begun))?;
        let seconds = newest.1.duration_since(at).as_secs_f64();
        Ok(if seconds > 0.0 { f64::from(n_commands) / seconds } else { 0.0 })
    }

    /// Starts the ledger on these books, as the runtime role.
    pub(crate) async fn start(&self, stage: &Stage) -> anyhow::Result<Ledger> {
        let admin_port = free_port().context("no port is free")?;
        let env = [
            ("LEDGER_DATABASE_URL", self.database.urls.runtime.clone()),
            ("NATS_URL", self.nats.url()),
            ("ADMIN_ADDRESS", format!("127.0.0.1:{admin_port}")),
            ("LOG_LEVEL", "warn".to_owned()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let companion = stage.program("ledger", &["serve"], env).await?;
        Ok(Ledger { companion, admin_port })
    }
}

impl Ledger {
    /// Stops it in good order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.companion.stop().await
    }
}

fn migration(database: &Database) -> Vec<(String, String)> {
    let env = [
        ("LEDGER_DATABASE_URL", database.urls.owner.clone()),
        ("LEDGER_RUNTIME_ROLE", database.runtime.clone()),
        ("LOG_LEVEL", "warn".to_owned()),
    ];
    env.map(|(name, value)| (name.to_owned(), value)).to_vec()
}
