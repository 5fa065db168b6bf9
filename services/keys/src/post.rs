//! Makes, replaces and ends keys, in the order of the stream.
//!
//! Each command is decided in the transaction that also moves the reader's place, so its effect
//! happens once; each request is kept with its ending, so a repeat gets the same answer for ever.
//! Nothing is logged, counted or announced before the commit.

use bus::follow::{Answer, Delivery, HandleError, Handler};
use bus::outbox::{Event, Wake};
use primitives::{EventId, KeyId, Timestamp};
use prost::Message;
use proto_events::keys::v1 as wire;
use proto_events::subjects;
use sqlx::PgConnection;
use tracing::{info, warn};

use crate::key::{self, ApiKey, Expiry, Key, Mode, Name, Permissions, Refusal};
use crate::secret::Derivation;
use crate::store::{self, Ending, KeptRequest};
use crate::wire::{Body, Command, Request, done, malformed, read_command, refused, revoked};
use crate::{ORIGIN, metrics};

/// The service's side of [`subjects::CMD_KEYS`].
pub(crate) struct Post {
    pub(crate) mode: Mode,
    pub(crate) derivation: Derivation,
    pub(crate) wake: Wake,
    /// What the transaction in hand decided.
    pub(crate) decided: Vec<Decision>,
}

/// How a command ended, and what its caller hears.
#[derive(Debug)]
pub(crate) enum Decision {
    Made { key: Key, api_key: ApiKey, replayed: bool },
    Ended { key: Key, replayed: bool },
    Refused { refusal: Refusal, replayed: bool },
    Malformed { reason: String },
}

/// What broke while deciding.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("failed to enqueue the news of a revoked key")]
    Enqueue(#[source] bus::outbox::Error),
}

impl From<Error> for HandleError {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(it @ store::Error::Unreadable { .. }) => Self::poison(it.to_string()),
            // What a constraint refuses is poison too; the bus sees that in the chain.
            Error::Store(_) | Error::Enqueue(_) => Self::retry(error),
        }
    }
}

impl Handler for Post {
    async fn handle(
        &mut self,
        conn: &mut PgConnection,
        batch: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Answer>, HandleError> {
        self.decided.clear();
        let mut answers = Vec::with_capacity(batch.len());
        for delivery in batch {
            let decision = match read_command(&delivery.subject, &delivery.payload) {
                Ok(command) => self.decide(conn, &command, now).await?,
                Err(unreadable) => Decision::Malformed { reason: unreadable.to_string() },
            };
            answers.push(decision.answer(now));
            self.decided.push(decision);
        }
        Ok(answers)
    }

    fn committed(&mut self) {
        for decision in self.decided.drain(..) {
            metrics::OUTCOMES.with_label_values(&[decision.outcome()]).inc();
            if let Decision::Ended { replayed: false, .. } = decision {
                self.wake.wake();
            }
            decision.log();
        }
    }

    fn rolled_back(&mut self) {
        self.decided.clear();
    }
}

impl Post {
    /// Decides one command: a repeat gets what was decided before, anything else is decided now
    /// and kept. The person's row is held throughout, so nobody else counts their keys.
    async fn decide(
        &self,
        conn: &mut PgConnection,
        command: &Command,
        now: Timestamp,
    ) -> Result<Decision, Error> {
        store::lock_owner(conn, command.user_id).await?;
        if let Some(request) = &command.request
            && let Some(kept) = store::find_request(conn, &request.key).await?
        {
            return self.repeat(conn, command, request, kept).await;
        }
        let decision = if command.deadline_at < now {
            Refusal::DeadlineExceeded.into()
        } else {
            match &command.body {
                Body::Create { key_id, name, permissions, expiry } => {
                    let wanted = Wanted { key_id: *key_id, name, permissions: *permissions };
                    self.create(conn, command, wanted, *expiry, now).await?
                }
                Body::RollOver { key_id, expired_key_id, expiry } => {
                    self.roll_over(conn, command, *expired_key_id, *key_id, *expiry, now).await?
                }
                Body::Revoke { key_id } => revoke(conn, command, *key_id, now).await?,
            }
        };
        if let Some(request) = &command.request
            && let Some(ending) = decision.ending()
        {
            store::save_request(conn, command.user_id, request, ending, now).await?;
        }
        Ok(decision)
    }

    /// Gives the answer that was given before.
    async fn repeat(
        &self,
        conn: &mut PgConnection,
        command: &Command,
        request: &Request,
        kept: KeptRequest,
    ) -> Result<Decision, Error> {
        if kept.user_id != command.user_id || kept.digest != request.digest {
            return Ok(Refusal::IdempotencyKeyReused.into());
        }
        let key_id = match kept.ending {
            Ending::Refused(refusal) => return Ok(Decision::Refused { refusal, replayed: true }),
            Ending::Done(key_id) => key_id,
        };
        let unreadable = store::Error::Unreadable { column: "requests.key_id" };
        let key = store::find_key(conn, key_id).await?.ok_or(unreadable)?;
        if matches!(command.body, Body::Revoke { .. }) {
            return Ok(Decision::Ended { key, replayed: true });
        }
        // The mode of the key, not of the process: a key keeps its prefix when the mode changes.
        let mode = Mode::of(&key.prefix).unwrap_or(self.mode);
        match self.derivation.again(mode, &request.key, key.id, key.digest) {
            Some(api_key) => Ok(Decision::Made { key, api_key, replayed: true }),
            None => {
                warn!(key.id = %key.id, "key {} cannot be shown again: no known KEYS_SECRET gives it", key.id);
                Ok(Decision::Refused { refusal: Refusal::KeyCannotBeShown, replayed: true })
            }
        }
    }

    async fn create(
        &self,
        conn: &mut PgConnection,
        command: &Command,
        wanted: Wanted<'_>,
        expiry: Expiry,
        now: Timestamp,
    ) -> Result<Decision, Error> {
        if let Some(decision) = taken(conn, command, wanted.key_id).await? {
            return Ok(decision);
        }
        let n_active = store::count_active(conn, command.user_id, now).await?;
        match key::may_create(n_active) {
            Err(refusal) => Ok(refusal.into()),
            Ok(()) => self.make(conn, command, wanted, expiry, now).await,
        }
    }

    async fn roll_over(
        &self,
        conn: &mut PgConnection,
        command: &Command,
        expired_key_id: KeyId,
        key_id: KeyId,
        expiry: Expiry,
        now: Timestamp,
    ) -> Result<Decision, Error> {
        if let Some(decision) = taken(conn, command, key_id).await? {
            return Ok(decision);
        }
        let Some(old) = find_own_key(conn, command, expired_key_id).await? else {
            return Ok(Refusal::KeyNotFound.into());
        };
        let n_active = store::count_active(conn, command.user_id, now).await?;
        if let Err(refusal) = key::may_roll_over(&old, n_active, now) {
            return Ok(refusal.into());
        }
        let wanted = Wanted { key_id, name: &old.name, permissions: old.permissions };
        let made = self.make(conn, command, wanted, expiry, now).await?;
        store::roll_over(conn, expired_key_id, key_id).await?;
        Ok(made)
    }

    async fn make(
        &self,
        conn: &mut PgConnection,
        command: &Command,
        wanted: Wanted<'_>,
        expiry: Expiry,
        now: Timestamp,
    ) -> Result<Decision, Error> {
        let api_key = match &command.request {
            Some(request) => self.derivation.first(self.mode, &request.key, wanted.key_id),
            None => ApiKey::from_secret(self.mode, &rand::random()),
        };
        let key = Key {
            id: wanted.key_id,
            user_id: command.user_id,
            name: wanted.name.clone(),
            prefix: api_key.prefix().to_owned(),
            digest: api_key.digest(),
            permissions: wanted.permissions,
            created_at: now,
            expires_at: now.plus(expiry.duration()),
            revoked_at: None,
            rolled_over_to: None,
            last_used_at: None,
        };
        store::insert_key(conn, &key).await?;
        Ok(Decision::Made { key, api_key, replayed: false })
    }
}

/// The key that is asked for.
struct Wanted<'a> {
    key_id: KeyId,
    name: &'a Name,
    permissions: Permissions,
}

/// A command whose key exists already is a repeat without a request key, or a broken sender.
async fn taken(
    conn: &mut PgConnection,
    command: &Command,
    key_id: KeyId,
) -> Result<Option<Decision>, Error> {
    Ok(store::find_key(conn, key_id).await?.map(|key| {
        if key.user_id == command.user_id && command.request.is_none() {
            Decision::Refused { refusal: Refusal::KeyCannotBeShown, replayed: true }
        } else {
            Decision::Malformed { reason: format!("the id {key_id} belongs to another key") }
        }
    }))
}

/// Another person's key is not found, like one that never was.
async fn find_own_key(
    conn: &mut PgConnection,
    command: &Command,
    key_id: KeyId,
) -> Result<Option<Key>, Error> {
    let found = store::find_key(conn, key_id).await?;
    Ok(found.filter(|key| key.user_id == command.user_id))
}

/// Ends a key and says so; ending it again changes and says nothing.
async fn revoke(
    conn: &mut PgConnection,
    command: &Command,
    key_id: KeyId,
    now: Timestamp,
) -> Result<Decision, Error> {
    let Some(mut key) = find_own_key(conn, command, key_id).await? else {
        return Ok(Refusal::KeyNotFound.into());
    };
    if key.revoked_at.is_some() {
        return Ok(Decision::Ended { key, replayed: true });
    }
    store::revoke(conn, key_id, now).await?;
    key.revoked_at = Some(now);
    let news = Event {
        id: EventId::generate(),
        subject: subjects::keys::KEY_REVOKED,
        payload: revoked(&key).encode_to_vec(),
        occurred_at: now,
        cause: None,
    };
    bus::outbox::enqueue(conn, ORIGIN, &[news]).await.map_err(Error::Enqueue)?;
    Ok(Decision::Ended { key, replayed: false })
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { refusal, replayed: false }
    }
}

impl Decision {
    /// What is kept under the request key, if anything is.
    fn ending(&self) -> Option<Ending> {
        match self {
            Self::Made { key, .. } | Self::Ended { key, .. } => Some(Ending::Done(key.id)),
            Self::Refused { refusal, .. } => match refusal {
                Refusal::IdempotencyKeyReused | Refusal::KeyCannotBeShown => None,
                Refusal::DeadlineExceeded
                | Refusal::KeyNotFound
                | Refusal::KeyRevoked
                | Refusal::KeyAlreadyRolledOver
                | Refusal::KeyNotExpired
                | Refusal::KeyLimitReached => Some(Ending::Refused(*refusal)),
            },
            Self::Malformed { .. } => None,
        }
    }

    fn answer(&self, now: Timestamp) -> Answer {
        let outcome: wire::Outcome = match self {
            Self::Made { key, api_key, replayed } => done(key, Some(api_key), *replayed, now),
            Self::Ended { key, replayed } => done(key, None, *replayed, now),
            Self::Refused { refusal, replayed } => refused(*refusal, *replayed),
            Self::Malformed { reason } => {
                let reply = Some(malformed().encode_to_vec());
                return Answer::Park { reason: reason.clone(), reply };
            }
        };
        Answer::Reply(outcome.encode_to_vec())
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Made { replayed: true, .. } | Self::Ended { replayed: true, .. } => "replayed",
            Self::Made { .. } => "made",
            Self::Ended { .. } => "revoked",
            Self::Refused { refusal, .. } => refusal.code(),
            Self::Malformed { .. } => "malformed",
        }
    }

    fn log(&self) {
        match self {
            Self::Made { key, replayed: false, .. } => {
                info!(key.id = %key.id, user.id = %key.user_id, "key {} made: {}", key.id, key.prefix);
            }
            Self::Ended { key, replayed: false } => {
                info!(key.id = %key.id, user.id = %key.user_id, "key {} revoked", key.id);
            }
            Self::Made { .. } | Self::Ended { .. } | Self::Refused { .. } => {}
            Self::Malformed { reason } => warn!("a command was parked: {reason}"),
        }
    }
}
