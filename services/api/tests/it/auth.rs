//! Signing in, against a provider that may lie: the walk, our own tokens, and who is turned away.

mod guards;
pub(crate) mod provider;
mod sandbox;
pub(crate) mod stage;
mod tokens;
mod walk;
