//! Everything `payments` can do at a terminal beside what every service can.

use std::process::ExitCode;

use crate::nightly::command::Reconcile;
use crate::{nightly, operate};

/// What the payments service can do beside what every service can.
#[derive(Debug, clap::Subcommand)]
#[command(about = "Money in through Paystack: deposits from the intent to the credit")]
pub enum Verb {
    /// What is about single deposits and webhooks.
    #[command(flatten)]
    Operate(operate::Verb),
    /// Compares a day of Paystack's payments with our record and the books, and ends: 0 if all agree,
    /// 1 if not, 2 if it could not be done.
    Reconcile(Reconcile),
}

/// Does it, and says how it ended.
#[must_use]
pub fn run(verb: Verb) -> ExitCode {
    match verb {
        Verb::Operate(verb) => operate::run(verb),
        Verb::Reconcile(asked) => nightly::command::run(asked),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(subcommand)]
        verb: Verb,
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_day_is_compared_only_for_somebody_and_a_reason() {
        let asked = |more: &[&str]| {
            let first = ["payments", "reconcile", "--nats-url", "nats://x"];
            let rest = ["--payments-database-url", "postgres://h/payments"];
            let key = ["--paystack-secret-key", "sk_test_0123456789abcdef"];
            let args = first.iter().chain(&rest).chain(&key).chain(more);
            Args::try_parse_from(args).is_ok()
        };
        let whole = ["--day", "2026-11-20", "--who", "ada", "--why", "an audit"];
        assert!(asked(&whole));
        for missing in [0, 2, 4] {
            let mut args = whole.to_vec();
            args.drain(missing..missing + 2);
            assert!(!asked(&args), "{args:?}");
        }
        assert!(!asked(&["--day", "yesterday", "--who", "ada", "--why", "an audit"]));
    }
}
