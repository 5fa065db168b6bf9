select
  e.position,
  e.transfer_id,
  e.account_id,
  e.amount_minor,
  e.balance_before_minor,
  e.balance_after_minor,
  t.position as "transfer_position?",
  t.debit_account_id as "debit_account_id?",
  t.credit_account_id as "credit_account_id?",
  t.amount_minor as "transfer_amount_minor?",
  t.currency as "transfer_currency?",
  a.kind as "account_kind?",
  a.currency as "account_currency?"
from ledger.entries e
left join ledger.transfers t on t.transfer_id = e.transfer_id
left join ledger.accounts a on a.account_id = e.account_id
where e.position > $1
order by e.position
limit $2
