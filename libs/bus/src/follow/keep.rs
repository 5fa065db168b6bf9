//! What goes on beside reading: purging what was applied, measuring the lag, and noticing that
//! the stream, or the server it is on, is not what it was.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::stream::{Info, Stream};
use proto_events::subjects::StreamKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Follow;
use crate::cursor;
use crate::place::Place;
use crate::{metrics, pause};

/// How often the stream is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often the connection is looked at, which asks nobody anything.
const CONNECTION_LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often a connection was made so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connects(u64);

impl Connects {
    pub(super) fn of(client: &Client) -> Self {
        Self(client.statistics().connects.load(Ordering::Relaxed))
    }
}

/// Resolves when the connection has been made anew: a server that was restarted has forgotten the
/// consumer, and would be silent for as long as a heartbeat may be missed.
pub(super) async fn reconnected(client: Client, before: Connects) {
    while Connects::of(&client) == before {
        tokio::time::sleep(CONNECTION_LOOK_EVERY).await;
    }
}

/// Runs until `changed`, or cancels it when the stream has changed.
pub(super) async fn keep(
    follow: Follow,
    stream: Stream,
    at: watch::Receiver<Place>,
    changed: CancellationToken,
) {
    let mut purged = 0;
    while !changed.is_cancelled() {
        // Read before looking: the place may only be behind what the stream says.
        let place = *at.borrow();
        tokio::select! {
            () = changed.cancelled() => return,
            same = look(&follow, &stream, &place, &mut purged) => if !same {
                changed.cancel();
            },
        }
        pause::sleep(LOOK_EVERY, &changed).await;
    }
}

/// False if the stream is not the one the place is in. Trouble is no answer: the feed has it too.
async fn look(follow: &Follow, stream: &Stream, place: &Place, purged: &mut u64) -> bool {
    let info = match stream.get_info().await {
        Ok(info) => info,
        Err(error) => {
            tracing::debug!(error = crate::chain(&error), "the stream cannot be looked at");
            return true;
        }
    };
    // The witness is asked as well: a stream that lost its tail in a restart may have grown past the
    // place before the feed ends, and what nobody has used must not be purged.
    match cursor::change(place, stream, &info).await {
        Ok(None) => {}
        Ok(Some(_)) => return false,
        Err(error) => {
            tracing::debug!(error = crate::chain(&error), "the stream cannot be judged");
            return true;
        }
    }
    measure(follow, place, &info);
    if follow.stream.kind == StreamKind::Commands && place.sequence > *purged {
        purge(follow, stream, place, purged).await;
    }
    true
}

/// With a filter this counts other readers' messages too, until the next own one.
fn measure(follow: &Follow, place: &Place, info: &Info) {
    let lag = info.state.last_sequence.saturating_sub(place.sequence);
    let lag = i64::try_from(lag).unwrap_or(i64::MAX);
    metrics::CURSOR_LAG.with_label_values(&[follow.reader]).set(lag);
}

/// Removes what was applied, so that a full stream means commands that wait, not commands that
/// are done. The message at the place stays: it is the witness of [`crate::place`].
async fn purge(follow: &Follow, stream: &Stream, place: &Place, purged: &mut u64) {
    let request = stream.purge().sequence(place.sequence);
    let request = match follow.filter {
        Some(filter) => request.filter(filter),
        None => request,
    };
    match request.await {
        Ok(_) => *purged = place.sequence,
        Err(error) => tracing::warn!(
            reader = follow.reader,
            error = crate::chain(&error),
            "what {} has applied is not purged yet",
            follow.reader
        ),
    }
}
