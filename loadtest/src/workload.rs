//! Who pays whom, by seed, as the very commands that the api sends when it is busy: many callers'
//! transfers in one, which have nothing to do with each other.

use bytes::Bytes;
use primitives::{AccountId, Currency, KeyId, System, Timestamp, TransferId};
use prost::Message as _;
use proto_events::convert::WireId as _;
use proto_events::ledger::v1 as wire;
use proto_events::ledger::v1::command::Body;
use proto_events::subjects::ledger as subjects;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// What is in every wallet before it is measured: nobody runs dry.
const FUNDS_MINOR: u64 = 1_000_000_000;
const AMOUNT_MINOR_MAX: u64 = 100;
/// Transfers in one command: as many as the api gathers.
pub(crate) const TOGETHER: u32 = 100;

/// A wallet, and the API key that acts for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wallet {
    pub(crate) account: AccountId,
    pub(crate) key: KeyId,
}

impl Wallet {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self { account: AccountId::generate(), key: KeyId::generate() }
    }
}

/// A command and where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) subject: &'static str,
    pub(crate) payload: Bytes,
}

fn sent(subject: &'static str, deadline: Timestamp, body: Body) -> Sent {
    let command = wire::Command { deadline_at_us: deadline.micros(), body: Some(body) };
    Sent { subject, payload: command.encode_to_vec().into() }
}

/// Opens a wallet.
pub(crate) fn open(wallet: Wallet, deadline: Timestamp) -> Sent {
    let (account_id, currency) = (wallet.account.to_bytes(), Currency::NGN.to_string());
    let body = Body::OpenAccount(wire::OpenAccount { account_id, currency });
    sent(subjects::OPEN_ACCOUNT, deadline, body)
}

/// Puts money into a wallet.
pub(crate) fn fund(wallet: Wallet, deadline: Timestamp, rng: &mut StdRng) -> Sent {
    let transfer = wire::PostTransfer {
        kind: wire::TransferKind::Deposit.into(),
        debit_account_id: AccountId::system(System::PaystackClearing, Currency::NGN).to_bytes(),
        amount_minor: FUNDS_MINOR,
        reference: "bench".to_owned(),
        made_by_key_id: Bytes::new(),
        ..transfer(wallet, wallet.account, rng)
    };
    sent(subjects::POST_DEPOSIT, deadline, Body::PostTransfer(transfer))
}

/// With everything a request over HTTP would bring: an id, a request key, a digest, an API key.
fn transfer(from: Wallet, to: AccountId, rng: &mut StdRng) -> wire::PostTransfer {
    let mut random = [0; 64];
    rng.fill_bytes(&mut random);
    let mut random = Bytes::copy_from_slice(&random);
    let request_key = random.split_to(32);
    wire::PostTransfer {
        transfer_id: TransferId::generate().to_bytes(),
        kind: wire::TransferKind::Wallet.into(),
        debit_account_id: from.account.to_bytes(),
        credit_account_id: to.to_bytes(),
        amount_minor: rng.random_range(1..=AMOUNT_MINOR_MAX),
        currency: Currency::NGN.to_string(),
        note: String::new(),
        reference: String::new(),
        request_key,
        request_digest: random,
        made_by_key_id: from.key.to_bytes(),
        of_transfer_id: Bytes::new(),
        expires_at_us: 0,
    }
}

/// How payers and payees are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    /// Any two, all alike.
    Uniform,
    /// The first wallet pays or is paid in every transfer.
    Hot,
    /// Each wallet once: the first pays the second, the third the fourth.
    Pairs,
}

/// Commands without end, of [`TOGETHER`] transfers each.
pub(crate) struct Transfers<'a> {
    wallets: &'a [Wallet],
    draw: Draw,
    deadline: Timestamp,
    rng: StdRng,
    n_drawn: usize,
}

impl<'a> Transfers<'a> {
    /// Between these wallets, of which there are two at least.
    pub(crate) fn new(wallets: &'a [Wallet], draw: Draw, deadline: Timestamp, seed: u64) -> Self {
        Self { wallets, draw, deadline, rng: StdRng::seed_from_u64(seed), n_drawn: 0 }
    }

    /// Two different places among the wallets.
    fn pair(&mut self) -> (usize, usize) {
        let n = self.n_drawn;
        self.n_drawn = n.wrapping_add(1);
        let len = self.wallets.len();
        match self.draw {
            Draw::Uniform => {
                let payer = self.rng.random_range(0..len);
                let payee = self.rng.random_range(0..len.saturating_sub(1));
                // Everybody but the payer.
                (payer, if payee < payer { payee } else { payee.saturating_add(1) })
            }
            Draw::Hot => {
                let other = self.rng.random_range(1..len);
                if n.is_multiple_of(2) { (0, other) } else { (other, 0) }
            }
            Draw::Pairs => {
                let payer = n.wrapping_mul(2).checked_rem(len.saturating_sub(1)).unwrap_or(0);
                (payer, payer.saturating_add(1))
            }
        }
    }
}

impl Iterator for Transfers<'_> {
    type Item = Sent;

    fn next(&mut self) -> Option<Sent> {
        let transfers = (0..TOGETHER).map(|_| {
            let (payer, payee) = self.pair();
            let (payer, payee) = (*self.wallets.get(payer)?, self.wallets.get(payee)?.account);
            Some(transfer(payer, payee, &mut self.rng))
        });
        let together =
            wire::PostTransfers { transfers: transfers.collect::<Option<_>>()?, linked: false };
        Some(sent(subjects::POST_TRANSFERS, self.deadline, Body::PostTransfers(together)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(draw: Draw, n_wallets: usize, n: usize) -> Vec<(usize, usize)> {
        let wallets: Vec<Wallet> = (0..n_wallets).map(|_| Wallet::generate()).collect();
        let mut transfers = Transfers::new(&wallets, draw, Timestamp::from_seconds(1), 7);
        (0..n).map(|_| transfers.pair()).collect()
    }

    #[test]
    fn nobody_pays_themselves_and_everybody_pays() {
        let pairs = drawn(Draw::Uniform, 5, 500);
        assert!(pairs.iter().all(|(payer, payee)| payer != payee && *payer < 5 && *payee < 5));
        for n in 0..5 {
            assert!(pairs.iter().any(|(payer, _)| *payer == n), "{n} never pays");
            assert!(pairs.iter().any(|(_, payee)| *payee == n), "{n} is never paid");
        }
    }

    #[test]
    fn the_hot_wallet_is_in_every_transfer() {
        let pairs = drawn(Draw::Hot, 5, 100);
        assert!(pairs.iter().all(|(payer, payee)| (*payer == 0) != (*payee == 0)));
    }

    #[test]
    fn pairs_touch_every_wallet_once() {
        let mut touched: Vec<usize> =
            drawn(Draw::Pairs, 10, 5).into_iter().flat_map(|(a, b)| [a, b]).collect();
        touched.sort_unstable();
        assert_eq!(touched, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_transfer_is_whole() {
        let wallets = [Wallet::generate(), Wallet::generate()];
        let deadline = Timestamp::from_seconds(9);
        let sent = Transfers::new(&wallets, Draw::Uniform, deadline, 7).next().unwrap();
        let command = wire::Command::decode(sent.payload).unwrap();
        assert_eq!(command.deadline_at_us, deadline.micros());
        let Some(Body::PostTransfers(all)) = command.body else {
            unreachable!("these are transfers")
        };
        assert_eq!((all.transfers.len(), all.linked), (100, false));
        let it = &all.transfers[0];
        assert_eq!((it.request_key.len(), it.request_digest.len()), (32, 32));
        assert_eq!((it.transfer_id.len(), it.made_by_key_id.len()), (16, 16));
        assert!((1..=AMOUNT_MINOR_MAX).contains(&it.amount_minor));
    }
}
