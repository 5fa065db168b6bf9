// What every script does before it measures: sign people in through the sandbox, and give them money through its checkout.
import http from 'k6/http';
import { check, fail, sleep } from 'k6';

/** The public origin, as people reach it. */
export const BASE_URL = (__ENV.BASE_URL || 'http://127.0.0.1:8000').replace(/\/$/, '');

/** How often a setup step is repeated when it is asked to wait. */
const PATIENCE = 60;

/** A whole number from the environment. */
export function setting(name, otherwise) {
  const value = __ENV[name] === undefined ? otherwise : Number(__ENV[name]);
  if (!Number.isInteger(value) || value < 1) fail(`${name} must be a whole number above 0`);
  return value;
}

/** Headers of a person. */
export const bearer = (token) => ({ Authorization: `Bearer ${token}` });

/** Sends JSON; `name` groups the request in the report. */
export function post(name, path, body, headers) {
  return http.post(`${BASE_URL}${path}`, JSON.stringify(body), {
    headers: { 'content-type': 'application/json', ...headers },
    tags: { name },
  });
}

/** Reads; `name` groups the request in the report. */
export function get(name, path, headers) {
  return http.get(`${BASE_URL}${path}`, { headers, tags: { name } });
}

/** A setup step: repeats while the platform says "later", and gives up loudly otherwise. */
function insist(what, status, ask) {
  let answer = ask();
  for (let n = 0; n < PATIENCE && (answer.status === 429 || answer.status === 503); n += 1) {
    sleep(Number(answer.headers['Retry-After'] || 1));
    answer = ask();
  }
  if (answer.status !== status) fail(`${what}: ${answer.status} ${answer.body}`);
  return answer;
}

/** Signs an invented person in, as a browser would; the first time makes the wallet. */
export function signIn(email) {
  const answer = insist(`sign in ${email}`, 200, () =>
    http.get(`${BASE_URL}/auth/google?login_hint=${encodeURIComponent(email)}`, {
      jar: new http.CookieJar(),
      redirects: 10,
      tags: { name: 'setup' },
    }));
  const token = answer.json('access_token');
  const me = insist('who am I', 200, () => get('setup', '/auth/me', bearer(token)));
  return { email, token, wallet: me.json('wallet_number') };
}

/** Pays `amount` kobo in at the sandbox's checkout, and waits until the ledger has credited it. */
export function fund(person, amount) {
  const started = insist('start a deposit', 200, () =>
    post('setup', '/wallet/deposit', { amount }, bearer(person.token)));
  const paid = http.post(started.json('authorization_url'), { outcome: 'success' }, {
    redirects: 0,
    tags: { name: 'setup' },
  });
  if (paid.status >= 400) fail(`pay at the checkout: ${paid.status} ${paid.body}`);
  const path = `/wallet/deposit/${started.json('reference')}/status`;
  for (let n = 0; n < PATIENCE; n += 1) {
    const status = insist('look at the deposit', 200, () => get('setup', path, bearer(person.token)));
    if (status.json('status') === 'success') return;
    sleep(0.5);
  }
  fail(`the deposit of ${person.email} was not credited in time`);
}

/** What is in a wallet. */
export function balance(person) {
  const answer = insist('read a balance', 200, () => get('setup', '/wallet/balance', bearer(person.token)));
  return answer.json('balance');
}

/** A key of that person, good for an hour; the fixed name lets a later run end it first. */
export function makeKey(person, permissions) {
  const listed = insist('list keys', 200, () => get('setup', '/keys/list', bearer(person.token)));
  for (const key of listed.json('keys')) {
    if (key.name === 'load' && key.status === 'active') {
      insist('revoke a key', 200, () => post('setup', `/keys/${key.id}/revoke`, {}, bearer(person.token)));
    }
  }
  const made = insist('make a key', 200, () =>
    post('setup', '/keys/create', { name: 'load', permissions, expiry: '1H' }, bearer(person.token)));
  return made.json('api_key');
}

/** `count` people with the same names in every run, so that runs use the same wallets again. */
export function people(count) {
  return Array.from({ length: count }, (_, n) => signIn(`load-${n}@example.test`));
}

/** A random whole number from 0, below `bound`. */
export const below = (bound) => Math.floor(Math.random() * bound);

/** Says what must hold of an answer; each line is counted in the report's `checks`. */
export const expect = (answer, checks) => check(answer, checks);
