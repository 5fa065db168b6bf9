//! How often one caller may ask.
//!
//! Two kinds of buckets: one a credential (a person, or an API key), one a client address for whoever
//! has not said, or not credibly, who they are. Memory is bounded: a sweep forgets callers whose
//! bucket is full again, and while there are too many others, newcomers share one bucket.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chassis::http::peer::{self, Network};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use poem::Request;
use primitives::{KeyId, UserId};
use tokio_util::sync::CancellationToken;

use crate::rest::problem::Problem;

/// How often full buckets are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Callers remembered at most, give or take those of one sweep.
const CALLERS_MAX: usize = 100_000;

/// Requests a second in the long run, and at once after a pause.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Person(UserId),
    Key(KeyId),
    Address(IpAddr),
    /// Everybody for whom there was no room.
    Newcomers,
}

/// The buckets. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Limits {
    credentials: Arc<Buckets>,
    addresses: Arc<Buckets>,
    proxies: Arc<[Network]>,
}

struct Buckets {
    limiter: DefaultKeyedRateLimiter<Who>,
    is_full: AtomicBool,
}

impl Limits {
    /// Empty buckets. `proxies` are the networks whose `X-Forwarded-For` is believed.
    #[must_use]
    pub fn new(credential: Rate, address: Rate, proxies: Vec<Network>) -> Self {
        Self {
            credentials: Arc::new(Buckets::new(credential)),
            addresses: Arc::new(Buckets::new(address)),
            proxies: proxies.into(),
        }
    }

    /// One request of a person.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn person(&self, user: UserId) -> Result<(), Problem> {
        self.credentials.take(Who::Person(user))
    }

    /// One request of an API key.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn key(&self, key: KeyId) -> Result<(), Problem> {
        self.credentials.take(Who::Key(key))
    }

    /// One request of whoever is at the other end.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn address(&self, request: &Request) -> Result<(), Problem> {
        match peer::client(request, &self.proxies) {
            Some(client) => self.addresses.take(Who::Address(subscriber(client))),
            // Only a listener that is no socket has no peer: a test's.
            None => Ok(()),
        }
    }

    /// Forgets callers who have not asked for a while, until shutdown.
    ///
    /// # Errors
    /// Never.
    pub async fn sweep(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = ticks.tick() => {
                    self.credentials.sweep(CALLERS_MAX);
                    self.addresses.sweep(CALLERS_MAX);
                }
            }
        }
    }
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self { limiter: RateLimiter::keyed(quota), is_full: AtomicBool::new(false) }
    }

    fn take(&self, who: Who) -> Result<(), Problem> {
        let who = if self.is_full.load(Ordering::Relaxed) { Who::Newcomers } else { who };
        self.limiter.check_key(&who).map_err(|until| {
            Problem::rate_limited().retry_after(until.wait_time_from(DefaultClock::default().now()))
        })
    }

    fn sweep(&self, callers_max: usize) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        self.is_full.store(self.limiter.len() >= callers_max, Ordering::Relaxed);
    }
}

/// An IPv6 subscriber has a whole /64, so that is what has a bucket.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        let some = |it| NonZeroU32::new(it).unwrap();
        Rate { per_second: some(per_second), burst: some(burst) }
    }

    #[test]
    fn a_network_of_ipv6_is_one_subscriber() {
        assert_eq!(subscriber(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(subscriber(ip("192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn each_caller_has_a_bucket_until_there_are_too_many() {
        let buckets = Buckets::new(rate(1, 2));
        let (one, other) = (UserId::generate(), UserId::generate());
        assert!(buckets.take(Who::Person(one)).is_ok() && buckets.take(Who::Person(one)).is_ok());
        let problem = buckets.take(Who::Person(one)).unwrap_err();
        let http = chassis::http::Problem::from(problem);
        assert_eq!(http.code, "rate_limited");
        assert!(http.retry_after.is_some_and(|it| it <= Duration::from_secs(1)));
        assert!(buckets.take(Who::Person(other)).is_ok());

        buckets.sweep(2);
        let fresh = || Who::Key(KeyId::generate());
        assert!(buckets.take(fresh()).is_ok() && buckets.take(fresh()).is_ok());
        assert!(buckets.take(fresh()).is_err(), "newcomers share one bucket");
        buckets.sweep(usize::MAX);
        assert!(buckets.take(fresh()).is_ok());
    }
}
