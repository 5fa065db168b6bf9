//! SQL of a reader's place in a stream, and of what it could not use.

use primitives::Timestamp;
use sqlx::PgConnection;

use super::{Error, bigint, sequence};
use crate::place::Place;

/// A message for [`park`].
pub(crate) struct Parked<'a> {
    pub(crate) sequence: u64,
    pub(crate) subject: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) headers: &'a [String],
    pub(crate) reason: &'a str,
    pub(crate) published_at: Timestamp,
}

/// Where `reader` is in `stream`.
pub(crate) async fn load_place(
    conn: &mut PgConnection,
    reader: &'static str,
    stream: &'static str,
) -> Result<Option<Place>, Error> {
    let row = sqlx::query!(
        r#"
        select stream_created_at, epoch, sequence, message_at
        from bus.cursors
        where reader = $1 and stream = $2
        "#,
        reader,
        stream,
    )
    .fetch_optional(conn)
    .await
    .map_err(Error::LoadPlace)?;
    Ok(row.map(|it| Place {
        reader,
        stream,
        born_at: Timestamp::from_datetime(it.stream_created_at),
        epoch: it.epoch,
        sequence: sequence(it.sequence),
        message_at: it.message_at.map(Timestamp::from_datetime),
    }))
}

/// Remembers the first place of a reader; nothing happens if it has one.
pub(crate) async fn insert_place(
    conn: &mut PgConnection,
    place: &Place,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into bus.cursors
          (reader, stream, stream_created_at, epoch, sequence, message_at, moved_at)
        values ($1, $2, $3, $4, $5, null, $6)
        on conflict (reader, stream) do nothing
        "#,
        place.reader,
        place.stream,
        place.born_at.to_datetime(),
        place.epoch,
        bigint(place.sequence),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::SavePlace)?;
    Ok(())
}

/// Moves the cursor from `from` to `to`. False if it is not at `from`: another writer is ahead.
pub(crate) async fn move_place(
    conn: &mut PgConnection,
    from: &Place,
    to: &Place,
    now: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        update bus.cursors
        set stream_created_at = $6, epoch = $7, sequence = $8, message_at = $9, moved_at = $10
        where reader = $1
          and stream = $2
          and stream_created_at = $3
          and epoch = $4
          and sequence = $5
        "#,
        from.reader,
        from.stream,
        from.born_at.to_datetime(),
        from.epoch,
        bigint(from.sequence),
        to.born_at.to_datetime(),
        to.epoch,
        bigint(to.sequence),
        to.message_at.map(Timestamp::to_datetime),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::SavePlace)?;
    Ok(done.rows_affected() == 1)
}

/// Keeps a message that could not be used.
pub(crate) async fn park(
    conn: &mut PgConnection,
    place: &Place,
    message: &Parked<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into bus.parked
          (reader, stream, epoch, sequence, subject, payload, headers, reason, published_at, parked_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        "#,
        place.reader,
        place.stream,
        place.epoch,
        bigint(message.sequence),
        message.subject,
        message.payload,
        message.headers,
        message.reason,
        message.published_at.to_datetime(),
        now.to_datetime(),
    )
    .execute(conn)
    .await
    .map_err(Error::Park)?;
    Ok(())
}
