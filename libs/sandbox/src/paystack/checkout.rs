//! The checkout page: what stands between a person and a deposit.
//!
//! `GET` shows it; `POST` with `outcome=success|failed|abandoned` acts, so that a browser and curl
//! can both pay. A number in `card` lets one of Paystack's test cards decide, `channel` chooses
//! another way to pay, and `pin`, `otp` and the like answer what the bank asks.

use poem::Response;
use poem::http::StatusCode;

use super::model::{Attempt, Outcome, Status, Transaction, Unpayable};
use crate::page::{escape, page, says, see_other, with_query};

/// What a form may say; nothing known is no attempt.
pub(super) fn read(form: &[u8]) -> Option<Attempt> {
    let mut attempt = Attempt::new(Outcome::Success);
    let (mut outcome, mut card) = (None, None);
    for (name, value) in url::form_urlencoded::parse(form) {
        match name.as_ref() {
            "outcome" => {
                outcome = Some(match value.as_ref() {
                    "success" => Outcome::Success,
                    "failed" => Outcome::Failed,
                    "abandoned" => Outcome::Abandoned,
                    _ => return None,
                });
            }
            "card" => card = Some(value.trim().to_owned()).filter(|card| !card.is_empty()),
            "channel" => attempt.channel = value.trim().to_owned(),
            "cvv" => attempt.proof.cvv = value.trim().to_owned(),
            "expiry" => attempt.proof.expiry = value.trim().to_owned(),
            "pin" => attempt.proof.pin = value.trim().to_owned(),
            "otp" => attempt.proof.otp = value.trim().to_owned(),
            "phone" => attempt.proof.phone = value.trim().to_owned(),
            "birthday" => attempt.proof.birthday = value.trim().to_owned(),
            _ => {}
        }
    }
    attempt.outcome = match (outcome, &card) {
        (Some(outcome), _) => outcome,
        (None, Some(_)) => Outcome::Success,
        (None, None) => return None,
    };
    attempt.card = card.unwrap_or_default();
    Some(attempt)
}

/// The page to pay on.
pub(super) fn show(it: &Transaction, merchant: &str, path: &str) -> Response {
    if let Some(closed) = closed(it) {
        return closed;
    }
    let amount = money(it.requested_amount, &it.currency);
    let again = if it.status == Status::Failed {
        format!("<p>The last attempt was refused: {}.</p>\n", escape(&it.gateway_response))
    } else {
        String::new()
    };
    let main = format!(
        "<p class=\"quiet\">{merchant}</p>\n<h1>{amount}</h1>\n\
         <p class=\"quiet\">{email}<br>Reference {reference}</p>\n{again}\
         <form method=\"post\" action=\"{path}\">\n\
         <label for=\"card\">Card number (empty: a good test card)</label>\n\
         <input id=\"card\" name=\"card\" inputmode=\"numeric\" autocomplete=\"off\" \
         placeholder=\"4084 0840 8408 4081\" maxlength=\"30\">\n\
         {more}\
         <button class=\"main\" name=\"outcome\" value=\"success\">Pay {amount}</button>\n\
         <button name=\"outcome\" value=\"failed\">Let the bank refuse</button>\n\
         <button name=\"outcome\" value=\"abandoned\">Walk away without paying</button>\n\
         </form>",
        merchant = escape(merchant),
        amount = escape(&amount),
        email = escape(&it.email),
        reference = escape(&it.reference),
        path = escape(path),
        more = more(it),
    );
    page(StatusCode::OK, &format!("Pay {amount}"), &main)
}

/// What a bank may ask, and by which channels the merchant takes money: folded away, because one
/// click is enough.
fn more(it: &Transaction) -> String {
    let field = |name: &str, label: &str| {
        format!(
            "<label for=\"{name}\">{label}</label>\n\
             <input id=\"{name}\" name=\"{name}\" autocomplete=\"off\" maxlength=\"30\">\n"
        )
    };
    let open = if it.channels.is_empty() { "any".to_owned() } else { it.channels.join(", ") };
    let fields = [
        field("cvv", "CVV"),
        field("expiry", "Expiry (MM/YY)"),
        field("pin", "PIN"),
        field("phone", "Telephone"),
        field("otp", "One-time code"),
        field("channel", &format!("Channel ({}); empty: card", escape(&open))),
        field("birthday", "Date of birth, for a bank account (YYYY-MM-DD)"),
    ];
    format!(
        "<details>\n<summary>What the bank may ask (empty: answered well)</summary>\n{}</details>\n",
        fields.concat()
    )
}

/// What a person sees after an attempt.
pub(super) fn after(
    it: &Transaction,
    outcome: Outcome,
    default_callback: Option<&str>,
) -> Response {
    if outcome == Outcome::Abandoned {
        let cancel = it.metadata.get("cancel_action").and_then(serde_json::Value::as_str);
        return match cancel.filter(|url| url.starts_with("http://") || url.starts_with("https://"))
        {
            Some(url) => see_other(&escape_location(url)),
            None => says(
                StatusCode::OK,
                "Not paid",
                "You left without paying. The link stays open: you can come back and pay.",
            ),
        };
    }
    if it.status != Status::Success {
        let sentence = format!("{}. Nothing was paid; you can try again.", it.gateway_response);
        return says(StatusCode::OK, "Refused", &sentence);
    }
    let parameters = [("trxref", it.reference.as_str()), ("reference", it.reference.as_str())];
    let callback = it.callback_url.as_deref().or(default_callback);
    match callback.and_then(|url| with_query(url, &parameters)) {
        Some(location) => see_other(&location),
        None => says(
            StatusCode::OK,
            "Paid",
            &format!("{} was paid. Reference {}.", money(it.amount, &it.currency), it.reference),
        ),
    }
}

pub(super) fn unpayable(why: Unpayable) -> Response {
    match why {
        Unpayable::Unknown => {
            says(StatusCode::NOT_FOUND, "No such checkout", "This link leads nowhere.")
        }
        Unpayable::Paid => says(
            StatusCode::CONFLICT,
            "Already paid",
            "This was paid before; nothing was taken a second time.",
        ),
    }
}

pub(super) fn unreadable() -> Response {
    says(
        StatusCode::BAD_REQUEST,
        "Not understood",
        "Send a form with outcome=success, outcome=failed or outcome=abandoned.",
    )
}

fn closed(it: &Transaction) -> Option<Response> {
    match it.status {
        Status::Abandoned | Status::Failed => None,
        Status::Success | Status::ReversalPending | Status::Reversed => {
            Some(unpayable(Unpayable::Paid))
        }
    }
}

/// A URL as a header may carry it.
fn escape_location(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| "/".to_owned(), String::from)
}

/// `NGN 1,234.50`: every currency here has hundredths.
fn money(minor: u64, currency: &str) -> String {
    let (major, rest) = (minor / 100, minor % 100);
    let digits = major.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{currency} {grouped}.{rest:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_printed_as_people_read_it() {
        for (minor, printed) in [
            (5, "NGN 0.05"),
            (5_000, "NGN 50.00"),
            (123_450, "NGN 1,234.50"),
            (100_000_000_099, "NGN 1,000,000,000.99"),
        ] {
            assert_eq!(money(minor, "NGN"), printed);
        }
    }

    #[test]
    fn a_form_is_an_outcome_a_card_or_nothing() {
        for (form, read_as) in [
            ("outcome=success", Some((Outcome::Success, ""))),
            ("outcome=failed&card=", Some((Outcome::Failed, ""))),
            ("card=4084+0800&outcome=abandoned", Some((Outcome::Abandoned, "4084 0800"))),
            ("card=4084", Some((Outcome::Success, "4084"))),
            ("outcome=maybe", None),
            ("card=", None),
            ("", None),
        ] {
            let attempt = read(form.as_bytes()).map(|it| (it.outcome, it.card));
            assert_eq!(attempt, read_as.map(|(o, c)| (o, c.to_owned())), "{form}");
        }
    }
}
