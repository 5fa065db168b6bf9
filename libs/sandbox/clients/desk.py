"""What the clients in Python share: how a check is written, and a hand at the checkout.

Checks are generators that say the name of each check before they begin it. The first that fails
ends its generator, for what follows builds upon it.
"""

import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

Checks = Callable[[], Iterator[str]]

WAIT_S = 20
PAUSE_S = 0.02
BASE_URL = os.environ["PAYSTACK_BASE_URL"]
SECRET_KEY = os.environ["PAYSTACK_SECRET_KEY"]
CONTROL_URL = os.environ["SANDBOX_CONTROL_URL"]
WEBHOOKS_URL = os.environ["WEBHOOKS_URL"]


def run(*groups: Checks) -> None:
    """Runs every group and prints one line of JSON for each check."""
    for group in groups:
        name = group.__name__
        begun = None
        try:
            for name in group():
                if begun is not None:
                    say(begun, None)
                begun = name
            say(name, None)
        except Exception as error:
            say(name, f"{type(error).__name__}: {error}\n{place(error)}")


def say(check: str, error: str | None) -> None:
    """Prints what came of one check."""
    print(json.dumps({"check": check, "error": error}), flush=True)


def place(error: Exception) -> str:
    """Line of the check that failed: the innermost one of ours."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = os.path.basename(trace.tb_frame.f_code.co_filename)
        if file.startswith("with_"):
            found = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def equal(found: Any, wanted: Any) -> None:
    """Fails with both values unless they are equal."""
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def pay(authorization_url: str, **form: str) -> None:
    """Does at the checkout what a person does: pays, unless `outcome` or `card` say otherwise."""
    body = urllib.parse.urlencode(form or {"outcome": "success"}).encode()
    urllib.request.urlopen(authorization_url, body, WAIT_S).close()


def control(path: str, **body: Any) -> Any:
    """Turns a knob of the sandbox; without a body it looks."""
    headers = {"content-type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{CONTROL_URL}/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return json.loads(answer.read() or b"null")


def webhook(event: str, reference: str) -> tuple[bytes, str]:
    """Body and signature of a webhook, once it arrived and the sandbox knows that."""
    with urllib.request.urlopen(f"{WEBHOOKS_URL}/{event}/{reference}", timeout=WAIT_S) as answer:
        found = json.load(answer)
    deadline = time.monotonic() + WAIT_S
    while not is_delivered(event, reference):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{event} of {reference} arrived and was not taken as delivered")
        time.sleep(PAUSE_S)
    return found["body"].encode(), found["signature"]


def is_delivered(event: str, reference: str) -> bool:
    """Whether the sandbox has seen the answer to a webhook."""
    about_it = [
        it
        for it in control("webhooks")["webhooks"]
        if (it["event"], it["reference"]) == (event, reference)
    ]
    return any(it["delivered"] for it in about_it)
