//! What the service is told by its environment, and what it refuses to start with.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use chassis::http::peer::Network;
use url::Url;

use crate::rate::Rate;
use crate::sign_in;

/// Settings of the REST edge.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "api")]
pub struct Config {
    /// Where people, wallets and sessions are kept.
    #[arg(
        id = "api_database_url",
        long = "api-database-url",
        env = "API_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: String,
    /// Most connections to that database.
    #[arg(
        id = "api_database_connections_max",
        long = "api-database-connections-max",
        env = "API_DATABASE_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(2..=1_000)
    )]
    pub database_connections_max: u32,
    /// The role that `migrate` lets use the tables; none when it is the owner itself.
    #[arg(
        id = "api_runtime_role",
        long = "api-runtime-role",
        env = "API_RUNTIME_ROLE",
        value_name = "ROLE"
    )]
    pub runtime_role: Option<String>,
    /// Where the service listens; an ingress stands before it.
    #[arg(
        id = "api_listen",
        long = "api-listen",
        env = "API_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8000"
    )]
    pub listen: SocketAddr,
    /// The public origin, such as https://wallet.example.
    #[arg(
        id = "api_public_url",
        long = "api-public-url",
        env = "API_PUBLIC_URL",
        value_name = "URL"
    )]
    pub public_url: Url,
    /// Origins whose pages may read answers (CORS) and be returned to after signing in.
    #[arg(
        id = "api_allowed_origins",
        long = "api-allowed-origins",
        env = "API_ALLOWED_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ','
    )]
    pub allowed_origins: Vec<String>,
    /// Longest wait for an outcome, and so the deadline of a command.
    #[arg(
        id = "api_wait_ms",
        long = "api-wait-ms",
        env = "API_WAIT_MS",
        value_name = "MS",
        default_value_t = 5_000,
        value_parser = clap::value_parser!(u64).range(50..=60_000)
    )]
    pub wait_ms: u64,
    /// Longest wait for the provider's checkout.
    #[arg(
        id = "api_checkout_wait_ms",
        long = "api-checkout-wait-ms",
        env = "API_CHECKOUT_WAIT_MS",
        value_name = "MS",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(50..=60_000)
    )]
    pub checkout_wait_ms: u64,
    /// Requests a second that one person or one API key may make in the long run.
    #[arg(
        id = "api_rate_per_second",
        long = "api-rate-per-second",
        env = "API_RATE_PER_SECOND",
        value_name = "N",
        default_value = "500"
    )]
    pub rate_per_second: NonZeroU32,
    /// Requests that one person or one API key may make at once.
    #[arg(
        id = "api_rate_burst",
        long = "api-rate-burst",
        env = "API_RATE_BURST",
        value_name = "N",
        default_value = "1000"
    )]
    pub rate_burst: NonZeroU32,
    /// Requests a second without good credentials that one address may make in the long run.
    #[arg(
        id = "api_address_rate_per_second",
        long = "api-address-rate-per-second",
        env = "API_ADDRESS_RATE_PER_SECOND",
        value_name = "N",
        default_value = "100"
    )]
    pub address_rate_per_second: NonZeroU32,
    /// Requests without good credentials that one address may make at once.
    #[arg(
        id = "api_address_rate_burst",
        long = "api-address-rate-burst",
        env = "API_ADDRESS_RATE_BURST",
        value_name = "N",
        default_value = "400"
    )]
    pub address_rate_burst: NonZeroU32,
    /// Networks whose `X-Forwarded-For` is believed: the ingress's.
    #[arg(
        id = "api_trusted_proxies",
        long = "api-trusted-proxies",
        env = "API_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<Network>,
    /// Signing in.
    #[command(flatten)]
    pub sign_in: sign_in::Config,
}

impl chassis::Configure for Config {
    fn check(&self) -> Result<(), String> {
        check_origin("API_PUBLIC_URL", &self.public_url)?;
        for origin in self.allowed_origins.iter().filter(|it| !it.is_empty()) {
            let url = Url::parse(origin)
                .map_err(|_| "API_ALLOWED_ORIGINS holds what is no origin".to_owned())?;
            check_origin("API_ALLOWED_ORIGINS", &url)?;
        }
        self.sign_in.check()
    }
}

/// Scheme, host and perhaps a port, and nothing else.
fn check_origin(setting: &str, url: &Url) -> Result<(), String> {
    let is_web = matches!(url.scheme(), "http" | "https") && url.host().is_some();
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if is_web && is_bare && !has_credentials {
        Ok(())
    } else {
        Err(format!("{setting} must be an origin, such as https://wallet.example"))
    }
}

impl Config {
    /// The allowed origins as browsers write them.
    pub(crate) fn origins(&self) -> Vec<String> {
        let parsed = self.allowed_origins.iter().filter_map(|it| Url::parse(it).ok());
        parsed.map(|it| it.origin().ascii_serialization()).collect()
    }

    pub(crate) const fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    pub(crate) const fn checkout_wait(&self) -> Duration {
        Duration::from_millis(self.checkout_wait_ms)
    }

    pub(crate) const fn credential_rate(&self) -> Rate {
        Rate { per_second: self.rate_per_second, burst: self.rate_burst }
    }

    pub(crate) const fn address_rate(&self) -> Rate {
        Rate { per_second: self.address_rate_per_second, burst: self.address_rate_burst }
    }
}
