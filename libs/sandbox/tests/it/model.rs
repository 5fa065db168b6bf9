//! Paystack's rules without HTTP: one line per case, and what holds for any run of calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use primitives::Timestamp;
use proptest::prelude::*;
use sandbox::paystack::Answer;
use sandbox::paystack::model::{
    Attempt, Call, Event, Model, Outcome, Parameters, Scope, Settings, Status, Transaction,
    Unpayable,
};
use serde_json::{Value, json};

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_768_468_464);

pub(crate) fn settings() -> Settings {
    Settings {
        domain: "test",
        public_url: "http://sandbox".to_owned(),
        currencies: vec!["NGN".to_owned(), "USD".to_owned()],
        calls_per_minute: None,
        strict_limits: false,
        fees_on_customer: false,
        refunds_need_balance: false,
        refund_pending: Duration::from_millis(500),
        refund_processing: Duration::from_secs(1),
    }
}

pub(crate) fn model() -> Model {
    Model::new(settings(), 1)
}

/// What somebody does at the checkout, and its webhook.
pub(crate) fn pay(
    model: &mut Model,
    code: &str,
    attempt: Attempt,
    now: Timestamp,
) -> Result<(Transaction, Option<Event>), Unpayable> {
    let paid = model.pay(code, attempt, now).cloned()?;
    Ok((paid, model.take_effects().events.pop()))
}

/// A transaction of this amount that was paid with this card.
pub(crate) fn paid(model: &mut Model, reference: &str, amount: u64, card: &str) -> Transaction {
    let body = asking(json!({ "reference": reference, "amount": amount }));
    let code = access_code(&initialize(model, body));
    let paid = pay(model, &code, Attempt::with_card(card), NOW).unwrap().0;
    assert_eq!(paid.status, Status::Success);
    paid
}

pub(crate) fn initialize(model: &mut Model, body: Value) -> Answer {
    model.call(Call::Initialize(Some(body)), NOW)
}

fn verify(model: &mut Model, reference: &str) -> Answer {
    model.call(Call::Verify(reference.to_owned()), NOW)
}

pub(crate) fn access_code(answer: &Answer) -> String {
    answer.body["data"]["access_code"].as_str().unwrap().to_owned()
}

/// A good body with some fields changed; `null` takes a field away.
pub(crate) fn asking(changes: Value) -> Value {
    let mut body = json!({ "email": "ada@example.com", "amount": 5_000, "reference": "dep-1" });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn initialize_answers_a_checkout() {
    let answer = initialize(&mut model(), asking(json!({})));
    let code = access_code(&answer);
    let expected = json!({
        "status": true,
        "message": "Authorization URL created",
        "data": {
            "authorization_url": format!("http://sandbox/checkout/{code}"),
            "access_code": code,
            "reference": "dep-1",
        },
    });
    assert_eq!((answer.status, answer.body), (200, expected));
}

#[test]
fn initialize_takes_what_real_clients_send() {
    for changes in [
        json!({ "amount": "5000" }),
        json!({ "amount": 1_000_000_000 }),
        json!({ "currency": "USD", "amount": 200 }),
        json!({ "currency": null, "callback_url": null, "metadata": null, "plan": null }),
        json!({ "reference": null }),
        json!({ "reference": "aZ0-.=" }),
        json!({ "callback_url": "http://127.0.0.1:8000/back?x=1" }),
        json!({ "channels": ["card", "bank_transfer"] }),
        json!({ "metadata": "{\"cart\":7}" }),
        json!({ "metadata": { "cart": 7 } }),
        json!({ "unknown": { "field": true } }),
    ] {
        assert_eq!(initialize(&mut model(), asking(changes.clone())).status, 200, "{changes}");
    }
}

#[test]
fn initialize_refuses_as_paystack_does() {
    let missing = "missing_params";
    let invalid = "invalid_params";
    let character = "invalid_character_in_reference";
    for (changes, code, message) in [
        (json!({ "email": null }), missing, "Email Address is required"),
        (json!({ "email": "" }), invalid, "\"email\" is not allowed to be empty"),
        (json!({ "email": "ada" }), invalid, "\"email\" must be a valid email"),
        (json!({ "email": "a b@example.com" }), invalid, "\"email\" must be a valid email"),
        (json!({ "email": 7 }), invalid, "\"email\" must be a valid email"),
        (json!({ "amount": null }), "", "Invalid Amount Sent"),
        (json!({ "amount": 50.5 }), "", "Invalid Amount Sent"),
        (json!({ "amount": -5 }), "", "Invalid Amount Sent"),
        (json!({ "amount": "5,000" }), "", "Invalid Amount Sent"),
        (json!({ "amount": 0 }), "", "You must specify a valid amount"),
        (json!({ "amount": 4_999 }), "", "You must specify a valid amount"),
        (json!({ "amount": 199, "currency": "USD" }), "", "You must specify a valid amount"),
        (json!({ "amount": 1_000_000_001 }), "", "Transaction amount limit exceeded"),
        (json!({ "currency": "EUR" }), "", "Currency not supported by merchant"),
        (json!({ "currency": 1 }), "", "Currency not supported by merchant"),
        (
            json!({ "reference": "wallet:1" }),
            character,
            "Invalid character in transaction reference",
        ),
        (json!({ "reference": "a/b" }), character, "Invalid character in transaction reference"),
        (json!({ "reference": "a_b" }), character, "Invalid character in transaction reference"),
        (json!({ "reference": "a,b" }), character, "Invalid character in transaction reference"),
        (json!({ "reference": "a b" }), character, "Invalid character in transaction reference"),
        (json!({ "reference": "" }), character, "Invalid character in transaction reference"),
        (json!({ "callback_url": "back" }), invalid, "\"callback_url\" must be a valid uri"),
        (
            json!({ "callback_url": "javascript:1" }),
            invalid,
            "\"callback_url\" must be a valid uri",
        ),
        (
            json!({ "channels": ["cash"] }),
            invalid,
            "\"channels\" must be an array of known channels",
        ),
        (json!({ "metadata": 7 }), invalid, "\"metadata\" must be an object or a string"),
    ] {
        let mut model = model();
        let answer = initialize(&mut model, asking(changes.clone()));
        assert_eq!(answer.status, 400, "{changes}");
        assert_eq!(answer.body["status"], false, "{changes}");
        assert_eq!(answer.body["message"], message, "{changes}");
        assert_eq!(answer.body["code"].as_str().unwrap_or_default(), code, "{changes}");
        assert_eq!(answer.body.get("type").is_some(), !code.is_empty(), "{changes}");
        assert_eq!(model.transactions().count(), 0, "{changes}");
    }
    for body in [None, Some(json!([])), Some(json!("x"))] {
        assert_eq!(model().call(Call::Initialize(body), NOW).status, 400);
    }
}

#[test]
fn a_reference_is_used_up_for_ever() {
    let mut model = model();
    let code = access_code(&initialize(&mut model, asking(json!({}))));
    let again = |model: &mut Model| {
        let answer = initialize(model, asking(json!({ "amount": 9_000 })));
        assert_eq!(answer.body["code"], "duplicate_reference");
        assert_eq!(answer.body["message"], "Duplicate Transaction Reference");
        assert!(answer.body["meta"]["nextStep"].as_str().unwrap().contains("new reference"));
    };
    again(&mut model);
    model.pay(&code, Attempt::new(Outcome::Failed), NOW).unwrap();
    again(&mut model);
    model.pay(&code, Attempt::new(Outcome::Success), NOW).unwrap();
    again(&mut model);
}

#[test]
fn verify_says_abandoned_until_it_is_paid() {
    let mut model = model();
    let code = access_code(&initialize(&mut model, asking(json!({ "amount": 1_000_000 }))));
    let unpaid = verify(&mut model, "dep-1");
    assert_eq!(
        (unpaid.status, unpaid.body["message"].as_str()),
        (200, Some("Verification successful"))
    );
    let data = &unpaid.body["data"];
    assert_eq!(data["status"], "abandoned");
    assert_eq!(data["gateway_response"], "The transaction was not completed");
    assert_eq!(data["metadata"], "");
    for name in
        ["paid_at", "paidAt", "fees", "log", "ip_address", "receipt_number", "plan", "source"]
    {
        assert_eq!(data.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(data["authorization"], json!({}));
    assert_eq!(data["created_at"], "2026-01-15T09:14:24.000Z");

    let attempt =
        Attempt { card: "4084 0800 0067 0037".to_owned(), ..Attempt::new(Outcome::Success) };
    assert_eq!(pay(&mut model, &code, attempt, NOW).unwrap().1, None);
    let failed = verify(&mut model, "dep-1");
    assert_eq!((failed.status, failed.body["data"]["status"].as_str()), (200, Some("failed")));
    assert_eq!(failed.body["data"]["gateway_response"], "Insufficient Funds");

    let later = NOW.plus(Duration::from_millis(38_500));
    let (_, event) = pay(&mut model, &code, Attempt::new(Outcome::Success), later).unwrap();
    let event = event.unwrap();
    let paid = verify(&mut model, "dep-1").body["data"].clone();
    for (name, value) in [
        ("status", json!("success")),
        ("amount", json!(1_000_000)),
        ("requested_amount", json!(1_000_000)),
        ("fees", json!(25_000)),
        ("currency", json!("NGN")),
        ("domain", json!("test")),
        ("gateway_response", json!("Successful")),
        ("paid_at", json!("2026-01-15T09:15:02.500Z")),
        ("paidAt", json!("2026-01-15T09:15:02.500Z")),
        ("channel", json!("card")),
    ] {
        assert_eq!(paid[name], value, "{name}");
        assert_eq!(event.data[name], value, "webhook's {name}");
    }
    assert_eq!(paid["log"]["errors"], 1);
    assert_eq!(event.data["log"], Value::Null);
    assert_eq!(event.data["metadata"], 0);
    assert_eq!(event.name, "charge.success");
}

#[test]
fn every_field_of_the_reference_is_there() {
    let mut model = model();
    let code = access_code(&initialize(&mut model, asking(json!({}))));
    let (_, event) = pay(&mut model, &code, Attempt::new(Outcome::Success), NOW).unwrap();
    let webhook = event.unwrap().data;
    let verified = verify(&mut model, "dep-1").body["data"].clone();
    let both = "id domain status reference amount message gateway_response paid_at created_at \
        channel currency ip_address metadata log fees fees_split authorization customer plan \
        split order_id paidAt requested_amount pos_transaction_data source fees_breakdown \
        subaccount";
    let only_verify = "receipt_number createdAt connect transaction_date plan_object";
    let names = |data: &Value| data.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(names(&webhook), words(both));
    assert_eq!(names(&verified), words(&format!("{both} {only_verify}")));
    let card = "authorization_code bin last4 exp_month exp_year channel card_type bank \
        country_code brand reusable signature account_name";
    assert_eq!(names(&webhook["authorization"]), words(card));
    let customer = "id first_name last_name email customer_code phone metadata risk_action \
        international_format_phone";
    assert_eq!(names(&webhook["customer"]), words(customer));
    assert!(verified["id"].as_u64().unwrap() > u64::from(u32::MAX));
}

#[test]
fn verify_and_fetch_refuse_as_paystack_does() {
    let mut model = model();
    for (call, status, message) in [
        (Call::Verify("nobodys".into()), 400, "Transaction reference not found."),
        (Call::Verify("a:b".into()), 400, "Invalid character in transaction reference"),
        (Call::Verify(String::new()), 400, "Transaction ID should be numeric."),
        (Call::Fetch("dep-1".into()), 400, "Transaction ID should be numeric."),
        (Call::Fetch("7".into()), 404, "Transaction not found"),
    ] {
        let answer = model.call(call.clone(), NOW);
        assert_eq!(
            (answer.status, answer.body["message"].as_str()),
            (status, Some(message)),
            "{call:?}"
        );
    }
    assert_eq!(verify(&mut model, "nobodys").body["code"], "transaction_not_found");
    initialize(&mut model, asking(json!({})));
    let id = model.find("dep-1").unwrap().id;
    let fetched = model.call(Call::Fetch(id.to_string()), NOW);
    assert_eq!(fetched.body["message"], "Transaction retrieved");
    assert_eq!(fetched.body["data"]["reference"], "dep-1");
}

#[test]
fn fees_are_the_local_ones() {
    for (amount, fee) in [
        (5_641_000, 94_615),
        (1_000_000, 25_000),
        (249_900, 3_749),
        (250_000, 13_750),
        (100_000_000, 200_000),
    ] {
        let mut model = model();
        let code = access_code(&initialize(&mut model, asking(json!({ "amount": amount }))));
        pay(&mut model, &code, Attempt::new(Outcome::Success), NOW).unwrap();
        assert_eq!(verify(&mut model, "dep-1").body["data"]["fees"], fee, "{amount}");
    }
}

#[test]
fn metadata_comes_back_as_it_was_sent_or_oddly_empty() {
    for (sent, verified, listed) in [
        (Value::Null, json!(""), Value::Null),
        (json!(""), json!(""), Value::Null),
        (json!({ "a": "₦/" }), json!({ "a": "₦/" }), json!({ "a": "₦/" })),
        (json!("{\"a\":1}"), json!({ "a": 1 }), json!({ "a": 1 })),
        (json!("words"), json!("words"), json!("words")),
    ] {
        let mut model = model();
        initialize(&mut model, asking(json!({ "metadata": sent })));
        assert_eq!(verify(&mut model, "dep-1").body["data"]["metadata"], verified);
        let list = model.call(Call::List(Parameters::default()), NOW);
        assert_eq!(list.body["data"][0]["metadata"], listed);
    }
}

#[test]
fn each_scope_has_its_calls_a_minute() {
    let mut model = model();
    for (call, scope) in [
        (Call::Verify("dep-1".to_owned()), Scope::Verify),
        (Call::Initialize(None), Scope::Initialize),
        (Call::Fetch("1".to_owned()), Scope::Other),
        (Call::CreateRefund(None), Scope::Other),
        (Call::ListDisputes(Parameters::default()), Scope::Other),
    ] {
        assert_eq!(call.scope(), scope, "{call:?}");
    }
    assert_eq!(model.admit(Scope::Initialize, NOW).limit, 1_200);
    let first = model.admit(Scope::Verify, NOW);
    assert_eq!(
        (first.limit, first.remaining, first.reset, first.exceeded),
        (3_000, 2_999, 60, false)
    );
    for n in 1..=601 {
        assert_eq!(model.admit(Scope::Other, NOW).exceeded, n > 600, "{n}");
    }
    let almost = NOW.plus(Duration::from_secs(59));
    let refused = model.admit(Scope::Other, almost);
    assert_eq!((refused.remaining, refused.reset, refused.exceeded), (0, 1, true));
    assert!(!model.admit(Scope::Other, NOW.plus(Duration::from_secs(60))).exceeded);
    assert!(!model.admit(Scope::Verify, NOW).exceeded);
}

#[test]
fn a_test_key_has_one_limit_for_everything_if_that_is_wanted() {
    let mut strict = Model::new(Settings { strict_limits: true, ..settings() }, 1);
    for n in 1..=101 {
        let scope = [Scope::Initialize, Scope::Verify, Scope::Other][n % 3];
        let rate = strict.admit(scope, NOW);
        assert_eq!((rate.limit, rate.exceeded), (100, n > 100), "{n}");
    }
    let live = Settings { strict_limits: true, domain: "live", ..settings() };
    assert_eq!(Model::new(live, 1).admit(Scope::Verify, NOW).limit, 3_000);
    let own = Settings { calls_per_minute: Some(7), ..settings() };
    assert_eq!(Model::new(own, 1).admit(Scope::Verify, NOW).limit, 7);
}

#[test]
fn other_money_than_asked_for_is_told_truthfully() {
    let mut model = model();
    let code = access_code(&initialize(&mut model, asking(json!({}))));
    let attempt = Attempt {
        other_amount: Some(7_777),
        other_currency: Some("USD".to_owned()),
        ..Attempt::new(Outcome::Success)
    };
    let (_, event) = pay(&mut model, &code, attempt, NOW).unwrap();
    let webhook = event.unwrap().data;
    let verified = verify(&mut model, "dep-1").body["data"].clone();
    for data in [webhook, verified] {
        assert_eq!(data["amount"], 7_777);
        assert_eq!(data["requested_amount"], 5_000);
        assert_eq!(data["currency"], "USD");
        assert_eq!(data["fees"], Value::Null);
    }
    assert_eq!(model.collected(), BTreeMap::from([("USD".to_owned(), 7_777)]));
}

/// One thing somebody does to the merchant's account.
#[derive(Debug, Clone)]
enum Step {
    Initialize { reference: u8, amount: u64, usd: bool },
    Pay { nth: usize, outcome: Outcome, card: &'static str },
    Reverse { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Success),
        1 => Just(Outcome::Failed),
        1 => Just(Outcome::Abandoned),
    ];
    let card = prop_oneof![Just(""), Just("4084084084084081"), Just("4084080000005408")];
    prop_oneof![
        (0..12u8, 1..2_000_000_000u64, any::<bool>())
            .prop_map(|(reference, amount, usd)| Step::Initialize { reference, amount, usd }),
        (0..12usize, outcome, card).prop_map(|(nth, outcome, card)| Step::Pay {
            nth,
            outcome,
            card
        }),
        (0..12usize).prop_map(|nth| Step::Reverse { nth }),
    ]
}

proptest! {
    #[test]
    fn money_is_counted_once_and_never_lost(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = model();
        let mut used = BTreeSet::new();
        let mut announced: BTreeMap<u64, Value> = BTreeMap::new();
        for step in steps {
            let before: BTreeMap<u64, Transaction> =
                model.transactions().map(|it| (it.id, it.clone())).collect();
            let name = |nth: usize| before.values().nth(nth).map(|it| it.access_code.clone());
            match step {
                Step::Initialize { reference, amount, usd } => {
                    let reference = format!("dep-{reference}");
                    let currency = if usd { "USD" } else { "NGN" };
                    let answer = initialize(&mut model, json!({
                        "email": "a@b.co", "amount": amount, "currency": currency,
                        "reference": reference,
                    }));
                    let fits = (if usd { 200 } else { 5_000 }..=1_000_000_000).contains(&amount);
                    prop_assert_eq!(answer.status == 200, fits && used.insert(reference.clone()));
                    if !fits {
                        prop_assert!(answer.body.get("code").is_none());
                    }
                }
                Step::Pay { nth, outcome, card } => {
                    let Some(code) = name(nth) else { continue };
                    let attempt = Attempt { card: card.to_owned(), ..Attempt::new(outcome) };
                    let was = before.values().nth(nth).unwrap().status;
                    match pay(&mut model, &code, attempt, NOW) {
                        Err(why) => {
                            prop_assert_eq!(why, Unpayable::Paid);
                            prop_assert!(matches!(was, Status::Success | Status::Reversed));
                        }
                        Ok((now, event)) => {
                            prop_assert!(matches!(was, Status::Abandoned | Status::Failed));
                            prop_assert_eq!(event.is_some(), now.status == Status::Success);
                            if let Some(event) = event {
                                prop_assert!(announced.insert(now.id, event.data).is_none());
                            }
                        }
                    }
                }
                Step::Reverse { nth } => {
                    let Some(code) = name(nth) else { continue };
                    let was = before.values().nth(nth).unwrap().status;
                    prop_assert_eq!(model.reverse(&code, NOW).is_some(), was == Status::Success);
                    prop_assert_eq!(model.take_effects().events, vec![]);
                }
            }
            for (id, old) in &before {
                let new = model.transactions().find(|it| it.id == *id).unwrap();
                prop_assert_eq!((&old.reference, old.requested_amount), (&new.reference, new.requested_amount));
                if old.status == Status::Success {
                    prop_assert!(matches!(new.status, Status::Success | Status::Reversed));
                }
                if old.status == Status::Reversed {
                    prop_assert_eq!(new.status, Status::Reversed);
                }
            }
            let mut sums: BTreeMap<String, u64> = BTreeMap::new();
            for (id, data) in &announced {
                let it = model.transactions().find(|it| it.id == *id).unwrap();
                let sum = sums.entry(data["currency"].as_str().unwrap().to_owned()).or_default();
                if it.status == Status::Success {
                    *sum += data["amount"].as_u64().unwrap();
                }
            }
            prop_assert_eq!(model.collected(), sums);
        }
    }

    #[test]
    fn no_body_makes_it_panic_and_every_refusal_has_an_envelope(text in "\\PC{0,40}", number in any::<i64>()) {
        for name in ["email", "amount", "currency", "reference", "callback_url", "channels", "metadata"] {
            for value in [json!(text), json!(number), json!([text]), json!({ "x": number })] {
                let mut model = model();
                let mut changes = json!({});
                changes[name] = value;
                let answer = initialize(&mut model, asking(changes));
                prop_assert!(answer.body["message"].is_string());
                prop_assert_eq!(answer.body["status"].as_bool(), Some(answer.status == 200));
            }
        }
        let verified = model().call(Call::Verify(text), NOW);
        prop_assert_eq!(verified.status, 400);
    }
}
