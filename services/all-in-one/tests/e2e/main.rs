//! The whole platform, as its users meet it: over HTTP only.
//!
//! Real Postgres, real nats-server, the sandbox for Google and Paystack, the four services, and one
//! origin in front of them. Every world ends with an audit of the books.

#[cfg(test)]
mod world;

#[cfg(test)]
mod main_job;

#[cfg(test)]
mod concurrency;

#[cfg(test)]
mod deposits;

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod restarts;
