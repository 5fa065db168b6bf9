select
  t.transfer_id,
  t.kind,
  t.debit_account_id,
  t.credit_account_id,
  t.amount_minor,
  t.currency,
  t.note,
  t.reference,
  t.made_by_key_id,
  t.rejection,
  t.decided_at,
  e.position as "position?",
  e.balance_after_minor as "balance_after_minor?"
from ledger.transfers t
left join ledger.entries e
  on e.position in (t.position, t.position + 1)
  and e.account_id = $1
where t.transfer_id = $2
  and (t.debit_account_id = $1 or (t.credit_account_id = $1 and t.rejection = 0))
