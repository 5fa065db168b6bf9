//! Migrations, their check, grants and pools, against a real Postgres.

use std::borrow::Cow;

use chassis::postgres::{self, Kept};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, SqlSafeStr};
use testkit::Database;

const TABLE: &str = "sample._sqlx_migrations";

const FIRST: (i64, &str) =
    (1, "create table sample.things (thing_id bigserial primary key, n bigint not null)");
const SECOND: (i64, &str) = (2, "alter table sample.things add column more text");
const OTHER_SECOND: (i64, &str) = (2, "alter table sample.things add column other text");

fn migrator(migrations: &[(i64, &'static str)]) -> Migrator {
    let migrations: Vec<Migration> = migrations
        .iter()
        .map(|(version, sql)| {
            let description = Cow::Owned(format!("step {version}"));
            Migration::new(*version, description, MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name(TABLE);
    migrator.create_schema("sample");
    migrator
}

async fn database() -> Database {
    testkit::postgres().await.database("empty", async |_| Ok(())).await
}

async fn said(database: &Database, migrator: &Migrator) -> Result<(), String> {
    postgres::expect_migrated(&database.pool, &[(TABLE, migrator)])
        .await
        .map_err(|error| format!("{error:#}"))
}

async fn run(url: &str, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut conn = PgConnection::connect(url).await?;
    sqlx::raw_sql(sql).execute(&mut conn).await?;
    Ok(())
}

#[tokio::test]
async fn an_older_or_different_schema_is_a_refusal_to_start() {
    let (first, both, other) =
        (migrator(&[FIRST]), migrator(&[FIRST, SECOND]), migrator(&[FIRST, OTHER_SECOND]));
    let database = database().await;
    let missing = format!("{TABLE} does not exist: run `migrate` first");
    assert_eq!(said(&database, &first).await, Err(missing));

    postgres::migrate(&database.url, &[&first]).await.unwrap();
    assert_eq!(said(&database, &first).await, Ok(()));
    let older = format!("{TABLE}: migration 2 is missing: run `migrate` first");
    assert_eq!(said(&database, &both).await, Err(older));

    postgres::migrate(&database.url, &[&both]).await.unwrap();
    assert_eq!(said(&database, &both).await, Ok(()));
    // The release before keeps working while the new one is rolled out.
    assert_eq!(said(&database, &first).await, Ok(()));
    let different = format!("{TABLE}: migration 2 is not the one of this release");
    assert_eq!(said(&database, &other).await, Err(different));
    assert!(postgres::migrate(&database.url, &[&other]).await.is_err());

    run(&database.url, "update sample._sqlx_migrations set success = false where version = 2")
        .await
        .unwrap();
    assert_eq!(said(&database, &both).await, Err(format!("{TABLE}: migration 2 stopped halfway")));
}

#[tokio::test]
async fn ten_processes_may_migrate_at_once() {
    let database = database().await;
    let both = migrator(&[FIRST, SECOND]);
    let migrators = [&both];
    let all = (0..10).map(|_| postgres::migrate(&database.url, &migrators));
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
    assert_eq!(said(&database, &both).await, Ok(()));
}

#[tokio::test]
async fn a_runtime_role_gets_rows_and_not_the_schema() {
    let database = database().await;
    let server = testkit::postgres().await;
    server.role("sample_rw").await;
    let both = migrator(&[FIRST, SECOND]);
    postgres::migrate(&database.url, &[&both]).await.unwrap();
    let url = database.url_as("sample_rw");
    let insert = "insert into sample.things (n) values (1)";
    assert!(run(&url, insert).await.is_err(), "nothing is granted yet");

    for _ in 0..2 {
        postgres::grant(&database.url, "sample_rw", &["sample"]).await.unwrap();
    }
    for good in [
        insert,
        "update sample.things set n = 2",
        "select * from sample.things",
        "delete from sample.things",
    ] {
        run(&url, good).await.unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for bad in [
        "drop table sample.things",
        "alter table sample.things add column x text",
        "truncate sample.things",
        "create table sample.more (n int)",
        "delete from sample._sqlx_migrations",
        "update sample._sqlx_migrations set success = true",
    ] {
        let error = run(&url, bad).await.expect_err(bad);
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501", "{bad}: {error}");
    }
    let pool = postgres::connect(&url, "sample", 2).await.unwrap();
    postgres::expect_migrated(&pool, &[(TABLE, &both)]).await.unwrap();
    let refused = postgres::grant(&database.url, "x\"; drop schema sample; --", &["sample"]).await;
    assert!(refused.is_err());
    run(&url, insert).await.unwrap();
}

#[tokio::test]
async fn a_pool_names_itself_and_bounds_what_it_runs() {
    let database = database().await;
    let pool = postgres::connect(&database.url, "sample", 3).await.unwrap();
    assert_eq!(postgres::answers(&pool).await, Ok(()));
    for (setting, value) in [
        ("application_name", "sample"),
        ("statement_timeout", "15s"),
        ("idle_in_transaction_session_timeout", "15s"),
    ] {
        let shown: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(shown, value, "{setting}");
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(pool.acquire().await.unwrap());
    }
    assert!(postgres::answers(&pool).await.is_err(), "no connection is free");
}

/// Which server process serves it.
async fn process_of(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(conn).await
}

#[tokio::test]
async fn a_connection_that_is_kept_is_used_again_and_no_more_are_held_than_may_be() {
    let database = database().await;
    let pool = postgres::connect(&database.url, "sample", 3).await.unwrap();
    let kept = Kept::of(&pool, 1);
    let (mut first, mut second) = (kept.take().await.unwrap(), kept.take().await.unwrap());
    let process = process_of(&mut first).await.unwrap();
    process_of(&mut second).await.unwrap();
    kept.keep(first);
    kept.keep(second);
    // The second went back: two of three are free for others.
    let others = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    assert!(pool.try_acquire().is_none());
    let mut again = kept.clone().take().await.unwrap();
    assert_eq!(process_of(&mut again).await.unwrap(), process);
    drop(others);
}

#[tokio::test]
async fn the_last_connection_of_a_pool_is_never_kept_from_those_who_wait() {
    let database = database().await;
    let pool = postgres::connect(&database.url, "sample", 1).await.unwrap();
    let kept = Kept::of(&pool, 1);
    let conn = kept.take().await.unwrap();
    let (waits, also_waits) = (kept.take(), pool.acquire());
    let keeps = async {
        tokio::task::yield_now().await;
        kept.keep(conn);
    };
    let one = async { drop(waits.await.unwrap()) };
    let other = async { drop(also_waits.await.unwrap()) };
    tokio::join!(one, other, keeps);
}

#[tokio::test]
async fn a_kept_connection_that_broke_fails_once_and_is_not_kept_again() {
    let database = database().await;
    let pool = postgres::connect(&database.url, "sample", 2).await.unwrap();
    let kept = Kept::of(&pool, 1);
    let mut conn = kept.take().await.unwrap();
    let process = process_of(&mut conn).await.unwrap();
    kept.keep(conn);
    let ended: bool = sqlx::query_scalar("select pg_terminate_backend($1, 5000)")
        .bind(process)
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert!(ended, "it ends within five seconds");
    let mut broken = kept.take().await.unwrap();
    assert!(process_of(&mut broken).await.is_err(), "its server process is gone");
    drop(broken);
    let mut conn = kept.take().await.unwrap();
    assert_ne!(process_of(&mut conn).await.unwrap(), process);
}

#[tokio::test]
async fn a_wrong_password_is_said_at_once_and_not_shown() {
    let database = database().await;
    let url = database.url_as("nobody_here");
    let started = std::time::Instant::now();
    let error = postgres::connect(&url, "sample", 1).await.expect_err("there is no such role");
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "no point in trying again");
    let text = format!("{error:#}");
    assert!(
        text.starts_with("failed to connect to Postgres at 127.0.0.1:") && !text.contains(&url),
        "{text}"
    );
}
