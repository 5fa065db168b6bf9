//! One batch from its transaction to its answers: the steps of `bus::follow`'s `attempt` and of the
//! ledger's `Post`, in their order.

use std::rc::Rc;

use ledger_core::{Changes, Command, Found, Outcome, Writer};
use primitives::Timestamp;

use super::{Lead, Ledger, State, Stop};
use crate::judge::Committed;
use crate::postgres::{Ended, Moved, Refusal, SessionId};
use crate::print;
use crate::stream::Kept;
use crate::world::{Answer, Bug, Event, Violation, World};

/// What a batch does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    MoveCursor,
    FindSubjects,
    FindRest,
    Decide,
    Save,
    Commit,
    Tell,
}

#[derive(Debug)]
pub(super) struct Batch {
    messages: Vec<Kept>,
    stage: Stage,
    /// The writer's clock at the beginning: by it the batch is decided.
    now: Timestamp,
    found: Found,
    /// For each message; none for those nobody can read.
    outcomes: Vec<Option<Vec<Outcome>>>,
    changes: Option<Rc<Changes>>,
    /// It has met a decision that was there before.
    met_a_repeat: bool,
    n_told: usize,
}

impl Batch {
    pub(super) fn new(messages: Vec<Kept>) -> Self {
        Self {
            messages,
            stage: Stage::Begin,
            now: Timestamp::from_micros(0),
            found: Found::default(),
            outcomes: Vec::new(),
            changes: None,
            met_a_repeat: false,
            n_told: 0,
        }
    }

    fn commands(&self) -> impl Iterator<Item = &Command> + Clone {
        self.messages.iter().filter_map(|it| it.message.command.as_deref())
    }
}

/// Commits where nothing can be refused but by a guard that should never be needed.
pub(super) fn commit(world: &mut World, session: SessionId) -> Result<(), Stop> {
    world.postgres.commit(session, world.now).map_err(refused)
}

fn refused(refusal: Refusal) -> Stop {
    let constraint = match refusal {
        Refusal::Ended => return Ended.into(),
        Refusal::Repeat => "transfers_transfer_id_once",
        Refusal::Broken(constraint) => constraint,
    };
    Stop::Found(Violation(format!("Postgres had to be the guard: {constraint}")))
}

impl Ledger {
    /// Takes the batch's next step.
    pub(super) fn carry(
        &mut self,
        world: &mut World,
        mut lead: Lead,
        mut batch: Box<Batch>,
    ) -> Result<State, Stop> {
        let stage = batch.stage;
        if stage != Stage::Tell && world.dice.per_mille(world.weather.hiccup) {
            // The handler is told that the batch was rolled back, and tries it again.
            world.tally.count("hiccups");
            world.postgres.rollback(lead.session);
            self.memory.forget();
            *batch = Batch::new(std::mem::take(&mut batch.messages));
            self.plan(world, 500, 20_000);
            return Ok(State::Carrying(lead, batch));
        }
        self.plan(world, 10, 200);
        let early = world.bug == Some(Bug::SavedBeforeCompare);
        batch.stage = match stage {
            Stage::Begin => {
                batch.now = Timestamp::from_micros(world.now.micros() + self.skew_us);
                world.postgres.begin(lead.session, world.now)?;
                if early { Stage::FindSubjects } else { Stage::MoveCursor }
            }
            Stage::MoveCursor => {
                if !self.move_cursor(world, &lead, &batch)? {
                    return Ok(State::Carrying(lead, batch));
                }
                if early { Stage::Commit } else { Stage::FindSubjects }
            }
            Stage::FindSubjects => {
                let subjects = Writer::subjects(batch.commands());
                batch.found = world.postgres.find_subjects(lead.session, &subjects, world.now)?;
                Stage::FindRest
            }
            Stage::FindRest => {
                let needs = self.memory.needs(batch.commands(), &batch.found);
                let found = std::mem::take(&mut batch.found);
                batch.found = world.postgres.find_rest(lead.session, &needs, found, world.now)?;
                Stage::Decide
            }
            Stage::Decide => {
                self.decide(&mut batch);
                Stage::Save
            }
            Stage::Save => {
                let next = self.save(world, &lead, &mut batch)?;
                if early && next == Stage::Commit {
                    commit(world, lead.session)?;
                    committed(world, &batch)?;
                    Stage::MoveCursor
                } else {
                    next
                }
            }
            Stage::Commit => {
                self.commit(world, &mut lead, &mut batch)?;
                Stage::Tell
            }
            Stage::Tell => {
                if tell(world, &mut batch)? {
                    return Ok(State::Reading(lead));
                }
                Stage::Tell
            }
        };
        Ok(State::Carrying(lead, batch))
    }

    /// The fence; false while another transaction has the cursor.
    fn move_cursor(&mut self, world: &mut World, lead: &Lead, batch: &Batch) -> Result<bool, Stop> {
        let Some(last) = batch.messages.last() else { return Ok(true) };
        let next = lead.place.moved_to(last.sequence, last.published_at);
        let places = (&lead.place, next);
        match world.postgres.move_place(lead.session, places, world.now, world.bug)? {
            Moved::Yes => Ok(true),
            Moved::No => Err(Stop::Fenced),
            Moved::Locked => {
                world.tally.count("waits for the cursor");
                self.plan(world, 2_000, 20_000);
                Ok(false)
            }
        }
    }

    fn decide(&mut self, batch: &mut Batch) {
        let found = std::mem::take(&mut batch.found);
        let mut books = self.memory.books(batch.commands(), found);
        let commands = batch.messages.iter().map(|it| it.message.command.as_deref());
        batch.outcomes = commands.map(|it| Some(books.apply(it?.clone(), batch.now))).collect();
        batch.changes = Some(Rc::new(books.into_changes()));
    }

    /// What was decided before is met here, and the batch decided once more: looking first.
    fn save(&mut self, world: &mut World, lead: &Lead, batch: &mut Batch) -> Result<Stage, Stop> {
        let Some(changes) = batch.changes.clone() else { return Ok(Stage::Decide) };
        match world.postgres.save(lead.session, changes, world.now) {
            Ok(()) => Ok(Stage::Commit),
            Err(Refusal::Repeat) if !batch.met_a_repeat => {
                world.tally.count("repeats met");
                world.postgres.rollback(lead.session);
                self.memory.met_a_repeat();
                *batch = Batch::new(std::mem::take(&mut batch.messages));
                batch.met_a_repeat = true;
                Ok(Stage::Begin)
            }
            Err(refusal) => Err(refused(refusal)),
        }
    }

    fn commit(
        &mut self,
        world: &mut World,
        lead: &mut Lead,
        batch: &mut Batch,
    ) -> Result<(), Stop> {
        let unknown = world.dice.per_mille(world.weather.commit_unknown);
        if unknown && world.dice.below(2) == 0 {
            world.tally.count("commits that failed");
            world.postgres.end(lead.session);
            return Err(Ended.into());
        }
        commit(world, lead.session)?;
        if world.bug != Some(Bug::SavedBeforeCompare) {
            committed(world, batch)?;
        }
        if unknown {
            world.tally.count("commits nobody was told of");
            world.postgres.end(lead.session);
            return Err(Ended.into());
        }
        if let Some(last) = batch.messages.last() {
            lead.place = lead.place.moved_to(last.sequence, last.published_at);
        }
        if let Some(changes) = batch.changes.take() {
            self.memory.committed(Rc::unwrap_or_clone(changes));
        }
        world.say(|| {
            let at = lead.place.sequence;
            format!("ledger {} committed {} messages up to {at}", self.n, batch.messages.len())
        });
        Ok(())
    }
}

/// The books have it, whatever the writer hears of that.
fn committed(world: &mut World, batch: &Batch) -> Result<(), Violation> {
    for message in &batch.messages {
        world.stream.used(message);
    }
    let Some(changes) = &batch.changes else { return Ok(()) };
    world.tally.count("batches");
    let n_parked = batch.outcomes.iter().filter(|it| it.is_none()).count();
    world.tally.add("parked", n_parked);
    world.tally.add("commands", batch.outcomes.len() - n_parked);
    world.tally.add("records", changes.records.len());
    world.tally.add("changes of accounts", changes.change_records.len());
    let (messages, outcomes) = (&batch.messages, &batch.outcomes);
    for (kept, outcomes) in messages.iter().zip(outcomes) {
        let Some((command, outcomes)) = kept.message.command.as_ref().zip(outcomes.as_ref()) else {
            continue;
        };
        world.say(|| {
            let (asked, answered) = (print::command(command), print::outcomes(outcomes));
            format!("  {} of asker {}: {asked}: {answered}", kept.sequence, kept.message.asker)
        });
    }
    let World { judge, postgres, tally, .. } = world;
    let tables = &postgres.tables;
    judge.committed(&Committed { now: batch.now, messages, outcomes, changes }, tables, tally)
}

/// Sends some of the answers; true when all are sent.
fn tell(world: &mut World, batch: &mut Batch) -> Result<bool, Violation> {
    let n = 1 + world.dice.below(batch.messages.len());
    for _ in 0..n {
        let Some(kept) = batch.messages.get(batch.n_told) else { return Ok(true) };
        let outcomes = batch.outcomes.get_mut(batch.n_told).and_then(Option::take);
        batch.n_told += 1;
        let answer = match (&kept.message.command, outcomes) {
            (Some(command), Some(outcomes)) => {
                world.judge.told(command, &outcomes)?;
                Answer::Outcomes(outcomes)
            }
            _ => Answer::Malformed,
        };
        if world.dice.per_mille(world.weather.answer_lost) {
            world.tally.count("answers lost");
            continue;
        }
        let (asker, asking) = (kept.message.asker, kept.message.asking);
        world.plan_within(50, 2_000, Event::Answered { asker, asking, answer });
    }
    Ok(batch.n_told == batch.messages.len())
}
