-- Money on its way back to whoever paid it: refunds that we ask for, disputes that a bank opened.

create table payments.returns (
    return_id uuid primary key,
    deposit_id uuid not null references payments.deposits (deposit_id),
    kind text not null constraint returns_kind_known check (kind in ('refund', 'dispute')),
    -- Where the money is taken from: the deposit's wallet, or where what no wallet has is kept.
    source text not null constraint returns_source_known check (source in ('wallet', 'suspense')),
    -- What was paid, as Paystack knows it.
    reference text not null,
    currency text not null,
    -- Not known of a dispute that was only heard of.
    amount_minor bigint
        constraint returns_amount_positive check (amount_minor between 1 and 9007199254740991),
    -- What went back, once that is known.
    taken_minor bigint
        constraint returns_taken_within check (taken_minor between 1 and amount_minor),
    created_at timestamptz not null,
    state text not null constraint returns_state_known check (state in
        ('noticed', 'wanted', 'held', 'asked', 'open', 'taking', 'releasing', 'review',
         'returned', 'kept', 'refused')),
    review_reason text,
    -- Whether the ledger holds the money.
    cover text not null
        constraint returns_cover_known check (cover in ('nothing', 'wanted', 'held', 'refused')),
    n_holds smallint not null constraint returns_holds_not_negative check (n_holds >= 0),
    -- How often the ledger refused to take or to give back.
    n_refused smallint not null default 0
        constraint returns_refused_not_negative check (n_refused >= 0),
    -- Paystack's id of it.
    provider_id text,
    n_asked smallint not null constraint returns_asked_not_negative check (n_asked >= 0),
    asked_at timestamptz,
    answer_by timestamptz,
    trouble text,
    n_looks integer not null,
    ended_at timestamptz,
    due_at timestamptz,
    claimed_until timestamptz,
    constraint returns_told_once unique (kind, provider_id),
    constraint returns_of_own_reference
        foreign key (deposit_id, reference) references payments.attempts (deposit_id, reference),
    constraint returns_refund_has_amount check (kind <> 'refund' or amount_minor is not null),
    constraint returns_dispute_has_id check (kind <> 'dispute' or provider_id is not null),
    constraint returns_review_has_reason check ((state = 'review') = (review_reason is not null)),
    constraint returns_taking_went_back
        check (state not in ('taking', 'returned') or taken_minor is not null),
    -- R1: Paystack is asked for a refund only while the ledger holds the money.
    constraint returns_asked_only_while_held
        check (kind <> 'refund' or state not in ('held', 'asked', 'open') or cover = 'held'),
    constraint returns_ended_rest
        check (state not in ('returned', 'kept', 'refused') or due_at is null),
    constraint returns_settled_cover check (state not in ('returned', 'kept') or cover <> 'wanted')
);

create index returns_due on payments.returns (due_at) where due_at is not null;
create index returns_by_deposit on payments.returns (deposit_id);

-- R2, R4, R5: what has ended has ended, what a person must look at is not led on behind that
-- person's back, and what it is about never changes.
create function payments.returns_keep_their_word() returns trigger language plpgsql as $$
begin
    if old.state in ('returned', 'kept', 'refused') and new.state <> old.state then
        raise exception 'return % is % for ever', old.return_id, old.state
            using constraint = 'returns_ended_for_ever', errcode = 'check_violation';
    end if;
    if new.state = 'returned' and old.state not in ('taking', 'returned') then
        raise exception 'the ledger was not asked to take what return % is about', old.return_id
            using constraint = 'returns_returned_only_when_taken', errcode = 'check_violation';
    end if;
    if old.state = 'review' and new.state <> 'review'
        and not exists (
            select from payments.decisions d
            where d.return_id = old.return_id and d.transaction_id = pg_current_xact_id()
        )
    then
        raise exception 'return % waits for a person', old.return_id
            using constraint = 'returns_review_needs_a_person', errcode = 'check_violation';
    end if;
    -- Until a hold is asked for, where the money is and in which currency may become known.
    if (old.return_id, old.deposit_id, old.kind, old.reference,
        coalesce(old.amount_minor, new.amount_minor), coalesce(old.provider_id, new.provider_id))
        is distinct from
       (new.return_id, new.deposit_id, new.kind, new.reference, new.amount_minor,
        new.provider_id)
        or (old.cover <> 'nothing'
            and (old.source, old.currency) is distinct from (new.source, new.currency))
    then
        raise exception 'return % is about what it was about', old.return_id
            using constraint = 'returns_unchanged', errcode = 'check_violation';
    end if;
    return new;
end
$$;

create trigger returns_keep_their_word before update on payments.returns
    for each row execute function payments.returns_keep_their_word();

-- No more is refunded than was paid, whoever asks for it. The caller holds the deposit's row.
create function payments.returns_begin() returns trigger language plpgsql as $$
declare
    paid bigint;
    claimed numeric;
begin
    if new.state <> (case new.kind when 'refund' then 'wanted' else 'noticed' end) then
        raise exception '% % does not begin as %', new.kind, new.return_id, new.state
            using constraint = 'returns_begin', errcode = 'check_violation';
    end if;
    if new.kind = 'refund' then
        select paid_minor into paid from payments.deposits where deposit_id = new.deposit_id;
        select coalesce(sum(coalesce(taken_minor, amount_minor)), 0) into claimed
        from payments.returns
        where deposit_id = new.deposit_id and state not in ('kept', 'refused');
        if paid is null or claimed + new.amount_minor > paid then
            raise exception 'more than was paid for deposit %', new.deposit_id
                using constraint = 'returns_within_paid', errcode = 'check_violation';
        end if;
    end if;
    return new;
end
$$;

create trigger returns_begin before insert on payments.returns
    for each row execute function payments.returns_begin();
create trigger returns_kept before delete or truncate on payments.returns
    for each statement execute function payments.refuse_delete();

-- The timeline of a deposit has the lives of its returns as well.
alter table payments.timeline
    add column return_id uuid references payments.returns (return_id);

alter table payments.decisions
    add column return_id uuid references payments.returns (return_id),
    drop constraint decisions_known,
    drop constraint decisions_about_one_thing,
    add constraint decisions_known check (what in ('accept', 'reject', 'dismiss', 'refund')),
    add constraint decisions_about_one_thing check (
        num_nonnulls(deposit_id, webhook_id, return_id) = 1
        and (deposit_id is null or what in ('accept', 'reject'))
        and (webhook_id is null or what = 'dismiss')
        and (what <> 'refund' or return_id is not null)
    );

create index decisions_by_return on payments.decisions (return_id) where return_id is not null;
