//! The settings of the service, and what is refused before anything is opened.

mod pace;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use chassis::http::peer::Network;
use chassis::{Configure, Secret};
use primitives::{Currency, Timestamp};
use url::{Host, Url};

use crate::verdict::{Domain, FeesPaidBy};

pub use pace::Pace;

/// How far ahead the previous key may be accepted: the length of Paystack's retry schedule.
const PREVIOUS_KEY_MAX: Duration = Duration::from_hours(72);
/// Fewest characters after `sk_test_` or `sk_live_`; Paystack's have 40.
const KEY_CHARS_MIN: usize = 16;
/// Fewest different characters among them: `xxxx…` is a placeholder.
const KEY_VARIETY_MIN: usize = 6;
/// Words that stand in examples, never in a key.
const KEY_PLACEHOLDERS: [&str; 6] =
    ["example", "changeme", "change_me", "your_", "secret", "replace"];

/// Settings of the payments service.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "payments")]
pub struct Config {
    /// Where deposits are kept: a Postgres URL.
    #[arg(
        id = "payments_database_url",
        long = "payments-database-url",
        env = "PAYMENTS_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: String,
    /// Most connections to Postgres.
    #[arg(
        id = "payments_database_connections_max",
        long = "payments-database-connections-max",
        env = "PAYMENTS_DATABASE_CONNECTIONS_MAX",
        value_name = "COUNT",
        default_value_t = 16
    )]
    pub database_connections_max: u32,
    /// The role that `migrate` grants what the service needs, if it is not the owner.
    #[arg(
        id = "payments_runtime_role",
        long = "payments-runtime-role",
        env = "PAYMENTS_RUNTIME_ROLE",
        value_name = "ROLE"
    )]
    pub runtime_role: Option<String>,
    /// Where webhooks are listened for.
    #[arg(
        id = "payments_listen",
        long = "payments-listen",
        env = "PAYMENTS_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8001"
    )]
    pub listen: SocketAddr,
    /// Paystack's secret API key, which also signs webhooks; its prefix says test or live.
    #[arg(
        id = "paystack_secret_key",
        long = "paystack-secret-key",
        env = "PAYSTACK_SECRET_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub secret_key: Secret,
    /// The key before the last rotation: webhooks under way still carry its signature.
    #[arg(
        id = "paystack_secret_key_previous",
        long = "paystack-secret-key-previous",
        env = "PAYSTACK_SECRET_KEY_PREVIOUS",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub secret_key_previous: Option<Secret>,
    /// Until when the previous key is accepted (RFC 3339), at most 72 hours ahead.
    #[arg(
        id = "paystack_secret_key_previous_until",
        long = "paystack-secret-key-previous-until",
        env = "PAYSTACK_SECRET_KEY_PREVIOUS_UNTIL",
        value_name = "TIME",
        value_parser = Timestamp::parse
    )]
    pub secret_key_previous_until: Option<Timestamp>,
    /// Networks that webhooks may come from; any if none is named. Paystack's own are
    /// 52.31.139.75, 52.49.173.169 and 52.214.14.220.
    #[arg(
        id = "paystack_webhook_sources",
        long = "paystack-webhook-sources",
        env = "PAYSTACK_WEBHOOK_SOURCES",
        value_name = "NETWORKS",
        value_delimiter = ','
    )]
    pub webhook_sources: Vec<Network>,
    /// Networks whose `X-Forwarded-For` is believed: the ingress's.
    #[arg(
        id = "payments_trusted_proxies",
        long = "payments-trusted-proxies",
        env = "PAYMENTS_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<Network>,
    /// Where Paystack's API is.
    #[arg(
        id = "paystack_base_url",
        long = "paystack-base-url",
        env = "PAYSTACK_BASE_URL",
        value_name = "URL",
        default_value = "https://api.paystack.co"
    )]
    pub base_url: Url,
    /// Where the browser goes after paying, when the caller names no place.
    #[arg(
        id = "payments_default_callback_url",
        long = "payments-default-callback-url",
        env = "PAYMENTS_DEFAULT_CALLBACK_URL",
        value_name = "URL"
    )]
    pub default_callback_url: Option<Url>,
    /// Currencies that our Paystack account takes.
    #[arg(
        id = "payments_currencies",
        long = "payments-currencies",
        env = "PAYMENTS_CURRENCIES",
        value_name = "CODES",
        value_delimiter = ',',
        default_value = "NGN"
    )]
    pub currencies: Vec<Currency>,
    /// Who bears Paystack's fees, and so which of its amounts must be the deposit's.
    #[arg(
        id = "payments_fees_paid_by",
        long = "payments-fees-paid-by",
        env = "PAYMENTS_FEES_PAID_BY",
        value_name = "WHO",
        value_enum,
        default_value = "merchant"
    )]
    pub fees_paid_by: FeesPaidBy,
    /// Timings and limits.
    #[command(flatten)]
    pub pace: Pace,
}

impl Config {
    /// The side of Paystack that the key belongs to; `None` for what is no key.
    pub(crate) fn domain(&self) -> Option<Domain> {
        split_key(&self.secret_key).map(|(domain, _)| domain)
    }

    fn check_previous_key(&self) -> Result<(), String> {
        let (Some(previous), Some(until)) =
            (&self.secret_key_previous, self.secret_key_previous_until)
        else {
            let are_both_absent =
                self.secret_key_previous.is_none() && self.secret_key_previous_until.is_none();
            return if are_both_absent {
                Ok(())
            } else {
                Err("PAYSTACK_SECRET_KEY_PREVIOUS and PAYSTACK_SECRET_KEY_PREVIOUS_UNTIL must be set together".to_owned())
            };
        };
        check_key(previous, "PAYSTACK_SECRET_KEY_PREVIOUS")?;
        if previous == &self.secret_key {
            return Err("PAYSTACK_SECRET_KEY_PREVIOUS must not be PAYSTACK_SECRET_KEY".to_owned());
        }
        if split_key(previous).map(|it| it.0) != self.domain() {
            return Err("PAYSTACK_SECRET_KEY_PREVIOUS must be of the same mode (test or live) as PAYSTACK_SECRET_KEY".to_owned());
        }
        if until > Timestamp::now().plus(PREVIOUS_KEY_MAX) {
            return Err(
                "PAYSTACK_SECRET_KEY_PREVIOUS_UNTIL must be at most 72 hours ahead".to_owned()
            );
        }
        Ok(())
    }
}

impl Configure for Config {
    fn check(&self) -> Result<(), String> {
        let database = Url::parse(&self.database_url).ok();
        if !database.is_some_and(|it| matches!(it.scheme(), "postgres" | "postgresql")) {
            return Err("PAYMENTS_DATABASE_URL must be a postgres:// URL".to_owned());
        }
        if self.database_connections_max < 4 {
            return Err("PAYMENTS_DATABASE_CONNECTIONS_MAX must be at least 4".to_owned());
        }
        check_key(&self.secret_key, "PAYSTACK_SECRET_KEY")?;
        self.check_previous_key()?;
        check_base_url(&self.base_url, self.domain())?;
        let callback = self.default_callback_url.as_ref();
        if callback.is_some_and(|it| !is_web_address(it)) {
            return Err(
                "PAYMENTS_DEFAULT_CALLBACK_URL must be an http:// or https:// URL".to_owned()
            );
        }
        if self.currencies.is_empty() {
            return Err("PAYMENTS_CURRENCIES must name at least one currency".to_owned());
        }
        self.pace.check()
    }
}

/// Whether a browser can go there.
pub(crate) fn is_web_address(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

fn check_base_url(url: &Url, domain: Option<Domain>) -> Result<(), String> {
    if !is_web_address(url) || url.cannot_be_a_base() || url.query().is_some() {
        return Err(
            "PAYSTACK_BASE_URL must be an http:// or https:// URL without a query".to_owned()
        );
    }
    // A live key over plain HTTP is a key given away, unless it never leaves this machine.
    if domain == Some(Domain::Live) && url.scheme() != "https" && !is_loopback(url) {
        return Err("PAYSTACK_BASE_URL must be https:// with a live key".to_owned());
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(it)) => it.is_loopback(),
        Some(Host::Ipv6(it)) => it.is_loopback(),
        None => false,
    }
}

fn split_key(key: &Secret) -> Option<(Domain, &str)> {
    let text = key.expose();
    text.strip_prefix("sk_test_")
        .map(|rest| (Domain::Test, rest))
        .or_else(|| text.strip_prefix("sk_live_").map(|rest| (Domain::Live, rest)))
}

fn check_key(key: &Secret, name: &str) -> Result<(), String> {
    let Some((_, rest)) = split_key(key) else {
        return Err(format!("{name} must begin with sk_test_ or sk_live_"));
    };
    if rest.len() < KEY_CHARS_MIN
        || !rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    {
        return Err(format!(
            "{name} must have at least {KEY_CHARS_MIN} letters and digits after sk_test_ or sk_live_"
        ));
    }
    let lower = rest.to_ascii_lowercase();
    let n_different = rest.bytes().collect::<BTreeSet<_>>().len();
    if n_different < KEY_VARIETY_MIN || KEY_PLACEHOLDERS.iter().any(|it| lower.contains(it)) {
        return Err(format!("{name} is a placeholder, not a key"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        config: Config,
    }

    const KEY: &str = "sk_test_0123456789abcdef0123456789abcdef01234567";

    fn check(more: &[&str], refused_for: Option<&str>) {
        let mut args = vec!["x", "--payments-database-url", "postgres://h/payments"];
        if !more.contains(&"--paystack-secret-key") {
            args.extend(["--paystack-secret-key", KEY]);
        }
        args.extend(more);
        let config = Args::try_parse_from(args).unwrap().config;
        match (config.check(), refused_for) {
            (Ok(()), None) => {}
            (Err(sentence), Some(name)) => {
                assert!(sentence.contains(name), "{sentence}");
                assert!(!sentence.contains("0123456789"), "{sentence}");
            }
            (outcome, _) => panic!("{more:?}: {outcome:?}"),
        }
        assert!(!format!("{config:?}").contains("0123456789"));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_key_that_is_no_key_is_refused_without_being_shown() {
        check(&[], None);
        let key = "--paystack-secret-key";
        let long = "sk_live_0123456789abcdef0123456789abcdef01234567";
        check(&[key, long], None);
        for bad in [
            "",
            "sk_test_",
            "sk_test_0123456789",
            "pk_test_0123456789abcdef0123456789abcdef01234567",
            "sk_test_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk_test_example_key_example_key_0123",
            "sk_test_your_paystack_secret_key_here",
            "sk_test_0123456789abcdef 0123456789abcdef0123456",
        ] {
            check(&[key, bad], Some("PAYSTACK_SECRET_KEY"));
        }
        let (base, local) = ("--paystack-base-url", "http://127.0.0.1:1/paystack");
        check(&[base, local], None);
        check(&[key, long, base, local], None);
        let plain = [base, "http://paystack.example/"];
        check(&plain, None);
        check(&[key, long, plain[0], plain[1]], Some("PAYSTACK_BASE_URL"));
    }

    #[test]
    fn the_previous_key_has_an_end_within_72_hours() {
        let previous = "--paystack-secret-key-previous";
        let until = "--paystack-secret-key-previous-until";
        let old = "sk_test_fedcba9876543210fedcba9876543210fedcba98";
        let hours = |n: u64| Timestamp::now().plus(Duration::from_hours(n)).to_string();
        check(&[previous, old, until, &hours(71)], None);
        check(&[previous, old, until, "2020-01-01T00:00:00Z"], None);
        check(&[previous, old, until, &hours(73)], Some("PREVIOUS_UNTIL"));
        check(&[previous, old], Some("PREVIOUS_UNTIL"));
        check(&[until, &hours(1)], Some("PREVIOUS"));
        check(&[previous, KEY, until, &hours(1)], Some("PREVIOUS"));
        check(&[previous, "sk_test_short", until, &hours(1)], Some("PREVIOUS"));
        let live = "sk_live_fedcba9876543210fedcba9876543210fedcba98";
        check(&[previous, live, until, &hours(1)], Some("mode"));
    }

    #[test]
    fn times_that_contradict_each_other_are_refused() {
        check(&["--payments-lease-ms", "100"], Some("PAYMENTS_LEASE_MS"));
        check(&["--payments-poll-ms", "0"], Some("PAYMENTS_POLL_MS"));
        check(&["--payments-forget-after-ms", "1"], Some("PAYMENTS_FORGET_AFTER_MS"));
        check(&["--payments-reconcile-longest-ms", "1"], Some("PAYMENTS_RECONCILE_LONGEST_MS"));
        check(&["--payments-nightly-at-ms", "86400000"], Some("PAYMENTS_NIGHTLY_AT_MS"));
        check(&["--payments-missed-every-ms", "0"], Some("PAYMENTS_MISSED_EVERY_MS"));
        check(&["--payments-currencies", "NGN,USD,GHS"], None);
    }
}
