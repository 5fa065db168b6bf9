//! Taking request keys, many with one statement.
//!
//! What is asked for while the last statement runs is the next one's, so a busy moment costs one
//! commit and not one a request. Memory is bounded: when too many wait, newcomers are told so at once.

use std::time::Duration;

use bus::ask::{Error, Gather, Limits};
use chassis::postgres::Kept;
use primitives::{RequestKey, Timestamp};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::store::requests::{self, Claim};

/// A statement at a time, each with at most so many keys.
const LIMITS: Limits = Limits { items_max: 1_000, in_flight_max: 1, waiting_max: 8_192 };
/// Longest time that a statement may take, the wait for a connection included.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for a key: the statement in hand, and the one after it.
const CLAIM_WAIT: Duration = Duration::from_millis(2_500);

/// It is not known whose the key is: nobody may go on under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request key could not be taken")]
pub struct Unavailable;

/// Takes request keys. Cheap to clone.
///
/// The task that does ends with the last of whoever could ask, not at shutdown: requests in hand
/// are served to the end.
#[derive(Debug, Clone)]
pub struct Claims(Gather<Asked, bool>);

#[derive(Debug)]
struct Asked {
    claim: Claim,
    is_durable: bool,
}

impl Claims {
    /// Claims in this database.
    #[must_use]
    pub fn new(pool: &PgPool) -> Self {
        let conns = Kept::of(pool, LIMITS.in_flight_max);
        Self(Gather::new(LIMITS, untaken("the keys were not taken in time"), move |asked, _| {
            let conns = conns.clone();
            async move { take(&conns, &asked).await }
        }))
    }

    /// Takes the key for this request, and says whether it is this request's: not an earlier,
    /// different one's.
    ///
    /// `is_durable`: the answer waits until it survives a crash of Postgres. Only whose service
    /// itself refuses another request under the same key can do without.
    ///
    /// # Errors
    /// [`Unavailable`] when the database does not answer in time, or too many wait for it.
    pub async fn take(
        &self,
        key: RequestKey,
        digest: [u8; 32],
        is_durable: bool,
    ) -> Result<bool, Unavailable> {
        let asked = Asked { claim: Claim { key, digest }, is_durable };
        // Why is logged once, where it happened to all who asked together.
        self.0.ask(asked, CLAIM_WAIT).await.map_err(|_| Unavailable)
    }
}

/// Takes the keys with one statement: all are answered, or none.
async fn take(conns: &Kept, asked: &[Asked]) -> Result<Vec<bool>, Error> {
    let claims: Vec<Claim> = asked.iter().map(|it| it.claim).collect();
    let is_durable = asked.iter().any(|it| it.is_durable);
    let taken = requests::claim(conns, &claims, Timestamp::now(), is_durable);
    match timeout(STORE_WAIT, taken).await {
        Ok(Ok(taken)) => Ok(taken),
        Ok(Err(error)) => {
            let error = anyhow::Error::from(error);
            tracing::error!("{} request keys could not be taken: {error:#}", claims.len());
            Err(untaken("the database did not take them"))
        }
        Err(_) => {
            tracing::error!("{} request keys could not be taken in time", claims.len());
            Err(untaken("the database did not take them in time"))
        }
    }
}

const fn untaken(reason: &'static str) -> Error {
    Error::Unavailable { reason, source: None }
}
