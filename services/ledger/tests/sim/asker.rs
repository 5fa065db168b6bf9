//! An asker: asks, waits, asks again under the same ids when no answer came, or gives up.

use std::rc::Rc;

use ledger_core::Command;

use crate::stream::Message;
use crate::world::{Answer, Event, World};

/// How long the first wait of an asking is at least.
const WAIT_MIN_US: i64 = 8_000;
/// How long any wait is at most.
const WAIT_MAX_US: i64 = 400_000;

#[derive(Debug)]
pub(crate) struct Asker {
    n: usize,
    /// The newest asking; answers to others come too late.
    asking: u64,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    command: Rc<Command>,
    wait_us: i64,
}

impl Asker {
    pub(crate) fn new(n: usize, world: &mut World) -> Self {
        world.plan_within(1, 5_000, Event::Ask { asker: n, asking: 0 });
        Self { n, asking: 0, waiting: None }
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.waiting.is_none()
    }

    /// It has thought, or waited, long enough; `more` says whether anything new is asked.
    pub(crate) fn ask(&mut self, world: &mut World, asking: u64, more: bool) {
        if asking != self.asking {
            return;
        }
        let again = self.waiting.take().filter(|_| !more || world.dice.below(8) > 0);
        let next = match again {
            Some(Waiting { command, wait_us }) => {
                world.tally.count("asked again");
                Waiting { command, wait_us: wait_us.saturating_mul(2).min(WAIT_MAX_US) }
            }
            None if more => Waiting {
                command: world.town.command(&mut world.dice, world.now),
                wait_us: world.dice.between(WAIT_MIN_US, 8 * WAIT_MIN_US),
            },
            None => return,
        };
        self.publish(world, next);
    }

    fn publish(&mut self, world: &mut World, next: Waiting) {
        self.asking += 1;
        let (asker, asking) = (self.n, self.asking);
        let readable = !world.dice.per_mille(world.weather.unreadable);
        let command = readable.then(|| next.command.clone());
        world.n_asked += 1;
        if world.dice.per_mille(world.weather.publish_lost) {
            world.tally.count("publish lost");
        } else {
            let message = Rc::new(Message { command, asker, asking });
            world.n_on_the_way += 1;
            world.plan_within(50, 3_000, Event::Arrive(message));
        }
        world.plan(next.wait_us, Event::Ask { asker, asking });
        self.waiting = Some(next);
    }

    /// The stream has refused: it is surely not there, and may be asked again soon.
    pub(crate) fn refused(&mut self, world: &mut World, asking: u64) {
        if asking == self.asking && self.waiting.is_some() {
            world.plan_within(2_000, 60_000, Event::Ask { asker: self.n, asking });
        }
    }

    pub(crate) fn answered(&mut self, world: &mut World, asking: u64, answer: &Answer) {
        if asking != self.asking || self.waiting.is_none() {
            world.tally.count("answered too late");
            return;
        }
        let heard = *answer != Answer::Malformed;
        if heard {
            self.waiting = None;
        }
        self.asking += 1;
        world.plan_within(10, 4_000, Event::Ask { asker: self.n, asking: self.asking });
    }
}
