-- A transfer on its way in. A batch travels as one array of these, and a type of its own lets the
-- table gain a column while ledgers that do not know it still run; a change of this type is a new type.

create type ledger.new_transfer as (
  position bigint,
  transfer_id uuid,
  kind smallint,
  rejection smallint,
  debit_account_id uuid,
  credit_account_id uuid,
  amount_minor bigint,
  currency text,
  debit_balance_after_minor bigint,
  debit_held_after_minor bigint,
  credit_balance_after_minor bigint,
  credit_held_after_minor bigint,
  of_transfer_id uuid,
  expires_at timestamptz,
  note text,
  reference text,
  made_by_key_id uuid,
  request_key uuid,
  request_key_rest uuid,
  request_digest bytea,
  decided_at timestamptz
);
