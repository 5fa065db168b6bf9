//! What every process takes, whichever services it carries.
//!
//! Nothing that differs between a laptop and production has a default. Settings of a service are
//! prefixed by its name and live in its own `Config`; these belong to the process and have none.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Secret;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Coloured text, for people.
    Pretty,
}

/// Where logs and traces go.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "chassis_logging")]
pub struct Logging {
    /// Which log lines are written: a level, or directives such as `info,sqlx=warn`.
    #[arg(
        long,
        env = "LOG_LEVEL",
        default_value = "info,async_nats=error,poem=warn",
        value_name = "DIRECTIVES"
    )]
    pub log_level: String,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Base URL of an OpenTelemetry collector that takes OTLP over HTTP; without it, no traces are kept.
    #[arg(long = "otlp-endpoint", env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// What every process takes.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "chassis")]
pub struct Config {
    #[command(flatten)]
    /// Where logs and traces go.
    pub logging: Logging,
    /// Where /livez, /readyz and /metrics are served; never a public address.
    #[arg(long, env = "ADMIN_ADDRESS", value_name = "ADDRESS")]
    pub admin_address: SocketAddr,
    /// The NATS server, with credentials when it wants them.
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_name = "URL")]
    pub nats_url: Secret,
    /// Seconds between "not ready" and the moment no new work is taken, for load balancers to notice.
    #[arg(long, env = "SHUTDOWN_DELAY_SECONDS", default_value_t = 0, value_name = "SECONDS")]
    pub shutdown_delay_seconds: u64,
    /// Seconds that work in hand may take to finish after that.
    #[arg(long, env = "SHUTDOWN_GRACE_SECONDS", default_value_t = 25, value_name = "SECONDS")]
    pub shutdown_grace_seconds: u64,
}

/// The longest pause before shutdown that makes sense; an orchestrator kills sooner.
const SHUTDOWN_SECONDS_MAX: u64 = 600;

impl Logging {
    /// Refuses what cannot work, naming the setting and never its value.
    ///
    /// # Errors
    /// One sentence for whoever runs the process.
    pub fn check(&self) -> Result<(), String> {
        if tracing_subscriber::EnvFilter::builder().parse(&self.log_level).is_err() {
            return Err("LOG_LEVEL must be a level or directives such as info,sqlx=warn".to_owned());
        }
        match &self.otlp_endpoint {
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err("OTEL_EXPORTER_OTLP_ENDPOINT must be an http:// or https:// URL".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Config {
    /// Refuses what cannot work, naming the setting and never its value.
    ///
    /// # Errors
    /// One sentence for whoever runs the process.
    pub fn check(&self) -> Result<(), String> {
        self.logging.check()?;
        let nats_url = self.nats_url.expose();
        if !["nats://", "tls://"].iter().any(|scheme| nats_url.starts_with(scheme)) {
            return Err("NATS_URL must begin with nats:// or tls://".to_owned());
        }
        if self.shutdown_delay_seconds > SHUTDOWN_SECONDS_MAX {
            return Err(format!("SHUTDOWN_DELAY_SECONDS must be at most {SHUTDOWN_SECONDS_MAX}"));
        }
        if !(1..=SHUTDOWN_SECONDS_MAX).contains(&self.shutdown_grace_seconds) {
            return Err(format!("SHUTDOWN_GRACE_SECONDS must be 1 to {SHUTDOWN_SECONDS_MAX}"));
        }
        Ok(())
    }

    /// How long work in hand may take to finish.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }

    /// How long the process shows "not ready" before it stops taking work.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_secs(self.shutdown_delay_seconds)
    }
}
