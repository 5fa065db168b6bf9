//! A model of JetStream, with what it may do to its readers: keep a message twice, lose its tail
//! when the server restarts, come back as an old copy, be deleted and made again, refuse when full.

use std::collections::VecDeque;
use std::rc::Rc;

use bus::place::{StreamFacts, Witness};
use ledger_core::Command;
use primitives::Timestamp;

use crate::world::Dice;

/// What an asker publishes.
#[derive(Debug)]
pub(crate) struct Message {
    /// None if it says nothing that can be read.
    pub(crate) command: Option<Rc<Command>>,
    pub(crate) asker: usize,
    /// Which of the asker's askings waits for the answer.
    pub(crate) asking: u64,
}

/// A message as the stream keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    pub(crate) published_at: Timestamp,
    /// Counts all messages the stream ever took: tells one from another in the same place.
    pub(crate) number: usize,
    pub(crate) message: Rc<Message>,
}

/// What became of a message that the stream took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is in the stream and waits.
    Waiting,
    /// A batch with it was committed.
    Used,
    /// The stream lost it before.
    Lost,
}

/// What is on the disk, or on a backup of it.
#[derive(Debug, Clone)]
struct Disk {
    born_at: Timestamp,
    messages: VecDeque<Kept>,
    last_sequence: u64,
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// None after it was deleted.
    disk: Option<Disk>,
    backup: Option<Disk>,
    /// Counts the lives of the server and of the stream: a feed belongs to one.
    life: u64,
    /// What has reached the disk, and when.
    flushed: (u64, Timestamp),
    flush_every_us: i64,
    fates: Vec<Fate>,
    n_waiting: usize,
    pub(crate) messages_max: usize,
}

/// A reader's consumer, with what it has received ahead. It ends with the stream's life.
#[derive(Debug)]
pub(crate) struct Feed {
    life: u64,
    next_sequence: u64,
    pub(crate) received: VecDeque<Kept>,
}

impl Stream {
    pub(crate) fn new(now: Timestamp, flush_every_us: i64, messages_max: usize) -> Self {
        Self {
            disk: Some(Disk { born_at: now, messages: VecDeque::new(), last_sequence: 0 }),
            backup: None,
            life: 1,
            flushed: (0, now),
            flush_every_us,
            fates: Vec::new(),
            n_waiting: 0,
            messages_max,
        }
    }

    /// Takes a message; false if it is full or is not there.
    pub(crate) fn take(&mut self, message: Rc<Message>, now: Timestamp) -> bool {
        let Some(disk) = &mut self.disk else { return false };
        if disk.messages.len() >= self.messages_max {
            return false;
        }
        if now.micros() - self.flushed.1.micros() >= self.flush_every_us {
            self.flushed = (disk.last_sequence, now);
        }
        disk.last_sequence += 1;
        let (sequence, number) = (disk.last_sequence, self.fates.len());
        // No two messages are published in the same microsecond.
        let last = disk.messages.back().map_or(Timestamp::from_micros(0), |it| it.published_at);
        let published_at = now.max(Timestamp::from_micros(last.micros() + 1));
        disk.messages.push_back(Kept { sequence, published_at, number, message });
        self.fates.push(Fate::Waiting);
        self.n_waiting += 1;
        true
    }

    /// Which life it is in: of its server, and its own.
    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn facts(&self) -> Option<StreamFacts> {
        let disk = self.disk.as_ref()?;
        let first_sequence = disk.messages.front().map_or(disk.last_sequence + 1, |it| it.sequence);
        let (born_at, last_sequence) = (disk.born_at, disk.last_sequence);
        Some(StreamFacts { born_at, first_sequence, last_sequence })
    }

    pub(crate) fn look_at(&self, sequence: u64) -> Witness {
        let kept = self.disk.as_ref().and_then(|disk| disk.at_or_after(sequence));
        match kept {
            Some(kept) if kept.sequence == sequence => Witness::PublishedAt(kept.published_at),
            Some(_) | None => Witness::Gone,
        }
    }

    pub(crate) fn feed(&self, next_sequence: u64) -> Feed {
        Feed { life: self.life, next_sequence, received: VecDeque::new() }
    }

    /// Lets a feed receive up to `received_max` messages ahead; false if it has ended.
    pub(crate) fn serve(&self, feed: &mut Feed, received_max: usize) -> bool {
        if feed.life != self.life {
            return false;
        }
        let Some(disk) = &self.disk else { return false };
        while feed.received.len() < received_max {
            let Some(kept) = disk.at_or_after(feed.next_sequence) else { break };
            feed.next_sequence = kept.sequence + 1;
            feed.received.push_back(kept.clone());
        }
        true
    }

    /// Removes what is before `sequence`; says how many messages of it nobody had used.
    pub(crate) fn purge(&mut self, sequence: u64) -> usize {
        let n_waiting = self.n_waiting;
        let Some(disk) = &mut self.disk else { return 0 };
        while disk.messages.front().is_some_and(|it| it.sequence < sequence) {
            let Some(kept) = disk.messages.pop_front() else { break };
            lose(&mut self.fates, &mut self.n_waiting, &kept);
        }
        n_waiting - self.n_waiting
    }

    /// A batch with this message was committed.
    pub(crate) fn used(&mut self, kept: &Kept) {
        if let Some(fate) = self.fates.get_mut(kept.number) {
            if *fate == Fate::Waiting {
                self.n_waiting -= 1;
            }
            *fate = Fate::Used;
        }
    }

    /// The server stops and starts, with what had reached the disk and perhaps some more. Says how
    /// many messages are gone.
    pub(crate) fn restart(&mut self, dice: &mut Dice) -> u64 {
        self.life += 1;
        let flushed = self.flushed.0;
        let Some(disk) = &mut self.disk else { return 0 };
        let unflushed = disk.last_sequence.saturating_sub(flushed);
        let n_lost = if dice.below(3) == 0 { 0 } else { dice.next() % (unflushed + 1) };
        disk.last_sequence -= n_lost;
        while disk.messages.back().is_some_and(|it| it.sequence > disk.last_sequence) {
            let Some(kept) = disk.messages.pop_back() else { break };
            lose(&mut self.fates, &mut self.n_waiting, &kept);
        }
        n_lost
    }

    /// Somebody copies the disk.
    pub(crate) fn back_up(&mut self) {
        self.backup = self.disk.clone();
    }

    /// Somebody puts the copy back; false if there is none.
    pub(crate) fn restore(&mut self) -> bool {
        let Some(backup) = self.backup.clone() else { return false };
        self.delete();
        for kept in &backup.messages {
            // What was used before may be used again; what was lost waits again.
            if let Some(fate) = self.fates.get_mut(kept.number).filter(|it| **it == Fate::Lost) {
                *fate = Fate::Waiting;
                self.n_waiting += 1;
            }
        }
        self.flushed.0 = backup.last_sequence;
        self.disk = Some(backup);
        true
    }

    /// Somebody deletes it.
    pub(crate) fn delete(&mut self) {
        self.life += 1;
        self.flushed.0 = 0;
        let Some(disk) = self.disk.take() else { return };
        for kept in &disk.messages {
            lose(&mut self.fates, &mut self.n_waiting, kept);
        }
    }

    /// Makes it again if it is gone.
    pub(crate) fn make(&mut self, now: Timestamp) {
        let empty = || Disk { born_at: now, messages: VecDeque::new(), last_sequence: 0 };
        self.disk.get_or_insert_with(empty);
    }

    /// How many messages nobody has used yet.
    pub(crate) const fn n_waiting(&self) -> usize {
        self.n_waiting
    }
}

/// A message that is no longer in the stream.
fn lose(fates: &mut [Fate], n_waiting: &mut usize, kept: &Kept) {
    if let Some(fate) = fates.get_mut(kept.number).filter(|it| **it == Fate::Waiting) {
        *fate = Fate::Lost;
        *n_waiting -= 1;
    }
}

impl Disk {
    /// Only the ends of what is kept ever go, so places can be counted.
    fn at_or_after(&self, sequence: u64) -> Option<&Kept> {
        let first = self.messages.front()?.sequence;
        let n = usize::try_from(sequence.saturating_sub(first)).ok()?;
        self.messages.get(n)
    }
}
