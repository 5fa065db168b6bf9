-- Accounts: who holds money, and how much. The two sums are the only money here that changes; they
-- can be rebuilt from the entries, and the audit compares them all the time.
--
-- Only the ledger's role writes this schema. What the rules promise in code
-- (libs/ledger-core) is promised once more here, by a constraint or a trigger of that name.

create table ledger.accounts (
  account_id uuid not null,
  -- bigint, checked: sums beyond it are refused by the rules as limit_exceeded.
  debits_minor bigint not null,
  credits_minor bigint not null,
  opened_at timestamptz not null,
  frozen boolean not null,
  currency text not null,
  kind text not null,
  constraint accounts_pkey primary key (account_id),
  constraint accounts_kind_known check (kind in ('wallet', 'paystack_clearing', 'suspense')),
  constraint accounts_currency_code check (octet_length(currency) = 3),
  constraint accounts_sums_not_negative check (debits_minor >= 0 and credits_minor >= 0),
  constraint accounts_not_overdrawn check (kind <> 'wallet' or debits_minor <= credits_minor),
  -- 2^53 - 1: what every JSON reader keeps exactly.
  constraint accounts_balance_exact_in_json check (
    kind <> 'wallet' or credits_minor - debits_minor <= 9007199254740991
  )
-- Room on each page, so that a changed balance stays where it is and touches no index.
) with (fillfactor = 70);

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
before update of account_id, kind, currency, opened_at on ledger.accounts
for each statement execute function ledger.refuse();
