//! Lists of transactions: filters, pages, cursors; and what is said about all of them or one.

use std::time::Duration;

use sandbox::paystack::model::{Attempt, Call, Model, Outcome, Parameters};
use serde_json::{Value, json};

use crate::model::{NOW, access_code, asking, initialize, model, paid};

#[test]
fn lists_are_filtered_and_paged_newest_first() {
    let mut model = model();
    for n in 1..=5 {
        let body = asking(json!({ "reference": format!("dep-{n}"), "amount": 5_000 * n }));
        let at = NOW.plus(Duration::from_secs(86_400 * n));
        let answer = model.call(Call::Initialize(Some(body)), at);
        if n % 2 == 1 {
            model.pay(&access_code(&answer), Attempt::new(Outcome::Success), at).unwrap();
        }
    }
    let mut list = |parameters: &[(&str, &str)]| {
        let parameters =
            parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let answer = model.call(Call::List(Parameters(parameters)), NOW);
        let data = answer.body["data"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> =
            data.iter().map(|it| it["reference"].as_str().unwrap().to_owned()).collect();
        (answer.status, names.join(" "), answer.body["meta"].clone())
    };
    let (status, names, meta) = list(&[("perPage", "2"), ("page", "2")]);
    assert_eq!((status, names.as_str()), (200, "dep-3 dep-2"));
    let expected = json!({
        "total": 5, "total_volume": 45_000, "skipped": 2, "perPage": 2, "page": 2, "pageCount": 3,
    });
    assert_eq!(meta, expected);
    for (parameters, names) in [
        (vec![("status", "success")], "dep-5 dep-3 dep-1"),
        (vec![("status", "abandoned")], "dep-4 dep-2"),
        (vec![("from", "2026-01-17"), ("to", "2026-01-18T23:59:59.999Z")], "dep-3 dep-2"),
        (vec![("amount", "20000")], "dep-4"),
        (vec![("page", "9")], ""),
    ] {
        assert_eq!(list(&parameters).1, names, "{parameters:?}");
    }
    for bad in [("page", "0"), ("perPage", "x"), ("from", "yesterday"), ("amount", "x")] {
        assert_eq!(list(&[bad]).0, 400, "{bad:?}");
    }
}

#[test]
fn a_list_is_also_filtered_by_channel_and_customer() {
    let mut model = model();
    for (reference, email, channel) in [
        ("dep-1", "ada@example.com", "card"),
        ("dep-2", "ben@example.com", "card"),
        ("dep-3", "ada@example.com", "ussd"),
    ] {
        let body = asking(json!({ "reference": reference, "email": email }));
        let code = access_code(&initialize(&mut model, body));
        let channel = channel.to_owned();
        let attempt = Attempt { channel, ..Attempt::new(Outcome::Success) };
        model.pay(&code, attempt, NOW).unwrap();
    }
    let ada = model.find("dep-1").unwrap().customer_id.to_string();
    let names = |model: &mut Model, parameters: Parameters| {
        let answer = model.call(Call::List(parameters), NOW);
        let data = answer.body["data"].as_array().cloned().unwrap_or_default();
        data.iter().map(|it| it["reference"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut model, [("channel", "ussd")].into()), ["dep-3"]);
    assert_eq!(names(&mut model, [("customer", ada.as_str())].into()), ["dep-3", "dep-1"]);
    assert!(names(&mut model, [("customer", "7")].into()).is_empty());
}

#[test]
fn a_cursor_leads_on_and_back_and_new_things_do_not_shift_it() {
    let mut model = model();
    let open = |model: &mut Model, n: u64| {
        let body = asking(json!({ "reference": format!("dep-{n}") }));
        model.call(Call::Initialize(Some(body)), NOW.plus(Duration::from_secs(n)));
    };
    (1..=5).for_each(|n| open(&mut model, n));
    let page = |model: &mut Model, way: &str, cursor: &Value| {
        let mut parameters = Parameters::from([("use_cursor", "true"), ("perPage", "2")]);
        if let Some(cursor) = cursor.as_str() {
            parameters.0.insert(way.to_owned(), cursor.to_owned());
        }
        let answer = model.call(Call::List(parameters), NOW);
        let data = answer.body["data"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = data.iter().map(|it| it["reference"].as_str().unwrap()).collect();
        (names.join(" "), answer.body["meta"].clone())
    };
    let (names, first) = page(&mut model, "next", &Value::Null);
    assert_eq!(names, "dep-5 dep-4");
    assert_eq!((&first["previous"], &first["perPage"]), (&Value::Null, &json!(2)));
    assert_eq!(first.as_object().unwrap().len(), 3, "{first}");
    open(&mut model, 6);
    let (names, second) = page(&mut model, "next", &first["next"]);
    assert_eq!(names, "dep-3 dep-2");
    let (names, third) = page(&mut model, "next", &second["next"]);
    assert_eq!((names.as_str(), &third["next"]), ("dep-1", &Value::Null));
    let (names, _) = page(&mut model, "previous", &third["previous"]);
    assert_eq!(names, "dep-3 dep-2");
    let bad = Parameters::from([("use_cursor", "true"), ("next", "nonsense")]);
    assert_eq!(model.call(Call::List(bad), NOW).status, 400);
}

#[test]
fn totals_sum_what_is_paid() {
    let mut model = model();
    paid(&mut model, "dep-1", 5_000, "");
    paid(&mut model, "dep-2", 7_000, "");
    initialize(&mut model, asking(json!({ "reference": "dep-3" })));
    let answer = model.call(Call::Totals(Parameters::default()), NOW);
    assert_eq!(answer.body["message"], "Transaction totals");
    let expected = json!({
        "total_transactions": 3,
        "total_volume": 12_000,
        "total_volume_by_currency": [{ "currency": "NGN", "amount": 12_000 }],
        "pending_transfers": 0,
        "pending_transfers_by_currency": [],
    });
    assert_eq!(answer.body["data"], expected);
    let later = Call::Totals([("from", "2026-02-01")].into());
    assert_eq!(model.call(later, NOW).body["data"]["total_transactions"], 0);
}

#[test]
fn a_timeline_is_found_by_id_and_by_reference() {
    let mut model = model();
    let code = access_code(&initialize(&mut model, asking(json!({}))));
    let timeline = |model: &mut Model, name: &str| {
        let answer = model.call(Call::Timeline(name.to_owned()), NOW);
        (answer.status, answer.body)
    };
    assert_eq!(timeline(&mut model, "dep-1").1["data"]["attempts"], 0);
    model.pay(&code, Attempt::new(Outcome::Success), NOW).unwrap();
    let id = model.find("dep-1").unwrap().id.to_string();
    let (status, body) = timeline(&mut model, &id);
    assert_eq!((status, &body["message"]), (200, &json!("Timeline retrieved")));
    assert_eq!(body["data"]["history"][1]["type"], "success");
    assert_eq!(timeline(&mut model, "dep-1").1, body);
    assert_eq!(timeline(&mut model, "dep-9").0, 404);
}
