//! What somebody can make the platform do who has no key: little.

use std::sync::atomic::Ordering;

use proto_events::keys::v1::Permission;

use super::stage::{Money, stand_in_for_keys};

const GOOD: &str = "sk_test_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ";
/// A dozen requests at once, and then one a second.
const STRICT: &[(&str, &str)] =
    &[("--api-address-rate-per-second", "1"), ("--api-address-rate-burst", "12")];

fn made_up(i: usize) -> String {
    format!("sk_test_{i:043}")
}

#[tokio::test]
async fn a_flood_of_made_up_keys_reaches_nobody_and_locks_nobody_out() {
    let money = Money::start(STRICT).await;
    let context = &money.stage.replica.context;
    let n_asked = stand_in_for_keys(context, GOOD, money.ada.user, &[Permission::Read]).await;
    let balance = |key: &str| money.stage.client().get("/wallet/balance").api_key(key).send();
    balance(GOOD).await.expect(200);
    let mut n_limited = 0;
    for i in 0..200 {
        let answer = balance(&made_up(i)).await;
        match answer.status.as_u16() {
            401 => drop(answer.problem(401, "invalid_api_key")),
            _ => {
                answer.problem(429, "rate_limited");
                n_limited += 1;
            }
        }
    }
    let n_asked = n_asked.load(Ordering::SeqCst);
    assert!(n_limited > 100, "{n_limited} of 200 were turned away");
    assert_eq!(n_asked, 201 - n_limited, "who is turned away is not asked about");
    balance(GOOD).await.expect(200);
    money.end().await;
}

#[tokio::test]
async fn addresses_that_do_not_exist_are_counted() {
    let money = Money::start(STRICT).await;
    let mut statuses = Vec::new();
    for i in 0..60 {
        let path = ["/wallet/nothing", "/keys/nothing", "/wallet/balance/"][i % 3];
        statuses.push(money.stage.client().get(path).send().await.status.as_u16());
    }
    assert!(statuses.iter().all(|it| [404, 429].contains(it)), "{statuses:?}");
    assert!(statuses.iter().filter(|it| **it == 429).count() > 20, "{statuses:?}");
    money.look("/wallet/balance").await.expect(200);
    money.end().await;
}
