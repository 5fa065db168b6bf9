//! What the test cards and the other ways to pay do at the checkout.

use std::time::Duration;

use sandbox::paystack::model::{Attempt, Model, Outcome, Proof, Settings, Status};
use serde_json::json;

use crate::model::{NOW, access_code, asking, initialize, model, pay, settings};

#[test]
fn test_cards_have_their_known_outcome() {
    for (card, why) in [
        ("4084 0840 8408 4081", "Successful"),
        ("5078 5078 5078 5078 12", "Successful"),
        ("5060 6666 6666 6666 666", "Successful"),
        ("5078 5078 5078 5078 04", "Successful"),
        ("5192 6027 2058 4796", "Successful"),
        ("4084 0800 0067 1803", "Successful"),
        ("4084 0800 0067 1902", "Successful"),
        ("4084 0800 0000 5408", "Declined"),
        ("4084 0800 0067 0037", "Insufficient Funds"),
        (
            "5078 5078 5078 5078 53",
            "Token Not Generated. Customer Not Registered on Token Platform",
        ),
        ("4242 4242 4242 4242", "Declined"),
    ] {
        let mut model = model();
        let code = access_code(&initialize(&mut model, asking(json!({}))));
        let attempt = Attempt { card: card.to_owned(), ..Attempt::new(Outcome::Success) };
        let (paid, event) = pay(&mut model, &code, attempt, NOW).unwrap();
        assert_eq!(paid.gateway_response, why, "{card}");
        assert_eq!(event.is_some(), why == "Successful", "{card}");
    }
}

#[test]
fn a_wrong_answer_to_the_bank_is_a_refusal_and_no_answer_is_none() {
    let proof = Proof::default;
    let wrong_code = "Token Authentication Not Successful. Incorrect Token Generated";
    let expired = || Proof { expiry: "12/25".to_owned(), ..proof() };
    let expires = || Proof { expiry: "01/26".to_owned(), ..proof() };
    let cvv = |it: &str| Proof { cvv: it.to_owned(), ..proof() };
    let pin = |it: &str| Proof { pin: it.to_owned(), ..proof() };
    let otp = |it: &str| Proof { otp: it.to_owned(), ..proof() };
    for (card, proof, why) in [
        ("4084084084084081", cvv("408"), "Successful"),
        ("4084084084084081", cvv("409"), "Incorrect CVV"),
        ("4084084084084081", expires(), "Successful"),
        ("4084084084084081", expired(), "Expired Card"),
        ("4084084084084081", pin("9999"), "Successful"),
        ("507850785078507812", pin("1111"), "Successful"),
        ("507850785078507812", pin("1112"), "Incorrect PIN"),
        ("5060666666666666666", otp("123456"), "Successful"),
        ("5060666666666666666", otp("654321"), wrong_code),
        ("507850785078507804", pin("1234"), "Incorrect PIN"),
        ("4084080000670037", cvv("787"), "Insufficient Funds"),
        ("4084080000670037", cvv("1"), "Incorrect CVV"),
    ] {
        let mut model = model();
        let code = access_code(&initialize(&mut model, asking(json!({}))));
        let attempt = Attempt { proof: proof.clone(), ..Attempt::with_card(card) };
        let (paid, event) = pay(&mut model, &code, attempt, NOW).unwrap();
        assert_eq!(paid.gateway_response, why, "{card} {proof:?}");
        assert_eq!(event.is_some(), why == "Successful", "{card} {proof:?}");
    }
}

#[test]
fn only_a_channel_the_merchant_left_open_can_be_taken() {
    let birthday = |it: &str| Proof { birthday: it.to_owned(), ..Proof::default() };
    for (open, channel, proof, taken, why) in [
        (json!(null), "", birthday(""), "card", "Successful"),
        (json!(null), "bank_transfer", birthday(""), "bank_transfer", "Successful"),
        (json!(["bank", "ussd"]), "", birthday(""), "bank", "Successful"),
        (json!(["bank", "ussd"]), "ussd", birthday(""), "ussd", "Successful"),
        (json!(["card"]), "ussd", birthday(""), "ussd", "Channel not available"),
        (json!(null), "bank", birthday("2007-04-15"), "bank", "Successful"),
        (json!(null), "bank", birthday("2007-04-16"), "bank", "Incorrect Date of Birth"),
    ] {
        let mut model = model();
        let code = access_code(&initialize(&mut model, asking(json!({ "channels": open }))));
        let channel = channel.to_owned();
        let attempt = Attempt { channel, proof, ..Attempt::new(Outcome::Success) };
        let (paid, event) = pay(&mut model, &code, attempt, NOW).unwrap();
        assert_eq!((paid.channel.as_str(), paid.gateway_response.as_str()), (taken, why), "{open}");
        if let Some(event) = event {
            assert_eq!(event.data["channel"], taken);
            assert_eq!(event.data["authorization"]["channel"], taken);
        }
    }
}

#[test]
fn fees_can_be_the_customers() {
    for (asked, amount) in [
        (5_000_u64, 5_077_u64),
        (246_000, 249_747),
        (246_250, 260_153),
        (1_000_000, 1_025_381),
        (100_000_000, 100_200_000),
    ] {
        let mut model = Model::new(Settings { fees_on_customer: true, ..settings() }, 1);
        let body = asking(json!({ "amount": asked }));
        let code = access_code(&initialize(&mut model, body));
        let now = NOW.plus(Duration::from_secs(1));
        let (paid, event) = pay(&mut model, &code, Attempt::new(Outcome::Success), now).unwrap();
        assert_eq!((paid.status, paid.amount), (Status::Success, amount), "{asked}");
        let data = event.unwrap().data;
        assert_eq!((&data["amount"], &data["requested_amount"]), (&amount.into(), &asked.into()));
        let fees = data["fees"].as_u64().unwrap();
        assert!(asked.abs_diff(amount - fees) <= 1, "{asked}: {amount} without {fees}");
        // What was asked for is what the merchant has.
        assert_eq!(model.totals()["NGN"].collected, asked);
    }
    let mut model = Model::new(Settings { fees_on_customer: true, ..settings() }, 1);
    let body = asking(json!({ "currency": "USD", "amount": 900 }));
    let code = access_code(&initialize(&mut model, body));
    let (paid, _) = pay(&mut model, &code, Attempt::new(Outcome::Success), NOW).unwrap();
    assert_eq!(paid.amount, 900, "its fees are not known");
}
