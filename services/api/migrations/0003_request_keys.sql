-- Which request each Idempotency-Key of a wallet belongs to, whatever the operation.
--
-- The services that do what is asked keep the outcome under the same key; this table only says that
-- a key is used for one request, also across services and for requests that never reached one.

create table api.request_keys (
    request_key     bytea primary key,
    request_digest  bytea not null,
    first_at        timestamptz not null,
    constraint request_keys_sane check (length(request_key) = 32 and length(request_digest) = 32)
);
