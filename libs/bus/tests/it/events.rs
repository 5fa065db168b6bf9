//! The outbox, its relay, and those who listen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, jetstream};
use bus::listen::Heard;
use bus::outbox::{self, Event, Wake};
use primitives::{EventId, Timestamp};
use prost::Message;
use proto_events::common::v1::Envelope;
use proto_events::subjects::{EVT, keys::KEY_REVOKED};
use sqlx::PgPool;
use testkit::{Database, eventually};
use uuid::Uuid;

use crate::world::{BOUND, Running, Server, World, database, expect_state};

const ORIGIN: &str = "keys";

fn event(text: &str) -> Event {
    Event {
        id: EventId::generate(),
        subject: KEY_REVOKED,
        payload: text.as_bytes().to_vec(),
        occurred_at: Timestamp::now(),
        cause: Some(Uuid::from_u128(7)),
    }
}

async fn enqueue(database: &Database, events: &[Event]) {
    let mut tx = database.pool.begin().await.unwrap();
    outbox::enqueue(&mut tx, ORIGIN, events).await.unwrap();
    tx.commit().await.unwrap();
}

async fn relay(database: &Database, client: Client, wake: Wake) -> Running {
    let pool = PgPool::connect(&database.url).await.unwrap();
    Running::spawn(|shutdown| async move {
        outbox::relay(pool, ORIGIN, client, wake, shutdown).await.unwrap();
    })
}

/// Everything in the stream of events, in its order.
async fn published(js: &jetstream::Context) -> Vec<Envelope> {
    let stream = js.get_stream(EVT.name).await.unwrap();
    let state = stream.cached_info().state.clone();
    let mut envelopes = Vec::new();
    for sequence in 1..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!(message.subject.as_str(), KEY_REVOKED);
        envelopes.push(Envelope::decode(message.payload).unwrap());
    }
    envelopes
}

fn texts(envelopes: &[Envelope]) -> Vec<String> {
    envelopes.iter().map(|it| String::from_utf8(it.payload.to_vec()).unwrap()).collect()
}

async fn expect_published(js: &jetstream::Context, expected: &[&str]) -> Vec<Envelope> {
    eventually(&format!("events {expected:?}"), BOUND, async || {
        let seen = published(js).await;
        if texts(&seen) == expected { Ok(seen) } else { Err(format!("{:?}", texts(&seen))) }
    })
    .await
}

/// Waits until the outbox knows of `n` events where the stream put them.
async fn expect_marked(database: &Database, n: i64) {
    eventually(&format!("{n} events that are marked as published"), BOUND, async || {
        let seen: i64 = sqlx::query_scalar("select count(stream_sequence) from bus.outbox")
            .fetch_one(&database.pool)
            .await
            .unwrap();
        if seen == n { Ok(()) } else { Err(format!("{seen}")) }
    })
    .await;
}

#[tokio::test]
async fn an_event_is_published_once_in_order_and_only_if_it_became_true() {
    let world = World::new().await;
    let wake = Wake::default();
    let relaying = relay(&world.database, world.client.clone(), wake.clone()).await;
    let first = event("first");
    enqueue(&world.database, &[first.clone(), event("second")]).await;
    let mut untrue = world.database.pool.begin().await.unwrap();
    outbox::enqueue(&mut untrue, ORIGIN, &[event("untrue")]).await.unwrap();
    untrue.rollback().await.unwrap();
    // Enqueued again, as by a command that is read again.
    enqueue(&world.database, &[first.clone(), event("third")]).await;
    wake.wake();
    let envelopes = expect_published(&world.js(), &["first", "second", "third"]).await;
    assert_eq!(envelopes[0].event_id.as_ref(), first.id.uuid().as_bytes());
    assert_eq!(envelopes[0].origin, ORIGIN);
    assert_eq!(envelopes[0].occurred_at_us, first.occurred_at.micros());
    assert_eq!(envelopes[0].cause_id.as_ref(), Uuid::from_u128(7).as_bytes());

    // The relay stopped between the stream's acknowledgement and its own note of it.
    expect_marked(&world.database, 3).await;
    relaying.kill().await;
    sqlx::raw_sql(
        "update bus.outbox
         set published_at = null, stream_created_at = null, stream_sequence = null",
    )
    .execute(&world.database.pool)
    .await
    .unwrap();
    let relaying = relay(&world.database, world.client.clone(), wake.clone()).await;
    let other = relay(&world.database, world.client.clone(), wake.clone()).await;
    expect_marked(&world.database, 3).await;
    enqueue(&world.database, &[event("fourth")]).await;
    expect_published(&world.js(), &["first", "second", "third", "fourth"]).await;
    relaying.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_woken_relay_does_not_wait_for_its_next_look() {
    let world = World::new().await;
    let wake = Wake::default();
    let relaying = relay(&world.database, world.client.clone(), wake.clone()).await;
    let mut n_published = 0;
    let mut quickest = BOUND;
    // Of several tries one is quick, however busy the machine is.
    while quickest > Duration::from_millis(100) && n_published < 20 {
        let started = Instant::now();
        enqueue(&world.database, &[event("now")]).await;
        wake.wake();
        n_published += 1;
        expect_marked(&world.database, n_published).await;
        quickest = quickest.min(started.elapsed());
    }
    assert!(quickest <= Duration::from_millis(100), "{quickest:?}");
    relaying.stop().await;
}

#[tokio::test]
async fn events_are_published_again_into_a_stream_that_was_wiped() {
    let world = World::new().await;
    let relaying = relay(&world.database, world.client.clone(), Wake::default()).await;
    enqueue(&world.database, &[event("a"), event("b")]).await;
    expect_published(&world.js(), &["a", "b"]).await;
    expect_marked(&world.database, 2).await;
    world.js().delete_stream(EVT.name).await.unwrap();
    bus::streams::ensure(&world.js()).await.unwrap();
    enqueue(&world.database, &[event("c")]).await;
    let again = eventually("every event again", BOUND, async || {
        let seen = texts(&published(&world.js()).await);
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        if sorted == ["a", "b", "c"] { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .await;
    // "c" may have gone out before the wipe was noticed, and then goes out once more at most.
    assert!(again.len() <= 4, "{again:?}");
    relaying.stop().await;
}

#[tokio::test]
async fn only_a_lost_tail_is_published_again() {
    let (database, mut server) = (database().await, Server::start().await);
    let client = server.client().await;
    let js = jetstream::new(client.clone());
    let relaying = relay(&database, client.clone(), Wake::default()).await;
    enqueue(&database, &["a", "b", "c", "d"].map(event)).await;
    expect_published(&js, &["a", "b", "c", "d"]).await;
    expect_marked(&database, 4).await;
    server.stop().await;
    server.save();
    server.start_again().await;
    expect_state(&client, State::Connected).await;
    enqueue(&database, &["e", "f"].map(event)).await;
    expect_published(&js, &["a", "b", "c", "d", "e", "f"]).await;
    expect_marked(&database, 6).await;
    relaying.stop().await;

    server.stop().await;
    server.restore();
    server.start_again().await;
    expect_state(&client, State::Connected).await;
    // The tail has grown again, so that only the events themselves tell.
    for n in 0..3 {
        let stranger = Envelope { payload: format!("stranger {n}").into(), ..Envelope::default() };
        js.publish(KEY_REVOKED, stranger.encode_to_vec().into()).await.unwrap().await.unwrap();
    }
    let relaying = relay(&database, client, Wake::default()).await;
    let seen = eventually("the lost events", BOUND, async || {
        let seen = texts(&published(&js).await);
        if seen.ends_with(&["e".to_owned(), "f".to_owned()]) {
            Ok(seen)
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in &seen {
        *counts.entry(text).or_default() += 1;
    }
    assert!(counts.values().all(|n| *n == 1), "{seen:?}");
    relaying.stop().await;
}

#[tokio::test]
async fn published_events_are_kept_for_days_and_then_forgotten() {
    let world = World::new().await;
    let relaying = relay(&world.database, world.client.clone(), Wake::default()).await;
    enqueue(&world.database, &["a", "b", "c"].map(event)).await;
    expect_marked(&world.database, 3).await;
    relaying.stop().await;
    sqlx::raw_sql(
        "update bus.outbox set published_at = now() - interval '73 hours' where stream_sequence <= 2",
    )
    .execute(&world.database.pool)
    .await
    .unwrap();
    let relaying = relay(&world.database, world.client.clone(), Wake::default()).await;
    expect_marked(&world.database, 1).await;
    relaying.stop().await;
}

#[tokio::test]
async fn an_event_that_nats_would_not_carry_is_refused() {
    let database = database().await;
    let mut tx = database.pool.begin().await.unwrap();
    let large = Event { payload: vec![0; outbox::EVENT_BYTES_MAX + 1], ..event("") };
    let refused = outbox::enqueue(&mut tx, ORIGIN, &[large]).await;
    assert!(matches!(refused, Err(outbox::Error::TooLarge { .. })), "{refused:?}");
    let refused = sqlx::query_scalar::<_, i64>(
        "insert into bus.outbox (origin, event_id, subject, payload, occurred_at, enqueued_at)
         values ('keys', gen_random_uuid(), 'evt.x', convert_to(repeat('x', 1000001), 'UTF8'), now(), now())
         returning 1::bigint",
    )
    .fetch_one(&mut *tx)
    .await
    .unwrap_err();
    assert!(refused.to_string().contains("outbox_payload_fits"), "{refused}");
    tx.rollback().await.unwrap();

    let largest = Event { payload: vec![0; outbox::EVENT_BYTES_MAX], ..event("") };
    enqueue(&database, &[largest]).await;
    let nats = testkit::nats().await;
    let relaying = relay(&database, nats.client().await, Wake::default()).await;
    expect_marked(&database, 1).await;
    relaying.stop().await;
}

#[tokio::test]
async fn a_listener_hears_what_happens_and_where_it_missed_something() {
    let world = World::new().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (client, ears) = (world.client.clone(), heard.clone());
    let listening = Running::spawn(|shutdown| async move {
        let hear = move |it| ears.lock().unwrap().push(it);
        bus::listen::listen(client, KEY_REVOKED, shutdown, hear).await;
    });
    let said = || -> Vec<String> {
        let text = |it: &Heard| match it {
            Heard::Gap => "gap".to_owned(),
            Heard::Event(envelope) => String::from_utf8(envelope.payload.to_vec()).unwrap(),
        };
        heard.lock().unwrap().iter().map(text).collect()
    };
    let expect = async |expected: &[&str]| {
        eventually(&format!("{expected:?}"), BOUND, async || {
            let seen = said();
            if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    };
    expect(&["gap"]).await;
    let relaying = relay(&world.database, world.client.clone(), Wake::default()).await;
    enqueue(&world.database, &[event("a")]).await;
    expect(&["gap", "a"]).await;
    relaying.stop().await;

    world.js().delete_stream(EVT.name).await.unwrap();
    bus::streams::ensure(&world.js()).await.unwrap();
    expect(&["gap", "a", "gap"]).await;
    let relaying = relay(&world.database, world.client.clone(), Wake::default()).await;
    // What was published before comes again; a listener of a cache does not mind.
    expect(&["gap", "a", "gap", "a"]).await;
    relaying.stop().await;
    listening.stop().await;
}
