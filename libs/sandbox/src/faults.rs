//! What goes wrong on request: the next so many times, or by chance drawn from a seed.
//!
//! Each kind of fault has a row of chances of its own, which follows from the seed alone: the same
//! seed and the same number of occasions give the same faults, whatever happens in between.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// How long "late" and "slow" are, if nothing is said.
const DELAY_MS: u64 = 5_000;

/// One way of going wrong. `…_after` and `…_cut_off` happen after the effect took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The webhook is never sent.
    WebhookLost,
    /// The webhook is sent after the delay.
    WebhookLate,
    /// The webhook is sent twice, at once.
    WebhookTwice,
    /// The webhook is sent after the one that follows it.
    WebhookReordered,
    /// The webhook names another amount than was paid.
    WebhookWrongAmount,
    /// The webhook names another currency than was paid.
    WebhookWrongCurrency,
    /// The webhook's signature is made with another key.
    WebhookWrongSignature,
    /// The webhook names a reference nobody made.
    WebhookWrongReference,
    /// The person pays another amount: webhook and verify both say so.
    PaidOtherAmount,
    /// The person pays in another currency: webhook and verify both say so.
    PaidOtherCurrency,
    /// Initialize answers 500 and makes nothing.
    InitializeError,
    /// Initialize answers 500 although the transaction was made.
    InitializeErrorAfter,
    /// Initialize answers after the delay.
    InitializeSlow,
    /// Initialize makes the transaction and breaks the connection.
    InitializeCutOff,
    /// Verify answers 500.
    VerifyError,
    /// Verify answers after the delay.
    VerifySlow,
    /// Verify breaks the connection.
    VerifyCutOff,
    /// A call to make or retry a refund answers 500 and does nothing.
    RefundError,
    /// A call to make or retry a refund answers 500 although it was done.
    RefundErrorAfter,
    /// A call to make or retry a refund is answered after the delay.
    RefundSlow,
    /// A call to make or retry a refund is carried out and the connection breaks.
    RefundCutOff,
    /// A new refund will fail in the end.
    RefundFails,
    /// A new refund will need the customer's bank account.
    RefundNeedsAttention,
    /// A call that answers a dispute answers 500 and does nothing.
    DisputeError,
    /// A call that answers a dispute answers 500 although it was done.
    DisputeErrorAfter,
    /// A call that answers a dispute is answered after the delay.
    DisputeSlow,
    /// A call that answers a dispute is carried out and the connection breaks.
    DisputeCutOff,
    /// Any other call answers 500.
    ReadError,
    /// Any other call is answered after the delay.
    ReadSlow,
    /// Any other call breaks the connection.
    ReadCutOff,
    /// Google's token endpoint answers 503.
    TokenError,
    /// Google's token endpoint answers after the delay.
    TokenSlow,
    /// Google's token endpoint uses the code up and breaks the connection.
    TokenCutOff,
}

/// A fault and when it strikes: without `count` and `probability`, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What goes wrong.
    pub fault: Fault,
    /// At most this often.
    #[serde(default)]
    pub count: Option<u32>,
    /// Each time with this chance, 0 to 1.
    #[serde(default)]
    pub probability: Option<f64>,
    /// How long "late" and "slow" are.
    #[serde(default)]
    pub delay_ms: Option<u64>,
}

impl Plan {
    /// `fault` strikes the next `count` times.
    #[must_use]
    pub const fn next(fault: Fault, count: u32) -> Self {
        Self { fault, count: Some(count), probability: None, delay_ms: None }
    }

    /// `fault` strikes by chance, until it is cleared.
    #[must_use]
    pub const fn chance(fault: Fault, probability: f64) -> Self {
        Self { fault, count: None, probability: Some(probability), delay_ms: None }
    }

    /// The same, with another delay.
    #[must_use]
    pub const fn delayed(mut self, delay_ms: u64) -> Self {
        self.delay_ms = Some(delay_ms);
        self
    }

    /// Whether the numbers make sense.
    #[must_use]
    pub fn is_sane(&self) -> bool {
        self.probability.is_none_or(|chance| (0.0..=1.0).contains(&chance))
    }
}

/// Everything that can befall calls and webhooks without anybody lying.
const WEATHER: [Fault; 22] = [
    Fault::WebhookLost,
    Fault::WebhookLate,
    Fault::WebhookTwice,
    Fault::WebhookReordered,
    Fault::InitializeError,
    Fault::InitializeErrorAfter,
    Fault::InitializeSlow,
    Fault::InitializeCutOff,
    Fault::VerifyError,
    Fault::VerifySlow,
    Fault::VerifyCutOff,
    Fault::RefundError,
    Fault::RefundErrorAfter,
    Fault::RefundSlow,
    Fault::RefundCutOff,
    Fault::DisputeError,
    Fault::DisputeErrorAfter,
    Fault::DisputeSlow,
    Fault::DisputeCutOff,
    Fault::ReadError,
    Fault::ReadSlow,
    Fault::ReadCutOff,
];

/// Bad weather: every call and every webhook goes wrong in each of its ways with this chance.
/// Nothing is untrue, no payment differs and no refund fails: whoever asks again finds out.
#[must_use]
pub fn weather(rate: f64, delay_ms: u64) -> Vec<Plan> {
    WEATHER.map(|fault| Plan::chance(fault, rate).delayed(delay_ms)).into()
}

/// What struck, of the faults that were possible at one place.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Struck(Vec<(Fault, Duration)>);

impl Struck {
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.delay(fault).is_some()
    }

    pub(crate) fn delay(&self, fault: Fault) -> Option<Duration> {
        self.0.iter().find(|(struck, _)| *struck == fault).map(|(_, delay)| *delay)
    }
}

/// The plans in force, and the chances they are drawn with.
#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    /// Occasions of each kind so far.
    occasions: BTreeMap<Fault, u64>,
    /// How often each kind has struck.
    tally: BTreeMap<Fault, u64>,
    plans: Vec<Plan>,
}

impl Faults {
    pub(crate) fn new(seed: u64, plans: Vec<Plan>) -> Self {
        Self { seed, occasions: BTreeMap::new(), tally: BTreeMap::new(), plans }
    }

    pub(crate) fn add(&mut self, plan: Plan) {
        self.plans.push(plan);
    }

    pub(crate) fn clear(&mut self) {
        self.plans.clear();
    }

    pub(crate) fn plans(&self) -> &[Plan] {
        &self.plans
    }

    pub(crate) const fn tally(&self) -> &BTreeMap<Fault, u64> {
        &self.tally
    }

    /// Draws which of the faults possible here strike this time.
    pub(crate) fn draw(&mut self, possible: &[Fault]) -> Struck {
        let mut struck = Vec::new();
        let mut chances: BTreeMap<Fault, StdRng> = BTreeMap::new();
        for plan in &mut self.plans {
            if !possible.contains(&plan.fault) || struck.iter().any(|(it, _)| *it == plan.fault) {
                continue;
            }
            if let Some(chance) = plan.probability {
                let random = chances.entry(plan.fault).or_insert_with(|| {
                    let n = self.occasions.entry(plan.fault).or_default();
                    *n += 1;
                    chance_of(self.seed, plan.fault, *n)
                });
                if !random.random_bool(chance) {
                    continue;
                }
            }
            let n_struck = self.tally.entry(plan.fault).or_default();
            *n_struck = n_struck.saturating_add(1);
            struck.push((plan.fault, Duration::from_millis(plan.delay_ms.unwrap_or(DELAY_MS))));
            plan.count = match (plan.count, plan.probability) {
                (Some(left), _) => Some(left.saturating_sub(1)),
                (None, Some(_)) => None,
                (None, None) => Some(0),
            };
        }
        self.plans.retain(|plan| plan.count != Some(0));
        Struck(struck)
    }
}

/// The chance of the nth occasion of one kind.
fn chance_of(seed: u64, fault: Fault, n: u64) -> StdRng {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(format!("{seed} {fault:?} {n}"));
    StdRng::from_seed(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Fault; 2] = [Fault::WebhookLost, Fault::WebhookTwice];

    #[test]
    fn a_counted_fault_strikes_so_often_and_elsewhere_never() {
        let mut faults = Faults::new(1, Vec::new());
        faults.add(Plan::next(Fault::WebhookLost, 2));
        assert_eq!(faults.draw(&[Fault::VerifySlow]), Struck::default());
        let struck: Vec<bool> =
            (0..4).map(|_| faults.draw(&BOTH).has(Fault::WebhookLost)).collect();
        assert_eq!(struck, [true, true, false, false]);
        assert_eq!(faults.tally(), &BTreeMap::from([(Fault::WebhookLost, 2)]));
        assert!(faults.plans().is_empty());
    }

    #[test]
    fn a_bare_fault_strikes_once() {
        let mut faults = Faults::new(1, Vec::new());
        faults.add(serde_json::from_str(r#"{"fault":"webhook_late","delay_ms":7}"#).unwrap());
        let late = |struck: Struck| struck.delay(Fault::WebhookLate);
        assert_eq!(late(faults.draw(&[Fault::WebhookLate])), Some(Duration::from_millis(7)));
        assert_eq!(late(faults.draw(&[Fault::WebhookLate])), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_faults() {
        let draw = |seed| {
            let mut faults = Faults::new(seed, Vec::new());
            faults.add(Plan::chance(Fault::WebhookLost, 0.3));
            faults.add(Plan::chance(Fault::WebhookTwice, 0.5));
            (0..200).map(|_| faults.draw(&BOTH)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let lost = draw(7).iter().filter(|struck| struck.has(Fault::WebhookLost)).count();
        assert!((30..90).contains(&lost), "{lost} of 200 at 0.3");
    }

    #[test]
    fn what_else_happens_does_not_change_the_chances_of_a_fault() {
        let draw = |busy: bool| {
            let mut faults = Faults::new(7, weather(0.4, 1));
            let mut lost = Vec::new();
            for n in 0..100 {
                if busy && n % 3 == 0 {
                    faults.draw(&[Fault::VerifyError, Fault::RefundSlow]);
                }
                lost.push(faults.draw(&BOTH));
            }
            lost
        };
        assert_eq!(draw(false), draw(true));
    }

    #[test]
    fn chances_beyond_one_are_refused() {
        for (chance, sane) in [(0.0, true), (1.0, true), (1.1, false), (-0.1, false)] {
            assert_eq!(Plan::chance(Fault::VerifySlow, chance).is_sane(), sane, "{chance}");
        }
        assert!(!Plan::chance(Fault::VerifySlow, f64::NAN).is_sane());
    }
}
