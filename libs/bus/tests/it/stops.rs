//! The process stops at each step between a message and its reply. Whatever the step, the next
//! process leaves the same end state: each effect once.

use std::time::Duration;

use bus::ask::{Asker, Error};
use proto_events::common::v1::Envelope;

use crate::world::{BOUND, Door, Running, SUBJECT, World, Writer, said};

/// Stops a reader of two messages by `stop`, starts the next one, and looks at what there is.
async fn check(world: World, reader: &'static str, stopped: Running) {
    stopped.kill().await;
    let next = world.read(reader, Writer::default()).await;
    world.tell("c").await;
    world.expect_effects(&["a", "b", "c"]).await;
    next.stop().await;
}

#[tokio::test]
async fn stopped_before_the_cursor_moves() {
    let world = World::new().await;
    let running = world.read("before", Writer::default()).await;
    world.tell("a").await;
    world.expect_effects(&["a"]).await;
    let mut holding = world.database.pool.begin().await.unwrap();
    sqlx::query_scalar::<_, i64>("select sequence from bus.cursors for update")
        .fetch_one(&mut *holding)
        .await
        .unwrap();
    world.tell("b").await;
    world.expect_blocked().await;
    running.kill().await;
    holding.rollback().await.unwrap();
    let next = world.read("before", Writer::default()).await;
    world.tell("c").await;
    world.expect_effects(&["a", "b", "c"]).await;
    next.stop().await;
}

#[tokio::test]
async fn stopped_after_the_handler_before_the_commit() {
    let world = World::new().await;
    let door = Door::closed();
    let writer = Writer { door: Some(door.clone()), ..Writer::default() };
    let running = world.read("handled", writer).await;
    world.tell_all(&["a", "b"]).await;
    door.expect_somebody().await;
    check(world, "handled", running).await;
}

#[tokio::test]
async fn stopped_during_the_commit() {
    let world = World::new().await;
    // The commit waits for a lock that the test has.
    sqlx::raw_sql(
        "create function public.wait() returns trigger language plpgsql as $$
         begin perform pg_advisory_xact_lock_shared(1); return null; end $$;
         create constraint trigger wait after insert on public.effects
         deferrable initially deferred for each row execute function public.wait();",
    )
    .execute(&world.database.pool)
    .await
    .unwrap();
    let mut holding = world.database.pool.begin().await.unwrap();
    sqlx::query_scalar::<_, String>("select pg_advisory_xact_lock(1)::text")
        .fetch_one(&mut *holding)
        .await
        .unwrap();
    let running = world.read("commits", Writer::default()).await;
    world.tell_all(&["a", "b"]).await;
    world.expect_blocked().await;
    running.kill().await;
    // Nobody knows whether it committed; the next reader finds out.
    holding.rollback().await.unwrap();
    let next = world.read("commits", Writer::default()).await;
    world.tell("c").await;
    world.expect_effects(&["a", "b", "c"]).await;
    next.stop().await;
}

#[tokio::test]
async fn stopped_after_the_commit_before_the_reply() {
    let world = World::new().await;
    let asker = Asker::new(world.client.clone());
    let writer = Writer { dies_committed: true, ..Writer::default() };
    let running = world.read("replies", writer).await;
    let command = said("a");
    let lost = asker.command::<Envelope>(SUBJECT, &command, Duration::from_secs(1));
    let (lost, ()) = tokio::join!(lost, running.expect_panic());
    assert!(matches!(lost, Err(Error::Unknown)), "{lost:?}");
    let n_effects = world.effects().await.len();
    assert_eq!(n_effects, 1, "it had committed");
    // Asking again tells; the ids inside the command make that harmless, which is the handler's.
    let next = world.read("replies", Writer::default()).await;
    let told: Envelope = asker.command(SUBJECT, &said("a"), BOUND).await.unwrap();
    assert!(told.origin.contains('a'));
    assert_eq!(world.effects().await.len(), 2, "the first is not used again, the second is");
    next.stop().await;
}
