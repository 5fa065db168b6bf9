//! Bodies have a limit: by what they announce, and by what they turn out to be.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use poem::http::header;
use poem::{Body, Request};

/// How much of a refused body is read away, so that the refusal arrives before the connection closes.
const READ_AWAY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long that may take.
const READ_AWAY_WAIT: Duration = Duration::from_millis(500);

/// Set when a body went over its limit while it was read.
#[derive(Clone, Default)]
pub(super) struct Exceeded(Arc<AtomicBool>);

impl Exceeded {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Whether the body announces itself as too large.
pub(super) fn announces_too_much(request: &Request, bytes_max: usize) -> bool {
    announced(request).is_some_and(|bytes| bytes > u64::try_from(bytes_max).unwrap_or(u64::MAX))
}

fn announced(request: &Request) -> Option<u64> {
    request.header(header::CONTENT_LENGTH)?.parse().ok()
}

/// Counts a body of unknown length while it is read; one with a length cannot be longer than it says.
pub(super) fn limit(request: &mut Request, bytes_max: usize) -> Exceeded {
    let exceeded = Exceeded::default();
    if announced(request).is_some() {
        return exceeded;
    }
    let mut left = bytes_max;
    let flag = exceeded.clone();
    let counted = request.take_body().into_bytes_stream().map(move |chunk| {
        let chunk = chunk?;
        match left.checked_sub(chunk.len()) {
            Some(rest) => {
                left = rest;
                Ok(chunk)
            }
            None => {
                flag.0.store(true, Ordering::Release);
                Err(io::Error::other("the body is too large"))
            }
        }
    });
    request.set_body(Body::from_bytes_stream(counted));
    exceeded
}

/// Reads a refused body away within bounds; a client that is still writing would otherwise see
/// a reset connection instead of the answer. A client that waits for leave to send gets none.
pub(super) async fn read_away(request: &mut Request) {
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
