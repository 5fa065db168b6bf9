//! A listener, an endpoint, and an orderly end.

use std::io;
use std::time::Duration;

use anyhow::Context as _;
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Response, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A connection on which nothing happens for so long is closed.
const IDLE_WAIT: Duration = Duration::from_secs(75);
/// A pause after a failed accept: out of file descriptors, trying again at once only burns time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`; then takes no new connection and gives requests in hand `grace` to finish.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    endpoint: BoxEndpoint<'static, Response>,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let acceptor = Prompt(TcpAcceptor::from_tokio(listener).context("failed to use the listener")?);
    Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE_WAIT)
        .run_with_graceful_shutdown(endpoint, shutdown.cancelled_owned(), Some(grace))
        .await
        .context("failed to serve HTTP")
}

/// Sends small answers at once instead of waiting for more to send.
struct Prompt(TcpAcceptor);

impl Acceptor for Prompt {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        match self.0.accept().await {
            Ok(accepted) => {
                accepted.0.set_nodelay(true)?;
                Ok(accepted)
            }
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        }
    }
}
