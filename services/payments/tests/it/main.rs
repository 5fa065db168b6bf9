//! The payments service against real Postgres, real NATS, the sandbox's Paystack and the ledger's
//! rules on the other side of the wire.

#[cfg(test)]
mod asking;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod deposit;
#[cfg(test)]
mod found;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod guards;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod missed;
#[cfg(test)]
mod nightly;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod returns;
#[cfg(test)]
mod review;
#[cfg(test)]
mod store;
#[cfg(test)]
mod webhook;
#[cfg(test)]
mod world;
