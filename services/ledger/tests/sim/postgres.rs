//! A model of the ledger's Postgres: the tables, their constraints, and transactions that happen
//! whole or not at all.
//!
//! As the real one reads committed rows and locks the cursor's row from the compare-and-set to the
//! end of the transaction, so does this. A session that is silent for too long is ended, and its
//! transaction with it.

mod tables;

use std::collections::BTreeMap;
use std::rc::Rc;

use bus::place::Place;
use ledger_core::{Changes, Found, Needs, Subjects};
use primitives::Timestamp;

use crate::world::Bug;
pub(crate) use tables::Tables;

/// The session has ended, with whatever it was about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

/// Why rows were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The session has ended.
    Ended,
    /// A transfer's id or request key is in the books already.
    Repeat,
    /// A constraint that only broken code or a broken fence can break.
    Broken(&'static str),
}

impl From<Ended> for Refusal {
    fn from(Ended: Ended) -> Self {
        Self::Ended
    }
}

/// What a compare-and-set of the cursor said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    Yes,
    /// The cursor is elsewhere.
    No,
    /// Another transaction has it: ask again when that has ended.
    Locked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

#[derive(Debug)]
struct Session {
    heard_at: Timestamp,
    moved_to: Option<Place>,
    saved: Option<Rc<Changes>>,
}

#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) tables: Tables,
    cursor: Option<Place>,
    locked_by: Option<SessionId>,
    leader: Option<SessionId>,
    sessions: BTreeMap<SessionId, Session>,
    n_sessions: u64,
    silence_max_us: i64,
}

impl Postgres {
    pub(crate) fn new(now: Timestamp, silence_max_us: i64) -> Self {
        Self {
            tables: Tables::new(now),
            cursor: None,
            locked_by: None,
            leader: None,
            sessions: BTreeMap::new(),
            n_sessions: 0,
            silence_max_us,
        }
    }

    /// A session that may write; none while another holds the lease, if there is one.
    pub(crate) fn try_lead(&mut self, now: Timestamp, leased: bool) -> Option<SessionId> {
        self.end_silent(now);
        if leased && self.leader.is_some_and(|it| self.sessions.contains_key(&it)) {
            return None;
        }
        self.n_sessions += 1;
        let id = SessionId(self.n_sessions);
        self.leader = Some(id);
        self.sessions.insert(id, Session { heard_at: now, moved_to: None, saved: None });
        Some(id)
    }

    /// Ends a session. What it had not committed never was.
    pub(crate) fn end(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        if self.locked_by == Some(id) {
            self.locked_by = None;
        }
    }

    /// Stops and starts: every session ends.
    pub(crate) fn restart(&mut self) {
        self.sessions.clear();
        self.locked_by = None;
    }

    /// Ends sessions that have been silent for too long.
    fn end_silent(&mut self, now: Timestamp) {
        let silence_max_us = self.silence_max_us;
        let ended = |it: &Session| now.micros() - it.heard_at.micros() > silence_max_us;
        while let Some(id) = self.sessions.iter().find(|(_, it)| ended(it)).map(|(id, _)| *id) {
            self.end(id);
        }
    }

    /// A statement of a session, which may be one too late.
    fn hear(&mut self, id: SessionId, now: Timestamp) -> Result<(), Ended> {
        self.end_silent(now);
        let session = self.sessions.get_mut(&id).ok_or(Ended)?;
        session.heard_at = now;
        Ok(())
    }

    pub(crate) fn ping(&mut self, id: SessionId, now: Timestamp) -> Result<(), Ended> {
        self.hear(id, now)
    }

    /// Begins a transaction, after rolling back what was not committed.
    pub(crate) fn begin(&mut self, id: SessionId, now: Timestamp) -> Result<(), Ended> {
        self.hear(id, now)?;
        self.rollback(id);
        Ok(())
    }

    pub(crate) fn rollback(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.moved_to, session.saved) = (None, None);
        }
        if self.locked_by == Some(id) {
            self.locked_by = None;
        }
    }

    pub(crate) fn load_place(
        &mut self,
        id: SessionId,
        now: Timestamp,
    ) -> Result<Option<Place>, Ended> {
        self.hear(id, now)?;
        Ok(self.cursor)
    }

    /// The first place of a reader; one that has a place keeps it.
    pub(crate) fn insert_place(
        &mut self,
        id: SessionId,
        place: Place,
        now: Timestamp,
    ) -> Result<(), Ended> {
        self.hear(id, now)?;
        self.cursor.get_or_insert(place);
        Ok(())
    }

    /// Moves the cursor within the session's transaction: the fence.
    pub(crate) fn move_place(
        &mut self,
        id: SessionId,
        (from, to): (&Place, Place),
        now: Timestamp,
        bug: Option<Bug>,
    ) -> Result<Moved, Ended> {
        self.hear(id, now)?;
        if bug != Some(Bug::SkippedCompare) {
            if self.locked_by.is_some_and(|it| it != id) {
                return Ok(Moved::Locked);
            }
            let compared = |it: &Place| (it.born_at, it.epoch, it.sequence);
            if self.cursor.as_ref().map(compared) != Some(compared(from)) {
                return Ok(Moved::No);
            }
        }
        self.locked_by = Some(id);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.moved_to = Some(to);
        }
        Ok(Moved::Yes)
    }

    pub(crate) fn find_subjects(
        &mut self,
        id: SessionId,
        subjects: &Subjects,
        now: Timestamp,
    ) -> Result<Found, Ended> {
        self.hear(id, now)?;
        Ok(self.tables.find_subjects(subjects))
    }

    pub(crate) fn find_rest(
        &mut self,
        id: SessionId,
        needs: &Needs,
        found: Found,
        now: Timestamp,
    ) -> Result<Found, Ended> {
        self.hear(id, now)?;
        Ok(self.tables.find_rest(needs, found))
    }

    /// Writes what a batch changes into the session's transaction.
    pub(crate) fn save(
        &mut self,
        id: SessionId,
        changes: Rc<Changes>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.hear(id, now)?;
        self.tables.check(&changes)?;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.saved = Some(changes);
        }
        Ok(())
    }

    /// Makes the session's transaction durable, whole.
    pub(crate) fn commit(&mut self, id: SessionId, now: Timestamp) -> Result<(), Refusal> {
        self.hear(id, now)?;
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Refusal::Ended) };
        let (moved_to, saved) = (session.moved_to.take(), session.saved.take());
        self.rollback(id);
        // Once more: without a lock somebody may have committed since.
        saved.as_ref().map_or(Ok(()), |it| self.tables.check(it))?;
        if let (Some(to), Some(from)) = (moved_to, self.cursor) {
            let forward = to.epoch > from.epoch
                || (to.epoch, to.born_at) == (from.epoch, from.born_at)
                    && to.sequence > from.sequence;
            if !forward {
                return Err(Refusal::Broken("cursors_move_forward"));
            }
            self.cursor = Some(to);
        }
        if let Some(changes) = saved {
            self.tables.write(&changes);
        }
        Ok(())
    }
}
