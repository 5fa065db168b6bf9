//! HTTP manners shared by whoever serves the public: one error body, one set of headers, one span.
//!
//! Knows no domain and no OpenAPI. [`wrap`] goes around a service's routes once; inside it, a
//! handler answers or returns a [`Problem`], and everything else becomes one.

mod body;
mod cors;
mod observe;
pub mod peer;
mod problem;
mod request_id;
mod serve;
mod wrap;

pub use problem::{FieldError, PROBLEM_JSON, Problem, problem_type};
pub use request_id::request_id;
pub use serve::serve;
pub use wrap::{Options, fits, wrap};
