//! Prometheus: the default registry, as text.
//!
//! Whoever measures something registers it with `prometheus::register_…!` where it is used;
//! this page only shows what is there.

use prometheus::TextEncoder;

/// Everything in the default registry, in Prometheus' text format.
///
/// # Errors
/// When a metric cannot be encoded.
pub fn print() -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&prometheus::gather())
}

/// The content type of that text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;
