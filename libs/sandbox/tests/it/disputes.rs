//! Disputes without HTTP: raised, reminded of, answered or not, decided.

use std::time::Duration;

use primitives::Timestamp;
use sandbox::paystack::Answer;
use sandbox::paystack::model::{
    Call, Category, Claim, Event, Model, Parameters, Totals, Undisputable, Verdict,
};
use serde_json::{Value, json};

use crate::model::{NOW, asking, initialize, model, paid};

fn hours(n: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(n * 60 * 60))
}

/// A dispute about all of `dep-1`.
fn disputed() -> (Model, u64) {
    let mut model = model();
    paid(&mut model, "dep-1", 10_000, "");
    let id = model.raise("dep-1", Claim::default(), NOW).unwrap().id;
    (model, id)
}

fn events(model: &mut Model) -> Vec<Event> {
    model.take_effects().events
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|it| it.name).collect()
}

fn fetch(model: &mut Model, id: u64) -> Value {
    model.call(Call::FetchDispute(id.to_string()), NOW).body["data"].clone()
}

/// A good answer with some fields changed; `null` takes a field away.
fn resolve(model: &mut Model, id: u64, changes: Value) -> Answer {
    let mut body = json!({
        "resolution": "merchant-accepted", "message": "We are sorry", "refund_amount": 10_000,
        "uploaded_filename": "qesp8a4df1xejihd9x5q",
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    model.call(Call::ResolveDispute(id.to_string(), Some(body)), NOW)
}

fn decline(model: &mut Model, id: u64) -> Answer {
    resolve(model, id, json!({ "resolution": "declined", "refund_amount": 0 }))
}

#[test]
fn a_dispute_is_raised_on_what_was_paid() {
    let (mut model, id) = disputed();
    let said = events(&mut model);
    assert_eq!(names(&said), ["charge.dispute.create"]);
    let shown = fetch(&mut model, id);
    for (name, value) in [
        ("id", json!(id)),
        ("refund_amount", json!(10_000)),
        ("currency", json!("NGN")),
        ("status", json!("awaiting-merchant-feedback")),
        ("resolution", json!(null)),
        ("domain", json!("test")),
        ("category", json!("chargeback")),
        ("transaction_reference", json!(null)),
        ("bin", json!("408408")),
        ("last4", json!("4081")),
        ("dueAt", json!("2026-01-17T09:14:24.000Z")),
        ("resolvedAt", json!(null)),
        ("evidence", json!(null)),
        ("attachments", json!(null)),
        ("note", json!(null)),
    ] {
        assert_eq!((&shown[name], &said[0].data[name]), (&value, &value), "{name}");
    }
    assert_eq!(shown["transaction"]["reference"], "dep-1");
    assert_eq!(shown["transaction"]["status"], "success");
    assert_eq!(shown["customer"]["email"], "ada@example.com");
    assert_eq!(shown["history"][0]["status"], "pending");
    assert_eq!(shown["messages"][0]["body"], "Debited without value");
    assert!(shown.get("createdAt").is_some() && shown.get("created_at").is_none());
    assert!(said[0].data.get("created_at").is_some() && said[0].data.get("createdAt").is_none());
    let expected =
        Totals { collected: 10_000, disputed: 10_000, owed: 10_000, ..Totals::default() };
    assert_eq!(model.totals()["NGN"], expected);
}

#[test]
fn only_what_remains_can_be_contested() {
    let (mut model, _) = disputed();
    initialize(&mut model, asking(json!({ "reference": "dep-2" })));
    paid(&mut model, "dep-3", 10_000, "");
    let claim = |amount: u64| Claim { amount: Some(amount), ..Claim::default() };
    for (name, amount, why) in [
        ("dep-9", 1, Undisputable::Unpaid),
        ("dep-2", 1, Undisputable::Unpaid),
        ("dep-1", 1, Undisputable::Amount),
        ("dep-3", 0, Undisputable::Amount),
        ("dep-3", 10_001, Undisputable::Amount),
    ] {
        assert_eq!(model.raise(name, claim(amount), NOW).map(|_| ()), Err(why), "{name} {amount}");
    }
    // What is contested cannot be refunded as well.
    let body = json!({ "transaction": "dep-1", "amount": 1 });
    let refused = model.call(Call::CreateRefund(Some(body)), NOW);
    assert_eq!((refused.status, refused.body.get("code")), (400, None));
}

#[test]
fn every_four_hours_the_merchant_is_reminded_until_silence_accepts() {
    let (mut model, id) = disputed();
    events(&mut model);
    model.advance(hours(3));
    assert_eq!(names(&events(&mut model)), [""; 0]);
    model.advance(hours(8));
    let reminders = events(&mut model);
    assert_eq!(names(&reminders), ["charge.dispute.remind"; 2]);
    assert_eq!(reminders[0].data, reminders[1].data, "the same body by design");
    model.advance(hours(47));
    assert_eq!(names(&events(&mut model)), ["charge.dispute.remind"; 9]);
    model.advance(hours(1_000));
    let said = events(&mut model);
    assert_eq!(names(&said), ["charge.dispute.resolve"]);
    let data = &said[0].data;
    assert_eq!(
        (&data["status"], &data["resolution"]),
        (&json!("resolved"), &json!("auto-accepted"))
    );
    assert_eq!(data["resolvedAt"], "2026-01-17T09:14:24.000Z");
    assert_eq!(data["transaction"]["status"], "reversed");
    assert_eq!(fetch(&mut model, id)["history"][2]["status"], "resolved");
    let expected = Totals { collected: 10_000, lost: 10_000, owed: 0, ..Totals::default() };
    assert_eq!(model.totals()["NGN"], expected);
    assert_eq!(model.next_due(), None);
}

#[test]
fn what_the_merchant_accepts_goes_back_in_whole_or_in_part() {
    for (amount, owed) in [(10_000, 0), (4_000, 6_000)] {
        let (mut model, id) = disputed();
        events(&mut model);
        let answer = resolve(&mut model, id, json!({ "refund_amount": amount }));
        assert_eq!(answer.body["message"], "Dispute successfully resolved");
        let data = &answer.body["data"];
        assert_eq!((answer.status, &data["status"]), (200, &json!("resolved")));
        assert_eq!(data["resolution"], "merchant-accepted");
        assert_eq!(data["message"]["body"], "We are sorry");
        assert!(data["transaction"].is_u64());
        let said = events(&mut model);
        assert_eq!(names(&said), ["charge.dispute.resolve"]);
        assert_eq!(said[0].data["refund_amount"], amount);
        assert_eq!(said[0].data["transaction"]["status"], "reversed");
        assert_eq!(model.totals()["NGN"].owed, owed);
        model.advance(hours(1_000));
        assert_eq!(names(&events(&mut model)), [""; 0]);
        assert_eq!(resolve(&mut model, id, json!({})).status, 400, "it is over");
    }
}

#[test]
fn a_declined_claim_waits_for_the_bank_and_only_the_transaction_says_who_won() {
    for (verdict, status, refund_amount, owed) in
        [(Verdict::Won, "success", 0, 10_000), (Verdict::Reversed, "reversed", 10_000, 0)]
    {
        let (mut model, id) = disputed();
        events(&mut model);
        assert!(!model.decide(id, verdict, NOW), "nobody has declined it");
        let answer = decline(&mut model, id);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body["data"]["status"], "awaiting-bank-feedback");
        model.advance(hours(1_000));
        assert_eq!(names(&events(&mut model)), [""; 0], "the bank takes its time");
        assert!(model.decide(id, verdict, hours(1_000)));
        assert!(!model.decide(id, verdict, hours(1_000)));
        let said = events(&mut model);
        assert_eq!(names(&said), ["charge.dispute.resolve"]);
        assert_eq!(said[0].data["status"], "resolved");
        assert_eq!(said[0].data["resolution"], "declined");
        assert_eq!(said[0].data["refund_amount"], refund_amount);
        assert_eq!(said[0].data["transaction"]["status"], status);
        assert_eq!(model.totals()["NGN"].owed, owed);
    }
}

#[test]
fn an_answer_to_a_dispute_is_checked() {
    let (mut model, id) = disputed();
    for (changes, status, message) in [
        (json!({ "resolution": null }), 400, "\"resolution\" is required"),
        (
            json!({ "resolution": "perhaps" }),
            400,
            "\"resolution\" must be one of [merchant-accepted, declined]",
        ),
        (json!({ "message": "" }), 400, "\"message\" is not allowed to be empty"),
        (json!({ "refund_amount": null }), 400, "\"refund_amount\" is required"),
        (
            json!({ "refund_amount": 10_001 }),
            400,
            "Refund amount cannot be greater than initial amount",
        ),
        (json!({ "uploaded_filename": null }), 400, "\"uploaded_filename\" is required"),
        (json!({ "evidence": 7 }), 404, "Evidence not found"),
    ] {
        let answer = resolve(&mut model, id, changes.clone());
        let said = (answer.status, answer.body["message"].as_str());
        assert_eq!(said, (status, Some(message)), "{changes}");
    }
    assert_eq!(fetch(&mut model, id)["status"], "awaiting-merchant-feedback");
    assert_eq!(resolve(&mut model, 7, json!({})).status, 404);
}

#[test]
fn an_update_answers_a_list_of_one() {
    let (mut model, id) = disputed();
    let update = |model: &mut Model, body: Value| {
        model.call(Call::UpdateDispute(id.to_string(), Some(body)), NOW)
    };
    let answer = update(&mut model, json!({ "refund_amount": 4_000, "uploaded_filename": "f" }));
    assert_eq!((answer.status, answer.body["data"].as_array().unwrap().len()), (200, 1));
    assert_eq!(answer.body["data"][0]["refund_amount"], 4_000);
    assert_eq!(answer.body["data"][0]["attachments"], "f");
    let refused = update(&mut model, json!({ "refund_amount": 10_001 }));
    let why = "Refund amount cannot be greater than initial amount";
    assert_eq!((refused.status, &refused.body["message"]), (400, &json!(why)));
    assert_eq!(update(&mut model, json!({})).body["code"], "missing_params");
    // Silence accepts what was offered last.
    model.advance(hours(48));
    assert_eq!(model.totals()["NGN"].lost, 4_000);
}

#[test]
fn evidence_is_kept_and_can_be_named() {
    let (mut model, id) = disputed();
    let mut body = json!({
        "customer_email": "ada@example.com", "customer_name": "Ada Obi",
        "customer_phone": "+2348100000000", "service_details": "Two cups",
        "delivery_address": "1 Marina, Lagos", "delivery_date": "2026-01-14",
    });
    let add = |model: &mut Model, body: &Value| {
        model.call(Call::AddEvidence(id.to_string(), Some(body.clone())), NOW)
    };
    let answer = add(&mut model, &body);
    assert_eq!((answer.status, &answer.body["message"]), (200, &json!("Evidence created")));
    let evidence = answer.body["data"].clone();
    assert_eq!(
        (&evidence["dispute"], &evidence["service_details"]),
        (&json!(id), &json!("Two cups"))
    );
    assert_eq!(fetch(&mut model, id)["evidence"]["id"], evidence["id"]);
    let named = json!({
        "resolution": "declined", "refund_amount": 0, "evidence": evidence["id"],
    });
    assert_eq!(resolve(&mut model, id, named).status, 200);

    let (mut model, _) = disputed();
    body["service_details"] = Value::Null;
    assert_eq!(add(&mut model, &body).body["code"], "missing_params");
}

#[test]
fn an_upload_needs_the_right_kind_of_file() {
    let (mut model, id) = disputed();
    let ask = |model: &mut Model, parameters: Parameters| {
        model.call(Call::UploadUrl(id.to_string(), parameters), NOW)
    };
    assert_eq!(ask(&mut model, Parameters::default()).body["code"], "missing_params");
    let refused = ask(&mut model, [("upload_filename", "proof.exe")].into());
    assert_eq!(refused.body["code"], "invalid_params");
    for name in ["proof.jpg", "proof.JPEG", "a.b.pdf"] {
        let answer = ask(&mut model, [("upload_filename", name)].into());
        let url = answer.body["data"]["signedUrl"].as_str().unwrap();
        let file = answer.body["data"]["fileName"].as_str().unwrap();
        assert!(url.starts_with(&format!("http://sandbox/uploads/{id}/{file}?")), "{url}");
    }
}

#[test]
fn disputes_are_listed_filtered_and_paged() {
    let mut model = model();
    let first = paid(&mut model, "dep-1", 10_000, "").id.to_string();
    paid(&mut model, "dep-2", 10_000, "");
    for (name, amount, category) in [
        ("dep-1", 1_000, Category::Chargeback),
        ("dep-2", 2_000, Category::Fraud),
        ("dep-1", 3_000, Category::General),
    ] {
        let claim = Claim { amount: Some(amount), category, ..Claim::default() };
        model.raise(name, claim, NOW).unwrap();
    }
    let fraud = model.disputes().nth(1).unwrap().id;
    resolve(&mut model, fraud, json!({ "refund_amount": 2_000 }));
    let list = |model: &mut Model, parameters: Parameters| {
        let answer = model.call(Call::ListDisputes(parameters), NOW);
        assert_eq!(answer.body["message"], "Disputes retrieved");
        let data = answer.body["data"].as_array().unwrap();
        data.iter().map(|it| it["refund_amount"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    for (parameters, amounts) in [
        (Parameters::default(), vec![3_000, 2_000, 1_000]),
        ([("status", "resolved")].into(), vec![2_000]),
        ([("status", "awaiting-merchant-feedback")].into(), vec![3_000, 1_000]),
        ([("transaction", first.as_str())].into(), vec![3_000, 1_000]),
        ([("perPage", "2"), ("page", "2")].into(), vec![1_000]),
        ([("from", "2026-01-16")].into(), vec![]),
        ([("use_cursor", "true"), ("perPage", "1")].into(), vec![3_000]),
    ] {
        assert_eq!(list(&mut model, parameters.clone()), amounts, "{parameters:?}");
    }
    let latest = model.call(Call::DisputeOf(first), NOW);
    assert_eq!(latest.body["data"]["refund_amount"], 3_000);
    assert_eq!(model.call(Call::DisputeOf("7".to_owned()), NOW).status, 404);
}
