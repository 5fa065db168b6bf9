//! One `Idempotency-Key`, one request: also when they come at once, and when the database is away.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::stage::Money;

#[tokio::test]
async fn of_different_requests_at_once_under_one_key_one_is_let_through() {
    let money = Money::start(&[]).await;
    let replica = money.stage.replica(&[]).await;
    let answers = join_all((0_u64..60).map(|i| {
        let client = if i % 2 == 0 { money.stage.client() } else { &replica.client };
        let number = &money.bola.number;
        let (path, body) = match i % 3 {
            0 => {
                ("/wallet/transfer", json!({ "recipient_wallet_number": number, "amount": i + 1 }))
            }
            1 => ("/wallet/transfers/batch", money.amounts(&[i + 1], false)),
            _ => ("/wallet/deposit", json!({ "amount": i + 5_000 })),
        };
        let call = client.post(path).bearer(&money.ada.token).json(&body);
        call.idempotency_key("k").send()
    }))
    .await;
    let let_through: Vec<_> = answers.iter().filter(|it| it.status != 422).collect();
    // A deposit gets no further here: nobody stands in for the service that takes it.
    assert_eq!(let_through.len(), 1, "{let_through:?}");
    for refused in answers.iter().filter(|it| it.status == 422) {
        refused.problem(422, "idempotency_key_reused");
    }
    assert!(money.books.n_asked() <= 1);
    assert_eq!(money.stage.count("select count(*) from api.request_keys").await, 1);
    replica.end().await;
    money.end().await;
}

#[tokio::test]
async fn many_keys_at_once_are_all_taken() {
    let money = Money::start(&[]).await;
    let send = |i: u64| money.transfer(i + 1).idempotency_key(&format!("k{i}")).send();
    for answer in join_all((0..300).map(send)).await {
        answer.expect(200);
    }
    assert_eq!(money.stage.count("select count(*) from api.request_keys").await, 300);
    for answer in join_all((0..300).map(send)).await {
        assert_eq!(answer.expect(200).header("idempotency-replayed"), "true");
    }
    assert_eq!(money.stage.count("select count(*) from api.request_keys").await, 300);
    money.end().await;
}

#[tokio::test]
async fn without_the_database_a_key_is_refused_soon_and_nothing_is_done() {
    let money = Money::start(&[]).await;
    // Who asks and who receives is remembered.
    money.transfer(1).send().await.expect(200);
    let n_asked = money.books.n_asked();
    money.stage.meddle("alter table api.request_keys rename to gone").await.unwrap();
    let started = Instant::now();
    for answer in join_all((0..50).map(|_| money.transfer(2).idempotency_key("k").send())).await {
        let problem = answer.problem(503, "service_unavailable");
        assert!(!answer.header("retry-after").is_empty(), "{problem}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(money.books.n_asked(), n_asked);
    money.stage.meddle("alter table api.gone rename to request_keys").await.unwrap();
    money.transfer(2).idempotency_key("k").send().await.expect(200);

    // A lock that does not come is as bad as no database.
    let mut other = money.stage.database.pool.begin().await.unwrap();
    sqlx::raw_sql("lock table api.request_keys").execute(&mut *other).await.unwrap();
    let started = Instant::now();
    let answer = money.transfer(2).idempotency_key("k2").send().await;
    answer.problem(503, "service_unavailable");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    other.rollback().await.unwrap();
    money.transfer(2).idempotency_key("k2").send().await.expect(200);
    money.end().await;
}
