//! What one message costs on its way through the bus: `cargo bench -p bus`, or with
//! `-- follow commands queries` only some of it.
//!
//! Everything of ours runs on one thread, Postgres and nats-server are programs of their own, and
//! the handler does nothing: what is left is the bus itself. Watch the processor time a message,
//! which other work on the machine changes least.
#![expect(clippy::print_stdout, reason = "its output is for whoever runs it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap, jetstream};
use bus::answer;
use bus::ask::{Asker, Gather, Limits};
use bus::follow::{Answer, BATCH_BYTES_MAX, Delivery, Follow, HandleError, Handler, SILENCE_MAX};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use proto_events::ledger::v1::{GetBalance, GetBalances};
use proto_events::subjects::{self, Stream};
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const STREAM: Stream = subjects::CMD_KEYS;
const SUBJECT: &str = subjects::keys::REVOKE_KEY;
const ONE_BY_ONE: &str = subjects::keys::VERIFY_KEY;
const IN_BATCHES: &str = subjects::ledger::GET_BALANCES;
/// Messages in the stream before it is drained.
const DRAINED: usize = 200_000;
/// Commands and queries asked of each kind.
const ASKED: usize = 50_000;
/// Of those at once.
const ASKERS: usize = 256;
/// Nothing here takes as long.
const WAIT: Duration = Duration::from_secs(30);
/// About the size of a transfer's command, and of its outcome.
const COMMAND_BYTES: usize = 150;
const OUTCOME_BYTES: usize = 40;

/// Answers each message, and counts.
struct Nothing {
    counts: watch::Sender<Counts>,
    /// With what was asked, or with a few bytes.
    echoes: bool,
}

/// What a handler has seen.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    messages: usize,
    batches: usize,
}

impl Handler for Nothing {
    async fn handle(
        &mut self,
        _: &mut PgConnection,
        batch: &[Delivery],
        _: primitives::Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        self.counts.send_modify(|it| {
            it.messages = it.messages.saturating_add(batch.len());
            it.batches = it.batches.saturating_add(1);
        });
        let answer = |it: &Delivery| match self.echoes {
            true => it.payload.to_vec(),
            false => vec![0; OUTCOME_BYTES],
        };
        Ok(batch.iter().map(|it| Answer::Reply(answer(it))).collect())
    }
}

/// Time that passed, and time this process was at work.
struct Clock {
    started: Instant,
    worked: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), worked: worked() }
    }

    fn print(&self, what: &str, n: usize, n_messages: usize) {
        let (passed, worked) = (self.started.elapsed(), worked().saturating_sub(self.worked));
        let float = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        println!(
            "{what:<44} {:>8.0} a second {:>6.2} µs of processor each {:>7.1} together",
            float(n) / passed.as_secs_f64(),
            worked.as_secs_f64() * 1e6 / float(n),
            float(n) / float(n_messages),
        );
    }
}

/// User and system time of this process so far; zero where there is no `/proc`.
fn worked() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th after it.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks.saturating_mul(10))
}

async fn purge(client: &Client) {
    let stream = jetstream::new(client.clone()).get_stream(STREAM.name).await;
    stream.expect("it is there").purge().await.expect("it can be purged");
}

async fn fill(client: &Client, bytes: usize) {
    let js = jetstream::new(client.clone());
    let inbox = client.new_inbox();
    stream::iter(0..DRAINED)
        .map(|n| {
            let mut headers = HeaderMap::new();
            headers.insert("Wallet-Reply", format!("{inbox}.{n}"));
            headers.insert(async_nats::header::NATS_MESSAGE_ID, format!("{inbox}.{n}"));
            let js = &js;
            async move {
                let body = vec![0x0a; bytes].into();
                let sent = js.publish_with_headers(SUBJECT, headers, body).await;
                sent.expect("the stream is there").await.expect("the stream has room");
            }
        })
        .buffer_unordered(2_000)
        .collect::<()>()
        .await;
}

/// A reader of its own, until `stop`.
async fn read(
    url: &str,
    client: Client,
    reader: &'static str,
    batch_max: usize,
    stop: CancellationToken,
    handler: Nothing,
) {
    let pool = PgPool::connect(url).await.expect("postgres is there");
    let follow = Follow {
        reader,
        stream: STREAM,
        filter: None,
        batch_max,
        batch_bytes_max: BATCH_BYTES_MAX,
        silence_max: SILENCE_MAX,
    };
    bus::follow::run(follow, pool, client, stop, handler).await.expect("it makes sense");
}

/// A full stream, through a reader.
async fn drain(url: &str, client: &Client, reader: &'static str, batch_max: usize) {
    let (counts, mut watched) = watch::channel(Counts::default());
    let stop = CancellationToken::new();
    let clock = Clock::start();
    let all = async {
        watched.wait_for(|it| it.messages >= DRAINED).await.expect("the reader lives");
        stop.cancel();
    };
    let handler = Nothing { counts, echoes: false };
    tokio::join!(read(url, client.clone(), reader, batch_max, stop.clone(), handler), all);
    let n_batches = watched.borrow().batches;
    clock.print(&format!("follow: drain, batches of {batch_max}"), DRAINED, n_batches);
}

/// Something of the size of a transfer's command.
fn item() -> GetBalance {
    GetBalance { account_id: vec![0; COMMAND_BYTES].into(), ..GetBalance::default() }
}

/// Many callers at once, and the whole way of what they ask, on both sides.
async fn ask(what: &str, n_messages: impl Fn() -> usize, ask: impl AsyncFn()) {
    let (clock, before) = (Clock::start(), n_messages());
    stream::iter(0..ASKED).map(|_| ask()).buffer_unordered(ASKERS).collect::<()>().await;
    let n_messages = n_messages().saturating_sub(before);
    clock.print(&format!("{what}, {ASKERS} at once, both sides"), ASKED, n_messages);
}

async fn commands(url: &str, client: &Client) {
    let (counts, watched) = watch::channel(Counts::default());
    let stop = CancellationToken::new();
    let asker = Asker::new(client.clone());
    let limits = Limits { items_max: 100, in_flight_max: 4, waiting_max: ASKERS };
    let gather = Gather::commands(
        &asker,
        SUBJECT,
        limits,
        |balances| GetBalances { balances },
        |it: GetBalances| it.balances,
    );
    let asking = async {
        let n_messages = || watched.borrow().messages;
        ask("ask: commands", n_messages, async || {
            let asked: Result<GetBalance, _> = asker.command(SUBJECT, &item(), WAIT).await;
            asked.expect("an answer");
        })
        .await;
        ask("ask: commands gathered", n_messages, async || {
            gather.ask(item(), WAIT).await.expect("an answer");
        })
        .await;
        stop.cancel();
    };
    let handler = Nothing { counts, echoes: true };
    tokio::join!(read(url, client.clone(), "asked", 500, stop.clone(), handler), asking);
}

async fn queries(client: &Client) {
    let asker = Asker::new(client.clone());
    let limits = Limits { items_max: 100, in_flight_max: 4, waiting_max: ASKERS };
    let gather = Gather::queries(
        &asker,
        IN_BATCHES,
        limits,
        |balances| GetBalances { balances },
        |it: GetBalances| it.balances,
    );
    let (n_calls, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (counted, calls) = (n_calls.clone(), || n_calls.load(Ordering::Relaxed));
    let one = move |query: Bytes| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(query.to_vec()) }
    };
    let counted = n_calls.clone();
    let many = move |queries: Vec<Bytes>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { queries.into_iter().map(|it| Ok(it.to_vec())).collect() }
    };
    let asking = async {
        for (subject, what) in [(ONE_BY_ONE, "query"), (IN_BATCHES, "query: answered in batches")] {
            ask(what, calls, async || {
                let asked: Result<GetBalance, _> = asker.query(subject, &item(), WAIT).await;
                asked.expect("an answer");
            })
            .await;
        }
        ask("query: gathered, answered in batches", calls, async || {
            gather.ask(item(), WAIT).await.expect("an answer");
        })
        .await;
        stop.cancel();
    };
    let one = answer::serve(client.clone(), ONE_BY_ONE, "bench", stop.clone(), one);
    let many = answer::serve_batches(client.clone(), IN_BATCHES, "bench", stop.clone(), 256, many);
    let (one, many, ()) = tokio::join!(one, many, asking);
    one.and(many).expect("both end when asked to");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let migrate = async |url: &str| {
        let pool = PgPool::connect(url).await?;
        bus::MIGRATOR.run(&pool).await?;
        pool.close().await;
        Ok(())
    };
    let database = testkit::postgres().await.database("bench", migrate).await;
    let nats = testkit::nats().await;
    let client = nats.client().await;
    // Cargo adds `--bench`; what is left are the parts that are wanted.
    let parts: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|it| it == part);
    if wanted("follow") {
        for (reader, batch_max) in [("500 together", 500), ("2000 together", 2_000)] {
            purge(&client).await;
            fill(&client, COMMAND_BYTES).await;
            drain(&database.url, &client, reader, batch_max).await;
        }
        purge(&client).await;
    }
    if wanted("commands") {
        commands(&database.url, &client).await;
    }
    if wanted("queries") {
        queries(&client).await;
    }
}
