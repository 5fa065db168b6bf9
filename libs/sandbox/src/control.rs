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
            named(&body, |name| shared.paystack.reverse(name))
        }
        (Method::POST, ["google", "rotate"]) => match shared.google.rotate() {
            Ok(()) => answer(200, &json!({ "done": true })),
            Err(error) => answer(500, &json!({ "error": error.to_string() })),
        },
        (Method::POST, ["reset"]) => {
            shared.reset();
            answer(200, &json!({ "done": true }))
        }
        _ => answer(404, &json!({ "error": "no such control; the sandbox's README lists them" })),
    }
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
    shared.paystack.read(|model| {
        let all: Vec<_> = model.transactions().rev().collect();
        json!({ "transactions": all, "collected": model.collected() })
    })
}
