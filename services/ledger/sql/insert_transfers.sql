-- What is absent travels as the empty value of its type and becomes null here; where the empty value
-- could be meant, the last three columns say whether it is.
insert into ledger.transfers (
  position, transfer_id, kind, rejection, debit_account_id, credit_account_id, amount_minor,
  currency, debit_balance_after_minor, debit_held_after_minor, credit_balance_after_minor,
  credit_held_after_minor, of_transfer_id, expires_at, note, reference, made_by_key_id,
  request_key, request_key_rest, request_digest, decided_at
)
select
  position, transfer_id, kind, rejection,
  case when is_known then debit_account_id end,
  case when is_known then credit_account_id end,
  amount_minor,
  nullif(currency, ''),
  case when rejection = 0 then debit_balance end,
  nullif(debit_held, 0),
  case when has_credit then credit_balance end,
  nullif(credit_held, 0),
  nullif(of_transfer_id, '00000000-0000-0000-0000-000000000000'),
  nullif(expires_at, 'epoch'),
  nullif(note, ''),
  nullif(reference, ''),
  nullif(made_by_key_id, '00000000-0000-0000-0000-000000000000'),
  case when has_key then request_key end,
  case when has_key then request_key_rest end,
  request_digest,
  decided_at
from unnest(
  $1::bigint[], $2::uuid[], $3::smallint[], $4::smallint[], $5::uuid[], $6::uuid[], $7::bigint[],
  $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::uuid[],
  $14::timestamptz[], $15::text[], $16::text[], $17::uuid[], $18::uuid[], $19::uuid[],
  $20::bytea[], $21::timestamptz[], $22::boolean[], $23::boolean[], $24::boolean[]
) as it (
  position, transfer_id, kind, rejection, debit_account_id, credit_account_id, amount_minor,
  currency, debit_balance, debit_held, credit_balance, credit_held, of_transfer_id, expires_at,
  note, reference, made_by_key_id, request_key, request_key_rest, request_digest, decided_at,
  is_known, has_credit, has_key
)
order by position
