//! The four services side by side, and the origin in front of them.

use chassis::{Configure, Process};
use poem::endpoint::BoxEndpoint;
use poem::{Endpoint, EndpointExt, Request, Response};

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

/// Starts the services in `process`, each with a connection to NATS of its own, and returns the
/// origin.
///
/// # Errors
/// When NATS does not answer, or a service refuses to start.
pub async fn start(
    services: Services,
    process: &Process,
    nats_url: &str,
) -> anyhow::Result<BoxEndpoint<'static, Response>> {
    let connect = async |name| chassis::nats::connect(nats_url, name).await;
    // All of them before the first starts: the process is ready when each of them is. The api stops
    // first, for it asks the others.
    let for_ledger = process.late_context("ledger", connect("ledger").await?);
    let for_keys = process.late_context("keys", connect("keys").await?);
    let for_payments = process.late_context("payments", connect("payments").await?);
    let for_api = process.context("api", connect("api").await?);
    ledger::start(services.ledger, &for_ledger).await?;
    keys::start(services.keys, &for_keys).await?;
    let payments = payments::start(services.payments, &for_payments).await?;
    let api = api::start(services.api, &for_api).await?;
    Ok(origin(api, payments))
}

/// One origin for every path.
#[must_use]
pub fn origin(
    api: BoxEndpoint<'static, Response>,
    payments: BoxEndpoint<'static, Response>,
) -> BoxEndpoint<'static, Response> {
    Origin { api, payments }.boxed()
}

/// Sends each request to the service it is for. Compares whole paths and parses none, so that
/// whatever is wrong with a path is said by the service, in the one error body.
struct Origin {
    api: BoxEndpoint<'static, Response>,
    payments: BoxEndpoint<'static, Response>,
}

impl Endpoint for Origin {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        if request.uri().path() == WEBHOOK_PATH {
            self.payments.call(request).await
        } else {
            self.api.call(request).await
        }
    }
}
