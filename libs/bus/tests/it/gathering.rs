//! Many callers' items in few messages, and queries answered many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bus::answer::{Failure, serve_batches};
use bus::ask::{Asker, Error, Gather, Limits};
use bus::follow::{Answer, Delivery, HandleError, Handler};
use bytes::Bytes;
use futures_util::future::join_all;
use primitives::Timestamp;
use prost::Message;
use proto_events::ledger::v1::{GetBalance, GetBalances};
use proto_events::subjects::REQUESTS;
use sqlx::PgConnection;
use testkit::eventually;

use crate::world::{BOUND, Door, Running, SUBJECT, World};

const SOON: Duration = Duration::from_millis(300);
const QUERY: &str = REQUESTS[0];
const LIMITS: Limits = Limits { items_max: 100, in_flight_max: 2, waiting_max: 1_000 };

type Gathered = Gather<GetBalance, GetBalance>;

/// What [`serve`] is asked first.
const FIRST: GetBalance = GetBalance { account_id: Bytes::from_static(b"first"), at_us: 0 };

fn item(n: usize) -> GetBalance {
    GetBalance { account_id: n.to_string().into(), ..GetBalance::default() }
}

fn join(balances: Vec<GetBalance>) -> GetBalances {
    GetBalances { balances }
}

fn split(answer: GetBalances) -> Vec<GetBalance> {
    answer.balances
}

fn commands(world: &World, limits: Limits) -> Gathered {
    Gather::commands(&Asker::new(world.client.clone()), SUBJECT, limits, join, split)
}

fn queries(world: &World, limits: Limits) -> Gathered {
    Gather::queries(&Asker::new(world.client.clone()), QUERY, limits, join, split)
}

/// Answers each command with what it asked, and counts.
#[derive(Clone, Default)]
struct Echo {
    n_messages: Arc<AtomicUsize>,
    n_items: Arc<AtomicUsize>,
    /// Answers with one item fewer.
    is_short: bool,
}

impl Handler for Echo {
    async fn handle(
        &mut self,
        _: &mut PgConnection,
        batch: &[Delivery],
        _: Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        let answer = |delivery: &Delivery| {
            let mut asked = GetBalances::decode(delivery.payload.clone()).unwrap();
            self.n_messages.fetch_add(1, Ordering::Relaxed);
            self.n_items.fetch_add(asked.balances.len(), Ordering::Relaxed);
            if self.is_short {
                asked.balances.pop();
            }
            Answer::Reply(asked.encode_to_vec())
        };
        Ok(batch.iter().map(answer).collect())
    }
}

#[tokio::test]
async fn many_callers_share_few_commands_and_each_gets_the_own_answer() {
    let world = World::new().await;
    let echo = Echo::default();
    let reader = world.read("gathers", echo.clone()).await;
    let gather = commands(&world, LIMITS);
    let asked = join_all((0..500).map(|n| gather.ask(item(n), BOUND))).await;
    for (n, told) in asked.into_iter().enumerate() {
        assert_eq!(told.unwrap(), item(n));
    }
    assert_eq!(echo.n_items.load(Ordering::Relaxed), 500);
    let n_messages = echo.n_messages.load(Ordering::Relaxed);
    assert!(n_messages <= 10, "{n_messages} messages for 500 callers");
    reader.stop().await;
}

#[tokio::test]
async fn a_caller_alone_waits_for_nobody() {
    let world = World::new().await;
    let reader = world.read("alone", Echo::default()).await;
    let gather = commands(&world, LIMITS);
    for n in 0..5 {
        assert_eq!(gather.ask(item(n), BOUND).await.unwrap(), item(n));
    }
    reader.stop().await;
}

#[tokio::test]
async fn each_caller_has_a_deadline_of_its_own() {
    let world = World::new().await;
    let gather = commands(&world, LIMITS);
    let started = Instant::now();
    let hasty = async {
        let hasty = gather.ask(item(1), SOON).await;
        assert!(matches!(hasty, Err(Error::Unknown)), "it may have been taken: {hasty:?}");
        assert!(started.elapsed() >= SOON, "it waits as long as it says");
        // Only now does anybody read; both were in one message.
        world.read("deadlines", Echo::default()).await
    };
    let (patient, reader) = tokio::join!(gather.ask(item(2), BOUND), hasty);
    assert_eq!(patient.unwrap(), item(2));
    reader.stop().await;
}

#[tokio::test]
async fn what_never_left_is_unavailable_and_never_done() {
    let world = World::new().await;
    let limits = Limits { items_max: 1, in_flight_max: 1, waiting_max: 1 };
    let gather = commands(&world, limits);
    let echo = Echo::default();
    let first = gather.ask(item(1), BOUND);
    let others = async {
        // The first one is under way when its command is in the stream.
        eventually("a command in the stream", BOUND, async || {
            let stream = world.js().get_stream(crate::world::STREAM.name).await.unwrap();
            match stream.cached_info().state.last_sequence {
                1 => Ok(()),
                n => Err(format!("{n} commands")),
            }
        })
        .await;
        let (waits, refused) = tokio::join!(gather.ask(item(2), SOON), gather.ask(item(3), BOUND));
        assert!(matches!(waits, Err(Error::Unavailable { .. })), "{waits:?}");
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        world.read("left", echo.clone()).await
    };
    let (told, reader) = tokio::join!(first, others);
    assert_eq!(told.unwrap(), item(1));
    assert_eq!(gather.ask(item(4), BOUND).await.unwrap(), item(4));
    assert_eq!(echo.n_items.load(Ordering::Relaxed), 2, "what was given up did not leave later");
    reader.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_disturbs_nobody() {
    let world = World::new().await;
    let reader = world.read("goes", Echo::default()).await;
    let gather = commands(&world, LIMITS);
    let asked = (0..100).map(|n| {
        let gather = &gather;
        async move {
            let asking = gather.ask(item(n), BOUND);
            if n % 3 == 0 {
                tokio::select! {
                    biased;
                    _ = asking => unreachable!("it was only begun"),
                    () = std::future::ready(()) => None,
                }
            } else {
                Some(asking.await.unwrap())
            }
        }
    });
    for (n, told) in join_all(asked).await.into_iter().enumerate() {
        assert_eq!(told, (n % 3 != 0).then(|| item(n)));
    }
    reader.stop().await;
}

#[tokio::test]
async fn a_refusal_is_every_callers() {
    let world = World::new().await;
    world.js().delete_stream(crate::world::STREAM.name).await.unwrap();
    let gather = commands(&world, LIMITS);
    let started = Instant::now();
    for refused in join_all((0..10).map(|n| gather.ask(item(n), BOUND))).await {
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    }
    let unserved = queries(&world, LIMITS).ask(item(1), BOUND).await;
    assert!(matches!(unserved, Err(Error::Unavailable { .. })), "{unserved:?}");
    assert!(started.elapsed() < BOUND / 2, "it is said at once");
}

#[tokio::test]
async fn an_answer_for_fewer_than_asked_is_nobodys() {
    let world = World::new().await;
    let reader = world.read("short", Echo { is_short: true, ..Echo::default() }).await;
    let gather = commands(&world, LIMITS);
    for told in join_all((0..10).map(|n| gather.ask(item(n), BOUND))).await {
        assert!(matches!(told, Err(Error::Undecodable(_))), "{told:?}");
    }
    reader.stop().await;
}

/// Serves queries in batches: echoes, and lets `door` be passed first, if there is one.
async fn serve(
    world: &World,
    batch_max: usize,
    door: Option<Door>,
    n_calls: &Arc<AtomicUsize>,
) -> Running {
    let (client, counted) = (world.client.clone(), n_calls.clone());
    let handler = move |queries: Vec<Bytes>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let is_first = queries.iter().all(|it| *it == join(vec![FIRST]).encode_to_vec());
        let door = door.clone().filter(|_| !is_first);
        async move {
            if let Some(door) = door {
                door.pass().await;
            }
            queries.into_iter().map(echo).collect()
        }
    };
    let serving = Running::spawn(|shutdown| async move {
        serve_batches(client, QUERY, "test", shutdown, batch_max, handler).await.unwrap();
    });
    let asker = Asker::new(world.client.clone());
    eventually("somebody who serves", BOUND, async || {
        let asked = asker.query::<GetBalances>(QUERY, &join(vec![FIRST]), BOUND).await;
        asked.map_err(|error| format!("{error:?}"))
    })
    .await;
    n_calls.store(0, Ordering::Relaxed);
    serving
}

fn echo(query: Bytes) -> Result<Vec<u8>, Failure> {
    let asked = GetBalances::decode(query.clone()).map_err(Failure::new)?;
    match asked.balances.first() {
        Some(it) if *it == item(13) => Err(Failure::new("thirteen")),
        _ => Ok(query.to_vec()),
    }
}

async fn ask(asker: &Asker, n: usize) -> Result<GetBalances, Error> {
    asker.query(QUERY, &join(vec![item(n)]), BOUND).await
}

#[tokio::test]
async fn queries_are_answered_many_at_a_time() {
    let world = World::new().await;
    let n_calls = Arc::default();
    let serving = serve(&world, 100, None, &n_calls).await;
    let asker = Asker::new(world.client.clone());
    for (n, told) in join_all((0..500).map(|n| ask(&asker, n))).await.into_iter().enumerate() {
        match told {
            Ok(told) => assert_eq!(told, join(vec![item(n)])),
            Err(error) => {
                assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
                assert_eq!(n, 13, "one failure is nobody else's: {error}");
            }
        }
    }
    let n_calls = n_calls.load(Ordering::Relaxed);
    assert!((5..100).contains(&n_calls), "{n_calls} calls for 500 queries");
    serving.stop().await;
}

#[tokio::test]
async fn gathered_queries_are_answered_in_batches() {
    let world = World::new().await;
    let serving = serve(&world, 100, None, &Arc::default()).await;
    let gather = queries(&world, LIMITS);
    let asked = join_all((100..600).map(|n| gather.ask(item(n), BOUND))).await;
    for (n, told) in (100..).zip(asked) {
        assert_eq!(told.unwrap(), item(n));
    }
    serving.stop().await;
}

#[tokio::test]
async fn queries_that_are_too_many_are_refused_at_once() {
    let world = World::new().await;
    let (door, n_calls) = (Door::closed(), Arc::default());
    let serving = serve(&world, 1, Some(door.clone()), &n_calls).await;
    let asker = Asker::new(world.client.clone());
    let n_refused = AtomicUsize::new(0);
    let asked = join_all((20..40).map(async |n| {
        let told = ask(&asker, n).await;
        if told.is_err() {
            n_refused.fetch_add(1, Ordering::Relaxed);
        }
        told.is_ok()
    }));
    // Two are worked on and eight wait; the others are told before anybody is answered.
    let opened = async {
        eventually("ten that are refused", BOUND, async || {
            match n_refused.load(Ordering::Relaxed) {
                10 => Ok(()),
                n => Err(format!("{n} are refused")),
            }
        })
        .await;
        door.open();
    };
    let (told, ()) = tokio::join!(asked, opened);
    assert_eq!(told.into_iter().filter(|it| *it).count(), 10, "who waited is answered");
    assert_eq!(n_calls.load(Ordering::Relaxed), 10);
    serving.stop().await;
}

#[tokio::test]
async fn a_panic_of_a_batch_stops_the_loop() {
    let world = World::new().await;
    let client = world.client.clone();
    let serving = Running::spawn(|shutdown| async move {
        let handler = |queries: Vec<Bytes>| async move {
            assert!(queries.iter().all(Bytes::is_empty), "it panics");
            queries.into_iter().map(|it| Ok(it.to_vec())).collect()
        };
        serve_batches(client, QUERY, "test", shutdown, 10, handler).await.unwrap();
    });
    let asker = Asker::new(world.client.clone());
    let asking = async {
        eventually("somebody who serves", BOUND, async || {
            let asked = asker.query::<GetBalances>(QUERY, &join(Vec::new()), BOUND).await;
            asked.map_err(|error| format!("{error:?}"))
        })
        .await;
        let dropped = asker.query::<GetBalances>(QUERY, &join(vec![item(1)]), SOON).await;
        assert!(matches!(dropped, Err(Error::Unavailable { .. })), "{dropped:?}");
    };
    tokio::join!(asking, serving.expect_panic());
}
