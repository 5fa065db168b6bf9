"""Checks with paystackapi, which hands on what it gets: refusals too, without their status."""

from collections.abc import Iterator
from typing import Any

import paystackapi

from desk import BASE_URL, SECRET_KEY, equal, pay, run

paystackapi.API_URL = f"{BASE_URL}/"
paystackapi.SECRET_KEY = SECRET_KEY

from paystackapi.refund import Refund  # noqa: E402 (reads the two when it is loaded)
from paystackapi.transaction import Transaction  # noqa: E402

EMAIL = "bola@example.com"
AMOUNT = 500_000


def data(answer: dict[str, Any], message: str) -> Any:
    """The data of a success."""
    equal((answer["status"], answer["message"]), (True, message))
    return answer["data"]


def transactions() -> Iterator[str]:
    """Initialize, verify, list, fetch and totals."""
    yield "initialize, amount as text"
    answer = Transaction.initialize(reference="pa-1", amount=str(AMOUNT), email=EMAIL)
    made = data(answer, "Authorization URL created")

    yield "initialize, null for what is left out"
    answer = Transaction.initialize(amount=AMOUNT, email=EMAIL, reference=None, metadata=None)
    made_up = data(answer, "Authorization URL created")["reference"]

    yield "verify, unpaid"
    found = data(Transaction.verify("pa-1"), "Verification successful")
    equal((found["status"], found["paid_at"]), ("abandoned", None))

    yield "verify, paid"
    pay(made["authorization_url"])
    found = data(Transaction.verify("pa-1"), "Verification successful")
    equal((found["status"], found["amount"], found["metadata"]), ("success", AMOUNT, ""))

    yield "verify, unknown reference"
    answer = Transaction.verify("nobody-knows")
    equal((answer["status"], answer["code"]), (False, "transaction_not_found"))

    yield "list"
    listed = data(Transaction.list(perPage=10), "Transactions retrieved")
    equal([it["reference"] for it in listed], [made_up, "pa-1"])

    yield "fetch"
    equal(data(Transaction.get(found["id"]), "Transaction retrieved")["reference"], "pa-1")

    yield "totals"
    equal(data(Transaction.totals(), "Transaction totals")["total_volume"], AMOUNT)


def refunds() -> Iterator[str]:
    """Create, list, fetch."""
    yield "refund"
    made = data(
        Transaction.initialize(reference="pa-refund", amount=AMOUNT, email=EMAIL),
        "Authorization URL created",
    )
    pay(made["authorization_url"])
    answer = Refund.create(transaction="pa-refund", amount=100_000)
    refund = data(answer, "Refund has been queued for processing")
    equal((refund["amount"], refund["transaction"]["reference"]), (100_000, "pa-refund"))

    yield "list of refunds, filters in a body are not seen"
    listed = data(Refund.list(currency="NGN"), "Refunds retrieved")
    equal([it["id"] for it in listed], [refund["id"]])

    yield "fetch a refund"
    fetched = data(Refund.fetch(refund["id"]), "Refund retrieved")
    equal(fetched["transaction"], refund["transaction"]["id"])


if __name__ == "__main__":
    run(transactions, refunds)
