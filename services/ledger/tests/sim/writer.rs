//! A ledger process: the shell around the real rules, as `bus::follow` and `services/ledger` are.
//!
//! It takes one step at a time, and at each it may crash, stand still for any length, or lose its
//! session; what it does in a step is what one statement or one look does outside.

mod batch;

use bus::place::{Change, Judgement, Place, StreamFacts, judge};
use ledger_core::Writer;
use primitives::Timestamp;

use crate::postgres::{Ended, Moved, SessionId};
use crate::stream::Feed;
use crate::world::{Bug, Event, Violation, World, insist};
use batch::Batch;

const READER: &str = "ledger";
const STREAM: &str = "CMD_LEDGER";

pub(crate) struct Ledger {
    n: usize,
    /// Counts processes: nothing of an earlier one goes on.
    life: u64,
    /// The step that is planned; a later plan replaces an earlier one.
    step: u64,
    /// Stands still until then.
    paused_until: Timestamp,
    /// How far its clock is from the right time.
    skew_us: i64,
    memory: Writer,
    state: State,
    purging: Option<Purge>,
}

/// What is about to be purged: everything before a sequence of the stream that was looked at.
struct Purge {
    sequence: u64,
    stream_life: u64,
}

enum State {
    /// It has nothing yet.
    Starting,
    /// It leads, and looks for its place.
    Placing(SessionId),
    /// It has opened a feed, and judges whether the stream is the one its place is in.
    Judging(Lead, Option<StreamFacts>),
    /// It is not: a new epoch begins.
    Changing(Lead, Change, Timestamp),
    Reading(Lead),
    Carrying(Lead, Box<Batch>),
}

struct Lead {
    session: SessionId,
    place: Place,
    feed: Feed,
    /// The stream was seen to be another one.
    changed: bool,
}

/// Why it stops leading and starts again.
enum Stop {
    /// The cursor was elsewhere: another one writes.
    Fenced,
    /// The session ended, or the feed did.
    Trouble(&'static str),
    /// The simulation has found something.
    Found(Violation),
}

impl From<Ended> for Stop {
    fn from(Ended: Ended) -> Self {
        Self::Trouble("session lost")
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Found(violation)
    }
}

impl Ledger {
    pub(crate) fn new(n: usize, world: &mut World) -> Self {
        let mut ledger = Self {
            n,
            life: 0,
            step: 0,
            paused_until: world.now,
            skew_us: 0,
            memory: Writer::new(1),
            state: State::Starting,
            purging: None,
        };
        ledger.start(world, 1);
        ledger
    }

    /// A new process, which knows nothing.
    fn start(&mut self, world: &mut World, after_us: i64) {
        self.life += 1;
        self.paused_until = world.now;
        let skew_max_us = world.weather.skew_max_us;
        self.skew_us = world.dice.between(-skew_max_us, skew_max_us);
        self.memory = Writer::new(world.weather.accounts_max);
        self.state = State::Starting;
        self.purging = None;
        self.plan(world, after_us, after_us);
        world.plan(after_us, Event::Look { writer: self.n, life: self.life });
    }

    fn plan(&mut self, world: &mut World, least_us: i64, greatest_us: i64) {
        self.step += 1;
        let event = Event::Work { writer: self.n, step: self.step };
        world.plan_within(least_us, greatest_us, event);
    }

    /// Nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(&self.state, State::Reading(lead) if lead.feed.received.is_empty())
    }

    fn session(&self) -> Option<SessionId> {
        match &self.state {
            State::Starting => None,
            State::Placing(session) => Some(*session),
            State::Judging(lead, _)
            | State::Changing(lead, ..)
            | State::Reading(lead)
            | State::Carrying(lead, _) => Some(lead.session),
        }
    }

    /// Something has arrived: one that waits for it looks.
    pub(crate) fn wake(&mut self, world: &mut World) {
        if self.is_idle() && self.paused_until <= world.now {
            self.plan(world, 50, 400);
        }
    }

    /// Takes the planned step.
    pub(crate) fn work(&mut self, world: &mut World, step: u64) -> Result<(), Violation> {
        if step != self.step {
            return Ok(());
        }
        if world.dice.per_mille(world.weather.crash) {
            self.crash(world);
            return Ok(());
        }
        if self.paused_until <= world.now && world.dice.per_mille(world.weather.pause) {
            let pause_us = world.dice.between(100, world.weather.pause_max_us);
            self.paused_until = Timestamp::from_micros(world.now.micros() + pause_us);
            world.tally.count("pauses");
            world.say(|| format!("ledger {} stands still for {pause_us} us", self.n));
            self.plan(world, pause_us, pause_us);
            return Ok(());
        }
        if world.dice.per_mille(world.weather.session_lost)
            && let Some(session) = self.session()
        {
            world.tally.count("sessions lost");
            world.postgres.end(session);
        }
        let session = self.session();
        let state = std::mem::replace(&mut self.state, State::Starting);
        match self.go(world, state) {
            Ok(state) => self.state = state,
            Err(stop) => {
                // The locks go with the session.
                session.into_iter().for_each(|it| world.postgres.end(it));
                self.stop(world, stop)?;
            }
        }
        Ok(())
    }

    fn go(&mut self, world: &mut World, state: State) -> Result<State, Stop> {
        match state {
            State::Starting => Ok(self.lead(world)),
            State::Placing(session) => self.find_place(world, session),
            State::Judging(lead, facts) => self.judge(world, lead, facts),
            State::Changing(lead, change, born_at) => {
                self.begin_epoch(world, lead, change, born_at)
            }
            State::Reading(lead) => self.read(world, lead),
            State::Carrying(lead, batch) => self.carry(world, lead, batch),
        }
    }

    /// The process is gone. Its session ends at once, or when Postgres has heard nothing of it for
    /// long enough.
    fn crash(&mut self, world: &mut World) {
        world.tally.count("crashes");
        world.say(|| format!("ledger {} crashes", self.n));
        if let Some(session) = self.session().filter(|_| world.dice.below(3) > 0) {
            world.postgres.end(session);
        }
        let after_us = world.dice.between(100, 60_000);
        self.start(world, after_us);
    }

    /// What is in memory cannot be believed any more.
    fn stop(&mut self, world: &mut World, stop: Stop) -> Result<(), Violation> {
        let why = match stop {
            Stop::Found(violation) => return Err(violation),
            Stop::Fenced => "fences",
            Stop::Trouble(why) => why,
        };
        world.tally.count(why);
        world.say(|| format!("ledger {} stops: {why}", self.n));
        self.memory.forget();
        self.plan(world, 100, 5_000);
        Ok(())
    }

    fn lead(&mut self, world: &mut World) -> State {
        match world.postgres.try_lead(world.now, world.weather.leased) {
            Some(session) => {
                self.plan(world, 20, 300);
                State::Placing(session)
            }
            None => {
                world.tally.count("stood by");
                self.plan(world, 5_000, 60_000);
                State::Starting
            }
        }
    }

    fn find_place(&mut self, world: &mut World, session: SessionId) -> Result<State, Stop> {
        self.plan(world, 20, 300);
        world.stream.make(world.now);
        let Some(place) = world.postgres.load_place(session, world.now)? else {
            let born_at = world.stream.facts().map_or(world.now, |it| it.born_at);
            let first = Place::first(READER, STREAM, born_at);
            world.postgres.insert_place(session, first, world.now)?;
            return Ok(State::Placing(session));
        };
        let feed = world.stream.feed(place.next_sequence());
        Ok(State::Judging(Lead { session, place, feed, changed: false }, None))
    }

    /// Looks at the stream, and only if that does not tell, in a step of its own, at the message at
    /// its place.
    fn judge(
        &mut self,
        world: &mut World,
        lead: Lead,
        seen: Option<StreamFacts>,
    ) -> Result<State, Stop> {
        self.plan(world, 20, 300);
        world.postgres.ping(lead.session, world.now)?;
        let witness = seen.map(|_| world.stream.look_at(lead.place.sequence));
        let facts = seen.or_else(|| world.stream.facts()).ok_or(Stop::Trouble("stream gone"))?;
        Ok(match judge(&lead.place, &facts, witness) {
            Judgement::Same => State::Reading(lead),
            Judgement::LookAtWitness => State::Judging(lead, Some(facts)),
            Judgement::Changed(change) => State::Changing(lead, change, facts.born_at),
        })
    }

    fn begin_epoch(
        &mut self,
        world: &mut World,
        lead: Lead,
        change: Change,
        born_at: Timestamp,
    ) -> Result<State, Stop> {
        let Lead { session, place, .. } = lead;
        let next = place.begin_epoch(born_at);
        world.postgres.begin(session, world.now)?;
        let moved = world.postgres.move_place(session, (&place, next), world.now, world.bug)?;
        if moved == Moved::Locked {
            self.plan(world, 2_000, 20_000);
            return Ok(State::Changing(lead, change, born_at));
        }
        self.plan(world, 20, 300);
        if moved == Moved::Yes {
            batch::commit(world, session)?;
            world.tally.count(match change {
                Change::MadeAgain => "epochs: stream made again",
                Change::RolledBack => "epochs: stream rolled back",
                Change::GrownAgain => "epochs: stream grown again",
            });
            world.say(|| format!("ledger {}: stream {change}, epoch {}", self.n, next.epoch));
        }
        Ok(State::Placing(session))
    }

    fn read(&mut self, world: &mut World, mut lead: Lead) -> Result<State, Stop> {
        if lead.changed {
            return Err(Stop::Trouble("feeds ended"));
        }
        world.postgres.ping(lead.session, world.now)?;
        let received_max = world.weather.batch_max.saturating_mul(2);
        let open = world.stream.serve(&mut lead.feed, received_max);
        // An end is noticed behind what was received before it, or at once by the connection.
        if !open && (lead.feed.received.is_empty() || world.dice.below(3) == 0) {
            return Err(Stop::Trouble("feeds ended"));
        }
        if lead.feed.received.is_empty() {
            self.plan(world, 10_000, 40_000);
            return Ok(State::Reading(lead));
        }
        let n = lead.feed.received.len().min(world.weather.batch_max);
        let batch = Box::new(Batch::new(lead.feed.received.drain(..n).collect()));
        self.plan(world, 5, 100);
        Ok(State::Carrying(lead, batch))
    }

    /// Looks at the stream beside the reading, and purges what was applied, as `follow::keep` does:
    /// the look and the purge are two requests, and anything may happen between them.
    pub(crate) fn look(&mut self, world: &mut World, life: u64) -> Result<(), Violation> {
        if life != self.life {
            return Ok(());
        }
        let event = Event::Look { writer: self.n, life };
        if self.paused_until > world.now {
            let pause_us = self.paused_until.micros() - world.now.micros();
            world.plan_within(pause_us, pause_us + 200, event);
            return Ok(());
        }
        if let Some(purge) = self.purging.take() {
            world.plan(world.weather.look_every_us, event);
            return self.purge(world, purge);
        }
        let lead = match &mut self.state {
            State::Reading(lead) | State::Carrying(lead, _) => Some(lead),
            State::Starting | State::Placing(_) | State::Judging(..) | State::Changing(..) => None,
        };
        let Some((lead, facts)) = lead.zip(world.stream.facts()) else {
            world.plan(world.weather.look_every_us, event);
            return Ok(());
        };
        let sequence = lead.place.sequence;
        let asked = world.bug != Some(Bug::PurgedWithoutWitness);
        let witness = asked.then(|| world.stream.look_at(sequence));
        match judge(&lead.place, &facts, witness) {
            Judgement::Changed(_) => {
                lead.changed = true;
                world.plan(world.weather.look_every_us, event);
            }
            Judgement::Same | Judgement::LookAtWitness => {
                self.purging = Some(Purge { sequence, stream_life: world.stream.life() });
                world.plan_within(50, 500, event);
            }
        }
        Ok(())
    }

    /// Purging takes what was used, and nothing else; unless the request comes to a stream that is
    /// not the one that was looked at. Then commands are lost as by any other loss of the stream.
    fn purge(&self, world: &mut World, purge: Purge) -> Result<(), Violation> {
        let n_unused = world.stream.purge(purge.sequence);
        if n_unused > 0 {
            world.tally.add("messages purged too late", n_unused);
            world.say(|| format!("ledger {} purged {n_unused} messages too late", self.n));
        }
        insist(n_unused == 0 || purge.stream_life != world.stream.life(), || {
            format!("ledger {} purged {n_unused} messages that nobody has used", self.n)
        })
    }
}
