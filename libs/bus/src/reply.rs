//! Answers to a command, after the commit that made them true.
//!
//! A reply is worth one attempt: whoever does not get it asks again under the same ids and gets
//! the stored outcome. So nothing here fails, retries or waits for long.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;

use crate::follow::Reply;

/// How long a reply may wait for room in the client's buffer.
const WAIT: Duration = Duration::from_secs(1);

/// Sends `payload` to whoever asked; lost if NATS is away.
pub async fn send(client: &Client, to: &Reply, payload: Vec<u8>) {
    if client.connection_state() != State::Connected {
        tracing::warn!("a reply is lost, NATS is not connected; the asker repeats");
        return;
    }
    let sent = client.publish(to.subject(), Bytes::from(payload));
    match tokio::time::timeout(WAIT, sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = crate::chain(&error), "a reply is lost; the asker repeats");
        }
        Err(_) => tracing::warn!("a reply is lost, the connection is congested; the asker repeats"),
    }
}
