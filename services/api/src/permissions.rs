//! What an API key may be allowed to do (contract, section 2).

use proto_events::keys::v1 as wire;

/// One thing a key may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Balance, history, one transaction, deposit status.
    Read,
    /// Starting a deposit.
    Deposit,
    /// Sending money.
    Transfer,
}

impl Permission {
    /// Every permission.
    pub const ALL: &'static [Self] = &[Self::Read, Self::Deposit, Self::Transfer];

    /// As callers write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Deposit => "deposit",
            Self::Transfer => "transfer",
        }
    }

    /// Reads what callers write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text)
    }

    /// As the keys service says it; `None` for a permission this release does not know.
    #[must_use]
    pub fn from_wire(number: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| i32::from(it.to_wire()) == number)
    }

    /// As the keys service hears it.
    #[must_use]
    pub const fn to_wire(self) -> wire::Permission {
        match self {
            Self::Read => wire::Permission::Read,
            Self::Deposit => wire::Permission::Deposit,
            Self::Transfer => wire::Permission::Transfer,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Deposit => 2,
            Self::Transfer => 4,
        }
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// Whether `permission` is in the set.
    #[must_use]
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// The set as the keys service says it. What this release does not know allows nothing.
    #[must_use]
    pub fn from_wire(numbers: &[i32]) -> Self {
        numbers.iter().filter_map(|it| Permission::from_wire(*it)).collect()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |set, it| set | it.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        for given in Permission::ALL {
            let set: Permissions = [*given].into_iter().collect();
            for asked in Permission::ALL {
                assert_eq!(set.has(*asked), given == asked);
            }
            assert_eq!(Permission::parse(given.as_str()), Some(*given));
            assert_eq!(Permission::from_wire(given.to_wire().into()), Some(*given));
        }
        assert_eq!(Permissions::from_wire(&[0, 4, 99]), Permissions::default());
        for wrong in ["", "Read", "read ", "admin"] {
            assert_eq!(Permission::parse(wrong), None);
        }
    }
}
