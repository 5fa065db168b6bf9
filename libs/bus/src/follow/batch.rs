//! From what JetStream delivers to what a handler takes.

use std::ops::Range;

use async_nats::HeaderMap;

use super::{Delivery, Follow, Reply};
use crate::feed::{Arrived, Feed};
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

    fn push(&mut self, arrived: Arrived) {
        let Arrived { message, sequence, published_at } = arrived;
        let headers = message.headers.as_ref();
        let reply = headers.and_then(|it| it.get(ask::REPLY_HEADER)).and_then(|it| {
            let reply = Reply::from_text(it.as_str());
            if reply.is_none() {
                tracing::warn!(subject = %message.subject, "a reply to no inbox is not sent");
            }
            reply
        });
        self.deliveries.push(Delivery {
            sequence,
            published_at,
            subject: message.subject.into_string(),
            payload: message.payload,
            reply,
            traceparent: trace::of(headers),
        });
        self.headers.push(message.headers);
    }
}

/// `first` and whatever else has arrived, as much as one transaction may hold: nobody waits for a
/// fuller batch.
pub(super) fn collect(first: Arrived, feed: &mut Feed, follow: &Follow) -> Batch {
    let mut batch = Batch { deliveries: Vec::new(), headers: Vec::new() };
    let mut bytes_left = follow.batch_bytes_max.saturating_sub(first.message.payload.len());
    batch.push(first);
    while batch.deliveries.len() < follow.batch_max {
        let Some(next) = feed.ready(|it| it.message.payload.len() <= bytes_left) else { break };
        bytes_left = bytes_left.saturating_sub(next.message.payload.len());
        batch.push(next);
    }
    batch
}
