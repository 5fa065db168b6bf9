//! The rules of a deposit's life, as a table and as properties over any order of any events.

use std::collections::{BTreeMap, BTreeSet};

use payments::lifecycle::{
    ATTEMPTS_PER_ASKING_MAX, Answer, Checkout, Deposit, Effect, Event, Intent, Pace, Paid, Phase,
    Reason, Shown, Source, State, Step, Suspense, Verdict, When, Work, step,
};
use payments::reference::Reference;
use primitives::{AccountId, Amount, Currency, DepositId, Timestamp, TransferId};
use proptest::prelude::*;

const NOW: i64 = 1_000;
const WAIT_UNTIL: i64 = 1_010;
const ABANDON_AT: i64 = 2_000;
const FORGET_AT: i64 = 3_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn intent() -> Deposit {
    let what = Intent {
        account_id: AccountId::generate(),
        amount: Amount::try_new(5_000).expect("an amount"),
        currency: Currency::NGN,
        wait_until: Some(at(WAIT_UNTIL)),
        abandon_at: at(ABANDON_AT),
        forget_at: at(FORGET_AT),
    };
    Deposit::intent((DepositId::generate(), TransferId::generate()), what, at(NOW))
}

fn checkout() -> Checkout {
    Checkout { authorization_url: "https://pay.example/1".to_owned(), access_code: "1".to_owned() }
}

/// The first reference of a deposit.
fn first(deposit: &Deposit) -> Reference {
    Reference::of(deposit.deposit_id, 1)
}

/// Events by a short name, about a deposit's current attempt unless they say otherwise.
fn event(name: &str, deposit: &Deposit) -> Event {
    let reference = deposit.attempt.reference.clone();
    let verified = |verdict| Event::Verified { verdict };
    let paid = |minor| Paid {
        reference: first_claimed(deposit),
        amount: Amount::try_new(minor).expect("an amount"),
        currency: Currency::NGN,
        paid_at: at(NOW),
        provider_id: Some("7".to_owned()),
    };
    let disagrees = |reason, paid| verified(Verdict::Disagrees { reason, paid });
    match name {
        "asking" => Event::Asking,
        "made" => Event::CheckoutMade { reference, checkout: checkout() },
        "refused" => Event::InitializeRefused { reference },
        "unknown" => Event::InitializeUnknown { reference },
        "asked again" => Event::AskedAgain { wait_until: Some(at(FORGET_AT)) },
        "webhook" => Event::Claimed { reference, until: at(ABANDON_AT) },
        "paid" => verified(Verdict::Paid(paid(5_000))),
        "open" => verified(Verdict::Open),
        "not found" => verified(Verdict::NotFound),
        "failed" => verified(Verdict::Failed),
        "differs" => disagrees(Reason::AmountDiffers, Some(paid(4_999))),
        "dollars" => {
            let dollars = Paid { currency: Currency::USD, ..paid(5_000) };
            disagrees(Reason::CurrencyDiffers, Some(dollars))
        }
        "reversed" => disagrees(Reason::Reversed, None),
        "no answer" => Event::VerifyFailed,
        "crediting" => Event::Crediting,
        "posted" => Event::CreditPosted,
        "frozen" => Event::CreditRefused { why: "credit_account_frozen".to_owned() },
        "silence" => Event::CreditUnknown,
        "suspended" => Event::Suspended,
        "not suspended" => Event::SuspendUnknown,
        "accepted" => Event::Accepted { until: at(ABANDON_AT) },
        "rejected" => Event::Rejected,
        other => panic!("no event is named {other}"),
    }
}

fn first_claimed(deposit: &Deposit) -> Reference {
    deposit.claimed_reference().unwrap_or(&deposit.attempt.reference).clone()
}

/// Walks a story such as `asking made webhook@1500 paid`; `@` moves the clock.
fn tell(story: &str) -> Step {
    let mut now = NOW;
    let mut last = Step { deposit: intent(), effects: Vec::new() };
    for word in story.split(", ").filter(|word| !word.is_empty()) {
        let name = match word.split_once('@') {
            Some((name, seconds)) => {
                now = seconds.parse().expect("seconds");
                name
            }
            None => word,
        };
        last = step(&last.deposit, event(name, &last.deposit), at(now));
    }
    last
}

fn name(state: &State) -> String {
    if let State::Review(reason) | State::Rejected(reason) = state {
        return format!("{} {}", state.name(), reason.code());
    }
    state.name().to_owned()
}

/// A story, the state it ends in, and the effects of its last event.
fn check(story: &str, state: &str, effects: &[Effect]) {
    let last = tell(story);
    assert_eq!(name(&last.deposit.state), state, "{story}");
    assert_eq!(last.effects, effects, "{story}");
}

#[test]
fn a_deposit_goes_from_intent_to_credit() {
    use Effect::{AnnounceCredited, Answer as Tell, Initialize, Look};
    check("asking", "initiated", &[Initialize]);
    check("asking, made", "pending", &[Look(When::After(Pace::Pending)), Tell]);
    check("asking, made, webhook", "confirming", &[Look(When::Now)]);
    check("asking, made, webhook, paid", "paid", &[Look(When::Now)]);
    check("asking, made, paid", "paid", &[Look(When::Now)]);
    check("asking, made, paid, crediting", "crediting", &[Look(When::Now)]);
    let credited = [Look(When::Never), AnnounceCredited];
    check("asking, made, webhook, paid, crediting, posted", "credited", &credited);
    // Nobody's word counts who was not asked.
    check("asking, made, paid, posted", "paid", &[]);
    check(
        "asking, made, paid, crediting, silence",
        "crediting",
        &[Look(When::After(Pace::Unanswered))],
    );
    check("asking, made, paid, crediting, silence, posted", "credited", &credited);
}

#[test]
fn what_is_settled_stays_as_it_is() {
    let credited = "asking, made, paid, crediting, posted";
    let review = "asking, made, differs";
    for after in [
        "webhook",
        "paid",
        "open",
        "failed",
        "differs",
        "reversed",
        "no answer",
        "posted",
        "frozen",
    ] {
        check(&format!("{credited}, {after}"), "credited", &[]);
        check(&format!("{review}, {after}"), "review amount_differs", &[]);
    }
    for after in ["asked again", "asking", "refused", "unknown", "made", "crediting", "silence"] {
        check(&format!("{credited}, {after}"), "credited", &[]);
        check(&format!("{review}, {after}"), "review amount_differs", &[]);
    }
}

#[test]
fn what_does_not_agree_goes_to_a_person() {
    use Effect::{AnnounceParked, Answer as Tell, Look};
    // What was paid is to be put aside at once; if nothing was, there is nothing to do.
    let parked = [Look(When::Now), Tell, AnnounceParked];
    let empty = [Look(When::Never), Tell, AnnounceParked];
    check("asking, made, differs", "review amount_differs", &parked);
    check("asking, made, dollars", "review currency_differs", &parked);
    check("asking, made, webhook, differs", "review amount_differs", &parked);
    check("asking, made, reversed", "review reversed", &empty);
    check("asking, made, open@2000, differs", "review amount_differs", &parked);
    let frozen = "review ledger_refused:credit_account_frozen";
    check("asking, made, paid, crediting, frozen", frozen, &parked);
    // Proved once is proved: a later look changes nothing.
    check("asking, made, paid, differs", "paid", &[]);
}

#[test]
fn a_webhook_alone_credits_nothing_and_in_the_end_a_person_must_look() {
    use Effect::{AnnounceParked, Answer as Tell, Look};
    let again = [Look(When::After(Pace::Confirm))];
    for unpaid in ["open", "not found", "failed"] {
        check(&format!("asking, made, webhook, {unpaid}"), "confirming", &again);
    }
    let parked = [Look(When::Never), Tell, AnnounceParked];
    check("asking, made, webhook, open@1999", "confirming", &again);
    check("asking, made, webhook, open@2000", "review not_confirmed", &parked);
    // Paystack's silence is no answer, however long.
    let soon = [Look(When::After(Pace::Unanswered))];
    check("asking, made, webhook, no answer@9000", "confirming", &soon);
    check("asking, made, webhook, open, paid", "paid", &[Look(When::Now)]);
}

#[test]
fn what_was_paid_and_not_credited_is_on_the_suspense_account_until_a_person_decides() {
    use Effect::Look;
    let review = "asking, made, differs";
    let deposit = tell(review).deposit;
    assert_eq!((deposit.suspense, deposit.work()), (Suspense::Owed, Work::Suspend));
    let soon = [Look(When::After(Pace::Unanswered))];
    check(&format!("{review}, not suspended"), "review amount_differs", &soon);
    let held = format!("{review}, not suspended, suspended");
    check(&held, "review amount_differs", &[Look(When::Never)]);
    assert_eq!(tell(&held).deposit.work(), Work::Rest);
    // Nothing is decided about money that is still on its way there.
    for decision in ["accepted", "rejected"] {
        check(&format!("{review}, {decision}"), "review amount_differs", &[]);
    }
    check(&format!("{held}, rejected"), "rejected amount_differs", &[Look(When::Never)]);
    check(&format!("{held}, accepted"), "paid", &[Look(When::Now)]);
    let accepted = tell(&format!("{held}, accepted, crediting")).deposit;
    let credit = accepted.credit().expect("what was paid");
    assert_eq!(credit.amount.minor(), 4_999);
    assert!(matches!(credit.source, Source::Suspense { .. }));
    assert_ne!(credit.transfer_id, accepted.credit_transfer_id);
    let credited = tell(&format!("{held}, accepted, crediting, posted")).deposit;
    assert_eq!((credited.state, credited.suspense), (State::Credited, Suspense::Left));
}

#[test]
fn what_the_ledger_refused_may_be_accepted_again_and_every_time_as_another_transfer() {
    let refused = "asking, made, paid, crediting, frozen, suspended";
    let once = format!("{refused}, accepted, crediting");
    let twice = format!("{once}, frozen, accepted, crediting");
    let ids = [tell(&once), tell(&twice)]
        .map(|it| it.deposit.credit().expect("what was paid").transfer_id);
    assert_ne!(ids[0], ids[1]);
    let again = tell(&format!("{once}, frozen")).deposit;
    assert_eq!((again.suspense, again.work()), (Suspense::Held, Work::Rest));
    assert_eq!(tell(&format!("{twice}, posted")).deposit.state, State::Credited);
}

#[test]
fn a_person_may_have_paystack_asked_again_but_not_credit_what_is_not_there() {
    let unproved = "asking, made, webhook, open@2000";
    check(&format!("{unproved}, accepted"), "confirming", &[Effect::Look(When::Now)]);
    check(&format!("{unproved}, accepted, paid"), "paid", &[Effect::Look(When::Now)]);
    let dollars = "asking, made, dollars, suspended";
    check(&format!("{dollars}, accepted"), "review currency_differs", &[]);
    check(
        &format!("{dollars}, rejected"),
        "rejected currency_differs",
        &[Effect::Look(When::Never)],
    );
    for decision in ["accepted", "rejected"] {
        for state in
            ["", "asking, made", "asking, made, paid", "asking, made, paid, crediting, posted"]
        {
            let before = tell(state).deposit;
            let story =
                if state.is_empty() { decision.to_owned() } else { format!("{state}, {decision}") };
            assert_eq!(name(&tell(&story).deposit.state), name(&before.state), "{story}");
        }
    }
}

#[test]
fn an_unpaid_deposit_is_abandoned_in_time_and_a_late_payment_still_counts() {
    use Effect::Look;
    check("asking, made, open", "pending", &[Look(When::After(Pace::Pending))]);
    check("asking, made, not found", "pending", &[Look(When::After(Pace::Pending))]);
    check("asking, made, no answer@9000", "pending", &[Look(When::After(Pace::Unanswered))]);
    check("asking, made, open@2000", "abandoned", &[Look(When::After(Pace::Late))]);
    check("asking, made, open@2000, open", "abandoned", &[Look(When::After(Pace::Late))]);
    check("asking, made, open@2000, open@3000", "expired", &[Look(When::Never)]);
    check("asking, made, open@2000, open@3000, no answer", "expired", &[]);
    check("asking, made, failed", "failed", &[Look(When::After(Pace::Late))]);
    check("asking, made, open@2000, failed", "failed", &[Look(When::After(Pace::Late))]);
    for lost in ["open@2000", "failed", "open@2000, open@3000"] {
        check(&format!("asking, made, {lost}, paid"), "paid", &[Look(When::Now)]);
        check(&format!("asking, made, {lost}, webhook"), "confirming", &[Look(When::Now)]);
    }
}

#[test]
fn a_lost_answer_to_initialize_leads_to_a_new_reference_or_to_an_end() {
    use Effect::{Answer as Tell, Look};
    let now = [Look(When::Now)];
    check("asking, unknown", "initiated", &now);
    let again = tell("asking, unknown, open");
    assert_eq!(again.effects, now);
    assert_eq!((again.deposit.attempt.number, again.deposit.attempt.phase), (2, Phase::Stored));
    // Also when it died while asking, and whatever verify says.
    for unpaid in ["open", "not found", "failed"] {
        assert_eq!(tell(&format!("asking, {unpaid}")).deposit.attempt.number, 2);
    }
    let end = [Look(When::After(Pace::Late)), Tell];
    check("asking, unknown, open@1010", "failed", &end);
    check("asking, unknown, no answer", "failed", &end);
    // An answer that was thought lost.
    check("asking, unknown, made", "pending", &[Look(When::After(Pace::Pending)), Tell]);
    check("asking, unknown, paid", "paid", &now);
}

#[test]
fn one_asking_uses_up_so_many_references_and_no_more() {
    let mut story = "asking, unknown, open".to_owned();
    for n in 2..=ATTEMPTS_PER_ASKING_MAX {
        assert_eq!(tell(&story).deposit.attempt.number, n);
        story.push_str(", asking, unknown, open");
    }
    let end = tell(&story).deposit;
    assert_eq!(end.state, State::Failed);
    assert_eq!(end.attempt.number, ATTEMPTS_PER_ASKING_MAX);
    assert_eq!(end.answer(), Some(Answer::Unavailable));
    story.push_str(", asked again");
    let again = tell(&story).deposit;
    assert_eq!(again.state, State::Initiated);
    assert_eq!(again.attempt.number, ATTEMPTS_PER_ASKING_MAX + 1);
}

#[test]
fn without_a_checkout_it_fails_and_may_be_asked_for_again() {
    use Effect::{Answer as Tell, Look};
    check("asking, refused", "failed", &[Look(When::Never), Tell]);
    check("asking@1010", "failed", &[Look(When::Never), Tell]);
    check("asking, refused, asked again", "initiated", &[Look(When::Now)]);
    check(
        "asking, refused, asked again, asking, made, paid, crediting, posted",
        "credited",
        &[Look(When::Never), Effect::AnnounceCredited],
    );
    // With a checkout there is nothing to ask for again: it is still payable.
    check("asking, made, failed, asked again", "failed", &[]);
    check("asking, made, asked again", "pending", &[]);
    // On its way already: only the waiting gets longer.
    let waiting = tell("asking, asked again").deposit;
    assert_eq!(waiting.wait_until, Some(at(FORGET_AT)));
    assert_eq!(waiting.attempt.number, 1);
}

#[test]
fn a_webhook_may_overtake_the_answer_to_initialize() {
    use Effect::{Answer as Tell, Look};
    check("asking, webhook", "confirming", &[Look(When::Now)]);
    check("asking, webhook, made", "confirming", &[Tell]);
    check("asking, webhook, paid, made", "paid", &[Tell]);
    check("asking, webhook, paid, crediting, posted, made", "credited", &[Tell]);
    check("asking, webhook, unknown", "confirming", &[Tell]);
    assert_eq!(tell("asking, webhook").deposit.answer(), None);
    assert_eq!(tell("asking, webhook, unknown").deposit.answer(), Some(Answer::Unavailable));
    let paid = tell("asking, webhook, paid, made").deposit;
    assert_eq!(paid.answer(), Some(Answer::Checkout(first(&paid), checkout())));
}

#[test]
fn callers_see_five_states() {
    for (story, shown) in [
        ("", Shown::Pending),
        ("asking, made", Shown::Pending),
        ("asking, made, webhook", Shown::Pending),
        ("asking, made, paid", Shown::Pending),
        ("asking, made, paid, crediting, posted", Shown::Success),
        ("asking, refused", Shown::Failed),
        ("asking, made, open@2000", Shown::Abandoned),
        ("asking, made, paid, crediting", Shown::Pending),
        ("asking, made, open@2000, open@3000", Shown::Abandoned),
        ("asking, made, differs", Shown::Review),
        ("asking, made, differs, suspended, rejected", Shown::Failed),
    ] {
        assert_eq!(tell(story).deposit.shown(), shown, "{story}");
    }
}

#[test]
fn reasons_are_read_as_they_are_printed() {
    for reason in [
        Reason::AmountDiffers,
        Reason::CurrencyDiffers,
        Reason::ReferenceDiffers,
        Reason::DomainDiffers,
        Reason::Reversed,
        Reason::NotConfirmed,
        Reason::LedgerRefused("credit_account_frozen".to_owned()),
    ] {
        assert_eq!(Reason::parse(&reason.code()), Some(reason));
    }
    assert_eq!(Reason::parse("because"), None);
}

const EVENTS: [&str; 22] = [
    "asking",
    "made",
    "refused",
    "unknown",
    "asked again",
    "webhook",
    "paid",
    "open",
    "not found",
    "failed",
    "differs",
    "dollars",
    "reversed",
    "no answer",
    "crediting",
    "posted",
    "frozen",
    "silence",
    "suspended",
    "not suspended",
    "accepted",
    "rejected",
];

/// Any event, also about an attempt that is not the current one, at a clock that may stand still.
fn any_event() -> impl Strategy<Value = (&'static str, u16, i64)> {
    (prop::sample::select(&EVENTS[..]), 0_u16..3, 0_i64..300)
}

/// The same event about another attempt of the same deposit.
fn about(event: Event, other: Reference) -> Event {
    match event {
        Event::CheckoutMade { checkout, .. } => Event::CheckoutMade { reference: other, checkout },
        Event::InitializeRefused { .. } => Event::InitializeRefused { reference: other },
        Event::InitializeUnknown { .. } => Event::InitializeUnknown { reference: other },
        Event::Claimed { until, .. } => Event::Claimed { reference: other, until },
        Event::Verified { verdict: Verdict::Paid(paid) } => {
            Event::Verified { verdict: Verdict::Paid(Paid { reference: other, ..paid }) }
        }
        Event::Verified { .. }
        | Event::AskedAgain { .. }
        | Event::Asking
        | Event::VerifyFailed
        | Event::Crediting
        | Event::CreditPosted
        | Event::CreditRefused { .. }
        | Event::CreditUnknown
        | Event::Suspended
        | Event::SuspendUnknown
        | Event::Accepted { .. }
        | Event::Rejected
        | Event::GivenBack => event,
    }
}

/// Every way from one state to another that any order of events finds, by the names of the events.
fn ways() -> BTreeMap<(&'static str, &'static str), BTreeSet<&'static str>> {
    // One clock before anything is over, one after the time to pay, one after everything.
    const CLOCKS: [i64; 3] = [NOW, ABANDON_AT, FORGET_AT];
    let key =
        |it: &Deposit| (it.state.name(), it.attempt.phase, it.checkout.is_some(), it.suspense);
    let mut ways: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let (mut seen, mut todo) = (vec![key(&intent())], vec![intent()]);
    while let Some(deposit) = todo.pop() {
        for (name, clock) in EVENTS.iter().flat_map(|name| CLOCKS.map(|clock| (name, clock))) {
            let event = event(name, &deposit);
            let label = event.name();
            let next = step(&deposit, event, at(clock)).deposit;
            if next.state.name() != deposit.state.name() {
                ways.entry((deposit.state.name(), next.state.name())).or_default().insert(label);
            }
            if !seen.contains(&key(&next)) {
                seen.push(key(&next));
                todo.push(next);
            }
        }
    }
    ways
}

#[test]
fn the_diagram_shows_every_way_from_one_state_to_another() {
    let mut drawn = String::from("stateDiagram-v2\n    [*] --> initiated\n");
    for ((from, to), events) in ways() {
        let events: Vec<_> = events.into_iter().map(|it| it.replace(':', "")).collect();
        drawn.push_str(&format!("    {from} --> {to}: {}\n", events.join(", ")));
    }
    for end in ["credited", "rejected"] {
        drawn.push_str(&format!("    {end} --> [*]\n"));
    }
    let readme = include_str!("../../README.md");
    let shown = readme.split("```mermaid\n").find(|it| it.starts_with("stateDiagram"));
    let shown = shown.and_then(|it| it.split("```").next()).unwrap_or_default();
    assert_eq!(shown, drawn, "services/README.md shows another life than deposits have");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_any_events_credits_at_most_once_and_never_without_proof(
        events in prop::collection::vec(any_event(), 0..60)
    ) {
        let mut deposit = intent();
        let mut now = NOW;
        let mut due = When::Now;
        let (mut n_credited, mut n_parked, mut n_looked_again, mut proved) = (0, 0, 0, false);
        let mut given = Vec::new();
        for (name, attempt, passed) in events {
            now += passed;
            let mut event = event(name, &deposit);
            if attempt > 0 {
                event = about(event, Reference::of(deposit.deposit_id, attempt));
            }
            let is_proof = name == "paid";
            let is_no_answer = name == "posted";
            let next = step(&deposit, event.clone(), at(now));
            let is_a_persons = matches!(name, "accepted" | "rejected");
            // P1, P2, P3
            if deposit.state != State::Paid && next.deposit.state == State::Paid {
                prop_assert!(is_proof || (name == "accepted" && proved));
            }
            proved |= is_proof || next.deposit.paid.is_some();
            if deposit.state != State::Credited && next.deposit.state == State::Credited {
                prop_assert!(proved && is_no_answer && deposit.state == State::Crediting);
            }
            if matches!(deposit.state, State::Credited | State::Rejected(_)) {
                prop_assert_eq!(&next.deposit.state, &deposit.state);
            }
            if matches!(deposit.state, State::Review(_)) && !is_a_persons {
                prop_assert_eq!(&next.deposit.state, &deposit.state);
            }
            // P6
            let is_nobodys = matches!(next.deposit.state, State::Review(_) | State::Rejected(_))
                && next.deposit.paid.is_some();
            prop_assert!(!is_nobodys || next.deposit.suspense != Suspense::Nothing);
            for effect in &next.effects {
                match effect {
                    Effect::Initialize => {
                        // P5: a reference is given away once.
                        let reference = next.deposit.attempt.reference.clone();
                        prop_assert!(!given.contains(&reference));
                        given.push(reference);
                    }
                    Effect::Look(when) => due = *when,
                    Effect::AnnounceCredited => n_credited += 1,
                    Effect::AnnounceParked => n_parked += 1,
                    Effect::Answer => {}
                }
            }
            prop_assert!(n_credited <= 1 && n_parked <= 1 + next.deposit.n_accepted + n_looked_again);
            prop_assert_eq!(n_credited == 1, next.deposit.state == State::Credited);
            n_looked_again += u16::from(
                matches!(deposit.state, State::Review(_))
                    && matches!(next.deposit.state, State::Confirming { .. })
            );
            // What was asked for, and a checkout once given, never change.
            prop_assert_eq!(next.deposit.amount, deposit.amount);
            prop_assert_eq!(next.deposit.credit_transfer_id, deposit.credit_transfer_id);
            if deposit.checkout.is_some() {
                prop_assert_eq!(&next.deposit.checkout, &deposit.checkout);
                prop_assert_eq!(&next.deposit.attempt.reference, &deposit.attempt.reference);
            }
            // The same event once more changes nothing that could be paid or credited.
            let twice = step(&next.deposit, event, at(now));
            prop_assert!(!twice.effects.contains(&Effect::AnnounceCredited));
            prop_assert!(!twice.effects.contains(&Effect::Initialize) || name != "asking");
            deposit = next.deposit;
            // Whatever is not at rest is taken up again by itself.
            match deposit.state {
                State::Initiated
                | State::Pending
                | State::Confirming { .. }
                | State::Paid
                | State::Crediting => {
                    prop_assert!(due != When::Never, "{:?} is forgotten", deposit.state);
                    prop_assert!(deposit.work() != Work::Rest);
                }
                State::Review(_) => {
                    let is_owed = deposit.suspense == Suspense::Owed;
                    prop_assert_eq!(due != When::Never, is_owed);
                    prop_assert_eq!(deposit.work() == Work::Suspend, is_owed);
                }
                State::Credited | State::Expired | State::Rejected(_) => {
                    prop_assert_eq!(due, When::Never);
                }
                State::Failed | State::Abandoned => {}
            }
        }
    }

    #[test]
    fn whatever_happened_a_payment_that_verify_proves_is_credited_unless_a_person_must_look(
        events in prop::collection::vec(any_event(), 0..40)
    ) {
        let mut deposit = intent();
        let mut now = NOW;
        for (name, _, passed) in events {
            now += passed;
            deposit = step(&deposit, event(name, &deposit), at(now)).deposit;
        }
        let in_review = matches!(deposit.state, State::Review(_) | State::Rejected(_));
        for name in ["webhook", "paid", "crediting", "posted"] {
            deposit = step(&deposit, event(name, &deposit), at(now)).deposit;
        }
        prop_assert_eq!(deposit.state == State::Credited, !in_review);
    }
}
