//! Saying no: the one error body, every code there is, and the one table from other services'
//! refusals to what a caller sees.
//!
//! A [`Problem`] is a value; it becomes HTTP only through [`chassis::http::Problem`], which adds the
//! request id. [`Refused`] is a problem that knows which codes its operation may answer, so that
//! the specification lists them operation by operation.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use poem::http::StatusCode;
use poem::http::header::{self, HeaderName, HeaderValue};
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};
use proto_events::keys::v1::Refusal;
use proto_events::ledger::v1::Rejection;
use proto_events::payments::v1::DepositRefusal;

/// How long a caller should wait before it asks again when a part of the platform is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What every problem's `content-type` is (RFC 9457).
const CONTENT_TYPE: &str = "application/problem+json";
/// Set on an answer that was decided by an earlier copy of the request.
pub(crate) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// One row a code: variant, constructor, status, code, title, what it means to the caller.
macro_rules! codes {
    ($($variant:ident $constructor:ident $status:ident $code:literal $title:literal $detail:literal;)*) => {
        /// Every stable error code of the REST surface (contract, section 6).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(
                #[doc = $detail]
                $variant,
            )*
        }

        impl Code {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As callers match on it, for ever.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The status it is sent with, unless [`Problem::late`] made it a 504.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),* }
            }

            /// A short name for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// What it means, when there is nothing more precise to say.
            #[must_use]
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$variant => $detail),* }
            }
        }

        impl Problem {
            $(
                #[doc = $detail]
                #[must_use]
                pub fn $constructor() -> Self {
                    Self::new(Code::$variant)
                }
            )*
        }
    };
}

codes! {
    MalformedRequest malformed_request BAD_REQUEST "malformed_request" "Malformed request"
        "The body is not the JSON object this operation asks for.";
    InvalidAmount invalid_amount BAD_REQUEST "invalid_amount" "Invalid amount"
        "An amount is a whole number of minor units, 1 to 9007199254740991, written in digits only.";
    InvalidField invalid_field_of BAD_REQUEST "invalid_field" "Invalid field"
        "A field of the request is missing or wrong; `errors` names it.";
    AmbiguousCredentials ambiguous_credentials BAD_REQUEST "ambiguous_credentials" "Ambiguous credentials"
        "Send either an access token or an API key, once, and never both.";
    InvalidState invalid_state BAD_REQUEST "invalid_state" "Invalid state"
        "This sign-in was not begun in this browser, is too old, or was finished before. Begin again.";
    MissingCredentials missing_credentials UNAUTHORIZED "missing_credentials" "Missing credentials"
        "Send an access token (Authorization: Bearer …) or an API key (x-api-key: …).";
    InvalidToken invalid_token UNAUTHORIZED "invalid_token" "Invalid token"
        "The token is not one of ours, or its session has ended.";
    ExpiredToken expired_token UNAUTHORIZED "expired_token" "Expired token"
        "The token has expired. Refresh it.";
    InvalidApiKey invalid_api_key UNAUTHORIZED "invalid_api_key" "Invalid API key"
        "There is no such API key.";
    ExpiredApiKey expired_api_key UNAUTHORIZED "expired_api_key" "Expired API key"
        "The API key has expired. Its person can roll it over.";
    RevokedApiKey revoked_api_key UNAUTHORIZED "revoked_api_key" "Revoked API key"
        "The API key has been revoked.";
    InvalidSignature invalid_signature UNAUTHORIZED "invalid_signature" "Invalid signature"
        "The signature is missing or wrong.";
    MissingPermission missing_permission_of FORBIDDEN "missing_permission" "Missing permission"
        "The API key does not have the permission this operation needs.";
    UserSessionRequired user_session_required FORBIDDEN "user_session_required" "User session required"
        "Only a signed-in person may do this; an API key may not.";
    NotFound not_found NOT_FOUND "not_found" "Not found"
        "There is nothing at this address.";
    WalletNotFound wallet_not_found NOT_FOUND "wallet_not_found" "Wallet not found"
        "No wallet has this number.";
    DepositNotFound deposit_not_found NOT_FOUND "deposit_not_found" "Deposit not found"
        "This wallet has no deposit with this reference.";
    TransactionNotFound transaction_not_found NOT_FOUND "transaction_not_found" "Transaction not found"
        "This wallet has no transaction with this id.";
    KeyNotFound key_not_found NOT_FOUND "key_not_found" "Key not found"
        "You have no API key with this id.";
    MethodNotAllowed method_not_allowed METHOD_NOT_ALLOWED "method_not_allowed" "Method not allowed"
        "This address does not take this method.";
    BodyTooLarge body_too_large PAYLOAD_TOO_LARGE "body_too_large" "Body too large"
        "The body is larger than 64 KiB.";
    UnsupportedMediaType unsupported_media_type UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "Unsupported media type"
        "Send the body as application/json.";
    KeyLimitReached key_limit_reached CONFLICT "key_limit_reached" "Key limit reached"
        "A person has at most 5 active API keys. Revoke one first.";
    KeyNotExpired key_not_expired CONFLICT "key_not_expired" "Key not expired"
        "Only a key that has expired can be rolled over.";
    KeyAlreadyRolledOver key_already_rolled_over CONFLICT "key_already_rolled_over" "Key already rolled over"
        "A key can be rolled over once.";
    KeyRevoked key_revoked CONFLICT "key_revoked" "Key revoked"
        "A revoked key cannot be rolled over.";
    InsufficientFunds insufficient_funds UNPROCESSABLE_ENTITY "insufficient_funds" "Insufficient funds"
        "The wallet does not hold this much.";
    SameWallet same_wallet UNPROCESSABLE_ENTITY "same_wallet" "Same wallet"
        "A wallet cannot send money to itself.";
    CurrencyMismatch currency_mismatch UNPROCESSABLE_ENTITY "currency_mismatch" "Currency mismatch"
        "The currencies differ.";
    WalletFrozen wallet_frozen UNPROCESSABLE_ENTITY "wallet_frozen" "Wallet frozen"
        "The wallet is frozen: no money leaves or enters it.";
    LimitExceeded limit_exceeded UNPROCESSABLE_ENTITY "limit_exceeded" "Limit exceeded"
        "The amount is more than may be moved.";
    GroupRefused group_refused UNPROCESSABLE_ENTITY "group_refused" "Group refused"
        "Another transfer of the atomic batch was refused, so this one was not made.";
    DeadlineExceeded deadline_exceeded UNPROCESSABLE_ENTITY "deadline_exceeded" "Deadline exceeded"
        "It could not be decided in time, so it was not done. Ask again with a new Idempotency-Key.";
    IdempotencyKeyReused idempotency_key_reused UNPROCESSABLE_ENTITY "idempotency_key_reused" "Idempotency key reused"
        "This Idempotency-Key belongs to an earlier, different request.";
    RateLimited rate_limited TOO_MANY_REQUESTS "rate_limited" "Rate limited"
        "Too many requests. Wait as long as Retry-After says.";
    InternalError internal_error INTERNAL_SERVER_ERROR "internal_error" "Internal error"
        "Something broke on our side. Quote the request id when you ask about it.";
    ProviderUnavailable provider_unavailable BAD_GATEWAY "provider_unavailable" "Provider unavailable"
        "The payment or sign-in provider could not be reached. Repeat the request later.";
    ServiceUnavailable service_unavailable SERVICE_UNAVAILABLE "service_unavailable" "Service unavailable"
        "A part of the platform cannot be reached. Repeat the request; with the same Idempotency-Key that is safe.";
}

/// A no, on its way to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    status: StatusCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    is_replayed: bool,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field, header or query parameter.
    pub field: Cow<'static, str>,
    /// What it must be, for people.
    pub message: Cow<'static, str>,
}

impl Problem {
    /// The problem of this code, in its general words.
    #[must_use]
    pub fn new(code: Code) -> Self {
        let retry_after = match code.status() {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER),
            _ => None,
        };
        Self {
            code,
            status: code.status(),
            detail: Cow::Borrowed(code.detail()),
            errors: Vec::new(),
            retry_after,
            is_replayed: false,
        }
    }

    /// One wrong field.
    #[must_use]
    pub fn invalid_field(
        field: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::invalid_fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// Every wrong field of a request at once.
    #[must_use]
    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::invalid_field_of() }
    }

    /// The API key lacks `permission`, such as `transfer`.
    #[must_use]
    pub fn missing_permission(permission: &str) -> Self {
        Self::missing_permission_of()
            .detail(format!("The API key does not have the permission `{permission}`."))
    }

    /// The same with more precise words. They are for people, and never carry what broke inside.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The same with the fields it is about.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// The same with the time after which to ask again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same as 504: whoever was asked has taken the request and not answered in time.
    #[must_use]
    pub fn late(mut self) -> Self {
        self.status = StatusCode::GATEWAY_TIMEOUT;
        self
    }

    /// The same with `Idempotency-Replayed: true`, if an earlier copy of the request decided it.
    #[must_use]
    pub fn replayed(mut self, is_replayed: bool) -> Self {
        self.is_replayed = is_replayed;
        self
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What it means, for people.
    #[must_use]
    pub fn into_detail(self) -> String {
        self.detail.into_owned()
    }

    /// The status it is sent with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Problem> for chassis::http::Problem {
    fn from(problem: Problem) -> Self {
        let mut http =
            Self::new(problem.status, problem.code.as_str(), problem.code.title(), problem.detail);
        for error in problem.errors {
            http = http.with_error(error.field, error.message);
        }
        http.retry_after = problem.retry_after;
        if problem.is_replayed {
            http = http.with_header(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        if matches!(problem.code, Code::InvalidToken | Code::ExpiredToken) {
            // RFC 6750, section 3.1, has this one name for both; our code tells them apart.
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            http = http.with_header(header::WWW_AUTHENTICATE, challenge);
        }
        http
    }
}

impl From<Problem> for poem::Error {
    fn from(problem: Problem) -> Self {
        chassis::http::Problem::from(problem).into()
    }
}

/// The ledger's no, as its caller sees it. No wildcard: a new rejection must be given a meaning.
#[must_use]
pub fn from_rejection(rejection: Rejection) -> Problem {
    match rejection {
        Rejection::IdempotencyKeyReused => Problem::idempotency_key_reused(),
        Rejection::DeadlineExceeded => Problem::deadline_exceeded(),
        Rejection::SameAccount => Problem::same_wallet(),
        // The caller's own account is opened at the first sign-in, so it is a moment away at most.
        Rejection::DebitAccountNotFound => {
            Problem::service_unavailable().detail("Your wallet is still being opened.")
        }
        // The kind mismatch is a wallet number that leads to one of the ledger's own accounts: there
        // is no such wallet. A closed one will never be one again.
        Rejection::CreditAccountNotFound
        | Rejection::AccountKindMismatch
        | Rejection::CreditAccountClosed => Problem::wallet_not_found(),
        Rejection::CurrencyMismatch => {
            Problem::currency_mismatch().detail("The recipient's wallet has another currency.")
        }
        Rejection::DebitAccountFrozen => Problem::wallet_frozen(),
        Rejection::DebitAccountClosed => {
            Problem::wallet_frozen().detail("The wallet is closed: no money will move any more.")
        }
        Rejection::CreditAccountFrozen => {
            Problem::wallet_frozen().detail("The recipient's wallet cannot receive money.")
        }
        Rejection::InsufficientFunds => Problem::insufficient_funds(),
        Rejection::LimitExceeded => Problem::limit_exceeded(),
        Rejection::GroupRefused => Problem::group_refused(),
        // We sent what the ledger cannot read, or it answered what we cannot, or said no to what we
        // never ask for: a bug in us.
        Rejection::Malformed
        | Rejection::Unspecified
        | Rejection::HoldNotFound
        | Rejection::HoldClosed
        | Rejection::HoldExpired
        | Rejection::ExceedsHold
        | Rejection::HoldNotDue
        | Rejection::TransferNotFound
        | Rejection::NotReversible
        | Rejection::ExceedsTransfer
        | Rejection::AccountNotFound
        | Rejection::AccountNotEmpty
        | Rejection::AccountIsClosed => Problem::internal_error(),
    }
}

/// The payments service's no, as its caller sees it.
#[must_use]
pub fn from_deposit_refusal(refusal: DepositRefusal) -> Problem {
    match refusal {
        DepositRefusal::IdempotencyKeyReused => Problem::idempotency_key_reused(),
        DepositRefusal::DeadlineExceeded => Problem::deadline_exceeded(),
        DepositRefusal::LimitExceeded => Problem::limit_exceeded()
            .detail("The amount is less or more than the payment provider takes in one deposit."),
        DepositRefusal::CurrencyMismatch => Problem::currency_mismatch()
            .detail("The payment provider does not take this wallet's currency."),
        DepositRefusal::ProviderUnavailable => Problem::provider_unavailable(),
        DepositRefusal::Malformed | DepositRefusal::Unspecified => Problem::internal_error(),
    }
}

/// The keys service's no, as its caller sees it.
#[must_use]
pub fn from_key_refusal(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::IdempotencyKeyReused => Problem::idempotency_key_reused(),
        Refusal::DeadlineExceeded => Problem::deadline_exceeded(),
        Refusal::KeyNotFound => Problem::key_not_found(),
        Refusal::KeyRevoked => Problem::key_revoked(),
        Refusal::KeyAlreadyRolledOver => Problem::key_already_rolled_over(),
        Refusal::KeyNotExpired => Problem::key_not_expired(),
        Refusal::KeyLimitReached => Problem::key_limit_reached(),
        Refusal::KeyCannotBeShown => Problem::service_unavailable().detail(
            "The key was made, but cannot be shown again. List your keys, revoke it, and make a new one.",
        ),
        Refusal::Malformed | Refusal::Unspecified => Problem::internal_error(),
    }
}

/// The codes one kind of operation may answer with, for the specification.
pub trait Refusals: Send + Sync + 'static {
    /// Groups of codes; several operations share the common ones.
    const CODES: &'static [&'static [Code]];
    /// What it says, as a 504, when what it asked for was taken and not answered in time.
    const LATE: Option<Code>;
}

/// Whoever must say who they are may be told these.
pub(crate) const AUTHENTICATED: &[Code] = &[
    Code::AmbiguousCredentials,
    Code::MissingCredentials,
    Code::InvalidToken,
    Code::ExpiredToken,
    Code::InvalidApiKey,
    Code::ExpiredApiKey,
    Code::RevokedApiKey,
    Code::RateLimited,
    Code::InternalError,
    Code::ServiceUnavailable,
];
/// Whoever sends a JSON body may be told these.
pub(crate) const WITH_BODY: &[Code] =
    &[Code::MalformedRequest, Code::InvalidField, Code::BodyTooLarge, Code::UnsupportedMediaType];
/// Whoever asks another service to do something may be told these.
pub(crate) const COMMANDS: &[Code] = &[Code::DeadlineExceeded, Code::IdempotencyKeyReused];

/// Declares the codes of one kind of operation.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $($group:expr),+ $(=> late $late:expr)?;)*) => { $(
        $(#[$doc])*
        pub(crate) struct $name;

        impl $crate::rest::problem::Refusals for $name {
            const CODES: &'static [&'static [$crate::rest::problem::Code]] = &[$($group),+];
            const LATE: Option<$crate::rest::problem::Code> = [$(Some($late),)? None][0];
        }
    )* };
}
pub(crate) use refusals;

/// A [`Problem`] answered by an operation whose codes are `R`. Made by `?`.
#[derive(Debug)]
pub struct Refused<R>(Problem, PhantomData<fn() -> R>);

impl<R> From<Problem> for Refused<R> {
    fn from(problem: Problem) -> Self {
        Self(problem, PhantomData)
    }
}

impl<R: Refusals> From<Refused<R>> for poem::Error {
    fn from(refused: Refused<R>) -> Self {
        refused.0.into()
    }
}

impl<R: Refusals> ApiResponse for Refused<R> {
    fn meta() -> MetaResponses {
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        let mut all: Vec<Code> = R::CODES.concat();
        all.sort_unstable();
        all.dedup();
        for code in all {
            by_status.entry(code.status().as_u16()).or_default().push(code);
        }
        if let Some(code) = R::LATE {
            by_status.insert(StatusCode::GATEWAY_TIMEOUT.as_u16(), vec![code]);
        }
        let responses = by_status.iter().map(|(status, codes)| document(*status, codes)).collect();
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

/// One status of the specification: the codes it may carry, and an example of the first.
fn document(status: u16, codes: &[Code]) -> MetaResponse {
    let names: Vec<serde_json::Value> = codes.iter().map(|it| it.as_str().into()).collect();
    let example = codes.first().map(|code| {
        serde_json::json!({
            "type": chassis::http::problem_type(code.as_str()),
            "title": code.title(),
            "status": status,
            "code": code.as_str(),
            "detail": code.detail(),
            "request_id": "0192f0c1e6b87c3a9d2e4f5061728394",
        })
    });
    let code = MetaSchema { ty: "string", enum_items: names, ..MetaSchema::ANY };
    let narrowed = MetaSchema {
        ty: "object",
        properties: vec![("code", MetaSchemaRef::Inline(Box::new(code)))],
        ..MetaSchema::ANY
    };
    let schema = MetaSchema {
        all_of: vec![ProblemBody::schema_ref(), MetaSchemaRef::Inline(Box::new(narrowed))],
        example,
        ..MetaSchema::ANY
    };
    let headers =
        if matches!(status, 429 | 502..=504) { vec![retry_after_header()] } else { vec![] };
    MetaResponse {
        description: meaning(status),
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: CONTENT_TYPE,
            schema: MetaSchemaRef::Inline(Box::new(schema)),
        }],
        headers,
    }
}

fn retry_after_header() -> MetaHeader {
    MetaHeader {
        name: "Retry-After".to_owned(),
        description: Some("Seconds to wait before asking again.".to_owned()),
        required: false,
        deprecated: false,
        schema: u32::schema_ref(),
    }
}

/// What a status means here, whatever the code.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read, or a field of it is wrong.",
        401 => "Whoever asks did not say who they are, or not credibly.",
        403 => "Whoever asks may not do this.",
        404 => "The caller has no such thing.",
        405 => "This address does not take this method.",
        409 => "The API key is not in a state that allows this.",
        413 => "The body is too large.",
        415 => "The body is of a kind that is not taken.",
        422 => "Understood and refused. Nothing was done.",
        429 => "Too many requests.",
        502 => "The provider could not be reached.",
        503 => "A part of the platform cannot be reached.",
        504 => {
            "What was asked was taken, and not answered in time. Repeat with the same Idempotency-Key."
        }
        _ => "Something broke on our side.",
    }
}

/// Every refusal: RFC 9457 problem details.
#[derive(Debug, Object)]
#[oai(rename = "Problem")]
struct ProblemBody {
    /// A URI that stands for the code.
    #[oai(rename = "type")]
    kind: String,
    /// A short name, the same for every problem of this code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code to match on.
    code: String,
    /// What happened, for people.
    detail: String,
    /// Names this request in our logs; also in `x-request-id`.
    request_id: String,
    /// The wrong fields, when fields are wrong.
    #[oai(skip_serializing_if_is_none)]
    errors: Option<Vec<ProblemField>>,
}

/// A wrong field.
#[derive(Debug, Object)]
struct ProblemField {
    /// The field, header or query parameter.
    field: String,
    /// What it must be.
    message: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_the_snake_case_names_of_the_contract() {
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|it| it.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len(), "two codes share a name");
        for code in Code::ALL {
            let snake: String = format!("{code:?}")
                .char_indices()
                .flat_map(|(i, c)| {
                    let bar = (i > 0 && c.is_ascii_uppercase()).then_some('_');
                    bar.into_iter().chain([c.to_ascii_lowercase()])
                })
                .collect();
            assert_eq!(code.as_str(), snake);
            assert_eq!(Problem::new(*code).status(), code.status());
        }
    }

    #[test]
    fn every_rejection_has_a_meaning() {
        let expected = [
            (Rejection::Unspecified, Code::InternalError),
            (Rejection::IdempotencyKeyReused, Code::IdempotencyKeyReused),
            (Rejection::DeadlineExceeded, Code::DeadlineExceeded),
            (Rejection::SameAccount, Code::SameWallet),
            (Rejection::DebitAccountNotFound, Code::ServiceUnavailable),
            (Rejection::CreditAccountNotFound, Code::WalletNotFound),
            (Rejection::AccountKindMismatch, Code::WalletNotFound),
            (Rejection::CurrencyMismatch, Code::CurrencyMismatch),
            (Rejection::DebitAccountFrozen, Code::WalletFrozen),
            (Rejection::CreditAccountFrozen, Code::WalletFrozen),
            (Rejection::InsufficientFunds, Code::InsufficientFunds),
            (Rejection::LimitExceeded, Code::LimitExceeded),
            (Rejection::Malformed, Code::InternalError),
            (Rejection::DebitAccountClosed, Code::WalletFrozen),
            (Rejection::CreditAccountClosed, Code::WalletNotFound),
            (Rejection::HoldNotFound, Code::InternalError),
            (Rejection::HoldClosed, Code::InternalError),
            (Rejection::HoldExpired, Code::InternalError),
            (Rejection::ExceedsHold, Code::InternalError),
            (Rejection::HoldNotDue, Code::InternalError),
            (Rejection::TransferNotFound, Code::InternalError),
            (Rejection::NotReversible, Code::InternalError),
            (Rejection::ExceedsTransfer, Code::InternalError),
            (Rejection::GroupRefused, Code::GroupRefused),
            (Rejection::AccountNotFound, Code::InternalError),
            (Rejection::AccountNotEmpty, Code::InternalError),
            (Rejection::AccountIsClosed, Code::InternalError),
        ];
        every(expected.map(|(it, _)| i32::from(it)), |n| Rejection::try_from(n).is_ok());
        for (rejection, code) in expected {
            assert_eq!(from_rejection(rejection).code(), code, "{rejection:?}");
        }
    }

    #[test]
    fn every_deposit_refusal_has_a_meaning() {
        let expected = [
            (DepositRefusal::Unspecified, Code::InternalError),
            (DepositRefusal::IdempotencyKeyReused, Code::IdempotencyKeyReused),
            (DepositRefusal::DeadlineExceeded, Code::DeadlineExceeded),
            (DepositRefusal::LimitExceeded, Code::LimitExceeded),
            (DepositRefusal::CurrencyMismatch, Code::CurrencyMismatch),
            (DepositRefusal::ProviderUnavailable, Code::ProviderUnavailable),
            (DepositRefusal::Malformed, Code::InternalError),
        ];
        every(expected.map(|(it, _)| i32::from(it)), |n| DepositRefusal::try_from(n).is_ok());
        for (refusal, code) in expected {
            assert_eq!(from_deposit_refusal(refusal).code(), code, "{refusal:?}");
        }
    }

    #[test]
    fn every_key_refusal_has_a_meaning() {
        let expected = [
            (Refusal::Unspecified, Code::InternalError),
            (Refusal::IdempotencyKeyReused, Code::IdempotencyKeyReused),
            (Refusal::DeadlineExceeded, Code::DeadlineExceeded),
            (Refusal::KeyNotFound, Code::KeyNotFound),
            (Refusal::KeyRevoked, Code::KeyRevoked),
            (Refusal::KeyAlreadyRolledOver, Code::KeyAlreadyRolledOver),
            (Refusal::KeyNotExpired, Code::KeyNotExpired),
            (Refusal::KeyLimitReached, Code::KeyLimitReached),
            (Refusal::Malformed, Code::InternalError),
            (Refusal::KeyCannotBeShown, Code::ServiceUnavailable),
        ];
        every(expected.map(|(it, _)| i32::from(it)), |n| Refusal::try_from(n).is_ok());
        for (refusal, code) in expected {
            assert_eq!(from_key_refusal(refusal).code(), code, "{refusal:?}");
        }
    }

    /// The table has each number the wire knows, so a new one fails here too.
    fn every<const N: usize>(listed: [i32; N], exists: impl Fn(i32) -> bool) {
        let known: Vec<i32> = (0..100).filter(|n| exists(*n)).collect();
        let mut listed = listed.to_vec();
        listed.sort_unstable();
        assert_eq!(listed, known);
    }
}
