//! One name for a request: the caller's own if it is sane, otherwise a fresh one.

use std::sync::Arc;

use poem::Request;
use poem::http::header::HeaderValue;
use uuid::Uuid;

/// The header it comes in and goes out with.
pub(super) const HEADER: &str = "x-request-id";
/// The longest id taken from a caller.
const LENGTH_MAX: usize = 128;

/// Goes with the request as data.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

impl RequestId {
    /// The caller's own if it is 1–128 of `[A-Za-z0-9._-]`; anything else could forge a log line.
    pub(super) fn of(request: &Request) -> Self {
        match request.header(HEADER) {
            Some(own) if is_sane(own) => Self(own.into()),
            Some(_) | None => {
                let mut text = Uuid::encode_buffer();
                Self((&*fresh().simple().encode_lower(&mut text)).into())
            }
        }
    }

    /// For the answer.
    pub(super) fn to_header(&self) -> HeaderValue {
        // Only sane characters get this far.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge, and the id means nothing to any rule"
)]
fn fresh() -> Uuid {
    Uuid::now_v7()
}

fn is_sane(id: &str) -> bool {
    (1..=LENGTH_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The id of a request inside [`super::wrap`]; empty outside.
#[must_use]
pub fn request_id(request: &Request) -> &str {
    request.data::<RequestId>().map_or("", |id| &id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_ids_are_taken_from_callers() {
        for (id, sane) in [
            ("a", true),
            ("A-1_b.c", true),
            (&"x".repeat(128), true),
            ("", false),
            (&"x".repeat(129), false),
            ("a b", false),
            ("a\tb", false),
            ("a;b", false),
            ("é", false),
        ] {
            assert_eq!(is_sane(id), sane, "{id:?}");
        }
    }
}
