// Checks with @alexasomba/paystack-node, whose calls and types are made from Paystack's document.
//
// Checks are generators that say the name of each check before they begin it. The first that fails
// ends its generator, for what follows builds upon it. Each becomes one line of JSON.

import { deepEqual } from "node:assert/strict";
import { createPaystackClient } from "@alexasomba/paystack-node";

const { PAYSTACK_BASE_URL, PAYSTACK_SECRET_KEY, SANDBOX_CONTROL_URL } = process.env;
const EMAIL = "chi@example.com";
const AMOUNT = 500_000;
const WAIT_MS = 10_000;

// Without retries of its own: what fails is to be seen.
const paystack = createPaystackClient({
  secretKey: PAYSTACK_SECRET_KEY,
  baseUrl: PAYSTACK_BASE_URL,
  timeoutMs: WAIT_MS,
  retry: { retries: 0 },
});

async function* transactions() {
  yield "initialize";
  const made = data(await initialize("node-1"), "Authorization URL created");
  deepEqual(made.reference, "node-1");

  yield "initialize, reference used before";
  refusal(await initialize("node-1"), 400, "duplicate_reference");

  yield "verify, unpaid";
  const unpaid = data(await verify("node-1"), "Verification successful");
  deepEqual([unpaid.status, unpaid.paid_at], ["abandoned", null]);

  yield "verify, paid";
  await pay(made.authorization_url);
  const done = data(await verify("node-1"), "Verification successful");
  deepEqual([done.status, done.amount, done.currency], ["success", AMOUNT, "NGN"]);

  yield "verify, unknown reference";
  refusal(await verify("nobody-knows"), 400, "transaction_not_found");

  yield "verify, characters that a reference cannot have";
  refusal(await verify("a:b/c d"), 400, "invalid_character_in_reference");

  yield "list";
  const listed = await list({ perPage: 10, page: 1 });
  deepEqual(data(listed, "Transactions retrieved").map((it) => it.reference), ["node-1"]);
  deepEqual(listed.data.meta.total, 1);

  yield "list, by a cursor";
  data(await initialize("node-2"), "Authorization URL created");
  const first = await list({ use_cursor: true, perPage: 1 });
  deepEqual(data(first, "Transactions retrieved").map((it) => it.reference), ["node-2"]);
  const next = await list({ use_cursor: true, perPage: 1, next: first.data.meta.next });
  deepEqual(data(next, "Transactions retrieved").map((it) => it.reference), ["node-1"]);

  yield "fetch";
  const one = await paystack.GET("/transaction/{id}", { params: { path: { id: done.id } } });
  deepEqual(data(one, "Transaction retrieved").reference, "node-1");

  yield "timeline";
  const path = { id: done.id };
  const line = await paystack.GET("/transaction/timeline/{id}", { params: { path } });
  deepEqual(data(line, "Timeline retrieved").success, true);

  yield "totals";
  const sums = data(await paystack.GET("/transaction/totals"), "Transaction totals");
  deepEqual(sums.total_volume_by_currency, [{ currency: "NGN", amount: AMOUNT }]);
}

async function* refunds() {
  yield "refund";
  const transaction = await paid("node-refund");
  const body = { transaction: "node-refund", amount: 100_000, merchant_note: "Broken cup" };
  const answer = await paystack.POST("/refund", { body });
  const refund = data(answer, "Refund has been queued for processing");
  deepEqual([refund.amount, refund.transaction.id], [100_000, transaction.id]);

  yield "list of refunds";
  const listed = data(await paystack.GET("/refund"), "Refunds retrieved");
  deepEqual(listed.map((it) => [it.id, it.transaction]), [[refund.id, transaction.id]]);

  yield "fetch a refund";
  const one = await paystack.GET("/refund/{id}", { params: { path: { id: refund.id } } });
  deepEqual(data(one, "Refund retrieved").merchant_note, "Broken cup");

  yield "fetch a refund, unknown id";
  refusal(await paystack.GET("/refund/{id}", { params: { path: { id: 1 } } }), 404);
}

async function* disputes() {
  yield "list of disputes";
  const transaction = await paid("node-dispute");
  await control("disputes", { reference: "node-dispute" });
  const listed = data(await paystack.GET("/dispute"), "Disputes retrieved");
  deepEqual(listed.map((it) => it.transaction.id), [transaction.id]);
  const path = { id: listed[0].id };

  yield "fetch a dispute";
  const one = await paystack.GET("/dispute/{id}", { params: { path } });
  deepEqual(data(one, "Dispute retrieved").status, "awaiting-merchant-feedback");

  yield "dispute of a transaction";
  const its = { id: transaction.id };
  const of = await paystack.GET("/dispute/transaction/{id}", { params: { path: its } });
  deepEqual(data(of, "Dispute retrieved successfully").id, path.id);

  yield "update a dispute";
  const less = { refund_amount: 1_000 };
  const updated = await paystack.PUT("/dispute/{id}", { params: { path }, body: less });
  deepEqual(data(updated, "Dispute updated successfully")[0].refund_amount, 1_000);

  yield "update a dispute, more than was paid";
  const more = { refund_amount: AMOUNT + 1 };
  refusal(await paystack.PUT("/dispute/{id}", { params: { path }, body: more }), 400);

  yield "evidence";
  const facts = {
    customer_email: EMAIL,
    customer_name: "Chi Eze",
    customer_phone: "08012345678",
    service_details: "Ten cups",
  };
  const evidence = await paystack.POST("/dispute/{id}/evidence", { params: { path }, body: facts });
  deepEqual(data(evidence, "Evidence created").dispute, path.id);

  yield "upload";
  const query = { upload_filename: "cups.pdf" };
  const upload = data(
    await paystack.GET("/dispute/{id}/upload_url", { params: { path, query } }),
    "Upload url generated",
  );

  yield "resolve a dispute";
  const body = {
    resolution: "declined",
    message: "The cups arrived",
    refund_amount: 0,
    uploaded_filename: upload.fileName,
  };
  const resolved = await paystack.PUT("/dispute/{id}/resolve", { params: { path }, body });
  deepEqual(data(resolved, "Dispute successfully resolved").resolution, "declined");
}

const initialize = (reference) =>
  paystack.POST("/transaction/initialize", { body: { email: EMAIL, amount: AMOUNT, reference } });

const verify = (reference) =>
  paystack.GET("/transaction/verify/{reference}", { params: { path: { reference } } });

const list = (query) => paystack.GET("/transaction", { params: { query } });

async function paid(reference) {
  await pay(data(await initialize(reference), "Authorization URL created").authorization_url);
  return data(await verify(reference), "Verification successful");
}

/** The data of a success. */
function data(answer, message) {
  const { response, data: body, error } = answer;
  const found = [response.status, body?.status, (body ?? error)?.message];
  deepEqual(found, [200, true, message]);
  return body.data;
}

function refusal({ response, error }, status, code) {
  deepEqual([response.status, error.status, error.code], [status, false, code ?? error.code]);
}

/** Does at the checkout what a person does who pays. */
async function pay(url) {
  const body = new URLSearchParams({ outcome: "success" });
  const answer = await fetch(url, { method: "POST", body, signal: AbortSignal.timeout(WAIT_MS) });
  deepEqual(answer.status, 200);
}

/** Turns a knob of the sandbox. */
async function control(path, body) {
  const answer = await fetch(`${SANDBOX_CONTROL_URL}/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(WAIT_MS),
  });
  deepEqual(answer.ok, true, `${path}: ${answer.status} ${await answer.text()}`);
}

const say = (check, error) => console.log(JSON.stringify({ check, error }));

for (const group of [transactions, refunds, disputes]) {
  let begun = null;
  try {
    for await (const name of group()) {
      if (begun !== null) say(begun, null);
      begun = name;
    }
    say(begun, null);
  } catch (error) {
    const place = error.stack.split("\n").filter((line) => line.includes("checks.mjs"));
    say(begun ?? group.name, [error.message, ...place].join("\n"));
  }
}
