//! What a wallet held at a past moment.

use primitives::Timestamp;
use serde_json::Value;
use testkit::Answer;

use crate::promise::Promise;
use crate::world::{Person, World, text};

const BALANCE: &str = "GET /wallet/balance";

async fn at(world: &World, person: &Person, moment: &str) -> Answer {
    let path = format!("/wallet/balance?at={moment}");
    world.client.get(&path).bearer(&person.token).send().await
}

#[tokio::test]
async fn a_balance_is_what_had_been_decided_by_then() {
    let world = World::start().await;
    let promise = Promise::of(&world.client).await;
    let before = Timestamp::now();
    let ada = world.funded("ada@example.com", 10_000).await;
    let bola = world.person("bola@example.com").await;
    let mut moments = Vec::new();
    for (from, to, amount) in [(&ada, &bola, 1_000), (&bola, &ada, 300), (&ada, &bola, 9_300)] {
        let sent: Value = world.transfer(from, to, amount).send().await.ok();
        moments.push(Timestamp::parse(&text(&sent, "created_at")).unwrap());
    }
    let nothing: Value = world.transfer(&ada, &bola, 1).send().await.read();
    assert_eq!(text(&nothing, "code"), "insufficient_funds", "a refusal changes nothing");

    let micro = std::time::Duration::from_micros(1);
    for (moment, adas, bolas) in [
        (before, 0, 0),
        (moments[0].minus(micro), 10_000, 0),
        (moments[0], 9_000, 1_000),
        (moments[1].minus(micro), 9_000, 1_000),
        (moments[1], 9_300, 700),
        (moments[2].minus(micro), 9_300, 700),
        (moments[2], 0, 10_000),
        (Timestamp::now(), 0, 10_000),
        (Timestamp::from_seconds(0), 0, 0),
        (Timestamp::from_seconds(-1), 0, 0),
    ] {
        for (person, expected) in [(&ada, adas), (&bola, bolas)] {
            let answer = at(&world, person, &moment.to_string()).await;
            promise.insist_on(BALANCE, &answer);
            let then: Value = answer.ok();
            assert_eq!(then["balance"], expected, "{moment}: {then}");
            assert_eq!(then["available"], expected, "{moment}: {then}");
            assert_eq!(text(&then, "at"), moment.to_string());
            assert_eq!(text(&then, "wallet_number"), person.wallet_number);
        }
    }
    let now: Value = world.client.get("/wallet/balance").bearer(&ada.token).send().await.ok();
    assert!(now.get("at").is_none() && now["balance"] == 0, "{now}");
    world.finish().await;
}
