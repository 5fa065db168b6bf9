//! A reader's place: which birth of which stream, and the last sequence it used.
//!
//! The cursor in Postgres is the truth. [`settle`] compares it with the stream as it is and, when
//! the stream is not the one it was, begins a new epoch at the stream's start; the ids in the
//! books make what is read again harmless.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::stream::{Info, InfoError, RawMessageError, RawMessageErrorKind};
use primitives::Timestamp;

use crate::feed::{self, Feed};
use crate::session::Session;
use crate::{metrics, store, streams};

/// A feed is silent for at most twice this before it counts as broken.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How many batches a feed holds in memory: the one in hand's successor, and one on its way.
const BATCHES_AHEAD: usize = 2;

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) reader: &'static str,
    pub(crate) stream: &'static str,
    /// When the stream was created.
    pub(crate) born_at: Timestamp,
    pub(crate) epoch: i64,
    /// The last message used; 0 is none.
    pub(crate) sequence: u64,
    /// When that message was published.
    pub(crate) message_at: Option<Timestamp>,
}

/// The place could not be settled; trying again later may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Feed(#[from] feed::Error),
    #[error(transparent)]
    Find(#[from] streams::Error),
    #[error("failed to look at the stream")]
    Look(#[source] InfoError),
    #[error("failed to look at message {sequence}")]
    Witness {
        sequence: u64,
        #[source]
        source: RawMessageError,
    },
}

/// A reader's place, and the feed that begins right behind it.
pub(crate) struct Settled {
    pub(crate) place: Place,
    pub(crate) feed: Feed,
    pub(crate) stream: Stream,
}

/// Finds the reader's place in the stream as it is, and opens a feed from there.
pub(crate) async fn settle(
    session: &mut Session,
    js: &jetstream::Context,
    follow: &crate::follow::Follow,
) -> Result<Settled, Error> {
    let (reader, name) = (follow.reader, follow.stream.name);
    loop {
        let stream = streams::find(js, &follow.stream).await?;
        let Some(place) = store::load_place(session.conn(), reader, name).await? else {
            let born_at = Timestamp::from_datetime(stream.cached_info().created);
            let first =
                Place { reader, stream: name, born_at, epoch: 1, sequence: 0, message_at: None };
            store::insert_place(session.conn(), &first, Timestamp::now()).await?;
            continue;
        };
        let from = feed::From::Sequence(place.sequence.saturating_add(1));
        let buffer_max = follow.batch_max.saturating_mul(BATCHES_AHEAD);
        let feed = Feed::open(&stream, from, follow.filter, buffer_max, HEARTBEAT).await?;
        // Only now: a stream that changes after this look takes the feed with it.
        let info = stream.get_info().await.map_err(Error::Look)?;
        let Some(change) = change(&place, &stream, &info).await? else {
            return Ok(Settled { place, feed, stream });
        };
        let born_at = Timestamp::from_datetime(info.created);
        if store::begin_epoch(session.conn(), &place, born_at, Timestamp::now()).await? {
            metrics::EPOCHS.with_label_values(&[reader]).inc();
            tracing::error!(
                reader,
                stream = name,
                "stream {name} {change} since {reader} read message {}; \
                 epoch {} begins at its start, messages that are gone must be asked for again",
                place.sequence,
                place.epoch.saturating_add(1),
            );
        }
    }
}

/// What happened to the stream since the place was saved, if anything.
async fn change(
    place: &Place,
    stream: &Stream,
    info: &Info,
) -> Result<Option<&'static str>, Error> {
    if let Some(change) = visible_change(place, info) {
        return Ok(Some(change));
    }
    let Some(message_at) = place.message_at else { return Ok(None) };
    if place.sequence < info.state.first_sequence {
        return Ok(None);
    }
    // The message at the place is the witness: purging leaves it alone.
    match stream.get_raw_message(place.sequence).await {
        Ok(found) if Timestamp::from_datetime(found.time) == message_at => Ok(None),
        Ok(_) => Ok(Some("was rolled back and has grown again")),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(source) => Err(Error::Witness { sequence: place.sequence, source }),
    }
}

/// As far as the stream's description tells.
pub(crate) fn visible_change(place: &Place, info: &Info) -> Option<&'static str> {
    if Timestamp::from_datetime(info.created) != place.born_at {
        Some("was deleted and made again")
    } else if info.state.last_sequence < place.sequence {
        Some("was rolled back")
    } else {
        None
    }
}
