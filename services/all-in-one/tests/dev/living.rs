//! It comes up, keeps what it has over every kind of end, and leaves nobody behind.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testkit::{Client, eventually};
use tokio::task::JoinHandle;

use crate::laptop::{END_WAIT, Laptop, Person, Ports, balance, run, sign_in};

/// What one transfer of a [`Payer`] moves.
const PAYMENT: u64 = 10;

/// Somebody who sends transfers until nobody answers any more.
struct Payer {
    answered: Arc<Mutex<Vec<String>>>,
    paying: JoinHandle<()>,
}

impl Payer {
    /// Begins, and waits until some transfers were answered.
    async fn begin(client: &Client, from: &Person, to: &Person) -> Self {
        let answered: Arc<Mutex<Vec<String>>> = Arc::default();
        let (client, token, heard) = (client.clone(), from.token.clone(), Arc::clone(&answered));
        let body = json!({ "recipient_wallet_number": to.wallet_number, "amount": PAYMENT });
        let paying = testkit::spawn(async move {
            loop {
                let call = client.post("/wallet/transfer").bearer(&token).json(&body);
                let Ok(answer) = call.try_send().await else { return };
                // Whoever is answered at all is answered well, to the very end.
                let sent: Value = answer.ok();
                heard.lock().unwrap().push(sent["transaction_id"].as_str().unwrap().to_owned());
            }
        });
        eventually("some transfers are answered", END_WAIT, async || {
            let n_answered = answered.lock().unwrap().len();
            if n_answered >= 20 { Ok(()) } else { Err(format!("{n_answered}")) }
        })
        .await;
        Self { answered, paying }
    }

    /// What was answered before nobody did any more.
    async fn end(self) -> BTreeSet<String> {
        self.paying.await.unwrap();
        self.answered.lock().unwrap().iter().cloned().collect()
    }
}

/// Everything that left a wallet.
async fn sent(client: &Client, person: &Person) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/wallet/transactions?type=transfer_out&limit=100{cursor}");
        let page: Value = client.get(&path).bearer(&person.token).send().await.ok();
        let lines = page["transactions"].as_array().unwrap();
        ids.extend(lines.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

fn n(transfers: &BTreeSet<String>) -> u64 {
    u64::try_from(transfers.len()).unwrap()
}

/// The demo walks the main job, and says each step.
fn demo(laptop: &Laptop) {
    let demo = laptop.run("demo");
    let said = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success(), "{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    for word in ["signs in", "pays at the checkout", "transfer_out", "transfer_in", "Done."] {
        assert!(said.contains(word), "the demo does not say {word}: {said}");
    }
    assert!(!said.contains("sk_test_") || said.contains("shown this once"), "{said}");
}

/// What else wants the folder or a port is told so, and harms nobody.
fn others_are_refused(laptop: &Laptop) {
    let second = run(laptop.on(Ports::free()).arg("dev"));
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("already running") && said.contains("WALLET_DATA"), "{said}");
    assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    let elsewhere = Laptop::new();
    let (ours, theirs) = (laptop.ports, elsewhere.ports);
    for (setting, ports) in [
        ("PORT", Ports { origin: ours.origin, ..theirs }),
        ("SANDBOX_PORT", Ports { sandbox: ours.sandbox, ..theirs }),
        ("ADMIN_PORT", Ports { admin: ours.admin, ..theirs }),
        ("SANDBOX_PORT", Ports { sandbox: theirs.origin, ..theirs }),
    ] {
        let refused = run(elsewhere.on(ports).arg("dev"));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        let sentence = format!("is taken; set {setting} to one that is free");
        assert!(said.contains(&sentence), "{setting}: {said}");
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
        assert!(elsewhere.children().is_empty(), "nothing was started");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_laptop_keeps_its_money_over_every_kind_of_end() {
    let laptop = Laptop::new();
    let client = laptop.client();
    let mut wallet = laptop.start().await;
    let ready: Value = laptop.admin().get("/readyz").send().await.ok();
    let checks = ready["checks"].as_array().unwrap();
    for service in ["api.", "keys.", "ledger.", "payments."] {
        let is_there = |it: &Value| it["name"].as_str().is_some_and(|it| it.starts_with(service));
        assert!(checks.iter().any(is_there), "ready without {service} {ready}");
    }
    demo(&laptop);
    let ada = sign_in(&client, "ada@example.com").await;
    let bola = sign_in(&client, "bola@example.com").await;
    assert_eq!((balance(&client, &ada).await, balance(&client, &bola).await), (380_000, 120_000));
    others_are_refused(&laptop);
    client.post("/wallet/paystack/webhook").json(&json!({})).send().await.expect(401);

    // In good order: in seconds, with nobody left, nothing to complain about, and an answer for
    // everything that was done.
    let payer = Payer::begin(&client, &ada, &bola).await;
    let servers = [laptop.server("postgres"), laptop.server("nats")];
    wallet.signal(Signal::SIGTERM);
    assert_eq!(wallet.ends(END_WAIT).await.code(), Some(0), "{}", wallet.log());
    laptop.is_deserted(&servers).await;
    assert_eq!(wallet.log(), "", "a quiet life leaves no lines");
    let answered = payer.end().await;

    // The same people with the same wallets; a token outlives the process that made it.
    let mut wallet = laptop.start().await;
    let before = sent(&client, &ada).await;
    let n_of_demo = 1;
    assert!(before.is_superset(&answered), "answered and lost");
    assert_eq!(before.len(), answered.len() + n_of_demo, "done and not answered");
    let left = 380_000 - PAYMENT * n(&answered);
    assert_eq!(balance(&client, &ada).await, left);
    let again = sign_in(&client, "ada@example.com").await;
    assert_eq!(again.wallet_number, ada.wallet_number);

    // A power cut while money moves: what was answered has happened, and the next start works.
    let payer = Payer::begin(&client, &ada, &bola).await;
    let servers = [laptop.server("postgres"), laptop.server("nats")];
    wallet.signal(Signal::SIGKILL);
    wallet.ends(END_WAIT).await;
    laptop.is_deserted(&servers).await;
    let answered = payer.end().await;
    let mut wallet = laptop.start().await;
    let new: BTreeSet<String> = &sent(&client, &ada).await - &before;
    assert!(new.is_superset(&answered), "answered and lost");
    // The last one may have been done without anybody being told.
    assert!(new.len() - answered.len() <= 1, "{} done, {} answered", new.len(), answered.len());
    let left = left - PAYMENT * n(&new);
    assert_eq!(balance(&client, &ada).await, left);
    demo(&laptop);

    // A server that dies takes the platform with it, in a sentence.
    let postgres = laptop.server("postgres");
    let servers = [postgres, laptop.server("nats")];
    kill(Pid::from_raw(i32::try_from(postgres).unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(wallet.ends(END_WAIT * 2).await.code(), Some(1), "{}", wallet.log());
    assert!(wallet.log().contains("Postgres has ended by itself"), "{}", wallet.log());
    laptop.is_deserted(&servers).await;

    // Ctrl-C.
    let mut wallet = laptop.start().await;
    assert_eq!(balance(&client, &ada).await, left + 380_000);
    let servers = [laptop.server("postgres"), laptop.server("nats")];
    wallet.signal(Signal::SIGINT);
    assert_eq!(wallet.ends(END_WAIT).await.code(), Some(0), "{}", wallet.log());
    laptop.is_deserted(&servers).await;
}
