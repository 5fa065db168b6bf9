//! From what JetStream delivers to what a handler takes.

use std::ops::Range;

use async_nats::{HeaderMap, jetstream};
use primitives::Timestamp;

use super::{Delivery, Reply};
use crate::feed::{self, Feed};
use crate::{ask, trace};

/// Messages in stream order; never empty.
pub(super) struct Batch {
    pub(super) deliveries: Vec<Delivery>,
    headers: Vec<Option<HeaderMap>>,
}

impl Batch {
    pub(super) fn all(&self) -> Range<usize> {
        0..self.deliveries.len()
    }

    /// The headers of the `n`th message, "Name: value" each.
    pub(super) fn headers(&self, n: usize) -> Vec<String> {
        let Some(Some(headers)) = self.headers.get(n) else { return Vec::new() };
        let mut lines: Vec<String> = headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |it| format!("{name}: {it}")))
            .collect();
        lines.sort();
        lines
    }

    fn push(&mut self, message: jetstream::Message) -> Result<(), feed::Error> {
        let info = message.info().map_err(feed::Error::Unplaced)?;
        let headers = message.headers.as_ref();
        let reply = headers.and_then(|it| it.get(ask::REPLY_HEADER)).and_then(|it| {
            let reply = Reply::from_text(it.as_str());
            if reply.is_none() {
                tracing::warn!(subject = %message.subject, "a reply to no inbox is not sent");
            }
            reply
        });
        self.deliveries.push(Delivery {
            sequence: info.stream_sequence,
            published_at: Timestamp::from_datetime(info.published),
            subject: message.subject.to_string(),
            payload: message.payload.clone(),
            reply,
            traceparent: trace::of(headers),
        });
        self.headers.push(message.message.headers);
        Ok(())
    }
}

/// `first` and whatever else has arrived, at most `batch_max`: nobody waits for a fuller batch.
pub(super) fn collect(
    first: jetstream::Message,
    feed: &mut Feed,
    batch_max: usize,
) -> Result<Batch, feed::Error> {
    let mut batch = Batch { deliveries: Vec::new(), headers: Vec::new() };
    batch.push(first)?;
    while batch.deliveries.len() < batch_max {
        let Some(message) = feed.ready() else { break };
        batch.push(message)?;
    }
    Ok(batch)
}
