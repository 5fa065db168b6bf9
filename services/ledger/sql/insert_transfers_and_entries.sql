with decided as (
  insert into ledger.transfers (
    transfer_id, kind, debit_account_id, credit_account_id, amount_minor, currency, note,
    reference, request_key, request_digest, made_by_key_id, rejection, position, decided_at
  )
  select
    transfer_id, kind, debit_account_id, credit_account_id, amount_minor, currency,
    nullif(note, ''), nullif(reference, ''), nullif(request_key, ''), request_digest,
    nullif(made_by_key_id, '00000000-0000-0000-0000-000000000000'), rejection,
    nullif(position, 0), decided_at
  from unnest(
    $1::uuid[], $2::smallint[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::text[],
    $8::text[], $9::bytea[], $10::bytea[], $11::uuid[], $12::smallint[], $13::bigint[],
    $14::timestamptz[]
  ) as it (
    transfer_id, kind, debit_account_id, credit_account_id, amount_minor, currency, note,
    reference, request_key, request_digest, made_by_key_id, rejection, position, decided_at
  )
)
insert into ledger.entries (
  position, transfer_id, account_id, amount_minor, balance_before_minor, balance_after_minor
)
select *
from unnest(
  $15::bigint[], $16::uuid[], $17::uuid[], $18::bigint[], $19::bigint[], $20::bigint[]
)
