-- What the running ledger may do with its own books: add to them, and change what may happen on an
-- account and what remains of holds and transfers. Nobody else may so much as read them.

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
    'grant insert on ledger.accounts, ledger.account_changes, ledger.transfers, ledger.batches,
       ledger.holds, ledger.reversals to %I',
    role_name
  );
  execute format(
    'grant update (status, least_minor, greatest_minor) on ledger.accounts to %I',
    role_name
  );
  execute format('grant update (remaining_minor) on ledger.holds to %I', role_name);
  execute format('grant update (reversed_minor) on ledger.reversals to %I', role_name);
end
$$;

revoke all on function ledger.grant_runtime(text) from public;
revoke all on schema ledger from public;
