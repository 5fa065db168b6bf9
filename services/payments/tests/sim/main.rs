//! Deposits in one thread and virtual time, by seed: the real lifecycle and the real judgement of
//! what Paystack says, on the ledger's real rules and the sandbox's model of Paystack, over a network
//! that loses, repeats, delays and garbles, with a process that dies between any two steps.
//!
//! `make sim-payments` runs a thousand seeds of a thousand deposits; `make sim-payments SEED=7`
//! repeats one, and tells the life of a deposit that went wrong. The test runs fewer.

#[cfg(test)]
mod books;
#[cfg(test)]
mod giving_back;
#[cfg(test)]
mod people;
#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};

    use crate::world::{Bug, Tally, World};

    /// Runs of the test, and deposits in each; `SEEDS` and `DEPOSITS` say otherwise.
    const SEEDS: u64 = 60;
    const DEPOSITS: usize = 300;
    /// What must be seen in a thousand deposits: a weather that spares something shows nothing of it.
    const LEAST_PER_THOUSAND: u64 = 1;

    /// A number from the environment.
    fn knob(name: &str) -> Option<u64> {
        let text = std::env::var_os(name).filter(|it| !it.is_empty())?;
        let number = text.to_str().and_then(|it| it.parse().ok());
        Some(number.unwrap_or_else(|| panic!("{name} is a number")))
    }

    fn n_deposits() -> usize {
        knob("DEPOSITS").map_or(DEPOSITS, |it| usize::try_from(it).unwrap_or(usize::MAX))
    }

    /// Runs one seed to its end; what went wrong, if anything.
    fn run(seed: u64, bug: Option<Bug>, is_traced: bool) -> Result<Tally, String> {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed, n_deposits(), bug, is_traced);
            world.play().map(|()| world.tally)
        }));
        played.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("a panic: {}", said.unwrap_or("it did not say why")))
        })
    }

    /// Runs seeds on all cores, up to the first violation; says what was seen.
    fn run_all(n_seeds: u64) -> (Tally, Option<u64>) {
        let (next, failed) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
        let seen = Mutex::new(Tally::default());
        let work = || loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // Every seed before the first that fails is run, so the answer is always the same.
            if seed > n_seeds || seed > failed.load(Ordering::Relaxed) {
                break;
            }
            match run(seed, None, false) {
                Ok(tally) => seen.lock().unwrap_or_else(PoisonError::into_inner).add(&tally),
                Err(_) => {
                    failed.fetch_min(seed, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let failed = Some(failed.into_inner()).filter(|it| *it <= n_seeds);
        (seen.into_inner().unwrap_or_else(PoisonError::into_inner), failed)
    }

    #[test]
    fn every_deposit_ends_as_paystacks_own_record_says() {
        let begun = std::time::Instant::now();
        if let Some(seed) = knob("SEED") {
            match run(seed, None, true) {
                Ok(tally) => eprintln!("seed {seed}: {tally:#?}"),
                Err(what) => panic!("{what}\nmake sim-payments SEED={seed}"),
            }
            return;
        }
        let (tally, failed) = run_all(knob("SEEDS").unwrap_or(SEEDS));
        eprintln!("{tally:#?}\n{} s", begun.elapsed().as_secs());
        if let Some(seed) = failed {
            let what = run(seed, None, true).err().unwrap_or_default();
            panic!("{what}\nmake sim-payments SEED={seed}");
        }
        let least = tally.n_deposits / 1_000 * LEAST_PER_THOUSAND;
        for (what, n) in tally.all() {
            assert!(n >= least, "{n} {what} in {} deposits", tally.n_deposits);
        }
    }

    /// Runs until a planted bug is found.
    fn find(bug: Bug) {
        let seed = (1..=20).find(|seed| run(*seed, Some(bug), false).is_err());
        let seed = seed.unwrap_or_else(|| panic!("{bug:?} is not found"));
        eprintln!("{bug:?} is found by seed {seed}");
    }

    #[test]
    fn a_credit_of_what_the_webhook_says_is_found() {
        find(Bug::CreditWebhookAmount);
    }

    #[test]
    fn a_refund_that_is_asked_for_again_without_a_look_is_found() {
        find(Bug::AskAgain);
    }

    #[test]
    fn a_deposit_that_is_marked_before_the_ledger_answered_is_found() {
        find(Bug::MarkBeforeLedger);
    }
}
