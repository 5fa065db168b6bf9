-- A batch of transfers, and when they were decided. By name, because the columns of the table are in
-- the order that wastes least space.
with closed as (
  insert into ledger.batches (last_position, decided_at) values ($2, $3)
)
insert into ledger.transfers (
  position, transfer_id, kind, rejection, debit_account_id, credit_account_id, amount_minor,
  currency, debit_balance_after_minor, debit_held_after_minor, credit_balance_after_minor,
  credit_held_after_minor, of_transfer_id, expires_at, note, reference, made_by_key_id,
  request_key, request_key_rest, request_digest, decided_at
)
select
  position, transfer_id, kind, rejection, debit_account_id, credit_account_id, amount_minor,
  currency, debit_balance_after_minor, debit_held_after_minor, credit_balance_after_minor,
  credit_held_after_minor, of_transfer_id, expires_at, note, reference, made_by_key_id,
  request_key, request_key_rest, request_digest, decided_at
from unnest($1::ledger.new_transfer[])
