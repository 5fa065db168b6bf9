-- Accounts: what they are and what may happen on them. What stands on an account is not here: it is
-- what the account's newest transfer says, so posting changes no row and a balance cannot differ
-- from the history.
--
-- Only the ledger's role writes this schema. What the rules promise in code
-- (libs/ledger-core) is promised once more here, by a constraint or a trigger of that name.

create table ledger.accounts (
  account_id uuid not null,
  -- Between what its money stays: the least that must remain available, the greatest balance.
  least_minor bigint not null,
  greatest_minor bigint not null,
  opened_at timestamptz not null,
  -- Position of the newest transfer before it: where in the order of the money it was opened.
  opened_after bigint not null,
  currency text not null,
  kind text not null,
  status text not null,
  constraint accounts_pkey primary key (account_id),
  constraint accounts_kind_known check (kind in ('wallet', 'paystack_clearing', 'suspense')),
  constraint accounts_status_known check (status in ('open', 'frozen', 'closed')),
  constraint accounts_currency_code check (octet_length(currency) = 3),
  -- 2^53 - 1: what every JSON reader keeps exactly.
  constraint accounts_limits_suit check (
    least_minor <= greatest_minor
    and (kind <> 'wallet' or (least_minor >= 0 and greatest_minor <= 9007199254740991))
  ),
  constraint accounts_only_wallets_close check (kind = 'wallet' or status <> 'closed')
);

create function ledger.refuse() returns trigger
language plpgsql as $$
begin
  raise exception using
    errcode = 'restrict_violation',
    constraint = tg_name,
    message = format('%s of ledger.%s is refused: books are only ever added to',
      lower(tg_op), tg_table_name);
end
$$;

create trigger accounts_never_go
before delete or truncate on ledger.accounts
for each statement execute function ledger.refuse();

create trigger accounts_stay_what_they_are
before update of account_id, kind, currency, opened_at, opened_after on ledger.accounts
for each statement execute function ledger.refuse();

create trigger accounts_stay_closed
before update on ledger.accounts
for each row when (old.status = 'closed')
execute function ledger.refuse();

-- Changes of what may happen on accounts, refused ones too, kept for ever under their ids.
create table ledger.account_changes (
  change_id uuid not null,
  -- In the order of decision.
  change_no bigint generated always as identity,
  account_id uuid not null,
  -- For new limits only.
  least_minor bigint,
  greatest_minor bigint,
  -- Position of the newest transfer before it: where in the order of the money it stands.
  after_position bigint not null,
  decided_at timestamptz not null,
  -- Numbers as on the wire (proto-events, ledger.v1): AccountChange, and Rejection with 0 for yes.
  change smallint not null,
  rejection smallint not null,
  constraint account_changes_pkey primary key (change_id),
  constraint account_changes_in_order unique (after_position, change_no),
  constraint account_changes_known check (change between 1 and 4),
  constraint account_changes_limits_given check (num_nonnulls(least_minor, greatest_minor) = case change when 4 then 2 else 0 end)
);

create index account_changes_of_account
on ledger.account_changes (account_id, after_position, change_no);

create trigger account_changes_append_only
before update or delete or truncate on ledger.account_changes
for each statement execute function ledger.refuse();
