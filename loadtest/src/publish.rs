//! Fills the ledger's stream as fast as JetStream takes it, with a bounded number under way.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::{Client, HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;

use crate::workload::Sent;

/// Published and not acknowledged yet.
const UNDER_WAY_MAX: u32 = 8_192;
/// JetStream that is silent for so long is not there.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);
/// As `bus::ask` names it: where the answer goes.
const REPLY_HEADER: &str = "Wallet-Reply";

/// Puts the commands into the stream that captures them; returns the last one's place there.
///
/// With `answered`, each carries the header of a caller who waits for the answer.
pub(crate) async fn fill(
    client: &Client,
    commands: impl Iterator<Item = Sent>,
    answered: bool,
) -> anyhow::Result<u64> {
    let inbox = client.new_inbox();
    let mut acks = Acks {
        acks: client.subscribe(inbox.clone()).await.context("failed to subscribe")?,
        n_under_way: 0,
        last: 0,
    };
    for (n, command) in commands.enumerate() {
        let Sent { subject, payload } = command;
        let published = if answered {
            let headers = headers(&inbox, n);
            client.publish_with_reply_and_headers(subject, inbox.clone(), headers, payload).await
        } else {
            client.publish_with_reply(subject, inbox.clone(), payload).await
        };
        published.context("failed to publish a command")?;
        acks.n_under_way = acks.n_under_way.saturating_add(1);
        acks.take_ready()?;
        while acks.n_under_way >= UNDER_WAY_MAX {
            acks.take().await?;
        }
    }
    while acks.n_under_way > 0 {
        acks.take().await?;
    }
    Ok(acks.last)
}

/// The header of a command that somebody waits for. Nobody listens there, but the ledger and
/// nats-server cannot know.
fn headers(inbox: &str, n: usize) -> HeaderMap {
    let address = format!("{inbox}.a.{n}");
    let mut headers = HeaderMap::new();
    headers.insert(REPLY_HEADER, address.as_str());
    headers
}

struct Acks {
    acks: Subscriber,
    n_under_way: u32,
    last: u64,
}

impl Acks {
    fn take_ready(&mut self) -> anyhow::Result<()> {
        while let Some(ack) = self.acks.next().now_or_never() {
            let ack = ack.context("the connection to NATS is closed")?;
            self.count(&ack.payload)?;
        }
        Ok(())
    }

    async fn take(&mut self) -> anyhow::Result<()> {
        let ack = tokio::time::timeout(ACKNOWLEDGED_WITHIN, self.acks.next()).await;
        let ack = ack.context("JetStream does not acknowledge")?;
        let ack = ack.context("the connection to NATS is closed")?;
        self.count(&ack.payload)
    }

    fn count(&mut self, ack: &Bytes) -> anyhow::Result<()> {
        self.last = self.last.max(sequence(ack)?);
        self.n_under_way = self.n_under_way.saturating_sub(1);
        Ok(())
    }
}

/// Where JetStream put a message.
fn sequence(ack: &[u8]) -> anyhow::Result<u64> {
    let said: Value = serde_json::from_slice(ack).context("an acknowledgement cannot be read")?;
    match said.get("seq").and_then(Value::as_u64) {
        Some(sequence) if said.get("error").is_none() => Ok(sequence),
        _ => bail!("JetStream refused a command: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_no_place() {
        assert_eq!(sequence(br#"{"stream":"CMD_LEDGER","seq":7}"#).unwrap(), 7);
        let full = br#"{"error":{"code":503,"description":"maximum bytes exceeded"},"seq":0}"#;
        assert!(sequence(full).unwrap_err().to_string().contains("maximum bytes"));
    }
}
