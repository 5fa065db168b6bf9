"""Starts the sandbox, lets each client loose on it, and judges every answer.

A client is a program of its own that prints one JSON line for each of its checks:
`{"check": "verify, unpaid", "error": null}`. It ends with 0 if it got to its end.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract import Address, Difference, Document, deliberate
from recorder import mailbox, recorded

HERE = Path(__file__).parent
SECRET_KEY = "sk_test_of_the_clients"
CLIENT_WAIT_S = 120
STOP_WAIT_S = 10


@contextmanager
def sandbox(program: Path, webhooks: str) -> Iterator[str]:
    """Runs the sandbox on a free port; gives its address."""
    command: list[str | Path] = [program, "serve", "--port", "0", "--secret-key", SECRET_KEY]
    command += ["--webhook-url", webhooks]
    # SANDBOX_… and SEED of whoever calls are for a sandbox of their own.
    settings = {k: v for k, v in os.environ.items() if k != "SEED" and not k.startswith("SANDBOX_")}
    settings["SANDBOX_LOG"] = "warn"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=settings) as process:
        try:
            assert process.stdout is not None
            # Said once it listens; the end of the pipe if it cannot.
            name, _, url = process.stdout.readline().strip().partition("=")
            if name != "PAYSTACK_BASE_URL":
                raise RuntimeError("the sandbox did not start")
            yield url.removesuffix("/paystack")
        finally:
            process.terminate()
            try:
                process.wait(STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def reset(address: str) -> None:
    """Has the sandbox forget everything."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{address}/control/reset", b"{}", headers)
    urllib.request.urlopen(request, timeout=STOP_WAIT_S).close()


def run(command: list[str | Path], places: dict[str, str]) -> list[tuple[str, str | None]]:
    """Runs one client to its end; gives each check and what went wrong in it."""
    settings = os.environ | places
    try:
        ended = subprocess.run(
            command,
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            env=settings,
            timeout=CLIENT_WAIT_S,
        )
    except subprocess.TimeoutExpired:
        return [("comes to its end", f"still at it after {CLIENT_WAIT_S} s")]
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    results = [(line["check"], line["error"]) for line in said]
    if ended.returncode != 0 or not results:
        error = f"ended with {ended.returncode} after {len(results)} checks"
        results.append(("comes to its end", error))
    return results


def report(subject: str, check: str, error: str | None) -> bool:
    """Prints one check; says whether it went well."""
    print(f"{'ok    ' if error is None else 'FAILED'}  {subject}: {check}")
    if error is not None:
        print("        " + error.strip().replace("\n", "\n        "))
    return error is None


def compare(found: list[Difference], listed: set[Address]) -> Iterator[tuple[str, str | None]]:
    """One check for each difference, with an error if it is unlisted, or listed and gone."""
    first = {difference.address: difference.detail for difference in reversed(found)}
    for address in sorted(first.keys() | listed):
        if address not in listed:
            yield str(address), f"{first[address]}\nnot listed in differences.toml"
        elif address not in first:
            yield str(address), "listed in differences.toml, but does not occur"


def main() -> int:
    """Runs everything; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandbox", type=Path, required=True, help="the sandbox program")
    parser.add_argument("--node", type=Path, required=True, help="the Node program")
    parser.add_argument("--node-client", type=Path, required=True, help="checks.mjs, installed")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    document = Document(HERE / "paystack-openapi.yaml")
    listed = deliberate(HERE / "differences.toml")
    clients: dict[str, list[str | Path]] = {
        "pypaystack2": [sys.executable, HERE / "with_pypaystack2.py"],
        "paystackapi": [sys.executable, HERE / "with_paystackapi.py"],
        "paystack-node": [arguments.node, arguments.node_client],
    }
    went_well: list[bool] = []
    found: list[Difference] = []
    n_answers = 0
    with mailbox() as webhooks, sandbox(arguments.sandbox, webhooks) as address:
        for name, command in clients.items():
            reset(address)
            with recorded(f"{address}/paystack") as recording:
                places = {
                    "PAYSTACK_BASE_URL": recording.url,
                    "PAYSTACK_SECRET_KEY": SECRET_KEY,
                    "SANDBOX_CONTROL_URL": f"{address}/control",
                    "WEBHOOKS_URL": webhooks,
                }
                results = run(command, places)
            went_well += [report(name, check, error) for check, error in results]
            n_answers += len(recording.answers)
            for answer in recording.answers:
                found += document.judge(answer)
    unexpected = [report("document", at, error) for at, error in compare(found, listed)]
    failed = went_well.count(False) + len(unexpected)
    print(f"\n{n_answers} answers validated, {len(listed)} deliberate differences")
    print(f"{went_well.count(True)} passed, {failed} failed")
    return 1 if failed or not n_answers else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
