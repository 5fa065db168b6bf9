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
from ledger.entries e
join ledger.transfers t on t.transfer_id = e.transfer_id
where e.account_id = $1
  and e.position < $2
  and e.position > $3
  and ($4::smallint is null or t.kind = $4)
  and ($5::boolean is null or (e.amount_minor < 0) = $5)
order by e.position desc
limit $6
