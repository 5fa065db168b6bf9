//! How many calls a minute Paystack takes.

use std::collections::BTreeMap;

use primitives::Timestamp;

use super::{Call, Settings};

const WINDOW_SECONDS: i64 = 60;
/// With a test key, for everything together.
const TEST_CALLS: u32 = 100;

/// Calls that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Initialize.
    Initialize,
    /// Verify.
    Verify,
    /// Whatever has no limit of its own.
    Other,
}

impl Scope {
    const fn live_limit(self) -> u32 {
        match self {
            Self::Initialize => 1_200,
            Self::Verify => 3_000,
            Self::Other => 600,
        }
    }
}

impl Call {
    /// With which other calls this one is counted.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Initialize(_) => Scope::Initialize,
            Self::Verify(_) => Scope::Verify,
            Self::Fetch(_)
            | Self::List(_)
            | Self::Totals(_)
            | Self::Timeline(_)
            | Self::CreateRefund(_)
            | Self::RetryRefund(..)
            | Self::FetchRefund(_)
            | Self::ListRefunds(_)
            | Self::ListDisputes(_)
            | Self::FetchDispute(_)
            | Self::DisputeOf(_)
            | Self::UpdateDispute(..)
            | Self::AddEvidence(..)
            | Self::UploadUrl(..)
            | Self::ResolveDispute(..) => Scope::Other,
        }
    }
}

/// What a call's scope has left in this minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a minute.
    pub limit: u32,
    /// Calls left.
    pub remaining: u32,
    /// Seconds until the minute is over.
    pub reset: i64,
    /// This call was one too many.
    pub exceeded: bool,
}

/// The calls of the minute of each scope.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<Scope, (i64, u32)>);

impl Rates {
    /// Counts a call against its scope's minute.
    pub(super) fn admit(&mut self, scope: Scope, settings: &Settings, now: Timestamp) -> Rate {
        let of_test = settings.strict_limits && settings.domain == "test";
        let (scope, known) =
            if of_test { (Scope::Other, TEST_CALLS) } else { (scope, scope.live_limit()) };
        let limit = settings.calls_per_minute.unwrap_or(known);
        let (began, used) = self.0.entry(scope).or_insert_with(|| (now.seconds(), 0));
        if now.seconds() - *began >= WINDOW_SECONDS {
            (*began, *used) = (now.seconds(), 0);
        }
        let exceeded = *used >= limit;
        *used = used.saturating_add(1);
        let reset = WINDOW_SECONDS - (now.seconds() - *began);
        Rate { limit, remaining: limit.saturating_sub(*used), reset, exceeded }
    }
}
