//! Linked groups: all transfers post, or none (I33).
//!
//! The members are decided on top of each other, as they would be one by one; if one is refused,
//! what the others did is undone, and each is written down as refused.

use std::collections::BTreeSet;

use primitives::{Timestamp, TransferId};

use super::{At, Books};
use crate::{Head, Hold, Outcome, Rejection, Reversible, Standing, Transfer};

/// How to undo one step.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    /// Something else stood on the account at this place.
    Stand { place: usize, standing: Standing, moved: bool },
    /// More remained of the hold, or it was not there.
    Hold { id: TransferId, before: Option<Hold>, touched: bool },
    /// Less was moved back of the transfer.
    Reversed { id: TransferId, before: Option<Reversible>, touched: bool },
}

impl Books {
    /// Decides a linked group.
    ///
    /// A group all of which was decided before gets those answers again. If some of it was, or a
    /// member's id or request key stands for something else, the group as it is asked was never
    /// decided and cannot be done any more: what is new in it is refused.
    pub(super) fn post_linked(&mut self, transfers: &[Transfer], at: At) -> Vec<Outcome> {
        let n_known = self.count_known(transfers, at.decided_at);
        let (head, n_before) = (self.head, self.records.len());
        let mut culprit = None;
        if n_known == 0 {
            self.undo = Some(Vec::new());
            let outcomes: Vec<Outcome> =
                transfers.iter().map(|it| self.post(it.clone(), at)).collect();
            let undo = self.undo.take().unwrap_or_default();
            culprit = outcomes
                .iter()
                .enumerate()
                .find_map(|(i, it)| it.verdict.rejection().map(|rejection| (i, rejection)));
            if culprit.is_none() {
                return outcomes;
            }
            self.take_back(head, n_before, undo);
        }
        let mut outcomes = Vec::with_capacity(transfers.len());
        for (i, transfer) in transfers.iter().enumerate() {
            let outcome = self.repeat(transfer, at.decided_at).unwrap_or_else(|| {
                let own = culprit.filter(|(at, _)| *at == i).map(|(_, rejection)| rejection);
                let rejection = own.unwrap_or(Rejection::GroupRefused);
                let subject = self.subject(&transfer.action);
                self.refuse(transfer.clone(), &subject, rejection, at.decided_at)
            });
            outcomes.push(outcome);
        }
        let done = self.records.iter().skip(n_before).filter(|it| it.verdict.is_done()).count();
        assert_eq!(done, 0, "I33: all of a group post, or none");
        outcomes
    }

    /// How many of the transfers were decided before the group, or stand for something else than
    /// was. Others are new, or repeat what is new in the group.
    ///
    /// As one by one, the request key speaks before the id: what repeats a new member by its key
    /// is not about whatever else is known under its id.
    fn count_known(&self, transfers: &[Transfer], now: Timestamp) -> usize {
        let (mut ids, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let mut n_known = 0_usize;
        for transfer in transfers {
            if transfer.request_key.is_some_and(|key| keys.contains(&key)) {
                continue;
            }
            if self.repeat(transfer, now).is_some() {
                n_known = n_known.saturating_add(1);
            } else if ids.insert(transfer.id) {
                keys.extend(transfer.request_key);
            }
        }
        n_known
    }

    /// Makes the books what they were before the group, the last step first.
    fn take_back(&mut self, head: Head, n_before: usize, undo: Vec<Undo>) {
        for record in self.records.drain(n_before..) {
            self.places.remove(&record.transfer.id);
            if let Some(key) = record.transfer.request_key {
                self.by_request_key.remove(&key);
            }
        }
        self.head = head;
        for step in undo.into_iter().rev() {
            match step {
                Undo::Stand { place, standing, moved } => {
                    if let Some(account) = self.state.accounts.at_mut(place) {
                        account.standing = standing;
                    }
                    if let Some(mark) = self.marks.get_mut(place) {
                        mark.moved = moved;
                    }
                }
                Undo::Hold { id, before, touched } => {
                    match before {
                        Some(hold) => self.state.holds.insert(id, hold),
                        None => self.state.holds.remove(&id),
                    };
                    if !touched {
                        self.touched_holds.remove(&id);
                    }
                }
                Undo::Reversed { id, before, touched } => {
                    match before {
                        Some(reversible) => self.state.reversed.insert(id, reversible),
                        None => self.state.reversed.remove(&id),
                    };
                    if !touched {
                        self.touched_reversed.remove(&id);
                    }
                }
            }
        }
    }
}
