-- API keys: who made them, what they may do, and how each request about them ended.
--
-- Nothing here can be turned back into a key: `digest` is SHA-256 of the whole key, `prefix` its first twelve
-- characters. Rules of the code are repeated as constraints, so that no other hand can break them either.

-- One row a person, to lock: whoever counts a person's keys holds it, so two cannot count at once.
create table keys.owners (
    user_id uuid primary key
);

create table keys.keys (
    key_id uuid primary key,
    user_id uuid not null references keys.owners (user_id),
    name text not null
        constraint keys_name_length check (char_length(name) between 1 and 100),
    prefix text not null
        constraint keys_prefix_shape check (prefix ~ '^sk_(test|live)_[A-Za-z0-9_-]{4}$'),
    digest bytea not null
        constraint keys_digest_length check (octet_length(digest) = 32),
    -- read 1, deposit 2, transfer 4: a set cannot repeat.
    permissions smallint not null
        constraint keys_permissions_one_to_three check (permissions between 1 and 7),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    rolled_over_to uuid
        constraint keys_rolled_over_to_fkey references keys.keys (key_id),
    last_used_at timestamptz,
    constraint keys_digest_key unique (digest),
    constraint keys_rolled_over_once unique (rolled_over_to),
    constraint keys_expiry_one_of_four check (
        expires_at - created_at in (interval '1 hour', interval '24 hours', interval '720 hours', interval '8760 hours')
    )
) with (fillfactor = 90); -- room for `last_used_at`, which no index holds, to change in place

-- Lists.
create index keys_by_user on keys.keys (user_id, created_at desc, key_id desc);
-- Counting those that are good.
create index keys_unrevoked_by_user on keys.keys (user_id, expires_at) where revoked_at is null;

-- How each request ended, kept for ever: the key it made or ended, or why not.
create table keys.requests (
    request_key bytea primary key
        constraint requests_key_length check (octet_length(request_key) = 32),
    user_id uuid not null references keys.owners (user_id),
    request_digest bytea not null
        constraint requests_digest_length check (octet_length(request_digest) in (0, 32)),
    key_id uuid references keys.keys (key_id),
    refusal text
        constraint requests_refusal_known check (
            refusal in (
                'deadline_exceeded', 'key_not_found', 'key_revoked', 'key_already_rolled_over', 'key_not_expired',
                'key_limit_reached'
            )
        ),
    decided_at timestamptz not null,
    constraint requests_one_outcome check ((key_id is null) <> (refusal is null))
);

-- At most five good keys a person, whoever inserts, however many at once.
create function keys.refuse_a_sixth_active_key() returns trigger language plpgsql as $$
begin
    -- Not `for update`: the foreign key holds a share of the row already, and two who both want more than that deadlock.
    perform from keys.owners where user_id = new.user_id for no key update;
    if (
        select count(*)
        from keys.keys
        where user_id = new.user_id and revoked_at is null and expires_at > new.created_at
    ) > 5 then
        raise exception 'a person has at most five active keys'
            using errcode = 'check_violation', schema = 'keys', table = 'keys', constraint = 'keys_five_active_per_user';
    end if;
    return null;
end
$$;

create constraint trigger keys_five_active_per_user
after insert on keys.keys
for each row execute function keys.refuse_a_sixth_active_key();

-- A key ends, once, and nothing else ever changes about it but when it was last used.
create function keys.refuse_other_changes() returns trigger language plpgsql as $$
declare
    successor keys.keys;
begin
    if tg_op = 'DELETE' then
        raise exception 'a key is never deleted'
            using errcode = 'check_violation', schema = 'keys', table = 'keys', constraint = 'keys_only_end';
    end if;
    if (new.key_id, new.user_id, new.name, new.prefix, new.digest, new.permissions, new.created_at, new.expires_at)
        is distinct from
        (old.key_id, old.user_id, old.name, old.prefix, old.digest, old.permissions, old.created_at, old.expires_at)
        or (old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at)
        or (old.last_used_at is not null and (new.last_used_at < old.last_used_at) is not false)
    then
        raise exception 'a key only ends, once; nothing else about it changes'
            using errcode = 'check_violation', schema = 'keys', table = 'keys', constraint = 'keys_only_end';
    end if;
    if new.rolled_over_to is distinct from old.rolled_over_to then
        select * into successor from keys.keys where key_id = new.rolled_over_to;
        if old.rolled_over_to is not null
            or old.revoked_at is not null
            or successor.user_id is distinct from old.user_id
            or successor.permissions is distinct from old.permissions
            or (old.expires_at <= successor.created_at) is not true
        then
            raise exception 'only an expired key is rolled over, once, to a key like it'
                using errcode = 'check_violation', schema = 'keys', table = 'keys', constraint = 'keys_rolled_over_when_expired';
        end if;
    end if;
    return new;
end
$$;

create trigger keys_only_end
before update or delete on keys.keys
for each row execute function keys.refuse_other_changes();

-- What was answered is never answered otherwise.
create function keys.refuse_changes_of_requests() returns trigger language plpgsql as $$
begin
    raise exception 'how a request ended never changes'
        using errcode = 'check_violation', schema = 'keys', table = 'requests', constraint = 'requests_append_only';
end
$$;

create trigger requests_append_only
before update or delete or truncate on keys.requests
for each statement execute function keys.refuse_changes_of_requests();
