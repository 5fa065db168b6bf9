-- Transfers whose callers were answered 202: the ledger had not said in time what became of them.
--
-- Rows are written only on that path, before the answer. They let a transfer be looked up under the
-- id the caller was given, and be asked again with the very same command once its deadline has passed:
-- the ledger then repeats its outcome, or refuses for good. Rows are kept, as ids work for ever.

-- What was asked of the ledger: one transfer, or several of one request.
create table api.pending_commands (
    -- The id of its first transfer.
    command_id      uuid primary key,
    account_id      uuid not null references api.wallets,
    made_by_key_id  uuid,
    request_key     bytea,
    request_digest  bytea,
    command         bytea not null,
    deadline_at     timestamptz not null,
    created_at      timestamptz not null,
    constraint pending_commands_one_per_request unique (request_key, request_digest),
    constraint pending_commands_request_whole check ((request_key is null) = (request_digest is null)),
    constraint pending_commands_request_sane check (length(request_key) = 32 and length(request_digest) = 32),
    constraint pending_commands_command_sane check (length(command) between 1 and 131072)
);

create table api.pending_transfers (
    transfer_id       uuid primary key,
    command_id        uuid not null references api.pending_commands,
    -- Which of the command's transfers it is, from 0.
    place             smallint not null,
    recipient_number  text not null,
    amount_minor      bigint not null,
    currency          text not null,
    note              text,
    settled_as        uuid,
    settled_rejection integer,
    settled_at        timestamptz,
    constraint pending_transfers_one_per_place unique (command_id, place),
    constraint pending_transfers_place_sane check (place between 0 and 99),
    constraint pending_transfers_number_sane check (recipient_number ~ '^[0-9]{13}$'),
    constraint pending_transfers_amount_positive check (amount_minor between 1 and 9007199254740991),
    constraint pending_transfers_currency_sane check (currency ~ '^[A-Z]{3}$'),
    constraint pending_transfers_note_sane check (length(note) between 1 and 140),
    constraint pending_transfers_settled_whole check ((settled_as is null) = (settled_at is null)),
    constraint pending_transfers_rejection_settled check (settled_rejection is null or settled_at is not null)
);
