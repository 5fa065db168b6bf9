-- Each id is looked up by itself: `limit` keeps the planner from joining all of the books at once
-- with a plan it made when they were small.
select
  t.transfer_id,
  t.request_key,
  t.request_digest,
  t.rejection,
  t.position,
  t.decided_at,
  e.balance_after_minor as "debit_balance_after_minor?"
from (
  select t.transfer_id
  from unnest($1::uuid[]) as it (transfer_id)
  cross join lateral (
    select t.transfer_id
    from ledger.transfers t
    where t.transfer_id = it.transfer_id
    limit 1
  ) t
  union
  select t.transfer_id
  from unnest($2::bytea[]) as it (request_key)
  cross join lateral (
    select t.transfer_id
    from ledger.transfers t
    where t.request_key = it.request_key
    limit 1
  ) t
) known
cross join lateral (
  select *
  from ledger.transfers t
  where t.transfer_id = known.transfer_id
  limit 1
) t
left join lateral (
  select e.balance_after_minor
  from ledger.entries e
  where e.position = t.position
  limit 1
) e on true
