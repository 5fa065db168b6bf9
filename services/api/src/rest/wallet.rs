//! `GET /wallet/balance`: what the wallet holds, as committed, or held at a past moment.

use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use primitives::Timestamp;

use crate::ask::Ledger;
use crate::permissions::Permission;
use crate::rest::Tag;
use crate::rest::door::Door;
use crate::rest::page::{self, Written, parameter};
use crate::rest::problem::{AUTHENTICATED, Code, Problem, Refused, refusals};
use crate::rest::security::Credentials;
use crate::rest::values::Moment;

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
    /// The moment that was asked about; absent for the present.
    #[oai(skip_serializing_if_is_none)]
    at: Option<Moment>,
}

impl Example for Balance {
    fn example() -> Self {
        Self {
            balance: 500_000,
            available: 500_000,
            currency: "NGN".to_owned(),
            wallet_number: "4539578763622".to_owned(),
            at: None,
        }
    }
}

parameter! {
    /// A past moment.
    At "at" MetaSchema::new_with_format("string", "date-time")
}

refusals! {
    /// Reading a balance.
    BalanceRefusals: AUTHENTICATED, &[Code::InvalidField, Code::MissingPermission];
}

#[OpenApi(tag = "Tag::Wallet")]
impl Wallets {
    /// Read the balance
    ///
    /// Shows what was committed at this moment. With `at` it shows what had been decided by then, that
    /// very microsecond included; before the wallet was opened that is nothing. A moment of the last
    /// few seconds may still gain what is being committed. Needs the permission `read`.
    #[oai(path = "/wallet/balance", method = "get", operation_id = "get_balance")]
    async fn balance(
        &self,
        who: Credentials<'_>,
        /// A past moment (RFC 3339); the present if it is left out.
        at: Query<Written<At>>,
    ) -> Result<Json<Balance>, Refused<BalanceRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.may(Permission::Read)?;
        let at = at.read(page::moment)?;
        if at.is_some_and(|it| it > Timestamp::now()) {
            return Err(Problem::invalid_field("at", "must not be in the future").into());
        }
        let balance = self.ledger.balance(caller.wallet.account, at).await?;
        // An account that the ledger has not opened yet is found with nothing in it.
        Ok(Json(Balance {
            balance: balance.balance_minor,
            available: balance.available_minor,
            currency: caller.wallet.currency.to_string(),
            wallet_number: caller.wallet.number.to_string(),
            at: at.map(Moment),
        }))
    }
}
