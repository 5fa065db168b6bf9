-- Due deposits of one state in their order, so that taking the next few costs the same whether ten
-- wait or a hundred thousand: while the ledger is away all that is paid waits.

create index deposits_due_by_state on payments.deposits (state, due_at) where due_at is not null;
drop index payments.deposits_due;
