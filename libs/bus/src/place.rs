//! A reader's place in a stream, and the judgement whether the stream is still the one it is in.
//!
//! Pure: the follower asks it with what Postgres and JetStream say, a simulation with what it
//! invented. What may be assumed of a stream is little: it keeps its messages in order, and it may
//! at any time be deleted, made again, or lose its tail and grow once more. Each of these must
//! begin a new epoch at the stream's start, and nothing else may: the ids inside the messages then
//! make what is read again harmless.

use primitives::Timestamp;

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whose place this is.
    pub reader: &'static str,
    /// In which stream.
    pub stream: &'static str,
    /// When that stream was created.
    pub born_at: Timestamp,
    /// Counts the births and rollbacks this reader has seen, from 1.
    pub epoch: i64,
    /// The last message used; 0 is none.
    pub sequence: u64,
    /// When that message was published.
    pub message_at: Option<Timestamp>,
}

impl Place {
    /// Before the first message of a stream that this reader has never read.
    #[must_use]
    pub fn first(reader: &'static str, stream: &'static str, born_at: Timestamp) -> Self {
        Self { reader, stream, born_at, epoch: 1, sequence: 0, message_at: None }
    }

    /// What to read next: this message, or the first one after it that there is.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.sequence.saturating_add(1)
    }

    /// Behind the message `sequence`, which was published at `published_at`.
    #[must_use]
    pub fn moved_to(self, sequence: u64, published_at: Timestamp) -> Self {
        debug_assert!(sequence > self.sequence, "within an epoch a place only moves forward");
        Self { sequence, message_at: Some(published_at), ..self }
    }

    /// The start of the stream that was born at `born_at`: everything in it is read again.
    #[must_use]
    pub fn begin_epoch(self, born_at: Timestamp) -> Self {
        let epoch = self.epoch.saturating_add(1);
        Self { born_at, epoch, sequence: 0, message_at: None, ..self }
    }
}

/// What a stream says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamFacts {
    /// When it was created.
    pub born_at: Timestamp,
    /// The oldest message it has.
    pub first_sequence: u64,
    /// The newest message it ever had.
    pub last_sequence: u64,
}

/// The message that stands at a place. Purging leaves it alone, so it can testify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// It was published then.
    PublishedAt(Timestamp),
    /// No message stands there.
    Gone,
}

/// What happened to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Another stream has its name.
    MadeAgain,
    /// It lost messages that were used.
    RolledBack,
    /// It lost messages that were used, and others took their sequences.
    GrownAgain,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MadeAgain => "was deleted and made again",
            Self::RolledBack => "was rolled back",
            Self::GrownAgain => "was rolled back and has grown again",
        })
    }
}

/// Whether a stream is the one a place is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is: reading goes on behind the place.
    Same,
    /// It is not: a new epoch begins ([`Place::begin_epoch`]).
    Changed(Change),
    /// Its own description does not tell: the message at the place must be looked at, and judged
    /// with.
    LookAtWitness,
}

/// Judges whether `stream` is the one that `place` is in, as far as `stream` and `witness` tell.
#[must_use]
pub fn judge(place: &Place, stream: &StreamFacts, witness: Option<Witness>) -> Judgement {
    if stream.born_at != place.born_at {
        return Judgement::Changed(Change::MadeAgain);
    }
    if stream.last_sequence < place.sequence {
        return Judgement::Changed(Change::RolledBack);
    }
    // Nothing was used yet, so nothing that was used can be lost.
    let Some(message_at) = place.message_at else { return Judgement::Same };
    // The witness is too old to be kept, and so is everything before it.
    if place.sequence < stream.first_sequence {
        return Judgement::Same;
    }
    match witness {
        None => Judgement::LookAtWitness,
        Some(Witness::PublishedAt(at)) if at != message_at => {
            Judgement::Changed(Change::GrownAgain)
        }
        // Somebody removed just that message; nothing says that others are lost.
        Some(Witness::PublishedAt(_) | Witness::Gone) => Judgement::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BORN: Timestamp = Timestamp::from_micros(1);
    const USED: Timestamp = Timestamp::from_micros(50);

    fn facts(first_sequence: u64, last_sequence: u64) -> StreamFacts {
        StreamFacts { born_at: BORN, first_sequence, last_sequence }
    }

    #[test]
    fn a_stream_is_judged_by_its_birth_its_end_and_its_witness() {
        use Judgement::{Changed, LookAtWitness, Same};
        use Witness::{Gone, PublishedAt};

        let first = Place::first("reader", "STREAM", BORN);
        let at_five = first.moved_to(5, USED);
        let again = StreamFacts { born_at: Timestamp::from_micros(2), ..facts(1, 9) };
        let seen = Some(PublishedAt(USED));
        let other = Some(PublishedAt(Timestamp::from_micros(51)));
        for (place, stream, witness, expected) in [
            (first, facts(0, 0), None, Same),
            (first, facts(3, 9), None, Same),
            (first, again, None, Changed(Change::MadeAgain)),
            (at_five, facts(1, 9), None, LookAtWitness),
            (at_five, facts(5, 5), None, LookAtWitness),
            (at_five, facts(1, 9), seen, Same),
            (at_five, facts(1, 9), Some(Gone), Same),
            (at_five, facts(1, 9), other, Changed(Change::GrownAgain)),
            (at_five, facts(1, 5), other, Changed(Change::GrownAgain)),
            (at_five, facts(1, 4), None, Changed(Change::RolledBack)),
            (at_five, facts(1, 4), seen, Changed(Change::RolledBack)),
            (at_five, again, seen, Changed(Change::MadeAgain)),
            (at_five, facts(6, 5), None, Same),
            (at_five, facts(7, 9), None, Same),
        ] {
            assert_eq!(judge(&place, &stream, witness), expected, "{place:?} {stream:?}");
        }
    }

    #[test]
    fn a_new_epoch_begins_at_the_start() {
        let born_again = Timestamp::from_micros(9);
        let place = Place::first("reader", "STREAM", BORN).moved_to(5, USED);
        assert_eq!(place.next_sequence(), 6);
        let expected = Place { epoch: 2, ..Place::first("reader", "STREAM", born_again) };
        assert_eq!(place.begin_epoch(born_again), expected);
    }
}
