"""Checks with pypaystack2, whose models are strict: an answer they refuse is a failed check."""

import logging
from collections.abc import Iterator
from typing import Any

from pypaystack2 import PaystackClient
from pypaystack2.base_clients import AbstractAPIClient
from pypaystack2.enums import (
    Currency,
    DisputeStatus,
    Resolution,
    TransactionStatus,
    WebhookEventType,
)
from pypaystack2.models import Response
from pypaystack2.models.payload_models import RefundAccount
from pypaystack2.models.response_models import Authorization, Customer, Dispute, Refund
from pypaystack2.sub_clients import DisputeClient

from desk import BASE_URL, SECRET_KEY, control, equal, pay, run, webhook

EMAIL = "ada@example.com"
AMOUNT = 500_000
A_TIME_AGO, A_TIME_AHEAD = "2020-01-01", "2100-01-01"


class Refused(logging.Handler):
    """What the client writes into its log when a model refuses an answer."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it for the check that will fail."""
        self.last = record.getMessage().partition("Validation errors:")[2].strip()


class EvidenceClient(DisputeClient):
    """Forgets the slash before `dispute` in the address of evidence."""

    _BASE_URL = f"{BASE_URL}/"


class ListedRefund(Refund):
    """A refund as Paystack's own sample of the list has it, and the client's model has not."""

    fully_deducted: int | None  # type: ignore[assignment]


class ResolvedDispute(Dispute):
    """A dispute as Paystack's document has it once resolved, and the client's model has not."""

    transaction: int  # type: ignore[assignment]
    customer: None = None  # type: ignore[assignment]
    history: None = None  # type: ignore[assignment]
    messages: None = None  # type: ignore[assignment]


AbstractAPIClient._BASE_URL = BASE_URL
refused = Refused()
logging.getLogger("pypaystack2").addHandler(refused)
paystack = PaystackClient(SECRET_KEY)


def data(answer: Response[Any], message: str) -> Any:
    """The data of a success, as the client's model holds it."""
    equal((answer.status_code, answer.status, answer.message), (200, True, message))
    if answer.data is None:
        raise AssertionError(f"the model refuses the answer: {refused.last}")
    return answer.data


def refusal(answer: Response[Any], status: int, code: str | None, message: str) -> None:
    """Fails unless an answer says no in these words."""
    found = (answer.status_code, answer.status, answer.code, answer.message)
    equal(found, (status, False, code, message))


def paid(reference: str, **form: str) -> Any:
    """A transaction that was paid, with a good card unless the form of the checkout says more."""
    made = data(
        paystack.transactions.initialize(AMOUNT, EMAIL, reference=reference),
        "Authorization URL created",
    )
    pay(made.authorization_url, **form)
    return data(paystack.transactions.verify(reference), "Verification successful")


def transactions() -> Iterator[str]:
    """Initialize, verify, list, fetch, timeline and totals."""
    calls = paystack.transactions
    answer: Response[Any]

    yield "initialize"
    answer = calls.initialize(AMOUNT, EMAIL, reference="p2-1", metadata={"cart_id": 7})
    made = data(answer, "Authorization URL created")
    equal(made.reference, "p2-1")

    yield "initialize, reference used before"
    answer = calls.initialize(AMOUNT, EMAIL, reference="p2-1")
    refusal(answer, 400, "duplicate_reference", "Duplicate Transaction Reference")

    yield "initialize, a colon in the reference"
    answer = calls.initialize(AMOUNT, EMAIL, reference="p2:1")
    message = "Invalid character in transaction reference"
    refusal(answer, 400, "invalid_character_in_reference", message)

    yield "initialize, no e-mail address"
    answer = calls.initialize(AMOUNT, "ada")
    refusal(answer, 400, "invalid_params", '"email" must be a valid email')

    yield "verify, unpaid"
    unpaid = data(calls.verify("p2-1"), "Verification successful")
    equal((unpaid.status, unpaid.paid_at, unpaid.amount), ("abandoned", None, AMOUNT))

    yield "verify, refused by the bank"
    pay(made.authorization_url, outcome="failed")
    equal(data(calls.verify("p2-1"), "Verification successful").status, "failed")

    yield "verify, paid"
    pay(made.authorization_url)
    done = data(calls.verify("p2-1"), "Verification successful")
    equal((done.status, done.amount, done.fees), ("success", AMOUNT, 17_500))
    equal(done.metadata, {"cart_id": 7})
    # The client would let any object pass for these two.
    equal(Customer.model_validate(done.customer).email, EMAIL)
    equal(Authorization.model_validate(done.authorization).last4, "4081")

    yield "verify, unknown reference"
    answer = calls.verify("nobody-knows")
    refusal(answer, 400, "transaction_not_found", "Transaction reference not found.")

    yield "verify, another key"
    stranger = PaystackClient("sk_test_of_somebody_else")
    refusal(stranger.transactions.verify("p2-1"), 401, None, "Invalid key")

    yield "list"
    data(calls.initialize(AMOUNT, EMAIL, reference="p2-2"), "Authorization URL created")
    listed = data(calls.get_transactions(), "Transactions retrieved")
    equal([it.reference for it in listed], ["p2-2", "p2-1"])

    yield "list, only what was paid"
    answer = calls.get_transactions(status=TransactionStatus.SUCCESS)
    equal([it.reference for it in data(answer, "Transactions retrieved")], ["p2-1"])

    yield "list, one on a page"
    answer = calls.get_transactions(page=2, pagination=1)
    equal([it.reference for it in data(answer, "Transactions retrieved")], ["p2-1"])
    meta = answer.meta or {}
    equal((meta["total"], meta["pageCount"]), (2, 2))

    yield "fetch"
    equal(data(calls.get_transaction(done.id), "Transaction retrieved").reference, "p2-1")

    yield "fetch, unknown id"
    equal(calls.get_transaction(1).status_code, 404)

    yield "timeline"
    line = data(calls.get_timeline("p2-1"), "Timeline retrieved")
    equal((line.attempts, line.errors, line.success), (2, 1, True))

    yield "totals"
    sums = data(calls.totals(), "Transaction totals")
    by_currency = [(it.currency, it.amount) for it in sums.total_volume_by_currency]
    equal((sums.total_volume, by_currency), (AMOUNT, [("NGN", AMOUNT)]))


def refunds() -> Iterator[str]:
    """Create, list, fetch, and what is refused."""
    calls = paystack.refunds
    queued = "Refund has been queued for processing"
    answer: Response[Any]

    yield "refund, a part"
    transaction = paid("p2-refund")
    part = data(calls.create("p2-refund", 200_000, customer_note="Sorry"), queued)
    equal((part.amount, part.status, part.currency), (200_000, "pending", "NGN"))

    yield "refund, the rest"
    rest = data(calls.create(transaction.id), queued)
    equal(rest.amount, AMOUNT - 200_000)

    yield "refund, nothing left"
    message = "Transaction has been fully reversed"
    refusal(calls.create("p2-refund"), 400, "transaction_reversed", message)

    yield "retry a refund that needs no attention"
    account = RefundAccount(currency=Currency.NGN, account_number="0000000000", bank_id="9")
    message = 'Invalid Refund state, refund status should be "needs-attention"'
    refusal(calls.retry_refund(part.id, account), 422, "invalid_params", message)

    yield "retry a refund that needs attention"
    paid("p2-attention", card="4084080000671902")
    stuck = data(calls.create("p2-attention"), queued)
    control("clock", advance_seconds=60)
    equal(data(calls.get_refund(str(stuck.id)), "Refund retrieved").status, "needs-attention")
    retried = "Refund retried and has been queued for processing"
    equal(data(calls.retry_refund(stuck.id, account), retried).status, "processing")

    yield "fetch a refund that is done"
    equal(data(calls.get_refund(str(part.id)), "Refund retrieved").status, "processed")
    gone = data(paystack.transactions.verify("p2-refund"), "Verification successful")
    equal(gone.status, "reversed")

    yield "list of refunds"
    answer = calls.get_refunds(transaction=str(transaction.id), alternate_model_class=ListedRefund)
    listed = data(answer, "Refunds retrieved")
    equal([it.id for it in listed], [rest.id, part.id])

    yield "list of refunds, by reference finds nothing"
    # The client takes an empty list for no data.
    answer = calls.get_refunds(transaction="p2-refund")
    equal((answer.message, answer.data), ("Refunds retrieved", []))

    yield "fetch a refund"
    fetched = data(calls.get_refund(str(part.id)), "Refund retrieved")
    equal((fetched.id, fetched.transaction), (part.id, transaction.id))


def disputes() -> Iterator[str]:
    """List, fetch, update, evidence, upload, resolve."""
    calls = paystack.disputes
    answer: Response[Any]

    yield "list of disputes"
    transaction = paid("p2-dispute")
    control("disputes", reference="p2-dispute")
    answer = calls.get_disputes(A_TIME_AGO, A_TIME_AHEAD, transaction=str(transaction.id))
    (dispute,) = data(answer, "Disputes retrieved")
    equal(dispute.status, DisputeStatus.AWAITING_MERCHANT_FEEDBACK)
    equal(dispute.transaction.reference, "p2-dispute")

    yield "fetch a dispute"
    equal(data(calls.get_dispute(dispute.id), "Dispute retrieved").id, dispute.id)

    yield "dispute of a transaction"
    answer = calls.get_transaction_disputes(transaction.id)
    equal(data(answer, "Dispute retrieved successfully").id, dispute.id)

    yield "update a dispute"
    (updated,) = data(calls.update_dispute(dispute.id, 300_000), "Dispute updated successfully")
    equal(updated.refund_amount, 300_000)

    yield "evidence"
    answer = EvidenceClient(SECRET_KEY).add_evidence(
        dispute.id, EMAIL, "Ada Obi", "08012345678", "Ten cups", "1 Marina, Lagos"
    )
    evidence = data(answer, "Evidence created")
    equal((evidence.dispute, evidence.customer_name), (dispute.id, "Ada Obi"))

    yield "upload"
    upload = data(calls.get_upload_url(dispute.id, "cups.pdf"), "Upload url generated")

    yield "resolve a dispute"
    answer = calls.resolve_dispute(
        dispute.id,
        Resolution.MERCHANT_ACCEPTED,
        message="Ours",
        refund_amount=300_000,
        uploaded_filename=upload.file_name,
        evidence=evidence.id,
        alternate_model_class=ResolvedDispute,
    )
    resolved = data(answer, "Dispute successfully resolved")
    equal((resolved.status, resolved.transaction), (DisputeStatus.RESOLVED, transaction.id))


def webhooks() -> Iterator[str]:
    """Signatures, and the calls about webhooks that were sent."""
    calls = paystack.webhook_events
    answer: Response[Any]

    yield "signature of charge.success"
    transaction = paid("p2-webhook")
    body, signature = webhook("charge.success", "p2-webhook")
    equal(paystack.is_verified_webhook_payload(body, signature), True)
    equal(paystack.is_verified_webhook_payload(body + b" ", signature), False)

    yield "signature of refund.pending"
    paystack.refunds.create("p2-webhook", 100_000)
    equal(paystack.is_verified_webhook_payload(*webhook("refund.pending", "p2-webhook")), True)

    yield "list of webhook events"
    answer = calls.all(event_type=WebhookEventType.CHARGE_SUCCESS, category_row_id=transaction.id)
    (event,) = data(answer, "Webhooks listed")
    equal(
        (event.event_name, event.status, event.response_code), ("charge.success", "Delivered", 200)
    )

    yield "fetch a webhook event"
    fetched = data(calls.get(event.id), "Webhook Retrieved")
    equal(fetched.event_payload.data["reference"], "p2-webhook")

    yield "look a webhook event up"
    equal(data(calls.lookup(event.id), "Webhook Retrieved").id, event.id)

    yield "send a webhook event again"
    answer = calls.resend([event.id])
    equal((answer.status_code, answer.message), (202, "Resend accepted"))

    yield "send matching webhook events again"
    answer = calls.resend_matching(category_row_id=str(transaction.id), event_type=event.event_name)
    raw: Any = answer.raw
    equal((answer.status_code, raw["data"]["count"]), (202, 1))


if __name__ == "__main__":
    run(transactions, refunds, disputes, webhooks)
