//! In a process with several services, those that are asked stop after those that ask.
//!
//! A test binary of its own: `run` sets up the process's logging, which can be done once.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::{Config, Context, LogFormat, Logging, Process, Secret};
use sandbox::servers::Nats;

type Journal = Arc<Mutex<Vec<&'static str>>>;

fn note(journal: &Journal, what: &'static str) {
    journal.lock().expect("nobody panics with it").push(what);
}

fn follow(context: &Context, journal: &Journal, stops: &'static str, stopped: &'static str) {
    let (shutdown, journal) = (context.shutdown(), Arc::clone(journal));
    context.ready_when("always", || async { Ok(()) });
    context.spawn("loop", async move {
        shutdown.cancelled().await;
        note(&journal, stops);
        tokio::time::sleep(Duration::from_millis(50)).await;
        note(&journal, stopped);
        Ok(())
    });
}

async fn body(process: Process, url: String, journal: Journal) -> anyhow::Result<()> {
    let connect = async || chassis::nats::connect(&url, "staged").await;
    let ledger = process.late_context("ledger", connect().await?);
    let api = process.context("api", connect().await?);
    follow(&ledger, &journal, "ledger stops", "ledger stopped");
    follow(&api, &journal, "api stops", "api stopped");
    process.shutdown().cancel();
    // The body still has something in hand.
    tokio::time::sleep(Duration::from_millis(200)).await;
    note(&journal, "body ended");
    assert_eq!(process.drain().await, Ok(()));
    assert_eq!(process.drain().await, Ok(()), "once more is harmless");
    Ok(())
}

#[test]
fn late_services_stop_when_the_others_have_finished() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nats = runtime.block_on(Nats::start(folder.path())).unwrap();
    let config = Config {
        logging: Logging {
            log_level: "info".to_owned(),
            log_format: LogFormat::Pretty,
            otlp_endpoint: None,
        },
        admin_address: "127.0.0.1:0".parse().unwrap(),
        nats_url: Secret::new(nats.url()),
        shutdown_delay_seconds: 0,
        shutdown_grace_seconds: 10,
    };
    let journal = Journal::default();
    let code = chassis::run("staged", config, {
        let (url, journal) = (nats.url(), Arc::clone(&journal));
        move |process| body(process, url, journal)
    });
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(
        *journal.lock().unwrap(),
        ["api stops", "api stopped", "body ended", "ledger stops", "ledger stopped"]
    );
}
