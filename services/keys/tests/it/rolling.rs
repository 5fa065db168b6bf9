//! Rolling over: a new key in the place of one that has expired, once.

use futures_util::future::join_all;
use primitives::{KeyId, UserId};
use proto_events::keys::v1 as wire;

use crate::harness::{
    Harness, assert_refused, create, create_any, denial, key_id, refusal, revoke, roll_over, status,
};

#[tokio::test]
async fn a_new_key_takes_the_name_and_permissions_of_an_expired_one() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let asked = [wire::Permission::Deposit, wire::Permission::Transfer];
    let old = it.ask(&create(user_id, "shop", &asked, wire::Expiry::Hour)).await;
    it.age(key_id(&old), 1).await;
    let new = it.ask(&roll_over(user_id, key_id(&old), wire::Expiry::Year)).await;

    assert_eq!(refusal(&new), wire::Refusal::Unspecified);
    assert_ne!(new.api_key, old.api_key);
    let (old_key, new_key) = (old.key.as_ref().unwrap(), new.key.as_ref().unwrap());
    assert_eq!((&new_key.name, &new_key.permissions), (&old_key.name, &old_key.permissions));
    assert_eq!(new_key.expires_at_us - new_key.created_at_us, 365 * 86_400_000_000);
    assert_eq!(denial(&it.verify(&new.api_key).await), wire::VerifyRefusal::Unspecified);
    assert_eq!(denial(&it.verify(&old.api_key).await), wire::VerifyRefusal::Expired);
    let statuses: Vec<_> = it.list(user_id).await.iter().map(status).collect();
    assert_eq!(statuses, [wire::KeyStatus::Active, wire::KeyStatus::RolledOver]);
    it.finish().await;
}

#[tokio::test]
async fn only_an_expired_key_that_was_not_revoked_is_rolled_over() {
    let it = Harness::start().await;
    let (user_id, thief) = (UserId::generate(), UserId::generate());
    let ask = async |who, key_id| it.ask(&roll_over(who, key_id, wire::Expiry::Day)).await;

    let good = it.ask(&create_any(user_id)).await;
    assert_refused(&ask(user_id, key_id(&good)).await, wire::Refusal::KeyNotExpired);
    it.ask(&revoke(user_id, key_id(&good))).await;
    assert_refused(&ask(user_id, key_id(&good)).await, wire::Refusal::KeyRevoked);
    it.age(key_id(&good), 25).await;
    assert_refused(&ask(user_id, key_id(&good)).await, wire::Refusal::KeyRevoked);

    let expired = it.aged_key(user_id, wire::Expiry::Hour, 1).await;
    let stolen = ask(thief, key_id(&expired)).await;
    assert_refused(&stolen, wire::Refusal::KeyNotFound);
    assert_eq!(ask(thief, KeyId::generate()).await, stolen);
    assert_eq!(refusal(&ask(user_id, key_id(&expired)).await), wire::Refusal::Unspecified);
    assert_refused(&ask(user_id, key_id(&expired)).await, wire::Refusal::KeyAlreadyRolledOver);
    it.finish().await;
}

#[tokio::test]
async fn two_rollovers_at_once_make_one_key() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let expired = it.aged_key(user_id, wire::Expiry::Day, 24).await;
    let commands: Vec<_> =
        (0..8).map(|_| roll_over(user_id, key_id(&expired), wire::Expiry::Day)).collect();
    let outcomes = join_all(commands.iter().map(|command| it.ask(command))).await;
    let (made, refused): (Vec<_>, Vec<_>) =
        outcomes.iter().partition(|it| refusal(it) == wire::Refusal::Unspecified);
    assert_eq!((made.len(), refused.len()), (1, 7));
    for outcome in refused {
        assert_refused(outcome, wire::Refusal::KeyAlreadyRolledOver);
    }
    assert_eq!(it.list(user_id).await.len(), 2);
    it.finish().await;
}

#[tokio::test]
async fn a_rollover_counts_as_a_key() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let expired = it.aged_key(user_id, wire::Expiry::Hour, 1).await;
    let mut made = vec![];
    for _ in 0..5 {
        made.push(it.ask(&create_any(user_id)).await);
    }
    let command = roll_over(user_id, key_id(&expired), wire::Expiry::Hour);
    assert_refused(&it.ask(&command).await, wire::Refusal::KeyLimitReached);
    it.ask(&revoke(user_id, key_id(&made[0]))).await;
    assert_eq!(refusal(&it.ask(&command).await), wire::Refusal::Unspecified);
    it.finish().await;
}
