-- What a service keeps beside its own tables so that messages are used exactly once and events
-- leave only from the transaction that made them true. Every service's database has its own copy.

-- A reader's place in a stream. It moves by compare-and-set in the transaction that uses the
-- messages, so an effect and the place behind it are committed together, and of two readers of
-- the same name only one can commit.
create table bus.cursors (
  reader text not null,
  stream text not null,
  -- The stream's birth: a stream that was wiped and made again is another one.
  stream_created_at timestamptz not null,
  -- Counts the births and rollbacks this reader has seen, from 1.
  epoch bigint not null,
  -- The last message used; 0 is none.
  sequence bigint not null,
  -- When that message was published: tells a stream that lost its tail and grew again.
  message_at timestamptz,
  moved_at timestamptz not null,
  constraint cursors_pkey primary key (reader, stream),
  constraint cursors_epoch_positive check (epoch >= 1),
  constraint cursors_sequence_not_negative check (sequence >= 0)
) with (fillfactor = 50);

-- The second guard of "no message is used twice": within an epoch a place only moves forward.
create function bus.cursors_move_forward() returns trigger
language plpgsql as $$
begin
  if new.epoch < old.epoch
    or (new.epoch = old.epoch and new.stream_created_at <> old.stream_created_at)
    or (new.epoch = old.epoch and new.sequence <= old.sequence)
  then
    raise exception using
      errcode = 'check_violation',
      constraint = 'cursors_move_forward',
      message = format('the cursor of %s in %s may only move forward', old.reader, old.stream);
  end if;
  return new;
end
$$;

create trigger cursors_move_forward
before update on bus.cursors
for each row execute function bus.cursors_move_forward();

-- Events on their way out, in the order they were enqueued, and for days after.
create table bus.outbox (
  outbox_id bigint generated always as identity,
  origin text not null,
  event_id uuid not null,
  subject text not null,
  payload bytea not null,
  occurred_at timestamptz not null,
  cause_id uuid,
  traceparent text,
  enqueued_at timestamptz not null,
  published_at timestamptz,
  -- Where the stream put it, and in which birth of the stream.
  stream_created_at timestamptz,
  stream_sequence bigint,
  constraint outbox_pkey primary key (outbox_id),
  constraint outbox_event_once unique (event_id),
  constraint outbox_payload_fits check (octet_length(payload) <= 1000000),
  constraint outbox_published_somewhere check (
    num_nonnulls(published_at, stream_created_at, stream_sequence) in (0, 3)
  )
);

create index outbox_waiting on bus.outbox (origin, outbox_id) where published_at is null;
create index outbox_published on bus.outbox (origin, stream_sequence) where published_at is not null;

-- Messages that could not be used, for a person to look at.
create table bus.parked (
  parked_id bigint generated always as identity,
  reader text not null,
  stream text not null,
  epoch bigint not null,
  sequence bigint not null,
  subject text not null,
  payload bytea not null,
  -- "Name: value", one each.
  headers text[] not null,
  reason text not null,
  published_at timestamptz not null,
  parked_at timestamptz not null,
  constraint parked_pkey primary key (parked_id),
  constraint parked_once unique (reader, stream, epoch, sequence)
);
