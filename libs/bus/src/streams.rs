//! Declares the streams.
//!
//! Commands refuse when full (`discard: new`) instead of forgetting; events are kept for days.
//! Nothing here is needed for correctness: a stream that loses its tail or its whole content is
//! an expected event, see [`crate::follow`] and [`crate::outbox`].

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, RetentionPolicy, StorageType, Stream as Found,
};
use proto_events::subjects::{STREAMS, Stream, StreamKind};

/// Commands waiting to be applied; beyond this the stream refuses and askers are told so.
pub const COMMANDS_BYTES_MAX: i64 = 256 * 1024 * 1024;
/// How long a command waits for its service before it is given up.
pub const COMMANDS_AGE_MAX: Duration = Duration::from_hours(14 * 24);
/// The largest command; what a reader holds in memory is a multiple of it.
pub const COMMAND_BYTES_MAX: i32 = 64 * 1024;
/// Events kept for whoever follows; the oldest go first.
pub const EVENTS_BYTES_MAX: i64 = 1024 * 1024 * 1024;
/// How long an event is kept.
pub const EVENTS_AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// How long a stream remembers message ids, to drop a second publish of the same message.
pub const DUPLICATE_WINDOW: Duration = Duration::from_mins(5);

/// A stream could not be declared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be asked whether the stream exists.
    #[error("failed to look up stream {stream}")]
    Look {
        /// Which one.
        stream: &'static str,
        /// Why.
        #[source]
        source: async_nats::jetstream::context::GetStreamError,
    },
    /// JetStream did not take the declaration.
    #[error("failed to declare stream {stream}")]
    Declare {
        /// Which one.
        stream: &'static str,
        /// Why.
        #[source]
        source: async_nats::jetstream::context::CreateStreamError,
    },
}

/// Creates what is missing of [`STREAMS`] with one replica, and brings the rest up to date
/// without touching how many replicas they have. Repeating it is harmless.
///
/// # Errors
/// [`Error`] names the stream.
pub async fn ensure(js: &Context) -> Result<(), Error> {
    for stream in STREAMS {
        let replicas = replicas_of(js, stream).await?.unwrap_or(1);
        declare(js, stream, replicas).await?;
    }
    Ok(())
}

/// As [`ensure`], with this many replicas of each stream: 3 in a cluster.
///
/// # Errors
/// [`Error`] names the stream.
pub async fn ensure_with(js: &Context, replicas: usize) -> Result<(), Error> {
    for stream in STREAMS {
        declare(js, stream, replicas).await?;
    }
    Ok(())
}

/// The stream; made again, empty and with one replica, if it is gone: then NATS has lost its disk,
/// and nobody else would make it before a service starts anew.
pub(crate) async fn find(js: &Context, stream: &Stream) -> Result<Found, Error> {
    let look = || js.get_stream(stream.name);
    let source = match look().await {
        Ok(found) => return Ok(found),
        Err(source) => source,
    };
    if !is_missing(&source.kind()) {
        return Err(Error::Look { stream: stream.name, source });
    }
    tracing::error!(stream = stream.name, "stream {} is gone and is made again", stream.name);
    declare(js, stream, 1).await?;
    look().await.map_err(|source| Error::Look { stream: stream.name, source })
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    match kind {
        GetStreamErrorKind::JetStream(refused) => refused.code() == 404,
        GetStreamErrorKind::EmptyName
        | GetStreamErrorKind::Request
        | GetStreamErrorKind::InvalidStreamName => false,
    }
}

async fn replicas_of(js: &Context, stream: &Stream) -> Result<Option<usize>, Error> {
    match js.get_stream(stream.name).await {
        Ok(found) => Ok(Some(found.cached_info().config.num_replicas)),
        Err(source) if is_missing(&source.kind()) => Ok(None),
        Err(source) => Err(Error::Look { stream: stream.name, source }),
    }
}

async fn declare(js: &Context, stream: &Stream, replicas: usize) -> Result<(), Error> {
    js.create_or_update_stream(config(stream, replicas))
        .await
        .map_err(|source| Error::Declare { stream: stream.name, source })?;
    Ok(())
}

fn config(stream: &Stream, replicas: usize) -> Config {
    let (discard, max_bytes, max_age, max_message_size) = match stream.kind {
        StreamKind::Commands => {
            (DiscardPolicy::New, COMMANDS_BYTES_MAX, COMMANDS_AGE_MAX, COMMAND_BYTES_MAX)
        }
        StreamKind::Events => (DiscardPolicy::Old, EVENTS_BYTES_MAX, EVENTS_AGE_MAX, -1),
    };
    Config {
        name: stream.name.to_owned(),
        subjects: vec![stream.subjects.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: replicas,
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        discard,
        max_bytes,
        max_age,
        max_message_size,
        ..Config::default()
    }
}
