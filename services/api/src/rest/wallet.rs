//! `GET /wallet/balance`: what the wallet holds, as committed.

use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};

use crate::ask::Ledger;
use crate::permissions::Permission;
use crate::rest::Tag;
use crate::rest::door::Door;
use crate::rest::problem::{AUTHENTICATED, Code, Refused, refusals};
use crate::rest::security::Credentials;

/// The balance.
pub(crate) struct Wallets {
    pub(crate) door: Door,
    pub(crate) ledger: Ledger,
}

/// What a wallet holds.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Balance {
    /// What the wallet holds, in minor units.
    balance: u64,
    /// What may be spent: the balance less what is held back.
    available: u64,
    /// ISO 4217.
    currency: String,
    /// The wallet's number: 13 digits, the last a Luhn check digit.
    wallet_number: String,
}

impl Example for Balance {
    fn example() -> Self {
        Self {
            balance: 500_000,
            available: 500_000,
            currency: "NGN".to_owned(),
            wallet_number: "4539578763622".to_owned(),
        }
    }
}

refusals! {
    /// Reading a balance.
    BalanceRefusals: AUTHENTICATED, &[Code::MissingPermission];
}

#[OpenApi(tag = "Tag::Wallet")]
impl Wallets {
    /// Read the balance
    ///
    /// Shows what was committed at this moment. Needs the permission `read`.
    #[oai(path = "/wallet/balance", method = "get", operation_id = "get_balance")]
    async fn balance(
        &self,
        who: Credentials<'_>,
    ) -> Result<Json<Balance>, Refused<BalanceRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.may(Permission::Read)?;
        let balance = self.ledger.balance(caller.wallet.account).await?;
        // An account that the ledger has not opened yet is found with nothing in it.
        Ok(Json(Balance {
            balance: balance.balance_minor,
            available: balance.available_minor,
            currency: caller.wallet.currency.to_string(),
            wallet_number: caller.wallet.number.to_string(),
        }))
    }
}
