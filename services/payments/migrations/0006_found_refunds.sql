-- Refunds that somebody made at Paystack itself, found in its list: their money is held and taken as
-- that of a dispute is.

create index deposits_by_transaction on payments.deposits (provider_transaction_id)
    where provider_transaction_id is not null;

alter table payments.returns
    drop constraint returns_kind_known,
    add constraint returns_kind_known check (kind in ('refund', 'found_refund', 'dispute')),
    drop constraint returns_told_once,
    drop constraint returns_dispute_has_id,
    add constraint returns_noticed_has_id check (kind = 'refund' or provider_id is not null);

-- One refund is never both ours and a found one: its money would be taken twice.
create unique index returns_refund_told_once on payments.returns (provider_id)
    where kind in ('refund', 'found_refund');
create unique index returns_dispute_told_once on payments.returns (provider_id)
    where kind = 'dispute';

-- What an operator is shown: returns that have not ended, and losses that nobody has seen to, which
-- are those that were taken from no hold. What has ended otherwise grows for ever.
create index returns_open on payments.returns (state)
    where state not in ('returned', 'kept', 'refused');
create index returns_uncovered on payments.returns (return_id)
    where state = 'returned' and cover <> 'held';
create view payments.returns_in_sight as
    select return_id, kind, reference, currency, amount_minor, taken_minor, state, review_reason,
           trouble, answer_by, created_at
    from payments.returns
    where state not in ('returned', 'kept', 'refused')
    union all
    select return_id, kind, reference, currency, amount_minor, taken_minor, state, review_reason,
           trouble, answer_by, created_at
    from payments.returns r
    where state = 'returned' and cover <> 'held' and not exists (
        select from payments.decisions d where d.return_id = r.return_id and d.what = 'dismiss');
