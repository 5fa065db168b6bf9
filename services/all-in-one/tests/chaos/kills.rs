//! Who is killed when: everybody as often, in an order, after pauses and for times drawn from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Between what a blow waits for and the blow: any step of a deposit may be under way then.
const PAUSE_MS: u64 = 400;
/// How long a victim stays down.
const DOWN_MS: u64 = 800;
/// How often two are killed at once.
const TWO_AT_ONCE: f64 = 0.25;

/// What can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    Postgres,
    Nats,
    Ledger,
    Payments,
    Api,
}

impl Victim {
    pub(crate) const ALL: [Self; 5] =
        [Self::Postgres, Self::Nats, Self::Ledger, Self::Payments, Self::Api];
}

/// Kills, and after a while everything is started again.
#[derive(Debug)]
pub(crate) struct Blow {
    pub(crate) victims: Vec<Victim>,
    /// Waits until so many deposits were begun.
    pub(crate) after: usize,
    pub(crate) pause: Duration,
    pub(crate) down: Duration,
}

/// Blows from the first deposit to the last, by which everybody is killed `n_each` times.
pub(crate) fn plan(seed: u64, n_deposits: usize, n_each: usize) -> Vec<Blow> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xb10);
    let mut victims = Vec::new();
    for _ in 0..n_each {
        let mut all = Victim::ALL;
        all.shuffle(&mut rng);
        victims.extend(all);
    }
    let mut together: Vec<Vec<Victim>> = Vec::new();
    for victim in victims {
        let joins = rng.random_bool(TWO_AT_ONCE);
        match together.last_mut() {
            Some(last) if joins && last.len() == 1 && last[0] != victim => last.push(victim),
            Some(_) | None => together.push(vec![victim]),
        }
    }
    let n_blows = together.len();
    let blow = |(n, victims)| {
        // The last one waits for the last deposit.
        let after = n_deposits * (n + 1) / n_blows;
        let pause = Duration::from_millis(rng.random_range(0..PAUSE_MS));
        Blow { victims, after, pause, down: Duration::from_millis(rng.random_range(0..DOWN_MS)) }
    };
    together.into_iter().enumerate().map(blow).collect()
}

#[test]
fn everybody_is_killed_as_often_and_the_last_blow_is_after_the_last_deposit() {
    for seed in 0..100 {
        let blows = plan(seed, 2_000, 6);
        for victim in Victim::ALL {
            let n = blows.iter().filter(|it| it.victims.contains(&victim)).count();
            assert_eq!(n, 6, "{victim:?}");
        }
        assert!(blows.is_sorted_by_key(|it| it.after));
        assert_eq!(blows.last().map(|it| it.after), Some(2_000));
    }
}
