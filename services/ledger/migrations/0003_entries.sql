-- Entries: one row for each side of a posted transfer, with the account's balance before and after.
-- Positions count over all accounts without a gap, in the order of decision; so the history of one
-- account is a walk down an index, and stays where it is while new entries arrive.

create table ledger.entries (
  position bigint not null,
  transfer_id uuid not null,
  account_id uuid not null,
  -- Above zero for a credit, below for a debit.
  amount_minor bigint not null,
  balance_before_minor bigint not null,
  balance_after_minor bigint not null,
  constraint entries_pkey primary key (position),
  constraint entries_position_positive check (position > 0),
  constraint entries_amount_not_zero check (amount_minor <> 0),
  constraint entries_balance_follows check (
    balance_after_minor = balance_before_minor + amount_minor
  )
);

create unique index entries_history on ledger.entries (account_id, position desc);

create trigger entries_append_only
before update or delete or truncate on ledger.entries
for each statement execute function ledger.refuse();

-- When the entries up to a position were decided, once for each batch: turns a moment into a
-- position with one look at an index, so that entries need no time of their own.
create table ledger.batches (
  last_position bigint not null,
  decided_at timestamptz not null,
  constraint batches_pkey primary key (last_position)
);

create index batches_moment on ledger.batches (decided_at, last_position);

create trigger batches_append_only
before update or delete or truncate on ledger.batches
for each statement execute function ledger.refuse();

-- The books are checked as they are written, once for each statement and not for each row: transfers
-- and their entries are inserted by one statement, at whose end these triggers see all of it.
-- So a transfer whose entries do not sum to zero cannot even be written, let alone committed.
--
-- They look rows up by key, one by one, whatever the planner thought of the tables when a session
-- planned this: a batch must cost the same in old books as in new ones.

create function ledger.check_added_transfers() returns trigger
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  wrong uuid;
begin
  select t.transfer_id into wrong
  from added t
  where t.position is not null
    and 2 <> (
      select count(*)
      from ledger.entries e
      where e.position in (t.position, t.position + 1)
        and e.transfer_id = t.transfer_id
    )
  limit 1;
  if found then
    raise exception using
      errcode = 'check_violation',
      constraint = 'transfers_have_both_entries',
      message = format('transfer %s posts without its two entries', wrong);
  end if;
  return null;
end
$$;

create trigger transfers_have_both_entries
after insert on ledger.transfers
referencing new table as added
for each statement execute function ledger.check_added_transfers();

create function ledger.check_added_entries() returns trigger
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  n_added bigint;
  first bigint;
  last bigint;
  wrong bigint;
begin
  select count(*), min(position), max(position) into n_added, first, last from added;
  if n_added = 0 then
    return null;
  end if;

  if last - first + 1 <> n_added
    or first - 1 <> (select coalesce(max(e.position), 0) from ledger.entries e where e.position < first)
    or exists (select from ledger.entries e where e.position > last)
  then
    raise exception using
      errcode = 'check_violation',
      constraint = 'entries_without_gap',
      message = format('entries %s to %s do not continue the books', first, last);
  end if;

  select a.position into wrong
  from added a
  left join ledger.transfers t on t.transfer_id = a.transfer_id
  where (
      (a.position = t.position
        and a.account_id = t.debit_account_id
        and a.amount_minor = -t.amount_minor)
      or (a.position = t.position + 1
        and a.account_id = t.credit_account_id
        and a.amount_minor = t.amount_minor)
    ) is not true
  limit 1;
  if found then
    raise exception using
      errcode = 'check_violation',
      constraint = 'entries_are_sides_of_transfers',
      message = format('entry %s is neither side of its transfer', wrong);
  end if;

  select a.position into wrong
  from (
    select position, account_id, balance_before_minor,
      lag(balance_after_minor) over (partition by account_id order by position) as held
    from added
  ) a
  where a.balance_before_minor <> coalesce(
    a.held,
    (
      select e.balance_after_minor
      from ledger.entries e
      where e.account_id = a.account_id
        and e.position < first
      order by e.position desc
      limit 1
    ),
    0
  )
  limit 1;
  if found then
    raise exception using
      errcode = 'check_violation',
      constraint = 'entries_continue_accounts',
      message = format('entry %s does not begin where its account was left', wrong);
  end if;

  select a.position into wrong
  from (
    select distinct on (account_id) account_id, position, balance_after_minor
    from added
    order by account_id, position desc
  ) a
  left join ledger.accounts o on o.account_id = a.account_id
  where (o.credits_minor - o.debits_minor = a.balance_after_minor) is not true
  limit 1;
  if found then
    raise exception using
      errcode = 'check_violation',
      constraint = 'entries_agree_with_accounts',
      message = format('entry %s does not end with what its account holds', wrong);
  end if;
  return null;
end
$$;

create trigger entries_follow_the_rules
after insert on ledger.entries
referencing new table as added
for each statement execute function ledger.check_added_entries();

create function ledger.check_added_batch() returns trigger
language plpgsql as $$
begin
  if new.last_position is distinct from (select max(e.position) from ledger.entries e)
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
      message = format('the batch that ends with entry %s does not continue the books',
        new.last_position);
  end if;
  return null;
end
$$;

create trigger batches_move_forward
after insert on ledger.batches
for each row execute function ledger.check_added_batch();
