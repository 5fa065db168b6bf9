//! The ledger against real Postgres and a real nats-server, as its askers see it.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod contention;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod fence;
#[cfg(test)]
mod fsck;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod history;
#[cfg(test)]
mod holds;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod posting;
#[cfg(test)]
mod process;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod refinement;
#[cfg(test)]
mod roles;
