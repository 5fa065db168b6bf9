//! The door of every operation that needs to know who asks: credentials, then how often.

use poem::Request;

use crate::rate::Limits;
use crate::rest::caller::{Authenticator, Caller, CallerKind};
use crate::rest::problem::Problem;

/// Lets callers in. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    authenticator: Authenticator,
    limits: Limits,
}

impl Door {
    /// A door with this much patience.
    #[must_use]
    pub fn new(authenticator: Authenticator, limits: Limits) -> Self {
        Self { authenticator, limits }
    }

    /// Who asks.
    ///
    /// # Errors
    /// Whatever is wrong with the credentials, or `rate_limited`. Wrong credentials are counted by
    /// client address, so that a flood of them is turned away and locks nobody else out; those that
    /// somebody else would have to be asked about are counted before.
    pub async fn caller(&self, request: &Request) -> Result<Caller, Problem> {
        let shown = match self.authenticator.shown(request) {
            Ok(shown) => shown,
            Err(problem) => {
                self.limits.address(request)?;
                return Err(problem);
            }
        };
        let is_strange = shown.is_strange();
        if is_strange {
            self.limits.address(request)?;
        }
        let caller = match self.authenticator.caller(&shown).await {
            Ok(caller) => caller,
            Err(problem) if is_strange => return Err(problem),
            Err(problem) => {
                self.limits.address(request)?;
                return Err(problem);
            }
        };
        match caller.kind {
            CallerKind::Person { .. } => self.limits.person(caller.user)?,
            CallerKind::Key { key, .. } => self.limits.key(key)?,
        }
        Ok(caller)
    }
}
