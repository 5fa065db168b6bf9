//! Refunds without HTTP: who may have money back, how it moves, and what is said about it.

use std::time::Duration;

use primitives::Timestamp;
use proptest::prelude::*;
use sandbox::paystack::Answer;
use sandbox::paystack::model::{
    Attempt, Call, Claim, Event, Model, Outcome, Parameters, RefundStatus, Settings, Status,
    Totals, Verdict,
};
use serde_json::{Value, json};

use crate::model::{NOW, access_code, asking, initialize, model, paid, settings};

const REFUND_FAILS: &str = "4084080000671803";
const REFUND_NEEDS_ATTENTION: &str = "4084080000671902";

fn at(ms: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(ms))
}

fn refund(model: &mut Model, body: Value) -> Answer {
    model.call(Call::CreateRefund(Some(body)), NOW)
}

/// Asks for a refund and leaves it to itself until it has ended.
fn refunded(model: &mut Model, body: Value) -> u64 {
    let answer = refund(model, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    model.advance(at(1_500));
    answer.body["data"]["id"].as_u64().unwrap()
}

fn events(model: &mut Model) -> Vec<Event> {
    model.take_effects().events
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|it| it.name).collect()
}

fn shown(model: &Model, reference: &str) -> &'static str {
    model.find(reference).unwrap().status.as_str()
}

#[test]
fn a_refund_is_queued_and_its_transaction_is_an_object() {
    let mut model = model();
    let of = paid(&mut model, "dep-1", 1_000_000, "");
    let body = json!({
        "transaction": "dep-1", "amount": 400_000, "currency": "NGN",
        "customer_note": "Sorry ₦", "merchant_note": "wrong size",
    });
    let answer = refund(&mut model, body);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["message"], "Refund has been queued for processing");
    let data = &answer.body["data"];
    for (name, value) in [
        ("status", json!("pending")),
        ("amount", json!(400_000)),
        ("deducted_amount", json!(0)),
        ("fully_deducted", json!(false)),
        ("currency", json!("NGN")),
        ("domain", json!("test")),
        ("channel", json!(null)),
        ("customer_note", json!("Sorry ₦")),
        ("merchant_note", json!("wrong size")),
        ("createdAt", json!("2026-01-15T09:14:24.000Z")),
        ("expected_at", json!("2026-01-25T09:14:24.000Z")),
    ] {
        assert_eq!(data[name], value, "{name}");
    }
    assert_eq!(data["transaction"]["id"], of.id);
    assert_eq!(data["transaction"]["reference"], "dep-1");
    assert_eq!(data["transaction"]["amount"], 1_000_000);
    assert!(data.get("created_at").is_none());

    let id = data["id"].as_u64().unwrap();
    let fetched = model.call(Call::FetchRefund(id.to_string()), NOW).body;
    assert_eq!(fetched["message"], "Refund retrieved");
    assert_eq!(fetched["data"]["transaction"], of.id);
    assert_eq!(fetched["data"]["merchant_note"], "wrong size");
    assert!(fetched["data"].get("createdAt").is_some());
    let listed = model.call(Call::ListRefunds(Parameters::default()), NOW).body;
    assert_eq!(listed["message"], "Refunds retrieved");
    assert_eq!(listed["data"][0]["transaction"], of.id);
    assert!(listed["data"][0].get("created_at").is_some());
    assert!(listed["data"][0].get("createdAt").is_none());
    assert_eq!(fetched["data"]["fully_deducted"], 0);
    assert_eq!(listed["data"][0]["fully_deducted"], Value::Null);
    model.advance(at(1_500));
    let listed = model.call(Call::ListRefunds(Parameters::default()), at(1_500)).body;
    assert_eq!(listed["data"][0]["fully_deducted"], 1);
}

#[test]
fn an_amount_may_be_left_out_or_be_text_and_the_id_will_do() {
    let mut model = model();
    let of = paid(&mut model, "dep-1", 10_000, "");
    for (body, amount) in [
        (json!({ "transaction": of.id, "amount": "1000" }), 1_000),
        (json!({ "transaction": of.id.to_string(), "amount": 2_000, "currency": null }), 2_000),
        (json!({ "transaction": "dep-1", "amount": null, "merchant_note": null }), 7_000),
    ] {
        let answer = refund(&mut model, body.clone());
        assert_eq!(
            (answer.status, &answer.body["data"]["amount"]),
            (200, &json!(amount)),
            "{body}"
        );
    }
}

#[test]
fn what_cannot_be_refunded_is_refused() {
    let mut model = model();
    paid(&mut model, "dep-1", 10_000, "");
    paid(&mut model, "dep-2", 10_000, "");
    initialize(&mut model, asking(json!({ "reference": "dep-3" })));
    refunded(&mut model, json!({ "transaction": "dep-2" }));
    for (body, status, code, message) in [
        (json!([]), 400, "invalid_params", "The request body must be a JSON object"),
        (json!({}), 400, "missing_params", "Transaction reference is required"),
        (json!({ "transaction": "dep-9" }), 404, "transaction_not_found", "Transaction not found"),
        (
            json!({ "transaction": "dep-2" }),
            400,
            "transaction_reversed",
            "Transaction has been fully reversed",
        ),
        (
            json!({ "transaction": "dep-3" }),
            400,
            "",
            "Only a successful transaction can be refunded",
        ),
        (
            json!({ "transaction": "dep-1", "amount": 10_001 }),
            400,
            "",
            "Refund amount cannot be more than what remains of the transaction",
        ),
        (
            json!({ "transaction": "dep-1", "amount": 0 }),
            400,
            "invalid_params",
            "\"amount\" must be greater than 0",
        ),
        (
            json!({ "transaction": "dep-1", "amount": -1 }),
            400,
            "invalid_params",
            "\"amount\" must be a number",
        ),
        (
            json!({ "transaction": "dep-1", "currency": "USD" }),
            400,
            "invalid_params",
            "\"currency\" must be the currency of the transaction",
        ),
    ] {
        let before = model.refunds().count();
        let answer = refund(&mut model, body.clone());
        let said = (answer.status, answer.body["code"].as_str().unwrap_or_default());
        assert_eq!((said, answer.body["message"].as_str()), ((status, code), Some(message)));
        assert_eq!(model.refunds().count(), before, "{body}");
    }
    let reversed = refund(&mut model, json!({ "transaction": "dep-2" })).body;
    assert_eq!(reversed["type"], "api_error");
}

#[test]
fn two_equal_calls_make_two_refunds_up_to_what_was_paid() {
    let mut model = model();
    paid(&mut model, "dep-1", 10_000, "");
    let half = json!({ "transaction": "dep-1", "amount": 5_000 });
    let ids = [refund(&mut model, half.clone()), refund(&mut model, half.clone())];
    assert!(ids.iter().all(|answer| answer.status == 200));
    assert_ne!(ids[0].body["data"]["id"], ids[1].body["data"]["id"]);
    assert_eq!(refund(&mut model, half).body["code"], "transaction_reversed");
    let events = events(&mut model);
    assert_eq!(names(&events), ["refund.pending", "refund.pending"]);
    assert_eq!(events[0].data, events[1].data, "nothing tells them apart");
}

#[test]
fn a_refund_moves_by_the_clock_and_says_so_in_odd_ways() {
    let mut model = model();
    paid(&mut model, "dep-1", 10_000, "");
    refund(&mut model, json!({ "transaction": "dep-1", "amount": 4_000 }));
    assert_eq!(shown(&model, "dep-1"), "reversal_pending");
    assert_eq!(model.next_due(), Some(at(500)));
    model.advance(at(499));
    assert_eq!(model.refunds().next().unwrap().status, RefundStatus::Pending);
    model.advance(at(500));
    assert_eq!(model.refunds().next().unwrap().status, RefundStatus::Processing);
    assert_eq!(shown(&model, "dep-1"), "reversal_pending");
    model.advance(at(1_500));
    let refund = model.refunds().next().unwrap().clone();
    assert_eq!(refund.status, RefundStatus::Processed);
    assert_eq!(refund.refunded_at_us, Some(at(1_500).micros()));
    // In part, too.
    assert_eq!(shown(&model, "dep-1"), "reversed");
    assert_eq!(model.next_due(), None);

    let said = events(&mut model);
    assert_eq!(names(&said), ["refund.pending", "refund.processing", "refund.processed"]);
    for event in &said {
        assert_eq!(event.reference, "dep-1");
        assert_eq!(event.data["transaction_reference"], "dep-1");
        assert_eq!(event.data["amount"], "4000");
        assert_eq!(event.data["customer"]["email"], "ada@example.com");
        assert!(event.data.get("id").is_none());
    }
    assert_eq!(said[0].data["refund_reference"], Value::Null);
    assert_eq!(said[0].data["processor"], "instant-transfer");
    assert_eq!(said[2].data["refund_reference"].as_str().unwrap().len(), 12);
    assert_eq!(said[2].data["processor"], "mpgs_zen");
}

#[test]
fn a_refund_that_fails_leaves_the_money_where_it_was() {
    let mut model = model();
    paid(&mut model, "dep-1", 10_000, REFUND_FAILS);
    refunded(&mut model, json!({ "transaction": "dep-1" }));
    assert_eq!(shown(&model, "dep-1"), "success");
    let said = events(&mut model);
    assert_eq!(names(&said), ["refund.pending", "refund.processing", "refund.failed"]);
    assert_eq!(said[2].data["amount"], 10_000);
    assert!(said[2].data["refund_reference"].as_str().unwrap().starts_with("TRF_"));
    let expected = Totals { collected: 10_000, owed: 10_000, ..Totals::default() };
    assert_eq!(model.totals()["NGN"], expected);
    // It can be tried again.
    assert_eq!(refund(&mut model, json!({ "transaction": "dep-1" })).status, 200);
}

#[test]
fn a_refund_that_needs_attention_goes_on_with_an_account() {
    let mut model = model();
    paid(&mut model, "dep-1", 10_000, REFUND_NEEDS_ATTENTION);
    let id = refunded(&mut model, json!({ "transaction": "dep-1", "merchant_note": "mine" }));
    assert_eq!(shown(&model, "dep-1"), "reversal_pending");
    let said = events(&mut model).pop().unwrap();
    assert_eq!(said.name, "refund.needs-attention");
    assert_eq!((&said.data["id"], &said.data["amount"]), (&json!(id.to_string()), &json!(10_000)));
    assert_eq!(said.data["merchant_note"], "mine");
    assert!(said.data.get("processor").is_none());

    let account = json!({ "refund_account_details": { "currency": "NGN", "account_number": "0000000000", "bank_id": "9" } });
    let retry = |model: &mut Model, body: &Value| {
        model.call(Call::RetryRefund(id.to_string(), Some(body.clone())), at(2_000))
    };
    assert_eq!(retry(&mut model, &json!({})).body["code"], "missing_params");
    let answer = retry(&mut model, &account);
    assert_eq!(answer.body["message"], "Refund retried and has been queued for processing");
    assert_eq!((answer.status, &answer.body["data"]["status"]), (200, &json!("processing")));
    let refused = retry(&mut model, &account);
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("invalid_params")));
    let why = "Invalid Refund state, refund status should be \"needs-attention\"";
    assert_eq!(refused.body["message"], why);
    model.advance(at(3_000));
    assert_eq!(shown(&model, "dep-1"), "reversed");
    assert_eq!(names(&events(&mut model)), ["refund.processing", "refund.processed"]);
}

#[test]
fn the_processor_can_be_told_what_to_do() {
    let mut model = model();
    paid(&mut model, "dep-1", 10_000, "");
    let answer = refund(&mut model, json!({ "transaction": "dep-1" }));
    let id = answer.body["data"]["id"].as_u64().unwrap();
    let set = |model: &mut Model, next| model.set_refund(id, next, NOW).map(|it| it.status);
    assert_eq!(set(&mut model, RefundStatus::Pending), None);
    let attention = RefundStatus::NeedsAttention;
    assert_eq!(set(&mut model, attention), Some(attention));
    model.advance(at(60_000));
    assert_eq!(shown(&model, "dep-1"), "reversal_pending", "the clock no longer moves it");
    assert_eq!(set(&mut model, RefundStatus::Failed), Some(RefundStatus::Failed));
    assert_eq!(set(&mut model, RefundStatus::Processed), None, "it is over");
    assert_eq!(model.set_refund(7, RefundStatus::Failed, NOW), None);
    assert_eq!(shown(&model, "dep-1"), "success");
}

#[test]
fn refunds_are_found_by_the_transactions_id_and_not_by_its_reference() {
    let mut model = model();
    let first = paid(&mut model, "dep-1", 10_000, "").id.to_string();
    paid(&mut model, "dep-2", 10_000, "");
    for (transaction, amount) in [("dep-1", 1_000), ("dep-2", 2_000), ("dep-1", 3_000)] {
        refund(&mut model, json!({ "transaction": transaction, "amount": amount }));
    }
    let list = |model: &mut Model, parameters: Parameters| {
        let body = model.call(Call::ListRefunds(parameters), NOW).body;
        let data = body["data"].as_array().unwrap();
        data.iter().map(|it| it["amount"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    for (parameters, amounts) in [
        (Parameters::default(), vec![3_000, 2_000, 1_000]),
        ([("transaction", first.as_str())].into(), vec![3_000, 1_000]),
        ([("transaction", "dep-1")].into(), vec![]),
        ([("currency", "USD")].into(), vec![3_000, 2_000, 1_000]),
        ([("perPage", "1"), ("page", "2")].into(), vec![2_000]),
        ([("from", "2026-01-16")].into(), vec![]),
        ([("to", "2026-01-16")].into(), vec![3_000, 2_000, 1_000]),
    ] {
        assert_eq!(list(&mut model, parameters.clone()), amounts, "{parameters:?}");
    }
    let answer = model.call(Call::ListRefunds([("perPage", "2")].into()), NOW);
    let meta = json!({
        "total": 3, "skipped": 0, "perPage": 2, "page": 1, "pageCount": 2, "failedRefundCount": 0,
    });
    assert_eq!(answer.body["meta"], meta);
    assert_eq!(model.call(Call::FetchRefund("7".to_owned()), NOW).status, 404);
    assert_eq!(model.call(Call::FetchRefund("x".to_owned()), NOW).status, 400);
}

#[test]
fn too_little_balance_refuses_a_refund_if_that_is_wanted() {
    let mut model = Model::new(Settings { refunds_need_balance: true, ..settings() }, 1);
    paid(&mut model, "dep-1", 10_000, "");
    model.settle();
    let refused = refund(&mut model, json!({ "transaction": "dep-1" }));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.body["message"], "Your balance is not enough to fulfil this request");
    paid(&mut model, "dep-2", 6_000, "");
    let part = |amount: u64| json!({ "transaction": "dep-1", "amount": amount });
    assert_eq!(refund(&mut model, part(6_001)).status, 400);
    assert_eq!(refund(&mut model, part(6_000)).status, 200);
    assert_eq!(refund(&mut model, part(1)).status, 400);
}

#[test]
fn what_was_written_down_goes_on_where_it_was() {
    let mut before = model();
    paid(&mut before, "dep-1", 10_000, "");
    refund(&mut before, json!({ "transaction": "dep-1", "amount": 1_000 }));
    let mut after = model();
    let code = access_code(&initialize(&mut before, asking(json!({ "reference": "dep-2" }))));
    before.pay(&code, Attempt::new(Outcome::Success), NOW).unwrap();
    before.raise("dep-2", Claim::default(), NOW).unwrap();
    // Everything as it went through a file; the first states are gone.
    let mut kept = vec![];
    for it in before.transactions() {
        kept.push(serde_json::to_string(it).unwrap());
    }
    kept.extend(before.take_effects().kept.iter().map(|it| serde_json::to_string(it).unwrap()));
    for line in kept {
        after.restore(serde_json::from_str(&line).unwrap());
    }
    assert!(after.transactions().eq(before.transactions()));
    assert!(after.refunds().eq(before.refunds()));
    assert!(after.disputes().eq(before.disputes()));
    let later = NOW.plus(Duration::from_secs(100 * 60 * 60));
    before.advance(later);
    after.advance(later);
    assert_eq!(after.totals(), before.totals());
    assert_eq!(after.totals()["NGN"].owed, 9_000);
}

/// One thing that happens to money that was paid.
#[derive(Debug, Clone)]
enum Step {
    Refund { of: usize, amount: u64 },
    Move { nth: usize, to: RefundStatus },
    Raise { of: usize, amount: u64 },
    Answer { nth: usize, accept: bool, amount: u64 },
    Decide { nth: usize, verdict: Verdict },
    Wait { minutes: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let to = prop_oneof![
        Just(RefundStatus::Processing),
        Just(RefundStatus::NeedsAttention),
        Just(RefundStatus::Failed),
        Just(RefundStatus::Processed),
    ];
    let verdict = prop_oneof![Just(Verdict::Won), Just(Verdict::Reversed)];
    prop_oneof![
        (0..3usize, 0..12_000u64).prop_map(|(of, amount)| Step::Refund { of, amount }),
        (0..9usize, to).prop_map(|(nth, to)| Step::Move { nth, to }),
        (0..3usize, 0..12_000u64).prop_map(|(of, amount)| Step::Raise { of, amount }),
        (0..5usize, any::<bool>(), 0..12_000u64).prop_map(|(nth, accept, amount)| Step::Answer {
            nth,
            accept,
            amount
        }),
        (0..5usize, verdict).prop_map(|(nth, verdict)| Step::Decide { nth, verdict }),
        (0..3_000u64).prop_map(|minutes| Step::Wait { minutes }),
    ]
}

proptest! {
    #[test]
    fn never_more_goes_back_than_came(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = model();
        for (reference, card) in
            [("dep-0", ""), ("dep-1", REFUND_FAILS), ("dep-2", REFUND_NEEDS_ATTENTION)]
        {
            paid(&mut model, reference, 10_000, card);
        }
        let mut now = NOW;
        for step in steps {
            let refund = |nth| model.refunds().nth(nth).map(|it| it.id);
            let dispute = |nth| model.disputes().nth(nth).map(|it| it.id);
            match step {
                Step::Refund { of, amount } => {
                    let body = json!({ "transaction": format!("dep-{of}"), "amount": amount });
                    model.call(Call::CreateRefund(Some(body)), now);
                }
                Step::Move { nth, to } => {
                    let Some(id) = refund(nth) else { continue };
                    model.set_refund(id, to, now);
                }
                Step::Raise { of, amount } => {
                    let claim = Claim { amount: Some(amount), ..Claim::default() };
                    // A claim for too much is refused, which is what is tested.
                    model.raise(&format!("dep-{of}"), claim, now).ok();
                }
                Step::Answer { nth, accept, amount } => {
                    let Some(id) = dispute(nth) else { continue };
                    let body = json!({
                        "resolution": if accept { "merchant-accepted" } else { "declined" },
                        "message": "m", "refund_amount": amount, "uploaded_filename": "f",
                    });
                    model.call(Call::ResolveDispute(id.to_string(), Some(body)), now);
                }
                Step::Decide { nth, verdict } => {
                    let Some(id) = dispute(nth) else { continue };
                    model.decide(id, verdict, now);
                }
                Step::Wait { minutes } => {
                    now = now.plus(Duration::from_secs(60 * minutes));
                    model.advance(now);
                }
            }
            let sums = model.totals()["NGN"];
            prop_assert_eq!(sums.collected, 30_000);
            let (back, all) = (sums.refunded + sums.lost, sums.refunding + sums.disputed);
            prop_assert!(back + all <= 30_000, "{:?}", sums);
            prop_assert_eq!(sums.owed, 30_000 - back.cast_signed());
            for of in model.transactions() {
                let back = of.status == Status::Reversed;
                let none = of.status == Status::Success;
                prop_assert!(back || none || of.status == Status::ReversalPending);
                let of_it = |it: &&sandbox::paystack::model::Refund| it.transaction_id == of.id;
                let on_its_way =
                    model.refunds().filter(of_it).any(|it| !it.status.is_final());
                prop_assert_eq!(of.status == Status::ReversalPending, on_its_way);
            }
        }
    }
}
