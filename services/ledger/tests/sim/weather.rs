//! How rough a run is: sizes and probabilities, all drawn from its seed.
//!
//! Virtual seconds are short. What takes two minutes or fifteen seconds outside (the stream's
//! flush, the silence after which Postgres ends a session) takes milliseconds to seconds here, so
//! that a run of some thousand commands sees many of each.

use crate::world::Dice;

/// Sizes in what they count, times in microseconds, the rest per mille.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weather {
    pub(crate) n_commands: usize,
    pub(crate) n_askers: usize,
    pub(crate) n_wallets: usize,
    /// How often something is asked that was asked before.
    pub(crate) again: usize,
    pub(crate) n_writers: usize,
    /// How many accounts a writer remembers.
    pub(crate) accounts_max: usize,
    /// How many messages it takes at once.
    pub(crate) batch_max: usize,
    /// Whether only one writer at a time believes that it leads.
    pub(crate) leased: bool,
    /// How far a writer's clock may be from the right time.
    pub(crate) skew_max_us: i64,
    /// How long a session may be silent before Postgres ends it.
    pub(crate) silence_max_us: i64,
    /// How long a writer that stands still does so at most.
    pub(crate) pause_max_us: i64,
    /// How often a writer looks at the stream and purges it.
    pub(crate) look_every_us: i64,
    /// How often the stream reaches the disk.
    pub(crate) flush_every_us: i64,
    /// How many messages the stream keeps before it refuses more.
    pub(crate) stream_max: usize,
    /// How long there is peace between two accidents, at most; 0 is for ever.
    pub(crate) peace_max_us: i64,
    /// A publish never reaches the stream.
    pub(crate) publish_lost: usize,
    /// The stream keeps a message twice.
    pub(crate) kept_twice: usize,
    /// An answer is lost.
    pub(crate) answer_lost: usize,
    /// A message says nothing that can be read.
    pub(crate) unreadable: usize,
    /// At a step of a writer: its process ends.
    pub(crate) crash: usize,
    /// At a step of a writer: it stands still.
    pub(crate) pause: usize,
    /// At a step of a writer: its session with Postgres ends.
    pub(crate) session_lost: usize,
    /// At a step of a writer: Postgres refuses a statement for no reason in it.
    pub(crate) hiccup: usize,
    /// At a commit: it may have happened, and the writer is told that it failed.
    pub(crate) commit_unknown: usize,
}

impl Weather {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        // One in five is calm, the others are rough to a degree.
        let degree = dice.below(5);
        let mut upto = |max: usize| if degree == 0 { 0 } else { dice.below(max * degree / 4 + 1) };
        let (publish_lost, kept_twice, answer_lost) = (upto(40), upto(40), upto(60));
        let (unreadable, crash, pause) = (upto(8), upto(12), upto(12));
        let (session_lost, hiccup, commit_unknown) = (upto(12), upto(12), upto(60));
        Self {
            n_commands: 1_500 + dice.below(2_000),
            n_askers: 4 + dice.below(28),
            n_wallets: 3 + dice.below(22),
            again: dice.pick(&[4, 30, 120]).unwrap_or(0),
            n_writers: 1 + dice.below(3),
            accounts_max: dice.pick(&[1, 2, 5, 12, 1_000]).unwrap_or(1),
            batch_max: dice.pick(&[1, 3, 10, 40, 200]).unwrap_or(1),
            leased: dice.below(3) == 0,
            skew_max_us: dice.pick(&[0, 1_000, 30_000]).unwrap_or(0),
            silence_max_us: dice.between(50_000, 1_500_000),
            pause_max_us: dice.between(1_000, 2_500_000),
            look_every_us: dice.between(3_000, 100_000),
            flush_every_us: dice.between(1_000, 400_000),
            stream_max: dice.pick(&[60, 1_000, 100_000]).unwrap_or(1),
            peace_max_us: if degree == 0 { 0 } else { dice.between(50_000, 1_000_000) },
            publish_lost,
            kept_twice,
            answer_lost,
            unreadable,
            crash,
            pause,
            session_lost,
            hiccup,
            commit_unknown,
        }
    }

    /// Nothing breaks any more.
    pub(crate) fn calm_down(&mut self) {
        *self = Self {
            stream_max: usize::MAX,
            peace_max_us: 0,
            publish_lost: 0,
            kept_twice: 0,
            answer_lost: 0,
            unreadable: 0,
            crash: 0,
            pause: 0,
            session_lost: 0,
            hiccup: 0,
            commit_unknown: 0,
            ..self.clone()
        };
    }
}
