-- Transfers: every decision there ever was about money, refusals too, one row each, kept for ever
-- under its id and, if the caller sent an Idempotency-Key, under its request key.
--
-- A row is both sides of the transfer, so neither can be written without the other, and says what
-- stands on both accounts right after. Positions count over all rows without a gap, in the order of
-- decision; so the history of one account is a walk down two indexes and stays where it is while
-- new rows arrive, and what stood on it at any moment is one seek in each.

create table ledger.transfers (
  position bigint not null,
  transfer_id uuid not null,
  -- Neither account need exist: that may be why the transfer was refused. Null if it was refused
  -- because what it is about does not exist.
  debit_account_id uuid,
  credit_account_id uuid,
  -- As the asker named it: 0 for all there is, if that could not be found out.
  amount_minor bigint not null,
  -- What stands on the accounts right after; null where nothing changed, and for a held sum of 0.
  debit_balance_after_minor bigint,
  credit_balance_after_minor bigint,
  debit_held_after_minor bigint,
  credit_held_after_minor bigint,
  decided_at timestamptz not null,
  -- When a hold is given back by itself.
  expires_at timestamptz,
  -- Numbers as on the wire (proto-events, ledger.v1): TransferKind, and Rejection with 0 for yes.
  kind smallint not null,
  rejection smallint not null,
  -- The hold or the transfer it is about.
  of_transfer_id uuid,
  made_by_key_id uuid,
  currency text,
  request_digest bytea not null,
  -- In two halves: the index needs no more than the first to tell keys apart.
  request_key uuid,
  request_key_rest uuid,
  note text,
  reference text,
  constraint transfers_pkey primary key (position),
  constraint transfers_transfer_id_once unique (transfer_id),
  constraint transfers_position_positive check (position > 0),
  constraint transfers_amount_in_bounds check (
    amount_minor between 0 and 9007199254740991 and (amount_minor > 0 or rejection <> 0)
  ),
  constraint transfers_kind_known check (kind between 1 and 8),
  -- 1, 12 and 19 are never kept: a reused key, a message nobody could read, a hold not yet due.
  constraint transfers_rejection_known check (
    rejection = 0 or (rejection between 2 and 26 and rejection not in (12, 19))
  ),
  constraint transfers_two_accounts check (debit_account_id <> credit_account_id or rejection <> 0),
  constraint transfers_about_an_earlier_one check ((of_transfer_id is not null) = (kind >= 5)),
  constraint transfers_expire_if_holds check (expires_at is null or kind = 4),
  -- What is done says what stands on the debited account and, if money moved, on the credited one;
  -- what is refused changes nothing.
  constraint transfers_say_what_stands check (
    (debit_balance_after_minor is not null) = (rejection = 0)
    and (credit_balance_after_minor is not null) = (rejection = 0 and kind not in (4, 6, 7))
    and (rejection <> 0 or num_nonnulls(debit_account_id, credit_account_id, currency) = 3)
  ),
  constraint transfers_holds_positive check (
    (debit_held_after_minor > 0) is not false and (credit_held_after_minor > 0) is not false
  ),
  -- A system account's id spells its kind and currency and ends so; all others are wallets, which
  -- are never overdrawn and hold at most what JSON can say exactly.
  constraint transfers_no_overdraft check (
    debit_balance_after_minor >= coalesce(debit_held_after_minor, 0)
    or substring(uuid_send(debit_account_id) from 5) = '\x000080008000000000000000'
  ),
  constraint transfers_balance_exact_in_json check (
    credit_balance_after_minor between 0 and 9007199254740991
    or substring(uuid_send(credit_account_id) from 5) = '\x000080008000000000000000'
  ),
  constraint transfers_digest_length check (octet_length(request_digest) = 32),
  constraint transfers_request_key_whole check (num_nonnulls(request_key, request_key_rest) in (0, 2))
);

create unique index transfers_request_key_once on ledger.transfers (request_key)
where request_key is not null;

-- The history of an account: rows after which something stands differently on it.
create index transfers_debits on ledger.transfers (debit_account_id, position)
where debit_balance_after_minor is not null;

create index transfers_credits on ledger.transfers (credit_account_id, position)
where credit_balance_after_minor is not null;

-- What was done about a hold or a transfer, by which the audit compares what is kept of it.
create index transfers_about on ledger.transfers (of_transfer_id)
where of_transfer_id is not null;

create trigger transfers_append_only
before update or delete or truncate on ledger.transfers
for each statement execute function ledger.refuse();

-- Looked at once for each statement and not for each row, and by key, whatever the planner thought
-- of the table when a session planned this: a batch costs the same in old books as in new ones.
create function ledger.check_added_transfers() returns trigger
language plpgsql
set enable_seqscan = off
as $$
declare
  n_added bigint;
  first bigint;
  last bigint;
begin
  select count(*), min(position), max(position) into n_added, first, last from added;
  if n_added > 0 and (
    last - first + 1 <> n_added
    or first - 1 <> (select coalesce(max(t.position), 0) from ledger.transfers t where t.position < first)
    or exists (select from ledger.transfers t where t.position > last)
  ) then
    raise exception using
      errcode = 'check_violation',
      constraint = 'transfers_without_gap',
      message = format('transfers %s to %s do not continue the books', first, last);
  end if;
  return null;
end
$$;

create trigger transfers_without_gap
after insert on ledger.transfers
referencing new table as added
for each statement execute function ledger.check_added_transfers();

-- When the transfers up to a position were decided, once for each batch: turns a moment into a
-- position with one look at an index.
create table ledger.batches (
  last_position bigint not null,
  decided_at timestamptz not null,
  constraint batches_pkey primary key (last_position)
);

create index batches_moment on ledger.batches (decided_at, last_position);

create trigger batches_append_only
before update or delete or truncate on ledger.batches
for each statement execute function ledger.refuse();

create function ledger.check_added_batch() returns trigger
language plpgsql as $$
begin
  if new.last_position is distinct from (select max(t.position) from ledger.transfers t)
    or new.decided_at < (
      select b.decided_at
      from ledger.batches b
      where b.last_position < new.last_position
      order by b.last_position desc
      limit 1
    )
  then
    raise exception using
      errcode = 'check_violation',
      constraint = 'batches_move_forward',
      message = format('the batch that ends with transfer %s does not continue the books',
        new.last_position);
  end if;
  return null;
end
$$;

create trigger batches_move_forward
after insert on ledger.batches
for each row execute function ledger.check_added_batch();
