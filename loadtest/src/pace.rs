//! Load over HTTP: closed loops, which ask again when they are answered, and an open one, whose
//! arrivals do not wait for answers.
//!
//! It runs on one thread of its own, so that it takes as little as it can from the platform.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc;

use crate::figures::Latencies;
use crate::http::{Answer, Connection};
use crate::plan::BULK;

/// The open loop's connections: as many as there may ever be under way.
pub(crate) const OPEN_CONNECTIONS: usize = 256;
const AMOUNT_MINOR_MAX: u64 = 100;
/// Arrivals that may wait for a free connection before the platform counts as down.
pub(crate) const OPEN_QUEUE: usize = 100_000;

/// Who asks: a wallet and a key that may read it and pay from it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) api_key: String,
    pub(crate) wallet_number: String,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `POST /wallet/transfer`.
    Transfer,
    /// `GET /wallet/balance`.
    Balance,
    /// `POST /wallet/transfers/batch`.
    Bulk,
}

/// A load.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) callers: Arc<[Caller]>,
    pub(crate) ask: Ask,
    /// Different in every load of a bench: no idempotency key comes twice.
    pub(crate) number: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Answers a second; of bulk requests, transfers.
    pub(crate) per_second: f64,
    pub(crate) latencies: Latencies,
}

impl Load {
    /// Asks again on each connection as soon as it is answered. The first seconds do not count.
    pub(crate) async fn closed(
        self,
        n_connections: usize,
        settle: Duration,
        lasting: Duration,
    ) -> anyhow::Result<Measured> {
        let tally = Tally::new();
        let counted = tally.clone();
        alone(async move {
            let mut connections = self.connect(n_connections).await?;
            let from = Instant::now() + settle;
            let until = from + lasting;
            let loops = connections.iter_mut().enumerate().map(|(n, connection)| {
                let (requests, tally) = (self.requests(n), tally.clone());
                again_and_again(connection, requests, (from, until), tally)
            });
            futures_util::future::try_join_all(loops).await
        })
        .await?;
        Ok(counted.measured(lasting))
    }

    /// Lets requests arrive at fixed moments, whether the platform keeps up or not; an answer's
    /// time counts from the moment its request should have begun.
    pub(crate) async fn open(self, per_second: u32, lasting: Duration) -> anyhow::Result<Measured> {
        let tally = Tally::new();
        let counted = tally.clone();
        let (sender, arrivals) = mpsc::channel(OPEN_QUEUE);
        let ran = alone(async move {
            let mut connections = self.connect(OPEN_CONNECTIONS).await?;
            let clock = std::thread::spawn(move || arrive(&sender, per_second, lasting));
            let arrivals = tokio::sync::Mutex::new(arrivals);
            let loops = connections.iter_mut().enumerate().map(|(n, connection)| {
                as_they_come(connection, self.requests(n), &arrivals, tally.clone())
            });
            futures_util::future::try_join_all(loops).await?;
            let kept_up = clock.join().unwrap_or(false);
            ensure!(kept_up, "more than {OPEN_QUEUE} requests waited: the platform is down");
            Ok(())
        });
        ran.await?;
        Ok(counted.measured(lasting))
    }

    async fn connect(&self, n: usize) -> anyhow::Result<Vec<Connection>> {
        futures_util::future::try_join_all((0..n).map(|_| Connection::open(self.address))).await
    }

    fn requests(&self, n: usize) -> Requests {
        let seed = self.number.wrapping_mul(1_000).wrapping_add(u64::try_from(n).unwrap_or(0));
        Requests {
            load: self.clone(),
            rng: StdRng::seed_from_u64(seed),
            n_connection: n,
            n_written: 0,
            body: String::new(),
        }
    }
}

/// Runs on a thread and a runtime of its own.
pub(crate) async fn alone<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("a runtime for the load cannot be made")?;
    let ran = tokio::task::spawn_blocking(move || runtime.block_on(work));
    ran.await.context("the load has panicked")?
}

async fn again_and_again(
    connection: &mut Connection,
    mut requests: Requests,
    (from, until): (Instant, Instant),
    tally: Tally,
) -> anyhow::Result<()> {
    let mut request = Vec::new();
    loop {
        requests.write(&mut request);
        let begun = Instant::now();
        if begun >= until {
            return Ok(());
        }
        let n = requests.accept(connection.ask(&request).await?)?;
        let answered = Instant::now();
        if answered >= from && answered < until {
            tally.count(n, answered.duration_since(begun));
        }
    }
}

async fn as_they_come(
    connection: &mut Connection,
    mut requests: Requests,
    arrivals: &tokio::sync::Mutex<mpsc::Receiver<Instant>>,
    tally: Tally,
) -> anyhow::Result<()> {
    let mut request = Vec::new();
    loop {
        requests.write(&mut request);
        // One free connection waits for the next arrival, the others for their turn.
        let Some(due) = arrivals.lock().await.recv().await else { return Ok(()) };
        let n = requests.accept(connection.ask(&request).await?)?;
        tally.count(n, due.elapsed());
    }
}

/// Says when requests arrive, by a clock that no answer can hold up; false if nobody took them.
pub(crate) fn arrive(arrivals: &mpsc::Sender<Instant>, per_second: u32, lasting: Duration) -> bool {
    let began = Instant::now();
    let n_arrivals = u64::from(per_second).saturating_mul(lasting.as_secs());
    for n in 0..n_arrivals {
        let due =
            began + Duration::from_micros(n.saturating_mul(1_000_000) / u64::from(per_second));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if arrivals.try_send(due).is_err() {
            return false;
        }
    }
    true
}

/// The answers so far. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
struct Tally(Arc<Mutex<(u32, Latencies)>>);

impl Tally {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((0, Latencies::new()))))
    }

    fn count(&self, n: u32, took: Duration) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tally.0 = tally.0.saturating_add(n);
        tally.1.add(took);
    }

    fn measured(&self, lasting: Duration) -> Measured {
        let (n, latencies) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Measured { per_second: f64::from(n) / lasting.as_secs_f64(), latencies }
    }
}

/// Writes requests without end.
struct Requests {
    load: Load,
    rng: StdRng,
    n_connection: usize,
    n_written: u64,
    body: String,
}

impl Requests {
    /// Writes the next request over the one before.
    fn write(&mut self, request: &mut Vec<u8>) {
        use std::fmt::Write as _;
        request.clear();
        self.n_written = self.n_written.wrapping_add(1);
        let callers = Arc::clone(&self.load.callers);
        let payer = self.rng.random_range(0..callers.len());
        let Some(caller) = callers.get(payer) else { return };
        self.body.clear();
        let path = match self.load.ask {
            Ask::Balance => "GET /wallet/balance",
            Ask::Transfer => {
                let item = self.item(&callers, payer);
                self.body.push_str(&item);
                "POST /wallet/transfer"
            }
            Ask::Bulk => {
                let items: Vec<_> = (0..BULK).map(|_| self.item(&callers, payer)).collect();
                write!(self.body, "{{\"transfers\":[{}],\"atomic\":false}}", items.join(",")).ok();
                "POST /wallet/transfers/batch"
            }
        };
        let head =
            write!(request, "{path} HTTP/1.1\r\nhost: bench\r\nx-api-key: {}\r\n", caller.api_key);
        let rest = if self.load.ask == Ask::Balance {
            write!(request, "\r\n")
        } else {
            write!(
                request,
                "idempotency-key: bench-{}-{}-{}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{}",
                self.load.number,
                self.n_connection,
                self.n_written,
                self.body.len(),
                self.body
            )
        };
        head.and(rest).unwrap_or_else(|_| unreachable!("memory takes every byte"));
    }

    /// How many good answers this is; anything but the one answer that is promised is an error.
    fn accept(&self, answer: Answer<'_>) -> anyhow::Result<u32> {
        let shown = || String::from_utf8_lossy(answer.body).into_owned();
        ensure!(
            answer.status == 200,
            "{:?} was answered {}: {}",
            self.load.ask,
            answer.status,
            shown()
        );
        let wanted = match self.load.ask {
            Ask::Balance => return Ok(1),
            Ask::Transfer => 1,
            Ask::Bulk => BULK,
        };
        let n = successes(answer.body);
        ensure!(n == wanted, "of {wanted} transfers {n} were a success: {}", shown());
        Ok(u32::try_from(n)?)
    }

    /// A transfer to anybody but the payer, as the contract writes it.
    fn item(&mut self, callers: &[Caller], payer: usize) -> String {
        let other = self.rng.random_range(0..callers.len().saturating_sub(1));
        let other = if other < payer { other } else { other.saturating_add(1) };
        let number = callers.get(other).map_or("", |it| it.wallet_number.as_str());
        let amount = self.rng.random_range(1..=AMOUNT_MINOR_MAX);
        format!("{{\"recipient_wallet_number\":\"{number}\",\"amount\":{amount}}}")
    }
}

/// How often a body says that a transfer was a success.
fn successes(body: &[u8]) -> usize {
    const SAID: &[u8] = br#""status":"success""#;
    body.windows(SAID.len()).filter(|it| *it == SAID).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(ask: Ask) -> Requests {
        let caller = |n| Caller { api_key: format!("key{n}"), wallet_number: format!("number{n}") };
        let callers: Arc<[Caller]> = (0..3).map(caller).collect();
        let address = "127.0.0.1:1".parse().unwrap();
        Load { address, callers, ask, number: 7 }.requests(0)
    }

    fn written(requests: &mut Requests) -> String {
        let mut request = Vec::new();
        requests.write(&mut request);
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn every_request_has_a_key_of_its_own() {
        let mut requests = requests(Ask::Transfer);
        let mut keys = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let request = written(&mut requests);
            let key = request.lines().find(|line| line.starts_with("idempotency-key: "));
            assert!(keys.insert(key.unwrap().to_owned()), "{request}");
        }
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        for ask in [Ask::Transfer, Ask::Bulk] {
            let request = written(&mut requests(ask));
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())), "{request}");
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let n_items = body["transfers"].as_array().map_or(1, Vec::len);
            assert_eq!(n_items, if ask == Ask::Bulk { BULK } else { 1 });
        }
        let request = written(&mut requests(Ask::Balance));
        assert!(request.starts_with("GET ") && request.ends_with("\r\n\r\n"), "{request}");
    }

    #[test]
    fn anything_but_success_is_an_error() {
        let requests = requests(Ask::Transfer);
        let said = |status, body: &str| {
            requests.accept(Answer { status, body: body.as_bytes() }).map_err(|it| it.to_string())
        };
        assert_eq!(said(200, r#"{"status":"success"}"#), Ok(1));
        assert!(said(200, r#"{"status":"failed"}"#).is_err());
        assert!(said(202, r#"{"status":"pending"}"#).unwrap_err().contains("202"));
    }

    #[test]
    fn a_clock_says_every_arrival_in_time() {
        let (sender, mut arrivals) = mpsc::channel(10_000);
        let began = Instant::now();
        assert!(arrive(&sender, 1_000, Duration::from_secs(1)));
        assert!(began.elapsed() >= Duration::from_millis(999));
        let mut due = Vec::new();
        while let Ok(at) = arrivals.try_recv() {
            due.push(at);
        }
        assert_eq!(due.len(), 1_000);
        assert!(due.is_sorted());
    }
}
