//! One type per id, so that none can stand where another belongs.
//!
//! Most ids are UUIDv7 (sortable by time), printed with a prefix and 32 lower-case hex digits:
//! `txn_0192f0c1e6b87c3a9d2e4f5061728394`.

use std::fmt;

use uuid::Uuid;

use crate::Currency;

/// The text is no id of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the printed id begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id; later ones sort after it. Made at the edge, never in a rule.
            #[must_use]
            #[expect(clippy::disallowed_methods, reason = "this is the edge the lint points to")]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// An id that is already known, as Postgres or a message carries it.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// As Postgres keeps it.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// Reads what [`fmt::Display`] prints.
            ///
            /// # Errors
            /// [`IdError`] for another prefix, upper case, hyphens, or another length.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix($prefix).ok_or(IdError)?;
                let canonical = digits.len() == 32
                    && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if !canonical {
                    return Err(IdError);
                }
                Uuid::try_parse(digits).map(Self).map_err(|_| IdError)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }
    };
}

id!(
    /// A line in the ledger with two sides.
    AccountId,
    "acc_"
);
id!(
    /// Money moved between two accounts; callers of the REST API know it as a transaction.
    TransferId,
    "txn_"
);
id!(
    /// A person who signed in.
    UserId,
    "usr_"
);
id!(
    /// Money on its way in through a provider.
    DepositId,
    "dep_"
);
id!(
    /// Money on its way back to whoever paid it in: a refund or a dispute.
    ReturnId,
    "ret_"
);
id!(
    /// An API key.
    KeyId,
    "key_"
);
id!(
    /// One sign-in of a person, until logout or reuse of a spent refresh token ends it.
    SessionId,
    "ses_"
);
id!(
    /// A change of what an account may do, asked of the ledger by an operator or a service.
    ChangeId,
    "chg_"
);
id!(
    /// Something that happened, as announced on the bus.
    EventId,
    "evt_"
);

impl TransferId {
    /// The id of the one transfer that gives a hold back when its time is up: chosen by the hold's
    /// own id, so that whoever notices asks for the same. A UUIDv8.
    #[must_use]
    pub fn expiry_of(hold_id: Self) -> Self {
        let mut bytes = *hold_id.0.as_bytes();
        // Also when the hold's id is a UUIDv8 itself, its expiry has another one.
        bytes[15] = !bytes[15];
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The ledger's own accounts: one of each kind per currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// What Paystack has collected and owes us; it is debited when a wallet is credited.
    PaystackClearing,
    /// Money whose place is not known yet.
    Suspense,
}

impl AccountId {
    /// The account nobody has: names a recipient that does not exist, so that the ledger can
    /// refuse it and remember the refusal.
    pub const NOBODY: Self = Self(Uuid::nil());

    /// The well-known id of a system account: a UUIDv8 whose bytes spell kind and currency.
    #[must_use]
    pub fn system(kind: System, currency: Currency) -> Self {
        let kind = match kind {
            System::PaystackClearing => 1,
            System::Suspense => 2,
        };
        let mut bytes = [0; 16];
        bytes[0] = kind;
        for (to, from) in bytes[1..4].iter_mut().zip(currency.as_str().bytes()) {
            *to = from;
        }
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// What makes a request repeatable: a digest of whose wallet it is and the caller's
/// `Idempotency-Key`. The owner of what is asked for keeps it for ever beside the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub [u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_reads_and_nothing_else() {
        let id = TransferId::generate();
        assert_eq!(TransferId::parse(&id.to_string()), Ok(id));
        let hex = id.uuid().simple().to_string();
        for bad in [
            hex.clone(),
            format!("key_{hex}"),
            format!("txn_{}", hex.to_uppercase()),
            format!("txn_{}", id.uuid()),
            format!("txn_{hex}0"),
            "txn_".to_owned(),
        ] {
            assert_eq!(TransferId::parse(&bad), Err(IdError), "{bad}");
        }
    }

    #[test]
    fn an_expiry_has_one_id_and_never_that_of_its_hold() {
        let of = TransferId::expiry_of;
        let (a, b) = (TransferId::generate(), TransferId::generate());
        assert_eq!(of(a), of(a));
        assert!(of(a) != a && of(a) != of(b));
        assert!(of(of(a)) != of(a));
    }

    #[test]
    fn system_accounts_differ_by_kind_and_currency() {
        let of = AccountId::system;
        let all = [
            of(System::PaystackClearing, Currency::NGN),
            of(System::PaystackClearing, Currency::USD),
            of(System::Suspense, Currency::NGN),
            of(System::Suspense, Currency::USD),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
            assert_eq!(a.uuid().get_version_num(), 8);
        }
    }
}
