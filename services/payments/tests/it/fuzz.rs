//! Random bytes at the door for webhooks: nothing panics, nothing is credited, the service lives on.
//!
//! `FUZZ_SECONDS` says for how long, `SEED` from what; both are printed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use testkit::paystack_signature;

use crate::store;
use crate::world::{KEY, World};

/// Bodies sent side by side.
const AT_ONCE: usize = 16;
const FUZZ_SECONDS: u64 = 3;

#[expect(clippy::disallowed_methods, reason = "knobs of the test, not of a service")]
fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_nothing_panics_and_nothing_is_credited() {
    let seconds = knob("FUZZ_SECONDS", FUZZ_SECONDS);
    let seed = knob("SEED", rand::random());
    eprintln!("FUZZ_SECONDS={seconds} SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new().await;
    // Claims of what was never paid are many; they must all end with a person.
    world.config.pace.confirm_for_ms = 60_000;
    world.start().await;
    let (account_id, started) = world.checkout().await;
    let (untouched, later) = world.checkout().await;
    let charge = format!(
        r#"{{"event":"charge.success","data":{{"id":302961,"domain":"test","status":"success","reference":"{}","amount":5000,"currency":"NGN","requested_amount":5000,"metadata":{{"a":[1,2,{{"b":null}}]}}}}}}"#,
        started.reference
    );
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut n_sent = 0_u64;
    while Instant::now() < until {
        let round: Vec<(Vec<u8>, bool)> = (0..AT_ONCE)
            .map(|_| (body(&mut random, charge.as_bytes()), random.random_bool(0.8)))
            .collect();
        let sent = round.iter().map(async |(body, is_signed)| {
            if *is_signed {
                assert_eq!(world.post(body).await, 200, "{}", String::from_utf8_lossy(body));
            } else {
                let signature = paystack_signature("sk_test_nobodys", body);
                assert_eq!(world.post_signed(body, &signature).await, 401);
            }
        });
        join_all(sent).await;
        n_sent += u64::try_from(AT_ONCE).unwrap();
    }
    world.until_inbox_is_empty().await;
    eprintln!("{n_sent} bodies, {} of them kept", store::webhooks(world.pool()).await.len());
    assert!(world.ledger.posted().is_empty());
    assert_eq!(world.ledger.balance(account_id), 0);
    // It lives on: somebody else's payment is credited as ever.
    world.pay(&later.reference);
    testkit::eventually("the credit", crate::world::BOUND, async || {
        match world.ledger.balance(untouched) {
            5_000 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    assert_eq!(paystack_signature(KEY, b"").len(), 128);
    world.finish().await;
}

/// Noise, or a good body with something done to it.
fn body(random: &mut StdRng, good: &[u8]) -> Vec<u8> {
    let mut body = good.to_vec();
    match random.random_range(0..7) {
        0 => {
            let mut noise = vec![0; random.random_range(0..2_000)];
            random.fill_bytes(&mut noise);
            return noise;
        }
        1 => body.truncate(random.random_range(0..body.len())),
        2 => {
            for _ in 0..random.random_range(1..8) {
                let place = random.random_range(0..body.len());
                body[place] = random.random();
            }
        }
        3 => {
            let from = random.random_range(0..body.len());
            let piece = body[from..random.random_range(from..body.len())].to_vec();
            let to = random.random_range(0..body.len());
            body.splice(to..to, piece);
        }
        4 => {
            let numbers =
                ["-1", "1e309", "18446744073709551616", "5000.0", "\"5000\"", "null", "{}"];
            let number = numbers[random.random_range(0..numbers.len())];
            let text = String::from_utf8_lossy(&body).replace("5000", number);
            return text.into_bytes();
        }
        5 => {
            let depth = random.random_range(1..5_000);
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            return String::from_utf8_lossy(&body).replace("null", &deep).into_bytes();
        }
        _ => {
            let odd = ["\\u0000", "\\ud800", "\u{202e}", "\\\"", "'; drop table", "\u{7f}"];
            let odd = odd[random.random_range(0..odd.len())];
            let words = ["charge", "NGN", "test", "success", "dep-", "metadata"];
            let word = words[random.random_range(0..words.len())];
            return String::from_utf8_lossy(&body).replace(word, odd).into_bytes();
        }
    }
    body
}
