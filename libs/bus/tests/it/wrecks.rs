//! Streams that are deleted, wiped, rolled back; servers that go away and come back.

use std::collections::BTreeSet;

use async_nats::connection::State;
use async_nats::jetstream;

use crate::world::{
    BOUND, Door, STREAM, Server, World, Writer, database, effects, expect_effects, expect_state,
    metric, read, tell,
};
use testkit::eventually;

async fn epoch(database: &testkit::Database) -> i64 {
    sqlx::query_scalar("select epoch from bus.cursors").fetch_one(&database.pool).await.unwrap()
}

#[tokio::test]
async fn a_stream_that_is_made_again_under_way_is_read_from_its_start() {
    let world = World::new().await;
    let door = Door::closed();
    let writer = Writer { door: Some(door.clone()), ..Writer::default() };
    let reader = world.read("again", writer).await;
    let old: Vec<String> = (0..40).map(|n| format!("old {n}")).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    world.tell_all(&old).await;
    door.expect_somebody().await;
    world.js().delete_stream(STREAM.name).await.unwrap();
    bus::streams::ensure(&world.js()).await.unwrap();
    let new = ["new 0", "new 1", "new 2"];
    world.tell_all(&new).await;
    door.open();
    eventually("everything of the new stream", BOUND, async || {
        let seen = world.effects().await;
        if seen.ends_with(&new.map(str::to_owned)) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let seen = world.effects().await;
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is used twice: {seen:?}");
    let n_old = seen.len() - new.len();
    assert_eq!(seen[..n_old], old[..n_old], "what had arrived was used, in order");
    assert_eq!(epoch(&world.database).await, 2);
    assert!((metric("bus_epochs_total", "again") - 1.0).abs() < 0.5);
    reader.stop().await;
}

#[tokio::test]
async fn a_stream_that_was_made_again_meanwhile_is_read_from_its_start() {
    let world = World::new().await;
    let reader = world.read("meanwhile", Writer::default()).await;
    world.tell_all(&["a", "b"]).await;
    world.expect_effects(&["a", "b"]).await;
    reader.stop().await;
    world.js().delete_stream(STREAM.name).await.unwrap();
    let missing = world.read("meanwhile", Writer::default()).await;
    bus::streams::ensure(&world.js()).await.unwrap();
    // As many as before and more: the sequence alone would not tell.
    world.tell_all(&["c", "d", "e"]).await;
    world.expect_effects(&["a", "b", "c", "d", "e"]).await;
    missing.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_gone_is_made_again_by_its_reader() {
    let world = World::new().await;
    let reader = world.read("gone", Writer::default()).await;
    world.tell_all(&["a"]).await;
    world.expect_effects(&["a"]).await;
    world.js().delete_stream(STREAM.name).await.unwrap();
    eventually("the stream is there again", BOUND, async || {
        let found = world.js().get_stream(STREAM.name).await;
        found.map(drop).map_err(|error| error.to_string())
    })
    .await;
    world.tell_all(&["b"]).await;
    world.expect_effects(&["a", "b"]).await;
    assert_eq!(epoch(&world.database).await, 2);
    reader.stop().await;
}

#[tokio::test]
async fn a_stream_that_lost_its_tail_is_noticed_by_a_reader_at_work() {
    let (database, mut server) = (database().await, Server::start().await);
    let client = server.client().await;
    let js = jetstream::new(client.clone());
    let reader = read(&database, client.clone(), "tail", Writer::default()).await;
    tell(&js, "a").await;
    expect_effects(&database.pool, &["a"]).await;
    server.stop().await;
    server.save();
    server.start_again().await;
    expect_state(&client, State::Connected).await;
    tell(&js, "b").await;
    tell(&js, "c").await;
    expect_effects(&database.pool, &["a", "b", "c"]).await;
    server.stop().await;
    server.restore();
    server.start_again().await;
    expect_state(&client, State::Connected).await;
    // Stored under the sequences that b and c had.
    tell(&js, "d").await;
    eventually("d", BOUND, async || {
        let seen = effects(&database.pool).await;
        if seen.contains(&"d".to_owned()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(epoch(&database).await, 2);
    reader.stop().await;
}

#[tokio::test]
async fn a_stream_that_lost_its_tail_and_grew_again_is_noticed_by_its_witness() {
    let (database, mut server) = (database().await, Server::start().await);
    let client = server.client().await;
    let js = jetstream::new(client.clone());
    tell(&js, "a").await;
    server.stop().await;
    server.save();
    server.start_again().await;
    expect_state(&client, State::Connected).await;
    let reader = read(&database, client.clone(), "witness", Writer::default()).await;
    tell(&js, "b").await;
    expect_effects(&database.pool, &["a", "b"]).await;
    reader.stop().await;
    server.stop().await;
    server.restore();
    server.start_again().await;
    expect_state(&client, State::Connected).await;
    // The last sequence is beyond the cursor again, and "c" stands where "b" did.
    for body in ["c", "d"] {
        tell(&js, body).await;
    }
    let again = read(&database, client, "witness", Writer::default()).await;
    eventually("c and d", BOUND, async || {
        let seen = effects(&database.pool).await;
        let both = ["c", "d"].iter().all(|it| seen.iter().any(|seen| seen == it));
        if both { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(epoch(&database).await, 2);
    again.stop().await;
}

#[tokio::test]
async fn a_reader_survives_nats_going_away() {
    let (database, mut server) = (database().await, Server::start().await);
    let client = server.client().await;
    let js = jetstream::new(client.clone());
    let reader = read(&database, client.clone(), "away", Writer::default()).await;
    tell(&js, "a").await;
    expect_effects(&database.pool, &["a"]).await;
    for body in ["b", "c"] {
        server.stop().await;
        expect_state(&client, State::Disconnected).await;
        server.start_again().await;
        expect_state(&client, State::Connected).await;
        tell(&js, body).await;
    }
    expect_effects(&database.pool, &["a", "b", "c"]).await;
    assert_eq!(epoch(&database).await, 1, "a restart loses nothing");
    reader.stop().await;
}

#[tokio::test]
async fn a_reader_survives_postgres_ending_its_session() {
    let world = World::new().await;
    let reader = world.read("sessions", Writer::default()).await;
    world.tell("a").await;
    world.expect_effects(&["a"]).await;
    for (body, expected) in [("b", &["a", "b"][..]), ("c", &["a", "b", "c"][..])] {
        eventually("a leader whose session can be ended", BOUND, async || {
            match world.end_leaders().await {
                1 => Ok(()),
                n => Err(format!("{n} leaders")),
            }
        })
        .await;
        world.tell(body).await;
        world.expect_effects(expected).await;
    }
    reader.stop().await;
}

#[tokio::test]
async fn a_reader_that_starts_before_its_servers_stops_when_asked() {
    let mut server = Server::start().await;
    let client = server.client().await;
    server.stop().await;
    expect_state(&client, State::Disconnected).await;
    let database = database().await;
    let reader = read(&database, client, "early", Writer::default()).await;
    reader.stop().await;
}
