//! A reader at work: order, batches, poison, and two of the same name.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream;
use proto_events::subjects;
use sqlx::PgPool;
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use bus::follow::health::Health;
use bus::follow::{BATCH_BYTES_MAX, Error, Follow};

use crate::world::{BOUND, Door, STREAM, SUBJECT, World, Writer, follow, metric, read_as};

/// Sequence, payload, reason, headers and subject.
type Parked = (i64, Vec<u8>, String, Vec<String>, String);

#[tokio::test]
async fn every_message_has_its_effect_once_and_in_order() {
    let world = World::new().await;
    let bodies: Vec<String> = (0..35).map(|n| format!("message {n}")).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let door = Door::closed();
    let writer = Writer { door: Some(door.clone()), ..Writer::default() };
    let reader = world.read("order", writer.clone()).await;
    world.tell_all(&bodies[..1]).await;
    door.expect_somebody().await;
    world.tell_all(&bodies[1..]).await;
    door.open();
    world.expect_effects(&bodies).await;
    reader.stop().await;

    let batches = writer.batches.lock().unwrap().clone();
    assert_eq!(batches[0], 1, "nobody lingers for a fuller batch");
    assert!(batches.iter().all(|it| *it <= 10), "a batch has at most ten: {batches:?}");
    assert!(batches.len() < 20, "what arrived during a commit is one batch: {batches:?}");

    // A reader that comes later goes on where this one stopped.
    world.tell("later").await;
    let again = world.read("order", Writer::default()).await;
    world.expect_effects(&[&bodies[..], &["later"]].concat()).await;
    again.stop().await;
}

#[tokio::test]
async fn of_two_readers_each_message_is_used_by_one() {
    let world = World::new().await;
    let first = world.read("two", Writer::default()).await;
    let second = world.read("two", Writer::default()).await;
    let bodies: Vec<String> = (0..100).map(|n| format!("message {n}")).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    world.tell_all(&bodies[..50]).await;
    world.expect_effects(&bodies[..50]).await;
    // Whichever of them works, the other takes over.
    first.kill().await;
    world.tell_all(&bodies[50..]).await;
    world.expect_effects(&bodies).await;
    assert!(metric("bus_fence_losses_total", "two") < 1.0, "they do not fight");
    second.stop().await;
}

#[tokio::test]
async fn another_writer_ahead_fences_the_reader() {
    let world = World::new().await;
    let writer = Writer::default();
    let reader = world.read("fenced", writer.clone()).await;
    world.tell("a").await;
    world.expect_effects(&["a"]).await;

    // Another writer uses the second message while the reader wants to.
    let mut other = world.database.pool.begin().await.unwrap();
    sqlx::query_scalar::<_, i64>("select sequence from bus.cursors for update")
        .fetch_one(&mut *other)
        .await
        .unwrap();
    let sequence = world.tell("b").await;
    world.expect_blocked().await;
    let stream = world.js().get_stream(STREAM.name).await.unwrap();
    let at = stream.get_raw_message(sequence).await.unwrap().time;
    sqlx::query_scalar::<_, i64>(
        "with moved as (update bus.cursors set sequence = $1, message_at = $2 returning 1)
         insert into public.effects (body) select 'b by another' from moved returning 1::bigint",
    )
    .bind(i64::try_from(sequence).unwrap())
    .bind(at)
    .fetch_one(&mut *other)
    .await
    .unwrap();
    let n_before = *writer.n_rolled_back.lock().unwrap();
    other.commit().await.unwrap();

    world.tell("c").await;
    world.expect_effects(&["a", "b by another", "c"]).await;
    assert!(metric("bus_fence_losses_total", "fenced") > 0.0);
    assert!(metric("bus_epochs_total", "fenced") < 1.0, "a fence loss is no new epoch");
    assert!(*writer.n_rolled_back.lock().unwrap() > n_before, "memory is forgotten");
    reader.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_used_is_parked_and_the_rest_goes_on() {
    let world = World::new().await;
    let asked = ["a", "poison 1", "b", "panic 2", "park 3", "too long 4", "c"];
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Hint", "kept");
    for body in asked {
        let js = world.js();
        js.publish_with_headers(SUBJECT, headers.clone(), body.into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let reader = world.read("parks", Writer::default()).await;
    // "park 3" is used and parked: that the handler wrote something is its own affair.
    world.expect_effects(&["a", "b", "park 3", "c"]).await;
    reader.stop().await;

    let parked: Vec<Parked> = sqlx::query_as(
        "select sequence, payload, reason, headers, subject from bus.parked
         where reader = 'parks' order by sequence",
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    let seen: Vec<(i64, String)> =
        parked.iter().map(|it| (it.0, String::from_utf8(it.1.clone()).unwrap())).collect();
    let expected = [(2, "poison 1"), (4, "panic 2"), (5, "park 3"), (6, "too long 4")];
    assert_eq!(seen, expected.map(|(n, body)| (n, body.to_owned())));
    let reasons = ["it is poison", "it panics", "nobody wants it", "effects_small"];
    for (row, reason) in parked.iter().zip(reasons) {
        assert!(row.2.contains(reason), "{row:?}");
        assert_eq!(row.3, ["Hint: kept"]);
        assert_eq!(row.4, SUBJECT);
    }
    assert!((metric("bus_parked_total", "parks") - 4.0).abs() < 0.5);
}

#[tokio::test]
async fn a_batch_that_meets_weather_is_used_when_it_has_passed() {
    let world = World::new().await;
    let writer = Writer { n_storms: Arc::new(Mutex::new(3)), ..Writer::default() };
    world.tell_all(&["a", "b"]).await;
    let reader = world.read("weather", writer.clone()).await;
    world.expect_effects(&["a", "b"]).await;
    reader.stop().await;
    assert!(*writer.n_rolled_back.lock().unwrap() >= 3, "memory is forgotten each time");
    assert!(metric("bus_parked_total", "weather") < 1.0, "weather parks nothing");
}

#[tokio::test]
async fn a_handler_that_was_not_prepared_gets_the_same_batch_at_once() {
    for (reader, n_unprepared, n_forgotten) in [("once", 1, 0), ("thrice", 3, 1)] {
        let world = World::new().await;
        let n_unprepared = Arc::new(Mutex::new(n_unprepared));
        let writer = Writer { n_unprepared, ..Writer::default() };
        world.tell("a").await;
        let running = world.read(reader, writer.clone()).await;
        world.expect_effects(&["a"]).await;
        // A second time in a row is trouble: it forgets, and is given it again after a pause.
        assert_eq!(*writer.n_rolled_back.lock().unwrap(), n_forgotten, "{reader}");
        running.stop().await;
        let n_batches = writer.batches.lock().unwrap().len();
        assert!(n_batches > n_forgotten + 1, "{n_batches} batches");
        assert!(metric("bus_parked_total", reader) < 1.0, "it parks nothing");
    }
}

#[tokio::test]
async fn a_batch_is_as_large_as_what_has_arrived_and_no_larger_than_it_may_be() {
    for (reader, batch_max, batch_bytes_max, expected) in [
        ("messages", 400, BATCH_BYTES_MAX, 400),
        ("bytes", 400, 1_000, 100),
        ("smaller than one", 400, 5, 1),
    ] {
        let world = World::new().await;
        let door = Door::closed();
        let writer = Writer { door: Some(door.clone()), ..Writer::default() };
        let follow = Follow { batch_max, batch_bytes_max, ..follow(reader) };
        let client = world.another_client().await;
        let running =
            read_as(&world.database, client.clone(), follow, writer.clone(), Health::new()).await;
        // The reader is busy with the first while all others arrive, so that none of them is
        // taken before the rest is there.
        world.tell("ten bytes!").await;
        door.expect_somebody().await;
        let n_before = client.statistics().in_messages.load(Ordering::Relaxed);
        let n_others = 450;
        for _ in 0..n_others {
            world.js().publish(SUBJECT, "ten bytes!".into()).await.unwrap();
        }
        eventually("everything has arrived", BOUND, async || {
            let n = client.statistics().in_messages.load(Ordering::Relaxed) - n_before;
            if n >= n_others { Ok(()) } else { Err(format!("{n} messages")) }
        })
        .await;
        door.open();
        eventually("everything is used", BOUND, async || {
            let n: usize = writer.batches.lock().unwrap().iter().sum();
            if n == 451 { Ok(()) } else { Err(format!("{n} used")) }
        })
        .await;
        running.stop().await;
        let batches = writer.batches.lock().unwrap().clone();
        assert_eq!(batches.iter().max(), Some(&expected), "{reader}: {batches:?}");
    }
}

#[tokio::test]
async fn what_a_reader_has_in_memory_is_bounded_while_postgres_is_slow() {
    let world = World::new().await;
    let door = Door::closed();
    let writer = Writer { door: Some(door.clone()), ..Writer::default() };
    // Only how many messages would be no bound at all.
    let follow = Follow { batch_max: 2_000, batch_bytes_max: 64 * 1024, ..follow("bounded") };
    let client = world.another_client().await;
    let health = Health::new();
    let running = read_as(&world.database, client.clone(), follow, writer, health).await;
    world.tell("a").await;
    door.expect_somebody().await;
    let large = "x".repeat(50_000);
    for _ in 0..400 {
        world.js().publish(SUBJECT, large.clone().into()).await.unwrap();
    }
    world.tell("z").await;
    // What is asked for over the reader's connection comes behind what the reader was sent.
    jetstream::new(client.clone()).get_stream(STREAM.name).await.unwrap();
    let n_bytes = client.statistics().in_bytes.load(Ordering::Relaxed);
    assert!((100_000..4_000_000).contains(&n_bytes), "{n_bytes} of 20 MB were sent");
    running.kill().await;
}

#[tokio::test]
async fn a_filter_leaves_other_subjects_to_others() {
    let world = World::new().await;
    let (mine, other) = (subjects::keys::CREATE_KEY, subjects::keys::REVOKE_KEY);
    for (subject, body) in [(mine, "a"), (other, "not mine"), (mine, "b"), (other, "nor this")] {
        world.js().publish(subject, body.into()).await.unwrap().await.unwrap();
    }
    let follow = Follow { filter: Some(mine), ..follow("filters") };
    let pool = PgPool::connect(&world.database.url).await.unwrap();
    let client = world.client.clone();
    let reader = crate::world::Running::spawn(|shutdown| async move {
        bus::follow::run(follow, pool, client, shutdown, Writer::default()).await.unwrap();
    });
    world.expect_effects(&["a", "b"]).await;
    reader.stop().await;

    let nowhere = Follow { filter: Some("cmd.ledger.>"), ..follow };
    let empty = Follow { batch_max: 0, ..follow };
    let bodiless = Follow { batch_bytes_max: 0, ..follow };
    // Postgres takes it for no limit at all.
    let endless = Follow { silence_max: Duration::ZERO, ..follow };
    for (wrong, is_filter) in [(nowhere, true), (empty, false), (bodiless, false), (endless, false)]
    {
        let pool = PgPool::connect_lazy(&world.database.url).unwrap();
        let shutdown = CancellationToken::new();
        let refused =
            bus::follow::run(wrong, pool, world.client.clone(), shutdown, Writer::default()).await;
        assert_eq!(matches!(refused.unwrap_err(), Error::Filter { .. }), is_filter);
    }
}

#[tokio::test]
async fn a_cursor_never_moves_back() {
    let world = World::new().await;
    let reader = world.read("back", Writer::default()).await;
    world.tell_all(&["a", "b"]).await;
    world.expect_effects(&["a", "b"]).await;
    reader.stop().await;
    for statement in [
        "update bus.cursors set sequence = 1 returning 1::bigint",
        "update bus.cursors set sequence = 2 returning 1::bigint",
        "update bus.cursors set epoch = 0, sequence = 9 returning 1::bigint",
        "update bus.cursors set stream_created_at = now(), sequence = 9 returning 1::bigint",
    ] {
        let refused = sqlx::query_scalar::<_, i64>(statement).fetch_one(&world.database.pool).await;
        let refused = refused.unwrap_err();
        let constraint = refused.as_database_error().unwrap().constraint().map(str::to_owned);
        assert_eq!(constraint.as_deref(), Some("cursors_move_forward"), "{statement}: {refused}");
    }
}
