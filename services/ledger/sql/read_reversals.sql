-- A page of transfers of which something was moved back, and how much by the transfers: 8 does.
select
  r.transfer_id,
  r.reversed_minor,
  case when t.amount_minor = r.amount_minor then coalesce(used.minor, 0) end::bigint
    as "expected_minor?"
from (
  select *
  from ledger.reversals
  where transfer_id > $1
  order by transfer_id
  limit $2
) r
left join lateral (
  select t.amount_minor
  from ledger.transfers t
  where t.transfer_id = r.transfer_id
    and t.rejection = 0
  limit 1
) t on true
left join lateral (
  select sum(u.amount_minor) as minor
  from ledger.transfers u
  where u.of_transfer_id = r.transfer_id
    and u.kind = 8
    and u.rejection = 0
) used on true
order by r.transfer_id
