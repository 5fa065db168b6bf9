//! The cheapest honest caller: HTTP/1.1 on a kept connection, requests written by hand.
//!
//! It shares the cores with what it measures, so it parses no more than it must: status, length
//! and body.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No answer that a bench asks for is longer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A connection that asks one thing at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.context("the platform takes no connection")?;
        stream.set_nodelay(true).context("a connection cannot be set up")?;
        Ok(Self { stream, received: Vec::with_capacity(4 * 1024) })
    }

    /// Sends a whole request and waits for the whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.received.clear();
        self.stream.write_all(request).await.context("a request could not be sent")?;
        loop {
            if let Some((status, body)) = read(&self.received)? {
                ensure!(body.end == self.received.len(), "more than the answer came");
                return Ok(Answer { status, body: self.received.get(body).unwrap_or_default() });
            }
            ensure!(self.received.len() <= ANSWER_BYTES_MAX, "an answer has no end");
            let n = self.stream.read_buf(&mut self.received).await;
            if n.context("no answer came")? == 0 {
                bail!("the platform closed the connection in the middle of an answer");
            }
        }
    }
}

/// Status and place of the body, once all of it is there.
fn read(received: &[u8]) -> anyhow::Result<Option<(u16, Range<usize>)>> {
    let Some(end) = received.windows(HEAD_END.len()).position(|it| it == HEAD_END) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(received.get(..end).unwrap_or_default());
    let mut lines = head.context("an answer has an unreadable head")?.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|it| it.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else {
        bail!("an answer has no status or no length: {}", String::from_utf8_lossy(received));
    };
    let begin = end.saturating_add(HEAD_END.len());
    let end = begin.saturating_add(length);
    Ok((received.len() >= end).then_some((status, begin..end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";

    #[test]
    fn an_answer_is_whole_when_its_last_byte_is_there() {
        for end in 0..WHOLE.len() {
            assert_eq!(read(&WHOLE[..end]).unwrap(), None, "{end}");
        }
        let (status, body) = read(WHOLE).unwrap().unwrap();
        assert_eq!((status, &WHOLE[body]), (200, b"{}".as_slice()));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bad in ["HTTP/1.1 200 OK\r\n\r\n", "FTP\r\ncontent-length: 0\r\n\r\n"] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
