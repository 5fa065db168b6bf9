select
  t.transfer_id,
  t.kind,
  t.rejection,
  t.debit_account_id,
  t.credit_account_id,
  t.amount_minor,
  t.currency,
  coalesce(r.reversed_minor, 0) as "reversed_minor!"
from unnest($1::uuid[]) as it (transfer_id)
cross join lateral (
  select *
  from ledger.transfers t
  where t.transfer_id = it.transfer_id
  limit 1
) t
left join ledger.reversals r on r.transfer_id = it.transfer_id
