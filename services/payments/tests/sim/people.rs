//! What people do, and the weather between them and us: all drawn from the seed.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sandbox::paystack::model::{Attempt, Outcome};

/// A test card whose refund fails.
const FAILS: &str = "4084080000671803";
/// A test card whose refund needs the payer's bank account.
const NEEDS_ATTENTION: &str = "4084080000671902";

/// What goes wrong, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// A question or its answer is lost.
    pub(crate) lost: f64,
    /// The process dies between two steps.
    pub(crate) crash: f64,
    /// A webhook never comes.
    pub(crate) webhook_lost: f64,
    /// A webhook comes once more.
    pub(crate) webhook_twice: f64,
    /// A webhook names another amount.
    pub(crate) webhook_garbled: f64,
    /// A wallet is frozen from the beginning.
    pub(crate) frozen: f64,
}

impl Weather {
    /// Nothing goes wrong.
    pub(crate) const CALM: Self = Self {
        lost: 0.0,
        crash: 0.0,
        webhook_lost: 0.0,
        webhook_twice: 0.0,
        webhook_garbled: 0.0,
        frozen: 0.0,
    };
}

/// The dice of one run.
#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    pub(crate) fn weather(&mut self) -> Weather {
        let mut up_to = |most: f64| self.0.random_range(0.0..most);
        Weather {
            lost: up_to(0.3),
            crash: up_to(0.2),
            webhook_lost: up_to(0.6),
            webhook_twice: up_to(0.5),
            webhook_garbled: up_to(0.1),
            frozen: up_to(0.1),
        }
    }

    /// What somebody at the checkout does, who was asked for `amount_minor`.
    pub(crate) fn attempt(&mut self, amount_minor: u64) -> Attempt {
        let good = Attempt::new(Outcome::Success);
        match self.below(100) {
            0..60 => good,
            // Cards whose refunds fail, or need the payer's account.
            60..65 => Attempt { card: FAILS.to_owned(), ..good },
            65..70 => Attempt { card: NEEDS_ATTENTION.to_owned(), ..good },
            70..80 => Attempt { other_amount: Some(amount_minor + 1 + self.below(50)), ..good },
            80..84 => Attempt { other_currency: Some("USD".to_owned()), ..good },
            84..94 => Attempt::new(Outcome::Failed),
            _ => Attempt::new(Outcome::Abandoned),
        }
    }
}
