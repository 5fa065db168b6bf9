//! The keys service against real Postgres and a real nats-server, through its messages only.

#[cfg(test)]
mod ending;
#[cfg(test)]
mod guards;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod making;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod repeating;
#[cfg(test)]
mod rolling;
#[cfg(test)]
mod starting;
#[cfg(test)]
mod using;
