//! For those who only need to *hear* of events and keep nothing: a cache that forgets what has
//! changed. Who acts on events follows them with a cursor instead.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamError;
use async_nats::{Client, jetstream};
use prost::Message;
use proto_events::common::v1::Envelope;
use proto_events::subjects;
use tokio_util::sync::CancellationToken;

use crate::feed::{self, Ahead, Feed, From};
use crate::pause::Pause;

/// The server is silent for at most twice this before the feed counts as broken.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// What is asked for at a time.
const AHEAD: Ahead = Ahead { messages: 1_000, bytes: 2 * 1024 * 1024 };

/// What a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Listening has begun, or begun again: events before this moment may have been missed, none
    /// after it will be without another `Gap`. Always comes first.
    Gap,
    /// Something happened. Events may come more than once.
    Event(Envelope),
}

/// Trouble that passes.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Feed(#[from] feed::Error),
    #[error("failed to look up the stream of events")]
    Find(#[source] GetStreamError),
}

/// Hears every event published to `subject` from now on until `shutdown`, whatever breaks
/// meanwhile.
///
/// While NATS is away nothing is heard, and `Gap` comes when it is back: what a cache may not
/// know for longer than that needs a short life of its own.
pub async fn listen(
    client: Client,
    subject: &'static str,
    shutdown: CancellationToken,
    mut hear: impl FnMut(Heard) + Send,
) {
    let js = jetstream::new(client);
    let mut pause = Pause::new();
    while !shutdown.is_cancelled() {
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Err(trouble) = attend(&js, subject, &mut pause, &mut hear) => trouble,
        };
        let error = crate::chain(&ended);
        tracing::warn!(subject, error, "{subject} is not heard for a moment");
        pause.wait(&shutdown).await;
    }
}

async fn attend(
    js: &jetstream::Context,
    subject: &'static str,
    pause: &mut Pause,
    hear: &mut (impl FnMut(Heard) + Send),
) -> Result<std::convert::Infallible, Trouble> {
    let stream = js.get_stream(subjects::EVT.name).await.map_err(Trouble::Find)?;
    let mut feed = Feed::open(&stream, From::New, Some(subject), AHEAD, HEARTBEAT).await?;
    hear(Heard::Gap);
    loop {
        let message = feed.next().await?.message;
        pause.reset();
        match Envelope::decode(message.payload) {
            Ok(envelope) => hear(Heard::Event(envelope)),
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(subject, error, "an event on {subject} cannot be decoded");
            }
        }
    }
}
