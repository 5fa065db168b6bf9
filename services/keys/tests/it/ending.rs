//! Revoking: at once, everywhere, by the key's own person, as often as one likes.

use std::time::{Duration, Instant};

use bus::ask::Asker;
use futures_util::StreamExt;
use futures_util::future::join_all;
use keys::key::ApiKey;
use primitives::{KeyId, UserId};
use prost::Message;
use proto_events::common::v1::Envelope;
use proto_events::convert::WireId;
use proto_events::keys::v1 as wire;
use proto_events::subjects;

use crate::harness::{
    Harness, assert_refused, create_any, denial, key_id, refusal, revoke, status, under,
};

#[tokio::test]
async fn a_revoked_key_is_announced_within_a_second() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let made = it.ask(&create_any(user_id)).await;
    let mut news = it.nats_client().subscribe(subjects::keys::KEY_REVOKED).await.unwrap();
    it.nats_client().flush().await.unwrap();

    let asked_at = Instant::now();
    let ended = it.ask(&revoke(user_id, key_id(&made))).await;
    let message = tokio::time::timeout(Duration::from_secs(20), news.next()).await.unwrap();
    let elapsed = asked_at.elapsed();
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");

    let envelope = Envelope::decode(message.unwrap().payload).unwrap();
    assert_eq!(envelope.origin, "keys");
    let revoked = wire::KeyRevoked::decode(envelope.payload).unwrap();
    assert_eq!(revoked.key_id, key_id(&made).to_bytes());
    assert_eq!(revoked.digest[..], ApiKey::parse(&made.api_key).unwrap().digest().0);

    assert_eq!(refusal(&ended), wire::Refusal::Unspecified);
    assert_eq!(
        (status(&ended.key.unwrap()), ended.api_key),
        (wire::KeyStatus::Revoked, String::new())
    );
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Revoked);
    it.finish().await;
}

#[tokio::test]
async fn revoking_again_changes_and_announces_nothing() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let made = it.ask(&create_any(user_id)).await;
    let command = revoke(user_id, key_id(&made));
    let outcomes = join_all((0..10).map(|_| it.ask(&command))).await;
    for outcome in &outcomes {
        assert_eq!(refusal(outcome), wire::Refusal::Unspecified);
        assert_eq!(outcome.key, outcomes[0].key);
    }
    assert_eq!(outcomes.iter().filter(|it| !it.replayed).count(), 1);
    // Under a request key as well, with no digest or with one.
    let mut bare = under(command.clone(), 1, 1);
    bare.request_digest = vec![].into();
    for command in [&bare, &bare, &under(command.clone(), 2, 2), &under(command.clone(), 2, 2)] {
        assert_eq!(refusal(&it.ask(command).await), wire::Refusal::Unspecified);
    }
    let news = "select event_id::text from bus.outbox".to_owned();
    assert_eq!(it.texts(news).await.len(), 1);
    it.finish().await;
}

#[tokio::test]
async fn another_persons_key_is_not_found_like_one_that_never_was() {
    let it = Harness::start().await;
    let (owner, thief) = (UserId::generate(), UserId::generate());
    let made = it.ask(&create_any(owner)).await;
    let stolen = it.ask(&revoke(thief, key_id(&made))).await;
    assert_refused(&stolen, wire::Refusal::KeyNotFound);
    assert_eq!(it.ask(&revoke(thief, KeyId::generate())).await, stolen);
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Unspecified);
    it.finish().await;
}

#[tokio::test]
async fn an_expired_key_can_still_be_revoked() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let made = it.aged_key(user_id, wire::Expiry::Hour, 2).await;
    let ended = it.ask(&revoke(user_id, key_id(&made))).await;
    assert_eq!(status(&ended.key.unwrap()), wire::KeyStatus::Revoked);
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Revoked);
    it.finish().await;
}

#[tokio::test]
async fn a_body_that_its_subject_does_not_name_is_refused() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let made = it.ask(&create_any(user_id)).await;
    let asker = Asker::new(it.nats_client());
    let command = revoke(user_id, key_id(&made));
    let wait = Duration::from_secs(20);
    let outcome: wire::Outcome =
        asker.command(subjects::keys::CREATE_KEY, &command, wait).await.unwrap();
    assert_eq!(refusal(&outcome), wire::Refusal::Malformed);
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Unspecified);
    it.finish().await;
}
