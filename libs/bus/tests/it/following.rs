//! A reader at work: order, batches, poison, and two of the same name.

use std::sync::{Arc, Mutex};

use proto_events::subjects;
use sqlx::PgPool;
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::world::{BOUND, Door, STREAM, SUBJECT, World, Writer, metric};

use bus::follow::{Error, Follow};

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
async fn a_leader_that_hangs_loses_to_the_next_and_uses_nothing() {
    let world = World::new().await;
    let door = Door::closed();
    let hanging = Writer { door: Some(door.clone()), ..Writer::default() };
    let first = world.read("hangs", hanging.clone()).await;
    world.tell_all(&["a", "b"]).await;
    door.expect_somebody().await;
    let second = world.read("hangs", Writer::default()).await;
    // Postgres ends the session that is silent for too long, and the second takes over.
    world.expect_effects(&["a", "b"]).await;
    door.open();
    eventually("a first reader that noticed", BOUND, async || {
        let n = *hanging.n_rolled_back.lock().unwrap();
        if n > 0 { Ok(()) } else { Err(format!("rolled back {n} times")) }
    })
    .await;
    second.stop().await;
    world.tell("c").await;
    world.expect_effects(&["a", "b", "c"]).await;
    first.stop().await;
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
async fn a_filter_leaves_other_subjects_to_others() {
    let world = World::new().await;
    let (mine, other) = (subjects::keys::CREATE_KEY, subjects::keys::REVOKE_KEY);
    for (subject, body) in [(mine, "a"), (other, "not mine"), (mine, "b"), (other, "nor this")] {
        world.js().publish(subject, body.into()).await.unwrap().await.unwrap();
    }
    let follow = Follow { reader: "filters", stream: STREAM, filter: Some(mine), batch_max: 10 };
    let pool = PgPool::connect(&world.database.url).await.unwrap();
    let client = world.client.clone();
    let reader = crate::world::Running::spawn(|shutdown| async move {
        bus::follow::run(follow, pool, client, shutdown, Writer::default()).await.unwrap();
    });
    world.expect_effects(&["a", "b"]).await;
    reader.stop().await;

    let nowhere = Follow { filter: Some("cmd.ledger.>"), ..follow };
    let empty = Follow { batch_max: 0, ..follow };
    for (wrong, is_filter) in [(nowhere, true), (empty, false)] {
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
