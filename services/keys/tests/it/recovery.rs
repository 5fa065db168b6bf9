//! Stops between any two steps: the same end as if nothing had happened.

use std::time::Duration;

use bus::ask::{self, Asker};
use primitives::UserId;
use proto_events::keys::v1 as wire;
use proto_events::subjects;

use crate::harness::{
    Harness, create_any, denial, key_id, once_more, refusal, revoke, status, under,
};

/// Sends a command whose answer nobody will hear.
async fn ask_in_vain(it: &Harness, subject: &'static str, command: &wire::Command) {
    let asker = Asker::new(it.nats_client());
    let wait = Duration::from_millis(300);
    let lost = asker.command::<wire::Outcome>(subject, command, wait).await;
    assert!(matches!(lost, Err(ask::Error::Unknown)), "{lost:?}");
}

#[tokio::test]
async fn a_command_that_arrived_while_nobody_read_is_decided_later() {
    let mut it = Harness::start().await;
    let user_id = UserId::generate();
    let command = under(create_any(user_id), 1, 1);
    // Stopped after the stream took it, before anybody decided.
    it.stop().await;
    ask_in_vain(&it, subjects::keys::CREATE_KEY, &command).await;
    it.start_again().await;

    let again = it.ask(&once_more(&command)).await;
    assert_eq!((refusal(&again), again.replayed), (wire::Refusal::Unspecified, true));
    let listed = it.list(user_id).await;
    assert_eq!(listed, vec![again.key.clone().unwrap()]);
    assert_eq!(denial(&it.verify(&again.api_key).await), wire::VerifyRefusal::Unspecified);
    it.finish().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_after_the_commit_is_given_again() {
    let mut it = Harness::start().await;
    let user_id = UserId::generate();
    let command = under(create_any(user_id), 1, 1);
    // The caller is gone by the time of the answer: for it, the process stopped after the commit.
    let gone = it.nats.client().await;
    let jetstream = async_nats::jetstream::new(gone);
    let payload = prost::Message::encode_to_vec(&command).into();
    jetstream.publish(subjects::keys::CREATE_KEY, payload).await.unwrap().await.unwrap();
    testkit::eventually("the key is made", Duration::from_secs(20), async || {
        match it.list(user_id).await.len() {
            1 => Ok(()),
            n_keys => Err(format!("{n_keys} keys")),
        }
    })
    .await;
    it.stop().await;
    it.start_again().await;

    let first = it.ask(&once_more(&command)).await;
    let second = it.ask(&once_more(&command)).await;
    assert!(first.replayed && !first.api_key.is_empty());
    assert_eq!(first, second);
    assert_eq!(it.list(user_id).await.len(), 1);
    it.finish().await;
}

#[tokio::test]
async fn a_key_revoked_while_nobody_read_is_revoked_and_announced_later() {
    let mut it = Harness::start().await;
    let user_id = UserId::generate();
    let made = it.ask(&create_any(user_id)).await;
    it.stop().await;
    ask_in_vain(&it, subjects::keys::REVOKE_KEY, &revoke(user_id, key_id(&made))).await;
    it.start_again().await;
    testkit::eventually("the key is revoked", Duration::from_secs(20), async || {
        let seen = status(&it.list(user_id).await[0]);
        if seen == wire::KeyStatus::Revoked { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    testkit::eventually("the news are out", Duration::from_secs(20), async || {
        let stream = async_nats::jetstream::new(it.nats_client());
        let mut stream = stream.get_stream("EVT").await.unwrap();
        match stream.info().await.unwrap().state.messages {
            1 => Ok(()),
            n_events => Err(format!("{n_events} events")),
        }
    })
    .await;
    it.finish().await;
}

#[tokio::test]
async fn two_replicas_decide_each_command_once() {
    let it = Harness::start().await;
    let second = testkit::context(&it.nats).await;
    keys::start(it.config.clone(), &second).await.unwrap();
    let user_id = UserId::generate();
    let commands: Vec<_> = (0..20).map(|_| create_any(user_id)).collect();
    let outcomes =
        futures_util::future::join_all(commands.iter().map(|command| it.ask(command))).await;
    let n_made = outcomes.iter().filter(|it| refusal(it) == wire::Refusal::Unspecified).count();
    assert_eq!(n_made, 5);
    assert_eq!(it.list(user_id).await.len(), 5);
    second.shutdown().cancel();
    second.drain(Duration::from_secs(20)).await.unwrap();
    it.finish().await;
}
