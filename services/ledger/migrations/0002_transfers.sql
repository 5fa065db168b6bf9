-- Transfers: every outcome there ever was, refusals too, kept for ever under its id and, if the
-- caller sent an Idempotency-Key, under its request key.

create table ledger.transfers (
  transfer_id uuid not null,
  debit_account_id uuid not null,
  -- Neither account need exist: that may be why the transfer was refused.
  credit_account_id uuid not null,
  amount_minor bigint not null,
  -- Position of the debit entry; the credit entry's is the next. None if it was refused.
  position bigint,
  decided_at timestamptz not null,
  -- Numbers as on the wire (proto-events, ledger.v1): TransferKind, and Rejection with 0 for yes.
  kind smallint not null,
  rejection smallint not null,
  made_by_key_id uuid,
  currency text not null,
  request_digest bytea not null,
  request_key bytea,
  note text,
  reference text,
  constraint transfers_pkey primary key (transfer_id),
  constraint transfers_amount_positive check (amount_minor between 1 and 9007199254740991),
  constraint transfers_kind_known check (kind in (1, 2)),
  -- 1 is a reused key, which is never kept; 12 is a message nobody could read.
  constraint transfers_rejection_known check (rejection = 0 or rejection between 2 and 11),
  constraint transfers_written_if_posted check ((position is not null) = (rejection = 0)),
  constraint transfers_digest_length check (octet_length(request_digest) = 32),
  constraint transfers_request_key_length check (octet_length(request_key) = 32)
);

create unique index transfers_request_key_once on ledger.transfers (request_key)
where request_key is not null;

create trigger transfers_append_only
before update or delete or truncate on ledger.transfers
for each statement execute function ledger.refuse();
