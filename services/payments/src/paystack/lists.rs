//! What Paystack lists: transactions and disputes of a time, and webhooks that it could not deliver.

use std::time::Duration;

use primitives::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};

use super::{Answer, Client, Error};
use crate::loose;
use crate::verdict::Said;

/// The pause between two pages. Lists share their limit, 600 calls a minute, with refunds and
/// disputes, and a limit that is exceeded holds back every call, those for new deposits too.
pub(crate) const PAGE_PAUSE: Duration = Duration::from_millis(500);
/// Transactions a page; the most that Paystack gives.
pub(crate) const TRANSACTIONS_A_PAGE: usize = 100;
/// Webhook events a page.
const EVENTS_A_PAGE: usize = 50;
/// Disputes a page.
const DISPUTES_A_PAGE: usize = 50;
/// The longest cursor that is handed back.
const CURSOR_CHARS_MAX: usize = 1_024;

/// A transaction as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// What it says of itself.
    pub(crate) said: Said,
    /// When Paystack made it.
    pub(crate) created_at: Option<Timestamp>,
}

/// One page of transactions, newest first.
#[derive(Debug)]
pub(crate) struct Transactions {
    /// The page.
    pub(crate) listed: Vec<Listed>,
    /// How many there are on all pages, if Paystack says so.
    pub(crate) total: Option<u64>,
}

/// How far Paystack came with a webhook that has not been delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// Given up.
    Failed,
    /// To be tried again.
    Pending,
}

/// One page of webhooks that were not delivered, newest first.
#[derive(Debug)]
pub(crate) struct Events {
    /// What would have been delivered, each as one body.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

impl Error {
    /// Whether it says that this account has no such call.
    pub(crate) fn is_absent(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status.as_u16(), 403 | 404),
            Self::Held { .. }
            | Self::Connect(_)
            | Self::RateLimited
            | Self::DuplicateReference
            | Self::Transport(_)
            | Self::Failed(_)
            | Self::Strange(_) => false,
        }
    }
}

impl Client {
    /// One page, counted from 1, of the transactions that Paystack made from `from` to `to`.
    pub(crate) async fn transactions(
        &self,
        from: Timestamp,
        to: Timestamp,
        page: u32,
    ) -> Result<Transactions, Error> {
        let query = [
            ("from", from.to_string()),
            ("to", to.to_string()),
            ("perPage", TRANSACTIONS_A_PAGE.to_string()),
            ("page", page.to_string()),
        ];
        let request = self.listing(&["transaction"], &query);
        self.observed("list transactions", async {
            let body = successful(self.call(request).await?)?;
            let listed = objects(&body)?.map(listed).collect();
            Ok(Transactions { listed, total: loose::whole_number(meta(&body, "total")) })
        })
        .await
    }

    /// One page of the webhooks since `from` that were not delivered; the first one, or the one that
    /// begins at `next`. One that was never tried is not shown: it may be on its way right now.
    pub(crate) async fn undelivered(
        &self,
        status: Undelivered,
        from: Timestamp,
        next: Option<&str>,
    ) -> Result<Events, Error> {
        let status = match status {
            Undelivered::Failed => "Failed",
            Undelivered::Pending => "Pending",
        };
        let mut query = vec![
            ("status", status.to_owned()),
            ("from", from.to_string()),
            ("limit", EVENTS_A_PAGE.to_string()),
        ];
        query.extend(next.map(|it| ("next", it.to_owned())));
        let request = self.listing(&["integration", "webhooks", "events"], &query);
        self.observed("list webhooks", async {
            let body = successful(self.call(request).await?)?;
            let is_new = |it: &&Map<String, Value>| {
                status == "Pending" && loose::whole_number(it.get("trial_count")) == Some(0)
            };
            let bodies = objects(&body)?.filter(|it| !is_new(it)).filter_map(delivered).collect();
            let cursor = loose::text(meta(&body, "next"));
            Ok(Events { bodies, next: cursor.filter(|it| it.len() <= CURSOR_CHARS_MAX) })
        })
        .await
    }

    /// One page, counted from 1, of the disputes that were opened since `from`, each as the body of
    /// the webhook that tells of it; and whether there may be another page.
    pub(crate) async fn disputes(
        &self,
        from: Timestamp,
        page: usize,
    ) -> Result<(Vec<Vec<u8>>, bool), Error> {
        let query = [
            ("from", from.to_string()),
            ("perPage", DISPUTES_A_PAGE.to_string()),
            ("page", page.to_string()),
        ];
        let request = self.listing(&["dispute"], &query);
        self.observed("list disputes", async {
            let body = successful(self.call(request).await?)?;
            let all: Vec<_> = objects(&body)?.collect();
            let told = |data: &&Map<String, Value>| {
                let body = json!({ "event": "charge.dispute.create", "data": data });
                serde_json::to_vec(&body).ok()
            };
            Ok((all.iter().filter_map(told).collect(), all.len() >= DISPUTES_A_PAGE))
        })
        .await
    }

    pub(super) fn listing(&self, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.query_pairs_mut().extend_pairs(query);
        self.http.request(Method::GET, url).bearer_auth(self.secret_key.expose())
    }
}

pub(super) fn successful(answer: Answer) -> Result<Map<String, Value>, Error> {
    if answer.status.is_success() { Ok(answer.body) } else { Err(answer.into_error()) }
}

/// The things in a list; what is no object is passed over.
pub(super) fn objects(
    body: &Map<String, Value>,
) -> Result<impl Iterator<Item = &Map<String, Value>>, Error> {
    let data = body.get("data").and_then(Value::as_array);
    Ok(data.ok_or(Error::Strange("no list"))?.iter().filter_map(Value::as_object))
}

fn meta<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get("meta")?.get(name)
}

fn listed(data: &Map<String, Value>) -> Listed {
    let created_at =
        loose::text(data.get("created_at")).or_else(|| loose::text(data.get("createdAt")));
    Listed {
        said: loose::said(|name| data.get(name)),
        created_at: created_at.and_then(|it| Timestamp::parse(&it).ok()),
    }
}

/// The body as it would have been delivered. The document shows `event_payload` and not what is in
/// it: the whole body, the same as text, or only what the event is about.
fn delivered(event: &Map<String, Value>) -> Option<Vec<u8>> {
    match event.get("event_payload")? {
        Value::String(text) if !text.is_empty() => Some(text.clone().into_bytes()),
        Value::Object(body) if body.contains_key("event") => serde_json::to_vec(body).ok(),
        Value::Object(data) => {
            let name = event.get("event_name")?.as_str()?;
            serde_json::to_vec(&json!({ "event": name, "data": data })).ok()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_body_whatever_it_is_wrapped_in() {
        let data = json!({ "id": 1, "reference": "dep-1" });
        let whole = json!({ "event": "charge.success", "data": data });
        let read = |payload: Value| {
            let event = json!({ "event_name": "charge.success", "event_payload": payload });
            delivered(event.as_object().unwrap())
        };
        let expected = serde_json::to_vec(&whole).unwrap();
        assert_eq!(read(whole.clone()).as_ref(), Some(&expected));
        assert_eq!(read(data).as_ref(), Some(&expected));
        assert_eq!(read(whole.to_string().into()), Some(whole.to_string().into_bytes()));
        for nothing in [json!(null), json!(""), json!([]), json!(7)] {
            assert_eq!(read(nothing), None);
        }
    }

    #[test]
    fn a_list_is_read_loosely() {
        let body = json!({
            "data": [{ "reference": "dep-1", "createdAt": "2026-11-20T10:00:00.000Z" }, 7],
            "meta": { "total": "2" },
        });
        let body = body.as_object().unwrap();
        let all: Vec<Listed> = objects(body).unwrap().map(listed).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].created_at, Timestamp::parse("2026-11-20T10:00:00Z").ok());
        assert_eq!(loose::whole_number(meta(body, "total")), Some(2));
        assert!(objects(&Map::new()).is_err());
    }
}
