//! The one error body: RFC 9457, `application/problem+json`.

use std::fmt;
use std::time::Duration;

use poem::error::ResponseError;
use poem::http::header::{self, HeaderName, HeaderValue};
use poem::http::{HeaderMap, StatusCode};
use poem::{IntoResponse, Response};
use serde::Serialize;

/// The content type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Where problem types are named. It identifies; it need not resolve, and never changes.
const TYPE_BASE: &str = "https://docs.fastwallet.example/problems/";

/// The `type` of a problem: a URI that stands for its `code`.
#[must_use]
pub fn problem_type(code: &str) -> String {
    format!("{TYPE_BASE}{code}")
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field, by the name the caller used.
    pub field: String,
    /// What it must be, for people; never the value.
    pub message: String,
}

/// A no or a failure, as the caller sees it. Holds nothing that the caller may not know.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// The stable, machine-readable name.
    pub code: &'static str,
    /// The same for people; the same for every problem with this code.
    pub title: &'static str,
    /// What happened this time; no inner message, SQL, path or secret.
    pub detail: String,
    /// Which fields are wrong, if fields are.
    pub errors: Vec<FieldError>,
    /// When to try again, rounded up to seconds.
    pub retry_after: Option<Duration>,
    /// More headers of the answer.
    pub headers: HeaderMap,
}

/// The body on the wire, in the order the contract lists the members.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem without fields or headers.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            headers: HeaderMap::new(),
        }
    }

    /// Something broke in us. The cause belongs in the log, next to the request id.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "Something went wrong on our side. Quote the request id when you report it.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal error", detail)
    }

    /// Names a field that is wrong, and what it must be.
    #[must_use]
    pub fn with_error(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// What is said about an error that nobody put into words: by its status, without its message.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        let (code, title, detail) = match status {
            StatusCode::UNAUTHORIZED => {
                ("missing_credentials", "Missing credentials", "Send a bearer token or an API key.")
            }
            StatusCode::FORBIDDEN => {
                ("missing_permission", "Missing permission", "These credentials do not allow this.")
            }
            StatusCode::NOT_FOUND => ("not_found", "Not found", "There is nothing here."),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "Method not allowed", "This path does not take that method.")
            }
            StatusCode::PAYLOAD_TOO_LARGE => (
                "body_too_large",
                "Body too large",
                "The request body is larger than is allowed here.",
            ),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                "unsupported_media_type",
                "Unsupported media type",
                "The Content-Type of the request is not one that is read here.",
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                ("rate_limited", "Too many requests", "Slow down and try again later.")
            }
            status if status.is_client_error() => {
                ("malformed_request", "Malformed request", "The request cannot be read.")
            }
            _ => return Self::internal(),
        };
        let problem = Self::new(status, code, title, detail);
        if status == StatusCode::TOO_MANY_REQUESTS {
            problem.with_retry_after(Duration::from_secs(1))
        } else {
            problem
        }
    }

    /// The answer to the request with this id.
    pub(super) fn answer(self, request_id: &str) -> Response {
        let body = Body {
            r#type: problem_type(self.code),
            title: self.title,
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            request_id,
            errors: &self.errors,
        };
        // Strings and a number: there is nothing in it that JSON could refuse.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response =
            Response::builder().status(self.status).content_type(PROBLEM_JSON).body(body);
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED
            && !self.headers.contains_key(header::WWW_AUTHENTICATE)
        {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers.extend(self.headers);
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.code)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        self.clone().into_response()
    }
}

impl IntoResponse for Problem {
    /// Without a request id; [`super::wrap`] writes it in.
    fn into_response(self) -> Response {
        let mut response = self.clone().answer("");
        response.set_data(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_code_and_5xx_says_nothing() {
        let cases: &[(u16, u16, &str)] = &[
            (400, 400, "malformed_request"),
            (401, 401, "missing_credentials"),
            (403, 403, "missing_permission"),
            (404, 404, "not_found"),
            (405, 405, "method_not_allowed"),
            (409, 409, "malformed_request"),
            (413, 413, "body_too_large"),
            (415, 415, "unsupported_media_type"),
            (429, 429, "rate_limited"),
            (500, 500, "internal_error"),
            (501, 500, "internal_error"),
            (503, 500, "internal_error"),
        ];
        for (status, becomes, code) in cases {
            let problem = Problem::from_status(StatusCode::from_u16(*status).unwrap());
            assert_eq!((problem.status.as_u16(), problem.code), (*becomes, *code), "{status}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let problem = Problem::internal().with_retry_after(Duration::from_millis(1_001));
        assert_eq!(problem.answer("r").header("retry-after"), Some("2"));
    }
}
