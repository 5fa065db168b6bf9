//! The api against real Postgres and NATS, over HTTP.

#[cfg(test)]
mod auth;

#[cfg(test)]
mod money;
