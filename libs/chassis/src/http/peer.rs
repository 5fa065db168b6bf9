//! Who is at the other end: the peer, or whom a proxy that is trusted speaks for.

use std::net::IpAddr;
use std::str::FromStr;

use poem::Request;

/// The most addresses of `X-Forwarded-For` looked at.
const HOPS_MAX: usize = 32;

/// The address of whoever asks, with these networks' `X-Forwarded-For` believed. None only for a
/// listener that is no socket.
#[must_use]
pub fn client(request: &Request, proxies: &[Network]) -> Option<IpAddr> {
    let peer = request.remote_addr().as_socket_addr()?.ip();
    let forwarded = request.headers().get_all("x-forwarded-for");
    let forwarded: Vec<&str> = forwarded.iter().filter_map(|it| it.to_str().ok()).collect();
    Some(nearest(peer, &forwarded, proxies))
}

/// The peer, or the last address that a trusted proxy did not add itself. Whatever stands
/// to the left of that one was written by the client and proves nothing.
fn nearest(peer: IpAddr, forwarded: &[&str], proxies: &[Network]) -> IpAddr {
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
    /// Whether the address is one of it. An IPv4 address in IPv6's clothes is to be undressed before.
    #[must_use]
    pub fn contains(self, it: IpAddr) -> bool {
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
            assert_eq!(
                nearest(ip(peer), forwarded, &proxies),
                ip(expected),
                "{peer} {forwarded:?}"
            );
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
}
