//! What is allowed: from a question and what stands, to what happens or the reason why not.
//!
//! Pure functions of values, shared by [`crate::Books`], which decides, and by
//! [`crate::audit::Replay`], which judges what was decided. The order of the checks is the order of
//! precedence of [`Rejection`].

use primitives::{AccountId, Amount, System, Timestamp, TransferId};

use crate::{
    Account, AccountKind, Action, Change, Hold, Limits, Move, Rejection, Reversible, Standing,
    Status, TransferKind,
};

/// The earlier transfer that one is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    /// None: it says itself what it moves.
    Itself,
    /// A hold, if there is one.
    Hold(Option<Hold>),
    /// A transfer to be moved back, if there is one.
    Transfer(Option<Reversible>),
}

impl Subject {
    fn hold(&self) -> Result<&Hold, Rejection> {
        match self {
            Self::Hold(Some(hold)) => Ok(hold),
            Self::Hold(None) | Self::Itself | Self::Transfer(_) => Err(Rejection::HoldNotFound),
        }
    }

    /// The transfer to be moved back, if it posted.
    fn reversible(&self) -> Result<&Reversible, Rejection> {
        match self {
            Self::Transfer(Some(it)) if it.of.is_some() => Ok(it),
            Self::Transfer(_) | Self::Itself | Self::Hold(_) => Err(Rejection::TransferNotFound),
        }
    }
}

/// What an allowed transfer does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effect {
    /// From where to where, and how much.
    pub(crate) of: Move,
    /// What is on the debited account after it.
    pub(crate) debit_after: Standing,
    /// What is on the credited account after it; none if nothing changes there.
    pub(crate) credit_after: Option<Standing>,
    /// What the subject is after it; the hold itself, if it makes one.
    pub(crate) subject: Subject,
}

/// What a transfer moves, as far as that can be known, whether or not it is allowed.
///
/// Nothing is known of what does not exist or of which nothing remains.
pub(crate) fn describe(action: &Action, subject: &Subject) -> Option<Move> {
    match (action, subject) {
        (Action::Capture { amount, .. }, Subject::Hold(Some(hold))) => {
            let remaining = hold.remaining()?;
            Some(Move { amount: amount.unwrap_or(remaining), ..hold.of })
        }
        (Action::Release { .. } | Action::Expire { .. }, Subject::Hold(Some(hold))) => {
            Some(Move { amount: hold.remaining()?, ..hold.of })
        }
        (Action::Reverse { amount, .. }, Subject::Transfer(Some(reversible))) => {
            let (remaining, of) = (reversible.remaining()?, reversible.of?);
            Some(Move {
                debit_account_id: of.credit_account_id,
                credit_account_id: of.debit_account_id,
                amount: amount.unwrap_or(remaining),
                currency: of.currency,
            })
        }
        _ => action.of().copied(),
    }
}

/// What a transfer moves, if what it is about lets it.
pub(crate) fn aim(
    action: &Action,
    subject: &Subject,
    decided_at: Timestamp,
) -> Result<Move, Rejection> {
    let of = describe(action, subject);
    match action {
        Action::Wallet(of) | Action::Deposit(of) | Action::Internal(of) => two(of),
        Action::Hold { of, expires_at } => {
            let of = two(of)?;
            if is_over(*expires_at, decided_at) { Err(Rejection::HoldExpired) } else { Ok(of) }
        }
        Action::Capture { .. } => {
            let (hold, of) = (subject.hold()?, of.ok_or(Rejection::HoldClosed)?);
            if is_over(hold.expires_at, decided_at) {
                Err(Rejection::HoldExpired)
            } else if of.amount.to_i64() > hold.remaining_minor {
                Err(Rejection::ExceedsHold)
            } else {
                Ok(of)
            }
        }
        Action::Release { .. } => subject.hold().and_then(|_| of.ok_or(Rejection::HoldClosed)),
        Action::Expire { .. } => {
            let (hold, of) = (subject.hold()?, of.ok_or(Rejection::HoldClosed)?);
            if is_over(hold.expires_at, decided_at) { Ok(of) } else { Err(Rejection::HoldNotDue) }
        }
        Action::Reverse { .. } => {
            let reversible = subject.reversible()?;
            if !reversible.kind.is_reversible() {
                return Err(Rejection::NotReversible);
            }
            let remaining = reversible.remaining();
            of.filter(|of| remaining.is_some_and(|it| of.amount <= it))
                .ok_or(Rejection::ExceedsTransfer)
        }
    }
}

/// A move between two accounts; none goes from an account to itself.
fn two(of: &Move) -> Result<Move, Rejection> {
    if of.debit_account_id == of.credit_account_id {
        return Err(Rejection::SameAccount);
    }
    Ok(*of)
}

fn is_over(expires_at: Option<Timestamp>, at: Timestamp) -> bool {
    expires_at.is_some_and(|it| it <= at)
}

/// What a transfer does that moves `of` between these accounts, if they let it.
pub(crate) fn settle(
    id: TransferId,
    action: &Action,
    of: Move,
    subject: &Subject,
    (debit, credit): (Option<&Account>, Option<&Account>),
) -> Result<Effect, Rejection> {
    let kind = action.kind();
    let debit = debit.ok_or(Rejection::DebitAccountNotFound)?;
    let credit = credit.ok_or(Rejection::CreditAccountNotFound)?;
    // What is given back was reserved under these rules, and stays where it is.
    let gives_back = matches!(kind, TransferKind::Release | TransferKind::Expiry);
    if !gives_back {
        may_meet(kind, &of, debit, credit)?;
    }
    let (debit_after, credit_after) = match kind {
        TransferKind::Wallet
        | TransferKind::Deposit
        | TransferKind::Internal
        | TransferKind::Reversal => (debit.debited(of.amount)?, Some(credit.credited(of.amount)?)),
        TransferKind::Capture => (debit.captured(of.amount)?, Some(credit.credited(of.amount)?)),
        TransferKind::Hold => (debit.held(of.amount)?, None),
        TransferKind::Release | TransferKind::Expiry => (debit.released(of.amount)?, None),
    };
    Ok(Effect { of, debit_after, credit_after, subject: used(id, action, of, subject) })
}

/// Whether money of this kind moves between these accounts at all.
fn may_meet(
    kind: TransferKind,
    of: &Move,
    debit: &Account,
    credit: &Account,
) -> Result<(), Rejection> {
    let debited = match kind {
        TransferKind::Wallet => Some(AccountKind::Wallet),
        TransferKind::Deposit => Some(AccountKind::System(System::PaystackClearing)),
        TransferKind::Internal
        | TransferKind::Hold
        | TransferKind::Capture
        | TransferKind::Release
        | TransferKind::Expiry
        | TransferKind::Reversal => None,
    };
    if debited.is_some_and(|it| (debit.kind, credit.kind) != (it, AccountKind::Wallet)) {
        return Err(Rejection::AccountKindMismatch);
    }
    if debit.currency != of.currency || credit.currency != of.currency {
        return Err(Rejection::CurrencyMismatch);
    }
    match (debit.status, credit.status) {
        (Status::Open, Status::Open) => Ok(()),
        (Status::Closed, _) => Err(Rejection::DebitAccountClosed),
        (_, Status::Closed) => Err(Rejection::CreditAccountClosed),
        (Status::Frozen, _) => Err(Rejection::DebitAccountFrozen),
        (Status::Open, Status::Frozen) => Err(Rejection::CreditAccountFrozen),
    }
}

/// What the subject is after a transfer that is allowed.
pub(crate) fn used(id: TransferId, action: &Action, of: Move, subject: &Subject) -> Subject {
    let amount_minor = of.amount.to_i64();
    match (action, subject) {
        (Action::Hold { expires_at, .. }, _) => Subject::Hold(Some(Hold {
            id,
            of,
            remaining_minor: amount_minor,
            expires_at: *expires_at,
        })),
        (_, Subject::Hold(Some(hold))) => {
            let remaining_minor = hold.remaining_minor.saturating_sub(amount_minor);
            Subject::Hold(Some(Hold { remaining_minor, ..*hold }))
        }
        (_, Subject::Transfer(Some(reversible))) => {
            let reversed_minor = reversible.reversed_minor.saturating_add(amount_minor);
            Subject::Transfer(Some(Reversible { reversed_minor, ..*reversible }))
        }
        (_, other) => *other,
    }
}

/// What stands on both sides after a transfer of this kind, by arithmetic alone.
///
/// The rules do not use it: it is the second opinion that is asserted after every write, and what
/// the audit compares with. None if it cannot be counted.
pub(crate) fn follows(
    kind: TransferKind,
    amount: Amount,
    debit: Standing,
    credit: Standing,
) -> Option<(Standing, Option<Standing>)> {
    let amount_minor = amount.to_i64();
    let less = |it: i64| it.checked_sub(amount_minor);
    let more = |it: i64| it.checked_add(amount_minor);
    let Standing { balance_minor, held_minor } = debit;
    let debit_after = match kind {
        TransferKind::Wallet
        | TransferKind::Deposit
        | TransferKind::Internal
        | TransferKind::Reversal => Standing { balance_minor: less(balance_minor)?, held_minor },
        TransferKind::Hold => Standing { balance_minor, held_minor: more(held_minor)? },
        TransferKind::Capture => {
            Standing { balance_minor: less(balance_minor)?, held_minor: less(held_minor)? }
        }
        TransferKind::Release | TransferKind::Expiry => {
            Standing { balance_minor, held_minor: less(held_minor)? }
        }
    };
    let credit_after = if kind.moves_money() {
        Some(Standing { balance_minor: more(credit.balance_minor)?, ..credit })
    } else {
        None
    };
    Some((debit_after, credit_after))
}

/// A wallet to be opened, if that is allowed; none if it is there already.
pub(crate) fn open(
    account: Account,
    there: Option<&Account>,
    late: bool,
) -> Result<Option<Account>, Rejection> {
    match there {
        // Asking for what is there is harmless, however late.
        Some(there) if (there.kind, there.currency) == (account.kind, account.currency) => Ok(None),
        _ if late => Err(Rejection::DeadlineExceeded),
        Some(there) if there.kind != account.kind => Err(Rejection::AccountKindMismatch),
        Some(_) => Err(Rejection::CurrencyMismatch),
        None if account.id == AccountId::NOBODY => Err(Rejection::AccountKindMismatch),
        None => Ok(Some(account)),
    }
}

/// Status and limits of an account after a change of it, if that is allowed.
pub(crate) fn change(
    account: Option<&Account>,
    change: Change,
) -> Result<(Status, Limits), Rejection> {
    let account = account.ok_or(Rejection::AccountNotFound)?;
    if change == Change::Close && account.kind != AccountKind::Wallet {
        return Err(Rejection::AccountKindMismatch);
    }
    if account.status == Status::Closed {
        return Err(Rejection::AccountIsClosed);
    }
    match change {
        Change::Freeze => Ok((Status::Frozen, account.limits)),
        Change::Unfreeze => Ok((Status::Open, account.limits)),
        Change::Close if account.standing != Standing::default() => Err(Rejection::AccountNotEmpty),
        Change::Close => Ok((Status::Closed, account.limits)),
        Change::SetLimits(limits)
            if limits.suit(account.kind) && limits.allow(account.standing) =>
        {
            Ok((account.status, limits))
        }
        Change::SetLimits(_) => Err(Rejection::LimitExceeded),
    }
}
