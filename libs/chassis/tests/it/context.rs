//! A context notices when a loop is gone, and waits for those that are not.

use std::time::Duration;

use chassis::Context;
use futures_util::StreamExt;
use testkit::eventually;

type Task = fn() -> anyhow::Result<()>;

const BOUND: Duration = Duration::from_secs(10);

async fn context() -> (testkit::Nats, Context) {
    let nats = testkit::nats().await;
    let context = testkit::context(&nats).await;
    (nats, context)
}

#[tokio::test]
async fn a_loop_that_is_gone_is_noticed() {
    let (_nats, sample) = context().await;
    let cases: [(&str, Task, &str); 3] = [
        ("ends", || Ok(()), "ends ended although nobody asked it to"),
        ("fails", || Err(anyhow::anyhow!("inner").context("outer")), "fails failed: outer: inner"),
        ("panics", || panic!("a bug"), "panics panicked: a bug"),
    ];
    for (name, task, said) in cases {
        let context = Context::new(sample.nats(), sample.shutdown());
        context.spawn(name, async move { task() });
        let failure = tokio::time::timeout(BOUND, context.failed()).await.expect("it is noticed");
        assert_eq!(failure.to_string(), said);
        let loops =
            context.readiness().await.into_iter().find(|(name, _)| *name == "loops").unwrap();
        assert_eq!(loops.1, Err(said.to_owned()));
    }
}

#[tokio::test]
async fn a_drain_waits_for_loops_and_names_those_that_stay() {
    let (_nats, context) = context().await;
    let shutdown = context.shutdown();
    context.spawn("finishes", async move {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    });
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    context.spawn("stays", async move {
        held.await?;
        Ok(())
    });
    context.shutdown().cancel();
    assert_eq!(context.drain(Duration::from_millis(500)).await, Err(vec!["stays"]));
    release.send(()).unwrap();
    assert_eq!(context.drain(BOUND).await, Ok(()));
}

#[tokio::test]
async fn what_was_published_last_leaves_before_the_drain_ends() {
    let (nats, context) = context().await;
    let listener = nats.client().await;
    let mut heard = listener.subscribe("last.words").await.unwrap();
    // Hearing itself proves that the server knows of the subscription.
    listener.publish("last.words", "hello".into()).await.unwrap();
    assert_eq!(next(&mut heard).await, "hello");
    for n in 0..1000 {
        context.nats().publish("last.words", n.to_string().into()).await.unwrap();
    }
    context.shutdown().cancel();
    assert_eq!(context.drain(BOUND).await, Ok(()));
    drop(context);
    for n in 0..1000 {
        assert_eq!(next(&mut heard).await, n.to_string());
    }
}

async fn next(heard: &mut async_nats::Subscriber) -> String {
    let message = tokio::time::timeout(BOUND, heard.next()).await;
    String::from_utf8(message.unwrap().unwrap().payload.to_vec()).unwrap()
}

#[tokio::test]
async fn readiness_follows_the_connection() {
    let (nats, context) = context().await;
    context.ready_when("always", || async { Ok(()) });
    assert!(context.readiness().await.iter().all(|(_, said)| said.is_ok()));
    drop(nats);
    eventually("NATS is reported as gone", BOUND, async || {
        let all = context.readiness().await;
        let nats = all.iter().find(|(name, _)| *name == "nats").unwrap();
        if nats.1.is_err() { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
}

#[tokio::test]
async fn wrong_credentials_are_said_at_once_and_not_shown() {
    let nats = testkit::nats().await;
    let (_, place) = nats.url.split_once('@').unwrap();
    let started = std::time::Instant::now();
    let refused = chassis::nats::connect(&format!("nats://wallet:hunter2@{place}"), "test").await;
    assert_eq!(format!("{:#}", refused.unwrap_err()), "NATS refuses the credentials");
    assert!(started.elapsed() < Duration::from_secs(10), "no point in trying again");
}
