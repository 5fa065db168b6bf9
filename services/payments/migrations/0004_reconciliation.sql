-- Webhooks that Paystack could not deliver and that we fetched ourselves, and the nightly comparison
-- of Paystack's record, ours and the ledger's.

alter table payments.webhooks
    drop constraint webhooks_signed_by_known,
    -- Pulled: under no signature, but in the answer to a call of our own, made with our own key.
    add constraint webhooks_signed_by_known
        check (signed_by in ('current', 'previous', 'pulled'));

-- Work that one process does for all of them.
create table payments.rounds (
    what text primary key
        constraint rounds_known check (what in ('missed', 'nightly')),
    -- Since when there is such work at all.
    known_since timestamptz not null,
    -- Null: nobody has ever said when.
    due_at timestamptz,
    -- Whoever has it in hand promised to say more by then. Each claim ends later than the one before,
    -- so the moment itself tells the one who has it from those who had it.
    claimed_until timestamptz,
    -- Of missed events: what Paystack made before was pulled.
    done_until timestamptz
);

insert into payments.rounds (what, known_since) values ('missed', now()), ('nightly', now());

create function payments.rounds_keep_their_word() returns trigger language plpgsql as $$
begin
    if old.done_until is not null
        and (new.done_until is null or new.done_until < old.done_until)
    then
        raise exception 'what was pulled was pulled'
            using constraint = 'rounds_move_forward', errcode = 'check_violation';
    end if;
    return new;
end
$$;

create trigger rounds_keep_their_word before update on payments.rounds
    for each row execute function payments.rounds_keep_their_word();
create trigger rounds_kept before delete or truncate on payments.rounds
    for each statement execute function payments.refuse_delete();

-- One finished comparison of one day (UTC). A day may be compared again: the newest run counts, the
-- older ones stay. What did not finish left nothing.
create table payments.reconciliations (
    run_id bigint generated always as identity primary key,
    day date not null,
    begun_at timestamptz not null,
    finished_at timestamptz not null,
    -- Null: nobody asked, it was night.
    who text constraint reconciliations_who_said check (length(who) between 1 and 200),
    why text constraint reconciliations_why_said check (length(why) between 1 and 2000),
    -- What Paystack says was paid on that day, and what of our record was looked at.
    n_payments bigint not null
        constraint reconciliations_payments_not_negative check (n_payments >= 0),
    n_deposits bigint not null
        constraint reconciliations_deposits_not_negative check (n_deposits >= 0),
    n_differences bigint not null,
    -- The transaction that wrote it and its differences: the guard below looks for it.
    transaction_id xid8 not null default pg_current_xact_id(),
    constraint reconciliations_signed_whole check ((who is null) = (why is null)),
    constraint reconciliations_take_time check (begun_at <= finished_at)
);

create index reconciliations_by_day on payments.reconciliations (day desc, run_id desc);

-- What did not agree.
create table payments.differences (
    difference_id bigint generated always as identity primary key,
    run_id bigint not null references payments.reconciliations (run_id),
    class text not null
        constraint differences_class_known check (class in
            ('unknown_here', 'unknown_foreign', 'not_credited', 'paid_twice', 'amount_differs',
             'currency_differs', 'domain_differs', 'unknown_there', 'reversed', 'not_in_books')),
    reference text not null constraint differences_reference_short check (length(reference) <= 120),
    detail text not null,
    constraint differences_said_once unique (run_id, class, reference)
);

create trigger reconciliations_never_change
    before update or delete or truncate on payments.reconciliations
    for each statement execute function payments.refuse_change();
create trigger differences_never_change
    before update or delete or truncate on payments.differences
    for each statement execute function payments.refuse_change();

create function payments.differences_come_with_their_run() returns trigger language plpgsql as $$
begin
    if exists (
        select from added
        join payments.reconciliations r using (run_id)
        where r.transaction_id <> pg_current_xact_id()
    ) then
        raise exception 'a finished comparison found what it found'
            using constraint = 'differences_come_with_their_run', errcode = 'check_violation';
    end if;
    return null;
end
$$;

create trigger differences_come_with_their_run after insert on payments.differences
    referencing new table as added
    for each statement execute function payments.differences_come_with_their_run();

create function payments.reconciliations_are_whole() returns trigger language plpgsql as $$
begin
    if new.n_differences <> (
        select count(*) from payments.differences d where d.run_id = new.run_id
    ) then
        raise exception 'run % did not keep all its differences', new.run_id
            using constraint = 'reconciliations_are_whole', errcode = 'check_violation';
    end if;
    return null;
end
$$;

create constraint trigger reconciliations_are_whole after insert on payments.reconciliations
    deferrable initially deferred
    for each row execute function payments.reconciliations_are_whole();

-- The payments of one day.
create index deposits_by_payment on payments.deposits (paid_at) where paid_at is not null;
