select
  t.transfer_id,
  t.kind,
  t.debit_account_id as "debit_account_id!",
  t.credit_account_id as "credit_account_id!",
  t.amount_minor,
  t.currency as "currency!",
  t.note,
  t.reference,
  t.made_by_key_id,
  t.rejection,
  t.decided_at,
  t.position,
  case t.debit_account_id when $1 then t.debit_balance_after_minor else t.credit_balance_after_minor end
    as "balance_after_minor?"
from ledger.transfers t
where t.transfer_id = $2
  and t.currency is not null
  and (t.debit_account_id = $1 or (t.credit_account_id = $1 and t.rejection = 0))
