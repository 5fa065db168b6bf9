//! Real Postgres and nats-server as child processes in a folder, on free ports of 127.0.0.1.
//!
//! For `wallet dev`, for tests and for the load test: the real programs, so that nothing has to
//! be believed about them. They are found, never installed: [`Tools`] says where it looks.
//!
//! What holds whatever happens to us:
//! - The server dies with its parent, even by `kill -9` (`guardian.rs`): no orphan is left.
//! - A terminal's Ctrl-C reaches only the parent, which stops its servers when it is ready to.
//! - One folder has at most one server; a second start says so in one sentence.
//! - A server that was killed is started again from what it had written.
//!
//! Deliberately not here: tuning, replication, TLS. A production server is somebody else's job.

mod companion;
mod folder;
mod guardian;
mod nats;
mod postgres;
mod programs;
mod roles;

pub use companion::{Companion, Launch};
pub use nats::Nats;
pub use postgres::{Options, Postgres};
pub use programs::Tools;
pub use roles::{Urls, Wanted, ensure_role_and_database};

use std::time::Duration;

/// How often a starting or stopping server is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A password nobody has to type: 192 random bits as hex digits.
fn new_password() -> String {
    hex::encode(rand::random::<[u8; 24]>())
}

/// A port nobody listens on at this moment. Somebody may take it before we do; callers try again.
///
/// # Errors
/// When the machine has none left.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
