//! What became of the webhooks, as Paystack can be asked about it, and asked to send them again.

use serde_json::{Value, json};

use super::answers::{self, Answer, moment};
use super::deliver::{Entry, Progress};
use super::model::Parameters;
use super::model::lists::Paging;
use super::{ON_WEBHOOK, Shared};

const PER_PAGE: u64 = 50;
/// Most events that one call names.
const IDS_MAX: usize = 100;

/// A call below `/integration/webhooks/events`. A body is none if it is no JSON.
#[derive(Debug)]
pub(super) enum Ask {
    List(Parameters),
    Fetch(String),
    Lookup(Parameters),
    Resend(Option<Value>),
    ResendMatching(Parameters, Option<Value>),
}

pub(super) fn answer(shared: &Shared, ask: Ask) -> Answer {
    let answer = match ask {
        Ask::List(query) => list(shared, &query),
        Ask::Fetch(id) => fetch(shared, &id),
        Ask::Lookup(query) => lookup(shared, &query),
        Ask::Resend(body) => resend(shared, body.as_ref()),
        Ask::ResendMatching(query, body) => resend_matching(shared, &query, body.as_ref()),
    };
    answer.unwrap_or_else(|refusal| refusal)
}

/// The filters of a query; the newest first.
fn matching(shared: &Shared, query: &Parameters) -> Result<Vec<Entry>, Answer> {
    let period = query.period()?;
    let status = |entry: &Entry| as_paystack_says(entry.progress());
    Ok(shared.outbox.find(|entry| {
        let row = entry.about.1.to_string();
        period.contains(&entry.created_at.micros())
            && query.text("category").is_none_or(|it| it == entry.about.0.as_str())
            && query.text("event_type").is_none_or(|it| it == entry.record.event)
            && query.text("status").is_none_or(|it| it.eq_ignore_ascii_case(status(entry)))
            && query.text("category_row_id").is_none_or(|it| it == row)
    }))
}

fn list(shared: &Shared, query: &Parameters) -> Result<Answer, Answer> {
    let paging = Paging::cursor(query, query.positive("limit", PER_PAGE)?)?;
    let (shown, meta) = paging.cut(matching(shared, query)?, |entry| entry.record.number);
    let data = shown.iter().map(|entry| shape(shared, entry)).collect();
    Ok(answers::listed("Webhooks listed", data, meta))
}

fn fetch(shared: &Shared, id: &str) -> Result<Answer, Answer> {
    let found = shared.outbox.find(|entry| id_of(entry) == id);
    let entry = found.first().ok_or_else(|| answers::not_found("Webhook event"))?;
    Ok(answers::success("Webhook Retrieved", shape(shared, entry)))
}

/// The event of this id, or the latest about the thing of this id; a reference finds nothing.
fn lookup(shared: &Shared, query: &Parameters) -> Result<Answer, Answer> {
    let missing = || answers::missing_params("\"reference\" is required");
    let wanted = query.text("reference").ok_or_else(missing)?;
    let is_wanted = |entry: &Entry| id_of(entry) == wanted || entry.about.1.to_string() == wanted;
    let found = shared.outbox.find(is_wanted);
    let entry = found.first().ok_or_else(|| answers::not_found("Webhook event"))?;
    Ok(answers::success("Webhook Retrieved", shape(shared, entry)))
}

fn resend(shared: &Shared, body: Option<&Value>) -> Result<Answer, Answer> {
    let body = body.and_then(Value::as_object).ok_or_else(answers::unreadable)?;
    let ids = body.get("ids").and_then(Value::as_array);
    let ids = ids.ok_or_else(|| answers::missing_params("\"ids\" is required"))?;
    if ids.is_empty() || ids.len() > IDS_MAX {
        let message = format!("\"ids\" must contain 1 to {IDS_MAX} items");
        return Err(answers::invalid_params(&message));
    }
    let (mut n_sent, mut failed) = (0_u64, Vec::new());
    for id in ids {
        let of_it = shared.outbox.find(|entry| id.as_str() == Some(&id_of(entry)));
        if of_it.first().is_some_and(|entry| again(shared, entry)) {
            n_sent += 1;
        } else {
            failed.push(id.clone());
        }
    }
    let data = json!({ "count": n_sent, "failed": failed.len(), "failed_ids": failed });
    Ok(Answer { status: 202, ..answers::success("Resend accepted", data) })
}

/// The filters stand in the body; with `preview=true` nothing is sent.
fn resend_matching(
    shared: &Shared,
    query: &Parameters,
    body: Option<&Value>,
) -> Result<Answer, Answer> {
    let body = body.and_then(Value::as_object).ok_or_else(answers::unreadable)?;
    let filters = body.get("filters").and_then(Value::as_object);
    let filters = filters.ok_or_else(|| answers::missing_params("\"filters\" is required"))?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let filters = filters.iter().filter(|(_, value)| !value.is_null());
    let filters = Parameters(filters.map(|(name, value)| (name.clone(), text(value))).collect());
    let found = matching(shared, &filters)?;
    if query.is_true("preview") {
        let data = json!({ "count": found.len() });
        return Ok(answers::success("Resend preview", data));
    }
    // The oldest first, as they happened.
    let n_sent = found.iter().rev().filter(|entry| again(shared, entry)).count();
    let data = json!({ "count": n_sent, "failed": found.len() - n_sent, "failed_ids": [] });
    Ok(Answer { status: 202, ..answers::success("Resend accepted", data) })
}

fn again(shared: &Shared, entry: &Entry) -> bool {
    shared.outbox.send_again(entry.record.number, &shared.draw(&ON_WEBHOOK))
}

const fn as_paystack_says(progress: Progress) -> &'static str {
    match progress {
        Progress::Delivered => "Delivered",
        Progress::Pending => "Pending",
        Progress::Failed => "Failed",
    }
}

/// Looks like a database's: time and number.
fn id_of(entry: &Entry) -> String {
    format!("{:08x}{:016x}", entry.created_at.seconds(), entry.record.number)
}

fn shape(shared: &Shared, entry: &Entry) -> Value {
    let record = &entry.record;
    let detail = match (entry.progress(), record.lost, record.last_status) {
        (Progress::Delivered, _, _) => "Webhook delivered".to_owned(),
        (Progress::Failed, true, _) if record.tries == 0 => "Webhook was never sent".to_owned(),
        (Progress::Pending | Progress::Failed, _, Some(status)) => {
            format!("Merchant responded with {status}")
        }
        (Progress::Pending | Progress::Failed, _, None) => "No response from merchant".to_owned(),
    };
    // What was written here is JSON.
    let payload: Value = serde_json::from_slice(&entry.payload).unwrap_or_default();
    json!({
        "_id": id_of(entry),
        "domain": shared.domain(),
        "category": entry.about.0.as_str(),
        "event_name": record.event,
        "category_row_id": entry.about.1,
        "status": as_paystack_says(entry.progress()),
        "status_detail": detail,
        "response_code": record.last_status,
        "trial_count": record.tries,
        "webhook_url": shared.outbox.url(),
        "event_payload": payload,
        "merchant_response_body": entry.answer,
        "createdAt": moment(entry.created_at.micros()),
        "updatedAt": moment(entry.updated_at.micros()),
    })
}
