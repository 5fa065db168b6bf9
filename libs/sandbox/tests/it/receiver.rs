//! A merchant's webhook endpoint: keeps what arrives, answers as told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::{Endpoint, Request, Response};
use tokio::task::JoinSet;

/// One webhook as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) path: String,
    pub(crate) signature: String,
    pub(crate) user_agent: String,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Arrived {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug, Default)]
struct Seen {
    arrived: Vec<Arrived>,
    answers: VecDeque<u16>,
}

pub(crate) struct Receiver {
    seen: Arc<Mutex<Seen>>,
    pub(crate) url: String,
    _server: JoinSet<()>,
}

struct Hook(Arc<Mutex<Seen>>);

impl Endpoint for Hook {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let body = request.take_body().into_vec().await.unwrap();
        let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
        let arrived = Arrived {
            path: request.uri().path().to_owned(),
            signature: header("x-paystack-signature"),
            user_agent: header("user-agent"),
            content_type: header("content-type"),
            body,
        };
        let mut seen = self.0.lock().unwrap();
        seen.arrived.push(arrived);
        let status = seen.answers.pop_front().unwrap_or(200);
        let answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
        Ok(answer.header("location", "/elsewhere").finish())
    }
}

impl Receiver {
    /// Answers with these statuses, then with 200.
    pub(crate) async fn start(answers: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let answers = answers.iter().copied().collect();
        let seen = Arc::new(Mutex::new(Seen { arrived: Vec::new(), answers }));
        let hook = Hook(Arc::clone(&seen));
        let acceptor = TcpAcceptor::from_tokio(listener).unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            poem::Server::new_with_acceptor(acceptor).run(hook).await.unwrap();
        });
        Self { seen, url, _server: server }
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.seen.lock().unwrap().arrived.clone()
    }

    /// Waits for this many.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Arrived> {
        super::eventually("webhooks arrive", || {
            let arrived = self.arrived();
            if arrived.len() >= count { Ok(arrived) } else { Err(format!("{}", arrived.len())) }
        })
        .await
    }
}
