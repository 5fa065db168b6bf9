-- A page of accounts, each with what its changes made of it: 1 to 3 are freezing, unfreezing and
-- closing, 4 gives limits.
select
  a.account_id,
  a.kind,
  a.currency,
  a.status,
  a.least_minor,
  a.greatest_minor,
  a.opened_at,
  c.change as "newest_change?",
  l.least_minor as "newest_least_minor?",
  l.greatest_minor as "newest_greatest_minor?"
from (
  select *
  from ledger.accounts
  where account_id > $1
  order by account_id
  limit $2
) a
left join lateral (
  select c.change
  from ledger.account_changes c
  where c.account_id = a.account_id
    and c.rejection = 0
    and c.change <> 4
  order by c.after_position desc, c.change_no desc
  limit 1
) c on true
left join lateral (
  select c.least_minor, c.greatest_minor
  from ledger.account_changes c
  where c.account_id = a.account_id
    and c.rejection = 0
    and c.change = 4
  order by c.after_position desc, c.change_no desc
  limit 1
) l on true
order by a.account_id
