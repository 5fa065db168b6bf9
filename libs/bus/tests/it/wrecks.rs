//! Streams that are deleted, wiped, rolled back; servers that go away and come back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream;
use bus::ask::{Asker, Error};
use bus::follow::health::{Health, Role};
use bus::follow::{Follow, SILENCE_MAX};
use bus::place::Change;
use futures_util::future::join_all;
use primitives::Timestamp;
use proto_events::common::v1::Envelope;
use testkit::eventually;

use crate::world::{
    BOUND, Door, STREAM, SUBJECT, Server, World, Writer, database, effects, expect_effects,
    expect_state, follow, metric, read, read_as, said, tell,
};

/// Long enough for an answer that comes at all.
const SOME_TIME: Duration = Duration::from_secs(4);

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
async fn commands_under_way_when_their_stream_is_deleted_are_answered_or_asked_again() {
    let world = World::new().await;
    let (door, health) = (Door::closed(), Health::new());
    let writer = Writer { door: Some(door.clone()), ..Writer::default() };
    let (client, follow) = (world.client.clone(), follow("asked"));
    let reader = read_as(&world.database, client, follow, writer, health.clone()).await;
    let asker = Asker::new(world.client.clone());
    let ask = async |n: usize| -> Result<Envelope, Error> {
        asker.command(SUBJECT, &said(&format!("command {n:02}")), SOME_TIME).await
    };
    let asked = join_all((0..40).map(&ask));
    let wrecked = async {
        door.expect_somebody().await;
        world.js().delete_stream(STREAM.name).await.unwrap();
        door.open();
        // Its reader makes it again by itself.
        eventually("the stream is noticed to be another", BOUND, async || {
            health.last_change().ok_or_else(|| health.to_string())
        })
        .await
    };
    let (asked, noticed) = tokio::join!(asked, wrecked);
    assert_eq!((noticed.change, noticed.epoch), (Change::MadeAgain, 2));
    assert!(health.to_string().contains("was deleted and made again"), "{health}");
    assert_eq!(health.check(Timestamp::now()), Ok(()));
    for (n, told) in asked.into_iter().enumerate() {
        let n_effects = n_effects(&world, n).await;
        match told {
            Ok(_) => assert_eq!(n_effects, 1, "command {n} was answered"),
            Err(Error::Unknown | Error::Unavailable { .. }) => {
                assert!(n_effects <= 1, "command {n} was used twice");
                // The ids inside make it one; here each asking has an effect of its own.
                ask(n).await.unwrap();
            }
            Err(error) => panic!("command {n}: {error}"),
        }
    }
    reader.stop().await;
}

/// How often the command `n` was used.
async fn n_effects(world: &World, n: usize) -> usize {
    let name = format!("command {n:02}");
    world.effects().await.iter().filter(|it| it.contains(&name)).count()
}

#[tokio::test]
async fn another_takes_over_within_two_seconds() {
    let world = World::new().await;
    for (reader, is_process) in [("process gone", true), ("session gone", false)] {
        let (door, ours) = (Door::closed(), Health::new());
        let hanging = Writer { door: Some(door.clone()), ..Writer::default() };
        let client = world.client.clone();
        let first = read_as(&world.database, client, follow(reader), hanging, ours.clone()).await;
        world.tell(reader).await;
        door.expect_somebody().await;
        let (client, theirs) = (world.another_client().await, Health::new());
        let writer = Writer::default();
        let second = read_as(&world.database, client, follow(reader), writer, theirs.clone()).await;
        expect_role(&ours, &Role::Leading).await;
        expect_role(&theirs, &Role::StandingBy).await;
        assert_eq!(theirs.check(Timestamp::now()), Ok(()), "standing by is no trouble");

        let started = Instant::now();
        // Of a process that is gone the kernel closes the connection; the door keeps one that
        // hangs from coming back first.
        let first = if is_process {
            first.kill().await;
            None
        } else {
            assert_eq!(world.end_leaders().await, 1);
            Some(first)
        };
        eventually("a first commit", BOUND, async || {
            let seen = world.effects().await;
            if seen.iter().any(|it| it == reader) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        let took = started.elapsed();
        assert!(took < Duration::from_secs(2), "{reader}: it took {} ms", took.as_millis());
        expect_role(&theirs, &Role::Leading).await;
        if let Some(first) = first {
            door.open();
            expect_role(&ours, &Role::StandingBy).await;
            first.stop().await;
        }
        second.stop().await;
        assert_eq!(world.effects().await.iter().filter(|it| *it == reader).count(), 1);
    }
}

async fn expect_role(health: &Health, expected: &Role) {
    eventually(&format!("{expected:?}"), BOUND, async || match health.role() {
        role if role == *expected => Ok(()),
        role => Err(format!("{role:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_hangs_loses_to_the_next_and_uses_nothing() {
    let world = World::new().await;
    let (door, health) = (Door::closed(), Health::new());
    let hanging = Writer { door: Some(door.clone()), ..Writer::default() };
    let follow = Follow { silence_max: Duration::from_secs(1), ..follow("hangs") };
    let client = world.client.clone();
    let first = read_as(&world.database, client, follow, hanging.clone(), health.clone()).await;
    world.tell_all(&["a", "b"]).await;
    door.expect_somebody().await;
    let (started, client) = (Instant::now(), world.another_client().await);
    let second = read_as(&world.database, client, follow, Writer::default(), Health::new()).await;
    // Postgres ends the session that is silent for too long, and the second takes over.
    world.expect_effects(&["a", "b"]).await;
    assert!(started.elapsed() < SILENCE_MAX, "it waits no longer than it is told to");
    door.open();
    expect_role(&health, &Role::StandingBy).await;
    assert!(*hanging.n_rolled_back.lock().unwrap() > 0, "what it remembers is forgotten");
    first.stop().await;
    world.tell("c").await;
    world.expect_effects(&["a", "b", "c"]).await;
    // One that has nothing to do shows that it lives.
    eventually("a session that is older than it may be silent", BOUND, async || {
        match world.oldest_leader().await {
            age if age > 2 * follow.silence_max => Ok(()),
            age => Err(format!("{} ms", age.as_millis())),
        }
    })
    .await;
    second.stop().await;
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
