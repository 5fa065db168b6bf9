-- Who people are: users, their wallets, and the sign-ins that still count.
--
-- A user is the pair (issuer, subject) that an OpenID provider vouches for; e-mail and name are what
-- it last said and are never a key. The wallet directory lives here: the ledger knows accounts, and
-- only this schema knows whose account it is and which number people read to each other.

create table api.users (
    user_id      uuid primary key,
    issuer       text not null,
    subject      text not null,
    email        text,
    name         text,
    created_at   timestamptz not null,
    signed_in_at timestamptz not null,
    constraint users_one_per_subject unique (issuer, subject),
    constraint users_issuer_sane check (length(issuer) between 1 and 1000),
    constraint users_subject_sane check (length(subject) between 1 and 255),
    constraint users_email_sane check (length(email) between 3 and 320),
    constraint users_name_sane check (length(name) between 1 and 200)
);

create table api.wallets (
    account_id    uuid primary key,
    user_id       uuid not null references api.users,
    wallet_number text not null,
    currency      text not null,
    created_at    timestamptz not null,
    -- When the ledger said that the account is open; null until then.
    opened_at     timestamptz,
    constraint wallets_one_per_user unique (user_id),
    constraint wallets_number_unique unique (wallet_number),
    constraint wallets_number_shape check (wallet_number ~ '^[1-9][0-9]{12}$'),
    constraint wallets_currency_shape check (currency ~ '^[A-Z]{3}$')
);

-- One sign-in of a person. It ends once, for ever.
create table api.sessions (
    session_id    uuid primary key,
    user_id       uuid not null references api.users,
    created_at    timestamptz not null,
    -- When its youngest refresh token expires; afterwards the row may be forgotten.
    expires_at    timestamptz not null,
    ended_at      timestamptz,
    ended_because text,
    constraint sessions_end_has_a_reason check ((ended_at is null) = (ended_because is null)),
    constraint sessions_reason_known check (ended_because in ('logout', 'refresh_token_reused'))
);

create index sessions_by_expiry on api.sessions (expires_at);

-- Spent tokens stay as long as their session, so that using one again is noticed.
create table api.refresh_tokens (
    digest     bytea primary key,
    session_id uuid not null references api.sessions on delete cascade,
    issued_at  timestamptz not null,
    expires_at timestamptz not null,
    spent_at   timestamptz,
    constraint refresh_tokens_digest_is_sha256 check (octet_length(digest) = 32)
);

-- One unspent token a session at most: two chains of tokens would hide a thief.
create unique index refresh_tokens_one_unspent_per_session
    on api.refresh_tokens (session_id)
    where spent_at is null;
create index refresh_tokens_by_session on api.refresh_tokens (session_id);

-- States that signed somebody in. Kept until the cookie that could repeat them is too old.
create table api.burnt_states (
    digest     bytea primary key,
    expires_at timestamptz not null,
    constraint burnt_states_digest_is_sha256 check (octet_length(digest) = 32)
);

create index burnt_states_by_expiry on api.burnt_states (expires_at);

create function api.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of %.% never changes', tg_argv[0], tg_table_schema, tg_table_name
        using errcode = 'restrict_violation';
end
$$;

create trigger users_identity_is_final before update on api.users
    for each row when ((old.user_id, old.issuer, old.subject) is distinct from (new.user_id, new.issuer, new.subject))
    execute function api.refuse_change('the identity');

create trigger wallets_facts_are_final before update on api.wallets
    for each row when (
        (old.account_id, old.user_id, old.wallet_number, old.currency)
        is distinct from (new.account_id, new.user_id, new.wallet_number, new.currency)
        or old.opened_at is not null
    )
    execute function api.refuse_change('a wallet');

create trigger wallets_stay before delete on api.wallets
    for each row execute function api.refuse_change('the existence');

create trigger sessions_end_is_final before update on api.sessions
    for each row when (old.ended_at is not null or old.user_id is distinct from new.user_id)
    execute function api.refuse_change('an ended session');

create trigger refresh_tokens_spending_is_final before update on api.refresh_tokens
    for each row when (old.spent_at is not null or old.session_id is distinct from new.session_id)
    execute function api.refuse_change('a spent token');
