//! Cross-origin requests: from the configured origins, and from no other.

use poem::http::header::{self, HeaderValue};
use poem::http::{HeaderMap, Method, StatusCode};
use poem::{Request, Response};

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str =
    "authorization, content-type, idempotency-key, traceparent, x-api-key, x-request-id";
const EXPOSED_HEADERS: &str = "x-request-id, idempotency-replayed, location, retry-after";
const MAX_AGE_SECONDS: &str = "600";

/// What a request's `Origin` means.
pub(super) struct Cors {
    allowed: Option<HeaderValue>,
    is_preflight: bool,
}

impl Cors {
    /// Looks at the origin; a wildcard in the configuration would be an origin named `*`.
    pub(super) fn of(request: &Request, allowed_origins: &[String]) -> Self {
        let origin = request.headers().get(header::ORIGIN);
        let known = |origin: &&HeaderValue| {
            allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
        };
        let is_preflight = request.method() == Method::OPTIONS
            && origin.is_some()
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Self { allowed: origin.filter(known).cloned(), is_preflight }
    }

    /// The answer to a preflight; without any permission in it when the origin is unknown.
    pub(super) fn preflight(&self) -> Option<Response> {
        self.is_preflight.then(|| {
            let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
            if self.allowed.is_some() {
                let headers = response.headers_mut();
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_METHODS,
                    HeaderValue::from_static(METHODS),
                );
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    HeaderValue::from_static(REQUEST_HEADERS),
                );
                headers.insert(
                    header::ACCESS_CONTROL_MAX_AGE,
                    HeaderValue::from_static(MAX_AGE_SECONDS),
                );
            }
            response
        })
    }

    /// Lets the allowed origin read the answer; every answer says that it varies by origin.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = &self.allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(EXPOSED_HEADERS),
            );
        }
    }
}
