//! What must hold of every answer and of the books: the promises of the ledger, as its askers and
//! an auditor would test them.

use std::collections::HashMap;

use ledger_core::audit::Kept as Books;
use ledger_core::{
    Account, AccountChange, Body, Changes, Command, Found, Head, Outcome, Rejection, Transfer,
    Verdict,
};
use primitives::Timestamp;

use crate::clerk::Clerk;
use crate::postgres::Tables;
use crate::print;
use crate::requests::number;
use crate::stream::Kept;
use crate::world::{Tally, Violation, insist};

/// A batch that is durable, whether the writer knows that or not.
#[derive(Debug)]
pub(crate) struct Committed<'a> {
    /// The clock it was decided by.
    pub(crate) now: Timestamp,
    pub(crate) messages: &'a [Kept],
    pub(crate) outcomes: &'a [Option<Vec<Outcome>>],
    pub(crate) changes: &'a Changes,
}

/// What was asked, as far as it makes one answer: id, key, digest.
type Asked = (usize, Option<[u8; 32]>, [u8; 32]);

pub(crate) struct Judge {
    /// One pure book that is told every committed command in order: what all writers together must
    /// have written.
    oracle: Option<ledger_core::Books>,
    clerk: Clerk,
    /// The first answer to each request, in the order of the books.
    answers: HashMap<Asked, Outcome>,
    /// The same of each change, with what was asked under its id.
    answers_to_changes: HashMap<(usize, String), Outcome>,
}

impl Judge {
    pub(crate) fn new(accounts: Vec<Account>) -> Self {
        let found = Found { accounts: accounts.clone(), ..Found::default() };
        Self {
            oracle: Some(ledger_core::Books::new(Head::START, found)),
            clerk: Clerk::new(accounts),
            answers: HashMap::new(),
            answers_to_changes: HashMap::new(),
        }
    }

    /// A batch was committed.
    pub(crate) fn committed(
        &mut self,
        batch: &Committed<'_>,
        tables: &Tables,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        for (kept, outcomes) in batch.messages.iter().zip(batch.outcomes) {
            let (Some(command), Some(outcomes)) = (&kept.message.command, outcomes) else {
                continue;
            };
            if let Some(oracle) = &mut self.oracle {
                let expected = oracle.apply(Command::clone(command), batch.now);
                insist(expected == *outcomes, || {
                    let (one, other) = (print::outcomes(&expected), print::outcomes(outcomes));
                    let asked = print::command(command);
                    format!("{asked}: one book says {one}, the writer {other}")
                })?;
            }
            let late = command.is_late(batch.now);
            for outcome in outcomes {
                let done = outcome.verdict.is_done() && !outcome.replayed;
                insist(!(late && done), || {
                    format!("done after its deadline: {}", print::command(command))
                })?;
                tally.count(outcome_name(outcome));
            }
            if let (Body::ChangeAccount(asked), Some(outcome)) = (&command.body, outcomes.first()) {
                let first = *self.answers_to_changes.entry(change(asked)).or_insert(*outcome);
                same(&first, outcome)?;
            }
            if let Body::Post { transfers, linked } = &command.body {
                insist(transfers.len() == outcomes.len(), || "an outcome is missing".to_owned())?;
                for (transfer, outcome) in transfers.iter().zip(outcomes) {
                    is_kept(transfer, outcome, tables)?;
                    self.answer(transfer, outcome)?;
                }
                let fresh = || outcomes.iter().filter(|it| !it.replayed);
                let all = fresh().all(|it| it.verdict.is_done());
                let none = fresh().all(|it| !it.verdict.is_done());
                insist(!linked || all || none, || format!("half a group: {outcomes:?}"))?;
            }
        }
        self.clerk.read(batch.changes)
    }

    /// One answer to one request, for ever.
    fn answer(&mut self, transfer: &Transfer, outcome: &Outcome) -> Result<(), Violation> {
        let asked = asked(transfer);
        if !decides(outcome) {
            // An id that stands for something else is answered so until its key stands for what is
            // asked, and a hold is not due until it is; but never after it was decided.
            return self.answers.get(&asked).map_or(Ok(()), |first| same(first, outcome));
        }
        let known = self.answers.contains_key(&asked);
        insist(outcome.replayed || !known, || format!("decided twice: {outcome:?}"))?;
        let first = *self.answers.entry(asked).or_insert(*outcome);
        same(&first, outcome)?;
        // Of a key's many ids one was decided; the others have its answer.
        if let ((_, Some(key), digest), Some(decided)) = (asked, outcome.transfer_id) {
            let asked = (number(decided.uuid()), Some(key), digest);
            let first = *self.answers.entry(asked).or_insert(*outcome);
            same(&first, outcome)?;
        }
        Ok(())
    }

    /// An answer leaves the ledger: it must be what the books have.
    pub(crate) fn told(&self, command: &Command, outcomes: &[Outcome]) -> Result<(), Violation> {
        let is = |answer: Option<&Outcome>, outcome: &Outcome| match answer {
            Some(answer) => same(answer, outcome),
            None => Err(Violation(format!("told, and not in the books: {outcome:?}"))),
        };
        match &command.body {
            Body::Post { transfers, .. } => transfers
                .iter()
                .zip(outcomes)
                .filter(|(_, outcome)| decides(outcome))
                .try_for_each(|(it, outcome)| is(self.answers.get(&asked(it)), outcome)),
            Body::ChangeAccount(asked) => outcomes
                .iter()
                .try_for_each(|it| is(self.answers_to_changes.get(&change(asked)), it)),
            // It has no id of its own: what may be said changes until it is there.
            Body::OpenAccount { .. } => Ok(()),
        }
    }

    /// Nothing happens any more.
    pub(crate) fn end(&mut self, tables: &Tables) -> Result<(), Violation> {
        self.clerk.close(&tables.accounts())?;
        let Some(oracle) = self.oracle.take() else { return Ok(()) };
        let Changes { records, change_records, head, .. } = oracle.into_changes();
        insist(records == tables.transfers, || "one book has other records".to_owned())?;
        insist(change_records == tables.changes, || "one book has other changes".to_owned())?;
        for (asked, outcome) in &self.answers {
            let id = outcome.transfer_id;
            let kept = id.and_then(|it| tables.transfer(it)).map(|it| it.verdict);
            insist(kept == Some(outcome.verdict), || {
                format!("told {outcome:?} of {asked:?}, the books say {kept:?}")
            })?;
        }
        let kept = Books {
            accounts: tables.accounts().into_iter().map(|it| (it.id, it)).collect(),
            records: tables.transfers.clone(),
            changes: tables.changes.clone(),
            holds: tables.holds.clone(),
            reversed: tables.reversals.clone(),
            head,
        };
        let violations = kept.violations();
        insist(violations.is_empty(), || format!("the audit says {violations:?}"))
    }
}

fn asked(transfer: &Transfer) -> Asked {
    let key = transfer.request_key.map(|it| it.0);
    (number(transfer.id.uuid()), key, transfer.request_digest)
}

fn change(asked: &AccountChange) -> (usize, String) {
    (number(asked.id.uuid()), format!("{asked:?}"))
}

/// Whether it is an answer for ever.
fn decides(outcome: &Outcome) -> bool {
    outcome.verdict.rejection().is_none_or(Rejection::is_kept)
}

/// How an outcome is counted.
fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome.verdict {
        _ if outcome.replayed => "replayed",
        Verdict::Done { .. } => "done",
        Verdict::Rejected(rejection) => rejection.code(),
    }
}

/// What was decided is in the books under the id that is told.
fn is_kept(transfer: &Transfer, outcome: &Outcome, tables: &Tables) -> Result<(), Violation> {
    let rejection = outcome.verdict.rejection();
    if rejection == Some(Rejection::HoldNotDue) {
        return Ok(());
    }
    let kept = outcome.transfer_id.and_then(|it| tables.transfer(it));
    let asked = (transfer.request_key, transfer.request_digest);
    let right = kept.is_some_and(|it| {
        let same = (it.transfer.request_key, it.transfer.request_digest) == asked;
        if rejection == Some(Rejection::IdempotencyKeyReused) {
            !same
        } else {
            same && (it.verdict, it.decided_at) == (outcome.verdict, outcome.decided_at)
        }
    });
    insist(right, || {
        let kept = kept.map(|it| (print::transfer(&it.transfer), it.verdict, it.decided_at));
        format!("{}: told {outcome:?}, kept is {kept:?}", print::transfer(transfer))
    })
}

/// Two answers to one request.
fn same(first: &Outcome, next: &Outcome) -> Result<(), Violation> {
    let reused = Verdict::Rejected(Rejection::IdempotencyKeyReused);
    let told = |it: &Outcome| {
        // A reuse is no decision, so it has no time of its own.
        let decided_at = (it.verdict != reused).then_some(it.decided_at);
        (it.verdict, it.transfer_id, decided_at)
    };
    insist(told(first) == told(next), || format!("told {first:?}, then {next:?}"))
}
