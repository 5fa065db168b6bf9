//! People who want to deposit, do not give up, and at the checkout do what people do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use primitives::EventId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sandbox::Sandbox;
use sandbox::paystack::model::{Attempt, Outcome};
use serde_json::{Value, json};
use testkit::{Call, Client, eventually};
use tokio::task::JoinHandle;

use crate::platform::Platform;

const PEOPLE: usize = 20;
/// Deposits that are begun at one time.
const AT_A_TIME: usize = 16;
/// Somebody whose app gave up waits no longer for the first answer.
const IMPATIENCE: Duration = Duration::from_millis(30);
/// A kill of everything at once, its recovery and the api's own waits.
const ANSWERED_WITHIN: Duration = Duration::from_secs(100);
/// Between two tries of one app.
const PAUSE: Duration = Duration::from_millis(50);
const BANKS_NO: &str = "4084080000005408";

/// What somebody does at the checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Will {
    Pays,
    /// Another amount than was asked for.
    PaysOther(u64),
    PaysDollars,
    IsRefused,
    IsRefusedThenPays,
    WalksAway,
}

/// One deposit as it is wanted.
#[derive(Debug, Clone)]
struct Wish {
    person: usize,
    amount: u64,
    will: Will,
    /// Asks, does not wait for the answer, and asks again.
    is_impatient: bool,
    /// Asks once more after the answer.
    asks_twice: bool,
}

impl Wish {
    fn drawn(seed: u64, n: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(u64::try_from(n).unwrap() << 20));
        let amount = rng.random_range(5_000..=1_000_000);
        let will = match rng.random_range(0..100) {
            0..62 => Will::Pays,
            62..68 => Will::PaysOther(amount + rng.random_range(1..=5_000)),
            68..72 => Will::PaysOther(amount - rng.random_range(1..=4_999)),
            72..76 => Will::PaysDollars,
            76..82 => Will::IsRefused,
            82..88 => Will::IsRefusedThenPays,
            _ => Will::WalksAway,
        };
        Self {
            person: rng.random_range(0..PEOPLE),
            amount,
            will,
            is_impatient: rng.random_bool(0.1),
            asks_twice: rng.random_bool(0.1),
        }
    }
}

/// What somebody was told.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) reference: String,
    pub(crate) amount: u64,
}

/// Everybody, and what they have seen.
pub(crate) struct Crowd {
    client: Client,
    sandbox: Arc<Sandbox>,
    tokens: Vec<String>,
    /// No key of an earlier run is used again.
    run: EventId,
    seed: u64,
    n_deposits: usize,
    n_begun: AtomicUsize,
    n_failed: AtomicUsize,
    weather: Mutex<BTreeMap<String, usize>>,
}

impl Crowd {
    /// Signs everybody in.
    pub(crate) async fn arrive(platform: &Platform, seed: u64, n_deposits: usize) -> Arc<Self> {
        let mut tokens = Vec::new();
        for n in 0..PEOPLE {
            tokens.push(platform.sign_in(&format!("person-{n}@example.com")).await);
        }
        Arc::new(Self {
            client: platform.client.clone(),
            sandbox: Arc::clone(&platform.sandbox),
            tokens,
            run: EventId::generate(),
            seed,
            n_deposits,
            n_begun: AtomicUsize::new(0),
            n_failed: AtomicUsize::new(0),
            weather: Mutex::default(),
        })
    }

    /// Lets them deposit.
    pub(crate) fn begin(self: Arc<Self>) -> Vec<JoinHandle<Vec<Asked>>> {
        let apps = (0..AT_A_TIME).map(|_| {
            let crowd = Arc::clone(&self);
            testkit::spawn(async move {
                let fails = Fails(&crowd.n_failed);
                let mut asked = Vec::new();
                loop {
                    let n = crowd.n_begun.fetch_add(1, Ordering::Relaxed);
                    if n >= crowd.n_deposits {
                        std::mem::forget(fails);
                        return asked;
                    }
                    asked.push(crowd.deposit(n).await);
                }
            })
        });
        apps.collect()
    }

    /// How many deposits were begun.
    pub(crate) fn n_begun(&self) -> usize {
        self.n_begun.load(Ordering::Relaxed).min(self.n_deposits)
    }

    pub(crate) fn insist_on_nobody_failed(&self) {
        assert_eq!(self.n_failed.load(Ordering::Relaxed), 0, "somebody was told something odd");
    }

    /// Waits until everybody is done.
    pub(crate) async fn end(&self, traffic: Vec<JoinHandle<Vec<Asked>>>) -> Vec<Asked> {
        let mut asked = Vec::new();
        for app in traffic {
            asked.extend(app.await.unwrap());
        }
        assert_eq!(asked.len(), self.n_deposits);
        asked
    }

    /// The answers after which somebody asked again, by what they were.
    pub(crate) fn weather(&self) -> BTreeMap<String, usize> {
        self.weather.lock().unwrap().clone()
    }

    /// What all wallets hold together.
    pub(crate) async fn balances(&self) -> Result<u64, String> {
        let mut sum = 0;
        for token in &self.tokens {
            let call = self.client.get("/wallet/balance").bearer(token);
            let answer = call.try_send().await.map_err(|error| error.to_string())?;
            if answer.status != 200 {
                return Err(answer.text());
            }
            sum += answer.ok::<Value>()["balance"].as_u64().unwrap();
        }
        Ok(sum)
    }

    async fn deposit(&self, n: usize) -> Asked {
        let wish = Wish::drawn(self.seed, n);
        if wish.is_impatient {
            // Nobody hears the answer, whatever it is.
            drop(tokio::time::timeout(IMPATIENCE, self.ask(n, &wish).try_send()).await);
        }
        let reference = self.checkout(n, &wish).await;
        if wish.asks_twice {
            assert_eq!(self.checkout(n, &wish).await, reference, "one key, one checkout");
        }
        self.act(&wish, &reference);
        Asked { reference, amount: wish.amount }
    }

    fn ask(&self, n: usize, wish: &Wish) -> Call {
        let call = self.client.post("/wallet/deposit").bearer(&self.tokens[wish.person]);
        call.idempotency_key(&format!("{}-{n}", self.run)).json(&json!({ "amount": wish.amount }))
    }

    /// Asks with the same key until there is a checkout.
    async fn checkout(&self, n: usize, wish: &Wish) -> String {
        let begun = Instant::now();
        loop {
            let said = match self.ask(n, wish).try_send().await {
                Ok(answer) if answer.status == 200 => {
                    return answer.ok::<Value>()["reference"].as_str().unwrap().to_owned();
                }
                Ok(answer) => {
                    let code = answer.read::<Value>()["code"].as_str().map(str::to_owned);
                    let status = answer.status.as_u16();
                    assert!((502..=504).contains(&status), "deposit {n}: {}", answer.text());
                    format!("{status} {}", code.unwrap_or_default())
                }
                Err(error) if error.is_connect() => "not connected".to_owned(),
                Err(_) => "cut off".to_owned(),
            };
            *self.weather.lock().unwrap().entry(said.clone()).or_default() += 1;
            assert!(begun.elapsed() < ANSWERED_WITHIN, "deposit {n} has no checkout: {said}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn act(&self, wish: &Wish, reference: &str) {
        let pays = Attempt::new(Outcome::Success);
        let attempts = match wish.will {
            Will::Pays => vec![pays],
            Will::PaysOther(amount) => vec![Attempt { other_amount: Some(amount), ..pays }],
            Will::PaysDollars => vec![Attempt { other_currency: Some("USD".to_owned()), ..pays }],
            Will::IsRefused => vec![Attempt::with_card(BANKS_NO)],
            Will::IsRefusedThenPays => vec![Attempt::with_card(BANKS_NO), pays],
            Will::WalksAway => vec![Attempt::new(Outcome::Abandoned)],
        };
        for attempt in attempts {
            self.sandbox.pay(reference, attempt).expect("the checkout is open");
        }
    }
}

/// Counts an app that panics.
struct Fails<'a>(&'a AtomicUsize);

impl Drop for Fails<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Signs a person in as a browser does: platform, provider, back with a code.
pub(crate) async fn sign_in(client: &Client, email: &str) -> String {
    let begun = eventually("the api answers", ANSWERED_WITHIN, async || {
        let call = client.get(&format!("/auth/google?login_hint={email}"));
        let answer = call.try_send().await.map_err(|error| error.to_string())?;
        if answer.status == 302 { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
    let agreed = Client::new("").get(begun.header("location")).send().await;
    let back = agreed.header("location").strip_prefix(client.origin()).unwrap().to_owned();
    let session: Value = client.get(&back).header("cookie", &cookie).send().await.ok();
    session["access_token"].as_str().unwrap().to_owned()
}
