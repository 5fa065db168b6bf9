//! Takes on refunds that somebody made at Paystack itself: nobody asked us for them, and their money
//! is gone all the same.
//!
//! Their webhooks say neither which refund they are about nor who asked for it, so that none of them
//! is believed: Paystack's list is read, and what it has and we have not becomes a return of its
//! payment, whose money the ledger holds and takes as that of a dispute.

use primitives::{ReturnId, Timestamp};

use crate::desk::Desk;
use crate::returns::{Payment, RefundSaid, Return, is_known};
use crate::store::{Error, deposits, returns};

/// Makes a listed refund a return, unless it is one or its payment is none of ours; says which.
pub(crate) async fn adopt(desk: &Desk, said: &RefundSaid) -> Result<Option<ReturnId>, Error> {
    let (Some(id), Some(transaction_id)) = (&said.id, &said.transaction_id) else {
        return Ok(None);
    };
    if returns::has_refund(&desk.pool, id).await? {
        return Ok(None);
    }
    let now = Timestamp::now();
    let mut tx = desk.pool.begin().await.map_err(Error::Begin)?;
    let Some(deposit_id) = deposits::of_transaction(&mut tx, transaction_id).await? else {
        return Ok(None);
    };
    let Some(deposit) = deposits::lock(&mut tx, deposit_id).await? else { return Ok(None) };
    let Some(paid) = &deposit.paid else { return Ok(None) };
    let all = returns::of_deposit(&mut *tx, deposit_id).await?;
    if is_known(&all, said) {
        return Ok(None);
    }
    let payment = Payment::of(&deposit, &paid.reference);
    let new = Return::found_refund(ReturnId::generate(), payment, id.clone(), now);
    desk.begin_return(&mut tx, &new, now).await?;
    tx.commit().await.map_err(Error::Commit)?;
    desk.bells.give_back.notify_one();
    Ok(Some(new.return_id))
}
