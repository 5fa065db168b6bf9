//! Chassis as others see it: over HTTP, by signals, against real Postgres and NATS.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod context;
#[cfg(test)]
mod http;
#[cfg(test)]
mod observed;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod process;
