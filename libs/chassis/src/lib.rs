#![doc = include_str!("../README.md")]

pub mod admin;
mod cli;
mod config;
mod context;
pub mod http;
pub mod metrics;
pub mod nats;
pub mod postgres;
mod process;
mod secret;
pub mod shutdown;
pub mod telemetry;

pub use cli::{Configure, check, main, main_with, parse};
pub use config::{Config, LogFormat, Logging};
pub use context::Context;
pub use process::{EXIT_CONFIG, EXIT_FAILURE, EXIT_LOOP, Process, once, run, within};
pub use secret::Secret;

/// Every service is many small allocations a request, by several threads: the C library's allocator
/// took a sixth of the processor time of a transfer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
