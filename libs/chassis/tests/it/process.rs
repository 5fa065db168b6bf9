//! The life of a process, seen from outside: exit codes, signals, and what it says.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testkit::{Client, Nats, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

const BOUND: Duration = Duration::from_secs(20);
const SECRET: &str = "hunter2hunter2hunter2";
/// Nobody listens on the discard port.
const NO_NATS: &str = "nats://127.0.0.1:9";

/// A setting and what it becomes; `None` takes it away.
type Setting = (&'static str, Option<&'static str>);

struct Sample {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

fn sample(args: &[&str], nats_url: &str) -> Sample {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chassis-sample"));
    command.args(args).env_clear().env("NATS_URL", nats_url).env("SAMPLE_KEY", SECRET);
    command.env("ADMIN_ADDRESS", "127.0.0.1:0").env("SHUTDOWN_GRACE_SECONDS", "2");
    start(command)
}

fn start(mut command: Command) -> Sample {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    Sample { child, stderr, said: String::new() }
}

impl Sample {
    /// Reads on until a line holds `words`.
    async fn until(&mut self, words: &str) -> String {
        let reading = async {
            loop {
                let mut line = String::new();
                let n = self.stderr.read_line(&mut line).await.unwrap();
                assert!(n > 0, "it ended without saying {words:?}: {}", self.said);
                self.said.push_str(&line);
                if line.contains(words) {
                    return line;
                }
            }
        };
        tokio::time::timeout(BOUND, reading).await.expect("it says so in time")
    }

    async fn admin(&mut self) -> Client {
        let line: Value = serde_json::from_str(&self.until("admin pages on ").await).unwrap();
        let (_, address) = line["message"].as_str().unwrap().rsplit_once(' ').unwrap();
        Client::new(format!("http://{address}"))
    }

    async fn until_ready(&mut self) -> Client {
        let admin = self.admin().await;
        eventually("readiness", BOUND, async || {
            let answer = admin.get("/readyz").send().await;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        })
        .await;
        admin
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for the end: the code, and all it said.
    async fn end(mut self) -> (Option<i32>, String) {
        let ending = async {
            self.stderr.read_to_string(&mut self.said).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status: ExitStatus =
            tokio::time::timeout(BOUND, ending).await.expect("it ends in time");
        assert!(!self.said.contains(SECRET), "{}", self.said);
        (status.code(), self.said)
    }
}

async fn check(nats: &Nats, args: &[&str], code: i32, words: &str) {
    let (ended, said) = sample(args, &nats.url).end().await;
    assert_eq!(ended, Some(code), "{args:?}: {said}");
    assert!(said.contains(words), "{args:?}: {said}");
}

#[tokio::test]
async fn each_way_of_ending_has_its_exit_code_and_says_why() {
    let nats = testkit::nats().await;
    let serve = |ending| ["serve", "--sample-ending", ending];
    check(&nats, &serve("fails"), 1, "sample: failed to serve the sample: the inner reason").await;
    check(&nats, &serve("returns"), 1, "sample: serving ended although nobody asked it to").await;
    check(&nats, &serve("loop-panics"), 70, "work panicked: the sample panics").await;
    check(&nats, &serve("loop-fails"), 70, "work failed: the sample fails").await;
    check(&nats, &serve("loop-ends"), 70, "work ended although nobody asked it to").await;
    check(&nats, &["migrate"], 0, "the schema is this release's").await;
    check(&nats, &["migrate", "--sample-ending", "fails"], 1, "sample: the sample has no schema")
        .await;
    check(&nats, &["check-config"], 0, "").await;
}

#[tokio::test]
async fn a_bad_configuration_is_64_and_names_the_setting_only() {
    let cases: &[(Setting, &str)] = &[
        (("SAMPLE_KEY", None), "sample: SAMPLE_KEY (--sample-key) is missing"),
        (("SAMPLE_KEY", Some("hunter2")), "sample: SAMPLE_KEY must have at least 16 characters"),
        (
            ("SAMPLE_WORK_MS", Some("hunter2")),
            "sample: SAMPLE_WORK_MS (--sample-work-ms) cannot be read",
        ),
        (("NATS_URL", Some("http://u:hunter2@h")), "sample: NATS_URL must begin with"),
        (("NATS_URL", None), "sample: NATS_URL (--nats-url) is missing"),
        (
            ("ADMIN_ADDRESS", Some("hunter2")),
            "sample: ADMIN_ADDRESS (--admin-address) cannot be read",
        ),
        (("LOG_FORMAT", Some("hunter2")), "sample: LOG_FORMAT (--log-format) cannot be read"),
        (("LOG_LEVEL", Some("sample=hunter2=x")), "sample: LOG_LEVEL must be a level"),
        (
            ("OTEL_EXPORTER_OTLP_ENDPOINT", Some("hunter2")),
            "sample: OTEL_EXPORTER_OTLP_ENDPOINT must be",
        ),
        (("SHUTDOWN_GRACE_SECONDS", Some("0")), "sample: SHUTDOWN_GRACE_SECONDS must be 1 to 600"),
    ];
    for ((name, value), words) in cases {
        for verb in ["serve", "check-config"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_chassis-sample"));
            command.arg(verb).env_clear().env("NATS_URL", NO_NATS).env("SAMPLE_KEY", SECRET);
            command.env("ADMIN_ADDRESS", "127.0.0.1:0");
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
            let (code, said) = start(command).end().await;
            assert_eq!(code, Some(64), "{words}: {said}");
            assert!(said.starts_with(words), "{words}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

#[tokio::test]
async fn help_shows_no_values_from_the_environment() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chassis-sample"));
    command
        .args(["serve", "--help"])
        .env_clear()
        .env("SAMPLE_KEY", SECRET)
        .env("SAMPLE_WORK_MS", "4242");
    let output = command.output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(help.contains("SAMPLE_KEY") && help.contains("--nats-url"), "{help}");
    assert!(!help.contains(SECRET) && !help.contains("4242"), "{help}");
}

#[tokio::test]
async fn sigterm_means_not_ready_then_finish_then_zero() {
    let nats = testkit::nats().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut sample = sample(
            &["serve", "--sample-work-ms", "300", "--shutdown-delay-seconds", "1"],
            &nats.url,
        );
        let admin = sample.until_ready().await;
        sample.signal(signal);
        eventually("not ready any more", BOUND, async || {
            let answer = admin.get("/readyz").send().await;
            let body: Value = answer.read();
            if answer.status == 503 && body["draining"] == true {
                Ok(())
            } else {
                Err(answer.text())
            }
        })
        .await;
        let (code, said) = sample.end().await;
        assert_eq!(code, Some(0), "{said}");
        let done = said.find("the work in hand is done").expect("it waited");
        let stopped = said.find("everything in hand is finished").expect("it says so");
        assert!(done < stopped, "{said}");
    }
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_named() {
    let nats = testkit::nats().await;
    let mut sample = sample(&["serve", "--sample-ending", "never"], &nats.url);
    sample.until_ready().await;
    sample.signal(Signal::SIGTERM);
    let (code, said) = sample.end().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("these did not finish: sample.work"), "{said}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let nats = testkit::nats().await;
    let mut sample = sample(
        &["serve", "--sample-ending", "never", "--shutdown-grace-seconds", "600"],
        &nats.url,
    );
    sample.until_ready().await;
    sample.signal(Signal::SIGINT);
    sample.until("finishing what is in hand").await;
    sample.signal(Signal::SIGINT);
    let (code, said) = sample.end().await;
    assert_eq!(code, Some(130), "{said}");
}

#[tokio::test]
async fn a_stop_while_still_starting_is_orderly_and_quick() {
    let mut sample = sample(&["serve", "--shutdown-grace-seconds", "600"], NO_NATS);
    let admin = sample.admin().await;
    admin.get("/readyz").send().await.expect(503);
    admin.get("/livez").send().await.expect(200);
    sample.signal(Signal::SIGTERM);
    let (code, said) = sample.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stopped before it had started"), "{said}");
}

#[tokio::test]
async fn a_taken_admin_port_is_one_clear_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = sample(&["serve", "--admin-address", &address], NO_NATS).end().await;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("failed to listen on the admin address {address}: ")), "{said}");
}

#[tokio::test]
async fn spans_reach_a_collector_before_the_end() {
    let nats = testkit::nats().await;
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let collector = poem::endpoint::make(move |request: poem::Request| {
        let heard = heard.clone();
        async move {
            let path = request.uri().path().to_owned();
            let kind = request.content_type().unwrap_or_default().to_owned();
            let body = request.into_body().into_vec().await.unwrap();
            heard.send((path, kind, body)).unwrap();
        }
    });
    let collector = poem::EndpointExt::boxed(poem::EndpointExt::map_to_response(collector));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    testkit::spawn(chassis::http::serve(listener, collector, stop, BOUND));

    let mut sample = sample(&["serve", "--otlp-endpoint", &endpoint], &nats.url);
    sample.until_ready().await;
    sample.signal(Signal::SIGTERM);
    let (code, said) = sample.end().await;
    assert_eq!(code, Some(0), "{said}");
    let (path, kind, body) = hears.try_recv().expect("it was sent before the end");
    assert_eq!((path.as_str(), kind.as_str()), ("/v1/traces", "application/x-protobuf"));
    let holds = |word: &str| body.windows(word.len()).any(|window| window == word.as_bytes());
    assert!(holds("finish") && holds("service.name") && holds("sample"));
    assert!(!holds(SECRET));
}
