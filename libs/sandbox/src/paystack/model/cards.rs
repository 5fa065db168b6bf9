//! What the bank says to an attempt: Paystack's test cards and test bank account.
//!
//! A challenge that is not answered at all counts as answered well, so that one click or one line
//! of curl pays; an answer that is given must be the right one.

use primitives::Timestamp;

use super::refunds::RefundStatus;

/// What the person proves besides the card's number; empty: is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// The three digits on the back.
    pub cvv: String,
    /// `MM/YY`; any month that is not over.
    pub expiry: String,
    /// The card's PIN.
    pub pin: String,
    /// The code the bank sends; for a bank account, too.
    pub otp: String,
    /// The number of the telephone the code goes to.
    pub phone: String,
    /// For a bank account, `YYYY-MM-DD`.
    pub birthday: String,
}

/// One test card and what is right about it.
struct Card {
    digits: &'static str,
    cvv: &'static str,
    pin: Option<&'static str>,
    otp: Option<&'static str>,
    refusal: Option<&'static str>,
    refund: RefundStatus,
}

const GOOD: Card = Card {
    digits: "4084084084084081",
    cvv: "408",
    pin: None,
    otp: None,
    refusal: None,
    refund: RefundStatus::Processed,
};

const CARDS: [Card; 10] = [
    GOOD,
    Card { digits: "507850785078507812", cvv: "081", pin: Some("1111"), ..GOOD },
    Card {
        digits: "5060666666666666666",
        cvv: "123",
        pin: Some("1234"),
        otp: Some("123456"),
        ..GOOD
    },
    Card {
        digits: "507850785078507804",
        cvv: "884",
        pin: Some("0000"),
        otp: Some("123456"),
        ..GOOD
    },
    // The challenge is a page of the bank, which says yes.
    Card { digits: "5192602720584796", cvv: "123", ..GOOD },
    Card { digits: "4084080000005408", cvv: "001", refusal: Some("Declined"), ..GOOD },
    Card { digits: "4084080000670037", cvv: "787", refusal: Some("Insufficient Funds"), ..GOOD },
    Card {
        digits: "507850785078507853",
        cvv: "082",
        pin: Some("0000"),
        refusal: Some("Token Not Generated. Customer Not Registered on Token Platform"),
        ..GOOD
    },
    Card { digits: "4084080000671803", cvv: "180", refund: RefundStatus::Failed, ..GOOD },
    Card { digits: "4084080000671902", cvv: "190", refund: RefundStatus::NeedsAttention, ..GOOD },
];

const BANK_OTP: &str = "123456";
const BANK_BIRTHDAY: &str = "2007-04-15";

/// How a refund to this card ends.
pub(super) fn refund_of(digits: &str) -> RefundStatus {
    CARDS.iter().find(|it| it.digits == digits).map_or(RefundStatus::Processed, |it| it.refund)
}

/// Why a card is refused; no number is a good card.
pub(super) fn card_refusal(digits: &str, proof: &Proof, now: Timestamp) -> Option<&'static str> {
    // The test bank knows no other card.
    let known = if digits.is_empty() { Some(&GOOD) } else { None };
    let Some(card) = known.or_else(|| CARDS.iter().find(|it| it.digits == digits)) else {
        return Some("Declined");
    };
    let wrong = |given: &str, right: Option<&str>| {
        right.is_some_and(|right| !given.is_empty() && given != right)
    };
    if wrong(&proof.cvv, Some(card.cvv)) {
        return Some("Incorrect CVV");
    }
    if !proof.expiry.is_empty() && !is_to_come(&proof.expiry, now) {
        return Some("Expired Card");
    }
    if wrong(&proof.pin, card.pin) {
        return Some("Incorrect PIN");
    }
    if wrong(&proof.otp, card.otp) {
        return Some("Token Authentication Not Successful. Incorrect Token Generated");
    }
    card.refusal
}

/// Why a charge by anything but a card is refused.
pub(super) fn bank_refusal(proof: &Proof) -> Option<&'static str> {
    let wrong = |given: &str, right: &str| !given.is_empty() && given != right;
    if wrong(&proof.birthday, BANK_BIRTHDAY) {
        return Some("Incorrect Date of Birth");
    }
    if wrong(&proof.otp, BANK_OTP) {
        return Some("Token Authentication Not Successful. Incorrect Token Generated");
    }
    None
}

/// Whether `MM/YY` or `MM/YYYY` is this month or one to come.
fn is_to_come(expiry: &str, now: Timestamp) -> bool {
    let now = now.to_datetime();
    let this_month = (now.year(), u8::from(now.month()));
    let read = || {
        let (month, year) = expiry.split_once('/')?;
        // What is no number is no date.
        let (month, year): (u8, i32) = (month.trim().parse().ok()?, year.trim().parse().ok()?);
        let year = if year < 100 { 2_000 + year } else { year };
        (1..=12).contains(&month).then_some((year, month))
    };
    read().is_some_and(|month| month >= this_month)
}
