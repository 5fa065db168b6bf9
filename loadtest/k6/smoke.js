// One person walks the whole job once: sign in, pay in, make a key, send money, repeat it, read the history, lose the key.
import { sleep } from 'k6';
import { balance, bearer, expect, fund, get, makeKey, post, signIn } from './platform.js';

export const options = {
  scenarios: { walk: { executor: 'per-vu-iterations', vus: 1, iterations: 1, maxDuration: '2m' } },
  thresholds: { checks: ['rate==1.0'] },
};

const AMOUNT = 12345;

export default function walk() {
  const [ada, obi] = ['ada', 'obi'].map((name) => signIn(`smoke-${name}@example.test`));
  fund(ada, 1000000);
  const [adaHad, obiHad] = [balance(ada), balance(obi)];

  const key = makeKey(ada, ['transfer']);
  const send = { recipient_wallet_number: obi.wallet, amount: AMOUNT, note: 'smoke' };
  const headers = { 'x-api-key': key, 'Idempotency-Key': `smoke-${Date.now()}-${Math.random()}` };
  const sent = post('transfer', '/wallet/transfer', send, headers);
  expect(sent, {
    'a transfer succeeds': (it) => it.status === 200 && it.json('status') === 'success',
    'a transfer key learns no balance': (it) => it.json('balance') === undefined,
  });
  const again = post('transfer', '/wallet/transfer', send, headers);
  expect(again, {
    'a repeat is the same transfer': (it) => it.json('transaction_id') === sent.json('transaction_id'),
    'a repeat says so': (it) => it.headers['Idempotency-Replayed'] === 'true',
  });
  expect(post('transfer', '/wallet/transfer', { ...send, amount: 1 }, headers), {
    'another request under the same key is refused': (it) => it.status === 422 && it.json('code') === 'idempotency_key_reused',
  });
  expect(get('balance', '/wallet/balance', { 'x-api-key': key }), {
    'a transfer key reads no balance': (it) => it.status === 403 && it.json('code') === 'missing_permission',
  });
  expect([balance(ada), balance(obi)], {
    'money moved once': ([adaHas, obiHas]) => adaHas === adaHad - AMOUNT && obiHas === obiHad + AMOUNT,
  });
  expect(get('history', '/wallet/transactions?limit=1', bearer(obi.token)), {
    'the other side sees it': (it) =>
      it.json('transactions.0.type') === 'transfer_in' && it.json('transactions.0.amount') === AMOUNT,
  });

  const listed = get('keys', '/keys/list', bearer(ada.token)).json('keys').find((it) => key.startsWith(it.prefix));
  post('keys', `/keys/${listed.id}/revoke`, {}, bearer(ada.token));
  sleep(1);
  expect(post('transfer', '/wallet/transfer', send, { 'x-api-key': key }), {
    'a revoked key is refused within a second': (it) => it.status === 401 && it.json('code') === 'revoked_api_key',
  });
  expect(get('unknown', '/no/such/path', {}), {
    'an unknown path is a problem': (it) => it.status === 404 && it.json('code') === 'not_found',
  });
}
