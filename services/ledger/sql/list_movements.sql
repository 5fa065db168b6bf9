-- Both histories of the account, each from its newest row down, merged. Holds, releases and expiries
-- (4, 6, 7) move no money. Bounded by (account, position), so that there is one index that gives the
-- order, whatever the planner thinks of the tables.
select
  t.transfer_id as "transfer_id!",
  t.kind as "kind!",
  t.debit_account_id as "debit_account_id!",
  t.credit_account_id as "credit_account_id!",
  t.amount_minor as "amount_minor!",
  t.currency as "currency!",
  t.note,
  t.reference,
  t.made_by_key_id,
  t.rejection as "rejection!",
  t.decided_at as "decided_at!",
  t.position as "position!",
  case t.debit_account_id when $1 then t.debit_balance_after_minor else t.credit_balance_after_minor end
    as "balance_after_minor?"
from (
  (
    select *
    from ledger.transfers t
    where (t.debit_account_id, t.position) < ($1, $2::bigint)
      and (t.debit_account_id, t.position) > ($1, $3::bigint)
      and t.debit_balance_after_minor is not null
      and t.kind not in (4, 6, 7)
      and ($4::smallint is null or t.kind = $4)
      and $5::boolean is not false
    order by t.debit_account_id desc, t.position desc
    limit $6
  )
  union all
  (
    select *
    from ledger.transfers t
    where (t.credit_account_id, t.position) < ($1, $2::bigint)
      and (t.credit_account_id, t.position) > ($1, $3::bigint)
      and t.credit_balance_after_minor is not null
      and ($4::smallint is null or t.kind = $4)
      and $5::boolean is not true
    order by t.credit_account_id desc, t.position desc
    limit $6
  )
) t
order by t.position desc
limit $6
