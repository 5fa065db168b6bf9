//! What the service is told by its environment.

use std::time::Duration;

/// Settings of the ledger.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ledger")]
pub struct Config {
    /// Where the ledger keeps its books.
    #[arg(
        id = "ledger_database_url",
        long = "ledger-database-url",
        env = "LEDGER_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: String,
    /// Most connections to that database; one posts, one audits, the rest answer.
    #[arg(
        id = "ledger_database_connections_max",
        long = "ledger-database-connections-max",
        env = "LEDGER_DATABASE_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(4..=1_000)
    )]
    pub database_connections_max: u32,
    /// The role that `migrate` lets add to the books; none when it is the owner itself.
    #[arg(
        id = "ledger_runtime_role",
        long = "ledger-runtime-role",
        env = "LEDGER_RUNTIME_ROLE",
        value_name = "ROLE"
    )]
    pub runtime_role: Option<String>,
    /// Most commands decided in one transaction.
    #[arg(
        id = "ledger_batch_transfers_max",
        long = "ledger-batch-transfers-max",
        env = "LEDGER_BATCH_TRANSFERS_MAX",
        value_name = "N",
        default_value_t = 2_000,
        value_parser = clap::value_parser!(u16).range(1..=4_000)
    )]
    pub batch_transfers_max: u16,
    /// How many accounts the writer remembers between batches, about 100 bytes each.
    #[arg(
        id = "ledger_accounts_in_memory_max",
        long = "ledger-accounts-in-memory-max",
        env = "LEDGER_ACCOUNTS_IN_MEMORY_MAX",
        value_name = "N",
        default_value_t = 900_000,
        value_parser = clap::value_parser!(u32).range(2..=100_000_000)
    )]
    pub accounts_in_memory_max: u32,
    /// Milliseconds between two looks for holds whose time is up.
    #[arg(
        id = "ledger_expire_interval_ms",
        long = "ledger-expire-interval-ms",
        env = "LEDGER_EXPIRE_INTERVAL_MS",
        value_name = "MS",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(10..=3_600_000)
    )]
    pub expire_interval_ms: u32,
    /// Milliseconds between two looks of the audit.
    #[arg(
        id = "ledger_audit_interval_ms",
        long = "ledger-audit-interval-ms",
        env = "LEDGER_AUDIT_INTERVAL_MS",
        value_name = "MS",
        default_value_t = 2_000,
        value_parser = clap::value_parser!(u32).range(10..=3_600_000)
    )]
    pub audit_interval_ms: u32,
    /// Milliseconds for which the session that posts may be silent before Postgres ends it and
    /// another ledger may take over; a living one is never silent for so long.
    #[arg(
        id = "ledger_session_silence_max_ms",
        long = "ledger-session-silence-max-ms",
        env = "LEDGER_SESSION_SILENCE_MAX_MS",
        value_name = "MS",
        default_value_t = 15_000,
        value_parser = clap::value_parser!(u32).range(500..=600_000)
    )]
    pub session_silence_max_ms: u32,
}

impl chassis::Configure for Config {
    fn check(&self) -> Result<(), String> {
        if self.database_url.is_empty() {
            return Err("LEDGER_DATABASE_URL must not be empty".to_owned());
        }
        Ok(())
    }
}

impl Config {
    pub(crate) fn batch_transfers_max(&self) -> usize {
        usize::from(self.batch_transfers_max)
    }

    pub(crate) fn accounts_in_memory_max(&self) -> usize {
        usize::try_from(self.accounts_in_memory_max).unwrap_or(usize::MAX)
    }

    pub(crate) fn expire_interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.expire_interval_ms))
    }

    pub(crate) fn audit_interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.audit_interval_ms))
    }

    pub(crate) fn session_silence_max(&self) -> Duration {
        Duration::from_millis(u64::from(self.session_silence_max_ms))
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let parse = |more: &str| {
            Args::try_parse_from(["ledger", "--ledger-database-url=postgres://x", more])
        };
        assert_eq!(
            parse("--ledger-batch-transfers-max=4000").unwrap().config.batch_transfers_max(),
            4_000
        );
        for bad in [
            "--ledger-batch-transfers-max=0",
            "--ledger-batch-transfers-max=4001",
            "--ledger-database-connections-max=3",
            "--ledger-audit-interval-ms=0",
            "--ledger-session-silence-max-ms=499",
            "--ledger-expire-interval-ms=0",
            "--ledger-accounts-in-memory-max=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
