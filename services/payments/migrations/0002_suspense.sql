-- Money that Paystack took and no wallet has, the persons who decide about it, and a line for
-- everything that ever happened to a deposit.

alter table payments.deposits
    -- What verify proved; what was asked for, unless a person must look.
    add column paid_minor bigint,
    add column paid_currency text,
    -- Where that is while no wallet has it.
    add column suspense text not null default 'nothing',
    -- How often a person said that it is to be credited.
    add column n_accepted smallint not null default 0;

update payments.deposits
set paid_minor = amount_minor, paid_currency = currency
where paid_reference is not null;

-- Credits under way are asked for again, now as the ledger's to answer.
alter table payments.deposits
    drop constraint deposits_state_known,
    drop constraint deposits_paid_has_proof,
    drop constraint deposits_settled_rest,
    add constraint deposits_state_known check (state in
        ('initiated', 'pending', 'confirming', 'paid', 'crediting', 'credited', 'failed',
         'abandoned', 'expired', 'review', 'rejected')),
    add constraint deposits_paid_whole
        check (num_nonnulls(paid_reference, paid_at, paid_minor, paid_currency) in (0, 4)),
    add constraint deposits_paid_positive
        check (paid_minor between 1 and 9007199254740991),
    add constraint deposits_paid_has_proof
        check (state not in ('paid', 'crediting', 'credited') or paid_reference is not null),
    -- Only a person may credit something else than what was asked for.
    add constraint deposits_paid_agrees
        check (state not in ('paid', 'crediting', 'credited') or n_accepted > 0
            or (paid_minor = amount_minor and paid_currency = currency)),
    add constraint deposits_suspense_known
        check (suspense in ('nothing', 'owed', 'held', 'left')),
    add constraint deposits_suspense_was_paid
        check (suspense = 'nothing' or paid_minor is not null),
    add constraint deposits_accepted_not_negative check (n_accepted >= 0),
    add constraint deposits_settled_rest
        check (due_at is null or (state not in ('credited', 'expired', 'rejected')
            and (state <> 'review' or suspense = 'owed')));

alter table payments.deposits
    drop constraint deposits_review_has_reason,
    add constraint deposits_review_has_reason
        check ((state in ('review', 'rejected')) = (review_reason is not null));

-- What a person decided: who, when, why. Never changed.
create table payments.decisions (
    decision_id bigint generated always as identity primary key,
    decided_at timestamptz not null,
    who text not null constraint decisions_who_said check (length(who) between 1 and 200),
    why text not null constraint decisions_why_said check (length(why) between 1 and 2000),
    what text not null constraint decisions_known check (what in ('accept', 'reject', 'dismiss')),
    deposit_id uuid references payments.deposits (deposit_id),
    webhook_id bigint references payments.webhooks (webhook_id),
    -- The transaction that did what was decided: the guard below looks for it.
    transaction_id xid8 not null default pg_current_xact_id(),
    constraint decisions_about_one_thing check (
        num_nonnulls(deposit_id, webhook_id) = 1
        and (what = 'dismiss') = (webhook_id is not null)
    )
);

create index decisions_by_deposit on payments.decisions (deposit_id, decision_id);

-- A parked webhook that a person has seen to.
alter table payments.webhooks
    drop constraint webhooks_state_known,
    drop constraint webhooks_parked_has_reason,
    add constraint webhooks_state_known
        check (state in ('new', 'handled', 'parked', 'dismissed')),
    add constraint webhooks_parked_has_reason
        check ((state in ('parked', 'dismissed')) = (reason is not null));

create function payments.webhooks_keep_their_word() returns trigger language plpgsql as $$
begin
    if old.state in ('handled', 'dismissed') and new.state <> old.state then
        raise exception 'webhook % is % for ever', old.webhook_id, old.state
            using constraint = 'webhooks_settled_for_ever', errcode = 'check_violation';
    end if;
    if old.state = 'parked' and new.state <> 'parked'
        and not exists (
            select from payments.decisions d
            where d.webhook_id = old.webhook_id and d.transaction_id = pg_current_xact_id()
        )
    then
        raise exception 'webhook % waits for a person', old.webhook_id
            using constraint = 'webhooks_parked_needs_a_person', errcode = 'check_violation';
    end if;
    return new;
end
$$;

create trigger webhooks_keep_their_word before update on payments.webhooks
    for each row execute function payments.webhooks_keep_their_word();

-- Everything that happened to a deposit, in order. Never changed.
create table payments.timeline (
    line_id bigint generated always as identity primary key,
    deposit_id uuid not null references payments.deposits (deposit_id),
    happened_at timestamptz not null,
    -- What happened, and what it says of itself; no address of a person and no key.
    event text not null,
    detail text not null,
    state_before text not null,
    state_after text not null
);

create index timeline_by_deposit on payments.timeline (deposit_id, line_id);

create function payments.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is never changed', tg_table_name
        using constraint = tg_name, errcode = 'check_violation';
end
$$;

create trigger decisions_never_change before update or delete or truncate on payments.decisions
    for each statement execute function payments.refuse_change();
create trigger timeline_never_changes before update or delete or truncate on payments.timeline
    for each statement execute function payments.refuse_change();

create or replace function payments.deposits_keep_their_word() returns trigger language plpgsql as $$
begin
    if old.state in ('credited', 'rejected') and new.state <> old.state then
        raise exception 'deposit % is % for ever', old.deposit_id, old.state
            using constraint = 'deposits_settled_for_ever', errcode = 'check_violation';
    end if;
    if new.state = 'credited' and old.state not in ('crediting', 'credited') then
        raise exception 'the ledger was not asked to credit deposit %', old.deposit_id
            using constraint = 'deposits_credited_only_when_asked', errcode = 'check_violation';
    end if;
    if ((old.state = 'review' and new.state <> 'review') or new.n_accepted <> old.n_accepted)
        and not exists (
            select from payments.decisions d
            where d.deposit_id = old.deposit_id and d.transaction_id = pg_current_xact_id()
        )
    then
        raise exception 'deposit % waits for a person', old.deposit_id
            using constraint = 'deposits_review_needs_a_person', errcode = 'check_violation';
    end if;
    if (old.deposit_id, old.account_id, old.amount_minor, old.currency, old.credit_transfer_id)
        is distinct from
       (new.deposit_id, new.account_id, new.amount_minor, new.currency, new.credit_transfer_id)
    then
        raise exception 'deposit % is what was asked for', old.deposit_id
            using constraint = 'deposits_unchanged', errcode = 'check_violation';
    end if;
    -- What was proved is proved; what was put aside moves forward only.
    if old.suspense <> 'nothing' and (
        (old.paid_reference, old.paid_minor, old.paid_currency)
            is distinct from (new.paid_reference, new.paid_minor, new.paid_currency)
        or array_position(array['owed', 'held', 'left'], new.suspense)
            is distinct from greatest(
                array_position(array['owed', 'held', 'left'], old.suspense),
                array_position(array['owed', 'held', 'left'], new.suspense))
    ) then
        raise exception 'what was paid for deposit % is what it was', old.deposit_id
            using constraint = 'deposits_suspense_moves_forward', errcode = 'check_violation';
    end if;
    return new;
end
$$;
