//! Signing in, against a provider that may lie: the walk, our own tokens, and who is turned away.

mod guards;
mod provider;
mod sandbox;
mod stage;
mod tokens;
mod walk;
