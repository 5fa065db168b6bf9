-- What stood on accounts after the transfer at a position, each looked up by itself: one look at the
-- end of each of its two histories. The last row up to (account, position) is the account's newest,
-- or another account's. Said so, there is one index that gives it, whatever the planner thinks of
-- the tables: with an equality it may walk down the primary key instead, when one account has most
-- of the rows.
select
  it.n as "n!",
  a.account_id,
  a.kind,
  a.currency,
  a.status,
  a.least_minor,
  a.greatest_minor,
  a.opened_at,
  newest.balance_minor as "balance_minor?",
  newest.held_minor as "held_minor?"
from unnest($1::uuid[], $2::bigint[]) with ordinality as it (account_id, position, n)
cross join lateral (
  select *
  from ledger.accounts a
  where a.account_id = it.account_id
  limit 1
) a
left join lateral (
  select side.position, side.balance_minor, side.held_minor
  from (
    (
      select newest_debit.position, newest_debit.balance_minor, newest_debit.held_minor
      from (
        select
          t.debit_account_id as account_id,
          t.position,
          t.debit_balance_after_minor as balance_minor,
          t.debit_held_after_minor as held_minor
        from ledger.transfers t
        where (t.debit_account_id, t.position) <= (it.account_id, it.position)
          and t.debit_balance_after_minor is not null
        order by t.debit_account_id desc, t.position desc
        limit 1
      ) newest_debit
      where newest_debit.account_id = it.account_id
    )
    union all
    (
      select newest_credit.position, newest_credit.balance_minor, newest_credit.held_minor
      from (
        select
          t.credit_account_id as account_id,
          t.position,
          t.credit_balance_after_minor as balance_minor,
          t.credit_held_after_minor as held_minor
        from ledger.transfers t
        where (t.credit_account_id, t.position) <= (it.account_id, it.position)
          and t.credit_balance_after_minor is not null
        order by t.credit_account_id desc, t.position desc
        limit 1
      ) newest_credit
      where newest_credit.account_id = it.account_id
    )
  ) side
  order by side.position desc
  limit 1
) newest on true
