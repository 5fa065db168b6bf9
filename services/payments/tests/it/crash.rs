//! The service ends after each step of a deposit, as by `kill -9`, and starts again: the same end.

use payments::Part;
use primitives::AccountId;
use proto_events::payments::v1::DepositStarted;
use proto_events::subjects;
use sandbox::faults::{Fault, Plan};
use testkit::eventually;

use crate::store;
use crate::world::{Ask, BOUND, World};

/// Where the service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    IntentStored,
    InitializeAsked,
    CheckoutStored,
    Answered,
    WebhookStored,
    WebhookUsed,
    VerifyAsked,
    PaidStored,
    LedgerAsked,
    CreditStored,
}

impl After {
    /// The loops that may run until then.
    fn parts(self) -> &'static [Part] {
        use Part::{Commands, Credit, Inbox, Initialize, Tell, Verify};
        match self {
            Self::IntentStored => &[Commands],
            Self::InitializeAsked | Self::CheckoutStored => &[Commands, Initialize],
            Self::Answered | Self::WebhookStored => &[Commands, Initialize, Tell],
            Self::WebhookUsed => &[Commands, Initialize, Tell, Inbox],
            Self::VerifyAsked | Self::PaidStored => &[Commands, Initialize, Tell, Inbox, Verify],
            Self::LedgerAsked | Self::CreditStored => {
                &[Commands, Initialize, Tell, Inbox, Verify, Credit]
            }
        }
    }

    /// Whether the caller has its checkout by then.
    fn is_answered(self) -> bool {
        !matches!(self, Self::IntentStored | Self::InitializeAsked | Self::CheckoutStored)
    }

    /// Whether it is paid by then.
    fn is_paid(self) -> bool {
        self.is_answered() && self != Self::Answered
    }
}

#[tokio::test]
async fn an_end_after_the_intent_is_stored_changes_nothing() {
    ends_after(After::IntentStored).await;
}

#[tokio::test]
async fn an_end_after_initialize_is_asked_changes_nothing() {
    ends_after(After::InitializeAsked).await;
}

#[tokio::test]
async fn an_end_after_the_checkout_is_stored_changes_nothing() {
    ends_after(After::CheckoutStored).await;
}

#[tokio::test]
async fn an_end_after_the_caller_is_answered_changes_nothing() {
    ends_after(After::Answered).await;
}

#[tokio::test]
async fn an_end_after_the_webhook_is_stored_changes_nothing() {
    ends_after(After::WebhookStored).await;
}

#[tokio::test]
async fn an_end_after_the_webhook_is_used_changes_nothing() {
    ends_after(After::WebhookUsed).await;
}

#[tokio::test]
async fn an_end_after_verify_is_asked_changes_nothing() {
    ends_after(After::VerifyAsked).await;
}

#[tokio::test]
async fn an_end_after_paid_is_stored_changes_nothing() {
    ends_after(After::PaidStored).await;
}

#[tokio::test]
async fn an_end_after_the_ledger_is_asked_changes_nothing() {
    ends_after(After::LedgerAsked).await;
}

#[tokio::test]
async fn an_end_after_the_credit_is_stored_changes_nothing() {
    ends_after(After::CreditStored).await;
}

/// Ends there, starts again, and credits once.
async fn ends_after(after: After) {
    let mut world = World::new().await;
    world.start_parts(after.parts()).await;
    let account_id = world.ledger.open();
    match after {
        After::InitializeAsked => {
            world.sandbox.inject(Plan::chance(Fault::InitializeSlow, 1.0).delayed(60_000));
        }
        After::VerifyAsked => {
            world.sandbox.inject(Plan::chance(Fault::VerifySlow, 1.0).delayed(60_000));
        }
        After::LedgerAsked => world.ledger.desk().is_silent = true,
        After::IntentStored
        | After::CheckoutStored
        | After::Answered
        | After::WebhookStored
        | After::WebhookUsed
        | After::PaidStored
        | After::CreditStored => {}
    }
    let started = go(&mut world, account_id, after).await;
    if !after.is_paid() {
        world.pay(&started.reference);
    }
    let stored = world.until("credited").await;
    assert_eq!(stored.paid_reference.as_ref(), Some(&started.reference), "{after:?}");
    assert_eq!(world.ledger.balance(account_id), 5_000, "{after:?}");
    assert_eq!(world.ledger.posted().len(), 1, "{after:?}");
    let announced = store::announced(world.pool()).await;
    assert_eq!(announced, [subjects::payments::DEPOSIT_CREDITED], "{after:?}");
    assert_eq!(world.ask(&Ask::keyed(account_id, 1)).await.reference, started.reference);
    world.finish().await;
}

/// Brings a deposit to the step, ends the service, starts it again, and gets the caller a checkout.
async fn go(world: &mut World, account_id: AccountId, after: After) -> DepositStarted {
    let ask = Ask::keyed(account_id, 1);
    if after.is_answered() {
        let started = world.ask(&ask).await;
        assert_eq!(started.refusal, 0, "{after:?}");
        if after.is_paid() {
            world.pay(&started.reference);
        }
        reached(world, after).await;
        world.crash();
        world.sandbox.clear_faults();
        world.ledger.desk().is_silent = false;
        world.start().await;
        return started;
    }
    let (asker, command) = (world.asker.clone(), ask.wire());
    let waiting = async move {
        let subject = subjects::payments::START_DEPOSIT;
        asker.command::<DepositStarted>(subject, &command, BOUND).await.unwrap()
    };
    let restart = async {
        reached(world, after).await;
        world.crash();
        world.sandbox.clear_faults();
        world.start().await;
    };
    let (started, ()) = tokio::join!(waiting, restart);
    // Who asked before the end is answered after it.
    assert_eq!(started.refusal, 0, "{after:?}");
    let phases = store::phases(world.pool()).await;
    let (last, lost) = phases.split_last().expect("an attempt");
    assert_eq!(last, "made", "{after:?}");
    // Nobody knew what had become of the first reference, so it was not used again.
    assert_eq!(lost.is_empty(), after != After::InitializeAsked, "{after:?}: {phases:?}");
    assert!(lost.iter().all(|phase| phase == "asked" || phase == "unknown"), "{phases:?}");
    started
}

/// Waits until the step is taken.
async fn reached(world: &World, after: After) {
    let state = |state: &'static str| async move {
        let [deposit] = store::deposits(world.pool())
            .await
            .try_into()
            .unwrap_or_else(|all: Vec<_>| panic!("one deposit, not {}", all.len()));
        if deposit.state == state { Ok(()) } else { Err(format!("{deposit:?}")) }
    };
    eventually("the step", BOUND, async || {
        if store::deposits(world.pool()).await.is_empty() {
            return Err("no deposit".to_owned());
        }
        match after {
            After::IntentStored => state("initiated").await,
            After::InitializeAsked => match world.sandbox.transactions().len() {
                0 => Err("no transaction".to_owned()),
                _ => Ok(()),
            },
            After::CheckoutStored | After::Answered => state("pending").await,
            After::WebhookStored => {
                let all = store::webhooks(world.pool()).await;
                if all.is_empty() { Err("no webhook".to_owned()) } else { Ok(()) }
            }
            After::WebhookUsed | After::VerifyAsked => state("confirming").await,
            After::PaidStored => state("paid").await,
            After::LedgerAsked => match world.ledger.balance_of_all() {
                5_000 => Ok(()),
                other => Err(format!("{other}")),
            },
            After::CreditStored => state("credited").await,
        }
    })
    .await;
}

#[tokio::test]
async fn an_orderly_stop_finishes_what_is_in_hand() {
    let mut world = World::started().await;
    let account_id = world.ledger.open();
    world.sandbox.inject(Plan::next(Fault::InitializeSlow, 1).delayed(500));
    let (asker, command) = (world.asker.clone(), Ask::of(account_id).wire());
    let waiting = async move {
        let subject = subjects::payments::START_DEPOSIT;
        asker.command::<DepositStarted>(subject, &command, BOUND).await.unwrap()
    };
    let stop = async {
        eventually("the call", BOUND, async || match world.sandbox.transactions().len() {
            1 => Ok(()),
            other => Err(format!("{other} transactions")),
        })
        .await;
        world.stop().await;
    };
    let (started, ()) = tokio::join!(waiting, stop);
    assert_eq!(started.refusal, 0, "{started:?}");
    world.start().await;
    world.pay(&started.reference);
    world.until("credited").await;
    world.finish().await;
}
