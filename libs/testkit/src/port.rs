//! A port for a process that comes and goes at one address.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what a kernel gives to outgoing connections, so that nobody else takes one by chance.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port of 127.0.0.1 that is free at this moment and is likely to stay so while nobody listens
/// there.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn quiet_port() -> u16 {
    static N_TAKEN: AtomicU16 = AtomicU16::new(0);
    let n_ports = PORTS.len();
    // Two processes do not begin at the same place.
    let start = usize::try_from(std::process::id()).unwrap_or(0).wrapping_mul(97);
    for _ in 0..n_ports {
        let n = start.wrapping_add(usize::from(N_TAKEN.fetch_add(1, Ordering::Relaxed)));
        let port = u16::try_from(n % n_ports).map_or(PORTS.start, |it| PORTS.start + it);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free in {PORTS:?}");
}
