//! What everything in a simulated run shares: virtual time, dice, what happens next, how rough it
//! is, and what has been seen.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;

use ledger_core::Outcome;
use primitives::Timestamp;

use crate::judge::Judge;
use crate::postgres::Postgres;
use crate::requests::Town;
use crate::stream::{Message, Stream};
use crate::weather::Weather;

/// How many events the trace of a run ends with.
const TRACE_MAX: usize = 250;
/// When every run begins.
const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

/// Fails with a sentence unless something holds.
pub(crate) fn insist(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(sentence())) }
}

/// A bug the shell could have, to see that the simulation would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The cursor is moved from wherever it is.
    SkippedCompare,
    /// What a batch changes is committed before the cursor is looked at.
    SavedBeforeCompare,
    /// What was used is purged though the stream may be another one that has grown as far.
    PurgedWithoutWitness,
}

/// All chance there is in a run: SplitMix64 from its seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0 … `n` − 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % n).unwrap_or(0)
    }

    /// Both ends can come.
    pub(crate) fn between(&mut self, least: i64, greatest: i64) -> i64 {
        let width = greatest.abs_diff(least).saturating_add(1);
        least.saturating_add_unsigned(self.next() % width)
    }

    pub(crate) fn per_mille(&mut self, n: usize) -> bool {
        n > 0 && self.below(1_000) < n
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }
}

/// What an asker is told: an outcome a transfer, or that the message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Outcomes(Vec<Outcome>),
    Malformed,
}

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// An asker looks up: it has thought enough, or waited long enough for this asking.
    Ask { asker: usize, asking: u64 },
    /// A message reaches the stream.
    Arrive(Rc<Message>),
    /// The stream's refusal reaches whoever asked.
    Refused { asker: usize, asking: u64 },
    /// The ledger's answer reaches whoever asked.
    Answered { asker: usize, asking: u64, answer: Answer },
    /// A writer takes its next step, unless it has planned another since.
    Work { writer: usize, step: u64 },
    /// A writer looks at the stream beside its reading.
    Look { writer: usize, life: u64 },
    /// Something breaks.
    Accident,
}

#[derive(Debug)]
struct Due {
    at: Timestamp,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// How often things were seen.
#[derive(Debug, Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &'static str, n: usize) {
        let sum = self.0.entry(what).or_default();
        *sum = sum.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, n) in &other.0 {
            let sum = self.0.entry(what).or_default();
            *sum = sum.saturating_add(*n);
        }
    }
}

/// Everything but the askers and the writers.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) bug: Option<Bug>,
    pub(crate) tally: Tally,
    pub(crate) stream: Stream,
    pub(crate) postgres: Postgres,
    pub(crate) judge: Judge,
    pub(crate) town: Town,
    /// How often anything was asked.
    pub(crate) n_asked: usize,
    /// Commands on their way to the stream.
    pub(crate) n_on_the_way: usize,
    due: BinaryHeap<Reverse<Due>>,
    n_planned: u64,
    trace: Option<VecDeque<String>>,
}

impl World {
    /// The world of a seed; only a traced one remembers what happened.
    pub(crate) fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let weather = Weather::draw(&mut dice);
        let postgres = Postgres::new(START, weather.silence_max_us);
        Self {
            now: START,
            bug,
            tally: Tally::default(),
            stream: Stream::new(START, weather.flush_every_us, weather.stream_max),
            judge: Judge::new(postgres.tables.accounts()),
            postgres,
            town: Town::new(weather.n_wallets, weather.again),
            n_asked: 0,
            n_on_the_way: 0,
            due: BinaryHeap::new(),
            n_planned: 0,
            trace: traced.then(VecDeque::new),
            dice,
            weather,
        }
    }

    /// Plans `event` for `after_us` microseconds from now.
    pub(crate) fn plan(&mut self, after_us: i64, event: Event) {
        self.n_planned = self.n_planned.wrapping_add(1);
        let at = Timestamp::from_micros(self.now.micros().saturating_add(after_us.max(1)));
        self.due.push(Reverse(Due { at, number: self.n_planned, event }));
    }

    /// As [`World::plan`], at a moment drawn between the two.
    pub(crate) fn plan_within(&mut self, least_us: i64, greatest_us: i64, event: Event) {
        let after_us = self.dice.between(least_us, greatest_us);
        self.plan(after_us, event);
    }

    /// Goes to the next event.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse(due) = self.due.pop()?;
        self.now = due.at;
        Some(due.event)
    }

    /// Remembers a line, if anybody will read it.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        if trace.len() >= TRACE_MAX {
            trace.pop_front();
        }
        let us = self.now.micros().saturating_sub(START.micros());
        trace.push_back(format!("{:>5}.{:06} {}", us / 1_000_000, us % 1_000_000, line()));
    }

    /// The last events, a line each.
    pub(crate) fn trace(&self) -> String {
        let lines = self.trace.iter().flatten().map(String::as_str);
        lines.collect::<Vec<_>>().join("\n")
    }
}
