//! What all of it comes to, per currency.

use std::collections::BTreeMap;

use serde::Serialize;

use super::disputes::DisputeStatus;
use super::{Kept, Model, RefundStatus, Status, Transaction};

/// Sums of one currency, in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// What was ever paid, without what customers paid on top for Paystack's fees.
    pub collected: u64,
    /// What is on its way back by refunds.
    pub refunding: u64,
    /// What went back by refunds.
    pub refunded: u64,
    /// What open disputes ask for.
    pub disputed: u64,
    /// What went back by disputes.
    pub lost: u64,
    /// `collected − refunded − lost`: what a clearing account must come to once everything is
    /// booked. Below zero if fees were given back, too, that customers paid on top.
    pub owed: i64,
}

impl Model {
    /// The sums of every currency anything was paid in.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Totals> {
        let mut all: BTreeMap<String, Totals> = BTreeMap::new();
        for paid in self.transactions().filter(|it| it.status.is_paid()) {
            self.count(paid, all.entry(paid.currency.clone()).or_default());
        }
        for sums in all.values_mut() {
            let signed = |sum: u64| i64::try_from(sum).unwrap_or(i64::MAX);
            sums.owed = signed(sums.collected) - signed(sums.refunded) - signed(sums.lost);
        }
        all
    }

    fn count(&self, paid: &Transaction, sums: &mut Totals) {
        let add = |sum: &mut u64, amount: u64| *sum = sum.saturating_add(amount);
        add(&mut sums.collected, paid.amount.saturating_sub(paid.fees_on_top));
        for refund in self.refunds_of(paid.id) {
            match refund.status {
                RefundStatus::Pending | RefundStatus::Processing | RefundStatus::NeedsAttention => {
                    add(&mut sums.refunding, refund.amount);
                }
                RefundStatus::Processed => add(&mut sums.refunded, refund.amount),
                RefundStatus::Failed => {}
            }
        }
        for dispute in self.disputes_of(paid.id) {
            match dispute.status {
                DisputeStatus::AwaitingMerchantFeedback | DisputeStatus::AwaitingBankFeedback => {
                    add(&mut sums.disputed, dispute.amount);
                }
                DisputeStatus::Resolved => add(&mut sums.lost, dispute.lost_amount),
            }
        }
    }

    /// What was paid and not given back, per currency, in minor units.
    #[must_use]
    pub fn collected(&self) -> BTreeMap<String, u64> {
        let owed = |sums: Totals| u64::try_from(sums.owed).unwrap_or(0);
        self.totals().into_iter().map(|(currency, sums)| (currency, owed(sums))).collect()
    }

    /// What of a payment is neither given back, nor on its way, nor contested.
    pub(super) fn remains(&self, paid: &Transaction) -> u64 {
        let mut sums = Totals::default();
        self.count(paid, &mut sums);
        let gone = [sums.refunding, sums.refunded, sums.disputed, sums.lost];
        gone.into_iter().fold(paid.amount, u64::saturating_sub)
    }

    /// What lies with Paystack and can be given back.
    pub(super) fn balance(&self, currency: &str) -> u64 {
        let Some(sums) = self.totals().get(currency).copied() else { return 0 };
        let settled = self.settled.get(currency).copied().unwrap_or(0);
        let gone = [sums.refunding, sums.refunded, sums.lost, settled];
        gone.into_iter().fold(sums.collected, u64::saturating_sub)
    }

    /// Pays the whole balance out to the merchant's bank.
    pub fn settle(&mut self) {
        for currency in self.totals().into_keys() {
            let balance = self.balance(&currency);
            let settled = self.settled.entry(currency.clone()).or_default();
            *settled = settled.saturating_add(balance);
            let amount = *settled;
            self.effects.kept.push(Kept::Settled { settled: currency, amount });
        }
    }

    /// Shows on a transaction what became of its refunds and disputes.
    pub(super) fn show_reversal(&mut self, id: u64) {
        let Some(paid) = self.transactions.get(&id) else { return };
        let mut sums = Totals::default();
        self.count(paid, &mut sums);
        let status = if sums.refunding > 0 {
            Status::ReversalPending
        } else if sums.refunded > 0 || sums.lost > 0 {
            Status::Reversed
        } else {
            Status::Success
        };
        if let Some(paid) = self.transactions.get_mut(&id).filter(|it| it.status != status) {
            paid.status = status;
            self.effects.kept.push(Kept::Transaction(paid.clone()));
        }
    }
}
