//! What askers ask for: every kind of command on few accounts, sensible and not, repeats and
//! abuses of ids and keys among them.

use std::rc::Rc;

use ledger_core::{AccountChange, Action, Body, Change, Command, Limits, Move, Transfer};
use primitives::{
    AMOUNT_MINOR_MAX, AccountId, Amount, ChangeId, Currency, RequestKey, System, Timestamp,
    TransferId,
};
use uuid::Uuid;

use crate::world::Dice;

/// How many of the things made lately may be asked about.
const LATELY_MAX: usize = 24;
/// How many commands may be asked again.
const PAST_MAX: usize = 200;

/// The number an id of this simulation is made of.
pub(crate) fn number(id: Uuid) -> usize {
    usize::try_from(id.as_u64_pair().1).unwrap_or(usize::MAX)
}

fn id(kind: u64, number: u64) -> Uuid {
    Uuid::from_u64_pair(kind, number)
}

/// What a counter makes unmistakable.
fn bytes(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Who lives here, and what was asked for lately.
#[derive(Debug)]
pub(crate) struct Town {
    wallets: Vec<AccountId>,
    n_wallets: usize,
    /// Ids, keys and digests count from here.
    n_made: u64,
    n_accounts: u64,
    holds: Vec<(TransferId, Option<Timestamp>)>,
    transfers: Vec<TransferId>,
    /// Holds that were asked about before anybody asked for them.
    ahead: Vec<TransferId>,
    past: Vec<Rc<Command>>,
    /// How often something is asked that was asked before, per mille.
    again: usize,
}

impl Town {
    pub(crate) fn new(n_wallets: usize, again: usize) -> Self {
        Self {
            wallets: Vec::new(),
            n_wallets,
            n_made: 0,
            n_accounts: 0,
            holds: Vec::new(),
            transfers: Vec::new(),
            ahead: Vec::new(),
            past: Vec::new(),
            again,
        }
    }

    /// What somebody asks for next.
    pub(crate) fn command(&mut self, dice: &mut Dice, now: Timestamp) -> Rc<Command> {
        let past = self.past_one(dice).filter(|_| dice.per_mille(self.again));
        let command = match past {
            Some(past) if dice.below(2) == 0 => return past,
            Some(past) => self.disguised(&past, dice, now),
            None => Command { deadline_at: deadline(dice, now), body: self.body(dice, now) },
        };
        let command = Rc::new(command);
        remember(&mut self.past, PAST_MAX, command.clone(), dice);
        command
    }

    fn past_one(&self, dice: &mut Dice) -> Option<Rc<Command>> {
        self.past.get(dice.below(self.past.len())).cloned()
    }

    fn make(&mut self) -> u64 {
        self.n_made += 1;
        self.n_made
    }

    /// A past command again, with something else in it: a new id under the same key, as the edge
    /// does when a request is repeated, or what nobody should do.
    fn disguised(&mut self, past: &Command, dice: &mut Dice, now: Timestamp) -> Command {
        let mut command = Command { deadline_at: deadline(dice, now), ..past.clone() };
        match &mut command.body {
            Body::Post { transfers, .. } => {
                let n = dice.below(transfers.len());
                let chosen = dice.below(6);
                let all = chosen < 2;
                for (_, transfer) in
                    transfers.iter_mut().enumerate().filter(|(i, _)| all || *i == n)
                {
                    match chosen {
                        0..4 => transfer.id = TransferId::from_uuid(id(2, self.make())),
                        4 => transfer.request_digest = bytes(self.make()),
                        _ => transfer.request_key = Some(RequestKey(bytes(self.make()))),
                    }
                }
            }
            Body::ChangeAccount(it) => it.account_id = self.wallet(dice),
            Body::OpenAccount { currency, .. } => {
                *currency = if *currency == Currency::NGN { Currency::USD } else { Currency::NGN };
            }
        }
        command
    }

    fn body(&mut self, dice: &mut Dice, now: Timestamp) -> Body {
        if self.wallets.len() < self.n_wallets || dice.per_mille(8) {
            return self.open(dice);
        }
        match dice.below(100) {
            0..5 => self.change(dice),
            5..11 => self.several(dice, now, true),
            11..16 => self.several(dice, now, false),
            _ => Body::Post { transfers: vec![self.transfer(dice, now, None)], linked: false },
        }
    }

    fn open(&mut self, dice: &mut Dice) -> Body {
        self.n_accounts += 1;
        let account_id = AccountId::from_uuid(id(1, self.n_accounts));
        remember(&mut self.wallets, self.n_wallets, account_id, dice);
        Body::OpenAccount { account_id, currency: self.currency_of(account_id) }
    }

    fn change(&mut self, dice: &mut Dice) -> Body {
        let change = match dice.below(10) {
            0..2 => Change::Freeze,
            2..6 => Change::Unfreeze,
            6 => Change::Close,
            7 => Change::SetLimits(Limits::WALLET),
            _ => Change::SetLimits(Limits {
                least_minor: dice.between(-5, 60).max(0),
                greatest_minor: dice.between(0, 4_000),
            }),
        };
        // A new account has nothing on it, and may be closed.
        let newest = || AccountId::from_uuid(id(1, self.n_accounts));
        let account_id = if change == Change::Close { newest() } else { self.anybody(dice) };
        let id = ChangeId::from_uuid(id(3, self.make()));
        Body::ChangeAccount(AccountChange { id, account_id, change })
    }

    fn several(&mut self, dice: &mut Dice, now: Timestamp, linked: bool) -> Body {
        let n = if dice.per_mille(4) { 100 } else { 1 + dice.below(7) };
        let mut transfers: Vec<Transfer> = Vec::with_capacity(n);
        for _ in 0..n {
            let before = transfers.last().map(|it| (it.id, it.action));
            let transfer = self.transfer(dice, now, before);
            transfers.push(transfer);
        }
        if dice.per_mille(20) {
            let again = transfers.get(dice.below(n)).cloned();
            transfers.extend(again);
            transfers.truncate(100);
        }
        Body::Post { transfers, linked }
    }

    /// One transfer; in a group, often one about the member before.
    fn transfer(
        &mut self,
        dice: &mut Dice,
        now: Timestamp,
        before: Option<(TransferId, Action)>,
    ) -> Transfer {
        let action = self.action(dice, now, before);
        let ahead = matches!(action, Action::Hold { .. }).then(|| self.ahead.pop()).flatten();
        let id = ahead.unwrap_or_else(|| self.unknown());
        match action {
            Action::Hold { expires_at, .. } => {
                remember(&mut self.holds, LATELY_MAX, (id, expires_at), dice);
            }
            Action::Wallet(_) | Action::Deposit(_) | Action::Internal(_) => {
                remember(&mut self.transfers, LATELY_MAX, id, dice);
            }
            Action::Capture { .. } | Action::Release { .. } | Action::Expire { .. } => {
                // Captures can be moved back; the others are asked for in vain.
                if dice.below(3) == 0 {
                    remember(&mut self.transfers, LATELY_MAX, id, dice);
                }
            }
            Action::Reverse { .. } => {}
        }
        let key = (dice.below(2) == 0).then(|| RequestKey(bytes(self.make())));
        Transfer {
            id,
            action,
            note: String::new(),
            reference: String::new(),
            request_key: key,
            request_digest: bytes(self.make()),
            made_by_key_id: None,
        }
    }

    fn action(
        &mut self,
        dice: &mut Dice,
        now: Timestamp,
        before: Option<(TransferId, Action)>,
    ) -> Action {
        let amount = amount(dice);
        let part = (dice.below(2) == 0)
            .then(|| Amount::try_new(1 + dice.next() % 60))
            .and_then(Result::ok);
        let (hold_before, transfer_before) = match before.filter(|_| dice.below(3) == 0) {
            Some((id, Action::Hold { .. })) => (Some(id), None),
            Some((id, _)) => (None, Some(id)),
            None => (None, None),
        };
        if dice.per_mille(30) {
            let ahead = self.unknown();
            self.ahead.push(ahead);
            remember(&mut self.holds, LATELY_MAX, (ahead, None), dice);
        }
        let lately = dice.pick(&self.holds);
        let hold_id =
            hold_before.or_else(|| lately.map(|it| it.0)).unwrap_or_else(|| self.unknown());
        let transfer_id = transfer_before
            .or_else(|| dice.pick(&self.transfers))
            .unwrap_or_else(|| self.unknown());
        let transfer_id = if dice.per_mille(30) { hold_id } else { transfer_id };
        let chosen = if hold_before.is_some() { 70 + dice.below(16) } else { dice.below(100) };
        match chosen {
            0 => {
                // Not between wallets, which only other kinds may.
                let of = self.among_wallets(dice, amount);
                let debit_account_id = AccountId::system(System::Suspense, of.currency);
                Action::Wallet(Move { debit_account_id, ..of })
            }
            1..38 => Action::Wallet(self.among_wallets(dice, amount)),
            38..54 => {
                let to = self.wallet(dice);
                let currency = self.currency_of(to);
                let debit_account_id = AccountId::system(System::PaystackClearing, currency);
                Action::Deposit(Move { debit_account_id, credit_account_id: to, amount, currency })
            }
            54..58 => {
                let of = self.among_wallets(dice, amount);
                let suspense = AccountId::system(System::Suspense, of.currency);
                Action::Internal(match dice.below(3) {
                    0 => Move { debit_account_id: suspense, ..of },
                    1 => Move { credit_account_id: suspense, ..of },
                    _ => of,
                })
            }
            58..70 => Action::Hold {
                of: self.among_wallets(dice, amount),
                expires_at: (dice.below(2) == 0).then(|| after(now, dice.between(-2_000, 150_000))),
            },
            70..80 => Action::Capture { hold_id, amount: part },
            80..84 => Action::Release { hold_id },
            84..89 => {
                // What expires is often due, or not there yet.
                let due = self.holds.iter().find(|it| it.1.is_some_and(|it| it <= now));
                let chosen = match dice.below(4) {
                    0..2 => due.map(|it| it.0),
                    2 => self.ahead.last().copied(),
                    _ => None,
                };
                Action::Expire { hold_id: chosen.unwrap_or(hold_id) }
            }
            _ => Action::Reverse { transfer_id, amount: part },
        }
    }

    fn among_wallets(&self, dice: &mut Dice, amount: Amount) -> Move {
        let debit_account_id = self.wallet(dice);
        let currency = self.currency_of(debit_account_id);
        let mut credit_account_id = self.wallet(dice);
        for _ in 0..4 {
            // Mostly another account of the same currency.
            if self.currency_of(credit_account_id) == currency
                && credit_account_id != debit_account_id
            {
                break;
            }
            credit_account_id = self.wallet(dice);
        }
        Move { debit_account_id, credit_account_id, amount, currency }
    }

    /// Mostly a wallet that exists.
    fn wallet(&self, dice: &mut Dice) -> AccountId {
        match dice.below(200) {
            0 => AccountId::NOBODY,
            1 => AccountId::from_uuid(id(1, self.n_accounts + 7)),
            _ => dice.pick(&self.wallets).unwrap_or(AccountId::NOBODY),
        }
    }

    /// Mostly a wallet, seldom one of the ledger's own accounts.
    fn anybody(&self, dice: &mut Dice) -> AccountId {
        let own = dice.per_mille(40);
        if own { AccountId::system(System::Suspense, Currency::NGN) } else { self.wallet(dice) }
    }

    fn unknown(&mut self) -> TransferId {
        TransferId::from_uuid(id(2, self.make()))
    }

    /// Each account is asked to be opened in one currency.
    fn currency_of(&self, account_id: AccountId) -> Currency {
        if number(account_id.uuid()).is_multiple_of(5) { Currency::USD } else { Currency::NGN }
    }
}

/// Keeps `one` among at most `max`, instead of any when there are as many.
fn remember<T>(many: &mut Vec<T>, max: usize, one: T, dice: &mut Dice) {
    if many.len() < max {
        many.push(one);
    } else if let Some(place) = many.get_mut(dice.below(max)) {
        *place = one;
    }
}

fn after(now: Timestamp, us: i64) -> Timestamp {
    Timestamp::from_micros(now.micros() + us)
}

fn deadline(dice: &mut Dice, now: Timestamp) -> Option<Timestamp> {
    match dice.below(100) {
        0..2 => Some(after(now, -1)),
        2..40 => Some(after(now, dice.between(2_000, 200_000))),
        _ => None,
    }
}

fn amount(dice: &mut Dice) -> Amount {
    let minor = match dice.below(1_000) {
        0 => AMOUNT_MINOR_MAX - dice.next() % 100,
        1..100 => 1 + dice.next() % 2_000,
        _ => 1 + dice.next() % 150,
    };
    Amount::try_new(minor).expect("it is between 1 and the largest")
}
