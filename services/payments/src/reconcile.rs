//! Asks Paystack what it thinks of a deposit, and feeds the answer back as an event.
//!
//! The only proof that counts: our own question, with our own key. Webhooks, callers and the schedule
//! only decide when it is asked, so a webhook that never comes delays money and loses none.

use std::sync::Arc;

use primitives::{DepositId, Timestamp};

use crate::desk::{Desk, chain, log_failed};
use crate::lifecycle::{Deposit, Event, Verdict, Work};
use crate::paystack::{Client, Found};
use crate::reference::Reference;
use crate::store::deposits::{self, Claim};
use crate::store::{self};
use crate::verdict::judge;

/// Verifies one deposit.
pub(crate) async fn verify(desk: Desk, paystack: Arc<Client>, deposit_id: DepositId) {
    let work = async {
        let Some(deposit) = deposits::load(&desk.pool, deposit_id).await? else { return Ok(()) };
        match deposit.work() {
            Work::Verify(reference) => try_verify(&desk, &paystack, &deposit, &reference).await,
            // It moved on between the claim and now.
            Work::Initialize | Work::Credit | Work::Suspend | Work::Rest => {
                deposits::release(&desk.pool, deposit_id).await
            }
        }
    };
    if let Err(error) = work.await {
        log_failed(deposit_id, "verify", &error);
    }
}

/// Verifies one reference of a deposit that this worker has claimed.
pub(crate) async fn try_verify(
    desk: &Desk,
    paystack: &Client,
    deposit: &Deposit,
    reference: &Reference,
) -> Result<(), store::Error> {
    let id = deposit.deposit_id;
    let event = match paystack.verify(reference).await {
        Ok(found) => {
            let verdict = match &found {
                Found::Transaction(said) => {
                    judge(&desk.expected(deposit, reference), said, Timestamp::now())
                }
                Found::Nothing => Verdict::NotFound,
            };
            if verdict == Verdict::NotFound && deposit.checkout.is_some() {
                // A key of another mode or account gives the same answer.
                tracing::error!(deposit.id = %id, "paystack does not know {reference}, which it gave us a checkout for");
            }
            Event::Verified { verdict }
        }
        Err(error) => {
            tracing::warn!(deposit.id = %id, error = chain(&error), "failed to verify {reference}");
            Event::VerifyFailed
        }
    };
    desk.happen(id, event, Claim::Release).await?;
    Ok(())
}
