//! Every subject and stream, by name.
//!
//! `cmd.` and `evt.` are captured by streams; `rpc.` never is: a stream that captured a request's
//! subject would answer it with its own acknowledgement before the service could.

/// Commands to the ledger. The `0` is the shard.
pub mod ledger {
    /// [`crate::ledger::v1::Command`] with `open_account`.
    pub const OPEN_ACCOUNT: &str = "cmd.ledger.v1.0.open_account";
    /// [`crate::ledger::v1::Command`] with `post_transfer` of kind `WALLET`; operators may send it, the
    /// api asks for many at a time.
    pub const POST_TRANSFER: &str = "cmd.ledger.v1.0.post_transfer";
    /// [`crate::ledger::v1::Command`] with `post_transfer` of kind `DEPOSIT`; only payments may send it.
    pub const POST_DEPOSIT: &str = "cmd.ledger.v1.0.post_deposit";
    /// [`crate::ledger::v1::Command`] with `post_transfers`, all of kind `WALLET`; the api may send it.
    pub const POST_TRANSFERS: &str = "cmd.ledger.v1.0.post_transfers";
    /// [`crate::ledger::v1::Command`] with `post_transfers` of any kinds but `EXPIRY`; only payments
    /// and operators may send it.
    pub const POST_ANY: &str = "cmd.ledger.v1.0.post_any";
    /// [`crate::ledger::v1::Command`] with `post_transfer` of kind `EXPIRY`; only the ledger itself
    /// may send it.
    pub const EXPIRE_HOLD: &str = "cmd.ledger.v1.0.expire_hold";
    /// [`crate::ledger::v1::Command`] with `change_account`; operators may send it.
    pub const CHANGE_ACCOUNT: &str = "cmd.ledger.v1.0.change_account";
    /// [`crate::ledger::v1::GetBalances`] → [`crate::ledger::v1::Balances`].
    pub const GET_BALANCES: &str = "rpc.ledger.v1.get_balances";
    /// [`crate::ledger::v1::GetTransfer`] → [`crate::ledger::v1::Transfer`].
    pub const GET_TRANSFER: &str = "rpc.ledger.v1.get_transfer";
    /// [`crate::ledger::v1::ListMovements`] → [`crate::ledger::v1::Movements`].
    pub const LIST_MOVEMENTS: &str = "rpc.ledger.v1.list_movements";
}

/// The payments service.
pub mod payments {
    /// [`crate::payments::v1::StartDeposit`] → [`crate::payments::v1::DepositStarted`].
    pub const START_DEPOSIT: &str = "cmd.payments.v1.0.start_deposit";
    /// [`crate::payments::v1::GetDeposit`] → [`crate::payments::v1::Deposit`].
    pub const GET_DEPOSIT: &str = "rpc.payments.v1.get_deposit";
    /// [`crate::payments::v1::DepositCredited`].
    pub const DEPOSIT_CREDITED: &str = "evt.payments.v1.deposit_credited";
    /// [`crate::payments::v1::DepositParked`].
    pub const DEPOSIT_PARKED: &str = "evt.payments.v1.deposit_parked";
}

/// The keys service.
pub mod keys {
    /// [`crate::keys::v1::Command`] with `create_key`.
    pub const CREATE_KEY: &str = "cmd.keys.v1.0.create_key";
    /// [`crate::keys::v1::Command`] with `roll_over_key`.
    pub const ROLL_OVER_KEY: &str = "cmd.keys.v1.0.roll_over_key";
    /// [`crate::keys::v1::Command`] with `revoke_key`.
    pub const REVOKE_KEY: &str = "cmd.keys.v1.0.revoke_key";
    /// [`crate::keys::v1::VerifyKey`] → [`crate::keys::v1::Verified`].
    pub const VERIFY_KEY: &str = "rpc.keys.v1.verify_key";
    /// [`crate::keys::v1::ListKeys`] → [`crate::keys::v1::Keys`].
    pub const LIST_KEYS: &str = "rpc.keys.v1.list_keys";
    /// [`crate::keys::v1::KeyRevoked`].
    pub const KEY_REVOKED: &str = "evt.keys.v1.key_revoked";
}

/// A stream of the bus: its name and the one subject filter it captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// As JetStream knows it.
    pub name: &'static str,
    /// What it captures.
    pub subjects: &'static str,
    /// Commands are read by one service and purged once applied; events are kept for a while.
    pub kind: StreamKind,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Ordered work for one service; a full stream refuses instead of forgetting.
    Commands,
    /// What happened, for whoever follows.
    Events,
}

/// The ledger's commands.
pub const CMD_LEDGER: Stream =
    Stream { name: "CMD_LEDGER", subjects: "cmd.ledger.>", kind: StreamKind::Commands };
/// The payments service's commands.
pub const CMD_PAYMENTS: Stream =
    Stream { name: "CMD_PAYMENTS", subjects: "cmd.payments.>", kind: StreamKind::Commands };
/// The keys service's commands.
pub const CMD_KEYS: Stream =
    Stream { name: "CMD_KEYS", subjects: "cmd.keys.>", kind: StreamKind::Commands };
/// All events.
pub const EVT: Stream = Stream { name: "EVT", subjects: "evt.>", kind: StreamKind::Events };

/// Every stream there is.
pub const STREAMS: &[Stream] = &[CMD_LEDGER, CMD_PAYMENTS, CMD_KEYS, EVT];

/// Every request subject there is.
pub const REQUESTS: &[&str] = &[
    ledger::GET_BALANCES,
    ledger::GET_TRANSFER,
    ledger::LIST_MOVEMENTS,
    payments::GET_DEPOSIT,
    keys::VERIFY_KEY,
    keys::LIST_KEYS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_is_captured_by_a_stream() {
        for request in REQUESTS {
            assert!(request.starts_with("rpc."), "{request}");
            for stream in STREAMS {
                let captured = stream.subjects.trim_end_matches('>');
                assert!(!request.starts_with(captured), "{request} is captured by {}", stream.name);
            }
        }
    }
}
