//! The life of refunds and disputes, event by event, and what holds whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use payments::lifecycle::{
    Deposit, Intent, Pace, Paid, Reason as DepositReason, State as DepositState, When,
};
use payments::reference::Reference;
use payments::returns::{
    ASKED_MAX, Around, Claim, Cover, DisputeSaid, Effect, Event, Kind, Payment, Reason, RefundSaid,
    Return, Source, State, Step, Word, Work, has_others, is_known, judge_dispute,
    judge_found_refund, judge_refund, step,
};
use payments::verdict::Domain;
use primitives::{AccountId, Amount, Currency, DepositId, ReturnId, Timestamp, TransferId};
use proptest::prelude::*;

const NOW: i64 = 1_000_000;
const SETTLE: Duration = Duration::from_secs(120);
const AMOUNT: u64 = 4_000;

fn amount(minor: u64) -> Amount {
    Amount::try_new(minor).expect("an amount")
}

fn payment() -> Payment {
    let deposit_id = DepositId::generate();
    Payment {
        deposit_id,
        reference: Reference::of(deposit_id, 1),
        currency: Currency::NGN,
        source: Source::Wallet(AccountId::generate()),
    }
}

fn begun(kind: Kind) -> Return {
    let (id, now) = (ReturnId::generate(), Timestamp::from_seconds(NOW));
    match kind {
        Kind::Refund => Return::refund(id, payment(), amount(AMOUNT), now),
        Kind::FoundRefund => Return::found_refund(id, payment(), "3018284".to_owned(), now),
        Kind::Dispute => Return::dispute(id, payment(), "358950".to_owned(), now),
    }
}

fn around(seconds: i64) -> Around {
    let now = Timestamp::from_seconds(seconds);
    Around { now, settle: SETTLE, at_most_minor: AMOUNT }
}

/// The event of a short name.
fn event(name: &str, it: &Return) -> Event {
    let (hold, tried) = (it.n_holds, it.n_refused);
    let why = || "insufficient_funds".to_owned();
    let told = |word| Event::Told { provider_id: "358950".to_owned(), word };
    let claim = |minor, word| Event::Claimed { claim: Claim { amount: amount(minor), word } };
    let open = Word::Open { answer_by: None };
    let back = |minor| Word::Back { amount: amount(minor) };
    match name {
        "hold" => Event::HoldPosted { n: hold },
        "late hold" => Event::HoldPosted { n: hold.wrapping_sub(1) },
        "no hold" => Event::HoldRefused { n: hold, why: why() },
        "late no hold" => Event::HoldRefused { n: hold.wrapping_sub(1), why: why() },
        "hold?" => Event::HoldUnknown,
        "asking" => Event::Asking,
        "ask refused" => Event::AskRefused { why: "transaction_reversed".to_owned() },
        "ask held back" => Event::AskHeldBack,
        "ask?" => Event::AskUnknown,
        "absent" => Event::Absent,
        "claimed" => claim(AMOUNT, open),
        "claimed too much" => claim(AMOUNT + 1, open),
        "claimed lost" => claim(AMOUNT, back(AMOUNT)),
        "claimed won" => claim(AMOUNT, Word::NotBack),
        "open" => told(open),
        "attention" => told(Word::NeedsAttention),
        "back" => told(back(AMOUNT)),
        "back in part" => told(back(AMOUNT - 1)),
        "back too much" => told(back(AMOUNT + 1)),
        "not back" => told(Word::NotBack),
        "differs" => told(Word::Disagrees(Reason::CurrencyDiffers)),
        "?" => Event::NotTold,
        "webhook" => Event::Hinted,
        "moved" => Event::Moved { n: tried },
        "late moved" => Event::Moved { n: tried.wrapping_sub(1) },
        "not moved" => Event::MoveRefused { n: tried, why: "debit_account_frozen".to_owned() },
        "move?" => Event::MoveUnknown,
        "accepted" => Event::Accepted { amount: None },
        "accepted in part" => Event::Accepted { amount: Some(amount(7)) },
        "rejected" => Event::Rejected,
        other => panic!("no event is called {other}"),
    }
}

const EVENTS: [&str; 30] = [
    "late hold",
    "late no hold",
    "late moved",
    "hold",
    "no hold",
    "hold?",
    "asking",
    "ask refused",
    "ask held back",
    "ask?",
    "absent",
    "claimed",
    "claimed too much",
    "claimed lost",
    "claimed won",
    "open",
    "attention",
    "back",
    "back in part",
    "back too much",
    "not back",
    "differs",
    "?",
    "webhook",
    "moved",
    "not moved",
    "move?",
    "accepted",
    "accepted in part",
    "rejected",
];

/// Plays events, `+` being two minutes that pass, and says how it stands.
fn play(kind: Kind, events: &str) -> Step {
    let mut now = NOW;
    let mut played = Step { after: begun(kind), effects: Vec::new() };
    for name in events.split(", ").filter(|it| !it.is_empty()) {
        if name == "+" {
            now += 120;
            continue;
        }
        played = step(&played.after, event(name, &played.after), around(now));
    }
    played
}

#[track_caller]
fn check(kind: Kind, events: &str, stands: &str, work: Work) {
    let it = play(kind, events).after;
    let why = if it.why().is_empty() { String::new() } else { format!(" ({})", it.why()) };
    let taken = it.taken.map(|it| format!(" {}", it.minor())).unwrap_or_default();
    assert_eq!(format!("{}{taken}{why}", it.state.name()), stands, "after {events}");
    assert_eq!(it.work(), work, "after {events}");
}

#[test]
fn a_refund_holds_the_money_first_and_ends_as_paystack_says() {
    use Kind::Refund;
    check(Refund, "", "wanted", Work::Hold);
    check(Refund, "asking", "wanted", Work::Hold);
    check(Refund, "hold?", "wanted", Work::Hold);
    check(Refund, "no hold", "refused (insufficient_funds)", Work::Rest);
    check(Refund, "hold", "held", Work::Ask);
    let asked = play(Refund, "hold, asking");
    assert_eq!(asked.effects, [Effect::Look(When::Now), Effect::Ask]);
    check(Refund, "hold, asking, open", "open", Work::Look);
    check(Refund, "hold, asking, open, back", "taking 4000", Work::Take);
    check(Refund, "hold, asking, open, back, moved", "returned 4000", Work::Rest);
    check(Refund, "hold, asking, back, move?, moved", "returned 4000", Work::Rest);
    check(Refund, "hold, asking, open, not back", "releasing", Work::Release);
    check(Refund, "hold, asking, open, not back, moved", "kept", Work::Rest);
    check(Refund, "hold, asking, attention", "open (needs_attention)", Work::Look);
    check(Refund, "hold, asking, attention, open", "open", Work::Look);
    check(Refund, "hold, asking, back in part", "review (amount_differs)", Work::Rest);
    check(Refund, "hold, asking, differs", "review (currency_differs)", Work::Rest);
    check(Refund, "hold, asking, differs, rejected", "releasing", Work::Release);
}

#[test]
fn paystack_is_looked_up_before_it_is_asked_again_and_never_asked_for_ever() {
    use Kind::Refund;
    let refused = "hold, asking, ask refused";
    check(Refund, refused, "releasing (transaction_reversed)", Work::Release);
    check(Refund, &format!("{refused}, moved"), "kept (transaction_reversed)", Work::Rest);
    check(Refund, "hold, asking, ask held back", "held", Work::Ask);
    check(Refund, "hold, asking, ask?", "asked", Work::Find);
    check(Refund, "hold, asking, ask?, absent", "asked", Work::Find);
    check(Refund, "hold, asking, ask?, +, absent", "held", Work::Ask);
    let again = "hold, asking, ask?, +, absent, asking";
    check(Refund, again, "asked", Work::Find);
    // The refusal may be the echo of the first asking.
    check(Refund, &format!("{again}, ask refused"), "asked", Work::Find);
    check(Refund, &format!("{again}, ask?, open"), "open", Work::Look);
    let thrice = format!("{again}, +, absent, asking");
    check(Refund, &format!("{thrice}, +, absent"), "review (no_answer)", Work::Rest);
    check(Refund, &format!("{thrice}, +, absent, accepted"), "taking 4000", Work::Take);
    check(Refund, &format!("{thrice}, +, absent, accepted in part"), "taking 7", Work::Take);
}

#[test]
fn a_dispute_holds_the_money_at_once_and_ends_as_the_bank_decides() {
    use Kind::Dispute;
    check(Dispute, "", "noticed", Work::Look);
    check(Dispute, "?", "noticed", Work::Look);
    check(Dispute, "claimed", "open", Work::Hold);
    check(Dispute, "claimed, hold", "open", Work::Look);
    check(Dispute, "claimed, hold, open", "open", Work::Look);
    check(Dispute, "claimed, hold, not back", "releasing", Work::Release);
    check(Dispute, "claimed, hold, not back, moved", "kept", Work::Rest);
    check(Dispute, "claimed, hold, back, moved", "returned 4000", Work::Rest);
    check(Dispute, "claimed, hold, back in part", "taking 3999", Work::Take);
    check(Dispute, "claimed, hold, back too much", "review (amount_differs)", Work::Rest);
    check(Dispute, "claimed too much", "review (exceeds_paid)", Work::Rest);
    check(Dispute, "claimed lost", "taking 4000", Work::Hold);
    check(Dispute, "claimed lost, hold", "taking 4000", Work::Take);
    check(Dispute, "claimed won", "kept", Work::Rest);
    check(Dispute, "differs", "review (currency_differs)", Work::Rest);
    check(Dispute, "differs, accepted", "review (currency_differs)", Work::Rest);
    check(Dispute, "differs, accepted in part", "taking 7", Work::Hold);
    check(Dispute, "differs, accepted in part, hold", "taking 7", Work::Take);
    check(Dispute, "differs, rejected", "kept", Work::Rest);
}

#[test]
fn a_found_refund_is_held_at_once_and_goes_back_as_it_was_made() {
    use Kind::FoundRefund;
    check(FoundRefund, "", "noticed", Work::Look);
    check(FoundRefund, "claimed", "open", Work::Hold);
    check(
        FoundRefund,
        "claimed, no hold, back, no hold, moved",
        "returned 4000 (insufficient_funds)",
        Work::Rest,
    );
    check(FoundRefund, "claimed lost, hold, moved", "returned 4000", Work::Rest);
    check(FoundRefund, "claimed won", "kept", Work::Rest);
    check(FoundRefund, "claimed, hold, not back, moved", "kept", Work::Rest);
    check(FoundRefund, "claimed, hold, back in part", "review (amount_differs)", Work::Rest);
    check(FoundRefund, "claimed too much", "review (exceeds_paid)", Work::Rest);
    check(FoundRefund, "asking", "noticed", Work::Look);
}

#[test]
fn what_the_wallet_does_not_have_is_asked_for_again_and_at_last_taken_from_suspense() {
    use Kind::Dispute;
    let short = "claimed, no hold";
    check(Dispute, short, "open (insufficient_funds)", Work::Look);
    assert!(play(Dispute, short).effects.contains(&Effect::AnnounceParked));
    let again = play(Dispute, "claimed, no hold, open").after;
    assert_eq!((again.work(), again.n_holds), (Work::Hold, 2), "under another id");
    let first = play(Dispute, "claimed").after.return_id;
    assert_ne!(again.return_id, first);
    let still = play(Dispute, "claimed, no hold, open, no hold");
    assert!(!still.effects.contains(&Effect::AnnounceParked), "said once");
    check(Dispute, "claimed, no hold, open, hold", "open", Work::Look);
    check(Dispute, "claimed, no hold, not back", "kept (insufficient_funds)", Work::Rest);
    // What became of the last hold is settled before anything is taken.
    check(Dispute, "claimed, no hold, open, back", "taking 4000 (insufficient_funds)", Work::Hold);
    // Before the suspense account pays, the wallet is asked once more.
    check(Dispute, "claimed, no hold, back", "taking 4000 (insufficient_funds)", Work::Hold);
    let late = play(Dispute, "claimed, no hold, back, hold, moved").after;
    assert!(!late.is_uncovered_loss() && late.state == State::Returned);
    let lost = play(Dispute, "claimed, no hold, back, no hold, moved").after;
    assert!(lost.is_uncovered_loss() && lost.state == State::Returned);
    let covered = play(Dispute, "claimed, hold, back, moved").after;
    assert!(!covered.is_uncovered_loss());
}

#[test]
fn what_the_ledger_will_not_move_is_tried_again_under_another_id() {
    let stuck = play(Kind::Dispute, "claimed, hold, back, not moved");
    assert_eq!(stuck.after.why(), "debit_account_frozen");
    assert!(stuck.effects.contains(&Effect::Look(When::After(Pace::Returning))));
    let before = play(Kind::Dispute, "claimed, hold, back").after;
    let before = Return { return_id: stuck.after.return_id, ..before };
    check(
        Kind::Dispute,
        "claimed, hold, back, not moved, late moved",
        "taking 4000 (debit_account_frozen)",
        Work::Take,
    );
    check(
        Kind::Dispute,
        "claimed, no hold, open, late no hold",
        "open (insufficient_funds)",
        Work::Hold,
    );
    assert_ne!(stuck.after.take_transfer_id(), before.take_transfer_id());
    assert_eq!(stuck.after.hold_transfer_id(), before.hold_transfer_id());
}

/// What Paystack says of a refund of ours.
fn refund_said() -> RefundSaid {
    RefundSaid {
        id: Some("3018284".to_owned()),
        status: Some("pending".to_owned()),
        amount_minor: Some(AMOUNT),
        currency: Some("NGN".to_owned()),
        domain: Some("test".to_owned()),
        merchant_note: None,
        transaction_id: Some("1004723697".to_owned()),
    }
}

#[test]
fn a_refund_is_believed_only_if_it_is_the_one_that_was_asked_for() {
    let check = |change: &dyn Fn(&mut RefundSaid), word| {
        let (ours, mut said) = (begun(Kind::Refund), refund_said());
        change(&mut said);
        assert_eq!(judge_refund(&ours, &said, Domain::Test), word, "{said:?}");
    };
    let status = |name: &'static str| move |it: &mut RefundSaid| it.status = Some(name.to_owned());
    let open = Word::Open { answer_by: None };
    for name in ["pending", "processing", "Processed", "?"] {
        check(&status(name), open);
    }
    check(&|it| it.status = None, open);
    check(&status("processed"), Word::Back { amount: amount(AMOUNT) });
    check(&status("failed"), Word::NotBack);
    check(&status("needs-attention"), Word::NeedsAttention);
    let off = Word::Disagrees;
    check(&|it| it.amount_minor = Some(1), off(Reason::AmountDiffers));
    check(&|it| it.amount_minor = None, off(Reason::AmountDiffers));
    check(&|it| it.currency = None, off(Reason::CurrencyDiffers));
    check(&|it| it.domain = Some("live".to_owned()), off(Reason::DomainDiffers));
}

#[test]
fn a_listed_refund_is_known_by_its_id_or_by_the_note_of_one_that_was_not_given_up() {
    let is_known = |it: &Return, said: &RefundSaid| is_known(std::slice::from_ref(it), said);
    let said = refund_said();
    let noted = |it: &Return| RefundSaid { merchant_note: Some(it.tag()), ..refund_said() };
    assert!(is_known(&begun(Kind::FoundRefund), &said));
    let told = play(Kind::Refund, "hold, asking, open").after;
    assert!(!is_known(&told, &said), "that one is 358950");
    // Were it asked for twice, the other one would be somebody's money all the same.
    assert!(!is_known(&told, &noted(&told)));
    let asked = play(Kind::Refund, "hold, asking").after;
    assert!(is_known(&asked, &noted(&asked)));
    let by_others = RefundSaid { merchant_note: Some("ticket 9".to_owned()), ..refund_said() };
    assert!(!is_known(&asked, &by_others));
    assert!(is_known(&asked, &said), "it may be that one");
    let thrice = "hold, asking, +, absent, asking, +, absent, asking, +, absent";
    let by_a_person = play(Kind::Refund, &format!("{thrice}, accepted, moved")).after;
    assert!(is_known(&by_a_person, &noted(&by_a_person)));
    let given_up = play(Kind::Refund, "hold, asking, ask refused, moved").after;
    assert!(!is_known(&given_up, &noted(&given_up)));
    let dispute = Return { provider_id: said.id.clone(), ..begun(Kind::Dispute) };
    assert!(!is_known(&dispute, &said));
}

#[test]
fn a_found_refund_of_a_contested_payment_is_a_persons() {
    let judge = |ours: &Return, others: &[Return]| {
        judge_found_refund(ours, &refund_said(), Domain::Test, others)
    };
    let claim = Claim { amount: amount(AMOUNT), word: Word::Open { answer_by: None } };
    let found = begun(Kind::FoundRefund);
    assert_eq!(judge(&found, &[begun(Kind::Refund)]), Ok(claim));
    assert_eq!(judge(&found, &[begun(Kind::Dispute)]), Err(Reason::Unclear));
    let lost = play(Kind::Dispute, "claimed lost, hold, moved").after;
    assert_eq!(judge(&found, &[lost]), Err(Reason::Unclear));
    let won = play(Kind::Dispute, "claimed won").after;
    assert_eq!(judge(&found, &[won]), Ok(claim));
    // What is held already is not let go because somebody contests the rest.
    let held = play(Kind::FoundRefund, "claimed, hold").after;
    assert_eq!(judge(&held, &[begun(Kind::Dispute)]), Ok(claim));
    let live = RefundSaid { domain: Some("live".to_owned()), ..refund_said() };
    let judged = judge_found_refund(&found, &live, Domain::Test, &[]);
    assert_eq!(judged, Err(Reason::DomainDiffers));
    let nothing = RefundSaid { amount_minor: None, ..refund_said() };
    let judged = judge_found_refund(&found, &nothing, Domain::Test, &[]);
    assert_eq!(judged, Err(Reason::AmountDiffers));
}

#[test]
fn a_refund_says_of_which_payment_it_is_in_either_shape() {
    for (of, expected) in [
        (serde_json::json!(1_004_723_697), Some("1004723697")),
        (serde_json::json!("1004723697"), Some("1004723697")),
        (serde_json::json!({ "id": 1_004_723_697 }), Some("1004723697")),
        (serde_json::json!({}), None),
        (serde_json::json!(null), None),
    ] {
        let data = serde_json::json!({ "id": 3_018_284, "transaction": of });
        let said = RefundSaid::read(data.as_object().unwrap());
        assert_eq!(said.transaction_id.as_deref(), expected, "{data}");
    }
}

#[test]
fn who_lost_a_dispute_is_told_by_the_resolution_and_the_payment() {
    let check = |status: &str, resolution: &str, payment: &str, has_others, word| {
        let ours = begun(Kind::Dispute);
        let said = DisputeSaid {
            status: Some(status.to_owned()),
            resolution: Some(resolution.to_owned()),
            refund_amount_minor: None,
            currency: Some("NGN".to_owned()),
            domain: Some("test".to_owned()),
            answer_by: None,
            reference: Some(ours.payment.reference.to_string()),
            transaction_status: Some(payment.to_owned()),
            transaction_amount_minor: Some(AMOUNT),
        };
        let judged = judge_dispute(&ours, &said, Domain::Test, has_others);
        assert_eq!(judged, Ok(Claim { amount: amount(AMOUNT), word }), "{said:?}");
        let stranger = DisputeSaid { reference: Some("dep-other".to_owned()), ..said };
        let judged = judge_dispute(&ours, &stranger, Domain::Test, has_others);
        assert_eq!(judged, Err(Reason::ReferenceDiffers));
    };
    let (open, back) = (Word::Open { answer_by: None }, Word::Back { amount: amount(AMOUNT) });
    let unclear = Word::Disagrees(Reason::Unclear);
    check("awaiting-merchant-feedback", "", "success", false, open);
    check("awaiting-bank-feedback", "declined", "success", false, open);
    check("?", "declined", "success", false, open);
    check("resolved", "merchant-accepted", "success", false, back);
    check("resolved", "auto-accepted", "reversed", true, back);
    check("archived", "declined", "success", true, Word::NotBack);
    check("resolved", "declined", "reversed", false, back);
    check("resolved", "declined", "reversal_pending", false, open);
    check("resolved", "declined", "reversed", true, unclear);
    check("resolved", "?", "success", false, unclear);
}

#[test]
fn a_payment_may_have_been_given_back_by_a_refund_that_nobody_has_heard_of() {
    let listed = |status: &str| RefundSaid { status: Some(status.to_owned()), ..refund_said() };
    let dispute = begun(Kind::Dispute);
    let has_others = |others: &[Return], listed: &[RefundSaid]| {
        has_others(&dispute, &[others, std::slice::from_ref(&dispute)].concat(), listed)
    };
    assert!(!has_others(&[], &[]));
    assert!(!has_others(&[play(Kind::Refund, "no hold").after], &[listed("failed")]));
    assert!(has_others(&[play(Kind::Refund, "hold, asking").after], &[]));
    assert!(has_others(&[begun(Kind::FoundRefund)], &[]));
    assert!(has_others(&[], &[listed("failed"), listed("pending")]));
}

#[test]
fn reasons_keep_their_codes() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.code()), Some(reason));
    }
    assert_eq!(Reason::parse("because"), None);
}

/// Every way from one state to another that any order of events finds, by the names of the events.
fn ways(kind: Kind) -> BTreeMap<(&'static str, &'static str), BTreeSet<&'static str>> {
    let key = |it: &Return| (it.state.clone(), it.cover, it.n_asked, it.n_holds.min(2));
    let mut ways: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let (mut seen, mut todo) = (Vec::new(), vec![begun(kind)]);
    while let Some(it) = todo.pop() {
        for name in EVENTS {
            let event = event(name, &it);
            let label = event.name();
            // Long after the last asking.
            let next = step(&it, event, around(NOW + 1_000)).after;
            if next.state.name() != it.state.name() {
                ways.entry((it.state.name(), next.state.name())).or_default().insert(label);
            }
            let next = Return { asked_at: None, ..next };
            if !seen.contains(&key(&next)) {
                seen.push(key(&next));
                todo.push(next);
            }
        }
    }
    ways
}

#[test]
fn the_diagrams_show_every_way_from_one_state_to_another() {
    let readme = include_str!("../../README.md");
    for (kind, ends) in [
        (Kind::Refund, ["kept", "refused", "returned"].as_slice()),
        (Kind::Dispute, &["kept", "returned"]),
    ] {
        let begins = begun(kind).state.name();
        let mut drawn = format!("stateDiagram-v2\n    [*] --> {begins}\n");
        for ((from, to), events) in ways(kind) {
            let events: Vec<_> = events.into_iter().map(|it| it.replace(':', "")).collect();
            drawn.push_str(&format!("    {from} --> {to}: {}\n", events.join(", ")));
        }
        for end in ends {
            drawn.push_str(&format!("    {end} --> [*]\n"));
        }
        let heading = format!("[*] --> {begins}\n");
        let shown = readme.split("```mermaid\n").find(|it| it.contains(&heading));
        let shown = shown.and_then(|it| it.split("```").next()).unwrap_or_default();
        assert_eq!(shown, drawn, "services/README.md shows another life of a {}", kind.name());
    }
    assert_eq!(ways(Kind::FoundRefund), ways(Kind::Dispute), "one picture for both");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_any_events_moves_the_money_at_most_once_and_forgets_nothing(
        kind in prop::sample::select(&Kind::ALL[..]),
        events in prop::collection::vec((prop::sample::select(&EVENTS[..]), 0_i64..200), 0..60)
    ) {
        let mut it = begun(kind);
        let (mut now, mut due, mut n_ended, mut n_asked) = (NOW, When::Now, 0, 0);
        for (name, passed) in events {
            now += passed;
            let next = step(&it, event(name, &it), around(now));
            let is_a_persons = matches!(name, "accepted" | "accepted in part" | "rejected");
            // R1, R3
            if next.effects.contains(&Effect::Ask) {
                n_asked += 1;
                prop_assert!(kind == Kind::Refund && it.state == State::Held && it.cover == Cover::Held);
            }
            n_asked -= u16::from(it.state == State::Asked && name == "ask held back");
            prop_assert!(n_asked <= ASKED_MAX);
            // R2
            if it.state != State::Taking && next.after.state == State::Taking {
                prop_assert!(name.contains("back") || name == "claimed lost" || is_a_persons);
            }
            // R4
            if matches!(it.state, State::Review(_)) && !matches!(next.after.state, State::Review(_)) {
                prop_assert!(is_a_persons);
            }
            // R5
            n_ended += u16::from(!it.state.is_end() && next.after.state.is_end());
            prop_assert!(n_ended <= 1);
            prop_assert!(next.after.taken <= next.after.amount);
            for effect in &next.effects {
                if let Effect::Look(when) = effect {
                    due = *when;
                }
            }
            it = next.after;
            // Whatever is not at rest is taken up again by itself, and the other way round.
            prop_assert_eq!(due == When::Never, it.work() == Work::Rest, "{:?}", it);
        }
    }
}

#[test]
fn a_dispute_heard_of_before_its_payment_was_proved_learns_its_currency() {
    let (deposit_id, now) = (DepositId::generate(), Timestamp::from_seconds(NOW));
    let intent = Intent {
        account_id: AccountId::generate(),
        amount: amount(AMOUNT),
        currency: Currency::NGN,
        wait_until: None,
        abandon_at: now,
        forget_at: now,
    };
    let mut deposit = Deposit::intent((deposit_id, TransferId::generate()), intent, now);
    let reference = deposit.attempt.reference.clone();
    let payment = Payment::of(&deposit, &reference);
    let dispute = Return::dispute(ReturnId::generate(), payment, "358950".to_owned(), now);
    let dollars = Currency::parse("USD").unwrap();
    deposit.paid = Some(Paid {
        reference,
        amount: amount(AMOUNT),
        currency: dollars,
        paid_at: now,
        provider_id: None,
    });
    deposit.state = DepositState::Review(DepositReason::CurrencyDiffers);
    let known = dispute.as_of(&deposit);
    assert_eq!((known.payment.currency, known.payment.source), (dollars, Source::Suspense));
    // Once a hold was asked for, it stays what it is.
    let asked = Return { cover: Cover::Wanted, ..dispute };
    assert_eq!(asked.as_of(&deposit).payment.currency, Currency::NGN);
}
