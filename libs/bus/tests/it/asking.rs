//! Commands and queries, from the asker's side.

use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream;
use bus::answer::Failure;
use bus::ask::{Asker, Error};
use prost::Message;
use proto_events::common::v1::Envelope;
use proto_events::subjects::{REQUESTS, STREAMS};
use testkit::eventually;

use crate::world::{
    BOUND, Running, STREAM, SUBJECT, Server, World, Writer, answer, expect_state, said,
};

const SOON: Duration = Duration::from_millis(300);
const QUERY: &str = REQUESTS[0];

#[tokio::test]
async fn a_command_is_answered_after_its_commit() {
    let world = World::new().await;
    let reader = world.read("answers", Writer::default()).await;
    let asker = Asker::new(world.client.clone());
    let asked = (0..50).map(|n| {
        let asker = asker.clone();
        async move {
            let body = format!("command {n}");
            let told: Envelope = asker.command(SUBJECT, &said(&body), BOUND).await.unwrap();
            assert!(told.origin.contains(&body), "each gets the own answer: {told:?}");
        }
    });
    futures_util::future::join_all(asked).await;
    assert_eq!(world.effects().await.len(), 50);
    reader.stop().await;
}

#[tokio::test]
async fn no_answer_in_time_is_unknown_and_asking_again_tells() {
    let world = World::new().await;
    let asker = Asker::new(world.client.clone());
    let command = said("transfer");
    let started = Instant::now();
    let unknown = asker.command::<Envelope>(SUBJECT, &command, SOON).await;
    assert!(matches!(unknown, Err(Error::Unknown)), "{unknown:?}");
    assert!(started.elapsed() >= SOON, "it waits as long as it says");
    let reader = world.read("late", Writer::default()).await;
    let told: Envelope = asker.command(SUBJECT, &command, BOUND).await.unwrap();
    assert!(told.origin.contains("transfer"));
    assert_eq!(world.effects().await.len(), 2, "each asking is a message of its own");
    reader.stop().await;
}

#[tokio::test]
async fn a_full_stream_refuses_until_its_reader_has_applied_something() {
    let world = World::new().await;
    let js = world.js();
    let stream = js.get_stream(STREAM.name).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_bytes = 4_096;
    js.update_stream(config).await.unwrap();
    while let Ok(sent) = js.publish(SUBJECT, "x".repeat(90).into()).await
        && sent.await.is_ok()
    {}
    let asker = Asker::new(world.client.clone());
    let started = Instant::now();
    let refused = asker.command::<Envelope>(SUBJECT, &said("one more"), BOUND).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert!(started.elapsed() < BOUND / 10, "it is said at once");

    let reader = world.read("purges", Writer::default()).await;
    eventually("room in the stream", BOUND, async || {
        match asker.command::<Envelope>(SUBJECT, &said("one more"), BOUND).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        }
    })
    .await;
    reader.stop().await;
}

#[tokio::test]
async fn what_surely_was_not_taken_is_unavailable() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let asker = Asker::new(client.clone());
    let check = async |why: &str, within: Duration| {
        let started = Instant::now();
        let refused = asker.command::<Envelope>(SUBJECT, &said("x"), BOUND).await;
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{why}: {refused:?}");
        assert!(started.elapsed() < within, "{why}: it is said at once");
    };
    jetstream::new(client.clone()).delete_stream(STREAM.name).await.unwrap();
    check("no stream", BOUND / 2).await;
    server.stop().await;
    expect_state(&client, State::Disconnected).await;
    check("no server", BOUND / 2).await;
    let refused = asker.query::<Envelope>(QUERY, &said("x"), BOUND).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_query_is_answered_or_failed_or_unserved() {
    let world = World::new().await;
    let asker = Asker::new(world.client.clone());
    let ask = async |text: &str| asker.query::<Envelope>(QUERY, &said(text), BOUND).await;
    let unserved = ask("x").await;
    assert!(matches!(unserved, Err(Error::Unavailable { .. })), "{unserved:?}");

    let client = world.client.clone();
    let serving = Running::spawn(|shutdown| async move {
        let handler = |query: bytes::Bytes| async move {
            let query = Envelope::decode(query).map_err(Failure::new)?;
            match query.origin.as_str() {
                "fail" => Err(Failure::new("it fails")),
                "nonsense" => Ok(vec![0xff]),
                text => Ok(answer(&format!("{text}, answered"))),
            }
        };
        bus::answer::serve(client, QUERY, "test", shutdown, handler).await.unwrap();
    });
    let told = eventually("an answer", BOUND, async || {
        ask("question").await.map_err(|error| format!("{error:?}"))
    })
    .await;
    assert_eq!(told.origin, "question, answered");
    let failed = ask("fail").await;
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    let nonsense = ask("nonsense").await;
    assert!(matches!(nonsense, Err(Error::Undecodable(_))), "{nonsense:?}");
    serving.stop().await;
    let unserved = ask("x").await;
    assert!(matches!(unserved, Err(Error::Unavailable { .. })), "{unserved:?}");
}

#[tokio::test]
async fn what_a_server_of_queries_has_in_hand_is_answered_before_it_stops() {
    let world = World::new().await;
    let asker = Asker::new(world.client.clone());
    let door = crate::world::Door::closed();
    let (client, at) = (world.client.clone(), door.clone());
    let serving = Running::spawn(|shutdown| async move {
        let handler = move |_: bytes::Bytes| {
            let at = at.clone();
            async move {
                at.pass().await;
                Ok(answer("at last"))
            }
        };
        bus::answer::serve(client, QUERY, "test", shutdown, handler).await.unwrap();
    });
    let ask = async {
        // The subscription may be on its way yet.
        eventually("an answer", BOUND, async || {
            let told = asker.query::<Envelope>(QUERY, &said("x"), BOUND).await;
            told.map_err(|error| format!("{error:?}"))
        })
        .await
    };
    let stop = async {
        door.expect_somebody().await;
        tokio::join!(serving.stop(), async { door.open() });
    };
    let (told, ()) = tokio::join!(ask, stop);
    assert_eq!(told.origin, "at last");
}

#[tokio::test]
async fn a_panic_of_a_query_stops_the_loop() {
    let world = World::new().await;
    let client = world.client.clone();
    let serving = Running::spawn(|shutdown| async move {
        let handler = |query: bytes::Bytes| async move {
            assert!(query.is_empty(), "it panics");
            Ok(Vec::new())
        };
        bus::answer::serve(client, QUERY, "test", shutdown, handler).await.unwrap();
    });
    let asker = Asker::new(world.client.clone());
    let ask = async {
        eventually("somebody who serves", BOUND, async || {
            let asked = asker.query::<Envelope>(QUERY, &said(""), BOUND).await;
            asked.map_err(|error| format!("{error:?}"))
        })
        .await;
        let dropped = asker.query::<Envelope>(QUERY, &said("x"), SOON).await;
        assert!(matches!(dropped, Err(Error::Unavailable { .. })), "{dropped:?}");
    };
    tokio::join!(ask, serving.expect_panic());
}

#[tokio::test]
async fn declaring_the_streams_again_changes_nothing() {
    let world = World::new().await;
    world.tell("kept").await;
    bus::streams::ensure(&world.js()).await.unwrap();
    bus::streams::ensure_with(&world.js(), 1).await.unwrap();
    for stream in STREAMS {
        let found = world.js().get_stream(stream.name).await.unwrap();
        let info = found.cached_info();
        assert_eq!(info.config.subjects, [stream.subjects]);
        assert_eq!(info.state.messages, u64::from(*stream == STREAM), "{}", stream.name);
    }
}
