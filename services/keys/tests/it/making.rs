//! Making keys, and what a key that was made can be seen to be.

use std::time::Duration;

use futures_util::future::join_all;
use keys::key::ApiKey;
use primitives::{KeyId, Timestamp, UserId};
use proto_events::convert::WireId;
use proto_events::keys::v1 as wire;
use proto_events::keys::v1::command::Body;

use crate::harness::{
    Harness, assert_refused, create, create_any, denial, key_id, refusal, revoke, status,
};

#[tokio::test]
async fn a_key_is_shown_once_and_then_known_by_its_digest() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let asked = [wire::Permission::Transfer, wire::Permission::Read];
    let before = Timestamp::now();
    let made = it.ask(&create(user_id, "till Nº 1", &asked, wire::Expiry::Month)).await;

    assert_eq!((refusal(&made), made.replayed), (wire::Refusal::Unspecified, false));
    let api_key = ApiKey::parse(&made.api_key).unwrap();
    assert!(made.api_key.starts_with("sk_test_"));
    let key = made.key.clone().unwrap();
    assert_eq!((key.name.as_str(), key.prefix.as_str()), ("till Nº 1", api_key.prefix()));
    let printed: Vec<i32> =
        [wire::Permission::Read, wire::Permission::Transfer].map(i32::from).to_vec();
    assert_eq!(key.permissions, printed);
    assert_eq!((status(&key), key.last_used_at_us), (wire::KeyStatus::Active, 0));
    assert!(key.created_at_us >= before.micros());
    let thirty_days = Duration::from_hours(30 * 24);
    let created_at = Timestamp::from_micros(key.created_at_us);
    assert_eq!(key.expires_at_us, created_at.plus(thirty_days).micros());

    assert_eq!(it.list(user_id).await, vec![key.clone()]);
    let verified = it.verify(&made.api_key).await;
    assert_eq!(denial(&verified), wire::VerifyRefusal::Unspecified);
    assert_eq!((&verified.key_id, &verified.user_id), (&key.key_id, &user_id.to_bytes()));
    assert_eq!((verified.permissions, verified.expires_at_us), (printed, key.expires_at_us));
    it.finish().await;
}

#[tokio::test]
async fn a_key_nobody_made_is_unknown() {
    let it = Harness::start().await;
    let made = it.ask(&create_any(UserId::generate())).await;
    let other = ApiKey::from_secret(keys::key::Mode::Test, &[9; 32]);
    assert_ne!(made.api_key, other.expose());
    let live = made.api_key.replace("sk_test_", "sk_live_");
    for unknown in [other.expose(), &live] {
        let verified = it.verify(unknown).await;
        assert_eq!(denial(&verified), wire::VerifyRefusal::Unknown);
        assert!(verified.user_id.is_empty() && verified.permissions.is_empty());
    }
    it.finish().await;
}

#[tokio::test]
async fn lists_show_a_persons_own_keys_newest_first() {
    let it = Harness::start().await;
    let (user_id, other) = (UserId::generate(), UserId::generate());
    assert_eq!(it.list(user_id).await, vec![]);
    let mut made = vec![];
    for name in ["a", "b", "c"] {
        let command = create(user_id, name, &[wire::Permission::Read], wire::Expiry::Hour);
        made.push(it.ask(&command).await);
    }
    it.ask(&create_any(other)).await;
    it.age(key_id(&made[0]), 2).await;
    it.ask(&revoke(user_id, key_id(&made[1]))).await;

    let listed = it.list(user_id).await;
    let seen: Vec<_> = listed.iter().map(|key| (key.name.as_str(), status(key))).collect();
    assert_eq!(
        seen,
        [
            ("c", wire::KeyStatus::Active),
            ("b", wire::KeyStatus::Revoked),
            ("a", wire::KeyStatus::Expired),
        ]
    );
    assert_eq!(it.list(other).await.len(), 1);
    it.finish().await;
}

#[tokio::test]
async fn ten_keys_asked_for_at_once_are_at_most_five() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let commands: Vec<_> = (0..10).map(|_| create_any(user_id)).collect();
    let outcomes = join_all(commands.iter().map(|command| it.ask(command))).await;
    let (made, refused): (Vec<_>, Vec<_>) =
        outcomes.iter().partition(|it| refusal(it) == wire::Refusal::Unspecified);
    assert_eq!((made.len(), refused.len()), (5, 5));
    for outcome in refused {
        assert_refused(outcome, wire::Refusal::KeyLimitReached);
    }
    assert_eq!(it.list(user_id).await.len(), 5);

    // A key that ends makes room for one more, and only one.
    it.ask(&revoke(user_id, key_id(made[0]))).await;
    assert_eq!(refusal(&it.ask(&create_any(user_id)).await), wire::Refusal::Unspecified);
    assert_refused(&it.ask(&create_any(user_id)).await, wire::Refusal::KeyLimitReached);
    it.age(key_id(made[1]), 25).await;
    assert_eq!(refusal(&it.ask(&create_any(user_id)).await), wire::Refusal::Unspecified);
    assert_refused(&it.ask(&create_any(user_id)).await, wire::Refusal::KeyLimitReached);
    // Nobody else is hindered.
    let other = it.ask(&create_any(UserId::generate())).await;
    assert_eq!(refusal(&other), wire::Refusal::Unspecified);
    it.finish().await;
}

#[tokio::test]
async fn an_expired_key_opens_nothing() {
    let it = Harness::start().await;
    let made = it.aged_key(UserId::generate(), wire::Expiry::Hour, 1).await;
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Expired);
    it.finish().await;
}

#[tokio::test]
async fn a_command_that_comes_too_late_is_refused() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let mut command = create_any(user_id);
    command.deadline_at_us = Timestamp::now().minus(Duration::from_millis(1)).micros();
    assert_refused(&it.ask(&command).await, wire::Refusal::DeadlineExceeded);
    assert_eq!(it.list(user_id).await, vec![]);
    it.finish().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_parked_and_the_rest_goes_on() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let good = create_any(user_id);
    let with_key = |change: &dyn Fn(&mut wire::CreateKey)| {
        let mut command = good.clone();
        if let Some(Body::CreateKey(key)) = &mut command.body {
            change(key);
        }
        command
    };
    let with = |change: &dyn Fn(&mut wire::Command)| {
        let mut command = good.clone();
        change(&mut command);
        command
    };
    let bad = [
        with_key(&|it| it.name = String::new()),
        with_key(&|it| it.name = "x".repeat(101)),
        with_key(&|it| it.name = "a\0b".to_owned()),
        with_key(&|it| it.permissions = vec![]),
        with_key(&|it| it.permissions = vec![1, 1]),
        with_key(&|it| it.permissions = vec![0]),
        with_key(&|it| it.permissions = vec![4]),
        with_key(&|it| it.expiry = 0),
        with_key(&|it| it.expiry = 5),
        with_key(&|it| it.key_id = vec![1; 15].into()),
        with(&|it| it.user_id = vec![].into()),
        with(&|it| it.deadline_at_us = 0),
        with(&|it| it.body = None),
        with(&|it| it.request_key = vec![1; 31].into()),
        with(&|it| it.request_key = vec![1; 32].into()),
    ];
    let outcomes = join_all(bad.iter().map(|command| it.ask(command))).await;
    for (outcome, command) in outcomes.iter().zip(&bad) {
        assert_eq!(refusal(outcome), wire::Refusal::Malformed, "{command:?}");
    }
    assert_eq!(it.list(user_id).await, vec![]);
    let parked = it.texts("select reason from bus.parked".to_owned()).await;
    assert_eq!(parked.len(), bad.len(), "{parked:?}");
    assert_eq!(refusal(&it.ask(&good).await), wire::Refusal::Unspecified);
    it.finish().await;
}

#[tokio::test]
async fn an_id_that_belongs_to_another_key_makes_none() {
    let it = Harness::start().await;
    let (user_id, other) = (UserId::generate(), UserId::generate());
    let command = create_any(user_id);
    let made = it.ask(&command).await;

    // The same person and no request key: the same command again, whose answer is gone.
    let again = it.ask(&command).await;
    assert_refused(&again, wire::Refusal::KeyCannotBeShown);
    assert!(again.replayed);
    let mut stolen = create_any(other);
    if let Some(Body::CreateKey(key)) = &mut stolen.body {
        key.key_id = key_id(&made).to_bytes();
    }
    assert_eq!(refusal(&it.ask(&stolen).await), wire::Refusal::Malformed);
    assert_eq!((it.list(user_id).await.len(), it.list(other).await.len()), (1, 0));
    assert!(KeyId::read("key_id", &it.verify(&made.api_key).await.key_id).is_ok());
    it.finish().await;
}
