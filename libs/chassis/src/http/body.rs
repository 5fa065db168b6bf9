//! Bodies have a limit: by what they announce, by what they turn out to be, and by how long they take.
//!
//! A body is read whole before the endpoint sees the request. So no handler has to wait for one, and
//! whoever sends a byte a second holds nothing but a connection, and that not for long.

use std::time::Duration;

use futures_util::StreamExt;
use poem::http::{StatusCode, header};
use poem::{Body, Request};

use super::Problem;

/// How long a body may take to arrive: 64 KiB on a line that is hardly one.
const WAIT: Duration = Duration::from_secs(20);
/// How much of a refused body is read away, so that the refusal arrives before the connection closes.
const READ_AWAY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long that may take.
const READ_AWAY_WAIT: Duration = Duration::from_millis(500);

/// Why a body was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is, or says that it is, larger than is read here.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// The connection broke off within it.
    Broken,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::from_status(match refusal {
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Broken => StatusCode::BAD_REQUEST,
        })
    }
}

/// Reads the body into memory; a request without one costs nothing.
pub(super) async fn take_in(request: &mut Request, bytes_max: usize) -> Result<(), Refusal> {
    if announces_too_much(request, bytes_max) {
        read_away(request).await;
        return Err(Refusal::TooLarge);
    }
    let body = request.take_body();
    if body.is_empty() {
        return Ok(());
    }
    let read = tokio::time::timeout(WAIT, read(body, bytes_max)).await;
    request.set_body(read.map_err(|_| Refusal::TooSlow)??);
    Ok(())
}

/// Whether the body announces itself as too large.
fn announces_too_much(request: &Request, bytes_max: usize) -> bool {
    let announced = request.header(header::CONTENT_LENGTH).and_then(|it| it.parse::<u64>().ok());
    announced.is_some_and(|bytes| bytes > u64::try_from(bytes_max).unwrap_or(u64::MAX))
}

async fn read(body: Body, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let mut chunks = Box::pin(body.into_bytes_stream());
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refusal::Broken)?;
        if chunk.len() > bytes_max.saturating_sub(bytes.len()) {
            return Err(Refusal::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads a refused body away within bounds; a client that is still writing would otherwise see
/// a reset connection instead of the answer. A client that waits for leave to send gets none.
async fn read_away(request: &mut Request) {
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let mut chunks = Box::pin(request.take_body().into_bytes_stream());
    let all = async {
        let mut left = READ_AWAY_BYTES_MAX;
        while let Some(Ok(chunk)) = chunks.next().await {
            let Some(rest) = left.checked_sub(chunk.len()) else {
                break;
            };
            left = rest;
        }
    };
    // Too slow or complete: either way the answer follows.
    drop(tokio::time::timeout(READ_AWAY_WAIT, all).await);
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn take(body: Body) -> (Result<(), Refusal>, Vec<u8>) {
        let mut request = Request::builder().body(body);
        let taken = take_in(&mut request, 10).await;
        (taken, request.take_body().into_vec().await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_taken_in_whole_or_refused() {
        assert_eq!(take(Body::empty()).await, (Ok(()), vec![]));
        assert_eq!(take(Body::from_vec(vec![7; 10])).await, (Ok(()), vec![7; 10]));
        assert_eq!(take(Body::from_vec(vec![7; 11])).await.0, Err(Refusal::TooLarge));
        let parts = |n| {
            let parts = std::iter::repeat_with(|| Ok::<_, std::io::Error>("12")).take(n);
            Body::from_bytes_stream(stream::iter(parts.collect::<Vec<_>>()))
        };
        assert_eq!(take(parts(5)).await, (Ok(()), b"1212121212".to_vec()));
        assert_eq!(take(parts(6)).await.0, Err(Refusal::TooLarge));
        let broken = Err::<&[u8], std::io::Error>(std::io::ErrorKind::ConnectionReset.into());
        let broken = stream::iter([Ok(b"12".as_slice()), broken]);
        assert_eq!(take(Body::from_bytes_stream(broken)).await.0, Err(Refusal::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_not_waited_for() {
        let drops = stream::unfold((), async |()| {
            tokio::time::sleep(WAIT / 4).await;
            Some((Ok::<_, std::io::Error>("1"), ()))
        });
        assert_eq!(take(Body::from_bytes_stream(Box::pin(drops))).await.0, Err(Refusal::TooSlow));
    }
}
