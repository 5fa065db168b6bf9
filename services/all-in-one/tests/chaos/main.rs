//! Deposits in bad weather at Paystack, while processes, NATS and Postgres are killed: at the end
//! everything is as Paystack's own record says.
//!
//! The processes are real, one for each service, and end by `kill -9` at moments drawn from a seed.
//! `make chaos` runs two thousand deposits; `make chaos SEED=7` has the same weather, the same
//! people and the same victims in the same order, at moments that only the machine knows.

#[cfg(test)]
mod books;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod people;
#[cfg(test)]
mod platform;

#[cfg(test)]
mod run {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use sandbox::paystack::model::{Attempt, Outcome};
    use testkit::eventually;

    use crate::books::{Seen, differences};
    use crate::kills::{self, Blow, Victim};
    use crate::people::Crowd;
    use crate::platform::Platform;

    /// Small enough for every run of all tests.
    const DEPOSITS: usize = 60;
    /// So many deposits are worth another kill of everybody.
    const DEPOSITS_A_KILL: usize = 300;
    /// From calm weather to the last deposit in its place: leases, circuits and pauses run out.
    const SETTLED_WITHIN: Duration = Duration::from_secs(60);
    /// A run has an end, and time to say before what was missing.
    const RUN_MIN: Duration = Duration::from_secs(150);
    const RUN_PER_DEPOSIT: Duration = Duration::from_millis(100);
    /// From one blow to the next.
    const GOES_ON_WITHIN: Duration = Duration::from_secs(120);

    #[expect(clippy::disallowed_methods, reason = "the knobs of a test are variables")]
    fn knob(name: &str) -> Option<u64> {
        let text = std::env::var(name).ok().filter(|it| !it.is_empty())?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
    }

    /// Strikes each blow when as many deposits were begun as it waits for.
    async fn strike(platform: &mut Platform, crowd: &Crowd, blows: &[Blow]) {
        for blow in blows {
            eventually("the deposits go on", GOES_ON_WITHIN, async || {
                crowd.insist_on_nobody_failed();
                let n = crowd.n_begun();
                if n >= blow.after { Ok(()) } else { Err(format!("{n} of {}", blow.after)) }
            })
            .await;
            tokio::time::sleep(blow.pause).await;
            platform.strike(blow).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_deposit_ends_as_paystack_says_whatever_is_killed() {
        let seed = knob("SEED").unwrap_or_else(rand::random);
        let n_deposits = knob("DEPOSITS").map_or(DEPOSITS, |it| usize::try_from(it).unwrap());
        eprintln!("SEED={seed} DEPOSITS={n_deposits}");
        let bound = RUN_MIN + RUN_PER_DEPOSIT * u32::try_from(n_deposits).unwrap();
        let run = tokio::time::timeout(bound, chaos(seed, n_deposits)).await;
        run.unwrap_or_else(|_| panic!("not over after {bound:?}"));
    }

    async fn chaos(seed: u64, n_deposits: usize) {
        let begun = Instant::now();
        let mut platform = Platform::start(seed).await;
        let crowd = Crowd::arrive(&platform, seed, n_deposits).await;
        let ready = begun.elapsed();
        let n_each = (n_deposits / DEPOSITS_A_KILL).max(1);
        let traffic = Arc::clone(&crowd).begin();
        strike(&mut platform, &crowd, &kills::plan(seed, n_deposits, n_each)).await;
        let asked = crowd.end(traffic).await;
        let busy = begun.elapsed() - ready;

        platform.calm();
        let settled = eventually("everything is as Paystack says", SETTLED_WITHIN, async || {
            let seen = Seen::look(&platform, &crowd, &asked).await?;
            match differences(&seen).as_slice() {
                [] => Ok(seen),
                found => Err(format!("{} differences: {found:#?}", found.len())),
            }
        })
        .await;
        let settling = begun.elapsed() - ready - busy;
        eprintln!("{}", told(&platform, &crowd));
        eprintln!("{settled}");
        eprintln!("{ready:.1?} to begin, {busy:.1?} of blows, {settling:.1?} to settle");
        assert!(Victim::ALL.iter().all(|it| platform.n_killed(*it) >= n_each));

        // Whatever was in hand is finished, and it is still so.
        platform.stop().await;
        let mut seen = Seen::look(&platform, &crowd, &asked).await.unwrap();
        seen.wallets = settled.wallets;
        assert_eq!(differences(&seen), Vec::<String>::new());
        assert_eq!(platform.violations().await, Vec::<String>::new());
        platform.fsck().await.expect("the books balance");
        is_awake(&platform, &crowd, seen).await;
    }

    /// The audit is no formality: it notices a kobo that nobody credited, and one too many.
    async fn is_awake(platform: &Platform, crowd: &Crowd, seen: Seen) {
        let unpaid = seen.paystack.values().find(|it| !it.status.is_paid());
        let unpaid = unpaid.expect("somebody walked away").reference.clone();
        platform.sandbox.pay(&unpaid, Attempt::new(Outcome::Success)).expect("it can be paid");
        let mut late = Seen::look(platform, crowd, &seen.asked).await.unwrap();
        late.wallets = seen.wallets;
        let found = differences(&late);
        assert!(found.iter().any(|it| it.contains("clearing")), "{found:?}");

        platform.tamper().await;
        let mut tampered = Seen::look(platform, crowd, &seen.asked).await.unwrap();
        tampered.wallets = seen.wallets;
        tampered.paystack = seen.paystack;
        tampered.totals = seen.totals;
        assert!(!differences(&tampered).is_empty(), "one kobo more was credited");
        assert!(!platform.violations().await.is_empty());
        assert!(platform.fsck().await.is_err());
    }

    /// What the weather and the kills were.
    fn told(platform: &Platform, crowd: &Crowd) -> String {
        let killed: BTreeMap<_, _> =
            Victim::ALL.iter().map(|it| (*it, platform.n_killed(*it))).collect();
        let faults: u64 = platform.sandbox.struck().values().sum();
        format!(
            "killed: {killed:?}; ended by themselves: {:?}\n\
             faults: {faults}, {:?}\n\
             answers that were not the last: {:?}",
            platform.fallen,
            platform.sandbox.struck(),
            crowd.weather(),
        )
    }
}
