//! Taking request keys, many with one statement.
//!
//! One task writes down what was asked for while its last statement ran, so a busy moment costs one
//! commit and not one a request. Memory is bounded: when too many wait, newcomers are told so at once.

use std::sync::Arc;
use std::time::Duration;

use chassis::postgres::Kept;
use primitives::{RequestKey, Timestamp};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use crate::store::requests::{self, Claim};

/// Most requests that wait for their keys.
const WAITING_MAX: usize = 8_192;
/// Most keys taken with one statement.
const BATCH_MAX: usize = 1_000;
/// Longest time that a statement may take, the wait for a connection included.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for a key: the statement in hand, and the one after it.
const CLAIM_WAIT: Duration = Duration::from_millis(2_500);

/// It is not known whose the key is: nobody may go on under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request key could not be taken")]
pub struct Unavailable;

/// Takes request keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Claims {
    waiting: mpsc::Sender<Asked>,
    /// The task that takes them. It ends with the last of whoever could ask, not at shutdown:
    /// requests in hand are served to the end.
    _taker: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Asked {
    claim: Claim,
    is_durable: bool,
    answer: oneshot::Sender<Result<bool, Unavailable>>,
}

impl Claims {
    /// Claims in this database.
    #[must_use]
    pub fn new(pool: &PgPool) -> Self {
        let (waiting, asked) = mpsc::channel(WAITING_MAX);
        let mut taker = JoinSet::new();
        taker.spawn(take_all(Kept::of(pool, 1), asked));
        Self { waiting, _taker: Arc::new(taker) }
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
        let (answer, answered) = oneshot::channel();
        let asked = Asked { claim: Claim { key, digest }, is_durable, answer };
        self.waiting.try_send(asked).map_err(|_| Unavailable)?;
        let answered = timeout(CLAIM_WAIT, answered).await.map_err(|_| Unavailable)?;
        answered.map_err(|_| Unavailable)?
    }
}

/// Takes what has arrived since the last statement, until nobody is left who could ask.
async fn take_all(conns: Kept, mut asked: mpsc::Receiver<Asked>) {
    let mut waiting = Vec::with_capacity(BATCH_MAX);
    while asked.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        // Whoever is just about to ask has one turn to do so.
        yield_now().await;
        while waiting.len() < BATCH_MAX
            && let Ok(claim) = asked.try_recv()
        {
            waiting.push(claim);
        }
        // Whoever gave up needs no key any more.
        waiting.retain(|it: &Asked| !it.answer.is_closed());
        if waiting.is_empty() {
            continue;
        }
        let answers = take(&conns, &waiting).await;
        for (place, asked) in waiting.drain(..).enumerate() {
            let answer = answers.as_ref().and_then(|it| it.get(place).copied());
            // An error is somebody who has just gone away.
            asked.answer.send(answer.ok_or(Unavailable)).ok();
        }
    }
}

/// Takes the keys with one statement; none if the database does not.
async fn take(conns: &Kept, waiting: &[Asked]) -> Option<Vec<bool>> {
    let claims: Vec<Claim> = waiting.iter().map(|it| it.claim).collect();
    let is_durable = waiting.iter().any(|it| it.is_durable);
    let taken = requests::claim(conns, &claims, Timestamp::now(), is_durable);
    match timeout(STORE_WAIT, taken).await {
        Ok(Ok(taken)) => Some(taken),
        Ok(Err(error)) => {
            let error = anyhow::Error::from(error);
            tracing::error!("{} request keys could not be taken: {error:#}", claims.len());
            None
        }
        Err(_) => {
            tracing::error!("{} request keys could not be taken in time", claims.len());
            None
        }
    }
}
