//! `/livez`, `/readyz` and `/metrics`, on a port of their own that is never public.
//!
//! `/livez` fails when a loop is gone: only a restart helps. `/readyz` fails when a dependency does
//! not answer, a service is still starting, or the process drains: others should take the work.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::{EndpointExt, Response, Route, get};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::context::lock;
use crate::{Context, metrics};

/// How long a probe may hold up the end of the process.
const GRACE: Duration = Duration::from_secs(1);

/// The services of a process, as they are added; a cheap clone.
#[derive(Clone, Default)]
pub struct Members {
    contexts: Arc<Mutex<Vec<(&'static str, Context)>>>,
}

impl Members {
    /// Adds a service under the name that `/readyz` puts before its checks.
    pub fn add(&self, name: &'static str, context: Context) {
        lock(&self.contexts).push((name, context));
    }

    /// All of them, in the order they came.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, Context)> {
        lock(&self.contexts).clone()
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    checks: Vec<CheckResult>,
}

#[derive(Serialize)]
struct CheckResult {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The three pages, without a listener.
pub fn endpoint(members: Members, draining: CancellationToken) -> BoxEndpoint<'static, Response> {
    let alive = members.clone();
    Route::new()
        .at("/livez", get(poem::endpoint::make_sync(move |_| livez(&alive))))
        .at(
            "/readyz",
            get(poem::endpoint::make(move |_| {
                let (members, draining) = (members.clone(), draining.clone());
                async move { readyz(&members, draining.is_cancelled()).await }
            })),
        )
        .at("/metrics", get(poem::endpoint::make_sync(|_| print_metrics())))
        .map_to_response()
        .boxed()
}

/// Serves the three pages until `stop`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    members: Members,
    draining: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    crate::http::serve(listener, endpoint(members, draining), stop, GRACE)
        .await
        .context("failed to serve the admin pages")
}

fn livez(members: &Members) -> Response {
    let failures: Vec<String> = members
        .list()
        .iter()
        .filter_map(|(name, context)| {
            context.failure().map(|failure| format!("{name}: {failure}\n"))
        })
        .collect();
    if failures.is_empty() {
        Response::builder().body("alive\n")
    } else {
        Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body(failures.concat())
    }
}

async fn readyz(members: &Members, draining: bool) -> Response {
    let mut checks = Vec::new();
    for (service, context) in members.list() {
        for (name, said) in context.readiness().await {
            let name = format!("{service}.{name}");
            let detail = said.as_ref().ok().filter(|it| !it.is_empty()).cloned();
            checks.push(CheckResult { name, ok: said.is_ok(), detail, reason: said.err() });
        }
    }
    let ready = !draining && !checks.is_empty() && checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Readiness { ready, draining, checks })
}

fn print_metrics() -> Response {
    match metrics::print() {
        Ok(text) => Response::builder().content_type(metrics::CONTENT_TYPE).body(text),
        Err(error) => {
            tracing::error!("failed to print metrics: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into()
        }
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => Response::builder().status(status).content_type("application/json").body(body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into(),
    }
}
