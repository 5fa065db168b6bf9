-- Each id is looked up by itself: `limit` keeps the planner from joining all of the books at once
-- with a plan it made when they were small.
select
  known.transfer_id as "transfer_id!",
  known.request_key,
  known.request_key_rest,
  known.request_digest as "request_digest!",
  known.rejection as "rejection!",
  known.decided_at as "decided_at!",
  known.debit_balance_after_minor
from (
  select t.*
  from unnest($1::uuid[]) as it (transfer_id)
  cross join lateral (
    select
      t.transfer_id, t.request_key, t.request_key_rest, t.request_digest, t.rejection, t.decided_at,
      t.debit_balance_after_minor
    from ledger.transfers t
    where t.transfer_id = it.transfer_id
    limit 1
  ) t
  union
  select t.*
  from unnest($2::uuid[]) as it (request_key)
  cross join lateral (
    select
      t.transfer_id, t.request_key, t.request_key_rest, t.request_digest, t.rejection, t.decided_at,
      t.debit_balance_after_minor
    from ledger.transfers t
    where t.request_key = it.request_key
    limit 1
  ) t
) known
