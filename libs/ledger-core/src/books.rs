//! The books: what a batch is about, what was decided before, and the one way to decide more.
//!
//! Books may be partial: whoever makes them must bring everything that the commands to come can
//! name, as [`crate::Writer::subjects`] and [`crate::Writer::needs`] list it. An account, a hold or
//! a transfer that is not here does not exist.

mod group;

use std::collections::{BTreeMap, BTreeSet};

use foldhash::{HashMap, HashMapExt as _};
use primitives::{AccountId, ChangeId, RequestKey, Timestamp, TransferId};

use crate::rules::{self, Subject};
use crate::state::{Accounts, Allowed, State};
use crate::{
    Account, AccountChange, Action, Body, ChangeRecord, Changes, Command, Decision, Found, Head,
    Hold, Outcome, Record, Rejection, Reversible, TRANSFERS_MAX, Transfer, Verdict,
};
use group::Undo;

/// The accounts a batch touches, and what was decided already.
#[derive(Debug, Clone)]
pub struct Books {
    head: Head,
    state: State,
    /// What happened to each account, by its place in `state`.
    marks: Vec<Mark>,
    touched_holds: BTreeSet<TransferId>,
    touched_reversed: BTreeSet<TransferId>,
    /// What was decided before this batch.
    decisions: BTreeMap<TransferId, Decision>,
    changes: BTreeMap<ChangeId, ChangeRecord>,
    /// What this batch decided, and where in it by id.
    records: Vec<Record>,
    places: HashMap<TransferId, usize>,
    by_request_key: HashMap<RequestKey, TransferId>,
    change_records: Vec<ChangeRecord>,
    /// How to undo what a linked group has done so far; none outside of one.
    undo: Option<Vec<Undo>>,
}

/// What happened to an account in this batch.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    opened: bool,
    changed: bool,
    moved: bool,
}

/// When a command is decided.
#[derive(Debug, Clone, Copy)]
struct At {
    /// The time that is written down.
    decided_at: Timestamp,
    /// The caller waits no more.
    late: bool,
}

impl Books {
    /// Books written up to `head`, with what was found.
    #[must_use]
    pub fn new(head: Head, mut found: Found) -> Self {
        let accounts = Accounts::from_vec(std::mem::take(&mut found.accounts));
        Self::with_accounts(head, accounts, found)
    }

    /// The same, with accounts that are indexed already; those in `found` are ignored.
    pub(crate) fn with_accounts(head: Head, accounts: Accounts, found: Found) -> Self {
        let keys = found.decisions.iter().filter_map(|it| Some((it.request_key?, it.transfer_id)));
        Self {
            head,
            by_request_key: keys.collect(),
            decisions: found.decisions.into_iter().map(|it| (it.transfer_id, it)).collect(),
            changes: found.changes.into_iter().map(|it| (it.asked.id, it)).collect(),
            marks: vec![Mark::default(); accounts.len()],
            state: State {
                accounts,
                holds: found.holds.into_iter().map(|it| (it.id, it)).collect(),
                reversed: found.reversed.into_iter().map(|it| (it.id, it)).collect(),
            },
            touched_holds: BTreeSet::new(),
            touched_reversed: BTreeSet::new(),
            records: Vec::new(),
            places: HashMap::new(),
            change_records: Vec::new(),
            undo: None,
        }
    }

    /// Decides `command`, and moves the money of what is allowed: one outcome for each of its
    /// transfers in order, exactly one for any other command.
    ///
    /// The same transfer gets the same outcome however often it is asked (I3).
    ///
    /// # Panics
    /// If a command has no transfers or more than [`TRANSFERS_MAX`], which whoever reads messages
    /// refuses before; or if an invariant does not hold afterwards: a bug here, or books that were
    /// damaged.
    pub fn apply(&mut self, command: Command, now: Timestamp) -> Vec<Outcome> {
        // I6: a clock that was set back must not reorder history. Deadlines are about the real
        // time, so that a clock that was ahead for a moment does not refuse everything after.
        let at = At { decided_at: now.max(self.head.decided_at), late: command.is_late(now) };
        match command.body {
            Body::Post { transfers, linked } => {
                let n = transfers.len();
                assert!((1..=TRANSFERS_MAX).contains(&n), "a command has 1 to 100 transfers");
                if linked {
                    self.post_linked(&transfers, at)
                } else {
                    transfers.into_iter().map(|it| self.post(it, at)).collect()
                }
            }
            Body::OpenAccount { account_id, currency } => {
                vec![self.open(Account::open(account_id, currency, at.decided_at), at)]
            }
            Body::ChangeAccount(asked) => vec![self.change(asked, at)],
        }
    }

    /// The account as it stands, if it exists.
    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.state.accounts.get(id)
    }

    /// Every account, in the order in which they were found and opened.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.state.accounts.iter()
    }

    /// What is to be saved.
    #[must_use]
    pub fn into_changes(self) -> Changes {
        let Self { state, marks, touched_holds, touched_reversed, .. } = self;
        let State { accounts, holds, reversed } = state;
        let mut changes = Changes {
            opened: Vec::new(),
            changed: Vec::new(),
            moved: Vec::new(),
            records: self.records,
            change_records: self.change_records,
            holds: touched_holds.iter().filter_map(|it| holds.get(it).copied()).collect(),
            reversed: touched_reversed.iter().filter_map(|it| reversed.get(it).copied()).collect(),
            head: self.head,
        };
        for (account, mark) in accounts.into_vec().into_iter().zip(marks) {
            if mark.opened {
                changes.opened.push(account.clone());
            } else if mark.changed {
                changes.changed.push(account.clone());
            }
            if mark.moved {
                changes.moved.push(account);
            }
        }
        changes
    }

    fn open(&mut self, account: Account, At { decided_at, late }: At) -> Outcome {
        let there = self.state.accounts.get(account.id);
        let opened_at = there.map(|it| it.opened_at);
        let (verdict, replayed) = match rules::open(account, there, late) {
            Ok(None) => (DONE, true),
            Ok(Some(new)) => {
                self.state.accounts.add(new);
                self.marks.push(Mark { opened: true, ..Mark::default() });
                (DONE, false)
            }
            Err(rejection) => (Verdict::Rejected(rejection), false),
        };
        let decided_at = opened_at.filter(|_| replayed).unwrap_or(decided_at);
        Outcome { verdict, replayed, transfer_id: None, decided_at }
    }

    fn change(&mut self, asked: AccountChange, At { decided_at, late }: At) -> Outcome {
        let transfer_id = None;
        if let Some(earlier) = self.changes.get(&asked.id) {
            let ChangeRecord { verdict, decided_at: then, .. } = *earlier;
            return if earlier.asked == asked {
                Outcome { verdict, replayed: true, transfer_id, decided_at: then }
            } else {
                let verdict = Verdict::Rejected(Rejection::IdempotencyKeyReused);
                Outcome { verdict, replayed: false, transfer_id, decided_at }
            };
        }
        let place = self.state.accounts.place(asked.account_id);
        let account = place.and_then(|it| self.state.accounts.at(it));
        let changed = if late {
            Err(Rejection::DeadlineExceeded)
        } else {
            rules::change(account, asked.change)
        };
        let verdict = match changed {
            Ok((status, limits)) => {
                self.change_to(place, |it| (it.status, it.limits) = (status, limits));
                DONE
            }
            Err(rejection) => Verdict::Rejected(rejection),
        };
        let after_position = self.head.position;
        let record = ChangeRecord { asked, verdict, after_position, decided_at };
        self.changes.insert(asked.id, record);
        self.change_records.push(record);
        Outcome { verdict, replayed: false, transfer_id, decided_at }
    }

    /// Changes an account, and notes that it differs if it does.
    fn change_to(&mut self, place: Option<usize>, change: impl FnOnce(&mut Account)) {
        let account = place.and_then(|it| self.state.accounts.at_mut(it));
        let mark = place.and_then(|it| self.marks.get_mut(it));
        let (account, mark) = account.zip(mark).expect("the rules have seen the account");
        let before = (account.status, account.limits);
        change(account);
        mark.changed |= before != (account.status, account.limits);
        assert!(account.is_sound(), "I2: {} must not stand so", account.id);
    }

    fn post(&mut self, transfer: Transfer, at: At) -> Outcome {
        if let Some(earlier) = self.repeat(&transfer, at.decided_at) {
            return earlier;
        }
        let subject = self.subject(&transfer.action);
        let judged = if at.late {
            // I4: a refusal for lateness is kept like any other, so that its request key has one
            // answer for ever: whoever still wants the money moved asks under a new key.
            Err(Rejection::DeadlineExceeded)
        } else {
            self.state.judge(transfer.id, &transfer.action, &subject, at.decided_at)
        };
        match judged {
            Ok(allowed) => self.write(transfer, &allowed, at.decided_at),
            Err(rejection) => self.refuse(transfer, &subject, rejection, at.decided_at),
        }
    }

    /// The answer to a transfer that was decided before (I3).
    ///
    /// The request key speaks first: it is what the caller was promised. An id that is known under
    /// another key, or a key or id that is known with another digest, is a reuse.
    fn repeat(&self, transfer: &Transfer, now: Timestamp) -> Option<Outcome> {
        let by_key = transfer.request_key.and_then(|key| self.by_request_key.get(&key));
        let earlier = self.decision(*by_key.unwrap_or(&transfer.id))?;
        let transfer_id = Some(earlier.transfer_id);
        let same = earlier.request_key == transfer.request_key
            && earlier.request_digest == transfer.request_digest;
        Some(if same {
            let Decision { verdict, decided_at, .. } = earlier;
            Outcome { verdict, replayed: true, transfer_id, decided_at }
        } else {
            let verdict = Verdict::Rejected(Rejection::IdempotencyKeyReused);
            Outcome { verdict, replayed: false, transfer_id, decided_at: now }
        })
    }

    fn decision(&self, id: TransferId) -> Option<Decision> {
        match self.record(id) {
            Some(record) => Some(record.decision()),
            None => self.decisions.get(&id).copied(),
        }
    }

    /// What this batch decided under the id.
    fn record(&self, id: TransferId) -> Option<&Record> {
        self.places.get(&id).and_then(|it| self.records.get(*it))
    }

    /// The hold or transfer that `action` is about, which this batch may have made.
    fn subject(&self, action: &Action) -> Subject {
        if let Some(id) = action.hold_id() {
            Subject::Hold(self.state.holds.get(&id).copied())
        } else if let Some(id) = action.reversed_id() {
            let earlier = self.state.reversed.get(&id).copied();
            Subject::Transfer(earlier.or_else(|| self.record(id).map(reversible)))
        } else {
            Subject::Itself
        }
    }

    /// Moves the money, and writes that down.
    fn write(&mut self, transfer: Transfer, allowed: &Allowed, decided_at: Timestamp) -> Outcome {
        self.settle(&transfer, allowed);
        let effect = &allowed.effect;
        self.add(Record {
            position: self.next_position(),
            transfer,
            of: Some(effect.of),
            verdict: Verdict::Done { debit_balance_after_minor: effect.debit_after.balance_minor },
            debit_after: Some(effect.debit_after),
            credit_after: effect.credit_after,
            decided_at,
        })
    }

    /// Writes down that nothing has changed, unless it may be asked again.
    fn refuse(
        &mut self,
        transfer: Transfer,
        subject: &Subject,
        rejection: Rejection,
        decided_at: Timestamp,
    ) -> Outcome {
        let verdict = Verdict::Rejected(rejection);
        if !rejection.is_kept() {
            let transfer_id = Some(transfer.id);
            return Outcome { verdict, replayed: false, transfer_id, decided_at };
        }
        self.add(Record {
            position: self.next_position(),
            of: rules::describe(&transfer.action, subject),
            transfer,
            verdict,
            debit_after: None,
            credit_after: None,
            decided_at,
        })
    }

    fn next_position(&self) -> i64 {
        self.head.position.checked_add(1).expect("fewer than 2^63 transfers are ever decided")
    }

    fn add(&mut self, record: Record) -> Outcome {
        let Record { position, decided_at, verdict, .. } = record;
        let Transfer { id, request_key, .. } = record.transfer;
        assert!(decided_at >= self.head.decided_at, "I6: time runs backwards at {position}");
        self.head = Head { position, decided_at };
        if let Some(key) = request_key {
            let earlier = self.by_request_key.insert(key, id);
            assert!(earlier.is_none(), "I3: a request key is decided once");
        }
        let earlier = self.places.insert(id, self.records.len());
        assert!(earlier.is_none(), "I3: {id} is decided once");
        self.records.push(record);
        Outcome { verdict, replayed: false, transfer_id: Some(id), decided_at }
    }

    /// Lets what is allowed happen: both accounts, and what it is about.
    fn settle(&mut self, transfer: &Transfer, allowed: &Allowed) {
        let Allowed { effect, debit, credit } = *allowed;
        let id = transfer.id;
        assert!(debit != credit, "I1: {id} has two sides");
        let stands = |place| self.state.accounts.at(place).map(|it| it.standing);
        let before = stands(debit).zip(stands(credit)).expect("the rules have seen both accounts");
        let kind = transfer.action.kind();
        assert_eq!(
            rules::follows(kind, effect.of.amount, before.0, before.1),
            Some((effect.debit_after, effect.credit_after)),
            "I1, I5: {id} takes from one account what it gives to the other, and nothing else"
        );
        for (place, after) in [(debit, Some(effect.debit_after)), (credit, effect.credit_after)] {
            if let Some(standing) = after {
                self.stand(place, standing);
            }
        }
        match effect.subject {
            Subject::Hold(Some(hold)) => self.keep_hold(hold),
            Subject::Transfer(Some(reversible)) => self.keep_reversed(reversible),
            Subject::Itself | Subject::Hold(None) | Subject::Transfer(None) => {}
        }
    }

    fn stand(&mut self, place: usize, standing: crate::Standing) {
        let account = self.state.accounts.at_mut(place).expect("the rules have seen the account");
        let mark = self.marks.get_mut(place).expect("every account has a mark");
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Stand { place, standing: account.standing, moved: mark.moved });
        }
        account.standing = standing;
        mark.moved = true;
        assert!(account.is_sound(), "I2: {} must not stand at {standing:?}", account.id);
    }

    fn keep_hold(&mut self, hold: Hold) {
        let Hold { id, of, remaining_minor, .. } = hold;
        let possible = (0..=of.amount.to_i64()).contains(&remaining_minor);
        assert!(possible, "I32: {remaining_minor} of {of:?} remain");
        let before = self.state.holds.insert(id, hold);
        let touched = !self.touched_holds.insert(id);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Hold { id, before, touched });
        }
    }

    fn keep_reversed(&mut self, reversible: Reversible) {
        let Reversible { id, of, reversed_minor, .. } = reversible;
        let most = of.map_or(0, |it| it.amount.to_i64());
        let possible = (0..=most).contains(&reversed_minor);
        assert!(possible, "I32: {reversed_minor} of {most} were moved back");
        let before = self.state.reversed.insert(id, reversible);
        let touched = !self.touched_reversed.insert(id);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Reversed { id, before, touched });
        }
    }
}

const DONE: Verdict = Verdict::Done { debit_balance_after_minor: 0 };

/// A transfer of this batch, as one that may be moved back.
fn reversible(record: &Record) -> Reversible {
    Reversible {
        id: record.transfer.id,
        kind: record.transfer.action.kind(),
        of: record.of.filter(|_| record.verdict.is_done()),
        reversed_minor: 0,
    }
}
