//! The whole platform, as its users meet it: over HTTP only.
//!
//! Real Postgres, real nats-server, the sandbox for Google and Paystack, the four services, and one
//! origin in front of them. Every world ends with an audit of the books.

#[cfg(test)]
mod world;

#[cfg(test)]
mod main_job;

#[cfg(test)]
mod batches;

#[cfg(test)]
mod past;

#[cfg(test)]
mod concurrency;

#[cfg(test)]
mod deposits;

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod outages;

#[cfg(test)]
mod restarts;

#[cfg(test)]
mod promise;

#[cfg(test)]
mod stale;

#[cfg(test)]
mod access;

#[cfg(test)]
mod least;

#[cfg(test)]
mod problems;

#[cfg(test)]
mod fields;

#[cfg(test)]
mod documents;

#[cfg(test)]
mod sessions;

#[cfg(test)]
mod manners;
