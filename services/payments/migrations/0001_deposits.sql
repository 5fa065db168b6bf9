-- Money on its way in: what was asked for, under which references Paystack knows it, who waits for
-- an answer, and what Paystack told us unasked.
--
-- Nothing here moves money; the ledger does, once per credit_transfer_id. The constraints say again
-- what lifecycle.rs asserts, so that neither a bug nor a hand at psql can make a deposit look paid.

create table payments.deposits (
    deposit_id uuid primary key,
    account_id uuid not null,
    -- For Paystack's checkout only; never in a log or an answer.
    email text not null constraint deposits_email_present check (email <> ''),
    amount_minor bigint not null
        constraint deposits_amount_positive check (amount_minor between 1 and 9007199254740991),
    currency text not null
        constraint deposits_currency_is_a_code check (currency ~ '^[A-Z]{3}$'),
    callback_url text,
    -- SHA-256 of what was asked for.
    request_digest bytea not null
        constraint deposits_digest_is_sha256 check (octet_length(request_digest) = 32),
    credit_transfer_id uuid not null constraint deposits_credited_by_one_transfer unique,
    created_at timestamptz not null,

    state text not null
        constraint deposits_state_known check (state in
            ('initiated', 'pending', 'confirming', 'paid', 'credited', 'failed', 'abandoned', 'review')),
    review_reason text,
    confirming_reference text,
    confirm_until timestamptz,

    attempt_number smallint not null
        constraint deposits_attempt_positive check (attempt_number > 0),
    attempts_left smallint not null
        constraint deposits_attempts_left_not_negative check (attempts_left >= 0),
    authorization_url text,
    access_code text,

    -- Null: somebody waits for ever.
    wait_until timestamptz,
    abandon_at timestamptz not null,
    forget_at timestamptz not null,
    n_looks integer not null,

    paid_reference text,
    paid_at timestamptz,
    -- Paystack's ids are unsigned 64-bit, so kept as digits.
    provider_transaction_id text,
    credited_at timestamptz,

    -- When somebody takes it up; null for not by itself.
    due_at timestamptz,
    -- A worker that has it in hand promised to be done by then; only a hint, never a guarantee.
    claimed_until timestamptz,
    -- When Paystack was last asked about it.
    looked_at timestamptz,

    constraint deposits_review_has_reason
        check ((state = 'review') = (review_reason is not null)),
    constraint deposits_confirming_names_reference
        check ((state = 'confirming') = (confirming_reference is not null)
           and (state = 'confirming') = (confirm_until is not null)),
    constraint deposits_checkout_whole
        check ((authorization_url is null) = (access_code is null)),
    constraint deposits_pending_is_payable
        check (state <> 'pending' or authorization_url is not null),
    constraint deposits_paid_has_proof
        check (state not in ('paid', 'credited') or (paid_reference is not null and paid_at is not null)),
    constraint deposits_credited_has_time
        check ((state = 'credited') = (credited_at is not null)),
    constraint deposits_settled_rest
        check (state not in ('credited', 'review') or due_at is null)
);

create index deposits_due on payments.deposits (due_at) where due_at is not null;
create index deposits_by_state on payments.deposits (state) where state <> 'credited';

-- Every reference we ever gave to Paystack, or may have given. Used up for ever.
create table payments.attempts (
    reference text primary key
        constraint attempts_reference_well_formed check (reference ~ '^[a-z0-9-]{16,50}$'),
    deposit_id uuid not null references payments.deposits (deposit_id),
    attempt_number smallint not null,
    phase text not null
        constraint attempts_phase_known check (phase in ('stored', 'asked', 'unknown', 'refused', 'made')),
    created_at timestamptz not null,
    constraint attempts_numbered_once unique (deposit_id, attempt_number),
    constraint attempts_of_deposit unique (deposit_id, reference)
);

alter table payments.deposits
    add constraint deposits_attempt_exists
        foreign key (deposit_id, attempt_number)
        references payments.attempts (deposit_id, attempt_number) deferrable initially deferred,
    add constraint deposits_paid_under_own_reference
        foreign key (deposit_id, paid_reference) references payments.attempts (deposit_id, reference),
    add constraint deposits_confirming_own_reference
        foreign key (deposit_id, confirming_reference) references payments.attempts (deposit_id, reference);

-- What was decided under a caller's key: a deposit, or a refusal that is kept.
create table payments.requests (
    request_key bytea primary key
        constraint requests_key_is_sha256 check (octet_length(request_key) = 32),
    request_digest bytea not null
        constraint requests_digest_is_sha256 check (octet_length(request_digest) = 32),
    deposit_id uuid references payments.deposits (deposit_id),
    -- payments.v1.DepositRefusal
    refusal smallint,
    decided_at timestamptz not null,
    constraint requests_decided_one_way check ((deposit_id is null) <> (refusal is null))
);

-- Who waits for a checkout. A row lives until it was answered or nobody can be listening.
create table payments.waiters (
    waiter_id bigint generated always as identity primary key,
    deposit_id uuid not null references payments.deposits (deposit_id),
    reply_to text not null,
    is_replay boolean not null,
    listens_until timestamptz not null
);

create index waiters_by_deposit on payments.waiters (deposit_id);

-- Everything Paystack told us with a good signature, as it came.
create table payments.webhooks (
    webhook_id bigint generated always as identity primary key,
    -- Tells repeats apart: event and Paystack's id of the thing, or the digest of the body.
    identity text not null
        constraint webhooks_told_once unique
        constraint webhooks_identity_short check (length(identity) <= 200),
    event text,
    -- Only if it is a well-formed reference of ours.
    reference text,
    body bytea not null
        constraint webhooks_body_bounded check (octet_length(body) <= 1048576),
    body_sha256 bytea not null
        constraint webhooks_digest_is_sha256 check (octet_length(body_sha256) = 32),
    -- Which of the two keys had signed it.
    signed_by text not null
        constraint webhooks_signed_by_known check (signed_by in ('current', 'previous')),
    state text not null default 'new'
        constraint webhooks_state_known check (state in ('new', 'handled', 'parked')),
    reason text,
    deposit_id uuid references payments.deposits (deposit_id),
    received_at timestamptz not null,
    last_received_at timestamptz not null,
    n_received integer not null default 1,
    handled_at timestamptz,
    constraint webhooks_parked_has_reason check ((state = 'parked') = (reason is not null)),
    constraint webhooks_handled_has_time check ((state = 'new') = (handled_at is null))
);

create index webhooks_new on payments.webhooks (webhook_id) where state = 'new';
create index webhooks_parked on payments.webhooks (webhook_id) where state = 'parked';

-- P2, P3: what is credited stays credited, what a person must look at is not credited behind
-- that person's back, and what was asked for never changes.
create function payments.deposits_keep_their_word() returns trigger language plpgsql as $$
begin
    if old.state = 'credited' and new.state <> 'credited' then
        raise exception 'deposit % is credited for ever', old.deposit_id
            using constraint = 'deposits_credited_for_ever', errcode = 'check_violation';
    end if;
    if new.state = 'credited' and old.state not in ('paid', 'credited') then
        raise exception 'deposit % is not paid', old.deposit_id
            using constraint = 'deposits_credited_only_when_paid', errcode = 'check_violation';
    end if;
    if old.state = 'review' and new.state <> 'review' then
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
    return new;
end
$$;

create trigger deposits_keep_their_word before update on payments.deposits
    for each row execute function payments.deposits_keep_their_word();

create function payments.deposits_begin_initiated() returns trigger language plpgsql as $$
begin
    if new.state <> 'initiated' then
        raise exception 'deposit % does not begin as %', new.deposit_id, new.state
            using constraint = 'deposits_begin_initiated', errcode = 'check_violation';
    end if;
    return new;
end
$$;

create trigger deposits_begin_initiated before insert on payments.deposits
    for each row execute function payments.deposits_begin_initiated();

create function payments.refuse_delete() returns trigger language plpgsql as $$
begin
    raise exception '% is kept for ever', tg_table_name
        using constraint = 'kept_for_ever', errcode = 'check_violation';
end
$$;

create trigger deposits_kept before delete or truncate on payments.deposits
    for each statement execute function payments.refuse_delete();
create trigger attempts_kept before delete or truncate on payments.attempts
    for each statement execute function payments.refuse_delete();
create trigger requests_kept before delete or truncate on payments.requests
    for each statement execute function payments.refuse_delete();
create trigger webhooks_kept before delete or truncate on payments.webhooks
    for each statement execute function payments.refuse_delete();
