//! How fast the service asks, and how long it waits.

use std::time::Duration;

use crate::schedule::{Row, Schedule};
use crate::{missed, nightly};

/// The longest pause before somebody who did not answer is asked again.
const UNANSWERED_LONGEST_MS: u64 = 60_000;
/// A day.
const DAY_MS: u64 = 86_400_000;

/// How fast the service asks, and how long it waits. Every time in milliseconds.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "payments_pace")]
pub struct Pace {
    /// How long a connection to Paystack may take to open.
    #[arg(
        id = "payments_provider_connect_timeout_ms",
        long = "payments-provider-connect-timeout-ms",
        env = "PAYMENTS_PROVIDER_CONNECT_TIMEOUT_MS",
        value_name = "MS",
        default_value_t = 2_000
    )]
    pub provider_connect_timeout_ms: u64,
    /// How long one call to Paystack may take.
    #[arg(
        id = "payments_provider_timeout_ms",
        long = "payments-provider-timeout-ms",
        env = "PAYMENTS_PROVIDER_TIMEOUT_MS",
        value_name = "MS",
        default_value_t = 8_000
    )]
    pub provider_timeout_ms: u64,
    /// The first pause when Paystack keeps failing; doubled up to 32 times.
    #[arg(
        id = "payments_circuit_pause_ms",
        long = "payments-circuit-pause-ms",
        env = "PAYMENTS_CIRCUIT_PAUSE_MS",
        value_name = "MS",
        default_value_t = 1_000
    )]
    pub circuit_pause_ms: u64,
    /// Most calls to Paystack, and as many to the ledger, at one time.
    #[arg(
        id = "payments_concurrency_max",
        long = "payments-concurrency-max",
        env = "PAYMENTS_CONCURRENCY_MAX",
        value_name = "COUNT",
        default_value_t = 16
    )]
    pub concurrency_max: u16,
    /// How long a worker may keep a deposit to itself; a crashed one's is taken up after that.
    #[arg(
        id = "payments_lease_ms",
        long = "payments-lease-ms",
        env = "PAYMENTS_LEASE_MS",
        value_name = "MS",
        default_value_t = 20_000
    )]
    pub lease_ms: u64,
    /// How often work is looked for when nothing says that there is any.
    #[arg(
        id = "payments_poll_ms",
        long = "payments-poll-ms",
        env = "PAYMENTS_POLL_MS",
        value_name = "MS",
        default_value_t = 1_000
    )]
    pub poll_ms: u64,
    /// How long the ledger may take to answer.
    #[arg(
        id = "payments_ledger_wait_ms",
        long = "payments-ledger-wait-ms",
        env = "PAYMENTS_LEDGER_WAIT_MS",
        value_name = "MS",
        default_value_t = 5_000
    )]
    pub ledger_wait_ms: u64,
    /// How soon after its start an unpaid deposit is verified; the pauses double from there.
    #[arg(
        id = "payments_reconcile_first_ms",
        long = "payments-reconcile-first-ms",
        env = "PAYMENTS_RECONCILE_FIRST_MS",
        value_name = "MS",
        default_value_t = 60_000
    )]
    pub reconcile_first_ms: u64,
    /// The longest pause between two verifications of an unpaid deposit.
    #[arg(
        id = "payments_reconcile_longest_ms",
        long = "payments-reconcile-longest-ms",
        env = "PAYMENTS_RECONCILE_LONGEST_MS",
        value_name = "MS",
        default_value_t = 1_800_000
    )]
    pub reconcile_longest_ms: u64,
    /// The pause between two verifications after it failed or was abandoned.
    #[arg(
        id = "payments_reconcile_late_ms",
        long = "payments-reconcile-late-ms",
        env = "PAYMENTS_RECONCILE_LATE_MS",
        value_name = "MS",
        default_value_t = 7_200_000
    )]
    pub reconcile_late_ms: u64,
    /// The first pause when verify does not agree with a webhook yet.
    #[arg(
        id = "payments_confirm_first_ms",
        long = "payments-confirm-first-ms",
        env = "PAYMENTS_CONFIRM_FIRST_MS",
        value_name = "MS",
        default_value_t = 1_000
    )]
    pub confirm_first_ms: u64,
    /// After how long a webhook that verify never agreed with is a matter for a person.
    #[arg(
        id = "payments_confirm_for_ms",
        long = "payments-confirm-for-ms",
        env = "PAYMENTS_CONFIRM_FOR_MS",
        value_name = "MS",
        default_value_t = 3_600_000
    )]
    pub confirm_for_ms: u64,
    /// After how long an unpaid deposit counts as abandoned.
    #[arg(
        id = "payments_abandon_after_ms",
        long = "payments-abandon-after-ms",
        env = "PAYMENTS_ABANDON_AFTER_MS",
        value_name = "MS",
        default_value_t = 86_400_000
    )]
    pub abandon_after_ms: u64,
    /// After how long nobody looks for a late payment any more; a webhook still wakes.
    #[arg(
        id = "payments_forget_after_ms",
        long = "payments-forget-after-ms",
        env = "PAYMENTS_FORGET_AFTER_MS",
        value_name = "MS",
        default_value_t = 1_209_600_000
    )]
    pub forget_after_ms: u64,
    /// How soon an open refund or dispute is looked at; the pauses double from there.
    #[arg(
        id = "payments_return_first_ms",
        long = "payments-return-first-ms",
        env = "PAYMENTS_RETURN_FIRST_MS",
        value_name = "MS",
        default_value_t = 30_000
    )]
    pub return_first_ms: u64,
    /// The longest pause between two looks at an open refund or dispute.
    #[arg(
        id = "payments_return_longest_ms",
        long = "payments-return-longest-ms",
        env = "PAYMENTS_RETURN_LONGEST_MS",
        value_name = "MS",
        default_value_t = 1_800_000
    )]
    pub return_longest_ms: u64,
    /// How long after asking for a refund Paystack is believed that it has none.
    #[arg(
        id = "payments_refund_settle_ms",
        long = "payments-refund-settle-ms",
        env = "PAYMENTS_REFUND_SETTLE_MS",
        value_name = "MS",
        default_value_t = 120_000
    )]
    pub refund_settle_ms: u64,
    /// The least pause between two verifications caused by callers asking for the status.
    #[arg(
        id = "payments_look_pause_ms",
        long = "payments-look-pause-ms",
        env = "PAYMENTS_LOOK_PAUSE_MS",
        value_name = "MS",
        default_value_t = 5_000
    )]
    pub look_pause_ms: u64,
    /// The pause between two askings for webhooks that Paystack could not deliver.
    #[arg(
        id = "payments_missed_every_ms",
        long = "payments-missed-every-ms",
        env = "PAYMENTS_MISSED_EVERY_MS",
        value_name = "MS",
        default_value_t = 300_000
    )]
    pub missed_every_ms: u64,
    /// When of the day (UTC) the day before is compared with Paystack and the books, after midnight.
    #[arg(
        id = "payments_nightly_at_ms",
        long = "payments-nightly-at-ms",
        env = "PAYMENTS_NIGHTLY_AT_MS",
        value_name = "MS",
        default_value_t = 9_000_000
    )]
    pub nightly_at_ms: u64,
    /// The pause before a comparison that failed is begun again.
    #[arg(
        id = "payments_nightly_retry_ms",
        long = "payments-nightly-retry-ms",
        env = "PAYMENTS_NIGHTLY_RETRY_MS",
        value_name = "MS",
        default_value_t = 600_000
    )]
    pub nightly_retry_ms: u64,
    /// How long before the compared day a payment's transaction may have been made.
    #[arg(
        id = "payments_nightly_lookback_ms",
        long = "payments-nightly-lookback-ms",
        env = "PAYMENTS_NIGHTLY_LOOKBACK_MS",
        value_name = "MS",
        default_value_t = 259_200_000
    )]
    pub nightly_lookback_ms: u64,
    /// How long a payment may be on its way before it counts as not credited.
    #[arg(
        id = "payments_nightly_grace_ms",
        long = "payments-nightly-grace-ms",
        env = "PAYMENTS_NIGHTLY_GRACE_MS",
        value_name = "MS",
        default_value_t = 3_600_000
    )]
    pub nightly_grace_ms: u64,
}

impl Pace {
    /// The pauses by name.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let row = |first, longest| Row {
            first: Duration::from_millis(first),
            longest: Duration::from_millis(longest),
        };
        let unanswered_longest = self.reconcile_longest_ms.min(UNANSWERED_LONGEST_MS);
        let confirm_longest = self.reconcile_longest_ms.max(self.confirm_first_ms);
        Schedule {
            pending: row(self.reconcile_first_ms, self.reconcile_longest_ms),
            confirm: row(self.confirm_first_ms, confirm_longest),
            late: row(self.reconcile_late_ms, self.reconcile_late_ms),
            unanswered: row(self.confirm_first_ms, unanswered_longest.max(self.confirm_first_ms)),
            returning: row(self.return_first_ms, self.return_longest_ms),
        }
    }

    pub(crate) fn missed(&self) -> missed::Limits {
        missed::Limits {
            every: Duration::from_millis(self.missed_every_ms),
            poll: Duration::from_millis(self.poll_ms),
            lease: Duration::from_millis(self.lease_ms),
        }
    }

    pub(crate) fn nightly(&self) -> nightly::Terms {
        nightly::Terms {
            after_midnight: Duration::from_millis(self.nightly_at_ms),
            retry: Duration::from_millis(self.nightly_retry_ms),
            lookback: Duration::from_millis(self.nightly_lookback_ms),
            grace: Duration::from_millis(self.nightly_grace_ms),
            wait: Duration::from_millis(self.ledger_wait_ms),
            lease: Duration::from_millis(self.lease_ms),
            poll: Duration::from_millis(self.poll_ms),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let positive = [
            (self.provider_connect_timeout_ms, "PAYMENTS_PROVIDER_CONNECT_TIMEOUT_MS"),
            (self.provider_timeout_ms, "PAYMENTS_PROVIDER_TIMEOUT_MS"),
            (self.circuit_pause_ms, "PAYMENTS_CIRCUIT_PAUSE_MS"),
            (u64::from(self.concurrency_max), "PAYMENTS_CONCURRENCY_MAX"),
            (self.poll_ms, "PAYMENTS_POLL_MS"),
            (self.ledger_wait_ms, "PAYMENTS_LEDGER_WAIT_MS"),
            (self.reconcile_first_ms, "PAYMENTS_RECONCILE_FIRST_MS"),
            (self.reconcile_late_ms, "PAYMENTS_RECONCILE_LATE_MS"),
            (self.confirm_first_ms, "PAYMENTS_CONFIRM_FIRST_MS"),
            (self.confirm_for_ms, "PAYMENTS_CONFIRM_FOR_MS"),
            (self.return_first_ms, "PAYMENTS_RETURN_FIRST_MS"),
            (self.missed_every_ms, "PAYMENTS_MISSED_EVERY_MS"),
            (self.nightly_retry_ms, "PAYMENTS_NIGHTLY_RETRY_MS"),
        ];
        if let Some((_, name)) = positive.iter().find(|(value, _)| *value == 0) {
            return Err(format!("{name} must be more than zero"));
        }
        let longest_call = self.provider_timeout_ms.max(self.ledger_wait_ms);
        let ordered = [
            (
                longest_call < self.lease_ms,
                "PAYMENTS_LEASE_MS must be longer than a call to Paystack or the ledger may take",
            ),
            (
                self.reconcile_first_ms <= self.reconcile_longest_ms,
                "PAYMENTS_RECONCILE_LONGEST_MS must not be shorter than PAYMENTS_RECONCILE_FIRST_MS",
            ),
            (
                self.return_first_ms <= self.return_longest_ms,
                "PAYMENTS_RETURN_LONGEST_MS must not be shorter than PAYMENTS_RETURN_FIRST_MS",
            ),
            (
                self.provider_timeout_ms < self.refund_settle_ms,
                "PAYMENTS_REFUND_SETTLE_MS must be longer than a call to Paystack may take",
            ),
            (
                self.abandon_after_ms <= self.forget_after_ms,
                "PAYMENTS_FORGET_AFTER_MS must not be shorter than PAYMENTS_ABANDON_AFTER_MS",
            ),
            (
                self.nightly_at_ms < DAY_MS,
                "PAYMENTS_NIGHTLY_AT_MS must be less than a day, which has 86400000",
            ),
        ];
        match ordered.iter().find(|(holds, _)| !holds) {
            Some((_, sentence)) => Err((*sentence).to_owned()),
            None => Ok(()),
        }
    }
}
