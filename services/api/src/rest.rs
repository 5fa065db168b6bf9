//! The REST surface: every resource, put together, with the manners of the house around it.
//!
//! Each resource is a struct with exactly what it needs. The specification comes from their types
//! alone, so it can be printed by a program that is connected to nothing.

pub mod auth;
pub mod body;
pub mod caller;
mod deposits;
mod docs;
pub mod door;
pub mod idempotency;
mod keys;
mod page;
pub mod problem;
pub mod security;
mod transactions;
mod transfers;
pub mod values;
mod wallet;

use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::Duration;

use chassis::http::Options;
use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::{Endpoint, EndpointExt as _, Request, Response, Route};
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService, Tags};

use crate::ask;
use crate::rate::Limits;
use crate::rest::auth::Auth;
use crate::rest::deposits::{Deposits, Webhooks};
use crate::rest::docs::About;
use crate::rest::door::Door;
use crate::rest::keys::Keys;
use crate::rest::problem::Problem;
use crate::rest::transactions::Transactions;
use crate::rest::transfers::Transfers;
use crate::rest::wallet::Wallets;

const TITLE: &str = "Fast Wallet";
const DESCRIPTION: &str = "\
Wallets that people sign in to with Google, top up through Paystack and send money between; \
API keys let a service act within given permissions.

**Amounts** are whole numbers of the currency's minor unit (kobo for NGN), written in digits only. \
**Times** are RFC 3339 in UTC. **Errors** are RFC 9457 problem details with a stable `code`. \
**Retries** are safe for ever with an `Idempotency-Key`: the same key with the same request gives \
the same answer, marked `Idempotency-Replayed: true`.";
/// For how long browsers insist on HTTPS once they have seen it: two years.
const HSTS: Duration = Duration::from_secs(63_072_000);

/// How operations are grouped.
#[derive(Tags)]
pub(crate) enum Tag {
    /// Signing in, by OpenID Connect.
    #[oai(rename = "Sign-in")]
    SignIn,
    /// API keys: for people only.
    Keys,
    /// Balance, transfers and history.
    Wallet,
    /// Money in.
    Deposits,
    /// The platform itself.
    Platform,
}

/// Every resource, in the order of the specification.
type Resources = (About, Auth, Keys, Wallets, Deposits, Transfers, Transactions, Webhooks);

/// What the resources are made of.
pub(crate) struct Parts {
    pub(crate) auth: Auth,
    pub(crate) door: Door,
    pub(crate) limits: Limits,
    pub(crate) people: sqlx::PgPool,
    pub(crate) ledger: ask::Ledger,
    pub(crate) payments: ask::Payments,
    pub(crate) keys: ask::Keys,
    pub(crate) pending: prometheus::IntCounter,
    pub(crate) wait: Duration,
    pub(crate) checkout_wait: Duration,
}

/// The whole surface as one endpoint that never fails: every error is a problem.
pub(crate) fn endpoint(
    parts: Parts,
    public_url: &str,
    allowed_origins: Vec<String>,
) -> BoxEndpoint<'static, Response> {
    let limits = parts.limits.clone();
    let service = described(resources(parts)).server(public_url.trim_end_matches('/'));
    let options = Options {
        allowed_origins,
        hsts: public_url.starts_with("https:").then_some(HSTS),
        map_error,
        routes: routes(),
        ..Options::new("api")
    };
    let route = Route::new()
        .at("/docs", poem::get(docs::swagger(plain(&service.swagger_ui_html()))))
        .at("/redoc", poem::get(docs::redoc(plain(&service.redoc_html()))))
        .at("/openapi.json", poem::get(docs::specification(plain(&service.spec()))))
        .nest("/", service);
    chassis::http::wrap(Patience { inner: route.map_to_response(), limits }, options)
}

/// The committed contract: the specification without the address of any one installation.
#[must_use]
pub fn specification() -> String {
    plain(&described(Described(PhantomData::<Resources>)).spec())
}

/// Makers of clients look for the plain media type, and JSON has no charset (RFC 8259, section 11).
fn plain(specification: &str) -> String {
    specification.replace("application/json; charset=utf-8", "application/json")
}

fn described<T: OpenApi + 'static>(api: T) -> OpenApiService<T, ()> {
    OpenApiService::new(api, TITLE, env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT"))
}

fn resources(parts: Parts) -> Resources {
    let Parts { auth, door, people, ledger, payments, keys, pending, wait, checkout_wait, .. } =
        parts;
    (
        About,
        auth,
        Keys { door: door.clone(), keys, people: people.clone(), wait },
        Wallets { door: door.clone(), ledger: ledger.clone() },
        Deposits { door: door.clone(), people: people.clone(), payments, wait: checkout_wait },
        Transfers {
            door: door.clone(),
            people: people.clone(),
            ledger: ledger.clone(),
            wait,
            pending,
        },
        Transactions { door, people, ledger },
        Webhooks,
    )
}

/// An API that can be described and not called.
struct Described<T>(PhantomData<T>);

impl<T: OpenApi> OpenApi for Described<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, _table: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}

/// Every method and path template, for the `Allow` of a 405.
fn routes() -> Vec<(Method, String)> {
    let pages = ["/docs", "/redoc", "/openapi.json"].map(|it| (Method::GET, it.to_owned()));
    let operations = Resources::meta().into_iter().flat_map(|api| api.paths).flat_map(|path| {
        let template = path.path;
        path.operations.into_iter().map(move |it| (it.method, template.clone()))
    });
    operations.chain(pages).collect()
}

/// What the framework refuses before a resource sees it.
fn map_error(error: &poem::Error) -> Option<chassis::http::Problem> {
    if let Some(wrong) = error.downcast_ref::<poem_openapi::error::ParseParamError>() {
        return Some(Problem::invalid_field(wrong.name, "cannot be read").into());
    }
    if error.is::<poem_openapi::error::ParsePathError>() {
        return Some(Problem::not_found().into());
    }
    None
}

/// Counts requests by address where nobody says who they are; the door counts all others.
struct Patience<E> {
    inner: E,
    limits: Limits,
}

impl<E: Endpoint<Output = Response>> Endpoint for Patience<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path();
        if !path.starts_with("/wallet/") && !path.starts_with("/keys/") {
            self.limits.address(&request)?;
        }
        self.inner.call(request).await
    }
}
