//! The same request again: the same answer, key included, though only its digest is kept.

use futures_util::future::join_all;
use primitives::UserId;
use proto_events::keys::v1 as wire;

use crate::harness::{
    Harness, NEXT_SECRET, SECRET, assert_refused, create, create_any, denial, key_id, once_more,
    refusal, revoke, roll_over, under,
};

/// Equal but for the word that it is a repeat.
#[track_caller]
fn assert_repeats(first: &wire::Outcome, again: &wire::Outcome) {
    assert!(!first.replayed && again.replayed);
    assert_eq!(wire::Outcome { replayed: true, ..first.clone() }, *again);
}

#[tokio::test]
async fn the_same_request_gives_the_same_key() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let command = under(create_any(user_id), 1, 1);
    let made = it.ask(&command).await;
    assert_eq!(refusal(&made), wire::Refusal::Unspecified);
    assert_repeats(&made, &it.ask(&once_more(&command)).await);
    assert_repeats(&made, &it.ask(&command).await);
    assert_eq!(it.list(user_id).await.len(), 1);
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Unspecified);
    it.finish().await;
}

#[tokio::test]
async fn twenty_copies_at_once_make_one_key() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let command = under(create_any(user_id), 1, 1);
    let copies: Vec<_> = (0..20).map(|_| once_more(&command)).collect();
    let outcomes = join_all(copies.iter().map(|command| it.ask(command))).await;
    let first = outcomes.iter().find(|it| !it.replayed).unwrap();
    for again in outcomes.iter().filter(|it| it.replayed) {
        assert_repeats(first, again);
    }
    assert_eq!(outcomes.iter().filter(|it| it.replayed).count(), 19);
    assert_eq!(it.list(user_id).await.len(), 1);
    it.finish().await;
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let command = under(create_any(user_id), 1, 1);
    let made = it.ask(&command).await;
    let named = create(user_id, "other", &[wire::Permission::Read], wire::Expiry::Day);
    for other in [
        under(named, 1, 2),
        under(revoke(user_id, key_id(&made)), 1, 3),
        under(create_any(UserId::generate()), 1, 1),
    ] {
        let outcome = it.ask(&other).await;
        assert_refused(&outcome, wire::Refusal::IdempotencyKeyReused);
        assert!(!outcome.replayed);
    }
    // Such a refusal is not kept: the request that came first still has its answer.
    assert_repeats(&made, &it.ask(&once_more(&command)).await);
    assert_eq!(it.list(user_id).await.len(), 1);
    it.finish().await;
}

#[tokio::test]
async fn a_refusal_is_repeated_even_when_its_reason_is_gone() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let mut made = vec![];
    for _ in 0..5 {
        made.push(it.ask(&create_any(user_id)).await);
    }
    let limited = under(create_any(user_id), 1, 1);
    let too_early = under(roll_over(user_id, key_id(&made[0]), wire::Expiry::Day), 2, 2);
    let mut late = under(create_any(user_id), 3, 3);
    late.deadline_at_us = 1;
    let unknown = under(revoke(UserId::generate(), key_id(&made[0])), 4, 4);
    let commands = [limited, too_early, late, unknown];
    let expected = [
        wire::Refusal::KeyLimitReached,
        wire::Refusal::KeyNotExpired,
        wire::Refusal::DeadlineExceeded,
        wire::Refusal::KeyNotFound,
    ];
    let mut first = vec![];
    for (command, expected) in commands.iter().zip(expected) {
        first.push(it.ask(command).await);
        assert_refused(&first[first.len() - 1], expected);
    }

    it.age(key_id(&made[0]), 25).await;
    it.ask(&revoke(user_id, key_id(&made[1]))).await;
    for (command, first) in commands.iter().zip(&first) {
        let mut again = once_more(command);
        again.deadline_at_us = i64::MAX;
        assert_repeats(first, &it.ask(&again).await);
    }
    assert_eq!(it.list(user_id).await.len(), 5);
    it.finish().await;
}

#[tokio::test]
async fn a_repeat_is_answered_even_after_its_deadline_and_the_keys_end() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let command = under(create_any(user_id), 1, 1);
    let made = it.ask(&command).await;
    let mut late = once_more(&command);
    late.deadline_at_us = 1;
    assert_repeats(&made, &it.ask(&late).await);

    it.ask(&revoke(user_id, key_id(&made))).await;
    let again = it.ask(&late).await;
    assert_eq!((again.replayed, &again.api_key), (true, &made.api_key));
    assert_eq!(denial(&it.verify(&again.api_key).await), wire::VerifyRefusal::Revoked);
    it.finish().await;
}

#[tokio::test]
async fn a_rollover_is_repeated_with_its_key() {
    let it = Harness::start().await;
    let user_id = UserId::generate();
    let expired = it.aged_key(user_id, wire::Expiry::Hour, 1).await;
    let command = under(roll_over(user_id, key_id(&expired), wire::Expiry::Day), 1, 1);
    let made = it.ask(&command).await;
    assert_eq!(refusal(&made), wire::Refusal::Unspecified);
    assert_repeats(&made, &it.ask(&once_more(&command)).await);
    assert_eq!(it.list(user_id).await.len(), 2);
    it.finish().await;
}

#[tokio::test]
async fn a_repeat_survives_a_restart_and_one_change_of_secret() {
    let mut it = Harness::start().await;
    let user_id = UserId::generate();
    let command = under(create_any(user_id), 1, 1);
    let made = it.ask(&command).await;

    it.stop().await;
    it.start_again().await;
    assert_repeats(&made, &it.ask(&once_more(&command)).await);

    it.stop().await;
    it.config.secret = NEXT_SECRET.parse().unwrap();
    it.config.secret_previous = Some(SECRET.parse().unwrap());
    it.config.mode = keys::key::Mode::Live;
    it.start_again().await;
    assert_repeats(&made, &it.ask(&once_more(&command)).await);

    // Without the secret it was derived from, the key cannot be shown.
    it.stop().await;
    it.config.secret_previous = None;
    it.start_again().await;
    let again = it.ask(&once_more(&command)).await;
    assert_refused(&again, wire::Refusal::KeyCannotBeShown);
    assert!(again.replayed);

    // That no was not kept either.
    it.stop().await;
    it.config.secret_previous = Some(SECRET.parse().unwrap());
    it.start_again().await;
    assert_repeats(&made, &it.ask(&once_more(&command)).await);
    assert_eq!(denial(&it.verify(&made.api_key).await), wire::VerifyRefusal::Unspecified);
    it.finish().await;
}
