//! The bus against real Postgres and nats-server: each promise of the README, and each way to
//! break it that we know of.

#[cfg(test)]
mod asking;
#[cfg(test)]
mod events;
#[cfg(test)]
mod following;
#[cfg(test)]
mod gathering;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod world;
#[cfg(test)]
mod wrecks;
