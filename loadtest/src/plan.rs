//! How much of everything: the full bench, and the quick one that only shows that it works.

use std::time::Duration;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Part {
    /// What Postgres does with its own benchmark.
    Pgbench,
    /// The ledger alone, between 10,000 accounts of new books.
    Engine,
    /// The same with one account on a side of every transfer.
    Hot,
    /// The same on books with a long past.
    Grown,
    /// The whole platform: `POST /wallet/transfer`, as fast as it answers.
    Transfer,
    /// The whole platform: `GET /wallet/balance`.
    Balance,
    /// The whole platform: `POST /wallet/transfers/batch`.
    Bulk,
    /// The whole platform: `POST /wallet/transfer` at a fixed rate, for its latencies.
    Paced,
}

impl Part {
    pub(crate) const ALL: [Self; 8] = [
        Self::Pgbench,
        Self::Engine,
        Self::Hot,
        Self::Grown,
        Self::Transfer,
        Self::Balance,
        Self::Bulk,
        Self::Paced,
    ];
    /// Those that need the whole platform.
    pub(crate) const HTTP: [Self; 4] = [Self::Transfer, Self::Balance, Self::Bulk, Self::Paced];
}

/// Sizes and times.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How often each figure is measured; the median counts.
    pub(crate) runs: u32,
    /// One run of pgbench.
    pub(crate) pgbench: Duration,
    /// Accounts that pay each other in every engine workload.
    pub(crate) accounts: u32,
    /// How long one run of the engine should be; the number of commands follows from its speed.
    pub(crate) engine: Duration,
    /// Transfers of the unmeasured first run, which tells the speed. Enough for Postgres to have
    /// logged the image of nearly every page, which it does when it first changes one after a
    /// checkpoint.
    pub(crate) warm_up: u32,
    /// The long past.
    pub(crate) grown: Grown,
    /// People who have a wallet and a key.
    pub(crate) people: u32,
    /// Unmeasured seconds before each closed loop.
    pub(crate) settle: Duration,
    /// One closed loop.
    pub(crate) closed: Duration,
    /// The open loop at [`OPEN_PER_SECOND`].
    pub(crate) open: Duration,
    /// Whether all books are replayed against the rules afterwards.
    pub(crate) replay: bool,
}

/// How much is in the grown books before they are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grown {
    pub(crate) accounts: u32,
    pub(crate) transfers: u32,
}

impl Grown {
    /// About how long that takes.
    pub(crate) fn expected(self) -> Duration {
        const PER_SECOND: u32 = 100_000;
        Duration::from_secs(u64::from(self.transfers / PER_SECOND).max(1))
    }
}

/// Connections of the closed loops.
pub(crate) const CONNECTIONS: [usize; 3] = [128, 256, 512];
/// Connections of the loop of balances.
pub(crate) const CONNECTIONS_BALANCE: usize = 256;
/// Connections of the bulk loop: a request carries [`BULK`] transfers.
pub(crate) const CONNECTIONS_BULK: usize = 16;
/// Transfers in one bulk request.
pub(crate) const BULK: usize = 100;
/// Arrivals of the open loop.
pub(crate) const OPEN_PER_SECOND: u32 = 1_000;

impl Plan {
    /// At most ten minutes.
    pub(crate) const fn full() -> Self {
        Self {
            runs: 5,
            pgbench: Duration::from_secs(8),
            accounts: 10_000,
            engine: Duration::from_secs(6),
            warm_up: 200_000,
            grown: Grown { accounts: 1_000_000, transfers: 10_000_000 },
            people: 200,
            settle: Duration::from_millis(500),
            closed: Duration::from_secs(3),
            open: Duration::from_secs(6),
            replay: true,
        }
    }

    /// At most ninety seconds.
    pub(crate) const fn quick() -> Self {
        Self {
            runs: 1,
            pgbench: Duration::from_secs(3),
            accounts: 10_000,
            engine: Duration::from_secs(2),
            warm_up: 20_000,
            grown: Grown { accounts: 20_000, transfers: 100_000 },
            people: 40,
            settle: Duration::from_millis(300),
            closed: Duration::from_millis(1_500),
            open: Duration::from_secs(3),
            replay: true,
        }
    }

    /// About how long these parts take, for the bar.
    pub(crate) fn expected(&self, parts: &[Part]) -> Duration {
        const AROUND: Duration = Duration::from_secs(20);
        const BESIDE: Duration = Duration::from_secs(5);
        let closed = self.settle + self.closed;
        let of = |part: &Part| match part {
            Part::Pgbench => self.pgbench * self.runs + BESIDE,
            Part::Engine | Part::Hot => (self.engine + BESIDE) * self.runs + AROUND,
            Part::Grown => (self.engine + BESIDE) * self.runs + AROUND * 2 + self.grown.expected(),
            Part::Transfer => closed * self.runs * 3 + AROUND,
            Part::Balance | Part::Bulk => closed * self.runs,
            Part::Paced => self.open * self.runs,
        };
        parts.iter().map(of).sum()
    }
}
