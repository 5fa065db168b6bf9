//! How often one caller may ask.
//!
//! Two kinds of buckets: one a credential (a person, or an API key), one a client address for whoever
//! has not said, or not credibly, who they are. Memory is bounded: a sweep forgets callers whose
//! bucket is full again, and while there are too many others, newcomers share one bucket.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
/// The most addresses of `X-Forwarded-For` looked at.
const HOPS_MAX: usize = 32;

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
        let peer = request.remote_addr().as_socket_addr().map(|it| it.ip());
        let forwarded = request.headers().get_all("x-forwarded-for");
        let forwarded: Vec<&str> = forwarded.iter().filter_map(|it| it.to_str().ok()).collect();
        match peer {
            Some(peer) => self.addresses.take(Who::Address(subscriber(client(
                peer,
                &forwarded,
                &self.proxies,
            )))),
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

/// Who asks: the peer, or the last address that a trusted proxy did not add itself. Whatever stands
/// to the left of that one was written by the client and proves nothing.
fn client(peer: IpAddr, forwarded: &[&str], proxies: &[Network]) -> IpAddr {
    let is_trusted = |it: IpAddr| proxies.iter().any(|network| network.contains(it));
    let mut client = peer.to_canonical();
    let hops = forwarded.iter().rev().flat_map(|it| it.rsplit(',')).take(HOPS_MAX);
    for hop in hops {
        if !is_trusted(client) {
            break;
        }
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
    }
    client
}

/// An IPv6 subscriber has a whole /64, so that is what has a bucket.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & (u128::MAX << 64))),
    }
}

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

/// The text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address, or an address/prefix such as 10.0.0.0/8")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| NetworkError)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => bits,
            Some(prefix) => {
                prefix.trim().parse().ok().filter(|it| *it <= bits).ok_or(NetworkError)?
            }
        };
        Ok(Self { address, prefix_bits })
    }
}

impl Network {
    fn contains(self, it: IpAddr) -> bool {
        match (self.address, it) {
            (IpAddr::V4(network), IpAddr::V4(it)) => {
                let differing = network.to_bits() ^ it.to_bits();
                differing.leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V6(network), IpAddr::V6(it)) => {
                let differing = network.to_bits() ^ it.to_bits();
                differing.leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
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
    fn only_trusted_proxies_are_believed() {
        let proxies: Vec<Network> =
            ["10.0.0.0/8", "fd00::/8"].map(|it| it.parse().unwrap()).to_vec();
        let cases: &[(&str, &[&str], &str)] = &[
            ("192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.7, 10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, nonsense"], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
        ];
        for (peer, forwarded, expected) in cases {
            assert_eq!(client(ip(peer), forwarded, &proxies), ip(expected), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_network_is_read_or_refused() {
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "a/8", "10.0.0.0/", "::/129", "10.0.0.0/-1"] {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
        }
        let everything: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everything.contains(ip("255.255.255.255")) && !everything.contains(ip("::1")));
        let one: Network = "10.0.0.1".parse().unwrap();
        assert!(one.contains(ip("10.0.0.1")) && !one.contains(ip("10.0.0.2")));
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
