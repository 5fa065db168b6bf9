//! Any service may stop after any step of a transfer or of a deposit: when it is back, the end is
//! the same.

use payments::Part;
use sandbox::faults::{Fault, Plan};
use serde_json::{Value, json};
use testkit::{Answer, Call, eventually};

use crate::world::{Person, Service, WAIT, World, surely, text};

const AMOUNT: u64 = 10_000;
const COMMANDS: &str = "CMD_LEDGER";

/// How far a deposit has come when a service stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The command is in the stream.
    Asked,
    /// The intent is stored.
    Intended,
    /// The person has the checkout.
    CheckedOut,
    /// It is paid, and the webhook is on its way.
    Paid,
    /// The webhook is stored.
    Told,
    /// The webhook is read.
    Claimed,
    /// Paystack has said so itself.
    Proved,
    /// The ledger has credited it, and payments has not heard of that.
    Credited,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Asked,
        Self::Intended,
        Self::CheckedOut,
        Self::Paid,
        Self::Told,
        Self::Claimed,
        Self::Proved,
        Self::Credited,
    ];

    /// The loops of payments that carry a deposit to this step and not beyond.
    fn parts(self) -> Vec<Part> {
        let mut parts = vec![Part::Commands, Part::Answer];
        if self >= Self::CheckedOut {
            parts.extend([Part::Initialize, Part::Tell]);
        }
        if self >= Self::Claimed {
            parts.push(Part::Inbox);
        }
        if self >= Self::Proved {
            parts.push(Part::Verify);
        }
        parts
    }
}

fn ask(world: &World, person: &Person, key: &str) -> Call {
    let call = world.client.post("/wallet/deposit").bearer(&person.token);
    call.json(&json!({ "amount": AMOUNT })).idempotency_key(key)
}

/// Waits until the youngest deposit is in this state, as its database says.
async fn state_is(world: &World, wanted: &str) {
    eventually(&format!("the deposit is {wanted}"), WAIT, async || {
        let state: Option<String> = sqlx::query_scalar(
            "select state from payments.deposits order by created_at desc limit 1",
        )
        .fetch_optional(world.database(Service::Payments))
        .await
        .unwrap();
        if state.as_deref() == Some(wanted) { Ok(()) } else { Err(format!("{state:?}")) }
    })
    .await;
}

async fn n_deposits(world: &World) -> i64 {
    let count = sqlx::query_scalar("select count(*) from payments.deposits");
    count.fetch_one(world.database(Service::Payments)).await.unwrap()
}

/// Carries a new deposit to `step`, with payments in no state to go on from there.
async fn carry(world: &mut World, ada: &Person, step: Step, key: &str) {
    world.stop(Service::Payments).await;
    if step == Step::Asked {
        let before = world.nats.last_sequence("CMD_PAYMENTS").await;
        testkit::spawn(ask(world, ada, key).try_send());
        return eventually("the command is in the stream", WAIT, async || {
            match world.nats.last_sequence("CMD_PAYMENTS").await {
                now if now > before => Ok(()),
                now => Err(format!("{now} messages")),
            }
        })
        .await;
    }
    world.run_payments(&step.parts()).await;
    if step == Step::Intended {
        let before = n_deposits(world).await;
        testkit::spawn(ask(world, ada, key).try_send());
        return eventually("the intent is stored", WAIT, async || {
            let now = n_deposits(world).await;
            if now > before { Ok(()) } else { Err(format!("{now} deposits")) }
        })
        .await;
    }
    let reference = text(&ask(world, ada, key).send().await.ok(), "reference");
    if step == Step::CheckedOut {
        return;
    }
    if step == Step::Paid {
        world.sandbox.inject(Plan::next(Fault::WebhookLate, 1).delayed(300));
    }
    world.pay(&reference).await;
    match step {
        Step::Asked | Step::Intended | Step::CheckedOut | Step::Paid => {}
        Step::Told => {
            eventually("the webhook is stored", WAIT, async || {
                let sent = world.sandbox.webhooks();
                let sent = sent.iter().find(|it| it.reference == reference);
                if sent.is_some_and(|it| it.delivered) { Ok(()) } else { Err(format!("{sent:?}")) }
            })
            .await;
            state_is(world, "pending").await;
        }
        Step::Claimed => state_is(world, "confirming").await,
        Step::Proved => state_is(world, "paid").await,
        Step::Credited => credit_unheard(world, ada).await,
    }
}

/// Has a proved deposit credited while payments is away.
async fn credit_unheard(world: &mut World, ada: &Person) {
    state_is(world, "paid").await;
    let before = world.balance(ada).await;
    world.stop(Service::Ledger).await;
    world.stop(Service::Payments).await;
    let n_commands = world.nats.last_sequence(COMMANDS).await;
    world.run_payments(&[Part::Credit]).await;
    eventually("the ledger is asked", WAIT, async || {
        match world.nats.last_sequence(COMMANDS).await {
            now if now > n_commands => Ok(()),
            now => Err(format!("{now} commands")),
        }
    })
    .await;
    world.stop(Service::Payments).await;
    world.run(Service::Ledger).await;
    eventually("the ledger has credited", WAIT, async || match world.balance(ada).await {
        balance if balance == before + AMOUNT => Ok(()),
        balance => Err(format!("{balance}")),
    })
    .await;
    state_is(world, "crediting").await;
    world.run_payments(&[]).await;
}

async fn a_deposit_interrupted(world: &mut World, ada: &Person, step: Step, victim: Service) {
    let key = format!("{step:?}-of-{victim:?}");
    let before = world.balance(ada).await;
    carry(world, ada, step, &key).await;
    world.stop(victim).await;
    if victim != Service::Payments {
        // The deposit goes on as far as it can without the victim.
        world.stop(Service::Payments).await;
        world.run(Service::Payments).await;
    }
    world.run(victim).await;
    let checkout = surely(&key, || ask(world, ada, &key)).await;
    let reference = text(&checkout.ok(), "reference");
    if step < Step::Paid {
        world.pay(&reference).await;
    }
    world.settled(ada, &reference, "success").await;
    assert_eq!(world.balance(ada).await, before + AMOUNT, "{key}");
    let again = surely(&key, || ask(world, ada, &key)).await;
    assert_eq!(text(&again.ok(), "reference"), reference, "{key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_ends_the_same_whatever_stops_after_whatever_step() {
    let mut world = World::start_with(&[
        "--payments-ledger-wait-ms=400",
        "--payments-confirm-first-ms=100",
        "--payments-provider-timeout-ms=2000",
        "--payments-lease-ms=3000",
        "--api-checkout-wait-ms=2000",
    ])
    .await;
    let ada = world.person("ada@example.com").await;
    let mut n_deposits = 0;
    for step in Step::ALL {
        for victim in Service::ALL {
            a_deposit_interrupted(&mut world, &ada, step, victim).await;
            n_deposits += 1;
        }
    }
    assert_eq!(world.balance(&ada).await, n_deposits * AMOUNT);
    let path = "/wallet/transactions?limit=100";
    let history: Value = world.client.get(path).bearer(&ada.token).send().await.ok();
    let n_credits = u64::try_from(history["transactions"].as_array().unwrap().len()).unwrap();
    assert_eq!(n_credits, n_deposits, "each deposit is one line of history");
    assert_eq!(world.parked_webhooks().await, []);
    world.finish().await;
}

/// A wallet to send from and one to send to.
struct Pair {
    ada: Person,
    bola: Person,
    key: String,
}

impl Pair {
    fn send(&self, world: &World, idempotency_key: &str) -> Call {
        world.transfer(&self.ada, &self.bola, 100).idempotency_key(idempotency_key)
    }

    fn send_by_key(&self, world: &World, idempotency_key: &str) -> Call {
        let body = json!({ "recipient_wallet_number": self.bola.wallet_number, "amount": 100 });
        let call = world.client.post("/wallet/transfer").api_key(&self.key).json(&body);
        call.idempotency_key(idempotency_key)
    }

    async fn balances(&self, world: &World) -> (u64, u64) {
        (world.balance(&self.ada).await, world.balance(&self.bola).await)
    }
}

/// The service is away before anybody asks.
async fn before_the_command(world: &mut World, pair: &Pair, victim: Service) {
    let key = format!("before-{victim:?}");
    let (ada, bola) = pair.balances(world).await;
    world.stop(victim).await;
    match victim {
        // Nobody is there to answer; the origin says so.
        Service::Api => {
            pair.send(world, &key).send().await.expect(502);
        }
        Service::Keys => {
            eventually("the api has forgotten the key", WAIT, async || {
                let call = world.client.get("/wallet/balance").api_key(&pair.key);
                let answer = call.send().await;
                if answer.status == 503 { Ok(()) } else { Err(answer.text()) }
            })
            .await;
            let refused = pair.send_by_key(world, &key).send().await;
            refused.problem(503, "service_unavailable");
            assert!(!refused.header("retry-after").is_empty());
        }
        // Its own test is `a_transfer_that_nobody_decides_in_time_fails_for_good`.
        Service::Ledger => {
            let path = "/wallet/balance";
            let refused = world.client.get(path).bearer(&pair.ada.token).send().await;
            refused.problem(503, "service_unavailable");
        }
        Service::Payments => {
            pair.send(world, &key).send().await.expect(200);
        }
    }
    world.run(victim).await;
    let first: Value = surely(&key, || pair.send_by_key(world, &key)).await.ok();
    let again: Value = surely(&key, || pair.send(world, &key)).await.ok();
    assert_eq!(first["transaction_id"], again["transaction_id"]);
    assert_eq!(pair.balances(world).await, (ada - 100, bola + 100), "{key}");
}

/// The command waits in the stream for a ledger that is away, and another service goes away too.
async fn with_the_command_in_the_stream(world: &mut World, pair: &Pair, victim: Service) {
    let key = format!("in-stream-{victim:?}");
    let (ada, bola) = pair.balances(world).await;
    world.stop(Service::Ledger).await;
    let n_commands = world.nats.last_sequence(COMMANDS).await;
    let asked = testkit::spawn(pair.send(world, &key).try_send());
    eventually("the command is in the stream", WAIT, async || {
        match world.nats.last_sequence(COMMANDS).await {
            now if now > n_commands => Ok(()),
            now => Err(format!("{now} commands")),
        }
    })
    .await;
    if victim != Service::Ledger {
        world.stop(victim).await;
        world.run(victim).await;
    }
    world.run(Service::Ledger).await;
    // In time: the very call that waited is answered.
    let first: Value = asked.await.unwrap().unwrap().ok();
    assert_eq!(first["status"], "success");
    let again = surely(&key, || pair.send(world, &key)).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.ok::<Value>(), first, "{key}");
    assert_eq!(pair.balances(world).await, (ada - 100, bola + 100), "{key}");
}

/// The money has moved; whoever forgets, it stays where it is.
async fn after_the_commit(world: &mut World, pair: &Pair, victim: Service) {
    let key = format!("after-{victim:?}");
    let first: Value = pair.send(world, &key).send().await.ok();
    let before = pair.balances(world).await;
    world.stop(victim).await;
    world.run(victim).await;
    let again = surely(&key, || pair.send(world, &key)).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.ok::<Value>(), first, "{key}");
    assert_eq!(pair.balances(world).await, before, "{key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_ends_the_same_whatever_stops_after_whatever_step() {
    let mut world = World::start_with(&["--api-wait-ms=20000"]).await;
    let ada = world.funded("ada@example.com", 100_000).await;
    let bola = world.person("bola@example.com").await;
    let key = world.key(&ada, &["transfer"]).await;
    let pair = Pair { ada, bola, key };
    for victim in Service::ALL {
        before_the_command(&mut world, &pair, victim).await;
        with_the_command_in_the_stream(&mut world, &pair, victim).await;
        after_the_commit(&mut world, &pair, victim).await;
    }
    assert_eq!(pair.balances(&world).await, (100_000 - 1_200, 1_200), "three for each service");
    world.finish().await;
}

/// What a transfer that was answered 202 became.
async fn became(world: &World, ada: &Person, location: &str, wanted: &str) -> Value {
    eventually(&format!("{location} is {wanted}"), WAIT, async || {
        let answer = world.client.get(location).bearer(&ada.token).send().await;
        if answer.status == 503 {
            return Err(answer.text());
        }
        let found: Value = answer.ok();
        if found["status"] == wanted { Ok(found) } else { Err(found.to_string()) }
    })
    .await
}

fn location(awaited: &Answer) -> String {
    awaited.expect(202);
    let body: Value = awaited.read();
    let location = awaited.header("location").to_owned();
    assert_eq!(location, format!("/wallet/transactions/{}", text(&body, "transaction_id")));
    assert_eq!(body["status"], "pending");
    location
}

async fn a_transfer_that_nobody_decides_in_time_fails_for_good(world: &mut World, pair: &Pair) {
    let before = pair.balances(world).await;
    world.stop(Service::Ledger).await;
    let awaited = pair.send(world, "too-late").send().await;
    let path = location(&awaited);
    // The same again finds the same transfer.
    assert_eq!(location(&pair.send(world, "too-late").send().await), path);
    world.run(Service::Ledger).await;
    let failed = became(world, &pair.ada, &path, "failed").await;
    assert_eq!((&failed["type"], &failed["amount"]), (&json!("transfer_out"), &json!(100)));
    assert_eq!(failed["balance_after"], Value::Null);
    let again = surely("too-late", || pair.send(world, "too-late")).await;
    again.problem(422, "deadline_exceeded");
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(became(world, &pair.ada, &path, "failed").await, failed, "for good");
    assert_eq!(pair.balances(world).await, before);
}

/// The ledger decides in time, but its commit, and so its answer, is late.
async fn a_transfer_that_was_decided_in_time_succeeds_for_good(world: &World, pair: &Pair) {
    let (ada, bola) = pair.balances(world).await;
    let mut held = world.database(Service::Ledger).begin().await.unwrap();
    let lock = sqlx::raw_sql("lock table ledger.transfers in exclusive mode");
    lock.execute(&mut *held).await.unwrap();
    let awaited = pair.send(world, "in-time").send().await;
    let path = location(&awaited);
    let pending: Value = world.client.get(&path).bearer(&pair.ada.token).send().await.ok();
    assert_eq!(pending["status"], "pending");
    assert_eq!(pending["counterparty_wallet"], pair.bola.wallet_number.as_str());
    held.rollback().await.unwrap();
    let done = became(world, &pair.ada, &path, "success").await;
    assert_eq!(done["balance_after"], ada - 100);
    assert_eq!(done["created_at"].as_str().map(|it| it.ends_with('Z')), Some(true));
    let again = surely("in-time", || pair.send(world, "in-time")).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.ok::<Value>()["transaction_id"], done["id"]);
    assert_eq!(pair.balances(world).await, (ada - 100, bola + 100));
    // Nobody else sees it while only the sender may.
    let others = world.client.get(&path).api_key(&pair.key).send().await;
    others.problem(403, "missing_permission");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_transfer_becomes_a_success_or_a_failure_and_never_both() {
    let mut world = World::start_with(&["--api-wait-ms=800"]).await;
    let ada = world.funded("ada@example.com", 100_000).await;
    let bola = world.person("bola@example.com").await;
    let key = world.key(&ada, &["transfer"]).await;
    let pair = Pair { ada, bola, key };
    a_transfer_that_nobody_decides_in_time_fails_for_good(&mut world, &pair).await;
    a_transfer_that_was_decided_in_time_succeeds_for_good(&world, &pair).await;
    world.restart().await;
    let history = world.client.get("/wallet/transactions").bearer(&pair.ada.token);
    let history: Value = history.send().await.ok();
    let lines = history["transactions"].as_array().unwrap();
    let n_sent =
        lines.iter().filter(|it| it["type"] == "transfer_out" && it["status"] == "success");
    assert_eq!(n_sent.count(), 1, "{history}");
    world.finish().await;
}
