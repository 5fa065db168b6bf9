//! What the platform says of itself: `/`, and the specification as a page or as JSON, without a
//! byte from anywhere else.

use poem::http::header::{self, HeaderName};
use poem::{Endpoint, EndpointExt as _, Response, endpoint};
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};

use crate::rest::Tag;
use crate::rest::problem::{Code, Refused, refusals};

/// What the pages may load: themselves. Their scripts and styles are written into them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline' blob:; \
     worker-src blob:; style-src 'unsafe-inline'; img-src 'self' data:; font-src data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";
const CSP: HeaderName = header::CONTENT_SECURITY_POLICY;
/// Where Redoc's page would fetch its fonts; they come from the reader's own system instead.
const FOREIGN_FONTS: &str = "<link href=\"https://fonts.googleapis.com/css?family=Montserrat:300,400,700|Roboto:300,400,700\" rel=\"stylesheet\">";

/// The platform's own card.
pub(crate) struct About;

/// The platform's own card.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Service {
    /// What this is.
    name: String,
    /// Which release.
    version: String,
    /// Swagger UI.
    docs: String,
    /// ReDoc.
    redoc: String,
    /// The specification.
    openapi: String,
}

impl Service {
    fn ours() -> Self {
        Self {
            name: "Fast Wallet".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            docs: "/docs".to_owned(),
            redoc: "/redoc".to_owned(),
            openapi: "/openapi.json".to_owned(),
        }
    }
}

impl Example for Service {
    fn example() -> Self {
        Self::ours()
    }
}

refusals! {
    /// Reading the card.
    AboutRefusals: &[Code::RateLimited, Code::InternalError];
}

#[OpenApi(tag = "Tag::Platform")]
impl About {
    /// Name, version and documentation
    #[oai(path = "/", method = "get", operation_id = "about")]
    async fn about(&self) -> Result<Json<Service>, Refused<AboutRefusals>> {
        Ok(Json(Service::ours()))
    }
}

/// Swagger UI's page.
pub(crate) fn swagger(html: String) -> impl Endpoint<Output = Response> + 'static {
    page(html)
}

/// ReDoc's page, with what it would fetch from elsewhere taken out.
pub(crate) fn redoc(html: String) -> impl Endpoint<Output = Response> + 'static {
    page(html.replace(FOREIGN_FONTS, ""))
}

fn page(html: String) -> impl Endpoint<Output = Response> + 'static {
    let page = bytes::Bytes::from(html);
    endpoint::make_sync(move |_| {
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(CSP, CONTENT_SECURITY_POLICY)
            .body(page.clone())
    })
    .map_to_response()
}

/// The specification.
pub(crate) fn specification(json: String) -> impl Endpoint<Output = Response> + 'static {
    let json = bytes::Bytes::from(json);
    endpoint::make_sync(move |_| {
        Response::builder().content_type("application/json").body(json.clone())
    })
    .map_to_response()
}
