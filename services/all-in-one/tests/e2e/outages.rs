//! NATS and Postgres die while money moves: nothing that was answered is lost, nothing is done
//! twice, and the platform is itself again without anybody's help.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Client, eventually};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{Person, World, text};

/// An outage and the recovery after it; clients of NATS and Postgres pause up to seconds.
const WAIT: Duration = Duration::from_secs(60);
/// Between two tries of a caller.
const PAUSE: Duration = Duration::from_millis(20);
const CALLERS: usize = 4;

/// Callers who send one transfer after the other, and do not give up before each is decided.
struct Traffic {
    seen: Arc<Seen>,
    callers: Vec<JoinHandle<()>>,
}

/// What the callers were told.
#[derive(Default)]
struct Seen {
    sent: Mutex<Vec<String>>,
    n_refused: AtomicUsize,
    is_enough: CancellationToken,
}

impl Traffic {
    fn begin(world: &World, ada: &Person, bola: &Person) -> Self {
        let seen = Arc::new(Seen::default());
        let callers = (0..CALLERS).map(|caller| {
            let (client, seen) = (world.client.clone(), Arc::clone(&seen));
            let (from, to) = if caller % 2 == 0 { (ada, bola) } else { (bola, ada) };
            let (from, to) = (from.clone(), to.clone());
            testkit::spawn(async move {
                for n in 0.. {
                    if seen.is_enough.is_cancelled() {
                        return;
                    }
                    let (client, from, to) = (client.clone(), from.clone(), to.clone());
                    let order = Order { client, from, to, key: format!("{caller}-{n}") };
                    if let Some(id) = order.send(&seen).await {
                        seen.sent.lock().unwrap().push(id);
                    }
                }
            })
        });
        Self { callers: callers.collect(), seen }
    }

    /// Waits until so many more were sent.
    async fn goes_on(&self, n_more: usize) {
        let n_wanted = self.n_sent() + n_more;
        eventually("the traffic goes on", WAIT, async || match self.n_sent() {
            n_sent if n_sent >= n_wanted => Ok(()),
            n_sent => {
                self.insist_on_callers();
                Err(format!("{n_sent} of {n_wanted} sent, {:?} refused", self.seen.n_refused))
            }
        })
        .await;
    }

    /// Waits until somebody more is refused, or waits in vain.
    async fn is_hit(&self) {
        let n_before = self.seen.n_refused.load(Ordering::Relaxed);
        eventually("callers notice the outage", WAIT, async || {
            self.insist_on_callers();
            match self.seen.n_refused.load(Ordering::Relaxed) {
                n if n > n_before => Ok(()),
                n => Err(format!("{n} refused")),
            }
        })
        .await;
    }

    fn insist_on_callers(&self) {
        assert!(!self.callers.iter().any(JoinHandle::is_finished), "a caller has failed");
    }

    fn n_sent(&self) -> usize {
        self.seen.sent.lock().unwrap().len()
    }

    /// Lets every caller finish what is in hand; the ids of what they sent.
    async fn end(self) -> BTreeSet<String> {
        self.seen.is_enough.cancel();
        for caller in self.callers {
            caller.await.unwrap();
        }
        let sent = self.seen.sent.lock().unwrap();
        let ids: BTreeSet<String> = sent.iter().cloned().collect();
        assert_eq!(ids.len(), sent.len(), "two requests were answered with one transfer");
        ids
    }
}

/// What is sent, by whom.
struct Order {
    client: Client,
    from: Person,
    to: Person,
    key: String,
}

impl Order {
    /// Asks until there is an answer for good: the transfer's id, or nothing if it was refused.
    async fn send(&self, seen: &Seen) -> Option<String> {
        let begun = Instant::now();
        loop {
            match self.try_once(seen).await {
                Ok(decided) => return decided,
                Err(last) => assert!(begun.elapsed() < WAIT, "{} is not decided: {last}", self.key),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_once(&self, seen: &Seen) -> Result<Option<String>, String> {
        let body = json!({ "recipient_wallet_number": self.to.wallet_number, "amount": 10 });
        let call = self.client.post("/wallet/transfer").bearer(&self.from.token).json(&body);
        let answer = call.idempotency_key(&self.key).send().await;
        match answer.status.as_u16() {
            200 => Ok(Some(text(&answer.ok(), "transaction_id"))),
            // Not known: what the place to look says at last is what happened.
            202 => {
                seen.n_refused.fetch_add(1, Ordering::Relaxed);
                let look = self.client.get(answer.header("location")).bearer(&self.from.token);
                let looked = look.send().await;
                let found = (looked.status == 200).then(|| looked.ok::<Value>());
                match found.as_ref().and_then(|it| it["status"].as_str()) {
                    Some("success") => Ok(found.map(|it| text(&it, "id"))),
                    Some("failed") => Ok(None),
                    _ => Err(looked.text()),
                }
            }
            502..=504 => {
                seen.n_refused.fetch_add(1, Ordering::Relaxed);
                Err(answer.text())
            }
            _ => {
                answer.problem(422, "deadline_exceeded");
                Ok(None)
            }
        }
    }
}

/// The ids of everything that left a wallet.
async fn sent_by(world: &World, person: &Person) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/wallet/transactions?type=transfer_out&limit=100{cursor}");
        let page: Value = world.client.get(&path).bearer(&person.token).send().await.ok();
        let lines = page["transactions"].as_array().unwrap();
        let done = lines.iter().filter(|it| it["status"] == "success");
        ids.extend(done.map(|it| text(it, "id")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

/// Everything that was answered happened once, and nothing else did.
async fn insist_on_the_books(world: &World, people: &[&Person; 2], answered: &BTreeSet<String>) {
    let mut done = Vec::new();
    for person in people {
        done.extend(sent_by(world, person).await);
    }
    let distinct: BTreeSet<String> = done.iter().cloned().collect();
    assert_eq!(distinct.len(), done.len());
    let lost: Vec<_> = answered.difference(&distinct).collect();
    assert!(lost.is_empty(), "answered and not done: {lost:?}");
    let unasked: Vec<_> = distinct.difference(answered).collect();
    assert!(unasked.is_empty(), "done and never answered: {unasked:?}");
    let total = world.balance(people[0]).await + world.balance(people[1]).await;
    assert_eq!(total, 2_000_000);
}

/// Everything works, from the sign-in to the revocation of a key.
async fn insist_on_the_main_job(world: &World, name: &str) {
    let ada = world.funded(&format!("{name}@example.com"), 50_000).await;
    let key = world.key(&ada, &["read"]).await;
    world.client.get("/wallet/balance").api_key(&key).send().await.expect(200);
    let list: Value = world.client.get("/keys/list").bearer(&ada.token).send().await.ok();
    let path = format!("/keys/{}/revoke", text(&list["keys"][0], "id"));
    world.client.post(&path).bearer(&ada.token).send().await.expect(200);
    eventually("the key is revoked everywhere", Duration::from_secs(1), async || {
        let answer = world.client.get("/wallet/balance").api_key(&key).send().await;
        if answer.status == 401 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

const FLAGS: [&str; 2] = ["--api-wait-ms=1500", "--payments-confirm-first-ms=100"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_may_die_and_lose_every_stream_while_transfers_run() {
    let mut world = World::start_with(&FLAGS).await;
    let ada = world.funded("ada@example.com", 1_000_000).await;
    let bola = world.funded("bola@example.com", 1_000_000).await;
    let traffic = Traffic::begin(&world, &ada, &bola);
    traffic.goes_on(20).await;
    world.nats.kill().await;
    traffic.is_hit().await;
    world.nats.start_again().await;
    traffic.goes_on(20).await;

    world.nats.kill().await;
    traffic.is_hit().await;
    world.nats.start_empty().await;
    traffic.goes_on(20).await;
    insist_on_the_main_job(&world, "after-the-loss").await;

    // A deposit that is paid while NATS is away is only late.
    let carol = world.person("carol@example.com").await;
    let reference = world.deposit(&carol, 50_000).await;
    world.nats.kill().await;
    world.pay(&reference).await;
    traffic.is_hit().await;
    world.nats.start_empty().await;
    world.settled(&carol, &reference, "success").await;
    let answered = traffic.end().await;
    insist_on_the_books(&world, &[&ada, &bola], &answered).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_die_while_transfers_run() {
    let mut world = World::start_alone(&FLAGS).await;
    let ada = world.funded("ada@example.com", 1_000_000).await;
    let bola = world.funded("bola@example.com", 1_000_000).await;
    let traffic = Traffic::begin(&world, &ada, &bola);
    for _ in 0..2 {
        traffic.goes_on(20).await;
        world.postgres().kill().await;
        traffic.is_hit().await;
        world.postgres().start_again().await;
    }
    traffic.goes_on(20).await;
    insist_on_the_main_job(&world, "after-the-crash").await;
    let answered = traffic.end().await;
    insist_on_the_books(&world, &[&ada, &bola], &answered).await;
    world.finish().await;
}
