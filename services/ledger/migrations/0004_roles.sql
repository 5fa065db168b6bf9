-- What the running ledger may do with its own books: add to them, and change balances and freezes.
-- Nobody else may so much as read them.

create function ledger.grant_runtime(role_name text) returns void
language plpgsql as $$
begin
  -- The owner has what it needs; taking rights from it would stop the next migration.
  if role_name = current_user then
    return;
  end if;
  execute format('revoke all on all tables in schema ledger from %I', role_name);
  execute format('grant usage on schema ledger to %I', role_name);
  execute format('grant select on all tables in schema ledger to %I', role_name);
  execute format(
    'grant insert on ledger.accounts, ledger.transfers, ledger.entries, ledger.batches to %I',
    role_name
  );
  execute format(
    'grant update (debits_minor, credits_minor, frozen) on ledger.accounts to %I',
    role_name
  );
end
$$;

revoke all on function ledger.grant_runtime(text) from public;
revoke all on schema ledger from public;
