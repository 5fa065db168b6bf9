copy (
  select
    t.position,
    t.transfer_id,
    t.kind,
    t.rejection,
    t.debit_account_id,
    t.credit_account_id,
    t.amount_minor,
    t.currency,
    t.debit_balance_after_minor,
    t.debit_held_after_minor,
    t.credit_balance_after_minor,
    t.credit_held_after_minor,
    t.of_transfer_id,
    t.expires_at,
    t.decided_at,
    o.position,
    o.kind,
    o.debit_account_id,
    o.credit_account_id,
    o.amount_minor,
    o.currency
  from (
    select *
    from ledger.transfers
    where position > $1
    order by position
    limit $2
  ) t
  left join lateral (
    select *
    from ledger.transfers o
    where t.kind = 8
      and o.transfer_id = t.of_transfer_id
      and o.rejection = 0
    limit 1
  ) o on true
  order by t.position
) to stdout (format binary)
