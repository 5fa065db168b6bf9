//! The four services side by side, and the origin in front of them.

use chassis::{Configure, Context};
use poem::endpoint::BoxEndpoint;
use poem::{EndpointExt, Response, Route};

/// Paystack's webhooks go to `payments`, as the ingress of a cluster sends them.
const WEBHOOK_PATH: &str = "/wallet/paystack/webhook";

/// Settings of all four services.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "services")]
pub struct Services {
    /// The REST edge.
    #[command(flatten)]
    pub api: api::Config,
    /// The books.
    #[command(flatten)]
    pub ledger: ledger::Config,
    /// Deposits.
    #[command(flatten)]
    pub payments: payments::Config,
    /// API keys.
    #[command(flatten)]
    pub keys: keys::Config,
}

impl Services {
    /// What each service says of its settings; refusals name the setting, never its value.
    pub fn checks(&self) -> [Result<(), String>; 4] {
        [self.api.check(), self.ledger.check(), self.payments.check(), self.keys.check()]
    }
}

/// Brings every schema up to this release.
///
/// # Errors
/// When a database cannot be reached or refuses a statement.
pub async fn migrate(services: Services) -> anyhow::Result<()> {
    ledger::migrate(services.ledger).await?;
    keys::migrate(services.keys).await?;
    payments::migrate(services.payments).await?;
    api::migrate(services.api).await
}

/// Starts the services, each with the context that `context` makes for it, and returns the origin.
///
/// # Errors
/// When a service refuses to start.
pub async fn start(
    services: Services,
    mut context: impl AsyncFnMut(&'static str) -> anyhow::Result<Context>,
) -> anyhow::Result<BoxEndpoint<'static, Response>> {
    ledger::start(services.ledger, &context("ledger").await?).await?;
    keys::start(services.keys, &context("keys").await?).await?;
    let payments = payments::start(services.payments, &context("payments").await?).await?;
    let api = api::start(services.api, &context("api").await?).await?;
    Ok(origin(api, payments))
}

/// One origin for every path.
#[must_use]
pub fn origin(
    api: BoxEndpoint<'static, Response>,
    payments: BoxEndpoint<'static, Response>,
) -> BoxEndpoint<'static, Response> {
    Route::new().at(WEBHOOK_PATH, payments).nest_no_strip("/", api).map_to_response().boxed()
}
