//! The sandbox against its promises: the model as tables and properties, the rest over HTTP, the
//! servers as processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cards;
mod claims;
mod control;
mod disputes;
mod google;
mod lists;
mod model;
mod paystack;
mod receiver;
mod refunds;
mod servers;
mod webhook_events;

use std::time::Duration;

use sandbox::{Config, Sandbox};

/// The key of every test.
const KEY: &str = "sk_test_example_key";

async fn start(config: Config) -> Sandbox {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    sandbox::start(listener, Config { secret_key: KEY.to_owned(), ..config }).await.unwrap()
}

/// Follows no redirect: where one leads is what a test looks at.
fn browser() -> reqwest::Client {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

async fn json(answer: reqwest::Response) -> (u16, serde_json::Value) {
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Looks until it is so, within ten seconds.
async fn eventually<T>(what: &str, look: impl Fn() -> Result<T, String>) -> T {
    let mut seen = String::new();
    for _ in 0..500 {
        match look() {
            Ok(it) => return it,
            Err(instead) => seen = instead,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within ten seconds: {what}; last seen: {seen}")
}
