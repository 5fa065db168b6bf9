-- A page of holds, and what remains of each by the transfers: 4 makes a hold, 5 to 7 use it up.
select
  h.hold_id,
  h.remaining_minor,
  (t.amount_minor - coalesce(used.minor, 0))::bigint as "expected_minor?"
from (
  select *
  from ledger.holds
  where hold_id > $1
  order by hold_id
  limit $2
) h
left join lateral (
  select t.amount_minor
  from ledger.transfers t
  where t.transfer_id = h.hold_id
    and t.kind = 4
    and t.rejection = 0
    and t.debit_account_id = h.debit_account_id
    and t.credit_account_id = h.credit_account_id
    and t.amount_minor = h.amount_minor
    and t.currency = h.currency
    and t.expires_at is not distinct from h.expires_at
  limit 1
) t on true
left join lateral (
  select sum(u.amount_minor) as minor
  from ledger.transfers u
  where u.of_transfer_id = h.hold_id
    and u.kind in (5, 6, 7)
    and u.rejection = 0
) used on true
order by h.hold_id
