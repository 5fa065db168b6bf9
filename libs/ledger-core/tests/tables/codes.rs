//! Numbers and codes that are stored and sent, for ever.

use ledger_core::{Rejection, TransferKind};

#[test]
fn every_rejection_has_its_number_and_code() {
    // Number, code, may the same succeed later, is it kept.
    let expected = [
        (Rejection::IdempotencyKeyReused, 1, "idempotency_key_reused", false, false),
        (Rejection::DeadlineExceeded, 2, "deadline_exceeded", true, true),
        (Rejection::SameAccount, 3, "same_account", false, true),
        (Rejection::DebitAccountNotFound, 4, "debit_account_not_found", true, true),
        (Rejection::CreditAccountNotFound, 5, "credit_account_not_found", true, true),
        (Rejection::AccountKindMismatch, 6, "account_kind_mismatch", false, true),
        (Rejection::CurrencyMismatch, 7, "currency_mismatch", false, true),
        (Rejection::DebitAccountFrozen, 8, "debit_account_frozen", true, true),
        (Rejection::CreditAccountFrozen, 9, "credit_account_frozen", true, true),
        (Rejection::InsufficientFunds, 10, "insufficient_funds", true, true),
        (Rejection::LimitExceeded, 11, "limit_exceeded", true, true),
        (Rejection::Malformed, 12, "malformed", false, false),
        (Rejection::DebitAccountClosed, 13, "debit_account_closed", false, true),
        (Rejection::CreditAccountClosed, 14, "credit_account_closed", false, true),
        (Rejection::HoldNotFound, 15, "hold_not_found", true, true),
        (Rejection::HoldClosed, 16, "hold_closed", false, true),
        (Rejection::HoldExpired, 17, "hold_expired", false, true),
        (Rejection::ExceedsHold, 18, "exceeds_hold", false, true),
        (Rejection::HoldNotDue, 19, "hold_not_due", true, false),
        (Rejection::TransferNotFound, 20, "transfer_not_found", true, true),
        (Rejection::NotReversible, 21, "not_reversible", false, true),
        (Rejection::ExceedsTransfer, 22, "exceeds_transfer", false, true),
        (Rejection::GroupRefused, 23, "group_refused", true, true),
        (Rejection::AccountNotFound, 24, "account_not_found", true, true),
        (Rejection::AccountNotEmpty, 25, "account_not_empty", true, true),
        (Rejection::AccountIsClosed, 26, "account_is_closed", false, true),
    ];
    for (rejection, number, code, is_transient, is_kept) in expected {
        assert_eq!(rejection.number(), number);
        assert_eq!(rejection.code(), code);
        assert_eq!(rejection.is_transient(), is_transient, "{code}");
        assert_eq!(rejection.is_kept(), is_kept, "{code}");
        assert_eq!(Rejection::from_number(number), Some(rejection));
        assert!(Rejection::ALL.contains(&rejection));
    }
    assert_eq!(expected.len(), Rejection::ALL.len());
    assert_eq!(Rejection::from_number(0), None);
    assert_eq!(Rejection::from_number(27), None);
    assert!(Rejection::ALL.is_sorted(), "order is precedence");
}

#[test]
fn every_kind_has_its_number() {
    use TransferKind::*;
    // Number, does it move money, can it be moved back.
    let expected = [
        (Wallet, 1, true, true),
        (Deposit, 2, true, true),
        (Internal, 3, true, true),
        (Hold, 4, false, false),
        (Capture, 5, true, true),
        (Release, 6, false, false),
        (Expiry, 7, false, false),
        (Reversal, 8, true, false),
    ];
    for (kind, number, moves_money, is_reversible) in expected {
        assert_eq!(kind.number(), number);
        assert_eq!(TransferKind::from_number(number), Some(kind));
        assert_eq!(kind.moves_money(), moves_money, "{kind:?}");
        assert_eq!(kind.is_reversible(), is_reversible, "{kind:?}");
    }
    assert_eq!(TransferKind::ALL.map(|it| (it, it.number())), expected.map(|it| (it.0, it.1)));
    assert_eq!((TransferKind::from_number(0), TransferKind::from_number(9)), (None, None));
}
