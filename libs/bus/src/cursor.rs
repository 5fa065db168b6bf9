//! The cursor in Postgres is the truth of where a reader is. [`settle`] compares it with the
//! stream as it is and, when [`crate::place`] judges that it is not the one it was, begins a new
//! epoch at the stream's start.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::stream::{Info, InfoError, RawMessageError, RawMessageErrorKind};
use primitives::Timestamp;

use crate::feed::{self, Ahead, Feed};
use crate::follow::Follow;
use crate::follow::health::{Health, StreamChange};
use crate::place::{Change, Judgement, Place, StreamFacts, Witness, judge};
use crate::session::Session;
use crate::{metrics, store, streams};

/// A feed is silent for at most twice this before it counts as broken.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How many batches a feed asks for: the one in hand's successor, and one on its way.
const BATCHES_AHEAD: usize = 2;

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
    follow: &Follow,
    health: &Health,
) -> Result<Settled, Error> {
    let (reader, name) = (follow.reader, follow.stream.name);
    loop {
        let stream = streams::find(js, &follow.stream).await?;
        let Some(place) = store::load_place(session.conn(), reader, name).await? else {
            let born_at = Timestamp::from_datetime(stream.cached_info().created);
            let first = Place::first(reader, name, born_at);
            store::insert_place(session.conn(), &first, Timestamp::now()).await?;
            continue;
        };
        let from = feed::From::Sequence(place.next_sequence());
        let ahead = Ahead {
            messages: follow.batch_max.saturating_mul(BATCHES_AHEAD),
            bytes: follow.batch_bytes_max.saturating_mul(BATCHES_AHEAD),
        };
        let feed = Feed::open(&stream, from, follow.filter, ahead, HEARTBEAT).await?;
        // Only now: a stream that changes after this look takes the feed with it.
        let info = stream.get_info().await.map_err(Error::Look)?;
        let Some(change) = change(&place, &stream, &info).await? else {
            return Ok(Settled { place, feed, stream });
        };
        let next = place.begin_epoch(Timestamp::from_datetime(info.created));
        let now = Timestamp::now();
        if store::move_place(session.conn(), &place, &next, now).await? {
            let epoch = next.epoch;
            health.changed(StreamChange { stream: name, change, epoch, noticed_at: now });
            metrics::EPOCHS.with_label_values(&[reader]).inc();
            tracing::error!(
                reader,
                stream = name,
                "stream {name} {change} since {reader} read message {}; \
                 epoch {epoch} begins at its start, messages that are gone must be asked for again",
                place.sequence,
            );
        }
    }
}

/// What happened to the stream since the place was saved, if anything.
pub(crate) async fn change(
    place: &Place,
    stream: &Stream,
    info: &Info,
) -> Result<Option<Change>, Error> {
    let facts = facts(info);
    let mut witness = None;
    loop {
        match judge(place, &facts, witness) {
            Judgement::Same => return Ok(None),
            Judgement::Changed(change) => return Ok(Some(change)),
            Judgement::LookAtWitness => witness = Some(look_at(stream, place.sequence).await?),
        }
    }
}

async fn look_at(stream: &Stream, sequence: u64) -> Result<Witness, Error> {
    match stream.get_raw_message(sequence).await {
        Ok(found) => Ok(Witness::PublishedAt(Timestamp::from_datetime(found.time))),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(Witness::Gone),
        Err(source) => Err(Error::Witness { sequence, source }),
    }
}

/// What the stream's description says, as the judgement takes it.
fn facts(info: &Info) -> StreamFacts {
    StreamFacts {
        born_at: Timestamp::from_datetime(info.created),
        first_sequence: info.state.first_sequence,
        last_sequence: info.state.last_sequence,
    }
}
