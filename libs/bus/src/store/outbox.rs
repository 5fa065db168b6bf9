//! SQL of the outbox.

use primitives::Timestamp;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, bigint, sequence};
use crate::outbox::Event;

/// An event that is not published yet.
pub(crate) struct Waiting {
    pub(crate) outbox_id: i64,
    pub(crate) event_id: Uuid,
    pub(crate) subject: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) occurred_at: Timestamp,
    pub(crate) cause_id: Option<Uuid>,
    pub(crate) traceparent: Option<String>,
    pub(crate) enqueued_at: Timestamp,
}

/// Where a published event should be found.
pub(crate) struct Published {
    pub(crate) event_id: Uuid,
    pub(crate) born_at: Timestamp,
    pub(crate) sequence: u64,
}

/// Appends `events` in their order. An event that is there already stays as it was.
#[expect(clippy::as_conversions, reason = "how sqlx is told that elements may be null")]
pub(crate) async fn enqueue(
    conn: &mut PgConnection,
    origin: &str,
    events: &[Event],
    traceparent: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    let ids: Vec<Uuid> = events.iter().map(|it| it.id.uuid()).collect();
    let subjects: Vec<String> = events.iter().map(|it| it.subject.to_owned()).collect();
    let payloads: Vec<Vec<u8>> = events.iter().map(|it| it.payload.clone()).collect();
    let occurred_at: Vec<OffsetDateTime> =
        events.iter().map(|it| it.occurred_at.to_datetime()).collect();
    let causes: Vec<Option<Uuid>> = events.iter().map(|it| it.cause).collect();
    sqlx::query!(
        r#"
        insert into bus.outbox
          (origin, event_id, subject, payload, occurred_at, cause_id, traceparent, enqueued_at)
        select $1, event_id, subject, payload, occurred_at, cause_id, $7, $8
        from unnest($2::uuid[], $3::text[], $4::bytea[], $5::timestamptz[], $6::uuid[])
          with ordinality as it (event_id, subject, payload, occurred_at, cause_id, n)
        order by n
        on conflict (event_id) do nothing
        "#,
        origin,
        &ids,
        &subjects,
        &payloads,
        &occurred_at,
        &causes as &[Option<Uuid>],
        traceparent,
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Enqueue { n_events: events.len(), source })?;
    Ok(())
}

/// The oldest events of `origin` that are not published yet.
pub(crate) async fn next_waiting(
    conn: &mut PgConnection,
    origin: &str,
    rows_max: i64,
) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query!(
        r#"
        select outbox_id, event_id, subject, payload, occurred_at, cause_id, traceparent, enqueued_at
        from bus.outbox
        where origin = $1 and published_at is null
        order by outbox_id
        limit $2
        "#,
        origin,
        rows_max,
    )
    .fetch_all(conn)
    .await
    .map_err(Error::LookOutbox)?;
    let waiting = rows.into_iter().map(|it| Waiting {
        outbox_id: it.outbox_id,
        event_id: it.event_id,
        subject: it.subject,
        payload: it.payload,
        occurred_at: Timestamp::from_datetime(it.occurred_at),
        cause_id: it.cause_id,
        traceparent: it.traceparent,
        enqueued_at: Timestamp::from_datetime(it.enqueued_at),
    });
    Ok(waiting.collect())
}

/// Remembers where the stream put events: pairs of `outbox_id` and sequence.
pub(crate) async fn mark_published(
    conn: &mut PgConnection,
    placed: &[(i64, u64)],
    born_at: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    let ids: Vec<i64> = placed.iter().map(|it| it.0).collect();
    let sequences: Vec<i64> = placed.iter().map(|it| bigint(it.1)).collect();
    sqlx::query!(
        r#"
        update bus.outbox
        set published_at = $4, stream_created_at = $3, stream_sequence = placed.stream_sequence
        from unnest($1::bigint[], $2::bigint[]) as placed (outbox_id, stream_sequence)
        where bus.outbox.outbox_id = placed.outbox_id
        "#,
        &ids,
        &sequences,
        born_at.to_datetime(),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::MarkOutbox)?;
    Ok(())
}

/// The published event of `origin` with `n_newer` newer ones after it in the stream.
pub(crate) async fn published_newest(
    conn: &mut PgConnection,
    origin: &str,
    n_newer: i64,
) -> Result<Option<Published>, Error> {
    let row = sqlx::query!(
        r#"
        select event_id, stream_created_at as "born_at!", stream_sequence as "sequence!"
        from bus.outbox
        where origin = $1 and published_at is not null
        order by stream_sequence desc
        offset $2
        limit 1
        "#,
        origin,
        n_newer,
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::LookOutbox)?;
    Ok(row.map(|it| Published {
        event_id: it.event_id,
        born_at: Timestamp::from_datetime(it.born_at),
        sequence: sequence(it.sequence),
    }))
}

/// Lets every event that was published after `sequence` wait again; says how many.
pub(crate) async fn unpublish_after(
    conn: &mut PgConnection,
    origin: &str,
    sequence: u64,
) -> Result<u64, Error> {
    let done = sqlx::query!(
        r#"
        update bus.outbox
        set published_at = null, stream_created_at = null, stream_sequence = null
        where origin = $1 and published_at is not null and stream_sequence > $2
        "#,
        origin,
        bigint(sequence),
    )
    .execute(conn)
    .await
    .map_err(Error::MarkOutbox)?;
    Ok(done.rows_affected())
}

/// Forgets at most `rows_max` events that were published before `before`; says how many.
pub(crate) async fn delete_published(
    conn: &mut PgConnection,
    origin: &str,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, Error> {
    let done = sqlx::query!(
        r#"
        delete from bus.outbox
        where outbox_id in (
          select outbox_id
          from (
            select outbox_id, published_at
            from bus.outbox
            where origin = $1 and published_at is not null
            order by stream_sequence
            limit $3
          ) as oldest
          where published_at < $2
        )
        "#,
        origin,
        before.to_datetime(),
        rows_max,
    )
    .execute(conn)
    .await
    .map_err(Error::MarkOutbox)?;
    Ok(done.rows_affected())
}
