//! Refunds and disputes at Paystack.

use primitives::{Amount, Currency, Timestamp};
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde_json::{Map, Value};

use super::lists::{objects, successful};
use super::{Client, Error};
use crate::returns::{DisputeSaid, RefundSaid};

/// Refunds in one page of a list.
const PAGE: usize = 100;
/// Most pages that are read of the refunds of one payment.
const PAGES_MAX: usize = 20;

/// What a refund is asked for with.
#[derive(Debug, Clone)]
pub(crate) struct AskRefund<'a> {
    /// Paystack's id of the payment.
    pub(crate) transaction_id: &'a str,
    /// How much, in minor units.
    pub(crate) amount: Amount,
    /// In which currency; the payment's.
    pub(crate) currency: Currency,
    /// What Paystack keeps, so that it is found again.
    pub(crate) tag: &'a str,
}

/// What a refund is asked for with; the names are Paystack's.
#[derive(Serialize)]
struct RefundBody<'a> {
    transaction: &'a str,
    amount: u64,
    currency: &'a str,
    merchant_note: &'a str,
}

impl Client {
    /// Asks for a refund, once. Paystack would make another one of a repeat.
    pub(crate) async fn refund(&self, asked: &AskRefund<'_>) -> Result<RefundSaid, Error> {
        let body = RefundBody {
            transaction: asked.transaction_id,
            amount: asked.amount.minor(),
            currency: asked.currency.as_str(),
            merchant_note: asked.tag,
        };
        let request = self.request(Method::POST, &["refund"]).json(&body);
        Ok(RefundSaid::read(&self.data("refund", request).await?))
    }

    /// Every refund of a payment, whoever asked for it. Harmless to repeat.
    pub(crate) async fn refunds_of(&self, transaction_id: &str) -> Result<Vec<RefundSaid>, Error> {
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            // By the numeric id: a reference silently finds nothing.
            let filter = ("transaction", transaction_id.to_owned());
            let found = self.refunds(filter, page).await?;
            let n_found = found.len();
            all.extend(found);
            if n_found < PAGE {
                return Ok(all);
            }
        }
        Err(Error::Strange("more refunds than there can be"))
    }

    /// One page, counted from 1, of the refunds that were made since `from`, whoever asked for them;
    /// and whether there may be another page. Harmless to repeat.
    pub(crate) async fn refunds_since(
        &self,
        from: Timestamp,
        page: usize,
    ) -> Result<(Vec<RefundSaid>, bool), Error> {
        let found = self.refunds(("from", from.to_string()), page).await?;
        let has_more = found.len() >= PAGE;
        Ok((found, has_more))
    }

    async fn refunds(&self, filter: (&str, String), page: usize) -> Result<Vec<RefundSaid>, Error> {
        let query = [filter, ("perPage", PAGE.to_string()), ("page", page.to_string())];
        let request = self.listing(&["refund"], &query);
        self.observed("list refunds", async {
            let body = successful(self.call(request).await?)?;
            Ok(objects(&body)?.map(RefundSaid::read).collect())
        })
        .await
    }

    /// How a refund stands. Harmless to repeat.
    pub(crate) async fn fetch_refund(&self, id: &str) -> Result<RefundSaid, Error> {
        let request = self.request(Method::GET, &["refund", id]);
        Ok(RefundSaid::read(&self.data("fetch refund", request).await?))
    }

    /// How a dispute stands. Harmless to repeat.
    pub(crate) async fn fetch_dispute(&self, id: &str) -> Result<DisputeSaid, Error> {
        let request = self.request(Method::GET, &["dispute", id]);
        Ok(DisputeSaid::read(&self.data("fetch dispute", request).await?))
    }

    async fn data(
        &self,
        call: &'static str,
        request: RequestBuilder,
    ) -> Result<Map<String, Value>, Error> {
        self.observed(call, async {
            let mut body = successful(self.call(request).await?)?;
            match body.remove("data") {
                Some(Value::Object(data)) => Ok(data),
                Some(
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_),
                )
                | None => Err(Error::Strange("no data")),
            }
        })
        .await
    }
}
