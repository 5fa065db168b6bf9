// Money moves between wallets at a given rate, whatever the platform makes of it; afterwards the sum must be what it was.
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { balance, bearer, below, expect, fund, people, post, setting } from './platform.js';

const WALLETS = setting('WALLETS', 50);
const RATE = setting('RATE', 100);
const AMOUNT_MAX = 1000;
const FUNDS_MIN = 5000000;

const pending = new Counter('transfers_pending');
const refused = new Counter('transfers_refused');
const lost = new Counter('money_lost_or_invented');

export const options = {
  setupTimeout: '10m',
  teardownTimeout: '5m',
  scenarios: {
    transfers: {
      // Open loop: arrivals do not wait for answers, so slowness shows as latency and not as fewer requests.
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: __ENV.DURATION || '30s',
      preAllocatedVUs: Math.min(RATE, 200),
      maxVUs: 1000,
    },
  },
  thresholds: {
    checks: ['rate>0.999'],
    'http_req_duration{name:transfer}': ['p(95)<250', 'p(99)<1000'],
    dropped_iterations: ['count==0'],
    transfers_pending: ['count==0'],
    money_lost_or_invented: ['count==0'],
  },
};

export function setup() {
  if (WALLETS < 2) exec.test.abort('WALLETS must be at least 2: money has to go somewhere');
  const wallets = people(WALLETS);
  for (const person of wallets) {
    if (balance(person) < FUNDS_MIN) fund(person, 10 * FUNDS_MIN);
  }
  return { wallets, total: sum(wallets), run: `${Date.now()}-${Math.random()}` };
}

export default function transfer({ wallets, run }) {
  const place = below(WALLETS);
  const from = wallets[place];
  const to = wallets[(place + 1 + below(WALLETS - 1)) % WALLETS];
  const amount = 1 + below(AMOUNT_MAX);
  const answer = post('transfer', '/wallet/transfer', { recipient_wallet_number: to.wallet, amount }, {
    ...bearer(from.token),
    'Idempotency-Key': `${run}-${exec.scenario.iterationInTest}`,
  });
  pending.add(answer.status === 202 ? 1 : 0);
  if (answer.status >= 400) refused.add(1, { code: answer.json('code') });
  expect(answer, { 'a transfer succeeds': (it) => it.status === 200 && it.json('status') === 'success' });
}

/** Whatever was answered, nothing may be missing and nothing may have appeared. */
export function teardown({ wallets, total }) {
  lost.add(Math.abs(sum(wallets) - total));
}

const sum = (wallets) => wallets.reduce((total, person) => total + balance(person), 0);
