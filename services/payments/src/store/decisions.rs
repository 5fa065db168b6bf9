//! What persons decided, and what they are shown before they do.

use primitives::{DepositId, ReturnId, Timestamp};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use super::{Error, datetime};

/// What somebody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// To be credited.
    Accept,
    /// Never to be credited.
    Reject,
    /// Seen to, as far as a webhook or a loss is concerned.
    Dismiss,
    /// To be given back.
    Refund,
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// A deposit.
    Deposit(DepositId),
    /// A webhook.
    Webhook(i64),
    /// A refund or a dispute.
    Return(ReturnId),
}

impl What {
    /// As stored.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Dismiss => "dismiss",
            Self::Refund => "refund",
        }
    }
}

/// Keeps a decision, in the transaction that does what was decided.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    about: About,
    what: What,
    (who, why): (&str, &str),
    now: Timestamp,
) -> Result<(), Error> {
    let (deposit_id, webhook_id, return_id) = match about {
        About::Deposit(id) => (Some(id.uuid()), None, None),
        About::Webhook(id) => (None, Some(id), None),
        About::Return(id) => (None, None, Some(id.uuid())),
    };
    sqlx::query!(
        "insert into payments.decisions (decided_at, who, why, what, deposit_id, webhook_id,
                                         return_id)
         values ($1, $2, $3, $4, $5, $6, $7)",
        datetime(now),
        who,
        why,
        what.code(),
        deposit_id,
        webhook_id,
        return_id,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Deposit { what: "keep a decision about", source })?;
    Ok(())
}

/// Whether there is such a webhook and it waits for a person; nobody else changes that meanwhile.
pub(crate) async fn lock_parked(conn: &mut PgConnection, webhook_id: i64) -> Result<bool, Error> {
    let state = sqlx::query_scalar!(
        "select state from payments.webhooks where webhook_id = $1 for update",
        webhook_id,
    )
    .fetch_optional(conn)
    .await
    .map_err(|source| Error::Webhook { what: "lock", source })?;
    Ok(state.as_deref() == Some("parked"))
}

/// A parked webhook has been seen to.
pub(crate) async fn dismiss(conn: &mut PgConnection, webhook_id: i64) -> Result<(), Error> {
    sqlx::query!(
        "update payments.webhooks set state = 'dismissed' where webhook_id = $1",
        webhook_id,
    )
    .execute(conn)
    .await
    .map_err(|source| Error::Webhook { what: "dismiss", source })?;
    Ok(())
}

/// A deposit that waits for a person.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// Under which it is known.
    pub(crate) reference: String,
    /// Why a person must look.
    pub(crate) reason: String,
    /// What was asked for.
    pub(crate) amount_minor: i64,
    /// In which currency.
    pub(crate) currency: String,
    /// What was paid, if anything is known to be.
    pub(crate) paid_minor: Option<i64>,
    /// In which currency.
    pub(crate) paid_currency: Option<String>,
    /// Where that is.
    pub(crate) suspense: String,
    /// Since when it waits.
    pub(crate) since: Option<OffsetDateTime>,
}

/// Deposits that wait for a person, oldest first.
pub(crate) async fn waiting(pool: &PgPool, limit: i64) -> Result<Vec<Waiting>, Error> {
    sqlx::query_as!(
        Waiting,
        r#"select coalesce(d.paid_reference, a.reference) as "reference!",
                  d.review_reason as "reason!",
                  d.amount_minor, d.currency, d.paid_minor, d.paid_currency, d.suspense,
                  (select max(t.happened_at) from payments.timeline t
                   where t.deposit_id = d.deposit_id
                     and t.state_after = 'review' and t.state_before <> 'review') as since
           from payments.deposits d
           join payments.attempts a using (deposit_id, attempt_number)
           where d.state = 'review'
           order by d.created_at
           limit $1"#,
        limit,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Deposit { what: "list", source })
}

/// A webhook that waits for a person.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    /// The row.
    pub(crate) webhook_id: i64,
    /// Its event, if it had a sane one.
    pub(crate) event: Option<String>,
    /// The reference it names, if that is one.
    pub(crate) reference: Option<String>,
    /// Why it waits.
    pub(crate) reason: Option<String>,
    /// When it came first.
    pub(crate) received_at: OffsetDateTime,
}

/// Webhooks that wait for a person, oldest first.
pub(crate) async fn parked(pool: &PgPool, limit: i64) -> Result<Vec<Parked>, Error> {
    sqlx::query_as!(
        Parked,
        "select webhook_id, event, reference, reason, received_at
         from payments.webhooks
         where state = 'parked'
         order by webhook_id
         limit $1",
        limit,
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Webhook { what: "list", source })
}

/// Something in a deposit's life, whoever wrote it down.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// When.
    pub(crate) at: OffsetDateTime,
    /// What.
    pub(crate) what: String,
}

/// Everything in a deposit's life: what was asked, what happened, what came from Paystack, what was
/// decided. In the order of time.
pub(crate) async fn life(pool: &PgPool, deposit_id: DepositId) -> Result<Vec<Moment>, Error> {
    sqlx::query_as!(
        Moment,
        r#"select at as "at!", what as "what!"
           from (
               select created_at as at, 0 as source, 0::bigint as n,
                      'asked for ' || amount_minor || ' ' || currency
                          || ', to be credited by ' || replace('txn_' || credit_transfer_id, '-', '')
                          as what
               from payments.deposits where deposit_id = $1
               union all
               select happened_at, 1, line_id,
                      coalesce((select r.kind || ' ' || replace('ret_' || t.return_id, '-', '') || ': '
                                from payments.returns r where r.return_id = t.return_id), '')
                          || event || case when detail = '' then '' else ' (' || detail || ')' end
                          || case when state_before = state_after then ''
                                  else ': ' || state_before || ' -> ' || state_after end
               from payments.timeline t where deposit_id = $1
               union all
               select received_at, 2, webhook_id,
                      'webhook ' || webhook_id || ' came: ' || coalesce(event, 'unreadable')
                          || ', ' || n_received || ' times, '
                          || case signed_by when 'pulled' then 'fetched by ourselves'
                                  else 'signed by the ' || signed_by || ' key' end
                          || ', ' || state || coalesce(' for ' || reason, '')
               from payments.webhooks
               where deposit_id = $1
                  or reference in (select reference from payments.attempts where deposit_id = $1)
               union all
               select decided_at, 3, decision_id, who || ' decided to ' || what
                          || coalesce(' webhook ' || webhook_id, '')
                          || coalesce(' ' || replace('ret_' || return_id, '-', ''), '')
                          || ': ' || why
               from payments.decisions
               where deposit_id = $1
                  or return_id in (select return_id from payments.returns where deposit_id = $1)
                  or webhook_id in (
                      select webhook_id
                      from payments.webhooks
                      where deposit_id = $1
                         or reference in (
                             select reference from payments.attempts where deposit_id = $1
                         )
                  )
           ) life
           order by at, source, n"#,
        deposit_id.uuid(),
    )
    .fetch_all(pool)
    .await
    .map_err(|source| Error::Deposit { what: "tell the life of", source })
}
