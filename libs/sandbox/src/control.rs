//! `/control`: the sandbox's own knobs, for demos, load tests and people with curl.
//!
//! What changes something wants `content-type: application/json`: no web page a developer happens
//! to visit can send that here without asking first, and it is never answered.

use std::time::Duration;

use poem::http::{Method, StatusCode};
use poem::{Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::faults::Plan;
use crate::paystack;
use crate::paystack::model::{Category, Claim, RefundStatus, Undisputable, Verdict};

const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(untagged)]
enum Plans {
    One(Plan),
    Many(Vec<Plan>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Moved {
    id: u64,
    status: RefundStatus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raised {
    reference: String,
    amount: Option<u64>,
    category: Option<Category>,
    due_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    id: u64,
    verdict: Verdict,
}

/// Answers everything below `/control`.
pub(crate) async fn control(shared: &Shared, mut request: Request, path: &[String]) -> Response {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let changes = request.method() != Method::GET;
    let json = request.content_type().is_some_and(|it| it.starts_with("application/json"));
    if changes && !json {
        return answer(415, &json!({ "error": "send content-type: application/json" }));
    }
    let body = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await;
    // A body that cannot be read is none; whoever needs one says so.
    let body = body.unwrap_or_default();
    match (request.method().clone(), path.as_slice()) {
        (Method::GET, ["transactions"]) => answer(200, &transactions(shared)),
        (Method::GET, ["webhooks"]) => answer(200, &json!({ "webhooks": shared.outbox.records() })),
        (Method::GET, ["faults"]) => answer(200, &faults(shared)),
        (Method::POST, ["faults"]) => match serde_json::from_slice::<Plans>(&body) {
            Ok(plans) => add(shared, plans),
            Err(error) => not_understood(&error),
        },
        (Method::DELETE, ["faults"]) => {
            shared.faults().clear();
            answer(200, &faults(shared))
        }
        (Method::POST, ["clock"]) => match serde_json::from_slice::<Advance>(&body) {
            Ok(Advance { advance_seconds }) => {
                shared.clock.advance(Duration::from_secs(advance_seconds));
                answer(200, &json!({ "now": shared.clock.now().to_string() }))
            }
            Err(error) => not_understood(&error),
        },
        (Method::POST, ["webhooks", "resend"]) => {
            named(&body, |name| paystack::resend(shared, name))
        }
        (Method::POST, ["transactions", "reverse"]) => {
            let reverse =
                |name: &str| shared.at_once(|model, now| model.reverse(name, now).is_some());
            named(&body, reverse)
        }
        (method, ["refunds" | "disputes" | "settle", ..]) => claims(shared, &method, &path, &body),
        (Method::POST, ["google", "rotate"]) => match shared.google.rotate() {
            Ok(()) => answer(200, &json!({ "done": true })),
            Err(error) => answer(500, &json!({ "error": error.to_string() })),
        },
        (Method::POST, ["reset"]) => {
            shared.reset();
            answer(200, &json!({ "done": true }))
        }
        _ => unknown(),
    }
}

/// What is about money on its way back.
fn claims(shared: &Shared, method: &Method, path: &[&str], body: &[u8]) -> Response {
    match (method, path) {
        (&Method::GET, ["refunds"]) => {
            let all: Vec<_> = shared.at_once(|model, _| model.refunds().rev().cloned().collect());
            answer(200, &json!({ "refunds": all }))
        }
        (&Method::GET, ["disputes"]) => {
            let all: Vec<_> = shared.at_once(|model, _| model.disputes().rev().cloned().collect());
            answer(200, &json!({ "disputes": all }))
        }
        (&Method::POST, ["refunds", "status"]) => match serde_json::from_slice::<Moved>(body) {
            Ok(Moved { id, status }) => {
                let moved = shared.at_once(|model, now| model.set_refund(id, status, now).cloned());
                let refusal = "no refund with this id can become that";
                found(moved.map(|refund| json!({ "refund": refund })), refusal)
            }
            Err(error) => not_understood(&error),
        },
        (&Method::POST, ["disputes"]) => match serde_json::from_slice::<Raised>(body) {
            Ok(raised) => raise(shared, raised),
            Err(error) => not_understood(&error),
        },
        (&Method::POST, ["disputes", "decide"]) => match serde_json::from_slice::<Decided>(body) {
            Ok(Decided { id, verdict }) => {
                let decided = shared.at_once(|model, now| model.decide(id, verdict, now));
                let refusal = "no dispute with this id waits for the bank";
                found(decided.then(|| json!({ "done": true })), refusal)
            }
            Err(error) => not_understood(&error),
        },
        (&Method::POST, ["settle"]) => {
            shared.at_once(|model, _| model.settle());
            answer(200, &json!({ "done": true }))
        }
        _ => unknown(),
    }
}

fn raise(shared: &Shared, raised: Raised) -> Response {
    let default = Claim::default();
    let claim = Claim {
        amount: raised.amount,
        category: raised.category.unwrap_or(default.category),
        due: raised.due_seconds.map_or(default.due, Duration::from_secs),
    };
    match shared.at_once(|model, now| model.raise(&raised.reference, claim, now).cloned()) {
        Ok(dispute) => answer(200, &json!({ "dispute": dispute })),
        Err(Undisputable::Unpaid) => found(None, "no paid transaction has this reference"),
        Err(Undisputable::Amount) => {
            answer(409, &json!({ "error": "less than that remains of the payment" }))
        }
    }
}

fn found(body: Option<Value>, refusal: &str) -> Response {
    body.map_or_else(|| answer(404, &json!({ "error": refusal })), |body| answer(200, &body))
}

fn unknown() -> Response {
    answer(404, &json!({ "error": "no such control; the sandbox's README lists them" }))
}

fn answer(status: u16, body: &Value) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .content_type("application/json")
        .body(body.to_string())
}

fn not_understood(error: &serde_json::Error) -> Response {
    answer(400, &json!({ "error": error.to_string() }))
}

fn named(body: &[u8], act: impl FnOnce(&str) -> bool) -> Response {
    match serde_json::from_slice::<Named>(body) {
        Ok(Named { reference }) if act(&reference) => answer(200, &json!({ "done": true })),
        Ok(_) => answer(404, &json!({ "error": "no paid transaction has this reference" })),
        Err(error) => not_understood(&error),
    }
}

fn add(shared: &Shared, plans: Plans) -> Response {
    let plans = match plans {
        Plans::One(plan) => vec![plan],
        Plans::Many(plans) => plans,
    };
    if !plans.iter().all(Plan::is_sane) {
        return answer(400, &json!({ "error": "probability is from 0 to 1" }));
    }
    for plan in plans {
        shared.faults().add(plan);
    }
    answer(200, &faults(shared))
}

fn faults(shared: &Shared) -> Value {
    json!({ "faults": shared.faults().plans() })
}

fn transactions(shared: &Shared) -> Value {
    shared.at_once(|model, _| {
        let all: Vec<_> = model.transactions().rev().collect();
        json!({ "transactions": all, "collected": model.collected(), "totals": model.totals() })
    })
}
