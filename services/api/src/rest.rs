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

use chassis::http::{Options, fits};
use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::{Endpoint, IntoEndpoint as _, Request, Response, Route};
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService, Tags};

use crate::ask;
use crate::claims::Claims;
use crate::directory::Directory;
use crate::rate::Limits;
use crate::rest::auth::Auth;
use crate::rest::deposits::{Deposits, Webhooks};
use crate::rest::docs::About;
use crate::rest::door::Door;
use crate::rest::keys::Keys;
use crate::rest::problem::Problem;
use crate::rest::transactions::Transactions;
use crate::rest::transfers::{Batches, Sender, Transfers};
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

/// What describes the operations; read with GET.
const PAGES: [&str; 3] = ["/docs", "/redoc", "/openapi.json"];

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
type Resources = (About, Auth, Keys, Wallets, Deposits, Transfers, Batches, Transactions, Webhooks);

/// What the resources are made of.
pub(crate) struct Parts {
    pub(crate) auth: Auth,
    pub(crate) door: Door,
    pub(crate) limits: Limits,
    pub(crate) people: sqlx::PgPool,
    pub(crate) directory: Directory,
    pub(crate) claims: Claims,
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
    let pages = Route::new()
        .at("/docs", poem::get(docs::swagger(plain(&service.swagger_ui_html()))))
        .at("/redoc", poem::get(docs::redoc(plain(&service.redoc_html()))))
        .at("/openapi.json", poem::get(docs::specification(plain(&service.spec()))));
    let site = Site { pages, operations: service.into_endpoint() };
    let patience = Patience { inner: site, limits, guarded: guarded() };
    chassis::http::wrap(patience, options)
}

/// The pages about the operations, and the operations. One router inside another would take every
/// request's path apart twice.
struct Site {
    pages: Route,
    operations: BoxEndpoint<'static>,
}

impl Endpoint for Site {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        if PAGES.contains(&request.uri().path()) {
            self.pages.call(request).await
        } else {
            self.operations.call(request).await
        }
    }
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
    let Parts { auth, door, people, directory, claims, ledger, payments, keys, .. } = parts;
    let Parts { pending, wait, checkout_wait, .. } = parts;
    let sender = Sender {
        people: people.clone(),
        directory: directory.clone(),
        claims: claims.clone(),
        ledger: ledger.clone(),
        wait,
        pending,
    };
    (
        About,
        auth,
        Keys { door: door.clone(), keys, claims: claims.clone(), wait },
        Wallets { door: door.clone(), ledger: ledger.clone() },
        Deposits {
            door: door.clone(),
            people: people.clone(),
            claims,
            payments,
            wait: checkout_wait,
        },
        Transfers { door: door.clone(), sender: sender.clone() },
        Batches { door: door.clone(), sender },
        Transactions { door, people, directory, ledger },
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
    let pages = PAGES.map(|it| (Method::GET, it.to_owned()));
    let operations = Resources::meta().into_iter().flat_map(|api| api.paths).flat_map(|path| {
        let template = path.path;
        path.operations.into_iter().map(move |it| (it.method, template.clone()))
    });
    operations.chain(pages).collect()
}

/// The operations that ask at the door who comes.
fn guarded() -> Vec<(Method, String)> {
    let operations = Resources::meta().into_iter().flat_map(|api| api.paths).flat_map(|path| {
        let template = path.path;
        let guarded = path.operations.into_iter().filter(|it| !it.security.is_empty());
        guarded.map(move |it| (it.method, template.clone()))
    });
    operations.collect()
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
    guarded: Vec<(Method, String)>,
}

impl<E> Patience<E> {
    fn is_guarded(&self, request: &Request) -> bool {
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let path = request.uri().path();
        self.guarded.iter().any(|(it, template)| it == method && fits(template, path))
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Patience<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        if !self.is_guarded(&request) {
            self.limits.address(&request)?;
        }
        self.inner.call(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_who_comes_is_guarded_and_nothing_else() {
        let guarded = guarded();
        let is_guarded = |method: &Method, path: &str| {
            guarded.iter().any(|(it, template)| it == method && fits(template, path))
        };
        for (method, path, expected) in [
            (Method::GET, "/wallet/balance", true),
            (Method::POST, "/wallet/transfers/batch", true),
            (Method::GET, "/wallet/transactions/txn_1", true),
            (Method::POST, "/keys/key_1/revoke", true),
            (Method::POST, "/wallet/balance", false),
            (Method::GET, "/wallet/balance/", false),
            (Method::GET, "/wallet/nothing", false),
            (Method::POST, "/wallet/paystack/webhook", false),
            (Method::POST, "/auth/refresh", false),
            (Method::GET, "/", false),
        ] {
            assert_eq!(is_guarded(&method, path), expected, "{method} {path}");
        }
    }
}
