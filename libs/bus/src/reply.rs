//! Answers to a command, after the commit that made them true.
//!
//! A reply is worth one attempt: whoever does not get it asks again under the same ids and gets
//! the stored outcome. So nothing here fails, retries or waits for long.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;

use crate::follow::Reply;

/// How long replies may wait for room in the client's buffer.
const WAIT: Duration = Duration::from_secs(1);

/// Sends `payload` to whoever asked; lost if NATS is away.
pub async fn send(client: &Client, to: &Reply, payload: Vec<u8>) {
    send_all(client, vec![(to.clone(), payload)]).await;
}

/// As [`send`], many at once.
pub(crate) async fn send_all(client: &Client, replies: Vec<(Reply, Vec<u8>)>) {
    let mut n_left = replies.len();
    if n_left == 0 {
        return;
    }
    if client.connection_state() != State::Connected {
        tracing::warn!(n_left, "replies are lost, NATS is not connected; the askers repeat");
        return;
    }
    let sending = async {
        for (to, payload) in replies {
            if let Err(error) = client.publish(to.into_subject(), Bytes::from(payload)).await {
                tracing::warn!(error = crate::chain(&error), "a reply is lost; the asker repeats");
            }
            n_left = n_left.saturating_sub(1);
        }
    };
    if tokio::time::timeout(WAIT, sending).await.is_err() {
        tracing::warn!(n_left, "replies are lost, NATS is congested; the askers repeat");
    }
}
