//! The second guards: what Postgres refuses even if the code, or a hand at psql, asked for it.

use primitives::System;
use testkit::eventually;

use crate::store;
use crate::world::{BOUND, World};

#[tokio::test]
async fn postgres_refuses_what_the_rules_never_do() {
    let world = World::started().await;
    let (_, started) = world.checkout().await;
    let pool = world.pool();
    let check = async |statement: &'static str, constraint: &str| {
        assert_eq!(
            store::refused_by(pool, statement).await.as_deref(),
            Some(constraint),
            "{statement}"
        );
    };
    check(
        "update payments.deposits set state = 'credited', credited_at = now(), due_at = null",
        "deposits_credited_only_when_asked",
    )
    .await;
    check("update payments.deposits set state = 'paid'", "deposits_paid_has_proof").await;
    check("update payments.deposits set state = 'paid', paid_reference = 'dep-of-somebody-else', paid_at = now(), paid_minor = amount_minor, paid_currency = currency", "deposits_paid_under_own_reference").await;
    check(
        "update payments.deposits set paid_reference = (select reference from payments.attempts)",
        "deposits_paid_whole",
    )
    .await;
    check("update payments.deposits set state = 'paid', paid_reference = (select reference from payments.attempts), paid_at = now(), paid_minor = amount_minor + 1, paid_currency = currency", "deposits_paid_agrees").await;
    check("update payments.deposits set suspense = 'owed'", "deposits_suspense_was_paid").await;
    check("update payments.deposits set n_accepted = 1", "deposits_review_needs_a_person").await;
    check("update payments.deposits set state = 'review'", "deposits_review_has_reason").await;
    check(
        "update payments.deposits set state = 'confirming'",
        "deposits_confirming_names_reference",
    )
    .await;
    check("update payments.deposits set state = 'happy'", "deposits_state_known").await;
    check("update payments.deposits set credited_at = now()", "deposits_credited_has_time").await;
    check("update payments.deposits set authorization_url = null", "deposits_checkout_whole").await;
    check(
        "update payments.deposits set authorization_url = null, access_code = null",
        "deposits_pending_is_payable",
    )
    .await;
    for change in [
        "update payments.deposits set amount_minor = amount_minor + 1",
        "update payments.deposits set account_id = gen_random_uuid()",
        "update payments.deposits set credit_transfer_id = gen_random_uuid()",
        "update payments.deposits set currency = 'USD'",
    ] {
        check(change, "deposits_unchanged").await;
    }
    check(
        "update payments.attempts set reference = 'Not_A_Reference!!'",
        "attempts_reference_well_formed",
    )
    .await;
    world.pay(&started.reference);
    world.until("credited").await;
    check(
        "update payments.deposits set state = 'failed', credited_at = null",
        "deposits_settled_for_ever",
    )
    .await;
    check("update payments.deposits set due_at = now()", "deposits_settled_rest").await;
    world.finish().await;
}

#[tokio::test]
async fn nothing_that_was_written_goes() {
    let world = World::started().await;
    let (_, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    let check = async |statement: &'static str, constraint: &str| {
        let refused = store::refused_by(world.pool(), statement).await;
        assert_eq!(refused.as_deref(), Some(constraint), "{statement}");
    };
    for table in [
        "delete from payments.deposits",
        "delete from payments.attempts",
        "delete from payments.webhooks",
        "delete from payments.requests",
        "truncate payments.deposits cascade",
    ] {
        check(table, "kept_for_ever").await;
    }
    for change in ["update payments.timeline set detail = ''", "delete from payments.timeline"] {
        check(change, "timeline_never_changes").await;
    }
    for change in ["update payments.decisions set why = ''", "truncate payments.decisions"] {
        check(change, "decisions_never_change").await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_deposit_in_review_is_not_credited_behind_a_persons_back() {
    let world = World::started().await;
    let (account_id, started) = world.checkout().await;
    world.ledger.freeze(account_id);
    world.pay(&started.reference);
    world.until("review").await;
    for statement in [
        "update payments.deposits set state = 'paid', review_reason = null",
        "update payments.deposits set state = 'pending', review_reason = null",
    ] {
        let refused = store::refused_by(world.pool(), statement).await;
        assert_eq!(refused.as_deref(), Some("deposits_review_needs_a_person"));
    }
    // What the frozen wallet could not take is put aside, and stays what it is.
    world.until_put_aside().await;
    assert_eq!(world.ledger.system(System::Suspense), 5_000);
    assert_eq!(world.ledger.system(System::PaystackClearing), -5_000);
    for statement in [
        "update payments.deposits set paid_minor = 9000",
        "update payments.deposits set suspense = 'nothing'",
    ] {
        let refused = store::refused_by(world.pool(), statement).await;
        assert_eq!(refused.as_deref(), Some("deposits_suspense_moves_forward"), "{statement}");
    }
    world.finish().await;
}

#[tokio::test]
async fn no_deposit_begins_anywhere_but_at_its_beginning() {
    let world = World::started().await;
    let (_, started) = world.checkout().await;
    let statement = "insert into payments.deposits
        (deposit_id, account_id, email, amount_minor, currency, request_digest, credit_transfer_id,
         created_at, state, attempt_number, attempts_left, abandon_at, forget_at, n_looks,
         authorization_url, access_code)
        select gen_random_uuid(), account_id, email, amount_minor, currency, request_digest,
               gen_random_uuid(), created_at, 'pending', 1, 0, abandon_at, forget_at, 0, 'x', 'x'
        from payments.deposits";
    let refused = store::refused_by(world.pool(), statement).await;
    assert_eq!(refused.as_deref(), Some("deposits_begin_initiated"), "{}", started.reference);
    world.finish().await;
}

#[tokio::test]
async fn the_runtime_role_is_enough_for_everything_but_the_schema() {
    let mut world = World::new().await;
    testkit::postgres().await.role("payments_rw").await;
    let owner =
        payments::Config { runtime_role: Some("payments_rw".to_owned()), ..world.config.clone() };
    payments::migrate(owner).await.unwrap();
    world.config.database_url = world.database.url_as("payments_rw");
    world.start().await;
    let (account_id, started) = world.checkout().await;
    world.pay(&started.reference);
    world.until("credited").await;
    assert_eq!(world.ledger.balance(account_id), 5_000);
    let role = sqlx::PgPool::connect(&world.config.database_url).await.unwrap();
    for statement in
        ["drop table payments.waiters", "alter table payments.deposits disable trigger all"]
    {
        let refused = store::refused_by(&role, statement).await;
        assert!(refused.is_some_and(|why| why.starts_with("must be owner")), "{statement}");
    }
    role.close().await;
    world.finish().await;
}

#[tokio::test]
async fn a_row_that_nobody_can_read_stops_nobody_else() {
    let world = World::started().await;
    let (_, broken) = world.checkout().await;
    store::run(
        world.pool(),
        "alter table payments.deposits drop constraint deposits_state_known;
         alter table payments.deposits drop constraint deposits_pending_is_payable;
         update payments.deposits set state = 'happy'",
    )
    .await;
    let (account_id, good) = world.checkout().await;
    world.pay(&broken.reference);
    world.pay(&good.reference);
    eventually("the good one", BOUND, async || match world.ledger.balance(account_id) {
        5_000 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    let stored = world.until_inbox_is_empty().await;
    let reasons: Vec<_> = stored.iter().filter_map(|it| it.reason.as_deref()).collect();
    assert_eq!(reasons, ["broken"]);
    world.finish().await;
}
