// Services read balances with API keys at a given rate: the path that must cost no write and no look-up of the key.
import { below, expect, fund, get, makeKey, people, setting } from './platform.js';

const WALLETS = setting('WALLETS', 50);
const RATE = setting('RATE', 500);

export const options = {
  setupTimeout: '10m',
  scenarios: {
    balance: {
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
    'http_req_duration{name:balance}': ['p(95)<100', 'p(99)<500'],
    dropped_iterations: ['count==0'],
  },
};

export function setup() {
  const wallets = people(WALLETS);
  fund(wallets[0], 500000);
  return { keys: wallets.map((person) => makeKey(person, ['read'])) };
}

export default function read({ keys }) {
  expect(get('balance', '/wallet/balance', { 'x-api-key': keys[below(keys.length)] }), {
    'a balance is read': (it) => it.status === 200 && Number.isInteger(it.json('balance')),
  });
}
