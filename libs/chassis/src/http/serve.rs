//! A listener, an endpoint, and an orderly end.
//!
//! HTTP/1.1: what stands before it, an ingress or a person's machine, speaks that. Every wait for the
//! other side ends, so that connections are not held by whoever sends or reads too slowly.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request's head arrives within this time after the answer before it, and an answer is taken up
/// without a longer pause. Longer than proxies keep an idle connection: they must close it first.
const PEER_WAIT: Duration = Duration::from_secs(75);
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
    let here = listener.local_addr().context("failed to use the listener")?;
    let (cut, connections) = (CancellationToken::new(), TaskTracker::new());
    let serving = Serving {
        endpoint: Arc::new(endpoint),
        here,
        shutdown: shutdown.clone(),
        cut: cut.clone(),
    };
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((socket, peer)) => drop(connections.spawn(serving.clone().connection(socket, peer))),
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, serving));
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!("{} connections are cut off", connections.len());
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// What every connection needs.
#[derive(Clone)]
struct Serving {
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    here: SocketAddr,
    /// No more requests after the one in hand.
    shutdown: CancellationToken,
    /// Not even that one.
    cut: CancellationToken,
}

impl Serving {
    async fn connection(self, socket: TcpStream, peer: SocketAddr) {
        // Small answers leave at once instead of waiting for more to send.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!("a connection ended before it began: {error}");
            return;
        }
        let (here, endpoint) = (LocalAddr(Addr::from(self.here)), self.endpoint);
        let peer = RemoteAddr(Addr::from(peer));
        let answer = service_fn(move |request: poem::http::Request<Incoming>| {
            let request = Request::from((request, here.clone(), peer.clone(), Scheme::HTTP));
            let endpoint = Arc::clone(&endpoint);
            async move { Ok::<_, Infallible>(endpoint.get_response(request).await.into()) }
        });
        let io = TokioIo::new(Prompt { socket, stuck: None });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PEER_WAIT)
            .serve_connection(io, answer);
        let mut connection = pin!(connection);
        // However it ends: the peer has gone, or is too slow, or does not speak HTTP.
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.cut.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a connection ended early: {error}");
        }
    }
}

/// A socket whose peer has to take what is sent to it.
struct Prompt {
    socket: TcpStream,
    /// Set while the peer takes nothing: when that is enough.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Prompt {
    /// Bounds the wait for a write; one that can go on costs nothing.
    fn bound<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let enough = || Box::pin(tokio::time::sleep_until(Instant::now() + PEER_WAIT));
        ready!(self.stuck.get_or_insert_with(enough).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.bound(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
