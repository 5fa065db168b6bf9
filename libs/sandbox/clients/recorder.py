"""Stands on both sides of the sandbox: writes down its answers, and receives its webhooks."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from contract import Answer

ANSWER_WAIT_S = 30
WEBHOOK_WAIT_S = 10
# What belongs to one connection, and is said anew on the next.
OF_ONE_CONNECTION = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


@dataclass
class Recording:
    """Where a client finds what it takes for Paystack, and the answers it got."""

    url: str
    answers: list[Answer]


@contextmanager
def recorded(upstream: str) -> Iterator[Recording]:
    """Hands on what comes to a port of its own."""
    answers: list[Answer] = []
    with listening(forwarder(upstream, answers)) as url:
        yield Recording(url, answers)


@contextmanager
def mailbox() -> Iterator[str]:
    """Receives webhooks; `GET /{event}/{text}` waits for one of that event that holds the text."""
    with listening(receiver()) as url:
        yield url


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Listens on a free port of the loopback; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def forwarder(upstream: str, answers: list[Answer]) -> type[BaseHTTPRequestHandler]:
    """What is done with a call of a client."""
    base = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_ONE_CONNECTION}
            connection = http.client.HTTPConnection(base.netloc, timeout=ANSWER_WAIT_S)
            connection.request(self.command, base.path + self.path, sent, headers)
            response = connection.getresponse()
            body = response.read()
            connection.close()
            answers.append(Answer(self.command, self.path, response.status, body))
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in OF_ONE_CONNECTION:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = forward

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing: the answers are the log."""

    return Handler


def receiver() -> type[BaseHTTPRequestHandler]:
    """What is done with a webhook, and with the question for one."""
    arrived = threading.Condition()
    webhooks: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            signature = self.headers.get("x-paystack-signature", "")
            with arrived:
                webhooks.append({"body": body, "signature": signature})
                arrived.notify_all()
            self.answer(200, b"ok")

        def do_GET(self) -> None:
            event, text = (unquote(part) for part in self.path.strip("/").split("/"))

            def find() -> dict[str, str] | None:
                about_it = [it for it in webhooks if text in it["body"]]
                return next(
                    (it for it in about_it if json.loads(it["body"])["event"] == event), None
                )

            with arrived:
                found = arrived.wait_for(find, WEBHOOK_WAIT_S)
            self.answer(200 if found else 404, json.dumps(found).encode())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response_only(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing: who asks is told."""

    return Handler
