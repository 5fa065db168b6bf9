//! What `http::wrap` and `http::serve` promise, over real connections.

use std::sync::Arc;
use std::time::Duration;

use chassis::http::{Options, Problem, serve, wrap};
use poem::endpoint::make;
use poem::http::header::{HeaderName, HeaderValue};
use poem::http::{Method, StatusCode};
use poem::web::{Html, Path};
use poem::{Body, IntoResponse, Response, Route, get, handler, post};
use serde_json::json;
use testkit::{Answer, Client, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const ORIGIN: &str = "https://app.example";
/// More than the kernel takes for a peer that reads nothing.
const LARGE_BYTES: usize = 64 * 1024 * 1024;
const INNER: &str = "password hunter2 at /etc/secret";

#[handler]
async fn echo(body: Body) -> poem::Result<String> {
    Ok(format!("{} bytes", body.into_bytes().await?.len()))
}

#[handler]
fn item(Path(id): Path<String>) -> poem::web::Json<serde_json::Value> {
    poem::web::Json(json!({ "id": id }))
}

/// Holds requests until they are let go.
#[derive(Default)]
struct Gate {
    entered: Notify,
    released: Notify,
}

#[handler]
fn number(Path(_n): Path<u64>) {}

#[handler]
fn panics() {
    panic!("{INNER}");
}

#[handler]
fn breaks() -> poem::Result<()> {
    Err(poem::Error::new(std::io::Error::other(INNER), StatusCode::BAD_GATEWAY))
}

#[handler]
fn large() -> Vec<u8> {
    vec![b'x'; LARGE_BYTES]
}

#[handler]
fn bare() -> StatusCode {
    StatusCode::UNAUTHORIZED
}

#[handler]
fn text() -> Response {
    Response::builder().status(StatusCode::CONFLICT).content_type("text/plain").body(INNER)
}

#[handler]
fn page() -> Response {
    let mut page = Html("<p>no</p>").into_response();
    page.set_status(StatusCode::FORBIDDEN);
    page.headers_mut()
        .insert("content-security-policy", HeaderValue::from_static("default-src 'self'"));
    page
}

#[handler]
fn own_body() -> Response {
    let body = json!({ "type": chassis::http::problem_type("key_revoked"), "title": "T", "detail": "D",
        "status": 409, "code": "key_revoked", "request_id": "", "extra": 7 });
    Response::builder()
        .status(StatusCode::CONFLICT)
        .content_type(chassis::http::PROBLEM_JSON)
        .body(body.to_string())
}

fn problem() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "service_unavailable",
        "Unavailable",
        "Try again.",
    )
    .with_retry_after(Duration::from_secs(3))
    .with_error("amount", "must be a whole number")
    .with_header(HeaderName::from_static("x-more"), HeaderValue::from_static("yes"))
}

#[handler]
fn returned() -> poem::Result<()> {
    Err(problem().into())
}

#[handler]
fn answered() -> Problem {
    problem()
}

fn routes(gate: &Arc<Gate>) -> Route {
    let gate = Arc::clone(gate);
    let gated = make(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.entered.notify_one();
            gate.released.notified().await;
            "done"
        }
    });
    Route::new()
        .at("/gated", get(gated))
        .at("/echo", post(echo))
        .at("/items/:id", get(item).post(item))
        .at("/numbers/:n", get(number))
        .at("/panics", get(panics))
        .at("/breaks", get(breaks))
        .at("/large", get(large))
        .at("/bare", get(bare))
        .at("/text", get(text))
        .at("/page", get(page))
        .at("/own", get(own_body))
        .at("/returned", get(returned))
        .at("/answered", get(answered))
}

fn options() -> Options {
    Options {
        allowed_origins: vec![ORIGIN.to_owned()],
        body_bytes_max: 1000,
        hsts: Some(Duration::from_hours(24)),
        routes: vec![
            (Method::POST, "/echo".to_owned()),
            (Method::GET, "/items/{id}".to_owned()),
            (Method::POST, "/items/{id}".to_owned()),
        ],
        ..Options::new("sample")
    }
}

struct Running {
    client: Client,
    address: std::net::SocketAddr,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start(options: Options, grace: Duration) -> Running {
    testkit::logs();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let gate = Arc::default();
    let serving = serve(listener, wrap(routes(&gate), options), shutdown.clone(), grace);
    let serving = testkit::spawn(serving);
    Running { client: Client::new(format!("http://{address}")), address, gate, shutdown, serving }
}

async fn running() -> Running {
    start(options(), Duration::from_secs(10)).await
}

/// Sends bytes as they are and reads the answer to its end.
async fn raw(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn every_error_is_a_problem_and_shows_nothing_inner() {
    let running = running().await;
    let get = |path: &str| running.client.get(path);
    let cases = [
        (get("/nowhere"), 404, "not_found"),
        (get("/items"), 404, "not_found"),
        (running.client.call(Method::DELETE, "/items/7"), 405, "method_not_allowed"),
        (running.client.call(Method::OPTIONS, "/items/7"), 405, "method_not_allowed"),
        (get("/numbers/x"), 400, "malformed_request"),
        (running.client.post("/echo").body("text/plain", vec![0; 1001]), 413, "body_too_large"),
        (get("/panics"), 500, "internal_error"),
        (get("/breaks"), 500, "internal_error"),
        (get("/bare"), 401, "missing_credentials"),
        (get("/text"), 409, "malformed_request"),
        (get("/own"), 409, "key_revoked"),
        (get("/returned"), 503, "service_unavailable"),
        (get("/answered"), 503, "service_unavailable"),
    ];
    for (call, status, code) in cases {
        let answer = call.send().await;
        answer.problem(status, code);
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
        assert_eq!(answer.header("cache-control"), "no-store", "{code}");
    }
}

#[tokio::test]
async fn a_problem_keeps_what_its_maker_said() {
    let running = running().await;
    for path in ["/returned", "/answered"] {
        let answer = running.client.get(path).send().await;
        let body = answer.problem(503, "service_unavailable");
        assert_eq!(
            body["errors"],
            json!([{ "field": "amount", "message": "must be a whole number" }])
        );
        assert_eq!((answer.header("retry-after"), answer.header("x-more")), ("3", "yes"), "{path}");
    }
    let own = running.client.get("/own").send().await.problem(409, "key_revoked");
    assert_eq!(own["extra"], 7);
    let answer = running.client.get("/page").send().await;
    assert_eq!(answer.expect(403).text(), "<p>no</p>");
    let answer = running.client.get("/bare").send().await;
    assert_eq!(answer.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn a_service_may_put_framework_errors_into_words() {
    let named = |error: &poem::Error| {
        error.is::<poem::error::NotFoundError>().then(|| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_field", "Invalid field", "Mapped.")
        })
    };
    let running = start(Options { map_error: named, ..options() }, Duration::from_secs(1)).await;
    running.client.get("/nowhere").send().await.problem(400, "invalid_field");
    running.client.get("/panics").send().await.problem(500, "internal_error");
}

#[tokio::test]
async fn a_405_says_what_is_allowed() {
    let running = running().await;
    for (method, path, allow) in [
        (Method::DELETE, "/items/7", "GET, HEAD, POST"),
        (Method::GET, "/echo", "POST"),
        (Method::OPTIONS, "/echo", "POST"),
    ] {
        let answer = running.client.call(method, path).send().await;
        assert_eq!(answer.expect(405).header("allow"), allow, "{path}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_own_sane_id_and_gets_a_fresh_one_otherwise() {
    let running = running().await;
    let longest = "x".repeat(128);
    for id in ["abc", "A-1_b.c", &longest] {
        let answer = running.client.get("/nowhere").header("x-request-id", id).send().await;
        assert_eq!(answer.problem(404, "not_found")["request_id"], id);
    }
    let too_long = "x".repeat(129);
    for id in ["", "a b", "a\"b", "<a>", &too_long] {
        let answer = running.client.get("/items/7").header("x-request-id", id).send().await;
        let fresh = answer.expect(200).header("x-request-id").to_owned();
        assert!(fresh != id && fresh.len() == 32, "{id:?} became {fresh:?}");
    }
}

#[tokio::test]
async fn a_body_is_limited_by_what_it_announces_and_by_what_it_is() {
    let running = running().await;
    let post =
        |bytes: usize| running.client.post("/echo").body("text/plain", vec![b'x'; bytes]).send();
    assert_eq!(post(1000).await.expect(200).text(), "1000 bytes");
    post(1001).await.problem(413, "body_too_large");
    post(1_500_000).await.problem(413, "body_too_large");

    let chunked = |size: usize| {
        let head = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let half = "x".repeat(size / 2);
        format!("{head}{0:x}\r\n{half}\r\n{0:x}\r\n{half}\r\n0\r\n\r\n", size / 2).into_bytes()
    };
    let good = raw(running.address, &chunked(1000)).await;
    assert!(good.starts_with("HTTP/1.1 200") && good.ends_with("1000 bytes"), "{good}");
    let bad = raw(running.address, &chunked(1002)).await;
    assert!(bad.starts_with("HTTP/1.1 413") && bad.contains("\"body_too_large\""), "{bad}");
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let running = running().await;
    for path in ["/items/7", "/nowhere", "/panics", "/page"] {
        let answer = running.client.get(path).send().await;
        let csp = if path == "/page" {
            "default-src 'self'"
        } else {
            "default-src 'none'; frame-ancestors 'none'"
        };
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", csp),
            ("strict-transport-security", "max-age=86400; includeSubDomains"),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
        let cached = if path == "/page" { "" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), cached, "{path}");
    }
}

fn cors(answer: &Answer) -> (&str, &str, &str) {
    (
        answer.header("access-control-allow-origin"),
        answer.header("access-control-allow-methods"),
        answer.header("access-control-expose-headers"),
    )
}

#[tokio::test]
async fn only_configured_origins_may_read_answers() {
    let running = running().await;
    let exposed = "x-request-id, idempotency-replayed, location, retry-after";
    let with = |path: &str, origin: &str| running.client.get(path).header("origin", origin).send();
    for path in ["/items/7", "/nowhere", "/panics"] {
        let answer = with(path, ORIGIN).await;
        assert_eq!(cors(&answer), (ORIGIN, "", exposed), "{path}");
        assert_eq!(answer.header("vary"), "origin");
    }
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "null",
        "*",
        "http://app.example",
    ] {
        let answer = with("/items/7", origin).await;
        assert_eq!(cors(&answer), ("", "", ""), "{origin}");
        assert_eq!(answer.header("vary"), "origin");
    }
    let preflight = |origin: &str| {
        let call = running.client.call(Method::OPTIONS, "/items/7").header("origin", origin);
        call.header("access-control-request-method", "POST").send()
    };
    let answer = preflight(ORIGIN).await;
    assert_eq!(cors(answer.expect(204)), (ORIGIN, "GET, HEAD, POST, PUT, PATCH, DELETE", exposed));
    for header in ["authorization", "x-api-key", "idempotency-key", "content-type"] {
        assert!(answer.header("access-control-allow-headers").contains(header), "{header}");
    }
    assert_eq!(cors(preflight("https://evil.example").await.expect(204)), ("", "", ""));
}

#[tokio::test]
async fn shutdown_waits_for_requests_in_hand_and_takes_no_new_ones() {
    let running = running().await;
    let in_hand = testkit::spawn(running.client.get("/gated").send());
    running.gate.entered.notified().await;
    running.shutdown.cancel();
    eventually("the door is closed", Duration::from_secs(10), async || {
        match TcpStream::connect(running.address).await {
            Ok(_) => Err("it is open".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    assert!(!running.serving.is_finished());
    running.gate.released.notify_one();
    assert_eq!(in_hand.await.unwrap().expect(200).text(), "done");
    running.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_does_not_hold_up_the_end() {
    let running = start(options(), Duration::from_millis(200)).await;
    let endless = testkit::spawn(running.client.get("/gated").try_send());
    running.gate.entered.notified().await;
    running.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), running.serving).await;
    ended.expect("it ends").unwrap().unwrap();
    assert!(endless.await.unwrap().is_err());
}

/// Time is virtual and passes when nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn whoever_is_too_slow_is_let_go() {
    let running = running().await;
    for (sent, answer) in [
        ("", ""),
        ("GET /item", ""),
        ("GET /items/7 HTTP/1.1\r\nhost: x\r\nx-slow: ", ""),
        ("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc", "HTTP/1.1 408 "),
        (
            "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na",
            "HTTP/1.1 408 ",
        ),
    ] {
        let told = raw(running.address, sent.as_bytes()).await;
        assert!(told.starts_with(answer) && told.is_empty() == answer.is_empty(), "{sent}: {told}");
    }

    let mut greedy = TcpStream::connect(running.address).await.unwrap();
    greedy.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    let mut taken = Vec::new();
    // Cut off in good order or not.
    greedy.read_to_end(&mut taken).await.ok();
    assert!(taken.len() < LARGE_BYTES, "{} bytes were kept for it", taken.len());
}
