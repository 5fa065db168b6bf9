-- What remains of holds, and what was moved back of transfers: the only sums here that change. Both
-- can be rebuilt from the transfers, and `ledger fsck` does.

create table ledger.holds (
  hold_id uuid not null,
  debit_account_id uuid not null,
  credit_account_id uuid not null,
  amount_minor bigint not null,
  remaining_minor bigint not null,
  expires_at timestamptz,
  currency text not null,
  constraint holds_pkey primary key (hold_id),
  constraint holds_capture_at_most_what_was_held check (
    remaining_minor between 0 and amount_minor
  )
);

create index holds_due on ledger.holds (expires_at)
where remaining_minor > 0 and expires_at is not null;

create table ledger.reversals (
  transfer_id uuid not null,
  amount_minor bigint not null,
  reversed_minor bigint not null,
  constraint reversals_pkey primary key (transfer_id),
  constraint reversals_at_most_what_was_moved check (reversed_minor between 0 and amount_minor)
);

create trigger holds_never_go
before delete or truncate on ledger.holds
for each statement execute function ledger.refuse();

create trigger holds_stay_what_they_are
before update of hold_id, debit_account_id, credit_account_id, amount_minor, expires_at, currency
on ledger.holds
for each statement execute function ledger.refuse();

create trigger holds_only_shrink
before update on ledger.holds
for each row when (new.remaining_minor > old.remaining_minor)
execute function ledger.refuse();

create trigger reversals_never_go
before delete or truncate on ledger.reversals
for each statement execute function ledger.refuse();

create trigger reversals_only_grow
before update on ledger.reversals
for each row
when (
  new.reversed_minor < old.reversed_minor
  or new.amount_minor <> old.amount_minor
  or new.transfer_id <> old.transfer_id
)
execute function ledger.refuse();
