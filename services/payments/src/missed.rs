//! Fetches what Paystack wanted to tell us and could not: every few minutes it asks for the disputes
//! that were opened and the webhooks that were not delivered, and stores each as if it had come. It
//! reads the refunds too, among which may be some that nobody asked us for ([`crate::adopt`]).
//!
//! What is fetched proves no more than what is delivered: somebody looks, and verify decides. One
//! process does it for all, and how far it came is kept beside the webhooks. An account that lists no
//! webhooks is asked for them again once a day.

use std::sync::Arc;
use std::time::Duration;

use primitives::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::adopt::adopt;
use crate::desk::{Desk, chain};
use crate::notice;
use crate::paystack::{self, Client, Undelivered};
use crate::store;
use crate::store::rounds::{self, Lease, Round, Taken};
use crate::webhook;

/// How far before the last time it looks again: a webhook is not listed before it was tried, and
/// Paystack's clock is not ours.
const OVERLAP: Duration = Duration::from_hours(6);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// How often an account without such a list is asked again.
const ABSENT_PAUSE: Duration = Duration::from_hours(24);
/// Most pages of one time; more would be a list that leads in a circle.
const PAGES_MAX: usize = 10_000;

/// How it works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The pause between two times.
    pub(crate) every: Duration,
    /// How often it is looked whether it is time.
    pub(crate) poll: Duration,
    /// How long one process may keep the work without a word.
    pub(crate) lease: Duration,
}

/// Why a time came to no end.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("paystack did not list what it could not deliver")]
    Paystack(#[from] paystack::Error),
    #[error("what was listed could not be stored")]
    Store(#[from] store::Error),
    #[error("the list of what was not delivered has no end")]
    Endless,
    #[error("somebody else does it, or the process stops")]
    Over,
}

/// Runs until `shutdown`.
pub(crate) async fn run(
    desk: Desk,
    paystack: Arc<Client>,
    limits: Limits,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut fetcher = Fetcher { desk, paystack, limits, shutdown, absent_until: None };
    while !fetcher.shutdown.is_cancelled() {
        if let Err(error) = fetcher.look().await {
            tracing::warn!(error = chain(&error), "failed to look for missed webhooks");
        }
        tokio::select! {
            () = fetcher.shutdown.cancelled() => {}
            () = tokio::time::sleep(limits.poll) => {}
        }
    }
    Ok(())
}

struct Fetcher {
    desk: Desk,
    paystack: Arc<Client>,
    limits: Limits,
    shutdown: CancellationToken,
    /// Until then this account is not asked for webhooks: it does not list them.
    absent_until: Option<Timestamp>,
}

impl Fetcher {
    /// Does it if it is time and nobody else does.
    async fn look(&mut self) -> Result<(), store::Error> {
        let (pool, now) = (self.desk.pool.clone(), Timestamp::now());
        rounds::begin(&pool, Round::Missed, now.plus(self.limits.every)).await?;
        let until = now.plus(self.limits.lease);
        let taken = rounds::take(&pool, Round::Missed, now, until).await?;
        let Some(Taken { mut lease, done_until }) = taken else { return Ok(()) };
        let ended = self.fetch(&mut lease, done_until.minus(OVERLAP)).await;
        let (pause, done_until) = match ended {
            Ok(()) => (self.limits.every, Some(now)),
            Err(Trouble::Over) => (Duration::ZERO, None),
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to fetch missed webhooks");
                (self.limits.every.min(RETRY_MAX), None)
            }
        };
        let due_at = Timestamp::now().plus(pause);
        rounds::give_back(&pool, lease, due_at, done_until).await
    }

    async fn fetch(&mut self, lease: &mut Lease, from: Timestamp) -> Result<(), Trouble> {
        self.fetch_disputes(lease, from).await?;
        self.fetch_refunds(lease, from).await?;
        if self.absent_until.is_some_and(|until| Timestamp::now() < until) {
            return Ok(());
        }
        match self.fetch_webhooks(lease, from).await {
            Err(Trouble::Paystack(error)) if error.is_absent() => {
                if self.absent_until.is_none() {
                    let error = chain(&error);
                    tracing::warn!(error, "this account does not list webhooks; asked again daily");
                }
                self.absent_until = Some(Timestamp::now().plus(ABSENT_PAUSE));
                Ok(())
            }
            ended => ended,
        }
    }

    /// A dispute that nobody hears of is lost: their list is read whatever became of their webhooks.
    async fn fetch_disputes(&self, lease: &mut Lease, from: Timestamp) -> Result<(), Trouble> {
        for page in 1..=PAGES_MAX {
            let (bodies, has_more) = self.paystack.disputes(from, page).await?;
            for body in &bodies {
                self.store(body).await?;
            }
            self.renew(lease).await?;
            if !has_more {
                return Ok(());
            }
            tokio::time::sleep(paystack::PAGE_PAUSE).await;
        }
        Err(Trouble::Endless)
    }

    async fn fetch_refunds(&self, lease: &mut Lease, from: Timestamp) -> Result<(), Trouble> {
        for page in 1..=PAGES_MAX {
            let (refunds, has_more) = self.paystack.refunds_since(from, page).await?;
            for said in &refunds {
                if let Some(id) = adopt(&self.desk, said).await? {
                    tracing::warn!(return.id = %id, "a refund was made at Paystack itself: {id}");
                }
            }
            self.renew(lease).await?;
            if !has_more {
                return Ok(());
            }
            tokio::time::sleep(paystack::PAGE_PAUSE).await;
        }
        Err(Trouble::Endless)
    }

    /// Goes on only while the work is ours.
    async fn renew(&self, lease: &mut Lease) -> Result<(), Trouble> {
        let until = Timestamp::now().plus(self.limits.lease);
        let is_ours = rounds::renew(&self.desk.pool, lease, until).await?;
        if !is_ours || self.shutdown.is_cancelled() { Err(Trouble::Over) } else { Ok(()) }
    }

    async fn fetch_webhooks(&self, lease: &mut Lease, from: Timestamp) -> Result<(), Trouble> {
        for status in [Undelivered::Failed, Undelivered::Pending] {
            let mut next: Option<String> = None;
            for n_pages in 0.. {
                if n_pages >= PAGES_MAX {
                    return Err(Trouble::Endless);
                }
                let page = self.paystack.undelivered(status, from, next.as_deref()).await?;
                for body in &page.bodies {
                    self.store(body).await?;
                }
                self.renew(lease).await?;
                match page.next {
                    Some(cursor) if next.as_ref() == Some(&cursor) => return Err(Trouble::Endless),
                    Some(cursor) => next = Some(cursor),
                    None => break,
                }
                tokio::time::sleep(paystack::PAGE_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn store(&self, body: &[u8]) -> Result<(), Trouble> {
        if body.len() > webhook::BODY_BYTES_MAX {
            tracing::error!("a webhook of {} bytes was not fetched", body.len());
            return Ok(());
        }
        let notice = notice::read(body);
        let digest = Sha256::digest(body);
        let kept = (body, digest.as_slice());
        if rounds::insert_pulled(&self.desk.pool, &notice, kept, Timestamp::now()).await? {
            webhook::count("pulled");
            let reference = notice.reference.as_ref().map(|it| it.as_str()).unwrap_or_default();
            let event = notice.event.as_deref().unwrap_or_default();
            tracing::info!(reference, event, "a webhook that was never delivered was fetched");
            self.desk.bells.inbox.notify_one();
        }
        Ok(())
    }
}
