//! `/wallet/deposit`: money in, through the provider's checkout; and where its webhook is documented.

use std::time::Duration;

use poem_openapi::param::{Header, Path};
use poem_openapi::payload::Json;
use poem_openapi::types::{Any, Example};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use primitives::{Amount, DepositId, Timestamp};
use proto_events::convert::{self, WireId as _};
use proto_events::payments::v1 as wire;
use sqlx::PgPool;
use url::{Host, Url};

use crate::ask::{self, Failure, Payments};
use crate::claims::Claims;
use crate::permissions::Permission;
use crate::rest::Tag;
use crate::rest::body::{Body, Fields, Request};
use crate::rest::caller::Caller;
use crate::rest::door::Door;
use crate::rest::idempotency::{self, IdempotencyKey, request_digest};
use crate::rest::problem::{
    AUTHENTICATED, COMMANDS, Code, Problem, Refused, WITH_BODY, from_deposit_refusal, refusals,
};
use crate::rest::security::Credentials;
use crate::rest::values::{Maybe, Minor, Moment};
use crate::store::users;

/// Longest address a browser is sent to.
const CALLBACK_URL_BYTES_MAX: usize = 2048;
/// What the provider is told of a person whose e-mail nobody vouches for; nobody reads it (RFC 2606).
const NO_EMAIL: &str = "no-email@example.com";

/// Deposits.
pub(crate) struct Deposits {
    pub(crate) door: Door,
    pub(crate) people: PgPool,
    pub(crate) claims: Claims,
    pub(crate) payments: Payments,
    /// Longest wait for the provider's checkout.
    pub(crate) wait: Duration,
}

/// What to deposit.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct DepositRequest {
    /// How much, in minor units.
    amount: Minor,
    /// Where the browser goes after paying. An `https` address; `http` only to this machine itself.
    #[oai(validator(max_length = 2048))]
    callback_url: Option<String>,
}

impl Example for DepositRequest {
    fn example() -> Self {
        Self {
            amount: Minor(example_amount()),
            callback_url: Some("https://shop.example.com/paid".to_owned()),
        }
    }
}

impl Request for DepositRequest {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let amount = fields.amount("amount");
        let callback_url = fields.optional_text("callback_url", callback_url);
        Some(Self { amount: Minor(amount?), callback_url: callback_url? })
    }
}

/// An address a browser may be sent to with a reference in it: not in the clear over a network.
fn callback_url(text: String) -> Result<String, &'static str> {
    const EXPECTED: &str = "must be an https address of at most 2048 characters";
    if text.len() > CALLBACK_URL_BYTES_MAX || text.chars().any(|it| it.is_control() || it == ' ') {
        return Err(EXPECTED);
    }
    let url = Url::parse(&text).map_err(|_| EXPECTED)?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(it)) => it.is_loopback(),
        Some(Host::Ipv6(it)) => it.is_loopback(),
        None => return Err(EXPECTED),
    };
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    match url.scheme() {
        "https" if !has_credentials => Ok(text),
        "http" if is_loopback && !has_credentials => Ok(text),
        _ => Err(EXPECTED),
    }
}

/// A checkout to send the person to.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Checkout {
    /// Names the deposit, here and at the provider.
    reference: String,
    /// Where the person pays.
    authorization_url: String,
    /// The provider's code for its own pop-up.
    access_code: String,
}

impl Example for Checkout {
    fn example() -> Self {
        Self {
            reference: example_reference(),
            authorization_url: "https://checkout.paystack.com/0peioxfhpn".to_owned(),
            access_code: "0peioxfhpn".to_owned(),
        }
    }
}

/// The answer to a new deposit.
#[derive(Debug, ApiResponse)]
pub(crate) enum Started {
    /// The checkout is ready.
    #[oai(status = 200)]
    Checkout(
        Json<Checkout>,
        /// `true` if an earlier copy of this request made it.
        #[oai(header = "Idempotency-Replayed")]
        Option<bool>,
    ),
}

/// Where a deposit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum DepositStatus {
    /// Not paid yet, as far as we know.
    Pending,
    /// Paid and credited.
    Success,
    /// The provider says that it will not be paid.
    Failed,
    /// Nobody paid in time.
    Abandoned,
    /// Something does not agree; a person looks at it.
    Review,
}

/// One deposit.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Deposit {
    /// Its reference.
    reference: String,
    /// Where it stands.
    status: DepositStatus,
    /// What was to be paid, in minor units.
    amount: Minor,
    /// ISO 4217.
    currency: String,
    /// When it was started.
    created_at: Moment,
    /// When it was paid; `null` until then.
    paid_at: Maybe<Moment>,
}

impl Example for Deposit {
    fn example() -> Self {
        Self {
            reference: example_reference(),
            status: DepositStatus::Success,
            amount: Minor(example_amount()),
            currency: "NGN".to_owned(),
            created_at: Moment(Timestamp::from_seconds(1_768_468_464)),
            paid_at: Maybe(Some(Moment(Timestamp::from_seconds(1_768_468_502)))),
        }
    }
}

fn example_reference() -> String {
    "dep-0192f0c1e6b87c3a9d2e4f5061728394".to_owned()
}

/// ₦5,000.00.
fn example_amount() -> Amount {
    Amount::try_new(500_000).unwrap_or_else(|_| unreachable!("a constant"))
}

refusals! {
    /// Starting a deposit.
    DepositRefusals: AUTHENTICATED, WITH_BODY, COMMANDS, &[
        Code::InvalidAmount,
        Code::MissingPermission,
        Code::CurrencyMismatch,
        Code::LimitExceeded,
        Code::ProviderUnavailable,
    ] => late Code::ProviderUnavailable;
    /// Looking at a deposit.
    DepositStatusRefusals: AUTHENTICATED, &[Code::MissingPermission, Code::DepositNotFound];
    /// A webhook.
    WebhookRefusals: &[
        Code::InvalidSignature,
        Code::BodyTooLarge,
        Code::InternalError,
        Code::ServiceUnavailable,
    ];
}

#[OpenApi(tag = "Tag::Deposits")]
impl Deposits {
    /// Start a deposit
    ///
    /// Answers with a checkout where the person pays. The wallet is credited once, when the provider
    /// says that it was paid. Needs the permission `deposit`.
    #[oai(path = "/wallet/deposit", method = "post", operation_id = "start_deposit")]
    async fn start(
        &self,
        who: Credentials<'_>,
        /// Makes repeating the request safe, for ever: 1–255 visible ASCII characters of your choice.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: IdempotencyKey,
        body: Body<DepositRequest>,
    ) -> Result<Started, Refused<DepositRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.may(Permission::Deposit)?;
        let asked = body.read()?;
        let now = Timestamp::now();
        let command = self.command(&caller, &idempotency_key, asked, now).await?;
        let started = self.payments.start(&command, self.wait).await.map_err(|it| match it {
            Failure::Unavailable => Problem::service_unavailable(),
            // What is awaited is the provider's answer; the deposit is stored and will be there.
            Failure::Unknown => Problem::provider_unavailable().late(),
        })?;
        Ok(checkout(started)?)
    }

    /// Look at a deposit
    ///
    /// Only looks: asking never credits anything. Needs the permission `read`.
    #[oai(
        path = "/wallet/deposit/:reference/status",
        method = "get",
        operation_id = "get_deposit_status"
    )]
    async fn status(
        &self,
        who: Credentials<'_>,
        /// The deposit's reference.
        #[oai(example = "example_reference")]
        reference: Path<String>,
    ) -> Result<Json<Deposit>, Refused<DepositStatusRefusals>> {
        let caller = self.door.caller(&who).await?;
        caller.may(Permission::Read)?;
        if !is_reference(&reference.0) {
            return Err(Problem::deposit_not_found().into());
        }
        let found = self.payments.deposit(caller.wallet.account, reference.0).await?;
        if !found.found {
            return Err(Problem::deposit_not_found().into());
        }
        Ok(Json(deposit(found)?))
    }
}

impl Deposits {
    async fn command(
        &self,
        caller: &Caller,
        key: &IdempotencyKey,
        asked: DepositRequest,
        now: Timestamp,
    ) -> Result<wire::StartDeposit, Problem> {
        let wallet = caller.wallet;
        let request_key = key.request_key(wallet.account)?;
        let amount = asked.amount.0;
        let digest = request_digest(
            "deposit",
            &[
                Some(&amount.to_string()),
                Some(wallet.currency.as_str()),
                asked.callback_url.as_deref(),
            ],
        );
        idempotency::claim(&self.claims, request_key, digest, true).await?;
        let mut conn = self.people.acquire().await.map_err(ask::broken)?;
        let person = users::user(&mut conn, caller.user).await.map_err(ask::broken)?;
        let email = person.and_then(|it| it.email).unwrap_or_else(|| NO_EMAIL.to_owned());
        Ok(wire::StartDeposit {
            deposit_id: DepositId::generate().to_bytes(),
            account_id: wallet.account.to_bytes(),
            email,
            amount_minor: amount.minor(),
            currency: wallet.currency.to_string(),
            callback_url: asked.callback_url.unwrap_or_default(),
            request_key: request_key.map(|it| it.0.to_vec().into()).unwrap_or_default(),
            request_digest: digest.to_vec().into(),
            deadline_at_us: now.plus(self.wait).micros(),
        })
    }
}

/// As the contract shapes references; anything else was never one.
fn is_reference(text: &str) -> bool {
    let is_sane = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    (16..=50).contains(&text.len()) && text.bytes().all(is_sane)
}

fn checkout(started: wire::DepositStarted) -> Result<Started, Problem> {
    let refusal = wire::DepositRefusal::try_from(started.refusal).map_err(ask::unreadable)?;
    let is_replayed = started.replayed;
    if refusal != wire::DepositRefusal::Unspecified {
        return Err(from_deposit_refusal(refusal).replayed(is_replayed));
    }
    let checkout = Checkout {
        reference: started.reference,
        authorization_url: started.authorization_url,
        access_code: started.access_code,
    };
    Ok(Started::Checkout(Json(checkout), is_replayed.then_some(true)))
}

fn deposit(found: wire::Deposit) -> Result<Deposit, Problem> {
    let status = match wire::DepositStatus::try_from(found.status).map_err(ask::unreadable)? {
        wire::DepositStatus::Pending => DepositStatus::Pending,
        wire::DepositStatus::Success => DepositStatus::Success,
        wire::DepositStatus::Failed => DepositStatus::Failed,
        wire::DepositStatus::Abandoned => DepositStatus::Abandoned,
        wire::DepositStatus::Review => DepositStatus::Review,
        wire::DepositStatus::Unspecified => {
            return Err(ask::unreadable(convert::Malformed {
                field: "status",
                expected: "a status",
            }));
        }
    };
    let amount = convert::amount("amount_minor", found.amount_minor).map_err(ask::unreadable)?;
    Ok(Deposit {
        reference: found.reference,
        status,
        amount: Minor(amount),
        currency: found.currency,
        created_at: Moment(Timestamp::from_micros(found.created_at_us)),
        paid_at: Maybe(convert::moment(found.paid_at_us).map(Moment)),
    })
}

/// Where the provider's webhooks are documented. The ingress routes them to the payments service.
pub(crate) struct Webhooks;

/// An event as Paystack sends it.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct PaystackEvent {
    /// What happened, such as `charge.success`.
    event: String,
    /// The transaction it happened to.
    data: Any<serde_json::Value>,
}

impl Example for PaystackEvent {
    fn example() -> Self {
        Self {
            event: "charge.success".to_owned(),
            data: Any(serde_json::json!({
                "reference": "dep-0192f0c1e6b87c3a9d2e4f5061728394",
                "amount": 500_000,
                "currency": "NGN",
                "status": "success",
            })),
        }
    }
}

impl Request for PaystackEvent {
    fn read(_fields: &mut Fields<'_>) -> Option<Self> {
        unreachable!("webhooks are documented here and read by the payments service")
    }
}

/// What Paystack is told.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct Received {
    /// The event is stored.
    status: bool,
}

impl Example for Received {
    fn example() -> Self {
        Self { status: true }
    }
}

#[OpenApi(tag = "Tag::Deposits")]
impl Webhooks {
    /// Receive a Paystack event
    ///
    /// For Paystack only. The event is stored before it is answered; a repeated one changes nothing.
    /// Bodies of up to 1 MiB are taken.
    #[oai(
        path = "/wallet/paystack/webhook",
        method = "post",
        operation_id = "receive_paystack_event"
    )]
    async fn receive(
        &self,
        /// HMAC-SHA512 of the body's bytes with the API secret key, in hexadecimal.
        #[oai(name = "x-paystack-signature")]
        _signature: Header<Option<String>>,
        _body: Body<PaystackEvent>,
    ) -> Result<Json<Received>, Refused<WebhookRefusals>> {
        // It came past the ingress to the wrong service. Paystack sends it again.
        Err(Problem::service_unavailable().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_https_or_stays_on_this_machine() {
        for good in [
            "https://shop.example.com/paid?order=7",
            "http://localhost:3000/",
            "http://127.0.0.1/x",
            "http://[::1]:8080/x",
        ] {
            assert_eq!(callback_url(good.to_owned()), Ok(good.to_owned()));
        }
        let long = format!("https://shop.example.com/{}", "a".repeat(2048));
        for wrong in [
            "",
            "shop.example.com",
            "/paid",
            "http://shop.example.com/",
            "http://localhost.example.com/",
            "ftp://shop.example.com/",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://",
            "https://user:password@shop.example.com/",
            "https://shop.example.com/\n",
            "https://shop.example.com/a b",
            &long,
        ] {
            assert!(callback_url(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reference_is_what_the_provider_takes_too() {
        assert!(is_reference("dep-0192f0c1e6b87c3a9d2e4f5061728394"));
        for wrong in ["", "short", "DEP-0192F0C1E6B87C3A", "dep_0192f0c1e6b87c3a", &"a".repeat(51)]
        {
            assert!(!is_reference(wrong), "{wrong}");
        }
    }
}
